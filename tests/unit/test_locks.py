"""The locks that are committed, the program that makes them, and the one that unpacks collections."""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

import lock

ENV = Path(lock.__file__).parent


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


collections = load(ENV / "control" / "get_collections.py")


@pytest.mark.parametrize("target", lock.all_targets(ENV), ids=lambda target: target.name)
def test_the_committed_locks_fit_their_inputs(target: lock.Target) -> None:
    assert list(lock.check(target)) == []


def test_the_layers_of_the_chatglm2_stack_hold_what_their_roles_install() -> None:
    folder = ENV / "stacks" / "chatglm2"
    names = {p.stem: {x.name: x.version for x in lock.read_lock(p.read_text())} for p in folder.glob("*-linux-64.txt")}
    assert names["torch-cpu-linux-64"]["torch"] == "2.13.0+cpu"
    assert names["transformers-linux-64"]["transformers"] == "4.33.3"
    assert names["fastchat-linux-64"]["fschat"] == "0.2.36"
    assert names["fastchat-linux-64"]["pydantic"].startswith("1.")


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("a-1-py3-none-any.whl", True),
        ("a-1-py2.py3-none-any.whl", True),
        ("a-1-py2-none-any.whl", False),
        ("a-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", True),
        ("a-1-cp311-cp311-manylinux_2_28_x86_64.whl", True),
        ("a-1-cp311-cp311-manylinux_2_34_x86_64.whl", False),
        ("a-1-cp312-cp312-manylinux_2_17_x86_64.whl", False),
        ("a-1-cp311-cp311-manylinux_2_17_aarch64.whl", False),
        ("a-1-cp39-abi3-manylinux_2_17_x86_64.whl", True),
        ("a-1-cp312-abi3-manylinux_2_17_x86_64.whl", False),
        ("a-1-cp311-cp311-musllinux_1_2_x86_64.whl", False),
        ("a-1-cp311-cp311-win_amd64.whl", False),
        ("a-1-py3-none-manylinux_2_17_x86_64.whl", True),
        ("torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl", True),
    ],
)
def test_which_wheels_a_host_can_use(name: str, fits: bool) -> None:
    assert lock.wheel_fits(name, [11]) is fits


def test_an_arm_control_node_is_served_too() -> None:
    assert lock.wheel_fits("a-1-cp312-cp312-manylinux_2_17_aarch64.whl", [11, 12], ["x86_64", "aarch64"])
    assert not lock.wheel_fits("a-1-cp312-cp312-manylinux_2_17_aarch64.whl", [11, 12], ["x86_64"])


def test_uv_is_asked_to_look_where_pip_looks() -> None:
    listing = (
        ":env:.find-links='/w'\nglobal.find-links='/w /v'\nglobal.cert='x'\nglobal.extra-index-url='file:///e'\n"
        "global.index-url='https://index.example/simple'\n"
    )
    assert lock.pip_places(listing) == [
        *["--find-links", "/w", "--find-links", "/v", "--default-index", "https://index.example/simple"]
    ]


def target(folder: Path, *layers: lock.Layer) -> lock.Target:
    (folder / "stack.in").write_text("a==1\n")
    return lock.Target("t", folder, ("stack.in",), layers or (lock.Layer("r", "r.txt"),), python=11)


def package(name: str, version: str = "1") -> lock.Package:
    return lock.Package(name, version, "", ("0" * 64,))


def test_a_lock_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    entry = lock.Package("a", "1", "python_version < '3.12'", ("0" * 64, "1" * 64))
    [back] = lock.read_lock(lock.render(target(tmp_path), [entry]))
    assert (back.name, back.version, back.marker) == ("a", "1", "python_version < '3.12'")
    assert back.hashes == ("sha256:" + "0" * 64, "sha256:" + "1" * 64)


def test_layers_share_a_closure_without_overlap(tmp_path: Path) -> None:
    layers = (lock.Layer("x", "x.txt", ("a",)), lock.Layer("y", "y.txt", ("b",)), lock.Layer("z", "z.txt"))
    closure = [package(name) for name in "abcd"]
    shares = lock.split(target(tmp_path, *layers), closure, {"x.txt": {"a", "c"}, "y.txt": {"b", "c"}})
    assert {name: [p.name for p in share] for name, share in shares.items()} == {
        "x.txt": ["a", "c"],
        "y.txt": ["b"],
        "z.txt": ["d"],
    }


def test_a_package_without_a_layer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(lock.LockError, match=r"^LW-LOCK-006: b "):
        lock.split(target(tmp_path, lock.Layer("x", "x.txt", ("a",))), [package("a"), package("b")], {"x.txt": {"a"}})


def test_a_package_without_a_usable_wheel_is_refused(tmp_path: Path) -> None:
    wheels = '[{ name = "a-1-cp39-cp39-win32.whl", hashes = { sha256 = "0" } }]'
    text = f'[[packages]]\nname = "a"\nversion = "1"\nwheels = {wheels}\n'
    with pytest.raises(lock.LockError, match=r"^LW-LOCK-003: no wheel of a 1 "):
        lock.read_pylock(text, target(tmp_path))


def test_each_fault_of_a_lock_is_named(tmp_path: Path) -> None:
    layers = (lock.Layer("x", "x.txt", ("a",)), lock.Layer("y", "y.txt"), lock.Layer("z", "z.txt"))
    stack = target(tmp_path, *layers)
    (tmp_path / "x.txt").write_text(lock.render(stack, [package("a")]).replace("inputs-sha256: ", "inputs-sha256: f"))
    (tmp_path / "y.txt").write_text(lock.render(stack, [package("a")]) + "--index-url https://index.example\nb==1\n")
    found = [fault.split(":")[0] for fault in lock.check(stack)]
    assert found == ["LW-LOCK-011", "LW-LOCK-012", "LW-LOCK-010", "LW-LOCK-014", "LW-LOCK-013", "LW-LOCK-013"]


def test_a_changed_input_is_drift(tmp_path: Path) -> None:
    stack = target(tmp_path)
    (tmp_path / "r.txt").write_text(lock.render(stack, [package("a")]))
    assert list(lock.check(stack)) == []
    (tmp_path / "stack.in").write_text("a==2\n")
    assert [fault[:11] for fault in lock.check(stack)] == ["LW-LOCK-011"]


def test_a_lock_that_contradicts_the_first_one_is_named(tmp_path: Path) -> None:
    first = target(tmp_path)
    (tmp_path / "r.txt").write_text(lock.render(first, [package("a", "1")]))
    second = lock.Target("d", tmp_path, ("stack.in",), (lock.Layer("d", "d.txt"),), constraints=("r.txt",))
    (tmp_path / "d.txt").write_text(lock.render(second, [package("a", "2"), package("b")]))
    assert [fault[:11] for fault in lock.check(second)] == ["LW-LOCK-015"]


def test_a_stack_without_layers_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "stack.yml").write_text("name: x\n")
    with pytest.raises(lock.LockError, match=r"^LW-LOCK-001: "):
        lock.read_stack(tmp_path / "stack.yml")


def test_an_unknown_target_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert lock.main(["--check", "chatglm3"]) == 2
    assert "chatglm2" in capsys.readouterr().err


def wheel(folder: Path) -> Path:
    path = folder / "ansible-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("ansible/posix/MANIFEST.json", "ansible/posix/plugins/x.py", "ansible/windows/MANIFEST.json"):
            archive.writestr(f"ansible_collections/{name}", "{}")
    return path


def test_only_the_collections_that_are_named_are_unpacked(tmp_path: Path) -> None:
    collections.unpack(wheel(tmp_path), ["ansible.posix"], tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").rglob("*") if p.is_file()) == ["MANIFEST.json", "x.py"]
    with pytest.raises(collections.CollectionsError, match=r"^LW-LOCK-021: "):
        collections.unpack(wheel(tmp_path), ["ansible.utils"], tmp_path / "out")


def test_collections_are_unpacked_once_and_again_when_something_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collections, "fetch", lambda _lock, folder: wheel(folder))
    folder = tmp_path / "venv" / "collections"
    assert [collections.install(folder), collections.install(folder)] == [True, False]
    (folder / "ansible_collections/ansible/posix/MANIFEST.json").unlink()
    assert [collections.install(folder), collections.install(folder)] == [True, False]
    assert [p.name for p in folder.parent.iterdir()] == ["collections"]


@pytest.mark.parametrize("text", ["{}", "[posix]", "['../x.y']", "[1]"])
def test_a_wrong_list_of_collections_is_a_sentence(text: str) -> None:
    with pytest.raises(collections.CollectionsError, match=r"^LW-LOCK-020: "):
        collections.wanted(text)
