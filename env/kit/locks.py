"""Read the Python locks (requirements files with hashes) as a host would: markers judged for it, sums kept."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker
from packaging.utils import canonicalize_name

from kit.conda_wheel import target_environment
from kit.problem import Problem

# What differs from the Linux host for which the kit's own packages are made.
MARKERS: dict[str, dict[str, str]] = {
    "linux-64": {},
    "win-64": {"platform_system": "Windows", "sys_platform": "win32", "os_name": "nt", "platform_machine": "AMD64"},
}
ENTRY = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)\s*(?:;\s*(.*?))?\s*$")


@dataclass(frozen=True, order=True)
class Pin:
    """One wheel to have: canonical name, version, the sums that are allowed."""

    name: str
    version: str
    hashes: tuple[str, ...]

    def line(self) -> str:
        """Return it as pip reads it in hash mode."""
        return " ".join([f"{self.name}=={self.version}", *(f"--hash=sha256:{h}" for h in self.hashes)])


def parse(text: str, where: str, series: str, platform: str = "linux-64") -> list[Pin]:
    """Return the pins of a lock that hold on a host with this CPython; raise Problem on anything unpinned."""
    joined = re.sub(r"\\\n", " ", text)
    pins = []
    for raw in joined.splitlines():
        line = re.sub(r"(^|\s)#.*$", "", raw).strip()
        if not line:
            continue
        words, hashes = re.split(r"\s--hash=", line)[0], re.findall(r"--hash=sha256:([0-9a-f]{64})", line)
        match = ENTRY.match(words)
        if match is None or not hashes:
            raise Problem(
                f"LW-BUNDLE-020: {where}: {line.split(' --hash')[0]!r} is not a name==version with sha256 sums. "
                "Make the lock anew with `make lock`."
            )
        name, version, marker = match.groups()
        if marker is None or Marker(marker).evaluate(target_environment(series) | MARKERS[platform]):
            pins.append(Pin(str(canonicalize_name(name)), version, tuple(sorted(hashes))))
    return pins


def read_locks(paths: Iterable[Path], series: str, platform: str = "linux-64") -> list[Pin]:
    """Return every pin of these locks once; different versions of one package in different locks are all kept."""
    pins: set[Pin] = set()
    for path in paths:
        if not path.is_file():
            raise Problem(f"LW-BUNDLE-021: the lock {path} is not there. Name one that is, with --lock FILE.")
        pins |= set(parse(path.read_text(encoding="utf-8"), str(path), series, platform))
    return sorted(pins)


def rounds(pins: Iterable[Pin]) -> list[list[Pin]]:
    """Split pins so that no package stands twice in one part: pip takes one version at a time."""
    parts: list[dict[str, Pin]] = []
    for pin in sorted(pins):
        for part in parts:
            if pin.name not in part:
                part[pin.name] = pin
                break
        else:
            parts.append({pin.name: pin})
    return [list(part.values()) for part in parts]
