"""Wine as a machine: a prefix that is made once and copied, boots, runs programs, and goes down."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import LabError

HERE = Path(__file__).resolve().parent
HAND = r"C:\windows\labwright-hand.exe"
# Windows 11 23H2, which Wine 8 has no name for; programs read it from the registry.
BUILD = "22631"
# nssm.exe ends when its service has stopped, for StartServiceCtrlDispatcher returns then. In Wine 8 it does not now and
# then, and the service manager ends the process after a minute, unless the registry says when.
LEFT_MS = "2000"
# Wine's programs of these names end with 0 and do nothing; the hand refuses to run under each of them.
STUBS = (
    r"system32\WindowsPowerShell\v1.0\powershell.exe",
    *(
        rf"system32\{name}.exe"
        for name in (
            "netsh",
            "schtasks",
            "setx",
            "icacls",
            "cacls",
            "dism",
            "systeminfo",
            "secedit",
            "wevtutil",
            "wusa",
            "findstr",
        )
    ),
)
DRIVE = re.compile(r"^([A-Za-z]):[\\/]?(.*)$", re.DOTALL)
PLAIN = re.compile(r'^[^ \t\n\v"]+$')


class PathError(ValueError):
    """A path that this machine cannot have; its text says why."""


@dataclass(frozen=True)
class Ended:
    """How a program ended. ``error`` is Windows' error code where it could not be started, and 0 otherwise."""

    rc: int
    stdout: bytes
    stderr: bytes
    error: int = 0


def quoted(word: str) -> str:
    """Quote one argument as CommandLineToArgvW reads it."""
    if PLAIN.match(word):
        return word
    doubled = re.sub(r'(\\*)"', r'\1\1\\"', word)
    return '"' + re.sub(r"(\\+)$", r"\1\1", doubled) + '"'


def command_line(words: Sequence[str]) -> str:
    """Join arguments to one command line."""
    return " ".join(quoted(word) for word in words)


def child(folder: Path, name: str) -> Path:
    """Return the entry of a folder whose name is this in any case; the name as it stands where there is none."""
    exact = folder / name
    if os.path.lexists(exact):
        return exact
    try:
        with os.scandir(folder) as entries:
            return next((folder / entry.name for entry in entries if entry.name.lower() == name.lower()), exact)
    except OSError:
        return exact


@dataclass(frozen=True)
class Wine:
    """One prefix. ``prefix`` holds ``drive_c`` and the registry."""

    prefix: Path

    @property
    def drive_c(self) -> Path:
        """The folder that is C:."""
        return self.prefix / "drive_c"

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return a process's environment: nothing of this machine's but what Wine needs.

        Without the overrides Wine asks for Mono and Gecko in a window.
        """
        return {
            **(extra or {}),
            "WINEPREFIX": str(self.prefix),
            "WINEDEBUG": "-all",
            "WINEDLLOVERRIDES": "mscoree,mshtml=;icacls.exe=n",
            "HOME": "/root",
            "LC_ALL": "C.UTF-8",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
        }

    def path(self, windows: str) -> Path:
        """Return where a Windows path lies; a name is found in any case. Raise PathError where it is not on C:."""
        match = DRIVE.match(windows.removeprefix("\\\\?\\"))
        if match is None:
            raise PathError(f"{windows!r} is not an absolute path of Windows (C:\\...)")
        if match[1].lower() != "c":
            raise PathError(f"{windows!r}: this machine has no drive but C:")
        parts = [part for part in re.split(r"[\\/]+", match[2]) if part not in ("", ".")]
        if ".." in parts:
            raise PathError(f"{windows!r} goes up; give the path itself")
        where = self.drive_c
        for part in parts:
            where = child(where, part)
        return where

    def windows(self, path: Path) -> str:
        """Return the Windows path of something on C:."""
        return "C:\\" + str(path.relative_to(self.drive_c)).replace("/", "\\").removeprefix(".")

    def wine(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        """Run a program for what it prints."""
        return subprocess.run(
            ["wine", *words],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd="/",
            check=False,
        )

    def run(
        self,
        line: str | Sequence[str],
        *,
        folder: str = "",
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
    ) -> Ended:
        """Run exactly this command line (or these words, quoted) and wait for its end."""
        line = line if isinstance(line, str) else command_line(line)
        name = f"hand-{secrets.token_hex(6)}"
        report = self.drive_c / "windows" / "temp" / name
        extra = {**(environment or {}), "HAND_LINE": line, "HAND_STATUS": rf"C:\windows\temp\{name}"}
        # As over WinRM: in the user's own folder, and never on Wine's drive Z:.
        extra["HAND_FOLDER"] = folder or r"C:\users\root"
        done = subprocess.run(
            ["wine", HAND, "run"], env=self.environment(extra), input=stdin, capture_output=True, cwd="/", check=False
        )
        try:
            word, _, number = report.read_text().partition(" ")
        except OSError:
            raise LabError("LW-LAB-107", "the machine went down while a program ran") from None
        report.unlink()
        if word == "error":
            return Ended(2, b"", b"", int(number))
        return Ended(int(number), done.stdout, done.stderr)

    def hand(self, *words: str) -> dict[str, Any]:
        """Ask the hand; see hand.c for what it knows."""
        done = self.wine(HAND, *words)
        if not done.stdout:  # now and then Wine loses a program at its start
            done = self.wine(HAND, *words)
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            raise LabError("LW-LAB-107", f"the machine does not answer ({' '.join(words[:2])})") from None
        return dict(answer)

    def boot(self) -> None:
        """Start the machine. The first program boots it, and services that start by themselves do.

        Without ``-p`` every idle moment would be a reboot. What this starts stays and keeps its output open.
        """
        self.server("-p")
        self.quietly("wine", "cmd", "/c", "start", "/b", HAND, "stay")

    def halt(self) -> None:
        """Switch the machine off, as a power cut does."""
        self.server("-k")
        self.server("-w")

    def server(self, option: str) -> None:
        """Call wineserver."""
        self.quietly("wineserver", option)

    def quietly(self, *words: str) -> None:
        """Run something that may leave processes behind; they must not hold a pipe of ours."""
        nothing = subprocess.DEVNULL
        subprocess.run(
            words, env=self.environment(), stdin=nothing, stdout=nothing, stderr=nothing, cwd="/", check=False
        )


def compile_hand(target: Path) -> None:
    """Compile hand.c; raise LW-LAB-103 with the compiler's words."""
    words = ["x86_64-w64-mingw32-gcc", "-municode", "-O2", "-s", "-o", str(target), str(HERE / "hand.c")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError("LW-LAB-103", f"hand.c could not be compiled: {done.stderr.strip()[-500:]}")


def make_pristine(wine: Wine) -> None:
    """Fill an empty folder with a machine as it comes out of the box, plus the hand.

    This Wine session must end before the persistent one begins, or there are two service control managers.
    """
    wine.prefix.mkdir(parents=True)
    wine.quietly("wine", "wineboot", "-i")
    wine.quietly("wine", "winecfg", "-v", "win10")
    wine.server("-w")
    system = wine.drive_c / "windows"
    if not (system / "system32" / "cmd.exe").exists():
        raise LabError("LW-LAB-104", f"Wine made no system in {wine.prefix}; try `wine wineboot -i` by hand")
    hand = system / "labwright-hand.exe"
    compile_hand(hand)
    for stub in STUBS:
        place = wine.path(rf"C:\windows\{stub}")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(hand, place)
    (system / "temp").mkdir(exist_ok=True)
    wine.boot()
    key = r"HKLM\Software\Microsoft\Windows NT\CurrentVersion"
    values = dict.fromkeys(("CurrentBuild", "CurrentBuildNumber"), BUILD) | {"InstallationType": "Client"}
    control = r"HKLM\System\CurrentControlSet\Control"
    written = [(key, *one) for one in values.items()] + [(control, "WaitToKillServiceTimeout", LEFT_MS)]
    for where, name, value in written:
        wine.hand("registry", "write", where, name, "1", f"{value}\0".encode("utf-16-le").hex())
    # Without this Wine runs its own program in place of the file that lies there.
    for stub in STUBS:
        name = stub.rpartition("\\")[2]
        native = "native\0".encode("utf-16-le").hex()
        wine.hand("registry", "write", r"HKCU\Software\Wine\DllOverrides", name, "1", native)
    wine.halt()
