"""What a lab changes on the machine below it, remembered and put back.

podman's networks switch on IPv4 forwarding and leave their firewall chains behind; the script ``podman`` may keep a
mount namespace; the hosts' control groups leave an empty parent.
"""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

from .processes import Podman, run, succeeds
from .settings import Settings, locked, write_if_changed

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
TABLES = ("filter", "nat")
CHAIN = "NETAVARK"
ADDRESSES = Path("/run/containers/networks/ipam.db")


def state_file(settings: Settings) -> Path:
    """Return where the machine's earlier state is written; it ends with the boot, as that state does."""
    return settings.run / "machine.json"


def rules(table: str) -> str:
    """Return a firewall table as ``iptables-save`` writes it."""
    return run(["iptables-save", "-t", table], check=False)


def has_chains(text: str) -> bool:
    """Return whether a table has chains of podman's networks."""
    return any(line.startswith(f":{CHAIN}") for line in text.splitlines())


def removals(table: str, text: str) -> list[list[str]]:
    """Return the iptables commands that take podman's chains, and the jumps to them, out of a table."""
    chains = [line[1:].split()[0] for line in text.splitlines() if line.startswith(f":{CHAIN}")]
    commands: list[list[str]] = []
    for line in text.splitlines():
        words = shlex.split(line)
        if words[:1] == ["-A"] and not words[1].startswith(CHAIN) and any(chain in words for chain in chains):
            commands.append(["iptables", "-w", "-t", table, "-D", *words[1:]])
    for action in ("-F", "-X"):
        commands.extend(["iptables", "-w", "-t", table, action, chain] for chain in chains)
    return commands


def remember(settings: Settings) -> None:
    """Write down the machine's state before the first lab of this boot changes it."""
    with locked(settings.run / "machine.lock"):
        if state_file(settings).exists():
            return
        state = {
            "forwarding": FORWARDING.read_text().strip(),
            "chains": any(has_chains(rules(table)) for table in TABLES),
        }
        write_if_changed(state_file(settings), json.dumps(state) + "\n")


def others_route(podman: Podman) -> bool:
    """Return whether somebody else's containers need forwarding and podman's chains."""
    return Path("/sys/class/net/docker0").exists() or bool(podman("ps", "--quiet").split())


def forget_addresses(podman: Podman) -> None:
    """Remove podman's list of addresses in use, where no container is left that could have one.

    A host that another podman than ours removed keeps its address there for ever, and no new host would get it.
    """
    if not podman("ps", "--all", "--quiet").split():
        ADDRESSES.unlink(missing_ok=True)


def restore(settings: Settings, podman: Podman) -> None:
    """Put the machine back; for when no lab is left on it."""
    try:
        state = json.loads(state_file(settings).read_text())
    except (OSError, ValueError):
        state = {"forwarding": "1", "chains": True}
    if not others_route(podman):
        if not state["chains"]:
            for table in TABLES:
                for command in removals(table, rules(table)):
                    succeeds(command)
        if state["forwarding"] == "0":
            FORWARDING.write_text("0\n")
    leave_namespace(settings)
    for folder in (settings.run, settings.store):
        shutil.rmtree(folder, ignore_errors=True)


def leave_namespace(settings: Settings) -> None:
    """Remove the hosts' empty control groups, then the mount namespace that ``podman`` keeps."""
    folder = settings.run / "mount"
    enter = ["nsenter", f"--mount={folder / 'namespace'}"] if folder.exists() else []
    # rmdir refuses a group that still holds a process or another group: somebody else's containers.
    for group in ("libpod_parent/conmon", "libpod_parent"):
        succeeds([*enter, "rmdir", f"/sys/fs/cgroup/{group}"])
    for mounted in (folder / "namespace", folder):
        while succeeds(["mountpoint", "-q", mounted]) and succeeds(["umount", mounted]):
            pass
