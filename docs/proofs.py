"""What the tests show, for docs/render.py: the traps of Windows with their tests, and the parity table with results.

`tests/windows_traps.yml` lists the traps, and `tests/parity.yml` the features with the tests that show each on either
system. Which tests there are is read from their sources, without importing them; how they ended, from pytest's JUnit
files, of which `tests/parity_results.json` keeps what the table needs.
"""

from __future__ import annotations

import ast
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
TRAPS = ROOT / "tests/windows_traps.yml"
PARITY = ROOT / "tests/parity.yml"
RESULTS = ROOT / "tests/parity_results.json"
UNVERIFIED = ROOT / "docs/not-verified.md"
SYSTEMS = ("linux", "windows")
COMMIT = re.compile(r"[0-9a-f]{7,40}(-dirty)?")

TRAPS_PAGE = """# The traps of Windows, and the tests that fail when one is stepped in

Rendered by `docs/render.py` from `tests/windows_traps.yml` and the tests that are marked with a trap's name; not edited
by hand. Tests of `tests/unit` need nothing but Python. The others run real Ansible and WinRM and the real nssm.exe,
with emulated modules, on Wine; no test has met a real Windows ([what is not verified](../not-verified.md)).

| trap | seen | tests |
|---|---|---|
"""
PARITY_PAGE = """# Linux and Windows, feature by feature

Rendered by `docs/render.py` from `tests/parity.yml`, which names the tests, and `tests/parity_results.json`, which has
how they ended; not edited by hand. Numbers are of tests in the runs below. What failed or was not run is said so; what
nothing here can show leads to the step by which a person verifies it. No test has met a real Windows.

"""
RENEW = """
To renew it, from a tree without changes: run the suites (`make unit e2e molecule contract windows`), then
`python docs/render.py parity --results build/junit/*.xml`. A suite that is not among the files keeps its former
results, with their date and commit.

"""


@cache
def tests() -> dict[str, tuple[str, ...]]:
    """Every test of the project, as pytest names it, with the traps that it is marked with."""
    found: dict[str, tuple[str, ...]] = {}
    for path in sorted([*ROOT.glob("tests/**/test_*.py"), *ROOT.glob("agents/tests/test_*.py")]):
        for one in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(one, ast.FunctionDef) and one.name.startswith("test_"):
                found[f"{path.relative_to(ROOT)}::{one.name}"] = tuple(marks(one))
    return found


def marks(test: ast.FunctionDef) -> Iterable[str]:
    """The traps that a test is marked with."""
    for one in test.decorator_list:
        if isinstance(one, ast.Call) and ast.unparse(one.func) == "pytest.mark.trap":
            yield from (ast.literal_eval(word) for word in one.args)


def traps_page() -> str:
    """The page of traps."""
    listed: dict[str, dict[str, str]] = yaml.safe_load(TRAPS.read_text(encoding="utf-8"))
    rows = []
    for name, row in listed.items():
        own = "<br>".join(f"`{test}`" for test, names in tests().items() if name in names)
        rows.append(f"| **{name}**: {row['trap']} | {row['seen']} | {own or 'none'} |\n")
    return TRAPS_PAGE + "".join(rows)


# --- parity ----------------------------------------------------------------------------------------------------------


@cache
def parity() -> dict[str, Any]:
    """The map: `places` (what the tests of a folder run on) and `features`."""
    found: dict[str, Any] = yaml.safe_load(PARITY.read_text(encoding="utf-8"))
    return found


def named() -> set[str]:
    """Every test that the map names."""
    return {test for row in parity()["features"] for one in SYSTEMS for test in row[one].get("tests", ())}


def unverified() -> list[str]:
    """What the first column of not-verified.md says, row by row."""
    lines = UNVERIFIED.read_text(encoding="utf-8").splitlines()
    return [line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("| ")]


def read(path: Path) -> dict[str, Any]:
    """What a JUnit file of pytest's says: when and of which commit, and how each test that the map names ended.

    A test with parameters passed when it did with all of them.
    """
    suite = ET.parse(path).getroot().find("testsuite")  # noqa: S314
    commit = suite.get("name", "") if suite is not None else ""
    if suite is None or not COMMIT.fullmatch(commit):
        raise SystemExit(
            f"LW-RENDER-001: {path} says that it is of the commit {commit!r}; expected one, as the Makefile gives it. "
            "Run that suite again with make."
        )
    ended: dict[str, set[str]] = {}
    for case in suite.iter("testcase"):
        place = case.get("classname", "").replace(".", "/")
        state = {"failure": "failed", "error": "failed", "skipped": "not run"}
        word = next((state[one.tag] for one in case if one.tag in state), "passed")
        whole = f"{place}.py::{case.get('name')}"
        for name in {whole, whole.split("[")[0]}:
            ended.setdefault(name, set()).add(word)
    worst = {name: next(word for word in ("failed", "not run", "passed") if word in ended[name]) for name in ended}
    return {
        "date": suite.get("timestamp", "")[:10],
        "commit": commit,
        "tests": {name: worst[name] for name in sorted(worst) if name in named()},
    }


def keep(files: Sequence[Path]) -> None:
    """Take the results of these files over; those of other suites stay."""
    found = {**results(), **{path.stem: read(path) for path in files}}
    RESULTS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def results() -> dict[str, Any]:
    """The results that were kept, by suite."""
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    return found


def outcomes(suites: Mapping[str, Any]) -> dict[str, str]:
    """How each test ended last."""
    order = sorted(suites.values(), key=lambda one: str(one["date"]))
    return {name: word for suite in order for name, word in suite["tests"].items()}


def place_of(test: str) -> str:
    """The name of what a test runs on."""
    places: dict[str, dict[str, Any]] = parity()["places"]
    path = test.split("::")[0]
    return next(name for name, row in places.items() if any(f"{path}/".startswith(f"{one}/") for one in row["tests"]))


def cell(row: Mapping[str, Any], ended: Mapping[str, str]) -> str:
    """What is known of a feature on one system."""
    parts = []
    groups: dict[str, list[str]] = {}
    for test in row.get("tests", ()):
        groups.setdefault(place_of(test), []).append(ended.get(test, "not run"))
    for place, words in groups.items():
        counts = [f"{words.count(word)} {word}" for word in ("passed", "failed", "not run") if word in words]
        said = ", ".join(f"**{one}**" if "passed" not in one else one for one in counts)
        parts.append(f"{place}: {said}")
    if "none" in row:
        parts.append(str(row["none"]))
    parts += [f"not verified: [{one}](../not-verified.md)" for one in row.get("not_verified", ())]
    return "<br>".join(parts)


def parity_page(suites: Mapping[str, Any]) -> str:
    """The table, what it rests on, and the tests of each row."""
    ended = outcomes(suites)
    parts = [PARITY_PAGE]
    parts += [f"* **{name}**: {row['what']}.\n" for name, row in parity()["places"].items()]
    parts += ["\n| feature | Linux | Windows |\n|---|---|---|\n"]
    for row in parity()["features"]:
        parts.append(f"| {row['feature']} | {' | '.join(cell(row[one], ended) for one in SYSTEMS)} |\n")
    parts.append("\n## The runs\n\n| suite | date | commit | tests named here |\n|---|---|---|---|\n")
    for name, suite in sorted(suites.items()):
        words = list(suite["tests"].values())
        counts = ", ".join(f"{words.count(word)} {word}" for word in ("passed", "failed", "not run") if word in words)
        parts.append(f"| {name} | {suite['date']} | {suite['commit']} | {counts or 'none'} |\n")
    parts += [RENEW, "## The tests\n"]
    for row in parity()["features"]:
        parts.append(f"\n**{row['feature']}**\n\n")
        for one in SYSTEMS:
            parts += [
                f"* {one.capitalize()}: `{test}`: {ended.get(test, 'not run')}\n" for test in row[one].get("tests", ())
            ]
    return "".join(parts)
