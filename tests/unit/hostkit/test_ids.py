"""Every id that a person may be shown by hostkit, the plan or a plugin is brought about by some test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ID = re.compile(r"LW-[A-Z]+-[0-9]{3}")
SOURCES = ("plugins/module_utils/hostkit", "plugins/module_utils/labwright", "plugins/action", "plugins/filter")
TESTS = ("tests/unit/hostkit", "tests/unit/labwright")


def ids(folders: tuple[str, ...]) -> dict[str, set[str]]:
    """Each id with the files that it stands in."""
    found: dict[str, set[str]] = {}
    for path in (path for folder in folders for path in sorted((ROOT / folder).glob("*.py"))):
        for one in ID.findall(path.read_text(encoding="utf-8")):
            found.setdefault(one, set()).add(path.name)
    return found


RAISED = sorted(ids(SOURCES))


@pytest.mark.parametrize("one", RAISED)
def test_the_id_is_asserted_by_a_test(one: str) -> None:
    assert one in ids(TESTS), f"no test brings about {one} of {', '.join(sorted(ids(SOURCES)[one]))}"


@pytest.mark.parametrize("one", sorted(ids(TESTS)))
def test_no_test_asserts_an_id_that_is_gone(one: str) -> None:
    assert one in RAISED
