"""Build a plain CPython out of the distribution's upstream source, in a throw-away chroot.

Debian 12 is the suite, whatever the control node is: what is built there runs on it and on everything newer. Nothing on
this machine is changed; mmdebstrap makes the chroot in a temporary folder and takes it away.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from kit.files import text_digest
from kit.problem import Problem

SUITE = "bookworm"
SCRIPT = Path(__file__).with_name("build_cpython.sh")
BUILD_NEEDS = (
    "ca-certificates", "gcc", "libc6-dev", "make", "dpkg-dev", "xz-utils", "libssl-dev", "libsqlite3-dev",
    "liblzma-dev", "libbz2-dev", "zlib1g-dev", "libffi-dev", "libreadline-dev", "libncurses-dev", "libexpat1-dev",
    "uuid-dev",
)  # fmt: skip


def debian_mirror(targets: str) -> str:
    """Return the Debian mirror from `apt-get indextargets` lines (origin, address); empty where apt has none."""
    for line in targets.splitlines():
        origin, _, address = line.partition(" ")
        if origin == "Debian" and "security" not in address:
            return address
    return ""


def machine_mirror() -> str:
    """Return the Debian mirror that this machine's own apt uses."""
    if not shutil.which("apt-get"):
        return ""
    command = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages"]
    return debian_mirror(subprocess.run(command, check=False, capture_output=True, text=True).stdout)


def check_means() -> None:
    """Raise Problem, with the command that helps, when no chroot can be made here."""
    if not shutil.which("mmdebstrap"):
        raise Problem(
            "LW-KIT-009: there is no plain CPython on this machine, and building one needs mmdebstrap, which is not "
            "here either. Run `apt-get install mmdebstrap`, or give a plain CPython with --python PATH."
        )
    if os.geteuid() != 0:
        raise Problem(
            "LW-KIT-010: building a CPython in a chroot needs root. Run this as root, "
            "or give a plain CPython with --python PATH (pyenv's or uv's will do)."
        )


def build_command(mirror: str, series: str, result: Path) -> list[str]:
    """Return the mmdebstrap command that leaves the built tree as a tar file at `result`."""
    return [
        "mmdebstrap", "--quiet", "--variant=minbase", "--include=" + ",".join(BUILD_NEEDS),
        f"--customize-hook=upload {SCRIPT} /build.sh",
        '--customize-hook=chroot "$1" apt-get update -qq',
        f'--customize-hook=chroot "$1" sh /build.sh {series}',
        f"--customize-hook=download /cpython.tar {result}",
        SUITE, "/dev/null", f"deb {mirror} {SUITE} main", f"deb-src {mirror} {SUITE} main",
    ]  # fmt: skip


def built_cpython(cache: Path, series: str, mirror: str = "") -> Path:
    """Return the prefix of the built CPython, from the cache where it was built before (about three minutes if not)."""
    key = text_digest(SCRIPT.read_bytes(), series, SUITE, *BUILD_NEEDS)[:16]
    folder = cache / "kit" / f"cpython-{series}-{key}"
    if (folder / "prefix").is_dir():
        return folder / "prefix"
    check_means()
    mirror = mirror or machine_mirror()
    if not mirror:
        raise Problem(
            "LW-KIT-011: this machine's apt names no Debian mirror to take CPython's source from. "
            "Give one with --debian-mirror URL (and run `apt-get update` if apt was never used here)."
        )
    folder.mkdir(parents=True, exist_ok=True)
    print("Building CPython in a chroot; this takes a few minutes.", file=sys.stderr, flush=True)
    result, partial = folder / "cpython.tar", folder / "partial"
    made = subprocess.run(
        build_command(mirror, series, result), check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    (folder / "build.log").write_text(made.stdout)
    if made.returncode:
        raise Problem(
            f"LW-KIT-012: building CPython {series} failed: {made.stdout.strip()[-400:]} "
            f"(all of it: {folder}/build.log)."
        )
    shutil.rmtree(partial, ignore_errors=True)
    with tarfile.open(result) as archive:
        archive.extractall(partial, filter="tar")
    result.unlink()
    (partial / "prefix").rename(folder / "prefix")
    return folder / "prefix"
