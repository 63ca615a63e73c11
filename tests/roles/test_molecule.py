"""Every scenario of molecule/, one after the other, as `molecule test -s NAME` runs it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = sorted(path.parent.name for path in ROOT.glob("molecule/*/molecule.yml"))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(scenario: str) -> None:
    tools = ROOT / ".venv/bin"
    path = f"{tools}:{os.environ['PATH']}"
    done = subprocess.run(
        [tools / "molecule", "test", "-s", scenario],
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        timeout=2400,
        check=False,
    )
    assert done.returncode == 0
