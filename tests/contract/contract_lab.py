"""What the acceptance suite does with its hosts: run the role, ask the toy, and look through the backend's adapter.

`Systemd` is the adapter of one host. The suite must run unchanged against another backend, so whatever only systemd
knows is in that class, and each of its methods is a question or an act of the contract.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("LABWRIGHT_CACHE", ROOT / ".cache"))
RECAP = re.compile(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=\d+\s+failed=(\d+)", re.MULTILINE)
PATIENCE_S = 60
T = TypeVar("T")


@dataclass
class Run:
    """One run of ansible-playbook: its exit status, its words, and how many tasks changed something on each host."""

    status: int
    text: str

    @property
    def changed(self) -> list[int]:
        """Changed tasks of each host."""
        return [int(row[1]) for row in RECAP.findall(self.text)]


def until(holds: Callable[[], Any]) -> Any:
    """Wait for something to become true, and return it; nothing here asserts how long that took."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := holds()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.2)
    return found


class Host:
    """One host: log in, ask the toy over the network."""

    def __init__(self, lab: str, name: str, address: str) -> None:
        """``lab`` is the lab's name in tests/lab."""
        self.name = name
        self.address = address
        folder = CACHE / "lab/labs" / lab
        known = ["-o", f"UserKnownHostsFile={folder}/known_hosts", "-o", "StrictHostKeyChecking=yes"]
        alive = ["-o", "ServerAliveInterval=2", "-o", "ConnectTimeout=5"]
        shared = ["-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-o", f"ControlPath=/run/labwright/{lab}-%h"]
        self.login = ["ssh", "-q", "-i", f"{folder}/id_ed25519", *known, *alive, *shared, f"ops@{address}"]

    def run(self, command: str, check: bool = True) -> str:
        """Run shell commands as root, and return what they printed."""
        argv = [*self.login, "sudo", "sh", "-s"]
        done = subprocess.run(argv, input=command, capture_output=True, text=True, timeout=120, check=False)
        assert not check or done.returncode == 0, f"{command!r} on {self.name}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def ask(self, path: str = "/") -> dict[str, Any]:
        """What the toy answers; nothing where it does not."""
        try:
            with urllib.request.urlopen(f"http://{self.address}:8790{path}", timeout=5) as answer:
                return dict(json.load(answer))
        except (OSError, ValueError):
            return {}

    def process(self) -> int:
        """The process that answers; 0 where none does."""
        return int(self.ask().get("pid", 0))

    def another(self, than: int) -> int:
        """Wait until another process answers."""
        return int(until(lambda: (now := self.process()) != than and now))

    def snapshot(self) -> list[str]:
        """Every file and account."""
        return self.run((ROOT / "molecule/shared/snapshot.sh").read_text(encoding="utf-8")).splitlines()

    def boot(self) -> str:
        """An id that is another one after each boot."""
        return self.run("cut -d' ' -f22 /proc/1/stat", check=False)


class Systemd(Host):
    """The contract's questions and acts as systemd knows them."""

    UNIT = "labwright-toy.service"
    FILE = f"/etc/systemd/system/{UNIT}"
    # What a person may do to it by hand.
    HANDS: ClassVar[dict[str, str]] = {
        "edited": f"sed -i s/toy.py/other.py/ {FILE}",
        "deleted": f"rm {FILE}; systemctl daemon-reload",
        "stopped": f"systemctl stop {UNIT}",
        "disabled": f"systemctl -q disable {UNIT}",
        "masked": f"systemctl stop {UNIT}; ln -sf /dev/null {FILE}; systemctl daemon-reload",
        "overridden": f"systemctl set-property {UNIT} CPUWeight=77; mkdir -p {FILE}.d; "
        f"printf '[Service]\\nNice=5\\n' > {FILE}.d/override.conf; systemctl daemon-reload",
    }

    def property(self, name: str) -> str:
        """One property of the unit."""
        return self.run(f"systemctl show --value -p {name} {self.UNIT}")

    def state(self) -> tuple[str, str]:
        """Whether it runs, and whether it starts at boot."""
        return self.property("ActiveState"), self.property("UnitFileState")

    def given_up(self) -> bool:
        """Whether it will not be started again."""
        return self.property("ActiveState") == "failed"

    def clean(self) -> bool:
        """Whether nothing of a person's is left beside its definition."""
        return not self.property("DropInPaths") and self.property("CPUWeight") == "[not set]"

    def log(self) -> list[str]:
        """Its log."""
        return self.run(f"journalctl --namespace=labwright -u {self.UNIT} -o cat --no-pager").splitlines()

    def log_bytes(self) -> int:
        """Disk that all logs of the lab take."""
        return int(self.run("du -sb /var/log/journal/*.labwright | cut -f1"))

    def alarms(self) -> list[str]:
        """What the machine's own log was told of the highest priorities."""
        return self.run("journalctl -p crit -o cat --no-pager").splitlines()

    def restart(self) -> None:
        """As a person does it; as often as the test wants, whatever systemd thinks of that."""
        self.run(f"systemctl reset-failed {self.UNIT}; systemctl restart {self.UNIT}")

    def kill(self, signal: str) -> None:
        """Send the program a signal."""
        self.run(f"systemctl kill --kill-who=main -s {signal} {self.UNIT}")

    def exposure(self) -> float:
        """From 0 (sealed) to 10 (open)."""
        said = self.run(f"systemd-analyze security --no-pager {self.UNIT}")
        return float(re.findall(r"exposure level for .*: ([0-9.]+) ", said)[0])

    def fill_log_disk(self) -> None:
        """Give the log a disk of its own that has no byte left."""
        self.run(
            "folder=$(echo /var/log/journal/*.labwright); mount -t tmpfs -o size=1M none $folder\n"
            "dd if=/dev/zero of=$folder/full bs=64k 2>/dev/null\n"
            "systemctl restart systemd-journald@labwright.service; df --output=avail $folder | grep -qx ' *0'"
        )

    def empty_log_disk(self) -> None:
        """Take that disk away."""
        self.run("umount -l /var/log/journal/*.labwright; systemctl restart systemd-journald@labwright.service")


class Lab:
    """The hosts, side by side."""

    def __init__(self) -> None:
        """The hosts of hosts.yml."""
        self.inventory = HERE / "hosts.yml"
        group = yaml.safe_load((HERE / "hosts.yml").read_text(encoding="utf-8"))["all"]["children"]["demo"]
        self.name = group["vars"]["demo_name"]
        self.wish = ["--lab", self.name, "--subnet", group["vars"]["demo_subnet"]]
        for name, row in group["hosts"].items():
            self.wish += ["--host", f"{name}={row['ansible_host']}:{row['lab_image']}"]
        self.hosts = [Systemd(self.name, name, row["ansible_host"]) for name, row in group["hosts"].items()]

    def lab(self, *words: str) -> None:
        """Run tests/lab."""
        subprocess.run([ROOT / ".venv/bin/python", ROOT / "tests/lab/lab.py", *words], check=True, capture_output=True)

    def end(self) -> None:
        """Take the hosts away."""
        self.lab("down", "--lab", self.name)

    def play(self, *words: str, name: str = "play.yml", **variables: Any) -> Run:
        """Run the role on all hosts, with other variables than the play's."""
        playbook = [f"{ROOT}/.venv/bin/ansible-playbook", "-i", str(self.inventory), f"{HERE}/{name}", *words]
        settings = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
        argv = [*playbook, "-e", json.dumps(variables)]
        done = subprocess.run(argv, env=settings, capture_output=True, text=True, timeout=300, check=False)
        print(done.stdout + done.stderr)
        return Run(done.returncode, done.stdout + done.stderr)

    def good(self, *words: str, **variables: Any) -> list[int]:
        """The same, and it must end well: how many tasks changed something."""
        run = self.play(*words, **variables)
        assert run.status == 0
        return run.changed

    def each(self, story: Callable[[Systemd], T]) -> list[T]:
        """Tell the same story on all hosts at once."""
        with ThreadPoolExecutor(len(self.hosts)) as pool:
            return list(pool.map(story, self.hosts))
