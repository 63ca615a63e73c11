"""Who may ask the lab's API: a key for each person, for each host with agents, and one for Labwright's own checks.

People's keys are the inventory's (`lab_api_keys`, from the vault: a key, or two while one takes the other's place). The
others are made here and kept in the safe as ``keys/NAME``: the first line is the key in use, a second one is the key
before it, which the API accepts until it is retired.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from hostkit.result import Problem
from labwright.safe import Safe
from labwright.words import Refused, finding

OPERATOR = "operator"  # asks when Labwright verifies and loads the lab
KEY = re.compile(r"[A-Za-z0-9._~-]{20,128}")  # as in wishes.yml


def new() -> str:
    """A key that nobody can guess: 256 bits."""
    return f"lw-{secrets.token_urlsafe(32)}"


def agent(host: str) -> str:
    """The name of a host's agents; one word, whatever the host is called."""
    return f"agent-{quote(host, safe='')}"


def people(accepted: Mapping[str, list[str]], agents: Iterable[str]) -> dict[str, list[str]]:
    """The names that a person has, who may open the page: programs are told the API's address, and need no page."""
    programs = {agent(host) for host in agents}
    return {name: rows for name, rows in accepted.items() if name not in programs}


def of_people(given: Mapping[str, Any] | None) -> dict[str, list[str]]:
    """The inventory's keys: of each name one, or two. YAML's text blocks end with a line break, which is not meant."""
    rows = {str(name).strip(): [value] if isinstance(value, str) else value for name, value in (given or {}).items()}
    return {name: [str(one).strip() for one in value] for name, value in rows.items()}


def problems(host: str, given: Any) -> list[Problem]:
    """Names that share a key: then the log cannot tell them apart, and taking one out would not lock it out."""
    if not isinstance(given, Mapping):
        return []  # wishes.yml says so
    owners: dict[str, str] = {}
    found: list[Problem] = []
    for name, value in given.items():
        for key in {str(one).strip().lower() for one in (value if isinstance(value, list) else [value])}:
            first = owners.setdefault(key, str(name))
            if first != name:  # nginx looks keys up without regard to case
                found.append(Refused(finding("LW-KEYS-001", host=host, first=first, second=name)))
    return found


def read(safe: Safe, name: str) -> list[str]:
    """The keys of a name in the safe: none, one, or two while one is rotated."""
    data = safe.get(f"keys/{name}")
    if data is None:
        return []
    lines = data.decode("ascii", "replace").split()
    if not 1 <= len(lines) <= 2 or not all(KEY.fullmatch(one) for one in lines):
        raise Refused(finding("LW-KEYS-003", path=str(safe.folder / "keys" / name)))
    return lines


def write(safe: Safe, name: str, lines: Sequence[str]) -> None:
    """Keep a name's keys."""
    safe.put(f"keys/{name}", "".join(f"{one}\n" for one in lines).encode())


def accepted(safe: Safe, given: Mapping[str, Any] | None, agents: Iterable[str]) -> dict[str, list[str]]:
    """Every name with the keys that the API accepts, the one in use first; what is lacking is made."""
    found = of_people(given)
    for name in ours(agents):
        if name not in found:
            found[name] = read(safe, name)
            if not found[name]:
                found[name] = [new()]
                write(safe, name, found[name])
    return found


def ours(agents: Iterable[str]) -> list[str]:
    """Names whose keys Labwright makes; ``agents`` are the hosts that have some."""
    return [OPERATOR, *(agent(host) for host in agents)]


def rotate(safe: Safe, name: str, given: Mapping[str, Any] | None, agents: Iterable[str]) -> bool:
    """A new key for a name, beside the old one. A rotation that was broken off is gone on with, not begun anew: the
    old key may be all that somebody has."""
    lines = kept(safe, name, given, agents)
    if len(lines) == 2:
        return False
    write(safe, name, [new(), *lines])
    return True


def retire(safe: Safe, name: str, given: Mapping[str, Any] | None, agents: Iterable[str]) -> bool:
    """The end of a rotation: only the new key is left."""
    lines = kept(safe, name, given, agents)
    if len(lines) < 2:
        return False
    write(safe, name, lines[:1])
    return True


def kept(safe: Safe, name: str, given: Mapping[str, Any] | None, agents: Iterable[str]) -> list[str]:
    """The keys in the safe of a name that has its keys there."""
    if name in (given or {}):
        raise Refused(finding("LW-KEYS-005", name=name))
    known = ours(agents)
    if name not in known:
        raise Refused(finding("LW-KEYS-004", name=name, known=known))
    return read(safe, name)


def rows(safe: Safe, given: Mapping[str, Any] | None, agents: Sequence[str]) -> list[tuple[str, str, str, str]]:
    """Every name, where its key is used, since when, and whether two are accepted; never a key."""
    used = {OPERATOR: "verify, loadtest"} | {agent(host): f"agents on {host}" for host in agents}
    found = [(name, used.get(name, "lab_api_keys"), "", len(lines)) for name, lines in of_people(given).items()]
    for name in ours(agents):
        if name not in (given or {}):
            since = safe.since(f"keys/{name}")
            found.append((name, used[name], f"{since:%Y-%m-%d %H:%M} UTC" if since else "", len(read(safe, name))))
    states = {0: "not made yet", 1: "", 2: "two keys are accepted"}
    return [(name, where, since or "-", states[count]) for name, where, since, count in found]


def as_table(lines: Sequence[tuple[str, str, str, str]]) -> str:
    """The names as a table."""
    whole = [("name", "used by", "since", ""), *lines]
    wide = [max(len(row[at]) for row in whole) for at in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, wide, strict=False)), row[3]]).rstrip()
        for row in whole
    )
