"""Programs that run in Wine for what stands in for Windows Python, and the files that processes of the machine hold."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Mapping

# Bound here, before what stands in for Windows Python puts others in their places.
from posix import getpid, kill, listdir, readlink, stat
from posix import open as os_open
from stat import S_IFMT, S_IFREG
from types import ModuleType
from typing import Any

_Popen = subprocess.Popen
_environ = dict(os.environ)
WINE = shutil.which("wine") or "/usr/bin/wine"
_known: dict[str, tuple[float, dict[str, str]]] = {}
FRESH_S = 0.3


def kind_of(path: str) -> int:
    """The kind of file at a Linux path (S_IFMT); 0 for none."""
    try:
        return S_IFMT(stat(path).st_mode)
    except OSError:
        return 0


def forget() -> None:
    """Something was opened or closed: the next look is a fresh one."""
    _known.clear()


def held(drive_c: str) -> dict[str, str]:
    """Files below drive C: that a process has open ("open") or runs ("runs"); looked at again after a moment.

    What Windows programs have open, and the programs themselves, Wine's own server has open for them.
    """
    at, found = _known.get(drive_c, (0.0, {}))
    if time.monotonic() - at < FRESH_S:
        return found
    found = {}
    for name in filter(str.isdigit, listdir("/proc")):
        try:
            for number in listdir(f"/proc/{name}/fd"):
                target = readlink(f"/proc/{name}/fd/{number}")
                if target.startswith(f"{drive_c}/"):
                    found[target] = "runs" if target.lower().endswith((".exe", ".dll", ".pyd")) else "open"
        except OSError:
            continue
    found = {path: how for path, how in found.items() if kind_of(path) == S_IFREG}
    _known[drive_c] = (time.monotonic(), found)
    return found


def wine_environment(prefix: str) -> dict[str, str]:
    """What Wine itself needs of this machine; a Windows program gets its own variables from reach.exe."""
    kept = {name: value for name, value in _environ.items() if name in ("PATH", "HOME", "LANG", "LC_ALL")}
    return kept | {"WINEPREFIX": prefix, "WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml=;icacls.exe=n"}


def reach(*words: str) -> list[str]:
    """A command line of reach.exe."""
    return [WINE, r"C:\windows\labwright-reach.exe", *words]


def which(machine: Any, command: str, mode: int = 0, path: str | None = None) -> str | None:
    """shutil.which, and how CreateProcess finds a program: an .exe in these folders, in this order."""
    name = command if "." in command.replace("/", "\\").rpartition("\\")[2] else f"{command}.exe"
    if "\\" in name or "/" in name:
        return (
            command
            if name == command and kind_of(machine.linux(name)) == S_IFREG
            else (name if kind_of(machine.linux(name)) == S_IFREG else None)
        )
    variables = machine.request["environment"]
    own = machine.request["exe"].rpartition("\\")[0]
    folders = [own, machine.folder, r"C:\windows\system32", r"C:\windows"] if path is None else []
    folders += (path or next((v for k, v in variables.items() if k.upper() == "PATH"), "")).split(";")
    for folder in folders:
        whole = f"{folder.rstrip(chr(92))}\\{name}"
        if machine.drive.holds(whole) and kind_of(machine.drive.linux(whole)) == S_IFREG:
            return whole
    return None


def split(line: str) -> list[str]:
    """A Windows command line taken apart as CommandLineToArgvW does."""
    words: list[str] = []
    word, quoted, begun, slashes = "", False, False, 0
    for letter in line:
        if letter == "\\":
            slashes, begun = slashes + 1, True
            continue
        if letter == '"':
            word += "\\" * (slashes // 2)
            if slashes % 2:
                word += '"'
            else:
                quoted = not quoted
            slashes, begun = 0, True
            continue
        word += "\\" * slashes
        slashes = 0
        if letter in " \t" and not quoted:
            if begun:
                words.append(word)
            word, begun = "", False
        else:
            word, begun = word + letter, True
    word += "\\" * slashes
    return [*words, word] if begun else words


def popen(machine: Any) -> type[subprocess.Popen[Any]]:
    """subprocess.Popen whose programs run in Wine, with command line, folder and variables as Windows would give."""

    class Popen(_Popen[Any]):
        def __init__(self, args: Any, *rest: Any, **options: Any) -> None:
            if rest:
                raise TypeError("what stands in for Windows Python wants the options of Popen by their names")
            line = args if isinstance(args, str) else subprocess.list2cmdline([os.fspath(one) for one in args])
            words = split(line)
            if options.pop("shell", False):
                line, words = f'C:\\windows\\system32\\cmd.exe /c "{line}"', ["cmd.exe", "/c", *words]
            for name in ("creationflags", "startupinfo", "close_fds"):
                options.pop(name, None)
            for name in ("preexec_fn", "start_new_session", "process_group", "user", "group", "pass_fds"):
                if options.pop(name, None):
                    raise ValueError(f"{name} is not supported on Windows platforms")
            executable = options.pop("executable", None) or words[0]
            found = which(machine, executable)
            if found is None:
                raise FileNotFoundError(2, "The system cannot find the file specified", executable, 2)
            if not found.lower().endswith((".exe", ".com")):
                raise OSError(8, f"[WinError 193] {found} is not a valid Win32 application")
            if options.pop("text", False) or options.get("universal_newlines"):
                options["universal_newlines"] = True
            if (options.get("universal_newlines") or options.get("errors")) and not options.get("encoding"):
                options["encoding"] = machine.encoding
            folder = os.fspath(options.pop("cwd", None) or machine.folder)
            variables = options.pop("env", None)
            variables = dict(os.environ) if variables is None else dict(variables)
            command = junction(machine, words) or self.command(machine, found, line, words, folder, variables)
            environment = wine_environment(machine.request["prefix"])
            self.line = line
            super().__init__(command, cwd="/", env=environment, start_new_session=False, **options)
            self.args = args

        @staticmethod
        def command(
            machine: Any, found: str, line: str, words: list[str], folder: str, variables: Mapping[str, str]
        ) -> list[str]:
            if not os.path.isdir(folder):  # noqa: PTH112
                raise NotADirectoryError(20, "The directory name is invalid", folder, 267)
            # CreateProcess searches by the first word; the word itself stays as the program's own name.
            quoted = line if words and found.lower() == words[0].lower() else f'"{found}"{after_first(line)}'
            block = [f"{name}={value}" for name, value in sorted(variables.items(), key=lambda one: one[0].upper())]
            place = machine.drive.linux(r"C:\windows\temp")
            number, path = temporary(place)
            with os.fdopen(number, "wb") as stream:
                stream.write("\0".join([quoted, folder, *block, "", ""]).encode("utf-16-le"))
            return reach("run", machine.drive.windows(path))

        def kill(self) -> None:
            """TerminateProcess: reach.exe ends here, and what it started ends with it, for it held that one's job."""
            if self.poll() is None:
                kill(self.pid, 9)

        def terminate(self) -> None:
            self.kill()

        def _handle_exitstatus(self, *args: Any, **options: Any) -> None:
            super()._handle_exitstatus(*args, **options)  # type: ignore[misc]
            if self.returncode < 0:
                self.returncode = 1  # what TerminateProcess gives it

        def _execute_child(self, *args: Any, **options: Any) -> None:
            with as_linux(machine):
                super()._execute_child(*args, **options)  # type: ignore[misc]

        def _get_handles(self, *args: Any) -> Any:
            with as_linux(machine):
                return super()._get_handles(*args)  # type: ignore[misc]

    return Popen


def after_first(line: str) -> str:
    """A command line without its first word."""
    if line.startswith('"'):
        return line[1:].partition('"')[2]
    _, space, tail = line.partition(" ")
    return space + tail


def temporary(folder: str) -> tuple[int, str]:
    """A fresh file, by Linux's own functions."""
    path = f"{folder}/labwright-run-{getpid()}-{time.monotonic_ns()}"
    return os_open(path, 0o301, 0o600), path  # O_CREAT | O_EXCL | O_WRONLY


class as_linux:  # noqa: N801
    """What the standard library does below subprocess is done with Linux's own names."""

    def __init__(self, machine: Any) -> None:
        self.machine = machine

    def __enter__(self) -> None:
        self.name, os.name = os.name, "posix"
        self.devnull, os.devnull = os.devnull, "/dev/null"
        self.kept = os.environ, os.open
        os.open = os_open
        os.environb = {name.encode(): value.encode() for name, value in _environ.items()}  # type: ignore[assignment]

    def __exit__(self, *_: object) -> None:
        os.name, os.devnull = self.name, self.devnull
        os.environ, os.open = self.kept


def junction(machine: Any, words: list[str]) -> list[str] | None:
    """`cmd /c mklink /J LINK TARGET`, which Wine's cmd does not know: done here; what it would say and end with."""
    lower = [one.lower() for one in words]
    if (
        len(words) != 6
        or lower[0].rpartition("\\")[2] not in ("cmd", "cmd.exe")
        or lower[1] != "/c"
        or lower[2:4] != ["mklink", "/j"]
    ):
        return None
    link, target = words[4:6]
    try:
        machine.create_junction(target, link)
    except OSError as error:
        return ["/bin/sh", "-c", 'printf "%s\\r\\n" "$1" >&2; exit 1', "mklink", f"{error.strerror}."]
    return ["/bin/sh", "-c", 'printf "%s\\r\\n" "$1"', "mklink", f"Junction created for {link} <<===>> {target}"]


def msvcrt(machine: Any) -> ModuleType:
    """msvcrt, as far as locks of files go."""
    found = ModuleType("msvcrt")

    def locking(number: int, mode: int, size: int) -> None:
        kinds = {0: fcntl.LOCK_UN, 1: fcntl.LOCK_EX, 2: fcntl.LOCK_EX | fcntl.LOCK_NB}
        try:
            fcntl.lockf(number, kinds[mode], size, os.lseek(number, 0, 1))
        except OSError as error:
            raise PermissionError(13, "Permission denied") from error

    found.locking = locking  # type: ignore[attr-defined]
    found.LK_UNLCK, found.LK_LOCK, found.LK_NBLCK = 0, 1, 2  # type: ignore[attr-defined]
    found.setmode = lambda number, flags: 0  # type: ignore[attr-defined]
    found.get_osfhandle = lambda number: number  # type: ignore[attr-defined]
    return found
