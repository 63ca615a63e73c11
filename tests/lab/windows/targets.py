"""Targets: brought up, found again, taken away."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .. import files
from ..errors import LabError
from ..settings import Settings, locked, write_if_changed
from . import certificates
from . import machine as programs
from .machine import make as made
from .wine import HERE, Wine, make_pristine

NAME = re.compile(r"^[a-z][a-z0-9-]{0,14}$")
USER = "Administrator"
CAPTIONS = {
    "11": "Microsoft Windows 11 Pro",
    "10": "Microsoft Windows 10 Pro",
    "server": "Microsoft Windows Server 2022 Standard",
}
START_SECONDS = 120
STOP_SECONDS = 30


def home(settings: Settings) -> Path:
    """Return the folder of all targets."""
    return settings.cache / "windows"


def folder_of(settings: Settings, name: str) -> Path:
    """Return a target's folder; raises LW-LAB-110 where the name is none."""
    if not NAME.match(name):
        raise LabError(
            "LW-LAB-110", f"--name {name!r}: expected a small letter, then small letters, digits and '-', 15 at most"
        )
    return home(settings) / name


def pristine(settings: Settings) -> Path:
    """Return the prefix that others are copied from, made once for each version of Wine and of what makes it."""
    version = subprocess.run(["wine", "--version"], capture_output=True, check=False).stdout
    sources = b"".join((HERE / name).read_bytes() for name in ("wine.py", "hand.c"))
    place = home(settings) / f".pristine-{hashlib.sha256(version + sources).hexdigest()[:16]}"
    with locked(home(settings) / ".pristine.lock"):
        if not place.exists():
            draft = place.with_name(f"{place.name}.draft")
            shutil.rmtree(draft, ignore_errors=True)
            make_pristine(Wine(draft))
            draft.rename(place)
            for old in home(settings).glob(".pristine-*"):
                if old != place:
                    shutil.rmtree(old, ignore_errors=True)
    return place


def check_wish(address: str, http: int, https: int) -> None:
    """Raise where a target cannot listen as asked: LW-LAB-111."""
    try:
        parsed = ipaddress.IPv4Address(address)
    except ValueError:
        raise LabError("LW-LAB-111", f"--address {address!r} is not an IPv4 address") from None
    if not parsed.is_private or parsed.is_unspecified:
        raise LabError(
            "LW-LAB-111", f"--address {address}: expected 127.0.0.1, or a private address in a lab's network"
        )
    if http == https or not all(0 < port < 65536 for port in (http, https)):
        raise LabError("LW-LAB-111", f"--http {http} --https {https}: expected two different ports from 1 to 65535")


def take_address(address: str) -> bool:
    """See that this machine has the address, adding it to the loopback where it does not; returns whether it did."""
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
            return False
        except OSError:
            pass
    done = subprocess.run(
        ["ip", "address", "add", f"{address}/32", "dev", "lo"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise LabError(
            "LW-LAB-112", f"this machine has not got the address {address}, and cannot take it: {done.stderr.strip()}"
        )
    return True


def check_free(address: str, *ports: int) -> None:
    """Raise where another listens where a target would: LW-LAB-116."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                raise LabError(
                    "LW-LAB-116", f"the target cannot listen on {address}:{port}: {error.strerror}; choose other ports"
                ) from None


def server_of(folder: Path) -> files.Server | None:
    """Return the process that was started for a target, running or not."""
    try:
        return files.Server(**json.loads((folder / "server.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def running(folder: Path) -> bool:
    """Return whether a target's process is there."""
    server = server_of(folder)
    return server is not None and files.is_ours(server)


def told(folder: Path) -> dict[str, Any]:
    """Return what a target is, and the inventory's lines for it."""
    about = json.loads((folder / "target.json").read_text())
    password = folder / "password"
    return {
        **{key: about[key] for key in ("name", "address", "http", "https", "user")},
        "up": (folder / "up.json").exists() and running(folder),
        "folder": str(folder),
        "drive_c": str(folder / "prefix" / "drive_c"),
        "password_file": str(password),
        "ca": str(folder / "ca.pem"),
        "journal": str(folder / "journal.jsonl"),
        "inventory": {
            "ansible_host": about["address"],
            "ansible_port": about["https"],
            "ansible_connection": "winrm",
            "ansible_winrm_scheme": "https",
            "ansible_winrm_transport": "ntlm",
            "ansible_winrm_ca_trust_path": str(folder / "ca.pem"),
            "ansible_user": about["user"],
            "ansible_password": f"{{{{ lookup('ansible.builtin.file', '{password}') }}}}",
        },
    }


def make(settings: Settings, folder: Path, about: dict[str, Any]) -> None:
    """Make a target's folder: its machine, password, certificate."""
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    source = pristine(settings)
    subprocess.run(["cp", "-a", "--reflink=auto", source, draft / "prefix"], check=True)
    password = secrets.token_urlsafe(18)
    write_if_changed(draft / "password", password + "\n", 0o600)
    write_if_changed(draft / "ntlm", f":{about['user']}:{password}\n", 0o600)
    certificates.make(draft, about["name"], about["address"])
    write_if_changed(draft / "target.json", json.dumps(about, indent=2) + "\n")
    draft.rename(folder)


def up(
    settings: Settings, name: str, address: str, http: int, https: int, gpu: str | None, edition: str
) -> dict[str, Any]:
    """Bring a target up; nothing changes where it is up as asked."""
    folder = folder_of(settings, name)
    check_wish(address, http, https)
    about = {
        "name": name,
        "address": address,
        "http": http,
        "https": https,
        "user": USER,
        "caption": CAPTIONS[edition],
        "gpu": gpu,
        "own_address": False,
    }
    with locked(home(settings) / f".{name}.lock"):
        if folder.exists():
            before = json.loads((folder / "target.json").read_text())
            about["own_address"] = before["own_address"]
            differs = [key for key in about if before.get(key) != about[key]]
            if differs:
                raise LabError(
                    "LW-LAB-113",
                    f"the target {name} is there with another {', '.join(differs)}; wipe it first (target.py wipe)",
                )
            if running(folder):
                return {"changed": False, **told(folder)}
        about["own_address"] = take_address(address) or about["own_address"]
        check_free(address, http, https)
        if not folder.exists():
            make(settings, folder, about)
        # Made once, which takes its time: not while the target's process is waited for.
        made.programs(settings.cache)
        made.base(settings.cache)
        start(folder)
        return {"changed": True, **told(folder)}


def start(folder: Path) -> None:
    """Start a target's process and wait until its machine is up; raises LW-LAB-114."""
    log = folder / "server.log"
    (folder / "up.json").unlink(missing_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "lab.windows.server", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
            env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
        )
    server = files.Server(process.pid, files.born(process.pid) or 0, str(folder), "", 0, "")
    write_if_changed(folder / "server.json", json.dumps(server.__dict__))
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if (folder / "up.json").exists():
            return
        time.sleep(0.1)
    halt(folder, server)
    last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    raise LabError(
        "LW-LAB-114",
        f"the target {folder.name} did not come up; its last word: {last[-1] if last else 'none'} (all of it: {log})",
    )


def halt(folder: Path, server: files.Server | None) -> None:
    """End a target's process, and whatever it left."""
    if server is not None and files.is_ours(server):
        os.kill(server.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while files.is_ours(server) and time.monotonic() < deadline:
            time.sleep(0.1)
        files.end(server)
    Wine(folder / "prefix").halt()
    programs.stop(folder)
    for name in ("up.json", "server.json"):
        (folder / name).unlink(missing_ok=True)


def down(settings: Settings, name: str) -> bool:
    """Switch a target off; its machine stays as it is. Returns whether it was up."""
    folder = folder_of(settings, name)
    if not folder.exists():
        return False
    with locked(home(settings) / f".{name}.lock"):
        was_up = running(folder)
        halt(folder, server_of(folder))
        about = json.loads((folder / "target.json").read_text())
        if about["own_address"]:
            subprocess.run(
                ["ip", "address", "del", f"{about['address']}/32", "dev", "lo"], capture_output=True, check=False
            )
        return was_up


def reboot(settings: Settings, name: str) -> None:
    """Reboot a target and wait until it is up again; raises LW-LAB-115 where it is not up."""
    folder = folder_of(settings, name)
    server = server_of(folder)
    if server is None or not running(folder) or not (folder / "up.json").exists():
        raise LabError("LW-LAB-115", f"the target {name} is not up; run target.py up --name {name} first")
    before = (folder / "up.json").read_text()
    os.kill(server.pid, signal.SIGHUP)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and running(folder):
        try:
            if (folder / "up.json").read_text() not in ("", before):
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise LabError("LW-LAB-114", f"the target {name} did not come up again; see {folder / 'server.log'}")


def wipe(settings: Settings, name: str) -> bool:
    """Take a target away with all that is on it; returns whether there was one."""
    folder = folder_of(settings, name)
    existed = folder.exists()
    down(settings, name)
    shutil.rmtree(folder, ignore_errors=True)
    return existed


def every(settings: Settings) -> list[dict[str, Any]]:
    """Return all targets."""
    return [
        told(path.parent)
        for path in sorted(home(settings).glob("*/target.json"))
        if not path.parent.name.startswith(".")
    ]
