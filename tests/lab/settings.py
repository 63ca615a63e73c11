"""Where the lab keeps its things, and the settings that podman gets."""

from __future__ import annotations

import fcntl
import os
import resource
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError

HERE = Path(__file__).resolve().parent
IMAGE = "localhost/labwright-lab"

# Administrators' programs are not on everybody's PATH.
PLACES = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"])

# podman lowers its own hard limit of processes before it starts a container, and more than this then fails.
MOST_PROCESSES = 30000


@dataclass(frozen=True)
class Settings:
    """The folders of one checkout's lab: ``cache`` is the checkout's own; ``store``, beside podman's, and ``run`` are
    the machine's, which every checkout on it shares.
    """

    cache: Path
    store: Path
    run: Path

    @property
    def folder(self) -> Path:
        """Everything of the lab in the cache."""
        return self.cache / "lab"

    @property
    def containers_conf(self) -> Path:
        """podman's settings; the script ``podman`` beside this file names the same path."""
        return self.folder / "containers.conf"

    @property
    def runtime(self) -> Path:
        """The executable that podman calls as its OCI runtime."""
        return self.folder / "oci-bounded"

    @property
    def networks(self) -> Path:
        """Where podman keeps the labs' network definitions, so that the labs of all checkouts know of each other."""
        return self.store / "networks"

    def lab(self, name: str) -> Path:
        """The folder of one lab: key, known_hosts, its file server."""
        return self.folder / "labs" / name

    def lock(self, name: str) -> Path:
        """The file by which the callers of one lab take turns."""
        return self.folder / "locks" / name

    def control_sockets(self, name: str) -> Path:
        """Where SSH keeps its shared connections; short, for a Unix socket's path has 107 characters."""
        return self.run / "ssh" / name


def from_environment() -> Settings:
    """Read ``LABWRIGHT_CACHE``, else ``.cache`` of the checkout.

    ``LABWRIGHT_STORE`` and ``LABWRIGHT_RUN`` are for tests that keep a podman store of their own.
    """
    cache = os.environ.get("LABWRIGHT_CACHE") or str(HERE.parent.parent / ".cache")
    store = os.environ.get("LABWRIGHT_STORE") or "/var/lib/containers/labwright"
    run = os.environ.get("LABWRIGHT_RUN") or "/run/labwright"
    return Settings(cache=Path(cache).resolve(), store=Path(store), run=Path(run))


def containers_conf(settings: Settings, most_files: int, most_processes: int) -> str:
    """Return the text of podman's settings; the limits are hard limits of this machine.

    ``default_ulimits``: without CAP_SYS_RESOURCE a runtime cannot raise a limit, and podman asks for more than the
    machine has. ``pids_limit``: the controller may lie in cgroup v1, out of reach. ``base_hosts_file``: a host knows
    the hosts of its lab, not those of this machine. ``default_sysctls``: systemd's own value, by which everybody may
    ping; systemd-sysctl does not run in a host.
    """
    return f"""\
# Written by tests/lab/lab.py; a change is overwritten.
[containers]
base_hosts_file = "none"
default_sysctls = ["net.ipv4.ping_group_range=0 2147483647"]
pids_limit = 0
default_ulimits = ["nofile={most_files}:{most_files}", "nproc={most_processes}:{most_processes}"]
[network]
network_backend = "netavark"
network_config_dir = "{settings.networks}"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "labwright"
[engine.runtimes]
labwright = ["{settings.runtime}"]
"""


def runtime_script(python: str, runtime: str) -> str:
    """Return the text of the OCI runtime: podman wants one executable, and the guard wants no site packages."""
    guard = shlex.quote(str(HERE / "oci_bounded.py"))
    return f'#!/bin/sh\n{shlex.quote(python)} -I -S {guard} "$@" || exit 1\nexec {shlex.quote(runtime)} "$@"\n'


def write_if_changed(path: Path, text: str, mode: int = 0o644) -> bool:
    """Write a file whole or not at all; returns whether anything changed."""
    if path.exists() and path.read_text() == text and path.stat().st_mode & 0o777 == mode:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.chmod(mode)
    draft.replace(path)
    return True


def write_podman_settings(settings: Settings) -> bool:
    """Make the settings and the runtime that ``podman`` needs; returns whether anything changed."""
    settings.networks.mkdir(parents=True, exist_ok=True)
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    most_files = 1048576 if files == resource.RLIM_INFINITY else files
    most_processes = MOST_PROCESSES if processes == resource.RLIM_INFINITY else min(processes, MOST_PROCESSES)
    python = str(Path(sys.executable).resolve())
    runtime = shutil.which("crun", path=PLACES) or "/usr/bin/crun"
    changed = write_if_changed(settings.runtime, runtime_script(python, runtime), 0o755)
    return write_if_changed(settings.containers_conf, containers_conf(settings, most_files, most_processes)) or changed


def mounts_below(folder: Path, mountinfo: str) -> list[str]:
    """Return the mount points at or below a folder, from the text of /proc/self/mountinfo (proc(5): field 5)."""
    points = [line.split()[4].replace("\\040", " ") for line in mountinfo.splitlines() if line.strip()]
    return [point for point in points if Path(point) == folder or folder in Path(point).parents]


def remove_folder(settings: Settings) -> None:
    """Remove the lab's folder in the cache; raises LW-LAB-012 where something is mounted in it.

    An image that was being made when somebody killed it may leave the machine's /dev mounted there.
    """
    mounted = mounts_below(settings.folder, Path("/proc/self/mountinfo").read_text())
    if mounted:
        raise LabError(
            "LW-LAB-012",
            f"{settings.folder} is to be removed, and {', '.join(mounted)} is mounted in it; umount that first",
        )
    shutil.rmtree(settings.folder, ignore_errors=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file, so that two callers take turns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
