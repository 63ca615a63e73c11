"""Services of a Windows host as the verbs probe, status, logs and restart see them: by NSSM, and by their log files.

NSSM does not say since when a service runs, nor how often it was restarted; that is null here. Each line of a log
begins with its moment (UTC), which NSSM puts there.
"""

from __future__ import annotations

import calendar
import csv
import re
import subprocess
import time
from pathlib import Path
from typing import Any, Optional

from hostkit import causes, journal, nssm, registry
from hostkit.causes import Fault
from hostkit.journal import Entry
from hostkit.mask import mask
from hostkit.result import Problem

STAMP = re.compile(r"^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)\.(\d{3}): ")
# What systemd would call it.
ACTIVE = {
    "SERVICE_RUNNING": "active",
    "SERVICE_START_PENDING": "activating",
    "SERVICE_STOP_PENDING": "deactivating",
    "SERVICE_STOPPED": "inactive",
    "SERVICE_PAUSED": "failed",
}
PROCESS = re.compile(r"^\s*(\d+) +\S", re.M)
MEMORY = 4  # the column of tasklist


def logs_of(name: str) -> Path:
    """The folder of all logs, as the service itself is set."""
    found = registry.read(f"{nssm.SERVICES}\\{name}\\Parameters") or {}
    return Path(str(found.get("AppStdout", ""))).parent.parent


def lines_of(name: str, most: int = 200) -> list[str]:
    """The end of its log, without the moments."""
    return [STAMP.sub("", line) for line in nssm.last_words(logs_of(name), name, most)]


def given_up(name: str) -> bool:
    """Whether the verb pace let it stay down."""
    return any("LW-SERVICE-003" in line for line in lines_of(name, 5))


def unit(name: str, last_words: Any) -> str:
    """As the probe of that kind: a service runs; else why not, in its own words."""
    now = nssm.state(name)
    if not now:
        raise Fault("LW-PROBE-039", f"{name} is not installed on this host")
    text = f"{name} is {now}"
    if now == "SERVICE_RUNNING":
        return text
    lines = lines_of(name)
    last = last_words(lines)
    cause = causes.of_words(last) or ("LW-PROBE-023" if "address already in use" in last.lower() else "")
    if now == "SERVICE_PAUSED":
        text += "; it ends right after each start, and NSSM waits longer before each next one"
    if given_up(name):
        text, cause = f"{text}; it was given up", "LW-PROBE-031"
    see = f"; see {logs_of(name) / name} there"
    raise Fault(cause, text + (f"; last words: {last}" if last else "; it said nothing") + see)


def processes(name: str) -> list[int]:
    """NSSM itself, the program, and what it started."""
    return [int(one) for one in PROCESS.findall(nssm.ask(name, "processes"))]


def rss_mib(pids: list[int]) -> Optional[float]:
    """Memory that the program and its children have in use; None where tasklist does not know."""
    done = subprocess.run(["tasklist.exe", "/fo", "csv", "/nh"], capture_output=True, check=False)
    rows = csv.reader(done.stdout.decode("utf-8", "replace").splitlines())
    kib = [int(re.sub(r"\D", "", row[MEMORY]) or 0) for row in rows if len(row) > MEMORY and row[1] in map(str, pids)]
    return round(sum(kib) / 1024, 1) if kib else None


def row(name: str) -> dict[str, Any]:
    """What the verb status says of a service, but for the GPU and what is asked of the program itself."""
    now = nssm.state(name)
    pids = processes(name)[1:] if now == "SERVICE_RUNNING" else []
    active = ACTIVE.get(now, now.lower()) if now else "not there"
    if now == "SERVICE_STOPPED" and given_up(name):
        active = "failed"
    errors = [one for one in entries(logs_of(name), name) if one.kind] if now else []
    return {
        "active": active,
        "sub": now,
        "result": "",
        "since": "",
        "for_s": None,
        "restarts": None,
        "pid": pids[0] if pids else None,
        "memory_mib": None,
        "cpu_s": None,
        "rss_mib": rss_mib(pids) if pids else None,
        "pids": pids,
        "last_error": {"at": errors[-1].moment, "text": mask(errors[-1].text.strip())[:500]} if errors else {},
    }


def entries(logs: Path, name: str) -> list[Entry]:
    """The lines of a service's log, oldest first; one without a moment has that of the line before it."""
    found: list[Entry] = []
    at = 0
    for path in reversed(nssm.files_of_log(logs, name)):
        try:
            text = path.read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        for line in text.splitlines():
            stamp = STAMP.match(line)
            if stamp:
                seconds = calendar.timegm(time.strptime(f"{stamp[1]} {stamp[2]}", "%Y-%m-%d %H:%M:%S"))
                at = (seconds * 1000 + int(stamp[3])) * 1000
            if line.strip():
                found.append(Entry(at, name, journal.ERROR + 3, STAMP.sub("", line).rstrip()))
    return found


SPANS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}


def moment(since: str) -> float:
    """A time as the verb logs takes it on Linux too: "2 hours ago", "2026-01-31 10:00", "" for ever."""
    if not since:
        return 0.0
    ago = re.fullmatch(r"\s*(\d+)\s*(second|minute|hour|day|week)s?\s+ago\s*", since)
    if ago:
        return time.time() - int(ago[1]) * SPANS[ago[2]]
    for form in ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d"):
        try:
            return float(calendar.timegm(time.strptime(since.strip(), form)))
        except ValueError:
            continue
    words = f"{since!r} is no time that is known here"
    raise Problem("LW-LOGS-002", f"{words}. Expected one; set it with -e 'logs_since=\"2 hours ago\"'.")


def every_entry(since: str) -> list[Entry]:
    """All lines of the lab's services since then, the newest first."""
    begin = moment(since) * 1e6
    found = [one for name in nssm.names() for one in entries(logs_of(name), name) if one.at >= begin]
    return sorted(found, key=lambda one: one.at, reverse=True)


def restart(name: str) -> str:
    """Restart a service; what went wrong, "" where nothing did."""
    if not nssm.state(name):
        return "there is no such service"
    nssm.stop(name)
    nssm.ask(name, "start")
    deadline = time.monotonic() + nssm.PATIENCE_S
    while (now := nssm.state(name)) == "SERVICE_START_PENDING" and time.monotonic() < deadline:
        time.sleep(nssm.EVERY_S)
    return "" if now == "SERVICE_RUNNING" else f"it is {now}; its last words: {' | '.join(lines_of(name, 5))}"
