"""hostkit.state: what the stamp says, and what follows from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostkit.state import STAMP, State, decide, drift_of, installed, new_id, pinned
from unit.hostkit.look import package

A, B, C = ("conda", "1"), ("torch", "2"), ("fastchat", "3")


def layers(*pairs: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "digest": digest} for name, digest in pairs]


@pytest.mark.parametrize(
    ("state", "exists", "drift", "wanted", "rebuild", "todo", "reason"),
    [
        (None, False, [], [A, B], False, [A, B], "no environment yet"),
        (None, True, [], [A, B], True, [A, B], "no stamp"),
        (State([]), True, [], [A, B], False, [A, B], ""),
        (State([A]), True, [], [A, B], False, [B], ""),
        (State([A, B]), True, [], [A, B], False, [], ""),
        (State([A, B, C]), True, [], [A, B], False, [], ""),
        (State([A], "torch"), True, [], [A, B], True, [A, B], "'torch' was interrupted"),
        (State([A, B], "fastchat"), True, [], [A, B], True, [A, B], "'fastchat' was interrupted"),
        (State([("conda", "9"), B]), True, [], [A, B], True, [A, B], "other locks"),
        (State([B, A]), True, [], [A, B], True, [A, B], "other locks"),
        (State([A, B, C]), True, ["numpy 1 is gone"], [A, B], True, [A, B], "somebody changed it: numpy 1 is gone"),
        (State([A]), True, [], [], False, [], ""),
    ],
)
def test_decide(
    state: State | None,
    exists: bool,
    drift: list[str],
    wanted: list[tuple[str, str]],
    rebuild: bool,
    todo: list[tuple[str, str]],
    reason: str,
) -> None:
    found = decide(state, exists, drift, layers(*wanted))
    assert (found.rebuild, found.todo) == (rebuild, layers(*todo))
    assert reason in found.reason
    assert bool(reason) == bool(found.reason)


pairs = st.tuples(st.sampled_from(["conda", "torch", "fastchat"]), st.sampled_from("123"))
states = st.builds(State, st.lists(pairs, max_size=4), st.sampled_from(["", "", "torch"]))


@given(state=st.none() | states, exists=st.booleans(), drift=st.lists(st.text(), max_size=1), wanted=st.lists(pairs))
def test_what_was_done_need_not_be_done_again(
    state: State | None, exists: bool, drift: list[str], wanted: list[tuple[str, str]]
) -> None:
    there = exists or state is not None
    first = decide(state, there, drift, layers(*wanted))
    whole = [] if first.rebuild or state is None or not there else list(state.layers)
    whole += [(str(one["name"]), str(one["digest"])) for one in first.todo]
    second = decide(State(whole), True, [], layers(*wanted))
    assert (second.rebuild, second.todo) == (False, [])


@given(state=states, wanted=st.lists(pairs))
def test_an_interrupted_environment_is_never_trusted(state: State, wanted: list[tuple[str, str]]) -> None:
    found = decide(State(state.layers, "torch"), True, [], layers(*wanted))
    assert (found.rebuild, found.todo) == (True, layers(*wanted))


def test_the_stamp_comes_back_as_it_was_written(tmp_path: Path) -> None:
    state = State([A, B], "fastchat", "abc")
    state.write(tmp_path / "prefix")
    assert State.read(tmp_path / "prefix") == state
    assert [path.name for path in (tmp_path / "prefix").iterdir()] == [STAMP]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"layers": 3, "in_progress": "", "made": ""}',
        b'{"layers": [["conda"]], "in_progress": "", "made": ""}',
        b'{"layers": [], "made": ""}',
        b"\xff\xfe",
    ],
)
def test_a_stamp_that_cannot_be_read_is_none(tmp_path: Path, text: bytes) -> None:
    (tmp_path / STAMP).write_bytes(text)
    assert State.read(tmp_path) is None


def test_no_folder_has_no_stamp(tmp_path: Path) -> None:
    assert State.read(tmp_path / "nothing") is None


def test_each_making_has_its_own_id() -> None:
    assert len({new_id() for _ in range(50)}) == 50


def test_pinned_reads_a_lock() -> None:
    lock = (
        "# torch==0.0\n--index-url https://example.org\n"
        "Typing_Extensions==4.1 \\\n    --hash=sha256:aa\n"
        "torch==2.0.1+cpu \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"
        "hf-xet==1.8.0 ; platform_machine == 'x86_64' \\\n    --hash=sha256:dd\n"
        "zope.interface==5\n"
    )
    assert pinned(lock) == {
        "typing-extensions": "4.1",
        "torch": "2.0.1+cpu",
        "hf-xet": "1.8.0",
        "zope-interface": "5",
    }
    assert pinned("") == {}


@pytest.mark.parametrize("site", ["lib/python3.11/site-packages", "Lib/site-packages"])
def test_installed_reads_the_names_of_folders_that_hold_a_package(tmp_path: Path, site: str) -> None:
    for name in ("torch-2.0.1+cpu", "Typing_Extensions-4.1"):
        package(tmp_path, name, site)
    for name in ("torch", "odd.egg-info", "replaced-1.dist-info"):  # pip leaves folders without METADATA
        (tmp_path / site / name).mkdir()
    assert installed(tmp_path) == {"torch": "2.0.1+cpu", "typing-extensions": "4.1"}


@pytest.mark.parametrize(
    ("wanted", "present", "lines"),
    [
        ({"a": "1"}, {"a": "1"}, []),
        ({"a": "1"}, {"a": "1", "pip": "24"}, []),
        ({"a": "1"}, {}, ["a 1 is gone"]),
        ({"a": "1"}, {"a": "2"}, ["a is 2, the lock says 1"]),
        ({}, {"b": "3"}, ["b 3 is in no lock"]),
        ({"pip": "1"}, {"pip": "24"}, ["pip is 24, the lock says 1"]),
        ({"b": "1", "a": "1"}, {"c": "1"}, ["a 1 is gone", "b 1 is gone", "c 1 is in no lock"]),
    ],
)
def test_drift_in_sentences(wanted: dict[str, str], present: dict[str, str], lines: list[str]) -> None:
    assert drift_of(wanted, present, {"pip"}) == lines
