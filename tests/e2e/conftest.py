"""A lab of three hosts: the demo's under another name, with a copy of the bundle that a test may damage."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from e2e_lab import FOLDER, Lab


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Three fresh hosts, and the bundle served to them."""
    one = Lab()
    one.play("playbooks/demo_down.yml")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    assert one.play("playbooks/demo_up.yml").status == 0
    yield one
    one.play("playbooks/demo_down.yml")
    shutil.rmtree(FOLDER, ignore_errors=True)


@pytest.fixture(scope="session")
def fresh(lab: Lab) -> dict[str, set[str]]:
    """What was on the hosts before anything of ours."""
    return lab.snapshots()
