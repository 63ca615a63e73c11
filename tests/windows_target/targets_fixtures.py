"""Two targets, side by side, and programs for the first of them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from targets_lab import Target, W, call, changed, free_port


def raised(name: str, factory: pytest.TempPathFactory) -> Target:
    """Bring a target up on free ports."""
    status, _, said = call("prerequisites", "--install")
    assert status == 0, said
    call("wipe", "--name", name)
    status, told, said = call("up", "--name", name, "--http", str(free_port()), "--https", str(free_port()))
    assert status == 0, said
    return Target(told, factory.mktemp(name))


@pytest.fixture(scope="session", name="target")
def target_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    yield raised("test-a", tmp_path_factory)
    call("wipe", "--name", "test-a")


@pytest.fixture(scope="session", name="other")
def other_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    yield raised("test-b", tmp_path_factory)
    call("wipe", "--name", "test-b")


@pytest.fixture(scope="session", name="nssm")
def nssm_fixture(target: Target) -> str:
    """nssm.exe on the first target."""
    source = call("prerequisites")[1]["nssm"]
    folder = {f"{W}.win_file": {"path": "C:\\tools", "state": "directory"}}
    changed(target.play([folder, {f"{W}.win_copy": {"src": source, "dest": "C:\\tools\\nssm.exe"}}]))
    return "C:\\tools\\nssm.exe"


@pytest.fixture(scope="session", name="sleeper")
def sleeper_fixture(target: Target, nssm: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A program for services, beside nssm.exe."""
    program = tmp_path_factory.mktemp("program") / "sleeper.exe"
    source = Path(__file__).with_name("sleeper.c")
    subprocess.run(["x86_64-w64-mingw32-gcc", "-O2", "-s", "-o", program, source], check=True)
    changed([target.one(f"{W}.win_copy", src=str(program), dest="C:\\tools\\sleeper.exe")])
    return "C:\\tools\\sleeper.exe"
