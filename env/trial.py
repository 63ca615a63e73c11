"""Try a stack: install its locks, serve a tiny model of each family with the real FastChat, compare every answer.

`env/trial.py STACK --tag cpu` makes a fresh environment from the lock files, with this machine's own pip configuration
(where the wheels are not on its index, `PIP_EXTRA_INDEX_URL` names another one), and takes it away again. A trial that
passes becomes a row of env/trials.yml; the row counts for as long as its digest is that of the locks. A trial that
fails writes nothing, says why, and ends with status 1.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ENV = Path(__file__).resolve().parent
sys.path.insert(0, str(ENV.parent / "plugins/module_utils"))

from hostkit import exchange as line  # noqa: E402
from hostkit import probe  # noqa: E402
from hostkit.causes import Fault  # noqa: E402
from hostkit.result import Problem  # noqa: E402
from labwright import catalog  # noqa: E402
from labwright.catalog import Catalogue, Layer  # noqa: E402
from labwright.paths import LINUX as PLATFORM  # noqa: E402

TRIALS = ENV / "trials.yml"
VARIABLES = ENV.parent / "roles/fastchat/vars/main.yml"
HEAD = """\
# Which locked stacks were installed and answered. Made by env/trial.py (`make trial`); not edited by hand.
# A row counts only while its digest is that of the stack's locks. The models were tiny ones with random weights:
# a row says that the versions work together, and nothing of real weights, of memory or of speed.
"""
# A tiny model of each family, under the name, and with the conversation template, of a model of the catalogue: FastChat
# chooses its code by the folder's name.
FAMILIES = {"llama": "labwright-demo", "qwen2": "qwen2.5-7b-instruct", "glm": "glm-4-9b-chat-hf"}
MODULES = [f"fastchat.serve.{name}" for name in ("controller", "model_worker", "openai_api_server")]
PASSED = ["locks", "pip check", "import", "chat", "stream", "completion", "embeddings", "stop"]
MESSAGE = "Tell me where the green lamp is"
TOKENS = 24
START_S = 180
STOP_S = 15  # as TimeoutStopSec of the units
MANAGERS = {"pip", "setuptools", "wheel"}


@dataclass(frozen=True)
class Trial:
    """What is tried: one stack's layers for one torch tag, on one device, with the families that it can serve."""

    stack: str
    tag: str
    device: str
    python: str
    layers: tuple[Layer, ...]
    families: Mapping[str, tuple[str, str]]  # family -> (model's name, conversation template)

    def digest(self) -> str:
        """The identity of the locks, joined as `labwright.delivery.environment` joins them."""
        return hashlib.sha256("".join(layer.digest for layer in self.layers).encode()).hexdigest()[:12]


def trial_of(catalogue: Catalogue, name: str, tag: str, device: str) -> Trial:
    """Choose layers and families; raise a problem where there is nothing to try."""
    stack = catalogue.stacks.get(name)
    if stack is None or not stack.transformers:
        have = ", ".join(sorted(one.name for one in catalogue.stacks.values() if one.transformers))
        raise Problem("LW-TRIAL-001", f"{name} is no stack that serves models; expected one of {have}.")
    layers = stack.layers(tag, PLATFORM)
    if not layers:
        have = ", ".join(sorted({lock.tag for lock in stack.locks if lock.tag})) or "none"
        raise Problem(
            "LW-TRIAL-001",
            f"stack {name} has no locks for {tag} on {PLATFORM}; it has {have}. Take one of these, or lock the stack.",
        )
    models = {family: catalogue.models[model] for family, model in FAMILIES.items()}
    families = {
        family: (model["name"], model["conv_template"])
        for family, model in models.items()
        if stack.transformers in SpecifierSet(model["transformers"]["window"])
    }
    if not families:
        raise Problem(
            "LW-TRIAL-001",
            f"transformers {stack.transformers} of stack {name} is outside the windows of {', '.join(FAMILIES)} "
            "(env/catalog/models.yml); a trial needs one family at least. Add one to FAMILIES in env/trial.py.",
        )
    return Trial(name, tag, device, stack.python, tuple(layers), families)


def told(argv: Sequence[str], code: str, what: str, env: Mapping[str, str] | None = None) -> str:
    """The output of a program; a problem with its last words when it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        words = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise Problem(code, f"{what} failed with status {done.returncode}; expected 0. Its last words:\n{words}")
    return done.stdout


def make_environment(trial: Trial, folder: Path) -> Path:
    """Install the layers in order into a fresh virtual environment; return its Python."""
    base = shutil.which(f"python{trial.python}")
    if base is None:
        raise Problem("LW-TRIAL-002", f"no python{trial.python} on PATH; stack {trial.stack} needs it. Install it.")
    told([base, "-m", "venv", str(folder)], "LW-TRIAL-002", "making the virtual environment")
    python = folder / "bin/python"
    for layer in trial.layers:
        lock = folder / f"{layer.role}.txt"
        lock.write_text(layer.requirements, encoding="utf-8")
        argv = [str(python), "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps", "-r", str(lock)]
        told(argv, "LW-TRIAL-002", f"installing the layer {layer.role}")
    return python


def differences(layers: Sequence[Layer], listing: str) -> list[str]:
    """What of an environment (as `pip list --format json` says) is not as the locks have it."""
    there = {str(canonicalize_name(row["name"])): str(row["version"]) for row in json.loads(listing)}
    pins = (pin.partition("==") for layer in layers for pin, _sums in layer.pins)
    wanted = {str(canonicalize_name(name)): version for name, _, version in pins}
    return [
        f"{name} {there.get(name, 'is missing')}, locked {wanted.get(name, 'not at all')}"
        for name in sorted(there.keys() | wanted.keys())
        if there.get(name) != wanted.get(name) and not (name in MANAGERS and name not in wanted)
    ]


def check_environment(trial: Trial, python: Path, work: Path) -> None:
    """The environment holds what the locks say, and nothing else; it is consistent; FastChat's programs load."""
    wrong = differences(
        trial.layers, told([str(python), "-m", "pip", "list", "--format", "json"], "LW-TRIAL-003", "pip")
    )
    if wrong:
        raise Problem("LW-TRIAL-003", f"the environment is not that of the locks: {'; '.join(wrong[:10])}.")
    told([str(python), "-m", "pip", "check"], "LW-TRIAL-003", "pip check")
    names = ", ".join(MODULES)
    told([str(python), "-c", f"import {names}"], "LW-TRIAL-003", f"importing {names}", variables(work))


def reference(trial: Trial, python: Path, family: str, work: Path) -> dict[str, Any]:
    """Make the family's tiny model; return what transformers itself answers with it."""
    model, template = trial.families[family]
    argv = [str(python), str(ENV / "models/tiny.py"), family, str(work / "models" / model), "--template", template]
    argv += ["--message", MESSAGE, "--tokens", str(TOKENS), "--device", trial.device]
    out = told(argv, "LW-TRIAL-004", f"transformers' own run of a tiny {family} model", variables(work))
    return dict(json.loads(out.splitlines()[-1]))


def variables(work: Path) -> dict[str, str]:
    """The environment of FastChat's units, from the role; those that the role computes stay at FastChat's default."""
    variables = yaml.safe_load(VARIABLES.read_text(encoding="utf-8"))
    own = {**variables["__fastchat_common"], **variables["__fastchat_own"]["linux"]}
    fixed = {name: str(value) for name, value in own.items() if "{{" not in str(value)}
    return {"PATH": os.environ["PATH"], **fixed, "HOME": str(work)}


def free_port() -> int:
    """A loopback port that nothing listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def last_words(log: Path) -> str:
    """The end of a program's log, without the requests it answered."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join([line for line in lines if line.strip() and "INFO" not in line][-12:])


class Service:
    """One of FastChat's three programs, started as its unit starts it."""

    def __init__(self, python: Path, work: Path, module: str, arguments: Sequence[str]) -> None:
        """``work`` is its working directory, where its log goes too."""
        self.name = module.rpartition(".")[2]
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = work / f"{self.name}.log"
        argv = [str(python), "-m", module, "--host", "127.0.0.1", "--port", str(self.port), *arguments]
        argv += ["--worker-address", self.url] if self.name == "model_worker" else []
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(argv, cwd=work, env=variables(work), stdout=log, stderr=subprocess.STDOUT)

    def wait(self, check: Mapping[str, Any]) -> None:
        """Ask until it answers, as the unit's probe does."""
        deadline = time.monotonic() + START_S
        while not (said := probe.ask({"id": self.name, **check}))["ok"]:
            if self.process.poll() is not None or time.monotonic() > deadline:
                ended = self.process.returncode
                how = f"ended with status {ended}" if ended is not None else f"was not up after {START_S} s"
                words = f"{said['evidence']}\n{last_words(self.log)}"
                raise Problem("LW-TRIAL-005", f"FastChat's {self.name} {how}; expected it to serve. {words}")
            time.sleep(probe.EVERY_S)

    def stop(self) -> str:
        """End it with SIGTERM; kill it, and say so, when it does not."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return self.name
        return ""


@contextmanager
def served(python: Path, work: Path, name: str, template: str, device: str) -> Iterator[str]:
    """Controller, worker and API on loopback, in the order of their units; yields the API's address."""
    running: list[Service] = []

    def start(index: int, arguments: Sequence[str]) -> Service:
        running.append(Service(python, work, MODULES[index], arguments))
        return running[-1]

    try:
        controller = start(0, [])
        controller.wait({"kind": "controller", "url": controller.url, "models": []})
        to_controller = ["--controller-address", controller.url]
        # A path from the working directory: FastChat looks for names of models in the whole path.
        model = ["--model-path", f"models/{name}", "--model-names", name, "--conv-template", template]
        kind = ["--device", device, *(["--dtype", "float32"] if device == "cuda" else [])]
        worker = start(1, [*to_controller, *model, *kind])
        worker.wait({"kind": "worker", "url": worker.url, "models": [name]})
        worker.wait({"kind": "controller", "url": controller.url, "models": [name]})
        api = start(2, to_controller)
        api.wait({"kind": "connect", "host": "127.0.0.1", "port": api.port})
        try:
            yield api.url
        except Problem as problem:
            logs = "\n".join(f"[{one.name}] {last_words(one.log)}" for one in running)
            raise Problem(problem.code, f"{problem.message}\n{logs}") from problem
    finally:
        stubborn = [name for name in [one.stop() for one in reversed(running)] if name]
    if stubborn:
        raise Problem(
            "LW-TRIAL-007", f"{', '.join(stubborn)} had not ended {STOP_S} s after SIGTERM; a unit would be killed."
        )


def exchange(url: str, path: str, body: Mapping[str, Any]) -> str:
    """One question to the API; every way to fail becomes a problem."""
    try:
        return line.ask({"url": url}, path, dict(body)).decode("utf-8")
    except Fault as fault:
        words = fault.evidence
    except ValueError as error:
        words = f"{type(error).__name__}: {error}"
    raise Problem("LW-TRIAL-006", f"POST {path} {'(stream) ' if body.get('stream') else ''}was answered with {words}")


def streamed(raw: str) -> str:
    """The text of a stream; a problem where it broke off or came in one piece."""
    pieces = re.findall(r"^data: (.*)$", raw, re.MULTILINE)
    if len(pieces) < 4 or pieces[-1] != "[DONE]":
        raise Problem("LW-TRIAL-006", f"the stream broke off after {len(pieces)} pieces: {raw[-300:]!r}")
    parts = [json.loads(piece) for piece in pieces[:-1]]
    wrong = next((part for part in parts if "choices" not in part), None)
    if wrong is not None:
        raise Problem("LW-TRIAL-006", f"the stream has an error in it: {wrong}")
    return "".join(part["choices"][0]["delta"].get("content") or "" for part in parts)


def answers(url: str, name: str) -> dict[str, Any]:
    """What FastChat answers, in the shape of the reference."""
    asked = {"model": name, "temperature": 0, "max_tokens": TOKENS}
    chat = {**asked, "messages": [{"role": "user", "content": MESSAGE}]}
    raw = {
        "chat": exchange(url, "/v1/chat/completions", chat),
        "stream": exchange(url, "/v1/chat/completions", {**chat, "stream": True}),
        "completion": exchange(url, "/v1/completions", {**asked, "prompt": MESSAGE}),
        "embedding": exchange(url, "/v1/embeddings", {"model": name, "input": MESSAGE}),
    }
    try:
        return {
            "chat": json.loads(raw["chat"])["choices"][0]["message"]["content"],
            "stream": streamed(raw["stream"]),
            "completion": json.loads(raw["completion"])["choices"][0]["text"],
            "embedding": json.loads(raw["embedding"])["data"][0]["embedding"],
        }
    except (LookupError, TypeError, ValueError) as error:
        said = {kind: text[:200] for kind, text in raw.items()}
        raise Problem("LW-TRIAL-006", f"an answer is not of the API's form ({error!r}): {said}") from error


def compare(expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Every answer is the one that transformers gives; the streamed text is the one that came whole."""
    for kind, wanted in (("chat", "chat"), ("stream", "chat"), ("completion", "completion")):
        if not expected[wanted].strip() or found[kind] != expected[wanted]:
            raise Problem(
                "LW-TRIAL-006", f"{kind} says {found[kind]!r}; transformers itself says {expected[wanted]!r}."
            )
    one, other = expected["embedding"], found["embedding"]
    if len(one) != len(other) or not all(math.isclose(a, b, abs_tol=1e-4) for a, b in zip(one, other, strict=True)):
        raise Problem("LW-TRIAL-006", f"embeddings begin {other[:3]}; transformers' own begin {one[:3]}.")


def attempt(trial: Trial, python: Path, work: Path) -> dict[str, Any]:
    """Try all of it; return the row, or raise the problem."""
    check_environment(trial, python, work)
    expected: dict[str, Any] = {}
    for family, (model, template) in trial.families.items():
        expected = reference(trial, python, family, work)
        with served(python, work, model, template, trial.device) as url:
            compare(expected, answers(url, model))
        print(f"{family}: chat, stream, completion and embeddings are right, and SIGTERM ends all", flush=True)
    return {
        "stack": trial.stack,
        "tag": trial.tag,
        "platform": PLATFORM,
        "device": trial.device,
        "torch": expected["torch"],
        "transformers": expected["transformers"],
        "python": expected["python"],
        "digest": trial.digest(),
        "families": list(trial.families),
        "passed": PASSED,
    }


def write(path: Path, row: Mapping[str, Any]) -> None:
    """Put the row in place of the one for the same stack, tag, platform and device."""
    rows = (catalog.read(path) or []) if path.is_file() else []
    kept = {key(one): one for one in [*rows, row]}
    text = yaml.safe_dump(
        [dict(kept[one]) for one in sorted(kept)], sort_keys=False, width=120, default_flow_style=None
    )
    path.write_text(HEAD + text, encoding="utf-8")


def key(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What there is one row for."""
    return tuple(str(row[name]) for name in ("stack", "platform", "tag", "device"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return the exit status (0 the trial passed, 1 it did not)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("stack")
    parser.add_argument("--tag", default="cpu", help="torch's build: cpu, cu126, … (default: cpu)")
    parser.add_argument(
        "--device",
        choices=["cpu", "cuda"],
        default="cpu",
        help="where the models run; a CUDA build runs on a CPU as well",
    )
    parser.add_argument(
        "--python", type=Path, help="the Python of an environment that is there, instead of a fresh one"
    )
    parser.add_argument("--date", type=datetime.date.fromisoformat, default=datetime.date.today(), help="of the row")
    options = parser.parse_args(argv)
    try:
        trial = trial_of(catalog.load(ENV, None), options.stack, options.tag, options.device)
        with tempfile.TemporaryDirectory(prefix="trial-") as scratch:
            work = Path(scratch)
            python = options.python.absolute() if options.python else make_environment(trial, work / "environment")
            row = attempt(trial, python, work)
        write(TRIALS, {**row, "date": options.date})
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 1
    print(f"{options.stack} {options.tag}: passed, and stands in {TRIALS.name} under {row['digest']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
