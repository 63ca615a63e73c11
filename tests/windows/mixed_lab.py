"""A Linux container and a Windows target in one lab (hosts.yml): bring it up, run plays, look at the target."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from e2e_lab import Run
from windows_lab import ROOT, Machine

from lab.windows import store
from lab.windows.machine import in_wine

CACHE = Path(os.environ.get("LABWRIGHT_CACHE", ROOT / ".cache"))
FOLDER = CACHE / "mixed"
HOSTS = ("mix-ctl", "mix-win")
WORKER = "labwright-worker-labwright-demo"
# What changes by itself, and what is Windows' own: installers' logs, Wine's displays and consoles, the network cards
# that this machine has at the moment, its count of services, files that go at the next start.
NOISE = re.compile(
    r"^windows/temp|^users/root/(Temp|AppData)|DriverDate|PendingFileRename"
    r"|\\(Enum|Video|Winedevice|Hardware|NetworkCards|ServiceCurrent)|^HKEY_CURRENT_USER\\Console",
    re.IGNORECASE,
)


class Mixed:
    """The lab, and what a person does with it."""

    def __init__(self) -> None:
        """Nothing happens yet."""
        self.machine = Machine("t-mixed", 15885, 15886, address="10.83.51.1")

    def program(self, path: str, *words: str) -> str:
        """Run one of the programs of the tests' hosts, and return what it printed."""
        argv = [sys.executable, str(ROOT / path), *words]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def up(self) -> None:
        """Fresh hosts, and a bundle with the Windows files; what is in the bundle already is not made again."""
        self.down()
        self.program("tests/lab/windows/target.py", "prerequisites", "--install")
        lab = "tests/lab/lab.py"
        self.program(lab, "prerequisites", "--install")
        self.program(lab, "image", "bookworm")
        self.program(
            lab, "up", "--lab", "lw-mix", "--subnet", "10.83.51.0/24", "--host", "mix-ctl=10.83.51.10:bookworm"
        )
        part = self.program("tests/lab/windows/machine/make.py")
        stacks = [word for stack in ("chatglm2", "frontend", "agents") for word in ("--stack", stack)]
        words = ["--source", "kit", "--platform", "win-64", "--windows", part, *stacks, "--tag", "cpu"]
        self.program("env/bundle.py", "make", "--out", str(FOLDER / "bundle"), *words)
        self.program(lab, "serve", "--lab", "lw-mix", "--bind", "10.83.51.1", "--port", "8481", str(FOLDER / "bundle"))
        self.machine.up()

    def down(self) -> None:
        """Take all of it away; the bundle stays."""
        self.machine.wipe()
        self.program("tests/lab/lab.py", "down", "--lab", "lw-mix")

    def play(self, *words: str, **variables: Any) -> Run:
        """Run plays to their end, with extra variables."""
        argv = [str(ROOT / ".venv/bin/ansible-playbook"), "-i", str(Path(__file__).with_name("hosts.yml")), *words]
        argv += ["-e", json.dumps(variables)] if variables else []
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False)
        print(done.stdout + done.stderr)
        return Run(done.returncode, done.stdout + done.stderr)

    def good(self, *words: str) -> dict[str, int]:
        """The same of plays that must go well: how many tasks changed something on each host."""
        run = self.play(*words)
        assert run.status == 0, run.text[-3000:]
        return {host: run.recap[host]["changed"] for host in HOSTS if host in run.recap}

    def verdict(self) -> dict[str, bool]:
        """The last verdict: whether each check passed."""
        found = json.loads((FOLDER / "verdict.json").read_text(encoding="utf-8"))
        return {check["id"]: check["ok"] for check in found["checks"]}

    def wine(self, *words: str) -> str:
        """Run a program of Windows' own on the target, and return what it printed."""
        environment = in_wine.wine_environment(self.machine.prefix)
        pipe = subprocess.PIPE
        done = subprocess.run(
            ["wine", *words], env=environment, cwd="/", stdout=pipe, stdin=subprocess.DEVNULL, timeout=120
        )
        return done.stdout.replace(b"\0", b"").decode("utf-8", "replace")

    def snapshot(self) -> set[str]:
        """Every file of C:, every value of the registry, every account, group, right, firewall rule and feature."""
        drive = self.machine.file("C:\\")
        found = {path.relative_to(drive).as_posix() for path in drive.rglob("*")}
        for root in ("HKLM", "HKCU"):
            key = ""
            for line in self.wine("reg", "query", root, "/s").splitlines():
                key = line.strip() if line.startswith("HKEY") else key
                found.add(f"{key} {line.strip()}" if line.startswith(" ") else key)
        for kind, table in store.read(Path(self.machine.told["folder"])).items():
            if kind not in ("acl", "owners"):  # of files, which are looked at themselves
                found |= {f"{kind} {name} {json.dumps(value, sort_keys=True)}" for name, value in table.items()}
        return {one for one in found if not NOISE.search(one)}

    def log(self) -> str:
        """All that the worker on Windows wrote."""
        folder = self.machine.file(rf"C:\ProgramData\labwright\logs\{WORKER}")
        return "".join(path.read_text(encoding="utf-8", errors="replace") for path in sorted(folder.glob("*.log")))

    def environment(self) -> str:
        """The folder of the environment that the worker runs from."""
        found = [path.name for path in self.machine.file(r"C:\labwright\envs").glob("chatglm2-cpu-*")]
        assert len(found) == 1, found
        return rf"C:\labwright\envs\{found[0]}"

    def hang(self) -> None:
        """Let the worker's program on the Linux side stand still: it hears nothing any more."""
        mine = f"{self.machine.prefix}/drive_c/labwright/lib".encode()
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if b"twin.py" in (place / "cmdline").read_bytes() and mine in (place / "environ").read_bytes():
                    os.kill(int(place.name), signal.SIGSTOP)
                    return
            except OSError:
                continue
        raise AssertionError("no worker runs")
