"""tests/bench/soak.py: what it reads of a lab, and what it holds to be a good end."""

from __future__ import annotations

import pytest

from bench import soak

WORKER, API = ("w1", "labwright-worker-m"), ("ctl", "labwright-api")


SAID = """[WARNING]: a word of Ansible's
w1 | CHANGED | rc=0 >>
a banner
SOAK labwright-worker-m.service 2 5000 1048576
ctl | CHANGED | rc=0 >>
SOAK labwright-api.service 0 77 102400
w3 | CHANGED | rc=0 >>
"""


def test_units_are_read_from_the_answers_of_all_hosts() -> None:
    assert soak.parsed(SAID) == {WORKER: (2, 5000, 1048576), API: (0, 77, 102400)}


def test_the_table_shows_growth_and_restarts() -> None:
    before = {WORKER: (0, 5, 102400), API: (0, 5, 10240)}
    rows = [line.split() for line in soak.table(before, {WORKER: (1, 9, 103424)})]
    assert rows[2] == ["w1", "labwright-worker-m", "100.0", "M", "101.0", "M", "+1.0", "M", "1"]
    assert rows[1] == ["ctl", "labwright-api", "is", "gone"]


@pytest.mark.parametrize(
    ("after", "good"),
    [
        ({WORKER: (0, 5, 999)}, True),
        ({WORKER: (1, 9, 1)}, False),
        ({WORKER: (0, 9, 1)}, False),  # by hand, which systemd does not count
        ({}, False),
        ({WORKER: (0, 5, 1), API: (0, 1, 1)}, False),
    ],
)
def test_a_unit_that_was_restarted_is_no_good_end(after: soak.Seen, good: bool) -> None:
    assert soak.steady({WORKER: (0, 5, 1)}, after) == good


@pytest.mark.parametrize(("answered", "failed", "good"), [(10, 0, True), (9, 0, False), (10, 1, False), (9, 1, False)])
def test_all_that_was_asked_must_be_answered(answered: int, failed: int, good: bool) -> None:
    assert soak.complete([{"answered": answered, "failed": failed}], 10) == good
    assert not soak.complete([], 10)
