"""Paths of a Wine machine: what `C:\\…` is on this machine, and back; names are found whatever their case.

Standard library only, Python 3.11: it is also loaded by what stands in for Windows Python.
"""

from __future__ import annotations

import errno
import posixpath
import re

# Bound here, because what stands in for Windows Python puts others in their places.
from posix import listdir, lstat, readlink

DRIVE = re.compile(r"^(?:\\\\\?\\|//\?/)?([A-Za-z]):(?:[\\/]|$)")
FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f]')
DEVICES = frozenset(["nul", "con", "aux", "prn"])


def there_is(path: str) -> bool:
    """Whether something lies at a Linux path, be it a link that leads nowhere."""
    try:
        lstat(path)
    except OSError:
        return False
    return True


class Drive:
    """The drives of one Wine prefix."""

    def __init__(self, prefix: str) -> None:
        """`prefix` is the folder with `dosdevices` and `drive_c`."""
        self.c = posixpath.realpath(posixpath.join(prefix, "drive_c"))

    def holds(self, text: str) -> bool:
        """Whether it is a path with a drive."""
        return bool(DRIVE.match(text))

    def linux(self, text: str, folder: str = "") -> str:
        """The Linux path of a Windows one; a relative one is one of `folder`. What is no such path stays."""
        if text.lower() in DEVICES:
            return "/dev/null"
        match = DRIVE.match(text)
        if match is None:
            if text.startswith(("\\", "/")):
                if text.startswith(("\\\\", "//")):
                    raise failure(errno.ENOENT, "The network path was not found", 53, text)
                return self._walk(self.c, text)
            return self._walk(folder, text) if folder else text
        if match[1].lower() != "c":
            raise failure(errno.ENOENT, "The system cannot find the path specified", 3, text)
        return self._walk(self.c, text[match.end(1) + 1 :])

    def _walk(self, folder: str, rest: str) -> str:
        """Go down, each name as it lies there whatever its case."""
        here = folder
        for part in rest.replace("/", "\\").split("\\"):
            if part in ("", "."):
                continue
            if part == "..":
                here = posixpath.dirname(here) if here != self.c else here
                continue
            name = part.rstrip(". ") or part
            if FORBIDDEN.search(name):
                raise failure(
                    errno.EINVAL, "The filename, directory name, or volume label syntax is incorrect", 123, rest
                )
            there = posixpath.join(here, name)
            if not there_is(there):
                try:
                    others = listdir(here)
                except OSError:
                    others = []
                there = next((posixpath.join(here, one) for one in others if one.lower() == name.lower()), there)
            here = there
        return here

    def windows(self, path: str) -> str:
        """The Windows path of a Linux one; one beyond drive C: stays."""
        if path == self.c:
            return "C:\\"
        if path.startswith(self.c + "/"):
            return "C:\\" + path[len(self.c) + 1 :].replace("/", "\\")
        return path

    def aimed(self, link: str) -> str:
        """Where a junction leads, as a Windows path."""
        target = readlink(link)
        if not target.startswith("/"):
            target = posixpath.normpath(posixpath.join(posixpath.dirname(link), target))
        return self.windows(target)

    def words(self, text: str) -> str:
        """A word of a command line or a variable: mapped where it is a path, or an option with one (--x=C:\\y)."""
        if self.holds(text):
            return self.linux(text)
        name, equals, value = text.partition("=")
        if equals and name.startswith("-") and self.holds(value):
            return f"{name}={self.linux(value)}"
        return text


def failure(number: int, sentence: str, winerror: int, name: str) -> OSError:
    """An error as Windows Python raises it."""
    error = OSError(number, sentence, name)
    error.winerror = winerror  # type: ignore[attr-defined, unused-ignore]
    return error
