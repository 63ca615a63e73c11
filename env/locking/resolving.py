"""Resolve closures with uv and write their locks."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from locking import requires, torch
from locking.fitting import usable
from locking.problem import LockError
from locking.reading import Reader
from locking.requires import Host
from locking.sources import TORCH, Closure, Source
from locking.text import Package, read_if_there, render

CONTROL_PYTHONS = (11, 12, 13)
UV_PLATFORMS = {"linux-64": "x86_64-manylinux_2_{glibc}", "win-64": "x86_64-pc-windows-msvc"}


def pip_places(listing: str) -> list[str]:
    """Turn the output of `pip config list` into uv options, so that uv asks where the machine's pip asks.

    Extra indexes and folders of wheels are left out on purpose: one that holds only some files of a version would give
    a lock that lacks the hashes of the others.
    """
    found: list[str] = []
    for line in listing.splitlines():
        key, _, value = line.partition("=")
        if key.rpartition(".")[2] == "index-url":
            found = ["--default-index", value.strip("'\"")]
    return found


def read_pylock(text: str, closure: Closure) -> list[Package]:
    """Turn uv's PEP 751 output into lock entries with the hashes of the wheels that the closure's machines can use."""
    if closure.source.python is None:
        minors: tuple[int, ...] = CONTROL_PYTHONS
        machines: tuple[str, ...] = ("x86_64", "aarch64")
    else:
        minors, machines = (closure.source.python,), ("x86_64",)
    packages = []
    for entry in tomllib.loads(text).get("packages", []):
        wheels = sorted(
            (wheel["hashes"]["sha256"], wheel.get("url", ""))
            for wheel in entry.get("wheels", [])
            if usable(wheel.get("name") or _file_name(wheel), minors, closure.platform, machines, closure.source.glibc)
        )
        if not wheels:
            raise LockError(
                f"LW-LOCK-003: no wheel of {entry['name']} {entry['version']} fits {closure.name}, and locks hold "
                "wheels only. Choose another version in the .in file."
            )
        hashes = tuple(sha256 for sha256, _url in wheels)
        place = wheels[0][1] if wheels[0][1].startswith("http") else ""
        # A lock for one platform holds what that platform needs; its markers would all be true.
        marker = "" if closure.platform else entry.get("marker", "")
        packages.append(Package(entry["name"], entry["version"], marker, hashes, metadata=place))
    return packages


def _file_name(wheel: dict[str, str]) -> str:
    location = wheel.get("url") or wheel["path"]
    return location.rsplit("/", 1)[-1].replace("%2B", "+")


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise LockError("LW-LOCK-004: uv is not installed; it is in env/control/develop.txt, so run `make develop`.")
    return found


def compiled(closure: Closure, scratch: Path, constraints: Sequence[str] = ()) -> list[Package]:
    """Resolve a closure; torch wheels that uv shall see besides the index's lie in `scratch`."""
    source = closure.source
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    where = ["--universal", "--python-version", f"3.{CONTROL_PYTHONS[0]}"]
    if closure.platform:
        where = ["--python-version", f"3.{source.python}", "--python-platform"]
        where.append(UV_PLATFORMS[closure.platform].format(glibc=source.glibc))
    inputs = [source.folder / name for name in source.inputs]
    limits = [source.folder / name for name in source.constraints]
    for name, lines, files in (("torch.in", [closure.pin()], inputs), ("limits.txt", constraints, limits)):
        if any(lines):
            (scratch / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
            files.append(scratch / name)
    argv = [_uv(), "pip", "compile", *map(str, inputs), *where, *pip_places(listing.stdout)]
    argv += ["--find-links", str(scratch), "--exclude-newer", f"{source.as_of()}T00:00:00Z"]
    argv += [word for path in limits for word in ("--constraints", str(path))]
    if source.waivers:
        (scratch / "overrides.txt").write_text("".join(f"{one.instead}\n" for one in source.waivers), encoding="utf-8")
        argv += ["--overrides", str(scratch / "overrides.txt")]
    argv += ["--format", "pylock.toml", "--generate-hashes", "--no-header", "--no-annotate", "-q"]
    argv += ["--only-binary", ":all:", *(["--no-deps"] if source.no_deps else [])]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LockError(f"LW-LOCK-005: uv could not resolve {closure.name}:\n{done.stderr.strip()}")
    return read_pylock(done.stdout, closure)


def split(closure: Closure, packages: Sequence[Package], reached: dict[str, set[str]]) -> dict[Path, list[Package]]:
    """Share a closure out: a layer takes what its roots need and no earlier layer took; without roots, the rest."""
    left = {package.name: package for package in packages}
    shares: dict[Path, list[Package]] = {}
    for layer in closure.source.layers:
        wanted = reached[layer.role] if layer.roots else set(left)
        shares[closure.path(layer)] = [left.pop(name) for name in sorted(wanted & set(left))]
    if left:
        raise LockError(
            f"LW-LOCK-006: {', '.join(sorted(left))} of {closure.name} belong to no layer; "
            "let the last layer of its stack.yml have no roots."
        )
    return shares


class Locking:
    """One run of `make lock`: the catalogue, the book of needs, and what was resolved so far."""

    def __init__(self, env: Path, python: str, index: str = torch.INDEX, keep: bool = False) -> None:
        """`python` is the full version of the stacks' interpreter; `index` is PyTorch's, or a mirror of it. With `keep`
        what is locked stays at its version, so that a package more moves no other."""
        self.env, self.python, self.index, self.keep = env, python, index, keep
        self.wheels, self.book = torch.read_wheels(env), requires.read(env)
        self.reader = Reader(env.parent / ".cache" / "metadata")
        self.said: list[str] = []

    def lock(self, source: Source) -> list[Path]:
        """Resolve a source's closures and write their locks; return them. All or nothing."""
        shares: dict[Path, list[Package]] = {}
        for platform in source.platforms:
            kept = locked(source, platform) if self.keep else []
            common = [f"{package.name}=={package.version}" for package in kept]
            for closure in [one for one in source.closures() if one.platform == platform]:
                if closure.tag and self.wheels.row(closure) is None:
                    self.said.append(
                        f"{closure.name}: not lockable: nobody published the sha256 of torch {closure.pin()[7:]}+"
                        f"{closure.tag} for it (env/catalog/wheels.yml); the plan does not offer it."
                    )
                    continue
                for path, packages in self.shares(closure, common).items():
                    if shares.setdefault(path, packages) != packages:
                        raise LockError(
                            f"LW-LOCK-018: {path.name} would differ between builds of torch (at {closure.name}): "
                            f"{differing(shares[path], packages)}. Let stack.yml's torch layer hold those packages."
                        )
                common = [
                    f"{package.name}=={package.version}"
                    for layer in source.layers
                    if not closure.tagged(layer)
                    for package in shares[closure.path(layer)]
                ]
        for path, packages in shares.items():
            path.write_text(render(source, packages), encoding="utf-8")
        for stale in set(source.folder.glob("*-*-64.txt")) - set(shares):
            stale.unlink()
        return list(shares)

    def shares(self, closure: Closure, common: Sequence[str]) -> dict[Path, list[Package]]:
        """One closure, resolved and split by layer."""
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder)
            row = self.wheels.row(closure) if closure.tag else None
            if row is not None and not torch.on_index(row):
                build = Package(TORCH, torch.version(row))
                torch.stand_in(scratch, row, self.book.of(build, closure.platform))
                closure = replace(closure, source=replace(closure.source, builds={closure.tag: build.version}))
            packages = compiled(closure, scratch, common)
        if row is not None:
            packages = [torch.settled(one, row, self.wheels) if one.name == TORCH else one for one in packages]
        if closure.platform:
            for one in packages:
                if one.metadata:
                    self.book.add(one, closure.platform, self.reader.needs(one))
        packages = [replace(one, metadata="") for one in packages]
        host = Host(closure.platform, self.python)

        def needs(one: Package) -> requires.Needs:
            return self.book.of(one, closure.platform)

        by_name = {one.name: one for one in packages}
        reached = {
            layer.role: requires.reached(layer.roots, by_name, host, needs, closure.source.waivers)
            for layer in closure.source.layers
            if layer.roots
        }
        return split(closure, packages, reached)

    def confirm(self, sources: Iterable[Source]) -> str:
        """Compare the catalogue's sums with PyTorch's index, where it answers."""
        rows = [self.wheels.row(one) for source in sources for one in source.closures() if one.tag]
        own = {row["file"]: row for row in rows if row is not None and not torch.on_index(row)}
        return torch.confirm(list(own.values()), self.index) if own else ""


def differing(some: Sequence[Package], others: Sequence[Package]) -> str:
    """What two versions of a layer do not have in common."""
    found = {f"{one.name} {one.version}" for one in set(some) ^ set(others)}
    return ", ".join(sorted(found))


def locked(source: Source, platform: str | None = None) -> list[Package]:
    """Everything in a source's locks as they are on disk, for all platforms or one."""
    closures = [one for one in source.closures() if platform is None or one.platform == platform]
    paths = {closure.path(layer): None for closure in closures for layer in source.layers}
    return [package for path in paths for package in read_if_there(path)]
