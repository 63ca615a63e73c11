"""What is sent to powershell.exe: what is understood, and that the rest is refused."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from lab.windows.modules import Machine
from lab.windows.options import specification
from lab.windows.powershell import REFUSED, SEPARATOR, PowerShell
from lab.windows.wine import Wine

PING = {"ansible.windows.win_ping": specification({"data": {"type": "str", "default": "pong"}})}


@pytest.fixture(name="shell")
def shell_fixture(tmp_path: Path) -> PowerShell:
    (tmp_path / "drive_c/tmp").mkdir(parents=True)
    machine = Machine("t", "127.0.0.1", "Administrator", tmp_path, booted=1_700_000_000.5)
    return PowerShell(Wine(tmp_path), machine, PING, tmp_path / "journal.jsonl", reboots.append)


reboots: list[float] = []


def encoded(script: str) -> str:
    return "PowerShell -NoProfile -EncodedCommand " + base64.b64encode(script.encode("utf-16-le")).decode()


def manifest(script: str, arguments: dict[str, Any], *before: dict[str, Any]) -> bytes:
    action = {
        "name": "module_wrapper.ps1",
        "params": {
            "Script": script,
            "ForModule": True,
            "Environment": {},
            "Variables": [{"Name": "complex_args", "Value": arguments}],
        },
    }
    return b"{}" + SEPARATOR + json.dumps({"actions": [*before, action]}).encode()


def module(shell: PowerShell, name: str, arguments: dict[str, Any], *before: dict[str, Any]) -> dict[str, Any]:
    script = f"ansible_collections.ansible.windows.plugins.modules.{name}.ps1"
    out, _, _ = shell.run(encoded("bootstrap"), manifest(script, arguments, *before))
    return dict(json.loads(out))


@pytest.mark.trap("payload")
def test_a_module(shell: PowerShell) -> None:
    assert module(shell, "win_ping", {"data": "x", "_ansible_check_mode": False})["ping"] == "x"
    row = json.loads(shell.journal.read_text())
    assert (row["module"], row["arguments"]) == ("ansible.windows.win_ping", {"data": "x"})


@pytest.mark.trap("stand-in")
@pytest.mark.parametrize("name", ["win_shell", "win_powershell", "win_scheduled_task"])
def test_a_module_without_a_stand_in_fails(shell: PowerShell, name: str) -> None:
    answer = module(shell, name, {})
    assert answer["failed"]
    assert "has no stand-in" in answer["msg"]


@pytest.mark.trap("stand-in")
def test_an_unknown_option_fails(shell: PowerShell) -> None:
    assert "Unsupported parameters" in module(shell, "win_ping", {"dat": "x"})["msg"]


@pytest.mark.trap("payload")
def test_an_unknown_way_of_running_a_module_is_refused(shell: PowerShell) -> None:
    out, error, status = shell.run(encoded("x"), manifest("a.ps1", {}, {"name": "coverage_wrapper.ps1", "params": {}}))
    assert (out, status) == (b"", REFUSED)
    assert b"coverage_wrapper.ps1" in error


def test_no_log_hides_arguments(shell: PowerShell) -> None:
    module(shell, "win_ping", {"data": "secret", "_ansible_no_log": True})
    assert "secret" not in shell.journal.read_text()


@pytest.mark.trap("wine-powershell")
@pytest.mark.parametrize(
    "line",
    [
        encoded("Get-Service"),
        encoded("Remove-Item 'C:\\tmp' -Force; Get-Service"),
        encoded("Set-StrictMode -Version Latest\nRemove-Item 'C:\\tmp'; rm 'C:\\x' -Force"),
        "powershell -Command exit 5",
        "cmd /c pwsh -File x.ps1",
        encoded("x")[:-3] + "!!!",
    ],
)
def test_other_powershell_is_refused(shell: PowerShell, line: str) -> None:
    out, error, status = shell.run(line, b"")
    assert (out, status) == (b"", REFUSED)
    assert error
    assert "refused" in shell.journal.read_text()


def test_temporary_files_are_removed(shell: PowerShell) -> None:
    place = shell.wine.drive_c / "tmp/o'ne"
    place.mkdir()
    script = "Set-StrictMode -Version Latest\nRemove-Item 'C:\\tmp\\o''ne' -Force -Recurse;\n"
    script += "If (-not $?) { If (Get-Variable LASTEXITCODE -ErrorAction SilentlyContinue) { exit $LASTEXITCODE } }"
    assert shell.run(encoded(script), b"") == (b"", b"", 0)
    assert not place.exists()


def test_the_time_of_the_last_boot(shell: PowerShell) -> None:
    script = "(Get-CimInstance -ClassName Win32_OperatingSystem -Property LastBootUpTime).LastBootUpTime.ToFileTime()"
    out, _, _ = shell.run(encoded(script), b"")
    # 2023-11-14 22:13:20.5 UTC as Windows counts it.
    assert int(out) == 133444736005000000


def test_files_come_in_pieces_and_go_back(shell: PowerShell) -> None:
    def action(name: str, **given: Any) -> bytes:
        return b"{}" + SEPARATOR + json.dumps({"actions": [{"name": name, "params": given}]}).encode()

    lines = b"\n".join(base64.b64encode(one) for one in (b"ab", b"c"))
    out, _, _ = shell.run(encoded("x"), action("winrm_put_file.ps1", Path="C:\\tmp\\x") + SEPARATOR + lines)
    assert json.loads(out)["sha1"] == "a9993e364706816aba3e25717850c26c9cd0d89d"
    out, _, _ = shell.run(encoded("x"), action("winrm_fetch_file.ps1", Path="C:\\TMP\\X", Offset=1, BufferSize=9))
    assert base64.b64decode(out) == b"bc"
    assert (
        shell.run(encoded("x"), action("winrm_fetch_file.ps1", Path="C:\\tmp", Offset=0, BufferSize=9))[0] == b"[DIR]"
    )
    assert shell.run(encoded("x"), action("winrm_fetch_file.ps1", Path="C:\\no", Offset=0, BufferSize=9))[2] == 1


def test_an_unknown_user_cannot_be_become(shell: PowerShell) -> None:
    become = {"name": "become_wrapper.ps1", "params": {"BecomeUser": "nobody"}}
    assert "1326" in module(shell, "win_ping", {}, become)["msg"]
    become["params"] = {"BecomeUser": "SYSTEM"}
    assert module(shell, "win_ping", {}, become)["ping"] == "pong"


def test_a_job_that_outlives_its_machine_writes_nothing(shell: PowerShell) -> None:
    from lab.windows.modules import Context

    context = Context(shell.wine, shell.machine, variables={})
    import threading

    gate, over = threading.Event(), threading.Event()

    def work() -> dict[str, Any]:
        gate.wait()
        over.set()
        return {"rc": 0}

    job = {"AsyncDir": "C:\\jobs", "AsyncJid": "j1"}
    first = shell.begin(job, 60, work, context)
    shell.rebooted(shell.machine)
    gate.set()
    assert over.wait(10)
    kept = json.loads(shell.wine.path(first["results_file"]).read_text())
    assert kept["finished"] is False
