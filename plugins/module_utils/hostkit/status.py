"""Verb ``status``: what runs on this host, since when, and how it is. A look; changes nothing.

Request: ``units`` (names of the planned services), ``workers`` (of each model worker's name its ``url`` and
``models``), ``controller`` (its address). Answer (``data``): ``at`` and ``units``, a row for each planned service and
for each other that is there: ``planned``, ``active``, ``sub``, ``result``, ``since``, ``for_s``, ``restarts``, ``pid``,
``memory_mib`` (of the whole service, page cache included), ``rss_mib``, ``cpu_s``, ``gpu_mib``, ``last_error``, and
for workers that answer ``queue`` and ``registered``. What systemd does not know is null.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Optional

from hostkit import journal, nssm, place, seen, workers
from hostkit.result import Problem, Result

PREFIX = "labwright-"
# Of agents: their programs, the keeper of the sandbox and its boxes, each for as long as it runs; no services.
PASSING = re.compile(r"labwright-(agent-[0-9]+|box-.+|sandbox@.*)")
PROPERTIES = (
    *("Id", "LoadState", "ActiveState", "SubState", "Result", "NRestarts", "MainPID", "MemoryCurrent", "CPUUsageNSec"),
    *("ActiveEnterTimestampMonotonic", "StateChangeTimestampMonotonic", "ControlGroup"),
)
LINES = 1000  # of each journal, looked through for the last error
UNKNOWN = 1 << 63  # systemd says this much for what it does not count
PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def run(request: dict[str, Any], _check: bool) -> Result:
    """Look at each."""
    if place.windows():
        return on_windows(request)
    names = list(dict.fromkeys([*request["units"], *there()]))
    shown = show(names)
    cards = gpu_memory()
    units = {}
    for name in names:
        found = shown.get(name, {})
        pids = processes(found.get("ControlGroup", ""))
        units[name] = {
            "planned": name in request["units"],
            **state(found),
            "rss_mib": rss_mib(pids) if pids else None,
            "gpu_mib": sum(cards.get(pid, 0) for pid in pids) if cards is not None else None,
            "last_error": journal.last_error(name, LINES),
            **(asked(request, name) if name in request["workers"] else {}),
        }
    data = {"at": journal.when(time.time()), "units": units}
    active = sum(one["active"] == "active" for one in units.values())
    return Result(message=f"{active} of {len(units)} services are active", data=data)


def on_windows(request: dict[str, Any]) -> Result:
    """The same, as far as NSSM and Windows' own programs say it."""
    cards = gpu_memory()
    units = {}
    for name in dict.fromkeys([*request["units"], *nssm.names()]):
        found = seen.row(name)
        pids = found.pop("pids")
        more = asked(request, name) if name in request["workers"] else {}
        gpu = sum(cards.get(pid, 0) for pid in pids) if cards is not None else None
        units[name] = {"planned": name in request["units"], **found, "gpu_mib": gpu, **more}
    active = sum(one["active"] == "active" for one in units.values())
    data = {"at": journal.when(time.time()), "units": units}
    return Result(message=f"{active} of {len(units)} services are active", data=data)


def there() -> list[str]:
    """Services of the lab that systemd has a file of, or that run without one."""
    found = []
    for what in ("list-unit-files", "list-units"):
        argv = ["systemctl", what, "--all", "--plain", "--no-legend", "--no-pager", f"{PREFIX}*.service"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        found += [line.split()[0] for line in done.stdout.splitlines() if line.split()]
    names = {name[: -len(".service")] for name in found if name.endswith(".service")}
    return sorted(name for name in names if not PASSING.fullmatch(name))


def show(names: list[str]) -> dict[str, dict[str, str]]:
    """systemd's properties of each service."""
    argv = [
        "systemctl",
        "show",
        "--no-pager",
        f"--property={','.join(PROPERTIES)}",
        *(f"{one}.service" for one in names),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if names and not done.stdout.strip():
        words = f"systemctl says nothing about the services: {done.stderr.strip() or done.returncode}"
        raise Problem("LW-STATUS-001", f"{words}. Expected systemd to run on this host; look at it there.")
    blocks = [
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in done.stdout.split("\n\n")
    ]
    return {block["Id"][: -len(".service")]: block for block in blocks if "Id" in block}


def state(found: dict[str, str]) -> dict[str, Any]:
    """What systemd says, in our words."""
    active = found.get("ActiveState", "unknown")
    key = "ActiveEnterTimestampMonotonic" if active in ("active", "reloading") else "StateChangeTimestampMonotonic"
    entered = number(found.get(key, "")) or 0
    ago = time.clock_gettime(time.CLOCK_MONOTONIC) - entered / 1e6
    memory, cpu = number(found.get("MemoryCurrent", "")), number(found.get("CPUUsageNSec", ""))
    loaded = found.get("LoadState", "not-found") == "loaded"
    return {
        "active": active if loaded else "not there",
        "sub": found.get("SubState", "") if loaded else "",
        "result": found.get("Result", "") if loaded else "",
        "since": journal.when(time.time() - ago) if entered else "",
        "for_s": round(ago) if entered else None,
        "restarts": number(found.get("NRestarts", "")),
        "pid": number(found.get("MainPID", "")) or None,
        "memory_mib": round(memory / (1 << 20), 1) if memory is not None else None,
        "cpu_s": round(cpu / 1e9, 1) if cpu is not None else None,
    }


def number(text: str) -> Optional[int]:
    """A number of systemd's; None where it knows none."""
    return int(text) if re.fullmatch(r"[0-9]+", text) and int(text) < UNKNOWN else None


def processes(group: str) -> list[int]:
    """The processes of a control group."""
    try:
        lines = (CGROUP / group.strip("/") / "cgroup.procs").read_text(encoding="ascii").split() if group else []
    except OSError:
        return []
    return [int(one) for one in lines]


def rss_mib(pids: list[int]) -> float:
    """Memory that processes have in use, what they share counted for each."""
    total = 0
    for pid in pids:
        try:
            text = (PROC / str(pid) / "status").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        total += int(found[1]) if (found := re.search(r"^VmRSS:\s+([0-9]+) kB", text, re.M)) else 0
    return round(total / 1024, 1)


def gpu_memory() -> Optional[dict[int, int]]:
    """GPU memory of each process in MiB; None where there is no nvidia-smi, or it has nothing to say."""
    if not shutil.which("nvidia-smi"):
        return None
    argv = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        return None
    found: dict[int, int] = {}
    for pid, used in re.findall(r"^\s*([0-9]+)\s*,\s*([0-9]+)\s*$", done.stdout, re.M):
        found[int(pid)] = found.get(int(pid), 0) + int(used)
    return found


def asked(request: dict[str, Any], name: str) -> dict[str, Any]:
    """What a worker says of itself, and its controller of it."""
    worker = request["workers"][name]
    try:
        status = workers.post(worker["url"], "/worker_get_status")
        row = {"serves": list(status["model_names"]), "queue": int(status["queue_length"])}
    except (workers.NoAnswerError, LookupError, TypeError, ValueError) as error:
        return {"serves": [], "queue": None, "registered": None, "said": str(error)}
    try:
        return {**row, "registered": workers.known(request["controller"], worker["url"], status), "said": ""}
    except (workers.NoAnswerError, LookupError, TypeError) as error:
        return {**row, "registered": None, "said": str(error)}
