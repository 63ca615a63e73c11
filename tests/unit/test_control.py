"""The virtual environment of the control node: what is said where no Python can make one. Nothing is installed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from unit.programs import program

ROOT = Path(__file__).resolve().parents[2]


def call(*words: str | Path, path: Path) -> tuple[int, str]:
    """A program that finds others in one folder alone: its status and what it says."""
    done = subprocess.run(words, env={"PATH": str(path)}, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            ['[ "$1" = --version ] && echo Python 3.9.2 && exit 0', "exit 1"],
            "LW-CONTROL-001: Python 3.9.2 found as '{}'; expected Python 3.11, 3.12 or 3.13.",
        ),
        (
            ['case "$2" in *ensurepip*) exit 1;; *print*) echo python3.11-venv;; esac'],
            "LW-CONTROL-002: {} cannot make a virtual environment; expected its modules venv and ensurepip. "
            "Run: apt-get install python3.11-venv",
        ),
    ],
)
def test_a_python_that_will_not_do_is_told(lines: list[str], said: str, tmp_path: Path) -> None:
    python = program(tmp_path, "python", *lines)
    (tmp_path / "id").symlink_to("/usr/bin/id")
    status, words = call("/bin/bash", "env/control/venv.sh", python, tmp_path / "venv", "none.txt", path=tmp_path)
    assert status == 2
    assert words.startswith(said.format(python))
    assert not (tmp_path / "venv").exists()


def test_tests_of_what_runs_on_hosts_say_which_python_they_need(tmp_path: Path) -> None:
    (tmp_path / "mkdir").symlink_to("/bin/mkdir")
    goal = f"{tmp_path}/cache/agents/.ready"
    status, words = call("/usr/bin/make", "-s", f"CACHE={tmp_path}/cache", goal, path=tmp_path)
    assert status == 2
    assert words.startswith("LW-CONTROL-003: tests of what runs on hosts need python3.11")
