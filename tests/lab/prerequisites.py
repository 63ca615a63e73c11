"""What this machine must have before it can hold a lab, and its installation."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError
from .processes import run
from .settings import PLACES

HELPERS = ("/usr/lib/podman", "/usr/libexec/podman", "/usr/local/lib/podman", "/usr/local/libexec/podman")


@dataclass(frozen=True)
class Need:
    """One thing the lab uses: a program on the PATH, one of podman's helpers, or a file; and its Debian package."""

    thing: str
    package: str
    kind: str = "program"


NEEDS = (
    Need("podman", "podman"),
    Need("crun", "crun"),
    Need("netavark", "netavark", "helper"),
    Need("aardvark-dns", "aardvark-dns", "helper"),
    Need("iptables", "iptables"),
    Need("mmdebstrap", "mmdebstrap"),
    Need("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring", "file"),
    Need("ssh", "openssh-client"),
    Need("ssh-keygen", "openssh-client"),
    Need("ip", "iproute2"),
    Need("nsenter", "util-linux"),
    Need("mount", "mount"),
)


def present(need: Need) -> bool:
    """Return whether this machine has it."""
    if need.kind == "file":
        return Path(need.thing).exists()
    if need.kind == "helper":
        return any((Path(folder) / need.thing).exists() for folder in HELPERS)
    return shutil.which(need.thing, path=PLACES) is not None


def missing(has: Callable[[Need], bool] = present, needs: Sequence[Need] = NEEDS) -> list[Need]:
    """Return what is needed and not there."""
    return [need for need in needs if not has(need)]


def packages(needs: list[Need]) -> list[str]:
    """Return the Debian packages that bring these, each once."""
    return sorted({need.package for need in needs})


def refuse_machine() -> None:
    """Raise where no installation could help: LW-LAB-001 not Linux, 002 not root."""
    if sys.platform != "linux":
        raise LabError(
            "LW-LAB-001", f"this machine runs {sys.platform}, and the lab's hosts are containers of Linux; use Linux"
        )
    if os.geteuid() != 0:
        raise LabError(
            "LW-LAB-002",
            f"the lab must be run as root (it makes networks and hosts with a systemd), and this is user "
            f"{os.geteuid()}; run the same command with sudo",
        )


def check(*, install: bool, needs: Sequence[Need] = NEEDS) -> bool:
    """See that everything is there, installing it if asked; returns whether anything was installed.

    Raises LW-LAB-001 and 002, 003 where something is missing, 004 where it cannot be installed from here.
    """
    refuse_machine()
    absent = missing(needs=needs)
    if not absent:
        return False
    words = packages(absent)
    names = ", ".join(need.thing for need in absent)
    if not install:
        raise LabError(
            "LW-LAB-003",
            f"not on this machine, and needed for the lab: {names}; install with: "
            f"apt-get update && apt-get install -y --no-install-recommends {' '.join(words)}",
        )
    if shutil.which("apt-get") is None:
        raise LabError(
            "LW-LAB-004",
            f"not on this machine, and needed for the lab: {names}; it has no apt-get, so install what corresponds to "
            f"Debian's {' '.join(words)} with its own package manager",
        )
    run(["apt-get", "update", "-qq"])
    run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *words], DEBIAN_FRONTEND="noninteractive")
    still = missing(needs=needs)
    if still:
        raise LabError(
            "LW-LAB-004",
            f"after the installation of {' '.join(words)} these are still not found: "
            f"{', '.join(need.thing for need in still)}; put them on the PATH",
        )
    return True
