"""Stands in for Windows Python: CPython on Linux, changed at the edge of the system into one of a Wine machine.

What runs in it sees Windows: `C:\\…` paths (pathlib.Path is WindowsPath, os.path is ntpath), sys.platform "win32", the
machine's own variables, its code page and line ends, junctions, files that cannot be removed while they are open, and
programs (*.exe) that run in Wine. Modules and functions that Windows Python has not got are gone. What it cannot
stand in for fails loudly. Runs on Python 3.11 as `python -I -B windows_python.py FD`; FD has the request of serve.py.
"""

from __future__ import annotations

import builtins
import errno
import functools
import io
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

# Everything of the standard library that decides by the system when it is imported, before the system is changed.
import asyncio  # noqa: F401
import ctypes  # noqa: F401
import email.parser  # noqa: F401
import getpass  # noqa: F401
import http.client
import http.server  # noqa: F401
import importlib.metadata  # noqa: F401
import locale
import logging.handlers  # noqa: F401
import multiprocessing  # noqa: F401
import ntpath
import nturl2path
import pathlib
import platform
import posix
import runpy  # noqa: F401
import shutil
import signal
import socket
import sqlite3  # noqa: F401
import ssl
import subprocess
import tempfile
import threading  # noqa: F401
import traceback  # noqa: F401
import unittest.mock  # noqa: F401
import urllib.request
import uuid  # noqa: F401
import xml.etree.ElementTree  # noqa: F401
import zipfile  # noqa: F401
import zipimport  # noqa: F401

from lab.windows.machine import in_wine, program, registry
from lab.windows.machine.drive import Drive, failure, there_is

GONE_MODULES = ("pwd", "grp", "fcntl", "resource", "termios", "tty", "pty", "syslog", "crypt", "posix", "spwd", "nis")
GONE_OF_OS = (
    "getuid", "geteuid", "getgid", "getegid", "getgroups", "getresuid", "setuid", "setgid", "seteuid", "setegid",
    "setreuid", "setgroups", "initgroups", "chown", "lchown", "fchown", "fchmod", "fork", "forkpty", "setsid", "getsid",
    "getpgid", "getpgrp", "setpgid", "killpg", "nice", "mkfifo", "mknod", "statvfs", "fstatvfs", "sync", "uname",
    "getloadavg", "sysconf", "confstr", "pathconf", "sched_getaffinity", "sched_setaffinity", "getpriority",
    "setpriority", "chroot", "getxattr", "setxattr", "listxattr", "removexattr", "sendfile", "pread", "pwrite",
    "posix_spawn", "posix_fadvise", "posix_fallocate", "O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC", "O_NONBLOCK", "O_SYNC",
)  # fmt: skip
GONE_OF_SIGNAL = (
    "SIGKILL", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGQUIT", "SIGCHLD", "SIGPIPE", "SIGSTOP", "SIGCONT",
    "alarm", "pause", "setitimer", "sigwait", "pthread_kill", "pthread_sigmask",
)  # fmt: skip
JUNCTION = 0xA0000003  # IO_REPARSE_TAG_MOUNT_POINT
SHARING, DENIED, EXISTS, LACKS_PRIVILEGE, TOO_LONG = 32, 5, 183, 1314, 206
LONGEST = 259


class StatResult:
    """A stat result with what Windows has and without what it has not."""

    def __init__(self, found: os.stat_result, path: str, junction: bool = False) -> None:
        """`found` is Linux's own."""
        self._found = found
        folder = junction or stat.S_ISDIR(found.st_mode)
        writable = folder or bool(found.st_mode & 0o200)
        runs = path.lower().endswith((".exe", ".bat", ".cmd", ".com"))
        rights = (0o777 if folder or runs else 0o666) if writable else (0o555 if runs else 0o444)
        kind = stat.S_IFDIR if folder else stat.S_IFMT(found.st_mode)
        self.st_mode = kind | rights
        self.st_uid = self.st_gid = 0
        self.st_reparse_tag = JUNCTION if junction else 0
        self.st_file_attributes = (0x10 if folder else 0x20) | (0x400 if junction else 0) | (0 if writable else 1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found, name)

    def __getitem__(self, index: int) -> Any:
        return (self.st_mode, *self._found[1:4], 0, 0, *self._found[6:])[index]


class Entry:
    """What os.scandir gives."""

    def __init__(self, machine: Machine, folder: str, found: os.DirEntry[str]) -> None:
        """`folder` is the Windows path that was asked for."""
        self.name = found.name
        self.path = ntpath.join(folder, found.name)
        self._machine = machine

    def __fspath__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"

    def inode(self) -> int:
        """As os.DirEntry has it."""
        return int(self.stat(follow_symlinks=False).st_ino)

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """A junction counts as a folder, as on Windows."""
        try:
            return stat.S_ISDIR(self.stat(follow_symlinks=follow_symlinks).st_mode)
        except FileNotFoundError:
            return False

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """As os.DirEntry has it."""
        try:
            return stat.S_ISREG(self.stat(follow_symlinks=follow_symlinks).st_mode)
        except FileNotFoundError:
            return False

    def is_symlink(self) -> bool:
        """A junction is none."""
        return False

    def stat(self, *, follow_symlinks: bool = True) -> StatResult:
        """As os.DirEntry has it."""
        return self._machine.stat(self.path) if follow_symlinks else self._machine.lstat(self.path)


class Scan:
    """The iterator of os.scandir, also a context."""

    def __init__(self, entries: list[Entry]) -> None:
        """All are read already."""
        self._entries = iter(entries)

    def __iter__(self) -> Iterator[Entry]:
        return self._entries

    def __next__(self) -> Entry:
        return next(self._entries)

    def __enter__(self) -> Scan:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is open."""


class Environment(os._Environ[str]):
    """os.environ with names in capitals."""

    def __init__(self, found: dict[str, str]) -> None:
        """Nothing of it goes to the Linux process."""
        upper = {name.upper(): value for name, value in found.items()}
        super().__init__(upper, str.upper, str, str, str)

    def __setitem__(self, key: str, value: str) -> None:
        if not isinstance(value, str):
            raise TypeError(f"str expected, not {type(value).__name__}")
        self._data[key.upper()] = value  # type: ignore[attr-defined]

    def __delitem__(self, key: str) -> None:
        try:
            del self._data[key.upper()]  # type: ignore[attr-defined]
        except KeyError:
            raise KeyError(key) from None


class Machine:
    """The functions that go in the places of Linux's own."""

    def __init__(self, request: dict[str, Any]) -> None:
        """`request` as serve.py makes it."""
        self.request = request
        self.drive = Drive(request["prefix"])
        self.real = SimpleNamespace(**{name: value for name, value in vars(posix).items() if not name.startswith("_")})
        self.real.io_open, self.real.open_code = io.open, io.open_code
        self.folder = request["folder"]  # the working folder, as a Windows path
        prefix = request["exe"].rpartition("\\")[0]
        self.packages = self.drive.linux(f"{prefix}\\Lib\\site-packages")  # imported by its Linux name
        self.ours = (*OURS, self.packages)
        self.utf8 = request["environment"].get("PYTHONUTF8") == "1" or "Xutf8" in request["values"]
        self.encoding = "utf-8" if self.utf8 else request["code_page"]

    # -- paths

    def linux(self, path: Any) -> Any:
        """The Linux path of what a program gave; a number (of an open file) stays."""
        if isinstance(path, int):
            return path
        text = os.fspath(path)
        if isinstance(text, bytes):
            text = os.fsdecode(text)
        if text.startswith(self.ours):
            return text
        if "\0" in text:
            raise ValueError("embedded null character")
        if not text:
            raise failure(errno.ENOENT, "The system cannot find the path specified", 3, text)
        if len(text) > LONGEST and not text.startswith("\\\\?\\") and not registry.long_paths(self.request):
            raise failure(errno.ENOENT, "The filename or extension is too long", TOO_LONG, text)
        return self.drive.linux(text, self.drive.linux(self.folder))

    def one(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of one path."""

        @functools.wraps(function)
        def wrapped(path: Any = ".", *rest: Any, **options: Any) -> Any:
            options.pop("dir_fd", None)
            try:
                return function(self.linux(path), *rest, **options)
            except OSError as error:
                error.filename = path
                raise

        return wrapped

    def stat(self, path: Any, *, dir_fd: None = None, follow_symlinks: bool = True) -> Any:
        """os.stat."""
        if not follow_symlinks:
            return self.lstat(path)
        where = self.linux(path)
        try:
            return StatResult(self.real.stat(where), str(where))
        except OSError as error:
            error.filename = path
            raise

    def lstat(self, path: Any, *, dir_fd: None = None) -> StatResult:
        """os.lstat: a junction is a folder with a reparse tag."""
        where = self.linux(path)
        try:
            found = self.real.lstat(where)
        except OSError as error:
            error.filename = path
            raise
        return StatResult(found, str(where), stat.S_ISLNK(found.st_mode))

    def fstat(self, number: int) -> StatResult:
        """os.fstat."""
        return StatResult(self.real.fstat(number), "")

    def scandir(self, path: Any = ".") -> Scan:
        """os.scandir."""
        folder = os.fspath(path)
        try:
            with self.real.scandir(self.linux(folder)) as found:
                return Scan([Entry(self, folder, one) for one in sorted(found, key=lambda one: one.name.lower())])
        except OSError as error:
            error.filename = path
            raise

    def junction(self, where: str) -> bool:
        """Whether a junction lies there (every symbolic link on drive C: is one)."""
        try:
            return stat.S_ISLNK(self.real.lstat(where).st_mode)
        except OSError:
            return False

    def readlink(self, path: Any, *, dir_fd: None = None) -> str:
        """os.readlink: of a junction, in the form that Windows keeps."""
        where = self.linux(path)
        if not self.junction(where):
            self.lstat(path)
            raise failure(errno.EINVAL, "The file or directory is not a reparse point", 4390, os.fspath(path))
        return f"\\\\?\\{self.drive.aimed(where)}"

    def symlink(self, src: Any, dst: Any, *_: Any, **__: Any) -> None:
        """os.symlink: only administrators may, and a service is none; so nothing here may rely on it."""
        raise failure(errno.EINVAL, "A required privilege is not held by the client", LACKS_PRIVILEGE, os.fspath(dst))

    def create_junction(self, source: str, target: str) -> None:
        """_winapi.CreateJunction, and `mklink /J`."""
        where = self.linux(target)
        if there_is(where):
            raise failure(errno.EEXIST, "Cannot create a file when that file already exists", EXISTS, target)
        self.real.symlink(self.linux(source), where)

    # -- what others hold

    def free(self, path: Any, where: str, *, moves: bool = False) -> None:
        """Refuse where a process of this machine has the file open or runs it. What `moves` may run, but neither it nor
        a file in it may be open: Windows keeps no file open for a program that runs."""
        used = in_wine.held(self.drive.c)
        if where in used or moves:  # what is a moment old is no reason to refuse
            in_wine.forget()
            used = in_wine.held(self.drive.c)
        if moves:
            used = {one: how for one, how in used.items() if how == "open"}
        if where in used:
            number = DENIED if used[where] == "runs" else SHARING
            raise failure(errno.EACCES, "Access is denied" if number == DENIED else IN_USE, number, os.fspath(path))
        if moves and any(one.startswith(where + "/") for one in used):
            raise failure(errno.EACCES, "Access is denied", DENIED, os.fspath(path))

    def unlink(self, path: Any, *, dir_fd: None = None) -> None:
        """os.unlink; a junction goes, what it leads to stays."""
        where = self.linux(path)
        if self.junction(where):
            self.real.unlink(where)
            return
        found = self.stat(path)
        if stat.S_ISDIR(found.st_mode) or found.st_file_attributes & 1:
            raise failure(errno.EACCES, "Access is denied", DENIED, os.fspath(path))
        self.free(path, where)
        self.real.unlink(where)

    def rmdir(self, path: Any, *, dir_fd: None = None) -> None:
        """os.rmdir."""
        where = self.linux(path)
        if self.junction(where):
            self.real.unlink(where)
            return
        try:
            self.real.rmdir(where)
        except OSError as error:
            error.filename = path
            raise

    def rename(self, src: Any, dst: Any, **_: Any) -> None:
        """os.rename: never over something that is there."""
        there, where = self.linux(src), self.linux(dst)
        if there != where and there_is(where) and there.lower() != where.lower():
            raise failure(errno.EEXIST, "Cannot create a file when that file already exists", EXISTS, os.fspath(dst))
        self.move(src, dst, there, where)

    def replace(self, src: Any, dst: Any, **_: Any) -> None:
        """os.replace: over a file, never over a folder or a junction."""
        there, where = self.linux(src), self.linux(dst)
        if there_is(where):
            found = self.lstat(dst)
            if stat.S_ISDIR(found.st_mode) or found.st_file_attributes & 1:
                raise failure(errno.EACCES, "Access is denied", DENIED, os.fspath(dst))
            self.free(dst, where)
        self.move(src, dst, there, where)

    def move(self, src: Any, dst: Any, there: str, where: str) -> None:
        """Rename what nobody holds."""
        self.free(src, there, moves=True)
        # Where only the case of the name changes, both lead to the same file.
        target = f"{where.rpartition('/')[0]}/{ntpath.basename(os.fspath(dst))}" if there == where else where
        try:
            self.real.rename(there, target)
        except OSError as error:
            error.filename, error.filename2 = src, dst
            raise

    def chmod(self, path: Any, mode: int, **_: Any) -> None:
        """os.chmod: Windows knows nothing but read-only."""
        where = self.linux(path)
        found = stat.S_IMODE(self.real.stat(where).st_mode)
        self.real.chmod(where, found | 0o200 if mode & 0o200 else found & ~0o222)

    def utime(self, path: Any, *times: Any, **options: Any) -> None:
        """os.utime."""
        options.pop("dir_fd", None)
        self.real.utime(self.linux(path), *times, **options)

    def chdir(self, path: Any) -> None:
        """os.chdir."""
        where = self.linux(path)
        if not stat.S_ISDIR(self.real.stat(where).st_mode):
            raise failure(errno.EINVAL, "The directory name is invalid", 267, os.fspath(path))
        self.folder = self.drive.windows(where)
        self.real.chdir(where)

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: None = None) -> int:
        """os.open."""
        where = self.linux(path)
        if flags & (os.O_WRONLY | os.O_RDWR):
            self.writable(path, where)
        try:
            return int(self.real.open(where, flags, 0o644))
        except OSError as error:
            error.filename = path
            raise

    def writable(self, path: Any, where: str) -> None:
        """Refuse to write a folder, a read-only file, and a program that runs."""
        kind = in_wine.kind_of(where)
        if kind == stat.S_IFDIR or (kind and self.stat(path).st_file_attributes & 1):
            raise failure(errno.EACCES, "Permission denied", DENIED, os.fspath(path))
        if in_wine.held(self.drive.c).get(where) == "runs":
            raise failure(errno.EACCES, IN_USE, SHARING, os.fspath(path))

    def open_file(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        """open(): the machine's code page unless an encoding is given, CRLF unless newline is."""
        if "b" not in mode:
            encoding = self.encoding if encoding in (None, "locale") else encoding
            if newline is None and "r" not in mode and "+" not in mode:
                newline = "\r\n"
        where = self.linux(file)
        if opener is None and isinstance(where, str):
            if any(letter in mode for letter in "wax+"):
                self.writable(file, where)
                in_wine.forget()
            elif in_wine.kind_of(where) == stat.S_IFDIR:
                raise failure(errno.EACCES, "Permission denied", DENIED, os.fspath(file))
        try:
            stream = self.real.io_open(where, mode, buffering, encoding, errors, newline, closefd, opener)
        except OSError as error:
            error.filename = file
            raise
        if isinstance(where, str):
            raw = getattr(stream, "buffer", stream)
            getattr(raw, "raw", raw).name = file
        return stream

    def realpath(self, path: Any, *, strict: bool = False) -> str:
        """os.path.realpath: through junctions, with the names as they lie there."""
        where = self.linux(path)
        parts: list[str] = []
        head = where
        while head and not there_is(head):
            head, _, tail = head.rpartition("/")
            parts.insert(0, tail)
        if parts and strict:
            self.stat(path)
        number = self.real.open(head or "/", 0o10000000)  # O_PATH
        try:
            found = self.real.readlink(f"/proc/self/fd/{number}")
        finally:
            self.real.close(number)
        return str(self.drive.windows("/".join([found, *parts])))


IN_USE = "The process cannot access the file because it is being used by another process"
TESTS = str(Path(__file__).resolve().parents[3])
# What this program itself still reads: the interpreter's own library, and its own modules.
OURS = (f"{sys.base_prefix}/", f"{Path(__file__).resolve().parent}/", "/proc/")


def become_windows(machine: Machine) -> None:
    """Put everything in its place."""
    request = machine.request
    change_os(machine)
    change_files(machine)
    flags = {"CREATE_NO_WINDOW": 0x08000000, "CREATE_NEW_PROCESS_GROUP": 0x200, "DETACHED_PROCESS": 8}
    vars(subprocess).update(flags, Popen=in_wine.popen(machine))
    for name in GONE_MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    sys.modules["nt"] = os
    sys.modules["winreg"] = registry.module(request)
    winapi = ModuleType("_winapi")
    vars(winapi)["CreateJunction"] = machine.create_junction
    sys.modules["_winapi"], sys.modules["msvcrt"] = winapi, in_wine.msvcrt(machine)
    change_names(machine)
    change_streams(machine)
    root = request["exe"].rpartition("\\")[0]
    sys.executable = request["exe"]
    sys.prefix = sys.base_prefix = sys.exec_prefix = root
    sys.platform = "win32"
    # The standard library is this interpreter's; packages are the Windows prefix's own.
    sys.path[:] = [one for one in sys.path if one != TESTS and not one.endswith("site-packages")]
    sys.path.append(rf"{root}\Lib\site-packages")
    if not {"I", "E"} & set(request["flags"]):
        extra = [one for one in request["environment"].get("PYTHONPATH", "").split(";") if one]
        sys.path[:0] = extra


def change_os(machine: Machine) -> None:
    """os, posix (importlib's own) and os.path."""
    for name in GONE_OF_OS:
        if hasattr(os, name):
            delattr(os, name)
    special = (
        "stat", "lstat", "fstat", "scandir", "readlink", "symlink", "unlink", "rmdir", "rename", "replace", "chmod",
        "utime", "chdir", "open",
    )  # fmt: skip
    found: dict[str, Any] = {name: getattr(machine, name) for name in special}
    found |= {name: machine.one(getattr(machine.real, name)) for name in ("listdir", "mkdir", "access", "truncate")}
    found |= {"remove": machine.unlink, "getcwd": lambda: machine.folder, "getpid": lambda: machine.request["pid"]}
    found |= {"umask": lambda _: 0, "kill": no_kill}
    found |= {"getenv": lambda key, default=None: os.environ.get(key, default)}
    found |= {"getlogin": lambda: os.environ.get("USERNAME", "")}
    vars(os).update(found)
    vars(posix).update(found)
    vars(ntpath).update(realpath=machine.realpath)
    sys.modules["os.path"] = ntpath
    vars(os).update(
        path=ntpath, name="nt", sep="\\", altsep="/", pathsep=";", linesep="\r\n", devnull="nul",
        environ=Environment(machine.request["environment"]), supports_dir_fd=set(), supports_fd=set(),
    )  # fmt: skip
    pathlib._windows_flavour.is_supported = True  # type: ignore[attr-defined]


def no_kill(pid: int, number: int) -> None:
    """os.kill: a Windows process id is no Linux one."""
    raise failure(errno.EINVAL, "what stands in for Windows Python has no os.kill; run taskkill.exe", 87, str(pid))


def change_files(machine: Machine) -> None:
    """Open files, and shutil's ways with trees."""
    vars(builtins)["open"] = vars(io)["open"] = machine.open_file
    vars(io)["open_code"] = lambda path: machine.real.open_code(machine.linux(path))
    # zipimport, which runs hostkit's archive, asks below io; the standard library's own paths are Linux's.
    vars(sys.modules["_io"])["open_code"] = lambda path: machine.real.open_code(
        path if str(path).startswith("/") else machine.linux(path)
    )
    usage = machine.real.statvfs

    def disk_usage(path: Any) -> Any:
        found = usage(machine.linux(path))
        size = found.f_frsize
        whole, used = found.f_blocks * size, (found.f_blocks - found.f_bfree) * size
        return shutil._ntuple_diskusage(whole, used, found.f_bavail * size)

    def is_folder(entry: Any) -> bool:
        found = entry.stat(follow_symlinks=False)
        return stat.S_ISDIR(found.st_mode) and found.st_reparse_tag != JUNCTION

    vars(shutil).update(
        _use_fd_functions=False,
        _USE_CP_SENDFILE=False,
        _rmtree_islink=lambda path: machine.lstat(path).st_reparse_tag == JUNCTION,
        _rmtree_isdir=is_folder,
        disk_usage=disk_usage,
        which=functools.partial(in_wine.which, machine),
    )
    tempfile.tempdir = None
    vars(urllib.request).update(url2pathname=nturl2path.url2pathname, pathname2url=nturl2path.pathname2url)


def change_names(machine: Machine) -> None:
    """What the system is called, its code page, its store of authorities, its signals."""
    name = machine.request["environment"].get("COMPUTERNAME", "WINE")
    uname = platform.uname_result("Windows", name, "10", "10.0.19045", "AMD64")  # type: ignore[call-arg, unused-ignore]
    vars(platform).update(_uname_cache=uname, win32_ver=lambda *_, **__: ("10", "10.0.19045", "SP0", "Free"))
    vars(socket)["gethostname"] = lambda: name
    vars(sys)["getwindowsversion"] = lambda: SimpleNamespace(major=10, minor=0, build=19045, platform=2)
    vars(locale).update(getencoding=lambda: machine.encoding, getpreferredencoding=lambda _=True: machine.encoding)
    vars(ssl).update(enum_certificates=lambda store: [], enum_crls=lambda store: [])
    for name in GONE_OF_SIGNAL:
        if hasattr(signal, name):
            delattr(signal, name)
    vars(signal).update(SIGBREAK=signal.SIGTERM, CTRL_C_EVENT=0, CTRL_BREAK_EVENT=1)


def change_streams(machine: Machine) -> None:
    """Standard streams in the machine's code page, output with CRLF."""
    whole = bool({"u"} & set(machine.request["flags"])) or bool(machine.request["environment"].get("PYTHONUNBUFFERED"))
    encoding = machine.request["environment"].get("PYTHONIOENCODING") or machine.encoding
    name, _, errors = encoding.partition(":")
    wrap = functools.partial(io.TextIOWrapper, encoding=name)
    sys.stdin = wrap(sys.stdin.buffer, errors=errors or "strict")
    sys.stdout = wrap(sys.stdout.buffer, errors=errors or "strict", newline="\r\n", write_through=whole)
    sys.stderr = wrap(sys.stderr.buffer, errors="backslashreplace", newline="\r\n", write_through=True)


def main() -> None:
    """Read the request, become Windows, run the program."""
    with os.fdopen(int(sys.argv[1]), "rb") as stream:
        request = json.load(stream)
    line = program.parse(request["argv"])
    machine = Machine({**request, "flags": line.flags, "values": line.values})
    become_windows(machine)
    sys.path.append(machine.packages)
    program.run(line)


if __name__ == "__main__":
    main()
