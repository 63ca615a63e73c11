"""Files and folders where Linux and Windows differ: what is in use there cannot be replaced, and links are junctions.

Text is written as bytes everywhere, so that no line end is made into another one.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from functools import partial
from os.path import ismount
from pathlib import Path
from typing import Any, Callable, Optional

from hostkit.result import Problem

TRIES = 25  # a scanner holds a new file for a moment, a service that was just removed its program
PAUSE_S = 0.2
IMAGES = (".exe", ".dll", ".pyd")  # what Windows runs programs from
GONE = ".gone-"  # what is being removed
OLD = ".old-"  # what waits until its successor is whole
VERBATIM = "\\\\?\\"  # what Windows puts before where a junction leads


def windows() -> bool:
    """Whether this host is a Windows host."""
    return sys.platform == "win32"


def put(part: Path, target: Path) -> None:
    """Give a finished file its real name in one step."""
    try:
        patiently(lambda: part.replace(target))
    except PermissionError as error:
        part.unlink()
        raise in_use(target, error) from error


def patiently(act: Callable[[], object]) -> None:
    """Do it; again for a while where Windows says that somebody has it open."""
    for left in range(TRIES if windows() else 1, 0, -1):
        try:
            act()
        except PermissionError:
            if left == 1:
                raise
            time.sleep(PAUSE_S)
        else:
            return


def write(path: Path, text: str) -> None:
    """Replace a file's text in one step, as UTF-8, with the line ends that it has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(text.encode("utf-8"))
    put(part, path)


def discard(path: Path) -> None:
    """Remove a file, a link or a folder; one that a program has open stays whole."""
    if path.is_dir() and not is_link(path):
        discard_folders([path])
        return
    try:
        if is_link(path):
            unlink(path)
        else:
            patiently(path.unlink)
    except PermissionError as error:
        raise in_use(path, error) from error


def discard_folders(paths: list[Path]) -> None:
    """Remove folders, all of them or none.

    Each goes aside first: Windows refuses that where a file of it is open, and then those before it come back. It does
    not where a program runs from it, so that is looked for before.
    """
    for path in paths:
        see_that_nothing_runs(path)
    aside = {path: path.with_name(GONE + path.name) for path in paths}
    moved: list[Path] = []
    for path, other in aside.items():
        remove_tree(other, surely=False)
        try:
            patiently(partial(path.rename, other))
        except PermissionError as error:
            for one in moved:
                aside[one].rename(one)
            raise in_use(path, error) from error
        moved.append(path)
    for path, other in aside.items():
        try:
            remove_tree(other)
        except PermissionError as error:
            raise in_use(path, error) from error


def move(folder: Path, other: Path) -> None:
    """Rename a folder; one that a program has open or runs from stays."""
    see_that_nothing_runs(folder)
    try:
        patiently(partial(folder.rename, other))
    except PermissionError as error:
        raise in_use(folder, error) from error


def see_that_nothing_runs(folder: Path) -> None:
    """Refuse a folder from which a program runs.

    Windows keeps no file open for that: it moves the folder, and then removes all of it but what runs. What it surely
    refuses is to open such a file for writing.
    """
    if not windows():
        return
    for parent, folders, names in os.walk(folder):
        folders[:] = [one for one in folders if not is_link(Path(parent, one))]
        for image in (Path(parent, name) for name in names if name.lower().endswith(IMAGES)):
            try:
                if not image.stat().st_mode & stat.S_IWRITE:
                    image.chmod(stat.S_IWRITE)
                patiently(partial(open_for_writing, image))
            except PermissionError as error:
                raise in_use(folder, error) from error


def open_for_writing(path: Path) -> None:
    """Do that, and write nothing."""
    path.open("r+b").close()


def remove_tree(folder: Path, surely: bool = True) -> None:
    """Remove a folder with all that is in it, also what Windows keeps for being read-only.

    Unless ``surely``, what cannot be removed stays.
    """

    def again(act: Callable[[str], object], name: str, why: Any) -> None:
        error = why if isinstance(why, OSError) else why[1]
        if windows() and act in (os.unlink, os.rmdir):
            try:
                Path(name).chmod(stat.S_IWRITE)
                act(name)
            except OSError as second:
                error = second
            else:
                return
        if surely:
            raise error

    handler: dict[str, Any] = {"onexc" if sys.version_info >= (3, 12) else "onerror": again}
    shutil.rmtree(folder, **handler)


def removable(folder: Path) -> bool:
    """Whether it is a folder that can go; a link to one and a disk's own are somebody else's."""
    return folder.is_dir() and not is_link(folder) and not ismount(folder)


def leave(folder: Path) -> None:
    """Remove a folder if nothing is in it."""
    if removable(folder) and not any(folder.iterdir()):
        folder.rmdir()


def in_use(path: Path, error: OSError) -> Problem:
    """The sentence about what cannot be touched."""
    which = f" ({error.filename})" if error.filename and str(error.filename) != str(path) else ""
    words = f"{path} cannot be replaced or removed: {error.strerror}{which}. A program runs from it or has it open"
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
