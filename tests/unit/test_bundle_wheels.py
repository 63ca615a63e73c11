"""Which wheels a bundle needs: locks read as a Linux host would, and matched by sum."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

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

    def download(_python: Path, requirements: Path, folder: Path, _series: str, _extra: object = ()) -> str:
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


def test_torch_build_is_tried_on_both_indexes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []

    def download(_p: Path, _r: Path, _f: Path, _s: str, extra: list[str] | tuple[()] = ()) -> str:
        calls.append(tuple(extra[:2]))
        return "not here"

    monkeypatch.setattr(tools, "venv", lambda _cache: Path("python"))
    monkeypatch.setattr(tools, "pip_download", download)
    with pytest.raises(Problem, match=r"the machine's index and https://t\.example/whl: not here Then not here"):
        wheels.collect([Pin("torch", "2+cpu", (A,))], tmp_path / "b", tmp_path / "c", "3.11", "https://t.example/whl")
    assert calls == [(), ("--index-url", "https://t.example/whl/cpu")]
