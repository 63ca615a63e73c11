"""Find a plain CPython on the control node, and say why each of the others is not one.

Plain means: the layout of CPython's own `make install`. Debian's python3.11 has another (`dist-packages`,
`posix_local`): in an environment made from it pip would install elsewhere. It must also run on the oldest host, by its
C library.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kit.problem import Problem

# The C library of Debian 12, the oldest host that the kit is for.
GLIBC_MAX = (2, 36)
VERSION = re.compile(r'^#define PY_VERSION\s+"([^"]+)"', re.MULTILINE)


@dataclass(frozen=True)
class Candidate:
    """A CPython that was looked at. `fault` is empty when it can be used."""

    prefix: Path
    found: str
    version: str = ""
    fault: str = ""


def newest_glibc(data: bytes) -> tuple[int, int]:
    """Return the newest version of the C library that an ELF file's symbols ask for."""
    versions = [(int(a), int(b)) for a, b in re.findall(rb"GLIBC_(\d+)\.(\d+)", data)]
    return max(versions, default=(2, 0))


def version_of(prefix: Path, series: str) -> str:
    """Return the full version from the headers under a prefix; empty where there are none."""
    header = prefix / f"include/python{series}/patchlevel.h"
    match = VERSION.search(header.read_text(encoding="utf-8")) if header.is_file() else None
    return match[1] if match else ""


def fault_of(prefix: Path, series: str) -> str:
    """Say why a prefix holds no plain CPython of this series; empty when it does."""
    library = prefix / f"lib/python{series}"
    executable = prefix / f"bin/python{series}"
    if not executable.is_file() or not (library / "os.py").is_file():
        return f"has no CPython {series}"
    scheme = (library / "sysconfig.py").read_text(encoding="utf-8", errors="replace")
    if "posix_local" in scheme or "deb_system" in scheme or not (library / "site-packages").is_dir():
        return "has Debian's patched layout, in which pip installs elsewhere"
    if not version_of(prefix, series):
        return f"has no headers (include/python{series})"
    elf = [executable.resolve(), *library.glob("lib-dynload/*.so"), *(prefix / "lib").glob(f"libpython{series}.so*")]
    glibc = max(newest_glibc(path.read_bytes()) for path in elf if path.is_file())
    if glibc > GLIBC_MAX:
        return "needs glibc {}.{}, newer than the {}.{} of Debian 12".format(*glibc, *GLIBC_MAX)
    return ""


def look_at(prefix: Path, found: str, series: str) -> Candidate:
    """Judge one prefix."""
    fault = fault_of(prefix, series)
    return Candidate(prefix, found, "" if fault else version_of(prefix, series), fault)


def prefix_of_executable(executable: Path | str) -> Path | None:
    """Return the base prefix that an interpreter (a shim or a venv's too) reports; None when it does not run."""
    command = [str(executable), "-I", "-c", "import sys; print(sys.base_prefix)"]
    try:
        answer = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Path(answer.stdout.strip()) if answer.returncode == 0 and answer.stdout.strip() else None


def by_version(paths: Iterable[Path]) -> list[Path]:
    """Sort paths by the numbers in their names, newest first."""
    return sorted(paths, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)], reverse=True)


def places(series: str, home: Path) -> Iterator[tuple[Path, str]]:
    """Yield the prefixes worth a look, in order of preference, with where they were found."""
    yield Path(sys.base_prefix), "the running interpreter"
    on_path = shutil.which(f"python{series}")
    if on_path and (prefix := prefix_of_executable(on_path)):
        yield prefix, f"python{series} on PATH"
    pyenv = Path(os.environ.get("PYENV_ROOT") or home / ".pyenv")
    for path in by_version((pyenv / "versions").glob(f"{series}*")):
        yield path, "pyenv"
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share")
    managed = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or data / "uv/python")
    for path in by_version(managed.glob(f"cpython-{series}.*-linux-x86_64-gnu")):
        yield path, "uv"


def candidates(series: str, home: Path | None = None) -> list[Candidate]:
    """Look at every place once; stop at the first plain CPython."""
    seen: set[Path] = set()
    looked = []
    for prefix, found in places(series, home or Path.home()):
        real = prefix.resolve()
        if real in seen:
            continue
        seen.add(real)
        looked.append(look_at(real, found, series))
        if not looked[-1].fault:
            break
    return looked


def named(path: Path, series: str) -> Candidate:
    """Judge the interpreter or prefix that a person named; raise Problem when it cannot be used."""
    prefix = path if path.is_dir() else prefix_of_executable(path)
    if prefix is None:
        raise Problem(
            f"LW-KIT-003: --python {path}: no such interpreter, or it does not run. "
            f"Give a CPython {series}, its prefix, or the word `build`."
        )
    candidate = look_at(prefix.resolve(), "--python", series)
    if candidate.fault:
        raise Problem(
            f"LW-KIT-004: --python {path}: {prefix} {candidate.fault}. The kit needs a plain CPython {series} "
            "(from pyenv, uv or `make install`); the word `build` makes one out of the distribution's source."
        )
    return candidate
