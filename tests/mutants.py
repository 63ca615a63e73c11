"""Break each role in a few places (tests/mutants.yml), and demand that a test turns red each time, for that reason.

A killer is a test of pytest, by its id, or a scenario of Molecule with the step that must fail: `molecule git verify`.
Killers run without a mutant first: a red that was there before proves nothing. With --trust those are left out of which
build/junit has a green run of this very commit. Each mutant gets a copy of this checkout; what its killer said is in
build/mutants.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "tests/mutants.yml"
LOGS = ROOT / "build/mutants"
CACHE = Path(os.environ.get("LABWRIGHT_CACHE", ROOT / ".cache")).absolute()
# By what runs: how long it may take, in seconds, and which record in build/junit its green run would be in.
KINDS = {
    "tests/unit": (300, "unit"),
    "tests/serve": (300, "serve"),
    "agents/tests": (300, "agents"),
    "tests/contract": (1200, "contract"),
    "molecule": (1500, "molecule"),
}


@dataclass(frozen=True)
class Mutant:
    """One change that a test must notice; `says` are words that the failing task must have in it."""

    name: str
    role: str
    file: str
    old: str
    new: str
    why: str
    killed_by: str
    says: str = ""

    @property
    def place(self) -> str:
        """What runs at the same time as no other of its kind: a scenario and its hosts, or a file of tests."""
        words = self.killed_by.split()
        return f"molecule {words[1]}" if words[0] == "molecule" else words[0].partition("::")[0]

    @property
    def kind(self) -> str:
        """Its row in KINDS: molecule, or the folder of the tests."""
        return "molecule" if self.place.startswith("molecule") else "/".join(self.place.split("/")[:2])


def listed() -> list[Mutant]:
    """All of tests/mutants.yml."""
    return [Mutant(**row) for row in yaml.safe_load(LIST.read_text(encoding="utf-8"))]


def copied(folder: Path) -> None:
    """This checkout as it is now, without what git ignores, and with its virtual environment."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    (folder / ".venv").symlink_to(ROOT / ".venv")


def ran(where: Path, mutants: list[Mutant], log: Path) -> tuple[int, str]:
    """Run the killers of mutants of one place; the exit status, and what was said."""
    bin_ = ROOT / ".venv/bin"
    killers = " ".join(one.killed_by for one in mutants).split()
    if killers[0] == "molecule":
        base = where / ".config/molecule/config.yml"
        words = [str(bin_ / "molecule"), "--base-config", str(base), "test", "-s", killers[1]]
    else:
        words = [str(where / ".venv/bin/python"), "-m", "pytest", "-p", "no:cacheprovider", *dict.fromkeys(killers)]
    own = {"LABWRIGHT_CACHE": str(CACHE), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "400"}
    env = {**os.environ, **own, "PATH": f"{bin_}:{os.environ['PATH']}"}
    env.pop("ANSIBLE_CONFIG", None)
    patience = KINDS[mutants[0].kind][0]
    with log.open("w", encoding="utf-8") as stream:
        try:
            status = subprocess.run(
                words,
                cwd=where,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                timeout=patience,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            status = -1
    return status, log.read_text(encoding="utf-8", errors="replace")


def fault(mutant: Mutant, status: int, text: str) -> str:
    """Why what was seen is no kill; "" where it is one."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    if status == 0:
        return "survived"
    if not mutant.killed_by.startswith("molecule"):
        node = mutant.killed_by.split()[-1]
        red = [line for line in text.splitlines() if line.startswith(f"FAILED {node}")]
        return "" if status == 1 and red else f"red for another reason ({status})"
    _, scenario, step = mutant.killed_by.split()
    failed = re.findall(rf"{scenario} ➜ (\w+): Executed: Failed", text)
    if failed[:1] != [step]:
        return f"red at another step ({', '.join(failed[:1]) or status})"
    part = text[: text.index(f"{step}: Executed: Failed")].rpartition(f"{step}: Executing")[2]
    said = reason(part)
    return "" if re.search(mutant.says, said) else f"red with other words: {said[:200]}"


def reason(part: str) -> str:
    """The task that ended a step, with what it said, or what Molecule itself says of the step."""
    part = " ".join(part.replace("│", " ").split())
    tasks = [words for words in part.split("TASK [") if "fatal: [" in words or "failed: [" in words]
    own = part.rpartition("Idempotence test failed")
    return (tasks[-1] if tasks else "") + own[1] + (own[2] if own[1] else "")


def commit() -> str:
    """This commit, as the records of build/junit name it."""
    words = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude", "*"]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def on_record(kind: str) -> bool:
    """Whether build/junit has a green run of this commit."""
    path = ROOT / f"build/junit/{KINDS[kind][1]}.xml"
    if not path.exists():
        return False
    suite = ET.parse(path).getroot().find("testsuite")  # noqa: S314  our own file
    return suite is not None and (suite.get("name"), suite.get("errors"), suite.get("failures")) == (commit(), "0", "0")


def tried(mutant: Mutant) -> str:
    """Put the mutant into a copy and run its killer there; "" where that killed it."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copied(Path(folder))
        path = Path(folder, mutant.file)
        text = path.read_text(encoding="utf-8")
        if text.count(mutant.old) != 1:
            return f"`old` stands {text.count(mutant.old)} times in {mutant.file}"
        path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        return fault(mutant, *ran(Path(folder), [mutant], LOGS / f"{mutant.name}.log"))


def group(mutants: list[Mutant], trust: bool) -> list[str]:
    """All mutants of one place, one after the other; the names of those that nothing killed."""
    place = mutants[0].place
    if not (trust and on_record(mutants[0].kind)):
        with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
            copied(Path(folder))
            began = time.monotonic()
            log = LOGS / f"without-{re.sub('[^a-z0-9]+', '-', place)}.log"
            status, text = ran(Path(folder), mutants, log)
            status = status or int(bool(re.search(r"\d+ skipped", text)))  # what was skipped notices nothing
            say("(no mutant)", place, time.monotonic() - began, "green" if status == 0 else f"RED, see {log}")
            if status:
                return [one.name for one in mutants]
    alive = []
    for one in mutants:
        began = time.monotonic()
        wrong = tried(one)
        say(one.name, one.killed_by, time.monotonic() - began, f"NOT KILLED: {wrong}" if wrong else "killed")
        alive += [one.name] if wrong else []
    return alive


def say(name: str, killer: str, seconds: float, end: str) -> None:
    """One row of the table."""
    killer = killer if killer.startswith("molecule") else killer.split()[-1]
    print(f"{name:<36} {seconds:5.0f} s  {end:<10} {killer}", flush=True)


def main() -> int:
    """Try the mutants that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", metavar="NAME", help="this mutant; may be given several times")
    parser.add_argument("--role", action="append", help="mutants of this role; may be given several times")
    parser.add_argument("--killer", default="", metavar="WORDS", help="mutants whose killer begins so: tests/unit")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="killers at the same time (2)")
    parser.add_argument("--trust", action="store_true", help="believe build/junit where it has this very commit, green")
    options = parser.parse_args()
    places: dict[str, list[Mutant]] = defaultdict(list)
    for one in listed():
        if (
            one.name in (options.only or [one.name])
            and one.role in (options.role or [one.role])
            and one.killed_by.startswith(options.killer)
        ):
            places[one.place].append(one)
    LOGS.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        alive = [name for names in pool.map(lambda rows: group(rows, options.trust), places.values()) for name in names]
    print(f"{sum(map(len, places.values())) - len(alive)} mutants killed, {len(alive)} not: {', '.join(alive) or '-'}")
    return 1 if alive or not places else 0


if __name__ == "__main__":
    sys.exit(main())
