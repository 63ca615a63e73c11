"""WS-Management, without a network."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET

import pytest

from lab.windows import wsman
from lab.windows.wsman import NAMES, Shells

CMD = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/cmd"


def parsed(answer: bytes) -> ET.Element:
    return ET.fromstring(answer)  # noqa: S314


def message(verb: str, body: str = "", shell_id: str = "", resource: str = CMD) -> bytes:
    spaces = " ".join(f'xmlns:{name}="{place}"' for name, place in NAMES.items())
    selector = f'<w:SelectorSet><w:Selector Name="ShellId">{shell_id}</w:Selector></w:SelectorSet>' if shell_id else ""
    return (
        f"<s:Envelope {spaces}><s:Header><a:Action>http://x/{verb}</a:Action><a:MessageID>uuid:1</a:MessageID>"
        f"<w:ResourceURI>{resource}</w:ResourceURI>{selector}</s:Header><s:Body>{body}</s:Body></s:Envelope>"
    ).encode()


def test_a_command_from_its_shell_to_its_exit_code() -> None:
    seen: list[tuple[str, bytes]] = []

    def run(line: str, stdin: bytes) -> tuple[bytes, bytes, int]:
        seen.append((line, stdin))
        return b"out", b"error", 3010

    shells = Shells(run)
    status, answer = shells.answer(message("Create"))
    shell = parsed(answer).findtext(".//rsp:ShellId", "", NAMES)
    line = (
        "<rsp:CommandLine><rsp:Command>cmd</rsp:Command><rsp:Arguments>/c ver &amp; x</rsp:Arguments></rsp:CommandLine>"
    )
    command = parsed(shells.answer(message("Command", line, shell))[1]).findtext(".//rsp:CommandId", "", NAMES)
    for data, end in (("abc", ""), ("def", ' End="true"')):
        word = base64.b64encode(data.encode()).decode()
        stream = f'<rsp:Send><rsp:Stream Name="stdin" CommandId="{command}"{end}>{word}</rsp:Stream></rsp:Send>'
        assert shells.answer(message("Send", stream, shell))[0] == 200
    wish = f'<rsp:Receive><rsp:DesiredStream CommandId="{command}">stdout stderr</rsp:DesiredStream></rsp:Receive>'
    status, answer = shells.answer(message("Receive", wish, shell))
    root = parsed(answer)
    streams = [base64.b64decode(one.text or "") for one in root.findall(".//rsp:Stream", NAMES) if one.text]
    assert (status, streams, root.findtext(".//rsp:ExitCode", "", NAMES)) == (200, [b"out", b"error"], "3010")
    assert seen == [("cmd /c ver & x", b"abcdef")]
    assert shells.answer(message("Delete", shell_id=shell))[0] == 200
    assert shells.answer(message("Receive", wish, shell))[0] == 500


def test_what_takes_long_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.setattr(wsman, "RECEIVE_SECONDS", 0.01)
    gate = threading.Event()
    shells = Shells(lambda *_: (b"", b"", 0) if gate.wait() else (b"", b"", 1))
    shell = parsed(shells.answer(message("Create"))[1]).findtext(".//rsp:ShellId", "", NAMES)
    line = "<rsp:CommandLine><rsp:Command>x</rsp:Command></rsp:CommandLine>"
    command = parsed(shells.answer(message("Command", line, shell))[1]).findtext(".//rsp:CommandId", "", NAMES)
    wish = f'<rsp:Receive><rsp:DesiredStream CommandId="{command}">stdout</rsp:DesiredStream></rsp:Receive>'
    status, answer = shells.answer(message("Receive", wish, shell))
    assert status == 500
    assert b'Code="2150858793"' in answer
    gate.set()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (message("Create", resource="http://schemas.microsoft.com/powershell/Microsoft.PowerShell"), "2150858811"),
        (message("Command", shell_id="NONE"), "2150858843"),
        (message("Receive"), "2150858843"),
    ],
)
def test_faults(sent: bytes, code: str) -> None:
    status, answer = Shells(lambda *_: (b"", b"", 0)).answer(sent)
    found = re.search(rb'Code="(\d+)"', answer)
    assert found is not None
    assert (status, found[1].decode()) == (500, code)


def test_what_is_no_xml_is_refused() -> None:
    assert Shells(lambda *_: (b"", b"", 0)).answer(b"<no")[0] == 400


def test_a_failure_of_the_target_is_never_a_success() -> None:
    def run(line: str, stdin: bytes) -> tuple[bytes, bytes, int]:
        raise RuntimeError("broken")

    command = wsman.Command("x", "shell")
    command.work(run)
    assert command.result[2] == 98
    assert b"broken" in command.result[1]
