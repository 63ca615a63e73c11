"""Where things lie on a host, written as the host's own system writes it: Windows' installers and NSSM read no slashes.

Pure: no host is asked, so a plan for a room of both systems is made on any control node.
"""

from __future__ import annotations

import ntpath
import posixpath
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath, PureWindowsPath

LINUX, WINDOWS = "linux-64", "win-64"  # platforms, as locks and installers name them
GROUP = "windows"  # the inventory's group of Windows hosts


@dataclass(frozen=True)
class System:
    """One operating system: how the roles call it, how it writes a path, and where programs put what."""

    name: str
    flavour: type[PurePath]
    etc: str  # configuration of the lab
    folders: tuple[str, ...]  # of ours, wherever the inventory puts the rest; each before the one that it is in
    shared: str  # pattern of folders that are the system's, and nobody's own
    hidden: str  # pattern of what services do not see, or a restart of the host empties; its first group is the folder
    python_in: tuple[str, ...]  # an environment's interpreter, below its prefix
    conda_in: tuple[str, ...]  # Conda's program, below its base
    path_in: tuple[str, ...]  # folders below a prefix where its programs look for libraries; none on Linux
    path: str  # what follows these in PATH
    unit: str  # what follows a service's name where the system is asked for it

    def join(self, *parts: str) -> str:
        """One path out of its parts."""
        return str(self.flavour(*parts))

    def python(self, prefix: str) -> str:
        """The interpreter of an environment."""
        return self.join(prefix, *self.python_in)

    def conda(self, base: str) -> str:
        """The program conda of a base."""
        return self.join(base, *self.conda_in)

    def environment(self, prefix: str) -> dict[str, str]:
        """What a program of an environment must have in its own: on Windows what an activated shell would have set, and
        UTF-8 instead of the machine's code page."""
        if not self.path_in:
            return {}
        folders = [prefix, *(self.join(prefix, *one.split("/")) for one in self.path_in)]
        return {"PATH": ";".join([*folders, self.path]), "PYTHONUTF8": "1"}

    def plain(self, path: str) -> str:
        """A path without what means nothing in it."""
        return ntpath.normpath(path) if self.flavour is PureWindowsPath else posixpath.normpath("/" + path.lstrip("/"))

    def whole(self, path: str) -> bool:
        """Whether a path is this system's own and complete."""
        return self.flavour(path).is_absolute()


HOME = "C:\\ProgramData\\labwright"
SYSTEMS = {
    LINUX: System(
        name="linux",
        flavour=PurePosixPath,
        etc="/etc/labwright",
        folders=("/etc/labwright",),
        shared=(
            "/(bin|boot|dev|etc|home|lib|lib64|media|mnt|opt|proc|root|run|sbin|srv|sys|tmp|usr|var)?|/etc/labwright"
            "|/usr(/local)?/(bin|etc|games|include|lib|lib64|libexec|local|man|sbin|share|src)"
            "|/var/(backups|cache|lib|local|lock|log|mail|opt|run|spool|tmp|www)"
        ),
        hidden="(/(home|root|run|tmp|var/run|var/tmp))/.*",
        python_in=("bin", "python"),
        conda_in=("bin", "conda"),
        path_in=(),
        path="",
        unit=".service",
    ),
    WINDOWS: System(
        name="windows",
        flavour=PureWindowsPath,
        etc=f"{HOME}\\etc",
        shared=r"(?i)C:\\(Users|Windows|ProgramData)",
        hidden="(?!)",
        folders=(f"{HOME}\\store", f"{HOME}\\etc", f"{HOME}\\logs", HOME),
        python_in=("python.exe",),
        conda_in=("Scripts", "conda.exe"),
        path_in=("Library/mingw-w64/bin", "Library/usr/bin", "Library/bin", "Scripts"),
        path="C:\\Windows\\System32;C:\\Windows;C:\\Windows\\System32\\Wbem",
        unit="",
    ),
}


def of(platform: str) -> System:
    """The system of a platform; Linux where none is known, as for a host that nobody asked."""
    return SYSTEMS[platform or LINUX]
