"""The process that is a target: WinRM on its ports while the machine is up. Started by target.py."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from ..settings import write_if_changed
from . import machine as programs
from . import options
from .modules import STAND_INS, Machine
from .powershell import PowerShell
from .wine import Wine
from .wsman import Listener, Shells

LOG = logging.getLogger("target")


class Target:
    """A machine with its WinRM. ``told`` is the target's target.json."""

    def __init__(self, folder: Path) -> None:
        """Read what this target is; nothing is started yet."""
        self.folder = folder
        self.told: dict[str, Any] = json.loads((folder / "target.json").read_text())
        self.wine = Wine(folder / "prefix")
        self.password = (folder / "password").read_text().strip()
        self.ports = (self.told["http"], self.told["https"])
        self.stopping = threading.Event()
        self.wishes: list[float] = []
        self.wish = threading.Event()
        self.listeners: list[Listener] = []
        self.powershell = PowerShell(
            self.wine,
            self.described(),
            options.documented(STAND_INS, folder.parent),
            folder / "journal.jsonl",
            self.reboot,
        )
        self.shells = Shells(self.powershell.run)

    def described(self, booted: float = 0.0, helpers: tuple[int, ...] = ()) -> Machine:
        """Return what stand-ins may know."""
        return Machine(
            name=self.told["name"],
            address=self.told["address"],
            user=self.told["user"],
            folder=self.folder,
            ports=self.ports,
            caption=self.told["caption"],
            booted=booted,
            helpers=helpers,
        )

    def boot(self) -> None:
        """Start the machine, and then its WinRM."""
        gpu = self.told["gpu"]
        helper = programs.start(self.folder, self.wine.prefix, recording=gpu)
        self.wine.boot()
        booted = time.time()
        self.powershell.rebooted(self.described(booted, (helper,)))
        self.shells.clear()
        users = {self.told["user"]: self.password}
        certificate = (self.folder / "server.pem", self.folder / "server.key")
        self.listeners = [
            Listener(self.told["address"], self.told["http"], self.shells, users, None),
            Listener(self.told["address"], self.told["https"], self.shells, users, certificate),
        ]
        for listener in self.listeners:
            threading.Thread(target=listener.serve_forever, daemon=True).start()
        write_if_changed(self.folder / "up.json", json.dumps({"pid": os.getpid(), "booted": booted}))
        LOG.info("up")

    def halt(self) -> None:
        """Cut the connections, and switch the machine off."""
        (self.folder / "up.json").unlink(missing_ok=True)
        for listener in self.listeners:
            listener.cut()
        self.listeners = []
        self.wine.halt()
        LOG.info("down")

    def reboot(self, seconds: float = 0) -> None:
        """Ask for a reboot after some seconds."""
        self.wishes.append(seconds)
        self.wish.set()

    def stop(self) -> None:
        """Ask for the end."""
        self.stopping.set()
        self.wish.set()

    def run(self) -> None:
        """Be a machine until told to stop."""
        signal.signal(signal.SIGTERM, lambda *_: self.stop())
        signal.signal(signal.SIGHUP, lambda *_: self.reboot())
        self.boot()
        while not self.stopping.is_set():
            self.wish.wait()
            self.wish.clear()
            if self.wishes and not self.stopping.is_set():
                time.sleep(self.wishes.pop())
                self.wishes.clear()
                self.halt()
                self.boot()
        self.halt()
        programs.stop(self.folder)


def main(folder: Path) -> None:
    """Run the target of a folder."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    # pyspnego's acceptor reads names and passwords from the file that this names.
    os.environ["NTLM_USER_FILE"] = str(folder / "ntlm")
    os.umask(0o022)
    Target(folder).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
