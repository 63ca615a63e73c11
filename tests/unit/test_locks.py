"""The locks that are committed, the program that makes and checks them, and the one that unpacks collections."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from packaging.version import Version

import lock
from hostkit.result import Problem
from labwright import catalog
from locking import checking, requires, resolving, torch
from locking.fitting import usable
from locking.problem import LockError
from locking.requires import Book, Host, Needs
from locking.sources import Closure, Layer, Source, Waiver, all_sources, read_stack
from locking.text import Package, read, render
from unit.hostkit.loopback import Loopback, Reply, serving
from unit.programs import loaded, program

ENV = Path(lock.__file__).parent
PYTHON = lock.host_python(ENV)


collections = loaded("env/control/get_collections.py")


@cache
def wheels() -> torch.Wheels:
    return torch.read_wheels(ENV)


@cache
def book() -> Book:
    return requires.read(ENV)


def faults(source: Source) -> list[str]:
    return list(checking.faults(source, wheels(), book(), PYTHON))


def ids(found: list[str]) -> list[str]:
    return [fault.split(":")[0] for fault in found]


# ---- what is committed


@pytest.mark.parametrize("source", all_sources(ENV), ids=lambda source: source.name)
def test_the_committed_locks_are_right(source: Source) -> None:
    assert faults(source) == []


@pytest.mark.parametrize("stack", ["chatglm2", "current"])
def test_each_serving_stack_is_locked_for_every_build_on_both_platforms(stack: str) -> None:
    source = read_stack(ENV / "stacks" / stack / "stack.yml")
    wanted = {"cpu", "cu118", "cu121", "cu124", "cu126", "cu128", "cu130"} | (
        {"cu117"} if stack == "chatglm2" else set()
    )
    assert set(source.builds) == wanted
    assert source.platforms == ("linux-64", "win-64")
    assert all(closure.path(layer).is_file() for closure in source.closures() for layer in source.layers)


def test_the_layers_of_the_chatglm2_stack_hold_what_their_roles_install() -> None:
    folder = ENV / "stacks" / "chatglm2"
    names = {path.stem: {x.name: x.version for x in read(path.read_text())} for path in folder.glob("*.txt")}
    assert names["torch-cpu-linux-64"]["torch"] == "2.13.0+cpu"
    assert names["torch-cu118-win-64"]["torch"] == "2.7.1+cu118"
    assert names["transformers-linux-64"]["transformers"] == "4.33.3"
    assert names["fastchat-win-64"]["fschat"] == "0.2.36"
    assert names["fastchat-linux-64"]["pydantic"].startswith("1.")


def test_an_installer_without_any_sum_is_named(tmp_path: Path) -> None:
    shutil.copytree(ENV / "catalog", tmp_path / "catalog")
    for name in ("conda", "stacks"):
        (tmp_path / name).symlink_to(ENV / name)
    path = tmp_path / "catalog/installers.yml"
    assert lock.check([], tmp_path) == []
    path.write_text(re.sub("sha256: [0-9a-f]{64}", "sha256: null", path.read_text(), count=1))
    [fault] = lock.check([], tmp_path)
    assert re.match(r"LW-LOCK-036: .*installers.yml: \S+ has no sha256", fault)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("stacks/chatglm2/stack.yml", b"a: [b", "LW-CAT-001"),
        ("stacks/chatglm2/stack.yml", b"", "LW-LOCK-001"),
        ("stacks/chatglm2/stack.in", None, "LW-LOCK-002"),
        ("stacks/chatglm2/fastchat-linux-64.txt", b"\xff\xfe\0", "LW-LOCK-038"),
        ("stacks/requires.yml", b"packages: [1", "LW-CAT-001"),
        ("stacks/requires.yml", b"packages: [1]", "LW-LOCK-037"),
        ("stacks/requires.yml", b"packages: {a: {'1': {requires_dist: 3}}}", "LW-LOCK-037"),
        ("stacks/requires.yml", None, "LW-LOCK-016"),
        ("catalog/torch_requires.yml", b"builds: {}", "LW-CAT-002"),
        ("catalog/torch_requires.yml", None, "LW-CAT-001"),
        ("catalog/wheels.yml", None, "LW-CAT-001"),
        ("conda/conda-lock.yml", b"package: 3", "LW-LOCK-039"),
        ("conda/conda-lock.yml", None, "LW-CAT-001"),
    ],
)
def test_what_cannot_be_read_is_a_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: bytes | None,
    said: str,
) -> None:
    for folder in ("catalog", "conda", "stacks", "agents", "control"):
        shutil.copytree(ENV / folder, tmp_path / folder)
    path = tmp_path / name
    path.unlink() if content is None else path.write_bytes(content)
    monkeypatch.setattr(lock, "ENV", tmp_path)
    assert lock.main(["--check", "chatglm2"]) != 0
    printed = capsys.readouterr()
    assert said in printed.out + printed.err


# ---- wheels


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("a-1-py3-none-any.whl", True),
        ("a-1-py2.py3-none-any.whl", True),
        ("a-1-py2-none-any.whl", False),
        ("a-1-py37-none-any.whl", True),
        ("a-1-py312-none-any.whl", False),
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
    assert usable(name, [11], "linux-64") is fits


def test_a_stack_may_be_for_newer_c_libraries() -> None:
    newer = "a-1-cp39-abi3-manylinux_2_31_x86_64.whl"
    assert [usable(newer, [11], "linux-64", glibc=minor) for minor in (28, 31, 36)] == [False, True, True]


def test_a_stack_of_one_platform_and_one_build_is_a_stack_like_any_other() -> None:
    source = read_stack(ENV / "stacks/vllm/stack.yml")
    assert [one.name for one in source.closures()] == ["vllm cu130 linux-64"]
    older = replace(source, glibc=28)
    assert source.digest() != older.digest()
    pins = {
        one.name: one.version for layer in source.layers for one in read(source.closures()[0].path(layer).read_text())
    }
    assert pins["torch"] == source.builds["cu130"]
    assert Version(pins["cuda-python"]) >= Version("13"), "older ones bring the modules of cuda-bindings themselves"


@pytest.mark.trap("markers")
def test_which_wheels_a_windows_host_can_use() -> None:
    fits = [
        "a-1-py3-none-any.whl",
        "a-1-cp311-cp311-win_amd64.whl",
        "a-1-cp39-abi3-win_amd64.whl",
        "a-1-py3-none-win_amd64.whl",
    ]
    others = ["a-1-cp311-cp311-win32.whl", "a-1-cp310-cp310-win_amd64.whl", "a-1-cp311-cp311-manylinux_2_17_x86_64.whl"]
    assert [name for name in fits + others if usable(name, [11], "win-64")] == fits


def test_an_arm_control_node_is_served_too() -> None:
    assert usable("a-1-cp312-cp312-manylinux_2_17_aarch64.whl", [11, 12], "", ["x86_64", "aarch64"])
    assert not usable("a-1-cp312-cp312-manylinux_2_17_aarch64.whl", [11, 12], "", ["x86_64"])


def test_uv_is_asked_to_look_where_pip_looks() -> None:
    listing = (
        ":env:.find-links='/w'\nglobal.find-links='/w /v'\nglobal.cert='x'\nglobal.extra-index-url='file:///e'\n"
        "global.index-url='https://index.example/simple'\n"
    )
    assert resolving.pip_places(listing) == ["--default-index", "https://index.example/simple"]


# ---- making


def source_in(folder: Path, *layers: Layer, **more: object) -> Source:
    (folder / "stack.in").write_text("# as-of: 2026-01-01\na==1\n")
    options = {"python": 11, "platforms": ("linux-64",)} | more
    return Source("s", folder, ("stack.in",), layers or (Layer("r"),), **options)  # type: ignore[arg-type]


def package(name: str, version: str = "1", digit: str = "0") -> Package:
    return Package(name, version, "", (digit * 64,))


def closure(source: Source) -> Closure:
    return source.closures()[0]


def test_a_lock_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    entry = Package("a", "1", "python_version < '3.12'", ("0" * 64, "1" * 64), origin="somewhere==odd")
    text = render(source_in(tmp_path), [entry])
    [back] = read(text)
    assert (back.name, back.version, back.marker) == ("a", "1", "python_version < '3.12'")
    assert back.hashes == ("0" * 64, "1" * 64)
    assert "# The sum of the next one: somewhere==odd\na==1" in text


def test_files_are_named_after_role_build_and_platform(tmp_path: Path) -> None:
    source = source_in(
        tmp_path,
        Layer("torch", ("torch",)),
        Layer("fastchat"),
        platforms=("linux-64", "win-64"),
        builds={"cu118": "2.7.1"},
    )
    assert [closure.path(layer).name for closure in source.closures() for layer in source.layers] == [
        "torch-cu118-linux-64.txt",
        "fastchat-linux-64.txt",
        "torch-cu118-win-64.txt",
        "fastchat-win-64.txt",
    ]
    assert source.closures()[1].name == "s cu118 win-64"


def test_layers_share_a_closure_without_overlap(tmp_path: Path) -> None:
    source = source_in(tmp_path, Layer("x", ("a",)), Layer("y", ("b",)), Layer("z"))
    shares = resolving.split(closure(source), [package(n) for n in "abcd"], {"x": {"a", "c"}, "y": {"b", "c"}})
    assert {path.name: [one.name for one in share] for path, share in shares.items()} == {
        "x-linux-64.txt": ["a", "c"],
        "y-linux-64.txt": ["b"],
        "z-linux-64.txt": ["d"],
    }


def test_a_package_without_a_layer_is_refused(tmp_path: Path) -> None:
    source = source_in(tmp_path, Layer("x", ("a",)))
    with pytest.raises(LockError, match=r"^LW-LOCK-006: b "):
        resolving.split(closure(source), [package("a"), package("b")], {"x": {"a"}})


def test_a_package_without_a_usable_wheel_is_refused(tmp_path: Path) -> None:
    wheel = '[{ name = "a-1-cp39-cp39-win32.whl", hashes = { sha256 = "0" } }]'
    text = f'[[packages]]\nname = "a"\nversion = "1"\nwheels = {wheel}\n'
    with pytest.raises(LockError, match=r"^LW-LOCK-003: no wheel of a 1 "):
        resolving.read_pylock(text, closure(source_in(tmp_path)))


def test_a_stack_without_layers_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "stack.yml").write_text("name: x\n")
    with pytest.raises(LockError, match=r"^LW-LOCK-001: "):
        read_stack(tmp_path / "stack.yml")


def test_a_source_says_of_which_day_it_is(tmp_path: Path) -> None:
    source = source_in(tmp_path)
    assert source.as_of() == "2026-01-01"
    (tmp_path / "stack.in").write_text("a==1\n")
    with pytest.raises(LockError, match=r"^LW-LOCK-008: .*as-of"):
        source.as_of()


def run(
    env: Path, source: Source, resolved: dict[str, list[Package]], monkeypatch: pytest.MonkeyPatch
) -> resolving.Locking:
    """Lock a source with canned answers of uv, by torch build."""
    monkeypatch.setattr(resolving, "compiled", lambda one, _scratch, _limits: resolved[one.tag])
    made = resolving.Locking(ENV, PYTHON)
    made.book = Book({"a": {"1": {"requires_python": "", "requires_dist": []}}}, [])
    made.wheels = torch.Wheels({}, {})
    made.lock(source)
    return made


def test_a_build_without_a_published_sum_is_not_lockable_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_in(tmp_path, Layer("torch", ("torch",)), Layer("rest"), builds={"cu117": "2.0.0"})
    made = run(tmp_path, source, {}, monkeypatch)
    assert [line.split(";")[0] for line in made.said] == [
        "s cu117 linux-64: not lockable: nobody published the sha256 of torch 2.0.0+cu117 for it "
        "(env/catalog/wheels.yml)"
    ]
    assert not list(tmp_path.glob("*.txt"))


def test_a_lock_that_nothing_asks_for_any_more_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old-linux-64.txt").touch()
    run(tmp_path, source_in(tmp_path), {"": [package("a")]}, monkeypatch)
    assert [path.name for path in tmp_path.glob("*.txt")] == ["r-linux-64.txt"]


@pytest.mark.parametrize(("keep", "limits"), [(True, ["a==1"]), (False, [])])
def test_a_package_more_moves_no_other_when_that_is_wished(
    keep: bool, limits: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_in(tmp_path)
    asked: list[list[str]] = []

    def compiled(_closure: object, _scratch: Path, given: list[str]) -> list[Package]:
        asked.append(given)
        return [package("a")]

    run(tmp_path, source, {"": [package("a")]}, monkeypatch)
    monkeypatch.setattr(resolving, "compiled", compiled)
    made = resolving.Locking(ENV, PYTHON, keep=keep)
    made.book = Book({"a": {"1": {"requires_python": "", "requires_dist": []}}}, [])
    made.lock(source)
    assert asked == [limits]


def test_builds_may_not_differ_in_a_layer_that_they_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builds = {"cpu": "1", "cu118": "1"}
    source = source_in(tmp_path, Layer("torch", ("torch",)), Layer("rest"), builds=builds)
    rows = {
        ("1", tag, "linux-64", "3.11"): {"file": "torch-1.whl", "version": "1", "sha256": "0" * 64} for tag in builds
    }
    resolved = {tag: [package("torch"), package("a", str(at))] for at, tag in enumerate(builds)}
    monkeypatch.setattr(resolving, "compiled", lambda one, _scratch, _limits: resolved[one.tag])
    made = resolving.Locking(ENV, PYTHON)
    made.wheels = torch.Wheels(rows, {})
    made.book = world(torch=[])
    with pytest.raises(LockError, match=r"^LW-LOCK-018: rest-linux-64.txt would differ .*\(at s cu118.*: a 0, a 1\."):
        made.lock(source)
    assert not list(tmp_path.glob("*.txt"))


def test_what_uv_cannot_do_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = program(tmp_path / "bin", "python", "exit 0")
    monkeypatch.setattr("sys.executable", str(python))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    one = closure(source_in(tmp_path))
    with pytest.raises(LockError, match=r"^LW-LOCK-004: uv is not installed"):
        resolving.compiled(one, tmp_path)
    program(tmp_path / "bin", "uv", "echo 'a==1 is not there' >&2; exit 1")
    with pytest.raises(LockError, match=r"^LW-LOCK-005: uv could not resolve s linux-64:\na==1 is not there"):
        resolving.compiled(one, tmp_path)


def test_the_catalogue_and_the_index_must_tell_the_same_sum() -> None:
    row = {
        "file": "torch-2.0.1-cp311-cp311-manylinux1_x86_64.whl",
        "version": "2.0.1",
        "sha256": "1" * 64,
        "sources": [],
    }
    found = Package("torch", "2.0.1", "", ("0" * 64, "1" * 64))
    assert torch.settled(found, row, wheels()).hashes == ("1" * 64,)
    with pytest.raises(LockError, match=r"^LW-LOCK-017: .*One of them is wrong"):
        torch.settled(Package("torch", "2.0.1", "", ("0" * 64,)), row, wheels())


def test_a_stand_in_has_the_name_and_the_needs_of_the_real_wheel(tmp_path: Path) -> None:
    row = {"file": "torch-2.7.1+cu118-cp311-cp311-win_amd64.whl", "version": "2.7.1", "tag": "cu118"}
    torch.stand_in(tmp_path, row, Needs(">=3.9", ("sympy>=1.13.3",)))
    with zipfile.ZipFile(tmp_path / row["file"]) as wheel:
        metadata = wheel.read("torch-2.7.1+cu118.dist-info/METADATA").decode()
    assert "Version: 2.7.1+cu118\nRequires-Python: >=3.9\nRequires-Dist: sympy>=1.13.3\n" in metadata


@pytest.fixture
def torch_index() -> Iterator[Loopback]:
    """A server in the place of PyTorch's index."""
    with serving() as server:
        yield server


ROW = {"file": "torch-2.7.1+cu118-cp311-cp311-win_amd64.whl", "tag": "cu118", "sha256": "1" * 64}


def page(sha256: str) -> Reply:
    name = "torch-2.7.1%2Bcu118-cp311-cp311-win_amd64.whl"
    return Reply(f'<a href="/whl/cu118/{name}#sha256={sha256}">{name}</a>'.encode())


def test_pytorchs_index_is_compared_where_it_answers(torch_index: Loopback) -> None:
    torch_index.answers["/cu118/torch/"] = [page("1" * 64), page("2" * 64)]
    assert "same sum as the catalogue for 1 of 1" in torch.confirm([ROW], torch_index.url)
    with pytest.raises(LockError, match=r"^LW-LOCK-017: torch-2.7.1"):
        torch.confirm([ROW], torch_index.url)
    assert "does not answer" in torch.confirm([ROW | {"tag": "cu999"}], torch_index.url)


# ---- what packages ask for


def world(**needs: list[str]) -> Book:
    return Book({name: {"1": {"requires_python": "", "requires_dist": lines}} for name, lines in needs.items()}, [])


def asked(book: Book, *roots: str, platform: str = "linux-64", waivers: tuple[Waiver, ...] = ()) -> set[str]:
    closure = {name: package(name) for name in book.rows}
    found = requires.wants(roots, closure, Host(platform, "3.11.15"), lambda one: book.of(one, platform), waivers)
    return {want.name for want in found}


def test_extras_are_followed_only_where_they_are_asked_for() -> None:
    book = world(a=["b; extra == 'more'", "c"], b=[], c=["a[more]; sys_platform == 'win32'"])
    assert asked(book, "a") == {"a", "c"}
    assert asked(book, "a[more]") == {"a", "b", "c"}
    assert asked(book, "a", platform="win-64") == {"a", "b", "c"}


def test_packages_that_need_each_other_come_to_an_end() -> None:
    assert asked(world(a=["b"], b=["a"]), "a") == {"a", "b"}


def test_a_waiver_stands_for_exactly_what_it_names() -> None:
    book = world(a=["b[all]", "c"], b=["d; extra == 'all'"], c=[], d=[])
    waiver = Waiver("a", "b[all]", "b", "why")
    assert asked(book, "a") == {"a", "b", "c", "d"}
    assert asked(book, "a", waivers=(waiver,)) == {"a", "b", "c"}
    assert asked(book, "a", waivers=(Waiver("a", "b[some]", "b", "why"),)) == {"a", "b", "c", "d"}


@pytest.mark.trap("markers")
def test_a_windows_wheel_may_ask_for_something_else() -> None:
    book = Book({}, [])
    book.add(package("a"), "linux-64", Needs("", ("x",)))
    book.add(package("a"), "win-64", Needs("", ("x",)))
    assert "win-64" not in book.rows["a"]["1"]
    book.add(package("a"), "win-64", Needs("", ("y",)))
    assert (book.of(package("a"), "linux-64").dist, book.of(package("a"), "win-64").dist) == (("x",), ("y",))


def test_what_nobody_knows_is_said() -> None:
    with pytest.raises(LockError, match=r"^LW-LOCK-016: nobody knows what torch 9\+cu118 asks for on win-64"):
        book().of(package("torch", "9+cu118"), "win-64")


# ---- checking, on copies of what is committed


@pytest.fixture
def chatglm2(tmp_path: Path) -> Source:
    shutil.copytree(ENV / "stacks/chatglm2", tmp_path / "chatglm2")
    return read_stack(tmp_path / "chatglm2/stack.yml")


def change(source: Source, name: str, old: str, new: str) -> Source:
    path = source.folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return read_stack(source.folder / "stack.yml")


def entry(source: Source, name: str, package: str) -> str:
    """The lines of one package in a lock."""
    text = (source.folder / name).read_text()
    at = text.index(f"\n{package}==") + 1
    return text[at : text.index("\n", text.index("--hash", at)) + 1]


def test_a_copy_is_as_right_as_the_original(chatglm2: Source) -> None:
    assert faults(chatglm2) == []


def test_a_changed_input_is_found_in_every_lock(chatglm2: Source) -> None:
    found = faults(change(chatglm2, "stack.in", "uvicorn>=0.29", "uvicorn>=0.28"))
    assert set(ids(found)) == {"LW-LOCK-011"}
    assert len(found) == len(list(chatglm2.folder.glob("*.txt")))


def test_another_release_of_torch_in_the_stack_is_found(chatglm2: Source) -> None:
    found = faults(change(chatglm2, "stack.yml", 'cu126: "2.7.1"', 'cu126: "2.8.0"'))
    assert {"LW-LOCK-011", "LW-LOCK-019"} == set(ids(found))


def test_a_missing_and_a_superfluous_lock_are_named(chatglm2: Source) -> None:
    (chatglm2.folder / "torch-cu118-win-64.txt").rename(chatglm2.folder / "torch-cu119-win-64.txt")
    found = faults(chatglm2)
    assert {"LW-LOCK-010", "LW-LOCK-035", "LW-LOCK-019"} <= set(ids(found))
    assert any("torch-cu118-win-64.txt does not exist" in fault for fault in found)


def test_a_package_that_something_needs_cannot_be_left_out(chatglm2: Source) -> None:
    lines = entry(chatglm2, "fastchat-win-64.txt", "starlette")
    found = faults(change(chatglm2, "fastchat-win-64.txt", lines, ""))
    assert {fault.split(" asks")[0] for fault in found if "starlette" in fault} == {
        f"LW-LOCK-030: chatglm2 {tag} win-64: fastapi" for tag in chatglm2.builds
    }


def test_a_version_that_something_does_not_take_is_named(chatglm2: Source) -> None:
    old = entry(chatglm2, "transformers-linux-64.txt", "tokenizers").split(" ")[0]
    found = faults(change(chatglm2, "transformers-linux-64.txt", old, "tokenizers==0.22.2"))
    assert any("transformers asks for tokenizers" in fault and "tokenizers 0.22.2" in fault for fault in found)


def test_a_package_that_nothing_needs_is_named(chatglm2: Source) -> None:
    new = f"docker==7.2.0 \\\n    --hash=sha256:{'0' * 64}\nfastapi=="
    found = faults(change(chatglm2, "fastchat-linux-64.txt", "fastapi==", new))
    assert {fault.split(":")[0] for fault in found if "docker" in fault} >= {"LW-LOCK-033"}


def test_a_package_in_two_layers_is_named(chatglm2: Source) -> None:
    lines = entry(chatglm2, "torch-cpu-linux-64.txt", "sympy")
    found = faults(change(chatglm2, "fastchat-linux-64.txt", "fastapi==", f"{lines}fastapi=="))
    assert "LW-LOCK-014: sympy is in two layers of chatglm2 cpu linux-64" in "\n".join(found)


@pytest.mark.parametrize(
    ("old", "new"), [("--hash=sha256:", "--hash=md5:"), (" \\\n    --hash=sha256:", " #"), ("==", ">=")]
)
def test_an_entry_without_version_or_sum_is_named(chatglm2: Source, old: str, new: str) -> None:
    found = faults(change(chatglm2, "fastchat-linux-64.txt", old, new))
    assert "LW-LOCK-013" in ids(found)


def test_a_place_in_a_lock_is_named(chatglm2: Source) -> None:
    found = faults(change(chatglm2, "fastchat-linux-64.txt", "fastapi==", "--index-url https://x.example\nfastapi=="))
    assert "LW-LOCK-012" in ids(found)


@pytest.mark.trap("torch-cpu")
def test_a_gpu_lock_for_windows_never_holds_a_torch_without_cuda(chatglm2: Source) -> None:
    plain = entry(chatglm2, "torch-cpu-win-64.txt", "torch")
    old = entry(chatglm2, "torch-cu126-win-64.txt", "torch")
    found = faults(change(chatglm2, "torch-cu126-win-64.txt", old, plain))
    assert [fault[:11] for fault in found if "win-64 has torch 2.13.0 with" in fault] == ["LW-LOCK-019"]


def test_one_changed_digit_in_torchs_sum_is_found(chatglm2: Source) -> None:
    old = entry(chatglm2, "torch-cu118-linux-64.txt", "torch")
    digit = "0" if old.rstrip()[-1] != "0" else "1"
    found = faults(change(chatglm2, "torch-cu118-linux-64.txt", old, f"{old.rstrip()[:-1]}{digit}\n"))
    assert ids(found) == ["LW-LOCK-009", "LW-LOCK-019"]


def test_one_changed_digit_in_any_other_sum_is_found_and_the_plan_refuses(chatglm2: Source) -> None:
    old = entry(chatglm2, "fastchat-linux-64.txt", "fastapi")
    digit = "0" if old.rstrip()[-1] != "0" else "1"
    found = faults(change(chatglm2, "fastchat-linux-64.txt", old, f"{old.rstrip()[:-1]}{digit}\n"))
    assert found == [
        "LW-LOCK-009: chatglm2/fastchat-linux-64.txt was changed by hand: its entries are not those that were locked; "
        "run `python env/lock.py chatglm2`."
    ]
    with pytest.raises(Problem) as caught:
        catalog.stack_of(chatglm2.folder)
    assert caught.value.code == "LW-CAT-005"
    assert "fastchat-linux-64.txt is not as it was locked" in str(caught.value)


def test_waivers_must_be_needed_and_have_a_reason(chatglm2: Source) -> None:
    more = "waivers:\n  - {package: fschat, requirement: nothing, instead: torch, reason: ' '}\n"
    found = faults(change(chatglm2, "stack.yml", "waivers:\n", more))
    assert {"LW-LOCK-031", "LW-LOCK-032"} <= set(ids(found))


def test_without_its_waiver_a_requirement_is_not_met(chatglm2: Source) -> None:
    text = (chatglm2.folder / "stack.yml").read_text()
    (chatglm2.folder / "stack.yml").write_text(text[: text.index("waivers:")])
    found = faults(read_stack(chatglm2.folder / "stack.yml"))
    assert any("markdown2 asks for wavedrom" in fault for fault in found)


def test_a_lock_that_contradicts_the_first_one_is_named(tmp_path: Path) -> None:
    options = {"python": None, "platforms": ("",)}
    first = source_in(tmp_path, Layer("r", lock="r.txt"), **options)
    (tmp_path / "r.txt").write_text(render(first, [package("a", "1")]))
    second = source_in(tmp_path, Layer("d", lock="d.txt"), constraints=("r.txt",), **options)
    (tmp_path / "d.txt").write_text(render(second, [package("a", "2"), package("b")]))
    assert ids(faults(second)) == ["LW-LOCK-015"]


def test_a_package_for_another_python_is_named(tmp_path: Path) -> None:
    source = source_in(tmp_path)
    (tmp_path / "r-linux-64.txt").write_text(render(source, [package("a")]))
    known = Book({"a": {"1": {"requires_python": ">=3.12", "requires_dist": []}}}, [])
    (fault,) = checking.faults(source, wheels(), known, "3.11.15")
    assert fault.startswith("LW-LOCK-034: s linux-64: a 1 wants Python >=3.12, but the stack has 3.11.15")


def test_an_unknown_source_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert lock.main(["--check", "chatglm3"]) == 2
    assert re.match(r"LW-LOCK-007: there is no source chatglm3; there are .*chatglm2", capsys.readouterr().err)


def wheel(folder: Path) -> Path:
    path = folder / "ansible-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        names = ["ansible/posix", "ansible/windows", "community/windows"]
        for name in [*(f"{one}/MANIFEST.json" for one in names), "ansible/posix/plugins/x.py"]:
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


def test_collections_that_cannot_be_had_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = program(tmp_path, "python", "echo no index >&2; exit 1")
    monkeypatch.setattr("sys.executable", str(pip))
    with pytest.raises(
        collections.CollectionsError, match=r"^LW-LOCK-022: .* names, with the hash .*:\nno index\nCheck"
    ):
        collections.fetch(tmp_path / "collections.txt", tmp_path)
