"""Paths and command lines of a target, without Wine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import LabError
from lab.windows import wine as module
from lab.windows.wine import PathError, Wine, command_line, quoted
from unit.programs import program


@pytest.fixture(name="wine")
def wine_fixture(tmp_path: Path) -> Wine:
    (tmp_path / "drive_c/Program Files/Thing").mkdir(parents=True)
    return Wine(tmp_path)


@pytest.mark.parametrize(
    "name", ["C:\\Program Files\\Thing", "c:/PROGRAM files/thing\\", "\\\\?\\C:\\Program Files\\THING"]
)
def test_a_path_is_found_in_any_case(wine: Wine, name: str) -> None:
    assert wine.path(name) == wine.drive_c / "Program Files/Thing"
    assert wine.windows(wine.path(name)) == "C:\\Program Files\\Thing"


def test_what_is_not_there_keeps_its_spelling(wine: Wine) -> None:
    assert wine.path("C:\\program files\\New\\X") == wine.drive_c / "Program Files/New/X"
    assert wine.windows(wine.drive_c) == "C:\\"


@pytest.mark.trap("wine-home")
@pytest.mark.parametrize("name", ["relative\\x", "\\rooted", "Z:\\etc", "C:\\a\\..\\..\\..\\etc", "", "/etc/passwd"])
def test_no_path_leads_out_of_drive_c(wine: Wine, name: str) -> None:
    with pytest.raises(PathError):
        wine.path(name)


def parsed(line: str) -> list[str]:
    """Split a command line by the rules of CommandLineToArgvW."""
    words, word, inside, open_, at = [], "", False, False, 0
    while at < len(line):
        if line[at] == "\\":
            run = len(line) - at - len(line[at:].lstrip("\\"))
            at += run
            if at < len(line) and line[at] == '"':
                word += "\\" * (run // 2)
                if run % 2:
                    word += '"'
                    at += 1
            else:
                word += "\\" * run
            open_ = True
        elif line[at] == '"':
            inside, open_ = not inside, True
            at += 1
        elif line[at] in " \t" and not inside:
            if open_:
                words.append(word)
            word, open_ = "", False
            at += 1
        else:
            word, open_ = word + line[at], True
            at += 1
    return [*words, word] if open_ else words


@given(st.lists(st.text(alphabet='ab\\" \t', max_size=8), max_size=4))
def test_quoting_is_what_windows_takes_apart(words: list[str]) -> None:
    assert parsed(command_line(words)) == words


def test_quoting_leaves_plain_words() -> None:
    assert quoted("/D=C:\\x") == "/D=C:\\x"
    assert quoted("/D=C:\\a b") == '"/D=C:\\a b"'


@pytest.mark.trap("wine-home")
def test_nothing_of_this_machine_but_what_wine_needs(wine: Wine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("WINEPREFIX", "/elsewhere")
    found = wine.environment({"TOLD": "1", "WINEPREFIX": "/elsewhere"})
    assert found["WINEPREFIX"] == str(wine.prefix)
    assert (found["TOLD"], "SECRET" in found) == ("1", False)


def test_a_machine_that_went_down_is_told(wine: Wine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda words, **_: subprocess.CompletedProcess(words, 1, b"", b""))
    with pytest.raises(LabError, match="LW-LAB-107: the machine went down while a program ran"):
        wine.run("cmd /c exit")
    with pytest.raises(LabError, match=r"LW-LAB-107: the machine does not answer \(registry read\)"):
        wine.hand("registry", "read", "x")


def test_a_machine_that_cannot_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    program(tmp_path, "x86_64-w64-mingw32-gcc", "echo 'cc1: no room' >&2", "exit 1")
    with pytest.raises(LabError, match=r"LW-LAB-103: hand.c could not be compiled: cc1: no room"):
        module.compile_hand(tmp_path / "hand.exe")
    monkeypatch.setattr(Wine, "quietly", lambda *_words: None)
    with pytest.raises(LabError, match=r"LW-LAB-104: Wine made no system in .*/new"):
        module.make_pristine(Wine(tmp_path / "new"))
