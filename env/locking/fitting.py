"""Which wheels a machine can use, by the tags in their names; and the machine as environment markers see it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from packaging.tags import Tag
from packaging.utils import parse_wheel_filename

# The oldest C library among the supported systems is RHEL 8's, 2.28; torch's own wheels ask for the same. A stack may
# ask for a newer one (`glibc` in its stack.yml).
GLIBC_MINOR = 28
WINDOWS = "win_amd64"


def usable(
    filename: str,
    minors: Iterable[int],
    platform: str,
    machines: Iterable[str] = ("x86_64",),
    glibc: int = GLIBC_MINOR,
) -> bool:
    """Whether a wheel can be used by one of these CPython 3.x on `platform` (linux-64, on one of these machines with
    the C library 2.`glibc`, or win-64)."""
    tags = parse_wheel_filename(filename)[3]
    return any(
        _interpreter(tag, minor) and _system(tag.platform, platform, machines, glibc)
        for tag in tags
        for minor in minors
    )


def _system(tag: str, platform: str, machines: Iterable[str], glibc: int) -> bool:
    if platform == "win-64":
        return tag in {"any", WINDOWS}
    # aarch64 is judged by the same rules as x86_64, under its own name.
    return any(_glibc(tag.replace(one, "x86_64"), glibc) for one in machines if one == "x86_64" or "x86_64" not in tag)


def _glibc(tag: str, newest: int) -> bool:
    if match := re.fullmatch(r"manylinux_2_(\d+)_x86_64", tag):
        return int(match[1]) <= newest
    return tag in {"any", "linux_x86_64", "manylinux1_x86_64", "manylinux2010_x86_64", "manylinux2014_x86_64"}


def _interpreter(tag: Tag, minor: int) -> bool:
    if tag.abi == "none":
        # py37 means this Python 3 and every later one.
        older = re.fullmatch(r"py3(\d+)", tag.interpreter)
        return tag.interpreter in {"py3", f"cp3{minor}"} or (older is not None and int(older[1]) <= minor)
    match = re.fullmatch(r"cp3(\d+)", tag.interpreter)
    if match is None:
        return False
    return tag.abi == f"cp3{minor}" == tag.interpreter or (tag.abi == "abi3" and int(match[1]) <= minor)


def markers(platform: str, python: str) -> dict[str, str]:
    """The marker environment of a host: `python` is its full version, such as 3.11.15."""
    windows = platform == "win-64"
    return {
        "os_name": "nt" if windows else "posix",
        "sys_platform": "win32" if windows else "linux",
        "platform_system": "Windows" if windows else "Linux",
        "platform_machine": "AMD64" if windows else "x86_64",
        "platform_release": "",
        "platform_version": "",
        "python_version": ".".join(python.split(".")[:2]),
        "python_full_version": python,
        "implementation_name": "cpython",
        "implementation_version": python,
        "platform_python_implementation": "CPython",
    }
