"""Keeps a privileged container from harming the machine below it.

podman's OCI runtime in the lab is a script of two lines: this program with the runtime's arguments, then the real
runtime with the same. This program rewrites the specification that the arguments speak of:

* no capability that the machine itself lacks is asked for (some machines lack CAP_SYS_RESOURCE, and runtimes fail);
* the capabilities that change what has no namespace are taken away: the clock, kernel modules, raw I/O, the kernel
  log, suspend; from the first process and from every ``exec``, because podman ignores ``--cap-drop`` beside
  ``--privileged``;
* sysctls are read-only but for net.*, which has a namespace and which Docker in the container needs; so are /sys
  and the other files of /proc that speak to the machine;
* of the machine's devices the container gets only those with no hardware behind them: no disk, no clock, no memory
  (a device filter would need CAP_SYS_RESOURCE to load, so a root who makes a disk's node by hand is not stopped);
* a container in the machine's own cgroup namespace, or with a writable bind of its cgroups, is refused.

Standard library only, and fast: it runs at every start and every ``exec``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

Spec = dict[str, Any]

# In the order of the kernel's numbers, linux/capability.h.
CAPABILITIES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
)
FORBIDDEN = frozenset({"SYS_TIME", "SYS_MODULE", "SYS_RAWIO", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND"})
# Of /proc, what is the machine's and not the container's; of /proc/sys everything but net.
READ_ONLY = ("/proc/acpi", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/scsi", "/proc/sysrq-trigger")
SYSCTLS = Path("/proc/sys")
DEVICES = frozenset(
    {
        "/dev/console",
        "/dev/full",
        "/dev/fuse",
        "/dev/net/tun",
        "/dev/null",
        "/dev/ptmx",
        "/dev/random",
        "/dev/tty",
        "/dev/urandom",
        "/dev/zero",
    }
)
CGROUPS = "/sys/fs/cgroup"

# Options before the subcommand that take the next word as their value (crun and runc).
GLOBAL_VALUES = frozenset(
    {"--root", "--log", "--log-format", "--log-level", "--cgroup-manager", "--rootless", "--criu"}
)


class Refused(Exception):
    """The container would reach the machine below it."""


def permitted(bounding_set: int) -> frozenset[str]:
    """Return the capabilities a container may have, from the ``CapBnd`` mask of this process."""
    return frozenset(
        f"CAP_{name}" for bit, name in enumerate(CAPABILITIES) if bounding_set >> bit & 1 and name not in FORBIDDEN
    )


def clip_process(process: Spec, allowed: frozenset[str]) -> Spec:
    """Return the process specification with its capability sets clipped to ``allowed``."""
    sets: dict[str, list[str] | None] = process.get("capabilities") or {}
    clipped = {kind: [name for name in names or [] if name in allowed] for kind, names in sets.items()}
    return {**process, "capabilities": clipped} if sets else process


def refuse_machine_cgroups(spec: Spec) -> None:
    """Raise `Refused` where the container would write in the machine's cgroups."""
    mounts = spec.get("mounts") or []
    touched = [mount for mount in mounts if str(mount.get("destination", "")).rstrip("/").startswith(CGROUPS)]
    for mount in mounts:
        source = os.path.normpath(str(mount.get("source") or "/none"))
        options = mount.get("options") or []
        is_bind = mount.get("type") == "bind" or "bind" in options or "rbind" in options
        covers = source in ("/", "/sys", "/sys/fs") or source == CGROUPS or source.startswith(CGROUPS + "/")
        if is_bind and covers and "ro" not in options:
            raise Refused(f"it binds {source} of the machine, writable")
    namespaces = {entry.get("type"): entry.get("path") for entry in (spec.get("linux") or {}).get("namespaces") or []}
    writable = [mount for mount in touched if "ro" not in (mount.get("options") or [])]
    if writable and ("cgroup" not in namespaces or namespaces["cgroup"]):
        raise Refused(f"it has a writable {CGROUPS} in a cgroup namespace that is not its own")


def read_only_paths(sysctls: Path = SYSCTLS) -> list[str]:
    """Return what of /proc the container may only read, on this kernel."""
    return [f"/proc/sys/{entry.name}" for entry in sorted(sysctls.iterdir()) if entry.name != "net"] + list(READ_ONLY)


def read_only_sysfs(mount: Spec) -> Spec:
    """Return the mount, read-only where it is a sysfs."""
    if mount.get("type") != "sysfs":
        return mount
    return {**mount, "options": [name for name in mount.get("options") or [] if name not in ("rw", "ro")] + ["ro"]}


def bound(spec: Spec, allowed: frozenset[str], read_only: list[str]) -> Spec:
    """Return the container specification made harmless; raises `Refused` where that is not possible."""
    refuse_machine_cgroups(spec)
    linux: Spec = dict(spec.get("linux") or {})
    linux["readonlyPaths"] = list(dict.fromkeys([*(linux.get("readonlyPaths") or []), *read_only]))
    linux["devices"] = [device for device in linux.get("devices") or [] if device.get("path") in DEVICES]
    mounts = [read_only_sysfs(mount) for mount in spec.get("mounts") or []]
    return {**spec, "process": clip_process(spec.get("process") or {}, allowed), "mounts": mounts, "linux": linux}


def subcommand(arguments: list[str]) -> tuple[str, list[str]]:
    """Split the runtime's arguments in the subcommand and what follows it; ``("", [])`` where there is none."""
    position = 0
    while position < len(arguments):
        word = arguments[position]
        if not word.startswith("-"):
            return word, arguments[position + 1 :]
        position += 2 if word in GLOBAL_VALUES else 1
    return "", []


def option(arguments: list[str], long: str, short: str) -> str | None:
    """Return the value of an option in any of its forms: ``--long V``, ``--long=V``, ``-s V``, ``-sV``."""
    for position, word in enumerate(arguments):
        if word in (long, short):
            return arguments[position + 1] if position + 1 < len(arguments) else None
        if word.startswith(long + "="):
            return word[len(long) + 1 :]
        if word.startswith(short) and not word.startswith("--"):
            return word[len(short) :]
    return None


def rewrite(path: Path, spec: Spec) -> None:
    """Write a specification back where the runtime reads it."""
    path.write_text(json.dumps(spec))


def guard(arguments: list[str], allowed: frozenset[str]) -> None:
    """Rewrite the specification that these arguments of the runtime speak of; raises `Refused`."""
    command, rest = subcommand(arguments)
    if command in ("create", "run", "restore"):
        folder = Path(option(rest, "--bundle", "-b") or Path.cwd())
        path = folder / (option(rest, "--config", "-f") or "config.json")
        rewrite(path, bound(json.loads(path.read_text()), allowed, read_only_paths()))
    elif command == "exec":
        file = option(rest, "--process", "-p")
        if file is not None:
            path = Path(file)
            rewrite(path, clip_process(json.loads(path.read_text()), allowed))
        elif option(rest, "--cap", "-c") is not None:
            raise Refused("exec with --cap would give back a capability")


def bounding_set() -> int:
    """Return this process's capability bounding set."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd"):
            return int(line.split()[1], 16)
    return 0


def main(arguments: list[str]) -> int:
    """Guard; 1 with a sentence where the container is refused."""
    try:
        guard(arguments, permitted(bounding_set()))
    except Refused as reason:
        print(f"LW-LAB-021: the container is refused: {reason}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
