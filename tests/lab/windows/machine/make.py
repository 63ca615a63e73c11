"""Make what stands in for Windows software: programs, installers, Conda packages. Once, kept in the cache by content.

`make.py folder` prints the folder that `env/bundle.py make --windows` takes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab.errors import LabError

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[3]
ENV = ROOT / "env"
SERIES = "3.11"
COMPILER = "x86_64-w64-mingw32-gcc"
OPTIONS = ("-O2", "-s", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-municode", "-Wl,--no-insert-timestamp")


def cache_folder() -> Path:
    """LABWRIGHT_CACHE, else `.cache` of the checkout."""
    return Path(os.environ.get("LABWRIGHT_CACHE") or ROOT / ".cache").resolve()


def run(argv: Sequence[str | Path], **environment: str) -> None:
    """Run a tool; LabError with its last words."""
    words = [str(word) for word in argv]
    if not shutil.which(words[0]):
        raise LabError(
            "LW-LAB-061", f"{words[0]} was expected and is not there; run `apt-get install wine wine64 mingw-w64 nsis`"
        )
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    if done.returncode:
        last = " | ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-5:])
        raise LabError("LW-LAB-062", f"`{' '.join(words)[:200]}` ended with status {done.returncode}: {last}")


@contextmanager
def alone(cache: Path) -> Iterator[None]:
    """One maker at a time."""
    folder = cache / "windows"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "making.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def kept(cache: Path, name: str, inputs: Sequence[Path | str], fill: Callable[[Path], None]) -> Path:
    """The folder `cache/windows/NAME-…`, made now unless one of the same inputs is there."""
    parts = [one.read_bytes() if isinstance(one, Path) else one.encode() for one in inputs]
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    folder = cache / "windows" / f"{name}-{digest}"
    with alone(cache):
        if not folder.is_dir():
            part = folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            fill(part)
            part.rename(folder)
    return folder


def programs(cache: Path) -> Path:
    """shim.exe, reach.exe, and conda's start program (Scripts/conda.exe), which is shim.exe too."""

    def fill(folder: Path) -> None:
        run([COMPILER, *OPTIONS, "-o", folder / "shim.exe", HERE / "shim.c", "-lws2_32"])
        run([COMPILER, *OPTIONS, "-o", folder / "reach.exe", HERE / "reach.c"])
        (folder / "Scripts").mkdir()
        shutil.copyfile(folder / "shim.exe", folder / "Scripts/conda.exe")

    return kept(cache, "programs", [HERE / "shim.c", HERE / "reach.c", *OPTIONS], fill)


def kit(cache: Path) -> Path:
    """The folder of the kit (env/kit), which has a real conda for Linux."""
    sys.path[:0] = [one for one in (str(ENV), str(ROOT / "plugins/module_utils")) if one not in sys.path]
    from kit import conda_kit

    candidate, _ = conda_kit.choose("auto", SERIES, cache, "")
    return conda_kit.make(candidate, SERIES, cache)


def base(cache: Path) -> Path:
    """A Linux Conda with Python 3.11, in which the Linux side runs conda, pip, and what stands in for Windows Python."""
    found = kit(cache)
    installer = found / json.loads((found / "kit.json").read_text(encoding="utf-8"))["installer"]["path"]
    digest = hashlib.sha256(installer.read_bytes()).hexdigest()[:16]
    prefix = cache / "windows" / f"base-{digest}"
    with alone(cache):
        if not (prefix / ".ready").is_file():
            shutil.rmtree(prefix, ignore_errors=True)
            run(["bash", installer, "-b", "-p", prefix])
            (prefix / ".ready").touch()
    return prefix


if __name__ == "__main__":
    print(base(cache_folder()), programs(cache_folder()))
