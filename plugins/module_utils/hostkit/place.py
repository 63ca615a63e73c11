"""Files and folders where Linux and Windows differ: what is in use there cannot be replaced, and links are junctions.

Text is written as bytes everywhere, so that no line end is made into another one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Optional

from hostkit.result import Problem

TRIES = 10  # a scanner holds a new file for a moment
PAUSE_S = 0.2
GONE = ".gone-"
VERBATIM = "\\\\?\\"  # what Windows puts before where a junction leads


def windows() -> bool:
    """Whether this host is a Windows host."""
    return sys.platform == "win32"


def put(part: Path, target: Path) -> None:
    """Give a finished file its real name in one step."""
    for left in range(TRIES, 0, -1):
        try:
            part.replace(target)
        except PermissionError as error:
            if windows() and left > 1:
                time.sleep(PAUSE_S)
                continue
            part.unlink()
            raise in_use(target, error) from error
        return


def write(path: Path, text: str) -> None:
    """Replace a file's text in one step, as UTF-8, with the line ends that it has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(text.encode("utf-8"))
    put(part, path)


def discard(path: Path) -> None:
    """Remove a file, a link or a folder; one that a program has open stays whole.

    A folder goes aside first: Windows refuses that where a program runs from it, and then nothing has been done.
    """
    try:
        if is_link(path):
            unlink(path)
        elif path.is_dir():
            aside = path.with_name(GONE + path.name)
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            shutil.rmtree(aside)
        else:
            path.unlink()
    except PermissionError as error:
        raise in_use(path, error) from error


def in_use(path: Path, error: OSError) -> Problem:
    """The sentence about what cannot be touched."""
    words = f"{path} cannot be replaced or removed: {error.strerror}. A program runs from it or has it open"
    fix = "Stop that program (of the lab's services: `nssm stop NAME`, playbooks/status.yml names them), and run again."
    return Problem("LW-HOSTKIT-011", f"{words}; what was there is untouched. {fix}")


def leads_to(path: Path) -> Optional[Path]:
    """Where a link or a junction leads; None for anything else."""
    try:
        found = os.readlink(path)  # noqa: PTH115 (Path.is_symlink knows no junctions)
    except (OSError, ValueError):
        return None
    return Path(found[len(VERBATIM) :] if found.startswith(VERBATIM) else found)


def is_link(path: Path) -> bool:
    """Whether it is a link or a junction."""
    return leads_to(path) is not None


def unlink(path: Path) -> None:
    """Remove a link, not what it leads to."""
    if windows():
        path.rmdir()  # a junction is a folder to Windows
    else:
        path.unlink()


def link(path: Path, target: Path) -> None:
    """Make ``path`` lead to the folder ``target``; what was there is replaced, and is a link."""
    part = path.with_name(path.name + ".part")
    if is_link(part):
        unlink(part)
    if not windows():
        part.symlink_to(target)
        part.replace(path)
        return
    # A symbolic link needs a right there that services and people lack; a junction needs none.
    argv = ["cmd.exe", "/c", "mklink", "/J", str(part), str(target)]
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode or not is_link(part):
        words = f"`{' '.join(argv[2:])}` failed: {(done.stderr or done.stdout).strip() or done.returncode}"
        raise Problem("LW-HOSTKIT-012", f"{words}. Expected a junction; is {path.parent} on an NTFS disk?")
    if is_link(path):
        unlink(path)  # Windows replaces no folder by another
    part.rename(path)
