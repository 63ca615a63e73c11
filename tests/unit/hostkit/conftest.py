"""What the tests of hostkit share: a server, no waiting between attempts, a look at a folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from hostkit import fetch, login, probe
from unit.hostkit.fakes import Programs
from unit.hostkit.loopback import Loopback, serving


@pytest.fixture
def server() -> Iterator[Loopback]:
    with serving() as loopback:
        yield loopback


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return Programs(folder)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two attempts instead of four, and no time between them; no proxy between the tests and loopback."""
    monkeypatch.setattr(fetch, "ATTEMPTS", 2)
    monkeypatch.setattr(fetch, "time", SimpleNamespace(sleep=lambda _seconds: None, monotonic=time.monotonic))
    monkeypatch.setattr(probe, "EVERY_S", 0.001)
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    monkeypatch.setattr(login, "LOGINS", {})
