"""The list of mutants: what it breaks stands where it says, and what shall notice exists; so that it does not rot."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import mutants

ROOT = Path(__file__).resolve().parents[2]
LISTED = mutants.listed()


@pytest.mark.parametrize("mutant", LISTED, ids=lambda one: one.name)
def test_what_it_breaks_stands_there_once(mutant: mutants.Mutant) -> None:
    assert (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.old) == 1
    assert mutant.new != mutant.old
    assert mutant.why


def test_each_role_is_broken_in_two_places_or_more() -> None:
    roles = {path.name for path in (ROOT / "roles").iterdir() if path.is_dir()}
    count = Counter(one.role for one in LISTED)
    assert set(count) == roles
    assert min(count.values()) >= 2
    assert sum(count.values()) >= 44
    assert len({one.name for one in LISTED}) == len(LISTED)


@pytest.mark.parametrize("mutant", [one for one in LISTED if one.kind == "molecule"], ids=lambda one: one.name)
def test_a_scenario_and_its_step_exist(mutant: mutants.Mutant) -> None:
    _, scenario, step = mutant.killed_by.split()
    assert (ROOT / f"molecule/{scenario}/molecule.yml").exists()
    assert step in ("prepare", "check", "converge", "idempotence", "verify", "side_effect")
    assert mutant.says


def test_each_test_that_kills_exists() -> None:
    nodes = {node for one in LISTED if one.kind != "molecule" for node in one.killed_by.split()}
    words = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", *sorted(nodes)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "not found" not in done.stderr, done.stderr


SAID = """
INFO     git ➜ prepare: Executing
  │ TASK [Ask for what cannot be] ***
  │ fatal: [case]: FAILED! => refused, and rescued
INFO     git ➜ prepare: Executed: Successful
INFO     git ➜ verify: Executing
  │ TASK [The record names
  │   what came] ***
  │ fatal: [default]: FAILED! => no such file
  │ TASK [Go on elsewhere] ***
  │ ok: [alternative]
ERROR    git ➜ verify: Executed: Failed
"""


@pytest.mark.parametrize(
    ("killed_by", "says", "status", "text", "why_not"),
    [
        ("molecule git verify", "The record names what came", 2, SAID, ""),
        ("molecule git verify", "no such file", 2, SAID, ""),
        ("molecule git verify", "Go on elsewhere", 2, SAID, "red with other words"),
        ("molecule git prepare", "refused", 2, SAID, "red at another step (verify)"),
        ("molecule git verify", "names", 0, "", "survived"),
        ("molecule git verify", "names", 1, "no such scenario", "red at another step (1)"),
        ("a.py::test_first a.py::test_b", "", 1, "FAILED a.py::test_b - assert 1 == 2", ""),
        ("a.py::test_first a.py::test_b", "", 1, "FAILED a.py::test_first - assert 1 == 2", "red for another reason"),
        ("a.py::test_b", "", 2, "ERROR a.py - SyntaxError", "red for another reason (2)"),
        ("a.py::test_b", "", 0, "", "survived"),
    ],
)
def test_a_red_counts_for_the_mutants_reason_alone(
    killed_by: str, says: str, status: int, text: str, why_not: str
) -> None:
    mutant = mutants.Mutant("name", "role", "file", "old", "new", "why", killed_by, says)
    found = mutants.fault(mutant, status, text)
    assert found.startswith(why_not)
    assert bool(found) is bool(why_not)
