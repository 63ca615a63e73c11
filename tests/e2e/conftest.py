"""A lab of three hosts: the demo's under another name, with a copy of the bundle that a test may damage."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from e2e_lab import CACHE, FOLDER, Lab


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Three fresh hosts, and the bundle served to them."""
    one = Lab()
    one.play("playbooks/demo_down.yml")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    made = one.play("playbooks/bundle.yml", lab_bundle_dir=str(CACHE / "bundle"))
    assert made.status == 0
    # Hard links: a test that damages a file replaces it, and the bundle itself stays as it is.
    shutil.copytree(CACHE / "bundle", FOLDER / "bundle", copy_function=os.link)
    assert one.play("playbooks/demo_up.yml").status == 0
    yield one
    one.play("playbooks/demo_down.yml")
    shutil.rmtree(FOLDER, ignore_errors=True)


@pytest.fixture(scope="session")
def fresh(lab: Lab) -> dict[str, set[str]]:
    """What was on the hosts before anything of ours."""
    return lab.snapshots()
