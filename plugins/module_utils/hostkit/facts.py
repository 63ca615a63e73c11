"""Verb ``facts``: what the plan must know of a host. Reads, never writes; says what it saw and judges nothing.

Request: ``paths`` (where things will be put), ``now`` (the control node's clock, seconds since 1970; optional). Answer
(``data``): ``system``, ``machine``, ``distribution``, ``version``, ``python``, ``glibc`` (the C library's version, ""
where it is another one), ``cpus``, ``memory_mib``, ``disk`` (free MiB at each path's nearest existing parent),
``present`` (what of ours lies below the paths), ``listening`` (TCP sockets: address, port, unit), ``systemd``
(whether it runs), ``nginx_confined`` (by SELinux), ``clock_skew_s`` (ahead of the control node; with what the request
needed to get here), ``nvidia_smi`` (None where there is no such program; else ``rc``, ``stdout``, ``stderr``,
``fields`` of the query, ``details`` (`-q -x`), ``list`` (`-L`) and ``owners``, the unit of each process on a GPU).
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

from hostkit.result import Result
from hostkit.state import STAMP

GPU_FIELDS = "index,uuid,name,memory.total,memory.used,driver_version,compute_cap,mig.mode.current,ecc.mode.current"
LISTEN = "0A"  # the state TCP_LISTEN in /proc/net/tcp


def run(request: dict[str, Any], _check: bool) -> Result:
    """Look around."""
    release = os_release(Path("/etc/os-release"))
    return Result(
        data={
            "system": platform.system(),
            "machine": platform.machine(),
            "distribution": release.get("ID", ""),
            "version": release.get("VERSION_ID", ""),
            "python": platform.python_version(),
            "glibc": platform.libc_ver()[1],
            "cpus": os.cpu_count() or 1,
            "memory_mib": memory_mib(),
            "disk": {path: free_mib(Path(path)) for path in request.get("paths", [])},
            "present": present([Path(path) for path in request.get("paths", [])]),
            "listening": listening(Path("/proc")),
            "systemd": Path("/run/systemd/system").is_dir(),
            "nginx_confined": nginx_confined(Path("/")),
            "clock_skew_s": round(time.time() - request["now"], 1) if "now" in request else 0.0,
            "nvidia_smi": nvidia_smi(Path("/proc")),
        }
    )


def os_release(path: Path) -> dict[str, str]:
    """The fields of os-release(5)."""
    if not path.exists():
        return {}
    pairs = re.findall(r'^([A-Z_]+)="?([^"\n]*)"?$', path.read_text(encoding="utf-8"), re.MULTILINE)
    return dict(pairs)


def nginx_confined(root: Path) -> bool:
    """Whether SELinux is enforcing, and for nginx's domain too: `semanage permissive -a httpd_t` leaves a module."""
    try:
        enforcing = (root / "sys/fs/selinux/enforce").read_text(encoding="ascii").strip() == "1"
    except OSError:
        return False
    return enforcing and not list(root.glob("var/lib/selinux/*/active/modules/*/permissive_httpd_t"))


def memory_mib() -> int:
    """Physical memory in MiB; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    except (ValueError, OSError, AttributeError):
        return 0


def free_mib(path: Path) -> int:
    """Free space where ``path`` is, or would be, in MiB."""
    place = next(parent for parent in (path, *path.parents) if parent.exists())
    return shutil.disk_usage(place).free >> 20


def present(paths: list[Path]) -> list[str]:
    """Environments and models below ``paths`` that are stamped: begun, and room was found for them then."""
    found = [stamp.parent for path in paths for kind in ("envs", "models") for stamp in path.glob(f"{kind}/*/{STAMP}")]
    return sorted(str(one) for one in found)


def nvidia_smi(proc: Path) -> dict[str, Any] | None:
    """What nvidia-smi says, unparsed: the control node reads it, the same for both systems."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    fields = GPU_FIELDS.split(",")
    answer = ask_nvidia(program, fields)
    for _again in range(len(fields)):
        # A driver before R510 does not know every field (compute_cap), and says which; it is then asked without.
        unknown = re.search(r'Field "([a-z_.]+)" is not a valid field', answer["stdout"] + answer["stderr"])
        if unknown is None or unknown[1] not in fields:
            break
        fields.remove(unknown[1])
        answer = ask_nvidia(program, fields)
    answer["fields"] = fields
    if answer["rc"] == 0:
        long = said_by([program, "-q", "-x"])
        answer["details"] = long["stdout"] or f"status {long['rc']}: {long['stderr']}"  # never silently nothing
        answer["list"] = said_by([program, "-L"])["stdout"] if "<mig_device>" in answer["details"] else ""
        answer["owners"] = {
            pid: unit_of(proc / pid) for pid in sorted(set(re.findall(r"<pid>(\d+)</pid>", answer["details"])))
        }
    return answer


def ask_nvidia(program: str, fields: list[str]) -> dict[str, Any]:
    """The one query."""
    return said_by([program, f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"])


def said_by(argv: list[str]) -> dict[str, Any]:
    """Status and words of a program; -1 where it cannot be run or does not end."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"rc": -1, "stdout": "", "stderr": str(error)}
    return {"rc": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


def unit_of(process: Path) -> str:
    """The systemd unit of a process, or "" where it is in none, ended meanwhile, or is not ours to read."""
    try:
        unit = re.search(r"/([^/\n]+\.service)", (process / "cgroup").read_text(encoding="utf-8"))
    except OSError:
        return ""
    return unit[1] if unit else ""


def listening(proc: Path) -> list[dict[str, Any]]:
    """Listening TCP sockets with the systemd unit that owns each ("" where it cannot be told)."""
    sockets = []
    for table, width in (("tcp", 8), ("tcp6", 32)):
        path = proc / "net" / table
        if not path.exists():
            continue
        for line in path.read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN:
                address, port = fields[1].split(":")
                sockets.append((numeric(address, width), int(port, 16), fields[9]))
    owners = owners_of({inode for *_rest, inode in sockets}, proc)
    return [{"address": a, "port": p, "unit": owners.get(inode, "")} for a, p, inode in sorted(set(sockets))]


def numeric(text: str, width: int) -> str:
    """An address of /proc/net/tcp (little-endian words in hex) as people write it."""
    raw = b"".join(struct.pack("<I", int(text[i : i + 8], 16)) for i in range(0, width, 8))
    return socket.inet_ntop(socket.AF_INET if width == 8 else socket.AF_INET6, raw)


def target_of(fd: Path) -> str:
    """What an open file of a process is; "" where it was closed meanwhile, as a busy server does all the time."""
    try:
        return str(fd.readlink())
    except OSError:
        return ""


def owners_of(inodes: set[str], proc: Path) -> dict[str, str]:
    """The systemd unit of the process that holds each socket."""
    found: dict[str, str] = {}
    for process in proc.glob("[0-9]*"):
        try:
            held = {target_of(fd) for fd in (process / "fd").iterdir()}
        except OSError:  # ended meanwhile, or not ours to read
            continue
        unit = unit_of(process)
        for inode in inodes:
            if f"socket:[{inode}]" in held:
                found[inode] = unit or process.name
    return found
