"""Run a program of a Windows environment in its Linux twin: `python twin.py FD`.

What the Windows environment lacks cannot be imported. Labwright's own modules (labwright_*) see sys.platform "win32",
and none of the modules that Windows Python has not got.
"""

from __future__ import annotations

import builtins
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

if not sys.flags.safe_path:
    del sys.path[0]
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from lab.windows.machine import program

GONE = ("pwd", "grp", "fcntl", "resource", "termios", "syslog")
OWN = "labwright_"


def canonical(name: str) -> str:
    """A package's name as PEP 503 has it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def packages(site: Path) -> dict[str, Path]:
    """Installed packages: name and version (without its local part) to the folder of metadata."""
    found = {}
    for info in site.glob("*.dist-info"):
        name, _, version = info.name.removesuffix(".dist-info").partition("-")
        found[f"{canonical(name)} {version.partition('+')[0]}"] = info
    return found


def modules_of(info: Path) -> set[str]:
    """The top-level modules of a package, by its record."""
    rows = (info / "RECORD").read_text(encoding="utf-8").splitlines()
    heads = {row.split(",", 1)[0].split("/")[0].split(".")[0] for row in rows if not row.startswith("../")}
    return {head for head in heads if head.isidentifier()}


class Lacking(MetaPathFinder):
    """Refuses modules of packages that the Windows environment has not got."""

    def __init__(self, names: Mapping[str, str]) -> None:
        """`names` leads from a module to its package."""
        self._names = names

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        """Nothing is ever found here; what is refused is said."""
        if name in self._names:
            raise ModuleNotFoundError(f"No module named {name!r} (the Windows environment lacks {self._names[name]})")


class WindowsSys(ModuleType):
    """The module sys with another platform."""

    platform = "win32"

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(sys, name, value)


def hide(prefix: Path) -> None:
    """Hide what the Windows environment lacks."""
    here = next(Path(one) for one in sys.path if one.endswith("site-packages"))
    there, twin = packages(prefix / "Lib/site-packages"), packages(here)
    kept = {module for name in twin.keys() & there.keys() for module in modules_of(twin[name])}
    lacking = {module: name for name in twin.keys() - there.keys() for module in modules_of(twin[name])}
    sys.meta_path.insert(0, Lacking({module: name for module, name in lacking.items() if module not in kept}))


def pretend() -> None:
    """Give Labwright's own modules another sys, and take away what Windows has not got."""
    real, shown = builtins.__import__, WindowsSys("sys")

    def imported(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:  # noqa: A002
        if (globals and str(globals.get("__name__", "")).startswith(OWN)) or _own_main(globals):
            if name in GONE:
                raise ModuleNotFoundError(f"No module named {name!r} (Windows Python has none)")
            if name == "sys":
                return shown
        return real(name, globals, locals, fromlist, level)

    builtins.__import__ = imported


def _own_main(found: Any) -> bool:
    """`python -m labwright_x` runs as __main__."""
    spec = found.get("__spec__") if found else None
    return spec is not None and spec.name.startswith(OWN)


def main() -> None:
    """Read the request, hide, pretend, run."""
    with os.fdopen(int(sys.argv[1]), "rb") as stream:
        request = json.load(stream)
    hide(Path(request["prefix"]))
    pretend()
    del sys.path[0]
    line = program.Line(tuple(request["flags"]), (), request["kind"], request["program"], tuple(request["words"]))
    program.run(line)


if __name__ == "__main__":
    main()
