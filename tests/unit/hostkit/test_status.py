"""hostkit status and logs: what systemd and the journal say, in our words; nothing secret, nothing endless."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from hostkit import journal as journal_module
from hostkit import logs, status
from hostkit.result import Problem
from unit.hostkit.fakes import Programs, journal
from unit.hostkit.loopback import Loopback, free_port, says

API, WORKER = "labwright-api", "labwright-worker-demo"
KEY = "lw-HiddenHiddenHiddenHidden"


def shown(name: str, **more: Any) -> str:
    now = time.clock_gettime(time.CLOCK_MONOTONIC)
    plain = {
        "Id": f"{name}.service",
        "LoadState": "loaded",
        "ActiveState": "active",
        "SubState": "running",
        "Result": "success",
        "NRestarts": "2",
        "MainPID": "11",
        "MemoryCurrent": str(300 << 20),
        "CPUUsageNSec": "7250000000",
        "ControlGroup": f"/system.slice/{name}.service",
        "ActiveEnterTimestampMonotonic": str(int((now - 100) * 1e6)),
        "StateChangeTimestampMonotonic": str(int((now - 40) * 1e6)),
    }
    return "".join(f"{key}={value}\n" for key, value in (plain | more).items())


@pytest.fixture
def host(programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """A host with an API and a worker, two processes each."""
    monkeypatch.setattr("time.clock_gettime", lambda _clock: 1000.0)
    programs.says("systemctl")
    programs.says("systemctl", f"{API}.service loaded active running FastChat\n{WORKER}.service x\n", when="list-units")
    programs.says("systemctl", f"{shown(API)}\n{shown(WORKER)}", when="show")
    programs.says("journalctl")
    monkeypatch.setattr(status, "PROC", tmp_path / "proc")
    monkeypatch.setattr(status, "CGROUP", tmp_path / "cgroup")
    for name, pids in ((API, (11, 12)), (WORKER, (21, 22))):
        folder = tmp_path / "cgroup" / "system.slice" / f"{name}.service"
        folder.mkdir(parents=True)
        (folder / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
        for pid in pids:
            (tmp_path / "proc" / str(pid)).mkdir(parents=True)
            (tmp_path / "proc" / str(pid) / "status").write_text(f"Name:\tpython\nVmRSS:\t   {pid * 1024} kB\n")
    return programs


def look(*planned: str, workers: Any = None, controller: str = "") -> dict[str, Any]:
    request = {"units": list(planned), "workers": workers or {}, "controller": controller}
    result = status.run(request, False)
    assert not result.changed
    units: dict[str, Any] = result.data["units"]
    return units


def test_a_service_that_runs(host: Programs) -> None:
    row = look(API)[API]
    assert (row["active"], row["sub"], row["restarts"], row["pid"]) == ("active", "running", 2, 11)
    assert (row["memory_mib"], row["rss_mib"], row["cpu_s"], row["planned"]) == (300.0, 23.0, 7.2, True)
    assert row["for_s"] == 100  # since it became active, not since it last changed
    assert row["since"].endswith("Z")
    assert (row["gpu_mib"], row["last_error"]) == (None, {})


def test_what_nobody_planned_is_there_and_what_is_planned_and_not_there_too(host: Programs) -> None:
    gone = shown("labwright-gateway", LoadState="not-found", ActiveState="inactive", SubState="dead")
    host.says("systemctl", f"{shown(API)}\n{shown(WORKER)}\n{gone}", when="show")
    passing = ("agent-4711", "sandbox@", "sandbox@0-12-998", "box-0-12-998")
    lines = "".join(f"labwright-{one}.service x\n" for one in passing)
    host.says("systemctl", lines, when="list-unit-files")
    found = look(API, "labwright-gateway")
    assert {name: row["planned"] for name, row in found.items()} == {
        API: True,
        "labwright-gateway": True,
        WORKER: False,
    }
    assert found["labwright-gateway"]["active"] == "not there"


def test_what_systemd_does_not_count_is_not_known(host: Programs) -> None:
    more = {"MemoryCurrent": "[not set]", "CPUUsageNSec": str((1 << 64) - 1), "MainPID": "0", "ControlGroup": ""}
    text = shown(API, ActiveState="failed", SubState="failed", Result="exit-code", **more)
    host.says("systemctl", text, when="show")
    row = look(API)[API]
    assert [row[key] for key in ("memory_mib", "cpu_s", "pid", "rss_mib")] == [None] * 4
    assert (row["active"], row["result"]) == ("failed", "exit-code")
    assert row["for_s"] == 40


def test_gpu_memory_is_that_of_the_services_own_processes(host: Programs) -> None:
    host.says("nvidia-smi", "21, 5000\n22, 300\n99, 7000\n21, 500\n23, [N/A]\n")
    found = look(API, WORKER)
    assert (found[API]["gpu_mib"], found[WORKER]["gpu_mib"]) == (0, 5800)
    host.says("nvidia-smi", "Failed to initialize NVML", status=9)
    assert look(WORKER)[WORKER]["gpu_mib"] is None


def test_a_worker_says_what_it_serves_and_its_controller_whether_it_knows_it(host: Programs, server: Loopback) -> None:
    server.answers["/worker_get_status"] = says({"model_names": ["m"], "speed": 1, "queue_length": 3})
    server.answers["/receive_heart_beat"] = says({"exist": False})
    mine = {WORKER: {"url": server.url, "models": ["m"]}}
    row = look(WORKER, workers=mine, controller=server.url)[WORKER]
    assert (row["serves"], row["queue"], row["registered"]) == (["m"], 3, False)
    away = f"http://127.0.0.1:{free_port()}"
    row = look(WORKER, workers=mine, controller=away)[WORKER]
    assert (row["queue"], row["registered"], row["said"]) == (3, None, f"nothing listens at {away}; is its service up?")
    row = look(WORKER, workers={WORKER: {"url": away, "models": ["m"]}}, controller=server.url)[WORKER]
    assert (row["serves"], row["queue"], row["registered"]) == ([], None, None)


def test_without_systemd(host: Programs) -> None:
    host.says("systemctl", status=1, error="System has not been booted with systemd", when="show")
    with pytest.raises(Problem, match=r"LW-STATUS-001: .*not been booted.*Expected systemd"):
        look(API)


# --- the last error ---------------------------------------------------------------------------------------------------


def at(second: int, message: Any, **more: str) -> dict[str, Any]:
    return {"__REALTIME_TIMESTAMP": str((1795406000 + second) * 1_000_000), "MESSAGE": message, **more}


def test_the_last_error_is_the_newest_of_both_kinds_without_its_secrets(host: Programs) -> None:
    rows = [at(9, "fine"), at(8, f"LW-PROBE-002: out of memory, key {KEY}"), at(7, "LW-PROBE-001: port")]
    host.says("journalctl", journal(*rows))
    host.says("journalctl", when="--priority=3")
    assert look(API)[API]["last_error"] == {
        "at": "2026-11-23T03:53:28Z",
        "text": "LW-PROBE-002: out of memory, key lw-***",
    }
    host.says("journalctl", journal(at(20, "Failed to start.", PRIORITY="3")), when="--priority=3")
    assert look(API)[API]["last_error"]["text"] == "Failed to start."
    assert any(
        "--namespace=+labwright" in call and f"--unit={API}.service" in call for call in host.calls("journalctl")
    )


@pytest.mark.parametrize(
    ("message", "more", "kind"),
    [
        ("LW-PROBE-001: nothing listens", {}, "LW-PROBE-001"),
        ("requests.exceptions.ConnectionError: refused", {}, "ConnectionError"),
        ("2026-11-23 04:08:17 | ERROR | stderr | KeyError: 'x'", {}, "KeyError"),
        ("2026-11-23 04:08:17 | ERROR | controller | Get status fails: x", {}, "ERROR"),
        ("2026-11-23 04:08:17 | ERROR | stderr | INFO:     Application startup complete.", {}, ""),
        ("2026-11-23 04:08:17 | ERROR | stderr | ERROR:    Exception in ASGI application", {}, "ERROR"),
        ('INFO: 127.0.0.1:1 - "POST /v1/chat/completions HTTP/1.1" 500 Internal Server Error', {}, "HTTP 500"),
        ('INFO: 127.0.0.1:1 - "POST /v1/chat/completions HTTP/1.1" 200 OK', {}, ""),
        ("2026/11/23 [error] 12#12: upstream timed out", {}, "nginx error"),
        ("Failed to start it.", {"PRIORITY": "3"}, "systemd"),
        ("a line about no error", {}, ""),
        ([76, 87, 45, 80, 255], {}, ""),
        (None, {}, ""),
    ],
)
def test_kinds_of_errors(message: Any, more: dict[str, str], kind: str) -> None:
    assert journal_module.entry(json.loads(journal(at(1, message, **more)))).kind == kind


# --- logs -------------------------------------------------------------------------------------------------------------


def collect(**more: Any) -> dict[str, Any]:
    result = logs.run({"since": "2 hours ago", "lines": 100, "bytes": 1 << 20, **more}, False)
    assert not result.changed
    return result.data


def test_logs_by_service_oldest_first_with_kinds(programs: Programs) -> None:
    rows = [
        at(5, "again", UNIT="gave-up-labwright-api.service", _SYSTEMD_UNIT="init.scope"),
        at(4, "KeyError: 'x'"),
        at(3, "of code", _SYSTEMD_UNIT="labwright-agent-12.service"),
        at(2, "LW-PROBE-001: taken\nby squatter"),
        at(1, "KeyError: 'y'"),
        at(0, "of code", _SYSTEMD_UNIT="labwright-sandbox@3-7-998.service"),
    ]
    programs.says("journalctl", journal(*rows))
    found = collect()
    assert found["cut"] == ""
    assert list(found["units"]) == ["labwright-agent", API]
    mine = found["units"][API]
    assert mine["text"].splitlines() == [
        "2026-11-23T03:53:21Z KeyError: 'y'",
        "2026-11-23T03:53:22Z LW-PROBE-001: taken",
        "2026-11-23T03:53:22Z by squatter",
        "2026-11-23T03:53:24Z KeyError: 'x'",
        "2026-11-23T03:53:25Z again",
    ]
    assert (mine["lines"], mine["kinds"]) == (5, {"KeyError": 2, "LW-PROBE-001": 1})
    assert mine["last_error"] == {"at": "2026-11-23T03:53:24Z", "text": "KeyError: 'x'"}
    call = programs.calls("journalctl")[-1]
    assert "--since=2 hours ago" in call
    assert "--unit=labwright-*.service" in call


def test_secrets_never_leave_the_host_not_even_a_key_in_many_lines(programs: Programs) -> None:
    lines = [
        "-----BEGIN RSA PRIVATE KEY-----",
        "SGlkZGVuSGlkZGVu",
        "SGlkZGVu",
        "-----END RSA PRIVATE KEY-----",
        "after",
    ]
    rows = [at(9 - number, line) for number, line in enumerate(reversed(lines))]
    programs.says("journalctl", journal(*rows, at(1, f"KeyError: 'Bearer {KEY}'"), at(0, "http://me:Hidden@x/")))
    found = collect()
    assert "Hidden" not in json.dumps(found)
    assert "SGlk" not in json.dumps(found)
    assert found["units"][API]["lines"] == 7
    assert found["units"][API]["text"].splitlines()[-1].endswith(" after")


@pytest.mark.parametrize(
    ("more", "kept", "expected"),
    [({"lines": 10}, 10, "only the newest 10 lines; from "), ({"bytes": 2048}, 51, "only the newest 2 KiB; from ")],
)
def test_the_newest_are_kept_and_what_is_cut_is_said(
    programs: Programs, more: dict[str, int], kept: int, expected: str
) -> None:
    programs.says("journalctl", journal(*(at(1000 - one, f"line {one:05}") for one in range(1000))))
    found = collect(**more)
    assert found["cut"].startswith(expected)
    assert found["units"][API]["lines"] == kept
    assert found["units"][API]["text"].splitlines()[-1].endswith("line 00000")


def test_a_time_that_journalctl_does_not_know(programs: Programs) -> None:
    programs.says("journalctl", status=1, error="Failed to parse timestamp: soon")
    with pytest.raises(Problem, match=r"LW-LOGS-002: .*--since=soon.*Expected a time; set it with -e 'logs_since"):
        collect(since="soon")


def test_nothing_said_and_no_journal(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    programs.says("journalctl")
    assert collect() == {"units": {}, "cut": ""}
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Problem, match="LW-LOGS-001: there is no journalctl"):
        collect()
