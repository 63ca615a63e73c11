"""hostkit.pace: starts that come later each time, and end."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from hostkit import pace
from hostkit.result import Problem


class Clock:
    """A monotonic clock that only moves when told to, and remembers how long it slept."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    one = Clock()
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=one.monotonic, sleep=one.sleep))
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    return one


def test_starts_come_later_each_time_and_then_no_more(clock: Clock) -> None:
    for _ in range(10):
        pace.run({"most": 10}, False)
    # With the 2 s that systemd waits itself: 2, 4, 8, 16, 32, 60 s …
    assert clock.slept == [0, 0, 2, 6, 14, 30, 58, 58, 58, 58]
    with pytest.raises(Problem, match=r"LW-SERVICE-003: started 10 times by itself within an hour"):
        pace.run({"most": 10}, False)
    assert len(clock.slept) == 10, "a start that is refused does not wait"


def test_starts_of_more_than_an_hour_ago_do_not_count(clock: Clock) -> None:
    for _ in range(5):
        pace.run({"most": 5}, False)
    clock.now += 3600
    pace.run({"most": 5}, False)
    assert clock.slept[-1] == 0


@pytest.mark.parametrize("text", ["", "what is this", "99999999.0"])
def test_a_record_that_cannot_be_true_does_not_count(clock: Clock, tmp_path: Path, text: str) -> None:
    (tmp_path / "starts").write_text(text)
    pace.run({"most": 1}, False)
    assert clock.slept == [0]
