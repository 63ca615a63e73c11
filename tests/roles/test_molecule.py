"""Every scenario of molecule/, as `molecule test -s NAME` runs it: two at a time, the long ones first."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build/molecule"
LONG = ["fastchat", "serving", "autogen", "docker", "torch", "transformers"]
SCENARIOS = sorted(
    (path.parent.name for path in ROOT.glob("molecule/*/molecule.yml")),
    key=lambda name: (LONG.index(name) if name in LONG else len(LONG), name),
)
AT_ONCE = int(os.environ.get("LABWRIGHT_MOLECULE_JOBS", "2"))


def run(scenario: str) -> tuple[int, str, float]:
    """Exit status, what was printed, and the seconds that it took. What was printed is kept in build/molecule too."""
    tools = ROOT / ".venv/bin"
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "NO_COLOR": "1"}
    began = time.monotonic()
    log = OUT / f"{scenario}.log"
    with log.open("w", encoding="utf-8") as stream:
        argv: list[str | Path] = [tools / "molecule", "test", "-s", scenario]
        done = subprocess.run(argv, cwd=ROOT, env=environment, stdout=stream, stderr=stream, timeout=2400, check=False)
    return done.returncode, log.read_text(encoding="utf-8"), time.monotonic() - began


@pytest.fixture(scope="module", name="runs")
def runs_fixture() -> Iterator[dict[str, Future[tuple[int, str, float]]]]:
    """All scenarios, begun."""
    OUT.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = {scenario: pool.submit(run, scenario) for scenario in SCENARIOS}
        yield runs
        for one in runs.values():
            one.cancel()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(
    scenario: str, runs: dict[str, Future[tuple[int, str, float]]], record_property: Callable[[str, object], None]
) -> None:
    status, printed, seconds = runs[scenario].result()
    record_property("seconds", round(seconds))
    print(printed)
    assert status == 0
