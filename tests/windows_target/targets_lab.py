"""Real Ansible, real WinRM and real nssm.exe against targets on Wine: what the tests here share."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "tests/lab/windows/target.py"
W, C = "ansible.windows", "community.windows"
Result = dict[str, Any]


def call(*words: str) -> tuple[int, Result, str]:
    """Call target.py: its status, its answer, and what it says on standard error."""
    done = subprocess.run([sys.executable, PROGRAM, *words], capture_output=True, text=True, check=False, cwd="/")
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def free_port() -> int:
    """Return a port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Target:
    """A target that is up, and a folder for what Ansible is told of it."""

    told: Result
    folder: Path

    @property
    def name(self) -> str:
        return str(self.told["name"])

    @property
    def password(self) -> str:
        return Path(self.told["password_file"]).read_text().strip()

    @property
    def drive_c(self) -> Path:
        return Path(self.told["drive_c"])

    def journal(self) -> list[Result]:
        return [json.loads(line) for line in Path(self.told["journal"]).read_text().splitlines()]

    def play(self, tasks: Sequence[Mapping[str, Any]], *flags: str, **variables: Any) -> list[Result]:
        """Run tasks with unmodified Ansible; return a result each, failed or not."""
        inventory = {"windows": {"hosts": {self.name: {**self.told["inventory"], **variables}}}}
        marked = [
            {"ignore_errors": True, "ignore_unreachable": True, "name": str(at), **one} for at, one in enumerate(tasks)
        ]
        book = [{"hosts": "windows", "gather_facts": False, "tasks": marked}]
        files = {"inventory.yml": inventory, "play.yml": book}
        for name, content in files.items():
            (self.folder / name).write_text(yaml.safe_dump(content, sort_keys=False))
        done = subprocess.run(
            [
                ROOT / ".venv/bin/ansible-playbook",
                "-i",
                self.folder / "inventory.yml",
                self.folder / "play.yml",
                *flags,
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"},
        )
        start = done.stdout.find("{")
        assert start >= 0, done.stdout + done.stderr
        told, _ = json.JSONDecoder().raw_decode(done.stdout[start:])
        found: dict[int, Result] = {}
        for task in told["plays"][0]["tasks"]:
            found[int(task["task"]["name"])] = task["hosts"][self.name]
        assert sorted(found) == list(range(len(tasks))), done.stdout + done.stderr
        return [found[at] for at in range(len(tasks))]

    def one(self, module: str, *flags: str, **options: Any) -> Result:
        """Run one module."""
        return self.play([{module: options}], *flags)[0]


def changed(results: Sequence[Result]) -> list[bool]:
    """Return which of the results changed something; a failure is none."""
    for one in results:
        assert not one.get("failed"), one
    return [one["changed"] for one in results]
