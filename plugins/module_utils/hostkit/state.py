"""The stamp of an environment: which layers are whole, and which one was being made when something stopped it."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hostkit import place

# Not in conda-meta: conda takes every *.json there for a package.
STAMP = ".labwright.json"


@dataclass
class State:
    """Layers in the order they were made (name and lock digest), the layer in progress, and an id of this making."""

    layers: list[tuple[str, str]] = field(default_factory=list)
    in_progress: str = ""
    made: str = ""

    @classmethod
    def read(cls, prefix: Path) -> State | None:
        """The stamp of ``prefix``; None where there is none or it cannot be read."""
        try:
            raw = json.loads((prefix / STAMP).read_text(encoding="utf-8"))
            return cls([(str(n), str(d)) for n, d in raw["layers"]], str(raw["in_progress"]), str(raw["made"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, prefix: Path) -> None:
        """Replace the stamp in one step."""
        text = json.dumps({"layers": self.layers, "in_progress": self.in_progress, "made": self.made})
        place.write(prefix / STAMP, text + "\n")


@dataclass(frozen=True)
class Decision:
    """What to do with a prefix: start over or go on, with which layers, and why."""

    rebuild: bool
    todo: list[dict[str, Any]]
    reason: str


def decide(state: State | None, exists: bool, drift: list[str], layers: list[dict[str, Any]]) -> Decision:
    """Pure: compare what is there with the wanted ``layers`` (name, digest), in order.

    A prefix whose making was interrupted is never trusted: a package manager killed in the middle leaves a folder that
    looks right. A prefix with more whole layers than wanted is fine: another role needs them.
    """
    wanted = [(str(layer["name"]), str(layer["digest"])) for layer in layers]
    if not exists:
        return Decision(False, layers, "there is no environment yet")
    if state is None:
        return Decision(True, layers, "the folder has no stamp: it was interrupted, or is not ours")
    if state.in_progress:
        return Decision(True, layers, f"its layer {state.in_progress!r} was interrupted")
    have = state.layers[: len(wanted)]
    if have != wanted[: len(have)]:
        return Decision(True, layers, "it was made from other locks")
    if drift:
        return Decision(True, layers, "somebody changed it: " + "; ".join(drift))
    return Decision(False, layers[len(have) :], "")


def new_id() -> str:
    """An id for one making of an environment: services restart when it changes."""
    return uuid.uuid4().hex[:12]


def canonical(name: str) -> str:
    """A Python package's name as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(requirements: str) -> dict[str, str]:
    """Name and version of each ``name==version`` in the text of a lock."""
    found = re.findall(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", requirements, re.MULTILINE)
    return {canonical(name): version for name, version in found}


def installed(prefix: Path) -> dict[str, str]:
    """Name and version of each Python package in ``prefix``, read from the names of its ``*.dist-info`` folders."""
    sites = [*prefix.glob("lib/python3*/site-packages"), prefix / "Lib" / "site-packages"]
    found = {}
    for site in sites:
        for info in (metadata.parent for metadata in site.glob("*.dist-info/METADATA")):
            name, _, version = info.name[: -len(".dist-info")].partition("-")
            found[canonical(name)] = version
    return found


def drift_of(wanted: dict[str, str], present: dict[str, str], base: set[str]) -> list[str]:
    """Sentences on what differs from the locks; ``base`` are the packages that came with the interpreter."""
    lines = []
    for name, version in sorted(wanted.items()):
        there = present.get(name)
        if there is None:
            lines.append(f"{name} {version} is gone")
        elif there != version:
            lines.append(f"{name} is {there}, the lock says {version}")
    lines += [f"{name} {present[name]} is in no lock" for name in sorted(set(present) - set(wanted) - base)]
    return lines
