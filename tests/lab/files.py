"""The lab's file server as a background process: started, recognised, stopped."""

from __future__ import annotations

import http.client
import importlib.util
import ipaddress
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from .errors import LabError
from .settings import HERE, Settings, locked, write_if_changed

START_SECONDS = 20
STOP_SECONDS = 10
PROGRAM = "file_server.py"


@dataclass(frozen=True)
class Server:
    """A server that was started. ``born`` is the kernel's start time of the process: a pid alone may be another's."""

    pid: int
    born: int
    folder: str
    address: str
    port: int
    identity: str


def born(pid: int) -> int | None:
    """Return the start time of a process in clock ticks since boot, or None where there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in parentheses may hold anything; field 3, the state, comes after the last one, field 22 is the start.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


def is_ours(server: Server) -> bool:
    """Return whether the process that was started is still that process."""
    return born(server.pid) == server.born


def answers(server: Server, seconds: float = 10) -> bool:
    """Return whether the server at the address is the one that was started."""
    connection = http.client.HTTPConnection(server.address, server.port, timeout=seconds)
    try:
        connection.request("GET", "/.labwright")
        response = connection.getresponse()
        return response.status == 200 and response.read().decode(errors="replace") == server.identity
    except OSError:
        return False
    finally:
        connection.close()


def state_file(settings: Settings, lab: str) -> Path:
    """Return where the started server is written down."""
    return settings.lab(lab) / "files.json"


def recorded(settings: Settings, lab: str) -> Server | None:
    """Read the server that was started for a lab, running or not."""
    try:
        return Server(**json.loads(state_file(settings, lab).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def end(server: Server) -> None:
    """Stop the server if the process is still ours."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + STOP_SECONDS
        while is_ours(server) and time.monotonic() < deadline:
            try:
                os.kill(server.pid, number)
            except ProcessLookupError:
                return
            time.sleep(0.1)


def running(address: str) -> list[Server]:
    """Find the servers at an address, whichever checkout started them: it may be gone, and they are not."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().decode(errors="replace").split("\0")[:-1]
        except OSError:
            continue
        pid = int(file.parent.name)
        started = born(pid)
        if len(words) == 6 and Path(words[1]).name == PROGRAM and words[3] == address and started is not None:
            found.append(Server(pid, started, words[2], address, int(words[4]), words[5]))
    return found


def end_all(address: str) -> None:
    """Stop every server at an address."""
    for server in running(address):
        end(server)


def stop(settings: Settings, lab: str) -> bool:
    """Stop a lab's server, if there is one; returns whether one was running."""
    server = recorded(settings, lab)
    running = server is not None and is_ours(server)
    if server is not None:
        end(server)
    state_file(settings, lab).unlink(missing_ok=True)
    return running


def check_wish(settings: Settings, lab: str, address: str, port: int, folder: Path) -> None:
    """Raise where the server cannot be started as asked: LW-LAB-050 to 053."""
    if not folder.is_dir():
        raise LabError("LW-LAB-050", f"{folder} is to be served, and it is not a folder; make it first")
    absent = [name for name in ("uvicorn", "starlette") if importlib.util.find_spec(name) is None]
    if absent:
        raise LabError(
            "LW-LAB-051",
            f"{sys.executable} has no {' and no '.join(absent)}; run lab.py with the control node's Python, "
            ".venv/bin/python",
        )
    if not (settings.lab(lab) / "known_hosts").exists():
        raise LabError("LW-LAB-052", f"the lab {lab} is not up; run lab.py up --lab {lab} first")
    if not 0 < port < 65536:
        raise LabError("LW-LAB-053", f"--port {port}: a number from 1 to 65535 was expected")
    try:
        parsed = ipaddress.IPv4Address(address)
    except ValueError:
        raise LabError("LW-LAB-053", f"--bind {address!r} is not an IPv4 address; give the lab's gateway") from None
    if not parsed.is_private or parsed.is_unspecified:
        raise LabError("LW-LAB-053", f"--bind {address}: the lab's gateway was expected, a private address")


def start(settings: Settings, lab: str, address: str, port: int, folder: Path) -> Server:
    """Start the server, away from this terminal and this process; raises LW-LAB-054 where it does not answer."""
    log = settings.lab(lab) / "files.log"
    identity = secrets.token_hex(16)
    command = [sys.executable, str(HERE / PROGRAM), str(folder), address, str(port), identity]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
        )
    server = Server(process.pid, born(process.pid) or 0, str(folder), address, port, identity)
    write_if_changed(state_file(settings, lab), json.dumps(asdict(server), indent=2) + "\n", 0o600)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if answers(server, 1):
            return server
        time.sleep(0.1)
    end(server)
    said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    raise LabError(
        "LW-LAB-054",
        f"the file server of {lab} did not come up on {address}:{port}; its last word: "
        f"{said[-1] if said else 'none'} (all of it: {log})",
    )


def serve(settings: Settings, lab: str, address: str, port: int, folder: Path) -> bool:
    """See that a server of this folder answers at this address; returns whether one had to be started."""
    folder = folder.resolve()
    check_wish(settings, lab, address, port, folder)
    with locked(settings.lock(lab)):
        server = recorded(settings, lab)
        if server is not None:
            wanted = (str(folder), address, port)
            if (server.folder, server.address, server.port) == wanted and is_ours(server) and answers(server):
                return False
            end(server)
        # A run that was cut off may have left another one there; the lab is ours, so its address is.
        for stray in running(address):
            if stray.port == port:
                end(stray)
        start(settings, lab, address, port, folder)
    return True
