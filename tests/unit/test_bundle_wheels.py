"""Which wheels a bundle needs: locks read as a Linux host would, and matched by sum."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import bundle as program
from kit import tools, wheels
from kit.locks import Pin, parse, read_locks, rounds
from kit.problem import Problem

A, B, C = (letter * 64 for letter in "abc")


def test_markers_are_judged_for_the_host_and_not_for_this_python() -> None:
    text = f"""# a comment
Some_Thing==1.0 ; python_version < '3.12' and sys_platform == 'linux' \\
    --hash=sha256:{B} \\
    --hash=sha256:{A}
colorama==0.4.6 ; sys_platform == 'win32' --hash=sha256:{C}
newer==2 ; python_version >= '3.12' --hash=sha256:{C}
torch==2.13.0+cpu --hash=sha256:{C}  # from another index
"""
    assert parse(text, "x.txt", "3.11") == [Pin("some-thing", "1.0", (A, B)), Pin("torch", "2.13.0+cpu", (C,))]


@pytest.mark.parametrize(
    "line", ["requests", "requests>=2", "requests==2.0", "--index-url https://example.org", "-e ."]
)
def test_a_line_without_version_and_sum_is_refused(line: str) -> None:
    with pytest.raises(Problem, match=r"LW-BUNDLE-020: x\.txt"):
        parse(line, "x.txt", "3.11")


def test_a_lock_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="LW-BUNDLE-021"):
        read_locks([tmp_path / "none.txt"], "3.11")


def test_two_versions_of_a_package_are_asked_for_in_two_rounds() -> None:
    pins = [Pin("numpy", "1", (A,)), Pin("numpy", "2", (B,)), Pin("six", "1", (C,))]
    assert rounds(pins) == [[pins[0], pins[2]], [pins[1]]]


def test_a_local_version_is_looked_for_under_its_tag_on_the_torch_index() -> None:
    options = wheels.torch_options(Pin("torch", "2.13.0+cu118", (A,)), "https://mirror.example/whl/")
    assert options[:2] == ["--index-url", "https://mirror.example/whl/cu118"]


def no_network(*_arguments: object) -> str:
    raise AssertionError("the network was used")


def test_only_missing_wheels_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, cache = tmp_path / "bundle/wheels", tmp_path / "cache"
    pins, asked = [], []
    for name, folder in (("one", bundle), ("two", cache / "wheels"), ("three", None)):
        digest = hashlib.sha256(name.encode()).hexdigest()
        pins.append(Pin(name, "1", (digest,)))
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}-1-py3-none-any.whl").write_bytes(name.encode())

    def download(_python: Path, requirements: Path, folder: Path, *_more: object) -> str:
        asked.append(requirements.read_text())
        (folder / "three-1-py3-none-any.whl").write_bytes(b"three")
        return ""

    monkeypatch.setattr(tools, "venv", lambda _cache: Path("python"))
    monkeypatch.setattr(tools, "pip_download", download)
    found = wheels.collect(pins, bundle, cache, "3.11", "")
    assert asked == [pins[2].line() + "\n"]
    assert found["wheels/one-1-py3-none-any.whl"][0].parent == bundle
    assert found["wheels/two-1-py3-none-any.whl"][0].parent == cache / "wheels"
    assert sorted(found) == [f"wheels/{name}-1-py3-none-any.whl" for name in ("one", "three", "two")]

    monkeypatch.setattr(tools, "pip_download", no_network)
    assert sorted(wheels.collect(pins, bundle, cache, "3.11", "")) == sorted(found)


def test_a_tampered_wheel_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "wheels"
    bundle.mkdir()
    (bundle / "one-1-py3-none-any.whl").write_bytes(b"changed")
    monkeypatch.setattr(tools, "venv", lambda _cache: Path("python"))
    monkeypatch.setattr(tools, "pip_download", lambda *_arguments: "No matching distribution found for one==1")
    with pytest.raises(Problem, match=r"LW-BUNDLE-022: .*the machine's index: No matching distribution"):
        wheels.collect([Pin("one", "1", (A,))], bundle, tmp_path / "cache", "3.11", "")


def test_a_wheel_that_did_not_come_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "venv", lambda _cache: Path("python"))
    monkeypatch.setattr(tools, "pip_download", lambda *_arguments: "")
    with pytest.raises(Problem, match=r"LW-BUNDLE-023: no wheel came for one==1\."):
        wheels.collect([Pin("one", "1", (A,))], tmp_path / "bundle", tmp_path / "cache", "3.11", "")


def test_torch_build_is_tried_on_both_indexes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []

    def download(_p: Path, _r: Path, _f: Path, _s: str, _o: str, extra: list[str] | tuple[()] = ()) -> str:
        calls.append(tuple(extra[:2]))
        return "not here"

    monkeypatch.setattr(tools, "venv", lambda _cache: Path("python"))
    monkeypatch.setattr(tools, "pip_download", download)
    with pytest.raises(Problem, match=r"the machine's index and https://t\.example/whl: not here Then not here"):
        wheels.collect([Pin("torch", "2+cpu", (A,))], tmp_path / "b", tmp_path / "c", "3.11", "https://t.example/whl")
    assert calls == [(), ("--index-url", "https://t.example/whl/cpu")]


# ---- The locks that a bundle is made from


STACKS = {
    "stacks/one": ["builds: {cpu: '2.1', cu118: '2.0', cu126: '2.1'}\n", "torch-cpu", "torch-cu126", "fastchat"],
    "stacks/old": ["builds: {cu118: '2.0'}\n", "torch-cu118", "fastchat"],
    "stacks/page": ["optional: true\nbuilds: {cpu: '2.1'}\n", "torch-cpu", "fastchat"],
    "stacks/fast": ["engine: fast\nbuilds: {cu126: '2.1'}\n", "torch-cu126", "fastchat"],
    "stacks/front": ["", "fastchat"],
    "agents": ["", "autogen"],
}


@pytest.fixture
def env(tmp_path: Path) -> Path:
    """Stacks with locks for both platforms; ``one`` has none for a build that it names."""
    for folder, (content, *locks) in STACKS.items():
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "stack.yml").write_text(
            f"name: {Path(folder).name}\nplatforms: [linux-64, win-64]\n{content}"
        )
        for name in locks:
            for platform in ("linux-64", "win-64"):
                (tmp_path / folder / f"{name}-{platform}.txt").touch()
    (tmp_path / "stacks/notes").mkdir()
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines/fast.yml").touch()
    return tmp_path


def test_markers_are_those_of_the_platform() -> None:
    text = (
        f"colorama==0.4.6 ; sys_platform == 'win32' --hash=sha256:{C}\nuvloop==1 ; os_name == 'posix' --hash=sha256:{A}"
    )
    assert [pin.name for pin in parse(text, "x.txt", "3.11", "win-64")] == ["colorama"]
    assert [pin.name for pin in parse(text, "x.txt", "3.11")] == ["uvloop"]


def test_a_stack_is_taken_for_its_own_platforms_alone(env: Path) -> None:
    (env / "stacks/fast/stack.yml").write_text(
        "name: fast\nengine: fast\nbuilds: {cu126: '2.1'}\nplatforms: [linux-64]\n"
    )
    taken = program.default_locks(env, ["cu126"], [], ["fast"], platform="win-64")
    assert {path.parent.name for path in taken} == {"front", "one", "agents"}
    assert all(path.stem.endswith("-win-64") for path in taken)


def chosen(env: Path, tags: list[str], stacks: list[str]) -> dict[str, list[str]]:
    """The locks that are taken, without their platform, by stack."""
    found: dict[str, list[str]] = {}
    for path in program.default_locks(env, tags, stacks):
        assert path.is_file()
        assert path.stem.endswith("-linux-64")
        found.setdefault(path.parent.name, []).append(path.stem.removesuffix("-linux-64"))
    both = program.default_locks(env, tags, stacks, platform="win-64")
    assert [path.name.replace("win-64", "linux-64") for path in both] == [
        path.name for path in program.default_locks(env, tags, stacks)
    ]
    return found


FRONT_AND_AGENTS = {"front": ["fastchat"], "agents": ["autogen"]}


@pytest.mark.parametrize(
    ("tags", "stacks", "expected"),
    [
        (["cpu"], [], {"one": ["fastchat", "torch-cpu"], **FRONT_AND_AGENTS}),
        (["cu126"], [], {"one": ["fastchat", "torch-cu126"], **FRONT_AND_AGENTS}),
        (["cu126", "cpu", "cpu"], [], {"one": ["fastchat", "torch-cpu", "torch-cu126"], **FRONT_AND_AGENTS}),
        (["cu118"], [], {"old": ["fastchat", "torch-cu118"], **FRONT_AND_AGENTS}),
        (["cpu"], ["page"], {"page": ["fastchat", "torch-cpu"]}),
        (["cpu"], ["one", "front"], {"one": ["fastchat", "torch-cpu"], "front": ["fastchat"]}),
        (["cu118"], ["agents", "old"], {"old": ["fastchat", "torch-cu118"], "agents": ["autogen"]}),
        (["cpu"], ["agents", "front"], FRONT_AND_AGENTS),
    ],
    ids=["cpu", "gpu", "both", "one stack only", "the optional one", "named ones", "agents too", "no torch at all"],
)
def test_locks_are_taken_by_stack_and_torch_build(
    env: Path, tags: list[str], stacks: list[str], expected: dict[str, list[str]]
) -> None:
    assert chosen(env, tags, stacks) == expected


def test_an_optional_stack_comes_beside_the_others_where_it_is_asked_for(env: Path) -> None:
    taken = {path.parent.name for path in program.default_locks(env, ["cpu"], also=["page"])}
    assert taken == {"one", "front", "agents", "page"}
    with pytest.raises(Problem, match="LW-BUNDLE-024: there is no stack none"):
        program.default_locks(env, ["cpu"], also=["none"])


def test_a_stack_that_is_not_there_is_named_with_those_that_are(env: Path) -> None:
    with pytest.raises(
        Problem,
        match=r"LW-BUNDLE-024: there is no stack none, two; there are fast, front, old, one, page, agents\. Mend",
    ):
        program.default_locks(env, ["cpu"], ["two", "one", "none"])


@pytest.mark.parametrize(
    ("tags", "stacks"),
    [(["cpu", "cu130"], []), (["cu118"], ["one"]), (["cu126"], ["page"])],
    ids=["nowhere", "named without a lock", "in another stack"],
)
def test_a_torch_build_without_a_lock_is_named(env: Path, tags: list[str], stacks: list[str]) -> None:
    with pytest.raises(
        Problem, match=rf"LW-BUNDLE-025: no stack that is taken has a lock for the torch build {tags[-1]} on linux-64"
    ):
        program.default_locks(env, tags, stacks)


def test_another_engines_stack_is_taken_where_the_engine_is_asked_for(env: Path) -> None:
    taken = [path.parent.name for path in program.default_locks(env, ["cpu", "cu126"], [], ["fast"])]
    assert list(dict.fromkeys(taken)) == ["fast", "front", "one", "agents"]
    with pytest.raises(
        Problem, match=r"LW-BUNDLE-026: the engine fast is locked for cu126 on linux-64, .* made for cpu\."
    ):
        program.default_locks(env, ["cpu"], [], ["fast"])
    with pytest.raises(Problem, match=r"LW-BUNDLE-027: there is no engine slow in env/engines"):
        program.default_locks(env, ["cpu"], [], ["slow"])


def test_the_stacks_of_the_project_are_taken_for_every_build_and_the_page_only_when_asked_for() -> None:
    for tag in ("cpu", "cu118", "cu121", "cu124", "cu126", "cu128", "cu130"):
        found = chosen(program.ENV, [tag], [])
        assert list(found) == ["chatglm2", "current", "frontend", "agents"]
        assert found["current"] == found["chatglm2"] == ["fastchat", f"torch-{tag}", "transformers"]
    assert list(chosen(program.ENV, ["cu117"], [])) == ["chatglm2", "frontend", "agents"]
    assert chosen(program.ENV, ["cpu"], ["web"]) == {"web": ["fastchat"]}
