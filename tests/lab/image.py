"""The image of a test host: a Debian root file system made from packages, in podman's store."""

from __future__ import annotations

import datetime
import hashlib
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from .errors import LabError
from .processes import Podman, run
from .settings import HERE, IMAGE, Settings, locked

SUITES = ("bookworm", "trixie")

# A fresh Debian host and no more: what a role needs beyond it, the role installs.
PACKAGES = (
    "apt",
    "ca-certificates",
    "dbus",
    "iproute2",
    "iputils-ping",
    "libpam-systemd",
    "netbase",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "sudo",
    "systemd",
    "systemd-sysv",
)
# apt's lists stay in: their folder is new either way, and Ansible's `cache_valid_time` would believe an empty one.
OPTIONS = (
    "--mode=root",
    "--variant=minbase",
    "--format=tar",
    "--components=main",
    f"--include={','.join(PACKAGES)}",
    '--aptopt=Apt::Install-Recommends "false"',
    '--aptopt=Acquire::Languages "none"',
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--skip=cleanup/apt/lists",
)
ROOTFS = HERE / "rootfs"
MACHINE_CAS = Path("/etc/ssl/certs/ca-certificates.crt")


def week(day: datetime.date) -> str:
    """Return the ISO week, so that the packages of an image are at most a week old."""
    year, number, _ = day.isocalendar()
    return f"{year}-W{number:02d}"


def image_key(inputs: Mapping[str, bytes]) -> str:
    """Return twelve hexadecimal digits that change with the name or the content of any input."""
    whole = hashlib.sha256()
    for name, content in sorted(inputs.items()):
        whole.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return whole.hexdigest()[:12]


def source_lines(targets: str, suite: str) -> list[str]:
    """Turn the machine's own Debian sources into those of ``suite``, so that a site's mirror is honoured.

    ``targets``: lines ``CODENAME RELEASE COMPONENT URI`` of ``apt-get indextargets``. Only the archive's own
    releases (``bookworm``, ``bookworm-updates``, ``bookworm-security``) are taken, and of them component main.
    """
    lines: list[str] = []
    for target in targets.splitlines():
        release, component, address = target.split(maxsplit=2)
        base, _, pocket = release.partition("-")
        if base in SUITES and pocket in ("", "updates", "security") and component == "main":
            lines.append(f"deb {address} {suite}{'-' + pocket if pocket else ''} main")
    return list(dict.fromkeys(lines))


def machine_sources(suite: str) -> list[str]:
    """Return the sources for a root file system; none on a machine without Debian's: mmdebstrap knows its own."""
    layout = "$(RELEASE) $(COMPONENT) $(REPO_URI)"
    return source_lines(run(["apt-get", "indextargets", "--format", layout, "Created-By: Packages"]), suite)


def inputs(suite: str, sources: list[str], day: datetime.date) -> dict[str, bytes]:
    """Collect whatever an image depends on."""
    found = {path.name: path.read_bytes() for path in sorted(ROOTFS.iterdir()) if path.is_file()}
    found["suite"] = suite.encode()
    found["options"] = "\n".join(OPTIONS).encode()
    found["sources"] = "\n".join(sources).encode()
    found["architecture"] = platform.machine().encode()
    found["week"] = week(day).encode()
    found["authorities"] = MACHINE_CAS.read_bytes() if MACHINE_CAS.exists() else b""
    return found


def bootstrap_command(suite: str, sources_file: Path | None, archive: Path) -> list[str]:
    """Return the mmdebstrap command."""
    python = shlex.quote(sys.executable)
    trust, finish = (shlex.quote(str(ROOTFS / name)) for name in ("trust_machine_cas.py", "finish.sh"))
    return [
        "mmdebstrap",
        *OPTIONS,
        f'--customize-hook={python} {trust} "$1" && chroot "$1" update-ca-certificates',
        f'--customize-hook={finish} "$1"',
        suite,
        str(archive),
        *([str(sources_file)] if sources_file else []),
    ]


def build(settings: Settings, podman: Podman, suite: str, sources: list[str], reference: str) -> None:
    """Make the root file system and import it; the archive between the two does not stay."""
    free = shutil.disk_usage(settings.folder).free
    if free < 3 * 1024**3:
        raise LabError(
            "LW-LAB-011",
            f"{settings.folder} has {free // 1024**2} MiB free, and an image needs 3072 to be made; make room there "
            "or set LABWRIGHT_CACHE to a folder on another disk",
        )
    with tempfile.TemporaryDirectory(dir=settings.folder, prefix="rootfs.") as name:
        folder = Path(name)
        folder.chmod(0o755)  # apt's own user must get through
        sources_file = None
        if sources:
            sources_file = folder / "sources.list"
            sources_file.write_text("\n".join(sources) + "\n")
        archive = folder / f"{suite}.tar"
        run(bootstrap_command(suite, sources_file, archive), TMPDIR=str(folder))
        podman(
            "import",
            "--quiet",
            "--change",
            'CMD ["/sbin/init"]',
            "--change",
            "ENV container=podman",
            archive,
            reference,
        )


def ensure(settings: Settings, podman: Podman, suite: str) -> tuple[str, bool]:
    """Return the reference of this week's image of ``suite``, made if need be, and whether it was made now."""
    if suite not in SUITES:
        raise LabError("LW-LAB-010", f"there is no image of {suite}; one of {', '.join(SUITES)} was expected")
    sources = machine_sources(suite)
    reference = f"{IMAGE}:{suite}-{image_key(inputs(suite, sources, datetime.datetime.now(datetime.UTC).date()))}"
    with locked(settings.run / f"image-{suite}.lock"):
        if podman.ok("image", "exists", reference):
            return reference, False
        build(settings, podman, suite, sources, reference)
        remove_old(podman, suite, reference)
    return reference, True


def images(podman: Podman) -> list[str]:
    """List the lab's images in podman's store."""
    return podman("images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", f"reference={IMAGE}").split()


def remove_old(podman: Podman, suite: str, keep: str) -> None:
    """Remove earlier images of a suite; podman keeps those that a host still runs on."""
    for reference in images(podman):
        if reference.startswith(f"{IMAGE}:{suite}-") and reference != keep:
            podman.ok("rmi", reference)


def remove_all(podman: Podman) -> list[str]:
    """Remove every image of the lab; returns those removed."""
    return [reference for reference in images(podman) if podman.ok("rmi", reference)]
