"""What one target's processes hold on this machine: sockets that listen, and programs that run."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

LISTEN = {"tcp": "0A", "udp": "07"}
SYSTEM = 4
IMAGES = (".exe", ".dll", ".pyd")


@dataclass(frozen=True)
class Listening:
    """One socket that takes what comes. ``since`` is the start of its process, in seconds since 1970."""

    protocol: str
    address: str
    port: int
    pid: int
    name: str
    since: float
    # The Windows process that this one runs for, where it is one of the Linux side.
    behind: int = 0


def table(protocol: str, text: str) -> dict[str, tuple[str, int]]:
    """Read /proc/net/tcp and its kin (proc(5)): address and port of what listens, by inode."""
    found = {}
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) > 9 and words[3] == LISTEN[protocol.rstrip("6")]:
            address, _, port = words[1].partition(":")
            found[words[9]] = (readable(address), int(port, 16))
    return found


def readable(digits: str) -> str:
    """Return an address of /proc/net as people write it: words of four bytes, each in this machine's order."""
    words = [bytes.fromhex(digits[at : at + 8]) for at in range(0, len(digits), 8)]
    data = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    return str(ipaddress.ip_address(data))


def processes() -> dict[int, tuple[int, str, float]]:
    """Return every process's parent, name and start."""
    booted = time.time() - float(Path("/proc/uptime").read_text().split()[0])
    tick = os.sysconf("SC_CLK_TCK")
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                text = (folder / "stat").read_text()
            except OSError:
                continue
            name = text[text.index("(") + 1 : text.rindex(")")]
            fields = text.rpartition(")")[2].split()
            found[int(folder.name)] = (int(fields[1]), name, booted + int(fields[19]) / tick)
    return found


def variable(pid: int, name: str) -> str:
    """Return a variable that a process was started with, or an empty text."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return ""
    match = re.search(rb"(?:^|\0)" + name.encode() + rb"=([^\0]*)", environment)
    return match[1].decode() if match else ""


def belonging(prefix: Path, helpers: Collection[int]) -> dict[int, tuple[int, str, float]]:
    """Return the processes of a target: Wine's in this prefix, the helpers, and what those started."""
    every = processes()
    own = {pid for pid in every if pid in helpers or variable(pid, "WINEPREFIX") == str(prefix)}
    while more := {pid for pid, (parent, _, _) in every.items() if parent in own} - own:
        own |= more
    return {pid: every[pid] for pid in own}


def inodes(pid: int) -> Iterable[str]:
    """Yield the sockets that a process holds."""
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            match = re.fullmatch(r"socket:\[(\d+)\]", str(entry.readlink()))
            if match:
                yield match[1]
    except OSError:
        return


def held(prefix: Path, helpers: Collection[int]) -> set[Path]:
    """Return the programs and libraries that a target's processes run from; wineserver keeps them open."""
    found = set()
    for pid in belonging(prefix, helpers):
        try:
            links = [entry.readlink() for entry in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue
        found |= {link for link in links if link.suffix.lower() in IMAGES}
    return found


def listening(prefix: Path, helpers: Collection[int], ports: Collection[int], booted: float) -> list[Listening]:
    """Return what a target listens on. Its WinRM (``ports``) is the system's, as on Windows.

    What the helpers themselves listen on is how they are reached from inside, and no door of the machine.
    """
    tables = {name: table(name, Path(f"/proc/net/{name}").read_text()) for name in ("tcp", "tcp6", "udp", "udp6")}
    own = belonging(prefix, helpers)
    own = {pid: about for pid, about in own.items() if pid not in helpers}
    found: dict[tuple[str, str, int], Listening] = {}
    for pid, (_, name, since) in sorted(own.items(), reverse=True):
        for inode in inodes(pid):
            for protocol, rows in tables.items():
                if inode in rows:
                    address, port = rows[inode]
                    kind = protocol.rstrip("6")
                    # wineserver holds a copy of each socket; the process that opened it comes last, by its number.
                    if not name.startswith("wineserver") or (kind, address, port) not in found:
                        behind = int(variable(pid, "LABWRIGHT_WINDOWS_PID") or 0)
                        found[kind, address, port] = Listening(kind, address, port, pid, name, since, behind)
    for address, port in tables["tcp"].values():
        if port in ports:
            found["tcp", address, port] = Listening("tcp", address, port, SYSTEM, "System", booted)
    return sorted(found.values(), key=lambda one: (one.protocol, one.port, one.address))
