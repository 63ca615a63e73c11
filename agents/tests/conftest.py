"""A lab of one scripted endpoint for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripted import MISSING, Lab

collect_ignore_glob = ["test_*.py"] if MISSING else []


def pytest_report_header() -> str | None:
    """Say why nothing is collected."""
    return "agents: set LABWRIGHT_AGENT_PYTHON to a Python with the packages of env/agents" if MISSING else None


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A folder with a configuration."""
    lab = Lab(tmp_path)
    yield lab
    for server in lab.servers:
        server.shutdown()
        server.server_close()
