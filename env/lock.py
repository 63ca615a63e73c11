"""Make the locks: from small `.in` files and `stack.yml`s to packages, versions and hashes, without index addresses.

`python env/lock.py [NAME...]` locks anew (all sources, or those named); `python env/lock.py --check` reads only, and
refuses a lock that does not fit its sources, the catalogue, or its own packages' requirements. Each closure (a stack
for one torch build and platform) is resolved once and then split by layer. Resolving needs `uv` and the machine's
Python index; checking needs neither.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ENV = Path(__file__).resolve().parent
sys.path.insert(0, str(ENV.parent / "plugins/module_utils"))

from hostkit.result import Problem  # noqa: E402
from labwright import catalog  # noqa: E402
from locking import checking, requires, resolving, torch  # noqa: E402
from locking.problem import LockError  # noqa: E402
from locking.sources import Source, all_sources  # noqa: E402
from locking.text import read  # noqa: E402


def host_python(env: Path) -> str:
    """The full version of the interpreter that stacks run on."""
    path = env / "conda/conda-lock.yml"
    try:
        return next(str(row["version"]) for row in catalog.read(path)["package"] if row["name"] == "python")
    except (KeyError, TypeError, StopIteration) as error:
        raise LockError(
            f"LW-LOCK-039: {path} names no python; restore it, or run `python env/locking/conda.py`."
        ) from error


def chosen(sources: Sequence[Source], names: Sequence[str]) -> list[Source]:
    """The sources with these names; all without names."""
    if unknown := set(names) - {one.name for one in sources}:
        known = ", ".join(one.name for one in sources)
        raise LockError(f"LW-LOCK-007: there is no source {', '.join(sorted(unknown))}; there are {known}.")
    return [one for one in sources if not names or one.name in names]


def check(sources: Sequence[Source], env: Path) -> list[str]:
    """A sentence for each fault."""
    wheels, book, python = torch.read_wheels(env), requires.read(env), host_python(env)
    catalog.checked(env, "conda")  # as the others: each row with its sum and its source, by its schema
    without = [
        row["filename"] for row in catalog.checked(env, "installers") if not row["sha256"] and not row.get("members")
    ]
    found = [
        f"LW-LOCK-036: env/catalog/installers.yml: {name} has no sha256, nor has a file in it; add it with its source."
        for name in without
    ]
    return found + [fault for source in sources for fault in checking.faults(source, wheels, book, python)]


def lock(sources: Sequence[Source], env: Path, index: str, keep: bool) -> list[str]:
    """Lock anew; return what there is to say."""
    run = resolving.Locking(env, host_python(env), index, keep)
    said = [run.confirm(sources)]
    for source in sources:
        for path in run.lock(source):
            packages = read(path.read_text(encoding="utf-8"))
            own = path.read_text(encoding="utf-8").count("# The sum of the next one:")
            how = f"{len(packages) - own} sums from the package index now, {own} from the catalogue"
            said.append(f"{path.relative_to(env.parent)}: {len(packages)} packages; {how}")
    stacks = [one for one in all_sources(env) if one.python is not None]
    wanted = [(package.name, package.version) for one in stacks for package in resolving.locked(one)]
    (env / "stacks/requires.yml").write_text(run.book.render(wanted), encoding="utf-8")
    return [line for line in said + run.said if line]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return the exit status (0 done or no fault, 1 a fault, 2 wrong use)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="*", metavar="NAME", help="sources to lock or check; all of them by default")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a lock is not right")
    parser.add_argument("--keep", action="store_true", help="move nothing that is locked; for one package more or less")
    parser.add_argument("--torch-index", default=torch.INDEX, metavar="URL", help=f"instead of {torch.INDEX}")
    options = parser.parse_args(argv)
    try:
        sources = chosen(all_sources(ENV), options.names)
        if options.check:
            faults = check(sources, ENV)
            closures = sum(len(one.closures()) for one in sources)
            print("\n".join(faults) or f"{len(sources)} sources with {closures} closures are locked as they should be.")
            return 1 if faults else 0
        print("\n".join(lock(sources, ENV, options.torch_index, options.keep)))
    except (LockError, Problem) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
