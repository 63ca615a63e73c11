"""Running other programs, with their own words in the error."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .errors import LabError
from .settings import HERE, PLACES, Settings


def run(arguments: Sequence[str | Path], *, stdin: str | None = None, check: bool = True, **environment: str) -> str:
    """Run a program and return its standard output; with ``check`` a failure raises LW-LAB-031 with its last words."""
    words = [str(argument) for argument in arguments]
    done = subprocess.run(
        words,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": PLACES, "LC_ALL": "C.UTF-8", **environment},
    )
    if check and done.returncode != 0:
        last = " | ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-5:])
        raise LabError("LW-LAB-031", f"`{' '.join(words)[:200]}` ended with status {done.returncode}: {last}")
    return done.stdout


def succeeds(arguments: Sequence[str | Path], **environment: str) -> bool:
    """Run a program for its exit status alone."""
    done = subprocess.run(
        [str(argument) for argument in arguments],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
        env={**os.environ, "PATH": PLACES, **environment},
    )
    return done.returncode == 0


class Podman:
    """podman through the script beside this file, with one checkout's settings."""

    def __init__(self, settings: Settings) -> None:
        """Calls nothing yet."""
        self._environment = {"LABWRIGHT_CACHE": str(settings.cache), "LABWRIGHT_RUN": str(settings.run)}

    def __call__(self, *arguments: str | Path, stdin: str | None = None, check: bool = True) -> str:
        """Run podman with these arguments and return its standard output."""
        return run([HERE / "podman", *arguments], stdin=stdin, check=check, **self._environment)

    def ok(self, *arguments: str | Path) -> bool:
        """Run podman for its exit status alone."""
        return succeeds([HERE / "podman", *arguments], **self._environment)
