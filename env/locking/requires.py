"""What the locked wheels ask for, word for word from their METADATA: `env/stacks/requires.yml`, and the check with it.

The file is made with the locks; the check reads nothing else, so it needs no network. torch wheels that are on
PyTorch's own index only stand in `env/catalog/torch_requires.yml`, by hand, with where each was read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from labwright import catalog
from locking.fitting import markers
from locking.problem import LockError
from locking.sources import Waiver
from locking.text import Package

HEAD = """\
# yamllint disable rule:line-length
# What the wheels of the stacks' locks ask for, word for word from their METADATA; made by env/lock.py with the locks,
# not edited by hand. Where the Windows wheel of a version says something else, it has a part of its own (win-64).
"""


@dataclass(frozen=True)
class Needs:
    """One wheel's Requires-Python ("" admits all) and Requires-Dist."""

    python: str
    dist: tuple[str, ...]


@dataclass(frozen=True)
class Host:
    """For whom a requirement is judged: the platform and the full version of its Python, such as 3.11.15."""

    platform: str
    python: str

    def applies(self, need: Requirement, extras: Iterable[str]) -> bool:
        """Whether a requirement counts here, with these extras asked for."""
        if need.marker is None:
            return True
        environment = markers(self.platform, self.python)
        return any(need.marker.evaluate({**environment, "extra": extra}) for extra in ("", *extras))


class Book:
    """Needs by package, version and platform."""

    def __init__(self, rows: Mapping[str, Mapping[str, Mapping[str, Any]]], torch: Sequence[Mapping[str, Any]]) -> None:
        """`rows` are requires.yml's packages, `torch` are torch_requires.yml's builds."""
        self.rows = {name: dict(versions) for name, versions in rows.items()}
        self.torch = {(str(row["build"]), str(row["platform"])): row for row in torch}

    def of(self, package: Package, platform: str) -> Needs:
        """A wheel's needs; raises LockError where nobody knows them."""
        row = self.torch.get((package.version, platform)) if package.name == "torch" else None
        row = row or self.rows.get(package.name, {}).get(package.version)
        if row is None:
            raise LockError(
                f"LW-LOCK-016: nobody knows what {package.name} {package.version} asks for on {platform}. "
                "`make lock` reads it from the index; for a torch of PyTorch's own index, add it to "
                "env/catalog/torch_requires.yml with its source."
            )
        row = row.get(platform, row)
        return Needs(str(row["requires_python"]), tuple(row["requires_dist"]))

    def add(self, package: Package, platform: str, needs: Needs) -> None:
        """Take a wheel's needs in; the second platform only where it differs."""
        row = {"requires_python": needs.python, "requires_dist": list(needs.dist)}
        versions = self.rows.setdefault(package.name, {})
        first = versions.setdefault(package.version, row)
        if platform == "win-64" and first != row and {k: first[k] for k in row} != row:
            versions[package.version] = {**first, platform: row}

    def render(self, wanted: Iterable[tuple[str, str]]) -> str:
        """The file's text: these (name, version) and no others."""
        kept: dict[str, dict[str, Any]] = {}
        for name, version in sorted(set(wanted)):
            if version in self.rows.get(name, {}):
                kept.setdefault(name, {})[version] = self.rows[name][version]
        body = yaml.safe_dump({"packages": kept}, sort_keys=False, width=1000, allow_unicode=True)
        return HEAD + re.sub(r"^( *)- ", r"\1  - ", body, flags=re.MULTILINE)


def read(env: Path) -> Book:
    """The book of a repository."""
    path = env / "stacks/requires.yml"
    rows = catalog.read(path) if path.is_file() else {"packages": {}}
    torch = catalog.checked(env, "torch_requires")["builds"]
    try:
        parts = [row for versions in rows["packages"].values() for row in versions.values()]
        whole = all(isinstance(row["requires_dist"], list) and "requires_python" in row for row in parts)
    except (AttributeError, KeyError, TypeError):
        whole = False
    if not whole:
        raise LockError(
            f"LW-LOCK-037: {path} is not what env/lock.py writes; restore it, or remove it and `make lock`."
        )
    return Book(rows["packages"], torch)


@cache
def requirement(line: str, of: str) -> Requirement:
    """A line of Requires-Dist."""
    try:
        return Requirement(line)
    except InvalidRequirement as error:
        raise LockError(f"LW-LOCK-016: {of} asks for {line!r}, which is no requirement: {error}") from error


@dataclass(frozen=True)
class Want:
    """One requirement that counts in a closure: who states it ("" for the stack itself), and its text."""

    package: str
    line: str
    need: Requirement
    waiver: Waiver | None = None

    @property
    def name(self) -> str:
        """The package that is asked for."""
        return str(canonicalize_name(self.need.name))

    def met_by(self, version: str) -> bool:
        """Whether a version is within it."""
        return self.need.specifier.contains(version, prereleases=True)


def wants(
    roots: Iterable[str],
    closure: Mapping[str, Package],
    host: Host,
    needs: Callable[[Package], Needs],
    waivers: Iterable[Waiver] = (),
) -> Iterator[Want]:
    """Every requirement that counts, from the roots on, with the extras that are asked for on the way. Where a waiver
    stands for one, what it puts in its place is followed."""
    waiting = [Want("", line, requirement(line, "the stack")) for line in roots]
    instead = {(one.package, str(requirement(one.requirement, one.package))): one for one in waivers}
    asked: dict[str, set[str]] = {}
    while waiting:
        want = waiting.pop()
        if want.package == "" and not host.applies(want.need, ()):
            continue
        waiver = instead.get((want.package, f"{want.need.name}{written(want.need)}"))
        if waiver is not None:
            want = Want(want.package, want.line, requirement(waiver.instead, waiver.package), waiver)
        yield want
        name = want.name
        package = closure.get(name)
        if package is None:
            continue
        before = asked.get(name)
        extras = (before or set()) | want.need.extras
        if before == extras:
            continue
        asked[name] = extras
        for line in needs(package).dist:
            need = requirement(line, f"{package.name} {package.version}")
            if host.applies(need, extras) and (before is None or not host.applies(need, before)):
                waiting.append(Want(package.name, line, need))


def written(need: Requirement) -> str:
    """A requirement's extras and limits, without its marker."""
    extras = f"[{','.join(sorted(need.extras))}]" if need.extras else ""
    return f"{extras}{need.specifier}"


def reached(
    roots: Iterable[str],
    closure: Mapping[str, Package],
    host: Host,
    needs: Callable[[Package], Needs],
    waivers: Iterable[Waiver] = (),
) -> set[str]:
    """The packages of a closure that these roots need, themselves included."""
    found = {want.name for want in wants(roots, closure, host, needs, waivers)}
    return found & set(closure)


def python_fits(needs: Needs, host: Host) -> bool:
    """Whether a wheel admits the host's Python."""
    return SpecifierSet(needs.python).contains(host.python, prereleases=True)
