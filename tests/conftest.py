"""Which tests share hosts: those of one suite run one after the other, suites run side by side (`make hosts`)."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def pytest_itemcollected(item: pytest.Item) -> None:
    """Name the test's group for pytest-xdist: its suite; a role test is its own, for it has hosts of its own."""
    suite = item.path.relative_to(HERE).parts[0] if item.path.is_relative_to(HERE) else ""
    item.add_marker(pytest.mark.xdist_group(item.name if suite == "roles" else suite))
