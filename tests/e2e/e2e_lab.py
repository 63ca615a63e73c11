"""What the end-to-end test does with a lab: run plays, log in, pull plugs, look at the verdict."""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("LABWRIGHT_CACHE", ROOT / ".cache"))
FOLDER = CACHE / "e2e"
SECRETS = FOLDER / "secrets"
API = "https://10.83.41.10:9527/v1"
PAGE = "https://10.83.41.10:7860"
MODEL = "labwright-demo"
WORKER = f"labwright-worker-{MODEL}.service"
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


@dataclass
class Asked:
    """Answers of the API to questions that were asked all the time: status and words of each."""

    answers: list[tuple[int, str]] = field(default_factory=list)

    @property
    def refused(self) -> list[str]:
        """The words of all that were no answers, each once."""
        return sorted({words for status, words in self.answers if status != 200})


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

    def ssh(self, host: str, command: str, check: bool = True, timeout: float = 300) -> str:
        """Run a shell command on a host as root, over SSH with a checked host key, and return what it printed."""
        folder = CACHE / "lab/labs/lw-e2e"
        options = ["-o", f"UserKnownHostsFile={folder}/known_hosts", "-o", "StrictHostKeyChecking=yes"]
        login = ["ssh", "-q", "-i", f"{folder}/id_ed25519", *options, f"ops@{HOSTS[host]}"]
        done = subprocess.run(
            [*login, "sudo", "sh", "-s"], input=command, capture_output=True, text=True, timeout=timeout, check=False
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

    def key(self, name: str = "operator") -> str:
        """A key of the API, as the control node keeps it."""
        return (SECRETS / "keys" / name).read_text(encoding="utf-8").split()[0]

    def ask(self, path: str = "chat/completions", key: str | None = "", url: str = API) -> tuple[int, str]:
        """One question from outside the lab, with the lab's own CA; ``key`` "" is the operator's, None is none."""
        question = {"model": MODEL, "temperature": 0, "messages": [{"role": "user", "content": "Hello"}]}
        body = None if path == "models" else json.dumps(question).encode()
        header = {"Content-Type": "application/json"}
        if key is not None:
            header["Authorization"] = f"Bearer {key or self.key()}"
        trust = ssl.create_default_context(cafile=str(SECRETS / "ca.crt"))
        call = urllib.request.Request(f"{url}/{path}", data=body, headers=header)
        try:
            with urllib.request.urlopen(call, timeout=150, context=trust) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except (OSError, TimeoutError) as error:
            return 0, str(error)

    def page(
        self, method: str = "GET", path: str = "/", body: bytes | None = None, login: str | None = "", **header: str
    ) -> Iterator[bytes]:
        """The lines of the page's answer to somebody who logged in with NAME:KEY; "" is the operator, None nobody.
        An answer that is no 200 raises HTTPError."""
        if login is not None:
            words = base64.b64encode((login or f"operator:{self.key()}").encode()).decode()
            header["Authorization"] = f"Basic {words}"
        call = urllib.request.Request(
            PAGE + path, data=body, headers={"Content-Type": "application/json", **header}, method=method
        )
        trust = ssl.create_default_context(cafile=str(SECRETS / "ca.crt"))
        with urllib.request.urlopen(call, timeout=150, context=trust) as answer:
            yield from answer

    @contextmanager
    def asked_all_the_time(self, clients: int = 2) -> Iterator[Asked]:
        """Questions one after the other, from a few clients, as long as the block lasts. They breathe in between: what
        is tested is whether each is answered, and other suites have the same two cores."""
        over, found = threading.Event(), Asked()

        def go_on() -> None:
            while not over.wait(0.5):
                found.answers.append(self.ask())

        threads = [threading.Thread(target=go_on, daemon=True) for _number in range(clients)]
        for one in threads:
            one.start()
        try:
            yield found
        finally:
            over.set()
            for one in threads:
                one.join(160)

    def wait_until_it_answers(self, seconds: float = 240) -> dict[str, Any]:
        """The verdict, as soon as it is good."""
        deadline = time.monotonic() + seconds
        while self.play("playbooks/verify.yml").status != 0 and time.monotonic() < deadline:
            time.sleep(2)
        return self.verdict()

    def failed(self) -> dict[str, dict[str, Any]]:
        """What the last verdict found wrong, by host and check."""
        return {f"{one['host']} {one['id']}": one for one in self.verdict()["checks"] if not one["ok"]}

    def stranger(self, program: str, *words: str) -> str:
        """What a Python program says that runs on the lab's network in a container that is no host of the lab."""
        podman = str(ROOT / "tests/lab/podman")
        shown = [podman, "inspect", "-f", "{{.ImageName}}", "lw-e2e-e2e-ctl"]
        image = subprocess.run(shown, capture_output=True, text=True, check=True).stdout.strip()
        run = [
            podman,
            "run",
            "--rm",
            "-i",
            "--privileged",
            "--network",
            "lw-e2e",
            "--entrypoint",
            "python3",
            image,
            "-",
            *words,
        ]
        return subprocess.run(run, input=program, capture_output=True, text=True, check=True, timeout=300).stdout

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
        with ThreadPoolExecutor(len(HOSTS)) as pool:
            return dict(zip(HOSTS, pool.map(self.snapshot, HOSTS), strict=True))

    def changes(self, before: dict[str, set[str]]) -> list[str]:
        """What differs from an earlier snapshot, sorted, + for more and - for less."""
        now = self.snapshots()
        more = [f"{host} + {line}" for host in HOSTS for line in now[host] - before[host]]
        return sorted([*more, *(f"{host} - {line}" for host in HOSTS for line in before[host] - now[host])])


def known_tasks() -> list[dict[str, Any]]:
    """The tasks that the demo's model has learnt, each with its program."""
    raw = json.loads((ROOT / "agents/labwright_agents/tasks.json").read_text(encoding="utf-8"))
    return [{"program": "assistant", **task} for task in raw["tasks"]]
