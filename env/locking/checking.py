"""Check locks against their sources, the catalogue and each other. Reads files of the repository only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from labwright.catalog import unchanged
from locking import requires, torch
from locking.problem import LockError
from locking.requires import Book, Host, Needs
from locking.sources import TORCH, Closure, Source, Waiver
from locking.text import ADDRESS, DIGEST_LINE, HASH, Package, read, read_if_there, text_of


def again(source: Source) -> str:
    """What to run."""
    return f"run `python env/lock.py {source.name}`."


def where(path: Path) -> str:
    """A lock as people call it."""
    return f"{path.parent.name}/{path.name}"


def faults(source: Source, wheels: torch.Wheels, book: Book, python: str) -> Iterator[str]:
    """A sentence for each fault of a source's locks."""
    closures = [one for one in source.closures() if not one.tag or wheels.row(one) is not None]
    paths = {one.path(layer): None for one in closures for layer in source.layers}
    digest = source.digest()
    for path in paths:
        yield from (f"{fault}; {again(source)}" for fault in of_file(path, digest, source))
    if source.python is None:
        yield from (f"{fault}; {again(source)}" for fault in against_first(source))
        return
    for path in sorted(set(source.folder.glob("*-*-64.txt")) - set(paths)):
        yield f"LW-LOCK-035: {where(path)} belongs to no build in {source.name}'s stack.yml; {again(source)}"
    used: set[Waiver] = set()
    for closure in closures:
        try:
            yield from (f"{fault}; {again(source)}" for fault in of_closure(closure, wheels, book, python, used))
        except LockError as error:
            yield str(error)
    for waiver in source.waivers:
        if waiver not in used:
            yield (
                f"LW-LOCK-031: {source.name}'s waiver of {waiver.requirement} of {waiver.package} is not needed by any "
                "of its locks; take it from stack.yml."
            )
        if not waiver.reason.strip():
            yield f"LW-LOCK-032: {source.name}'s waiver of {waiver.requirement} has no reason; write one in stack.yml."


def of_file(path: Path, digest: str, source: Source) -> Iterator[str]:
    """What one file can get wrong by itself."""
    if not path.is_file():
        yield f"LW-LOCK-010: {where(path)} does not exist"
        return
    text = text_of(path)
    found = DIGEST_LINE.search(text)
    if found is None or found[1] != digest:
        yield f"LW-LOCK-011: {where(path)} was not made from {source.name}'s sources as they are now"
    if not unchanged(text):
        yield f"LW-LOCK-009: {where(path)} was changed by hand: its entries are not those that were locked"
    if match := ADDRESS.search("\n".join(line for line in text.splitlines() if not line.startswith("#"))):
        yield f"LW-LOCK-012: {where(path)} names a place ({match[0].strip()!r}), which is a setting of a machine"
    for package in read(text):
        if not package.version or not package.hashes or not all(map(HASH.match, package.hashes)):
            yield f"LW-LOCK-013: {where(path)}: {package.name} has no version or no sha256"


def against_first(source: Source) -> Iterator[str]:
    """Whether the control node's later locks keep to the first one."""
    pinned = {one.name: one.version for name in source.constraints for one in read_if_there(source.folder / name)}
    for closure in source.closures():
        for layer in source.layers:
            for package in read_if_there(closure.path(layer)):
                if pinned.get(package.name, package.version) != package.version:
                    yield (
                        f"LW-LOCK-015: {where(closure.path(layer))} has {package.name} {package.version}, but the "
                        f"first lock has {pinned[package.name]}"
                    )


def of_closure(closure: Closure, wheels: torch.Wheels, book: Book, python: str, used: set[Waiver]) -> Iterator[str]:
    """Whether the layers of a closure fit each other, torch is the build that it is called, and every requirement that
    counts on this platform is met."""
    source = closure.source
    packages: dict[str, Package] = {}
    for layer in source.layers:
        for package in read_if_there(closure.path(layer)):
            if package.name in packages:
                yield f"LW-LOCK-014: {package.name} is in two layers of {closure.name}, but layers may not overlap"
            packages[package.name] = package
    if closure.tag:
        yield from of_torch(closure, packages.get(TORCH), wheels)
    host = Host(closure.platform, python)

    def needs(one: Package) -> Needs:
        return book.of(one, closure.platform)

    asked = {TORCH} if closure.tag else set()
    for want in requires.wants(roots(source), packages, host, needs, source.waivers):
        name = want.name
        asked.add(name)
        used |= {want.waiver} if want.waiver else set()
        by = want.package or "stack.in"
        if name not in packages:
            yield f"LW-LOCK-030: {closure.name}: {by} asks for {want.line}, but {name} is not in its locks"
        elif not want.met_by(packages[name].version):
            yield (
                f"LW-LOCK-030: {closure.name}: {by} asks for {want.line}, but its locks have {name} "
                f"{packages[name].version}"
            )
    for name in sorted(set(packages) - asked):
        yield f"LW-LOCK-033: {closure.name}: {name} is in its locks, but nothing asks for it"
    for package in packages.values():
        if not requires.python_fits(needs(package), host):
            yield (
                f"LW-LOCK-034: {closure.name}: {package.name} {package.version} wants Python {needs(package).python}, "
                f"but the stack has {python}"
            )


def of_torch(closure: Closure, package: Package | None, wheels: torch.Wheels) -> Iterator[str]:
    """Whether the torch in a lock is the build that the lock is called after. A torch without CUDA has the same name
    and version on Windows, so the sum decides."""
    row = wheels.row(closure)
    if package is None or row is None:
        yield f"LW-LOCK-019: {closure.name} has no torch"
    elif (package.version, package.hashes) != (torch.version(row), (row["sha256"],)):
        yield (
            f"LW-LOCK-019: {closure.name} has torch {package.version} with {', '.join(package.hashes)}, but the wheel "
            f"with {closure.tag} is {row['file']} with {row['sha256']} (env/catalog/wheels.yml)"
        )


def roots(source: Source) -> list[str]:
    """What the stack itself asks for."""
    lines = [line.split(" #")[0].strip() for name in source.inputs for line in source.text_of(name).splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def coverage(sources: Sequence[Source], wheels: torch.Wheels) -> list[dict[str, str]]:
    """For each stack, build and platform: whether it is locked, or cannot be."""
    return [
        {
            "stack": source.name,
            "tag": closure.tag,
            "platform": closure.platform,
            "torch": source.builds.get(closure.tag, ""),
            "state": "locked" if not closure.tag or wheels.row(closure) else "not lockable",
        }
        for source in sources
        if source.python is not None
        for closure in source.closures()
    ]
