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


def within(one: Node, kind: str) -> list[Node]:
    """The pieces of a kind that one stands in, the nearest first."""
    found = []
    while one.parent:
        one = one.parent
        if one.type == kind:
            found.append(one)
    return found


def said(one: Node) -> str:
    """The text of a piece."""
    return (one.text or b"").decode()


def calls(text: str, name: str) -> list[Node]:
    """Every place where a command is called."""
    return [one for one in nodes(text) if one.type == "command" and said(one).split()[0] == name]


def halves(text: str) -> tuple[str, str]:
    """What -Undo does, and what is done without it."""
    undo, forth = re.split(r"^    return\n}\n", text[text.index("if ($Undo) {") :], flags=re.MULTILINE)
    return undo, forth


def faults(text: str) -> list[str]:
    """Where the grammar cannot follow."""
    lines = [one.start_point.row + 1 for one in nodes(text) if one.is_error or one.is_missing]
    return [f"line {number}: {text.splitlines()[number - 1].strip()}" for number in sorted(set(lines))]


def words(text: str, kind: str) -> set[str]:
    """The texts of all pieces of a kind."""
    return {said(one) for one in nodes(text) if one.type == kind}


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


def test_an_older_powershell_reads_it_as_it_was_written() -> None:
    """Windows' own PowerShell takes a file for one of the machine's code page; and "$name:" for a drive's name."""
    text = SCRIPT.read_text(encoding="utf-8")
    assert text.isascii()
    strings = {said(one) for one in nodes(text) if one.type == "expandable_string_literal"}
    assert len(strings) > 10
    assert [one for one in strings if re.search(r"\$(?!env:)\w+:", one)] == []


@pytest.mark.trap("winrm-public")
def test_winrm_is_told_only_what_differs_and_a_refusal_has_a_sentence() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    (telling,) = calls(text, "Set-Item")
    (tried,) = within(telling, "try_statement")
    assert 'throw ("LW-READY-' in said(tried)
    (function,) = within(telling, "function_statement")
    assert said(function).startswith("function Set-WinRM(")
    told = calls(text, "Set-WinRM")
    assert len(told) == 3
    for one in told:
        assert re.match(r"if \(.* -ne .*\) \{", said(within(one, "if_statement")[0])), said(one)
    assert "WSManQuickConfig" not in text
    assert "PSRemoting" not in text


def test_what_is_noted_is_taken_back_and_nothing_else() -> None:
    undo, forth = halves(SCRIPT.read_text(encoding="utf-8"))
    noted = set(re.findall(r"Set-Note (\S+)", forth))
    assert noted >= {"'Account'", "'Member'", "'WinRM'", "'TokenFilter'", "'Certificate'", "$what"}
    assert set(re.findall(r"Get-Note ([^\s)]+)", undo)) | {"'Certificate'"} == noted
    assert "Get-Made" in undo, "the certificates are read by it"


def test_nothing_is_begun_where_it_cannot_be_ended() -> None:
    """A host on which the script refuses to go on is as it was: no more than WinRM was started, to look into it."""
    _, forth = halves(SCRIPT.read_text(encoding="utf-8"))
    changes = re.compile(r"\b(?:Set|New|Add|Remove|Start|Stop)-\w+")
    assert changes.findall(forth[: forth.index("-ControlNode is missing")]) == []
    before = set(changes.findall(forth[: forth.index("HTTPS listener of somebody else")]))
    assert before == {"Set-Note", "Set-Service", "Start-Service"}


def test_an_account_that_a_run_left_half_made_is_made_whole_by_the_next() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    (made,), (joined,) = calls(text, "New-LocalUser"), calls(text, "Add-LocalGroupMember")
    assert [said(one).splitlines()[0] for one in within(made, "if_statement")] == ["if (-not $user) {"]
    assert within(joined, "if_statement") == []


def test_undo_removes_the_accounts_folder_while_the_account_is_known() -> None:
    undo, _ = halves(SCRIPT.read_text(encoding="utf-8"))
    steps = ["Win32_UserProfile", "cannot be removed", "Remove-LocalUser", "Remove-Item -Path $notes"]
    places = [undo.index(one) for one in steps]
    assert places == sorted(places), "one that ended between can be repeated"


def test_the_certificate_that_is_shown_is_the_one_that_is_served() -> None:
    """A listener of ours gets the certificate that is written to the file, and an old one goes after that."""
    _, forth = halves(SCRIPT.read_text(encoding="utf-8"))
    steps = [
        '$_.Subject -eq "CN=$Name" -and $_.NotAfter -gt $fresh',
        "New-SelfSignedCertificate @wishes",
        "Set-Note 'Certificate' (($made + $certificate.Thumbprint)",
        'Set-WinRM "$($one.Path)\\CertificateThumbprint" $certificate.Thumbprint',
        "Remove-Certificate ($made | Where-Object { $_ -ne $certificate.Thumbprint })",
        "Set-Note 'Certificate' $certificate.Thumbprint",
        "$certificate.RawData",
    ]
    places = [forth.index(one) for one in steps]
    assert places == sorted(places)
