"""What Wine has not got, kept in a file of the target: accounts, rights, permissions, firewall rules, features.

A module changes it and reads it back as on Windows, and a reboot keeps it; nothing enforces it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..settings import locked, write_if_changed

State = dict[str, Any]
# A machine as it comes: the accounts and groups that every Windows has, and the features that Docker and WSL ask for.
GROUPS = {
    "Administrators": ["Administrator"],
    "Users": [],
    "Guests": ["Guest"],
    "Remote Desktop Users": [],
    "Remote Management Users": [],
    "Event Log Readers": [],
    "Performance Log Users": [],
}
FEATURES = (
    "Microsoft-Windows-Subsystem-Linux",
    "VirtualMachinePlatform",
    "HypervisorPlatform",
    "Containers",
    "Microsoft-Hyper-V-All",
)
RIGHTS = {
    "SeServiceLogonRight": ["NT SERVICE\\ALL SERVICES"],
    "SeRemoteInteractiveLogonRight": ["BUILTIN\\Administrators"],
}


def fresh() -> State:
    """Return the state of a machine as it comes."""
    return {
        "users": {
            name: {"fullname": "", "description": "", "disabled": name == "Guest"}
            for name in ("Administrator", "Guest")
        },
        "groups": {name: {"description": "", "members": list(members)} for name, members in GROUPS.items()},
        "rights": {name: list(members) for name, members in RIGHTS.items()},
        "acl": {},
        "firewall": {},
        "features": dict.fromkeys(FEATURES, False),
    }


def read(folder: Path) -> State:
    """Return the state of a target."""
    try:
        state = json.loads((folder / "emulated.json").read_text())
    except FileNotFoundError:
        return fresh()
    return {**fresh(), **state}


@contextmanager
def changing(folder: Path, *, check: bool) -> Iterator[State]:
    """Give the state to change; it is kept unless this is check mode, or an error comes out."""
    with locked(folder / ".emulated.lock"):
        state = read(folder)
        yield state
        if not check:
            write_if_changed(folder / "emulated.json", json.dumps(state, indent=1, sort_keys=True) + "\n")


def entry(table: dict[str, Any], name: str) -> str | None:
    """Return the name in a table that is this one in any case."""
    return next((one for one in table if one.lower() == name.lower()), None)
