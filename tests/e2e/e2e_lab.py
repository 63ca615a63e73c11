"""What the end-to-end test does with a lab: run plays, log in, pull plugs, look at the verdict."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("LABWRIGHT_CACHE", ROOT / ".cache"))
FOLDER = CACHE / "e2e"
HOSTS = {"e2e-ctl": "10.83.41.10", "e2e-w1": "10.83.41.11", "e2e-w2": "10.83.41.12"}
RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)


@dataclass
class Run:
    """One run of ansible-playbook: its exit status, its words, and the recap's numbers by host."""

    status: int
    text: str

    @property
    def recap(self) -> dict[str, dict[str, int]]:
        """Numbers of ok, changed, unreachable and failed tasks of each host."""
        names = ("ok", "changed", "unreachable", "failed")
        return {row[0]: dict(zip(names, map(int, row[1:]), strict=True)) for row in RECAP.findall(self.text)}

    def changed(self) -> int:
        """Changed tasks on the lab's hosts."""
        return sum(self.recap[host]["changed"] for host in HOSTS if host in self.recap)


class Lab:
    """What a person does with a lab: run plays, log in, look at the verdict."""

    def command(self, *words: str) -> list[str]:
        """The command line of one ansible-playbook run on this lab."""
        return [str(ROOT / ".venv/bin/ansible-playbook"), "-i", str(HERE / "hosts.yml"), *words]

    def play(self, *words: str, **variables: Any) -> Run:
        """Run plays to their end, with extra variables."""
        extra = ["-e", json.dumps(variables)] if variables else []
        done = subprocess.run(
            self.command(*words, *extra), cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False
        )
        text = done.stdout + done.stderr
        print(text)
        return Run(done.returncode, text)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Begin a run in a process group of its own, so that it can be killed whole."""
        argv = self.command(*words)
        pipe = subprocess.PIPE
        return subprocess.Popen(
            argv, cwd=ROOT, stdout=pipe, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    def ssh(self, host: str, command: str, check: bool = True) -> str:
        """Run a shell command on a host as root, over SSH with a checked host key, and return what it printed."""
        folder = CACHE / "lab/labs/lw-e2e"
        options = ["-o", f"UserKnownHostsFile={folder}/known_hosts", "-o", "StrictHostKeyChecking=yes"]
        login = ["ssh", "-q", "-i", f"{folder}/id_ed25519", *options, f"ops@{HOSTS[host]}"]
        done = subprocess.run(
            [*login, "sudo", "sh", "-s"], input=command, capture_output=True, text=True, timeout=300, check=False
        )
        assert not check or done.returncode == 0, f"{command!r} on {host}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def wait_for(self, host: str) -> None:
        """Wait until a host that was started lets us in."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.ssh(host, "systemctl is-system-running", check=False) != "running":
            time.sleep(1)

    def podman(self, *words: str) -> None:
        """Work on a host from outside, as somebody who pulls its plug."""
        subprocess.run([str(ROOT / "tests/lab/podman"), *words], check=True, capture_output=True)

    def verdict(self) -> dict[str, Any]:
        """The last verdict."""
        found: dict[str, Any] = json.loads((FOLDER / "verdict.json").read_text(encoding="utf-8"))
        return found

    def plan(self) -> dict[str, Any]:
        """The last plan."""
        found: dict[str, Any] = json.loads((FOLDER / "plan/plan.json").read_text(encoding="utf-8"))
        return found

    def snapshot(self, host: str) -> set[str]:
        """What is on a host outside the folders that any program may write to (see molecule/shared/snapshot.sh)."""
        return set(self.ssh(host, (ROOT / "molecule/shared/snapshot.sh").read_text(encoding="utf-8")).splitlines())

    def snapshots(self) -> dict[str, set[str]]:
        """The same for all hosts."""
        return {host: self.snapshot(host) for host in HOSTS}

    def changes(self, before: dict[str, set[str]]) -> list[str]:
        """What differs from an earlier snapshot, sorted, + for more and - for less."""
        now = self.snapshots()
        more = [f"{host} + {line}" for host in HOSTS for line in now[host] - before[host]]
        return sorted([*more, *(f"{host} - {line}" for host in HOSTS for line in before[host] - now[host])])


def known_tasks() -> list[dict[str, Any]]:
    """The tasks that the demo's model has learnt."""
    raw = yaml.safe_load((ROOT / "agents/labwright_agents/tasks.json").read_text(encoding="utf-8"))
    return list(raw["tasks"])
