"""torch's builds: the catalogue's published sums, and stand-ins by which uv resolves wheels that it cannot reach."""

from __future__ import annotations

import re
import urllib.request
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from labwright import catalog
from locking.problem import LockError
from locking.requires import Needs
from locking.sources import TORCH, Closure
from locking.text import Package

INDEX = "https://download.pytorch.org/whl"
HREF = re.compile(r"href=\"[^\"]*?/([^\"/#]+\.whl)#sha256=([0-9a-f]{64})\"")


@dataclass(frozen=True)
class Wheels:
    """The wheels whose sum is known (env/catalog/wheels.yml), and what its source keys mean."""

    rows: Mapping[tuple[str, str, str, str], Mapping[str, Any]]  # (release, tag, platform, python) -> row
    sources: Mapping[str, str]

    def row(self, closure: Closure) -> Mapping[str, Any] | None:
        """The torch wheel of a closure; None where nobody published its sum."""
        release = closure.source.builds[closure.tag]
        return self.rows.get((release, closure.tag, closure.platform, f"3.{closure.source.python}"))

    def origin(self, row: Mapping[str, Any]) -> str:
        """Where a wheel's sum was read; "" for the package index itself, which tells it anew at each locking."""
        if on_index(row):
            return ""
        return "env/catalog/wheels.yml, from " + "; ".join(self.sources[key] for key in row["sources"])


def read_wheels(env: Path) -> Wheels:
    """The catalogue's torch wheels."""
    found = catalog.checked(env, "wheels")
    # A build that is in both places is taken from the package index, which has more mirrors.
    rows = sorted((row for row in found["wheels"] if row["name"] == TORCH), key=on_index)
    return Wheels({(row["version"], row["tag"], row["platform"], row["python"]): row for row in rows}, found["sources"])


def on_index(row: Mapping[str, Any]) -> bool:
    """Whether a wheel lies on the package index. Those of PyTorch's own index carry their tag in the version."""
    return "+" not in row["file"]


def version(row: Mapping[str, Any]) -> str:
    """A wheel's version as pip compares it."""
    return str(row["version"]) if on_index(row) else f"{row['version']}+{row['tag']}"


def settled(package: Package, row: Mapping[str, Any], wheels: Wheels) -> Package:
    """A resolved torch with the catalogue's sum. What the index tells must agree with it."""
    if on_index(row) and row["sha256"] not in package.hashes:
        raise LockError(
            f"LW-LOCK-017: {row['file']} has the sha256 {row['sha256']} in env/catalog/wheels.yml, but the package "
            f"index has {', '.join(package.hashes)}. One of them is wrong: do not use either before you know which."
        )
    return replace(package, hashes=(str(row["sha256"]),), origin=wheels.origin(row))


def stand_in(folder: Path, row: Mapping[str, Any], needs: Needs) -> None:
    """Write a wheel of the right name that holds nothing but metadata. uv resolves with it; its own sum is not used."""
    info = f"torch-{version(row)}.dist-info"
    lines = ["Metadata-Version: 2.1", "Name: torch", f"Version: {version(row)}", f"Requires-Python: {needs.python}"]
    lines += [f"Requires-Dist: {line}" for line in needs.dist]
    tags = "-".join(row["file"].removesuffix(".whl").rsplit("-", 3)[1:])
    with zipfile.ZipFile(folder / row["file"], "w") as wheel:
        wheel.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")
        wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tags}\n")
        wheel.writestr(f"{info}/RECORD", "")


def confirm(rows: Sequence[Mapping[str, Any]], index: str, timeout: float = 5) -> str:
    """Compare the catalogue with PyTorch's index where it answers; return a sentence on what was found."""
    tags = sorted({str(row["tag"]) for row in rows})
    there: dict[str, str] = {}
    for tag in tags:
        try:
            with urllib.request.urlopen(f"{index.rstrip('/')}/{tag}/torch/", timeout=timeout) as page:
                text = page.read().decode("utf-8", "replace").replace("%2B", "+")
        except OSError as error:
            return f"{index} does not answer ({error}), so the sums of its wheels are the catalogue's."
        there |= dict(HREF.findall(text))
    for row in rows:
        if there.get(row["file"], row["sha256"]) != row["sha256"]:
            raise LockError(
                f"LW-LOCK-017: {row['file']} has the sha256 {row['sha256']} in env/catalog/wheels.yml, but {index} has "
                f"{there[row['file']]}. One of them is wrong: do not use either before you know which."
            )
    same = sum(row["file"] in there for row in rows)
    return f"{index} tells the same sum as the catalogue for {same} of {len(rows)} wheels."
