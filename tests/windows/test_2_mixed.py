"""One lab of a Linux and a Windows host, from fresh hosts to hosts on which nothing is left. In this order.

Real Ansible and WinRM, real NSSM, emulated modules on Wine; python.exe is a shim, what it runs runs on the Linux side.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from mixed_lab import HOSTS, WORKER, Mixed
from windows_lab import wait_until

NOTHING = dict.fromkeys(HOSTS, 0)


@pytest.fixture(scope="module")
def lab() -> Iterator[Mixed]:
    """Fresh hosts."""
    one = Mixed()
    one.up()
    yield one
    one.down()


@pytest.fixture(scope="module", autouse=True)
def fresh(lab: Mixed) -> set[str]:
    """What was on the target before anything of ours."""
    return lab.snapshot()


def test_check_mode_on_fresh_hosts_changes_nothing(lab: Mixed, fresh: set[str]) -> None:
    lab.good("site.yml", "--check")
    assert lab.snapshot() ^ fresh == set()


def test_the_lab_comes_up_and_an_agent_is_answered_by_the_worker_on_windows(lab: Mixed) -> None:
    lab.good("site.yml")
    verdict = lab.verdict()
    assert set(verdict.values()) == {True}
    assert {f"service.{WORKER}", "worker.labwright-demo", "agent.answer"} <= set(verdict)
    before = lab.log().count("/worker_generate_stream")
    run = lab.play("playbooks/ask.yml")
    assert (run.status, "29" in run.text) == (0, True)
    assert lab.log().count("/worker_generate_stream") > before


def test_a_second_run_and_a_check_have_nothing_to_do(lab: Mixed) -> None:
    assert lab.good("site.yml") == NOTHING
    assert lab.good("site.yml", "--check") == NOTHING


def test_windows_restarts_and_the_lab_answers_again(lab: Mixed) -> None:
    lab.machine.call("reboot")
    wait_until(lambda: lab.play("playbooks/verify.yml").status == 0, 240)


def test_removal_ends_a_worker_that_hangs_and_names_what_a_program_has_open(lab: Mixed) -> None:
    place, environment = lab.machine.file(r"C:\labwright\envs"), lab.environment()
    whole = sorted(place.rglob("*"))
    program = lab.machine.start(rf'{environment}\python.exe -c "import time; time.sleep(900)"')
    lab.hang()
    run = lab.play("playbooks/remove.yml", "--limit", "mix-win")
    assert (run.status, f"LW-HOSTKIT-011: {environment} cannot be" in run.text) == (2, True)
    assert WORKER not in lab.wine("reg", "query", r"HKLM\SYSTEM\CurrentControlSet\Services")
    assert sorted(place.rglob("*")) == whole
    program.kill()
    program.wait()


def test_removal_leaves_nothing(lab: Mixed, fresh: set[str]) -> None:
    assert min(lab.good("playbooks/remove.yml").values()) > 0
    # Windows itself has this key and value; Wine has not.
    windows = re.compile(r"\\FileSystem( LongPathsEnabled +REG_DWORD +0x0)?$")
    left = {one for one in lab.snapshot() ^ fresh if not windows.search(one)}
    assert not left, "\n".join(sorted(left))
    assert lab.good("playbooks/remove.yml") == NOTHING
