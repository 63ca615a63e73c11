"""The script that readies a Windows machine, read by a grammar of PowerShell: nothing here can run it.

The grammar refuses some scripts that PowerShell takes, so ours keeps to what it knows; and it misses some faults.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import tree_sitter_powershell
from tree_sitter import Language, Node, Parser

SCRIPT = Path(__file__).resolve().parents[2] / "playbooks/files/ready-windows.ps1"
PARSER = Parser(Language(tree_sitter_powershell.language()))


def nodes(text: str) -> Iterator[Node]:
    """Every piece of a script, as the grammar takes it apart."""
    waiting = [PARSER.parse(text.encode()).root_node]
    while waiting:
        one = waiting.pop()
        yield one
        waiting += one.children


def faults(text: str) -> list[str]:
    """Where the grammar cannot follow."""
    lines = [one.start_point.row + 1 for one in nodes(text) if one.is_error or one.is_missing]
    return [f"line {number}: {text.splitlines()[number - 1].strip()}" for number in sorted(set(lines))]


def words(text: str, kind: str) -> set[str]:
    """The texts of all pieces of a kind."""
    return {(one.text or b"").decode() for one in nodes(text) if one.type == kind}


@pytest.mark.trap("powershell-unread")
def test_the_script_can_be_parsed() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    assert faults(text) == []
    assert len(words(text, "command_name")) > 10, "the grammar found no commands: it says nothing"


@pytest.mark.trap("powershell-unread")
@pytest.mark.parametrize("sign", ["{", "}", "(", ")"])
def test_the_parser_sees_a_bracket_that_is_lost(sign: str) -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    places = [found.start() for found in re.finditer(re.escape(sign), text) if found.start() > text.index("#>")]
    seen = [bool(faults(text[:at] + text[at + 1 :])) for at in places]
    assert seen.count(True) > 0.8 * len(places) > 0


def test_every_function_that_it_calls_is_its_own_or_windows() -> None:
    """A command of ours is one word; PowerShell's are a verb and a noun, programs end in .exe."""
    text = SCRIPT.read_text(encoding="utf-8")
    own = words(text, "function_name")
    assert own
    called = words(text, "command_name")
    assert {one for one in called if not re.fullmatch(r"[A-Z][a-z]+-[A-Za-z]+|\w+\.exe", one)} <= own
