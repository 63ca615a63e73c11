"""The service contract on Windows: NSSM keeps what systemd keeps on Linux (test_contract.py). In order, as there.

Real Ansible and WinRM, real NSSM, Wine; Python on the target is a stand-in. No test asserts how long something took.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from contract_lab import until
from contract_windows import KEY, LOGS, NAME, NSSM, Nssm, WindowsLab

LOG_MAX = 8 * 1024 * 1024
ARGUMENTS = ["8790", "two words", 'a "quoted" word', "C:\\ends\\", "50% of 中文", ""]


@pytest.fixture(scope="module")
def lab() -> Iterator[WindowsLab]:
    """A fresh target."""
    one = WindowsLab()
    yield one
    one.end()


@pytest.fixture(scope="module")
def host(lab: WindowsLab) -> Nssm:
    """The target."""
    return lab.hosts[0]  # type: ignore[return-value]


@pytest.fixture(scope="module")
def fresh(host: Nssm) -> list[str]:
    """What was on it before anything of ours."""
    return host.snapshot()


def test_nothing_of_it_runs_before_python_is_there(lab: WindowsLab, fresh: list[str]) -> None:
    assert lab.good("--check") == [1]
    run = lab.play()
    assert (run.status, "LW-HOSTKIT-010" in run.text, "role anaconda brings it" in run.text) == (2, True, True)
    assert lab.good(service_state="absent") == [0]


def test_check_mode_on_a_fresh_host_tells_and_touches_nothing(lab: WindowsLab, host: Nssm, fresh: list[str]) -> None:
    lab.good(name="setup_windows.yml")
    assert lab.good(name="setup_windows.yml") == [0]
    before = host.snapshot()
    run = lab.play("--check", "--diff")
    assert (run.status, run.changed) == (0, [1])
    assert "AppExit" in run.text
    assert host.snapshot() == before


def test_runs_and_starts_at_boot(lab: WindowsLab, host: Nssm) -> None:
    assert lab.good() == [1]
    assert host.process()
    assert host.state() == ("active", "enabled")


@pytest.mark.trap("nssm-quotes", "nssm-percent", "nssm-utf16")
def test_words_arrive_as_they_were_said(lab: WindowsLab, host: Nssm) -> None:
    """`nssm install X exe "two words"`, and a list given to win_nssm by hand, lose quotes."""
    said = host.ask()
    assert said["argv"] == ARGUMENTS
    assert said["folder"] == "C:\\contract room"
    assert said["environment"]["TOY_SAY"] == "中文, ü and two words"
    run = lab.play(service_environment={"A": "%PATH%"})
    assert (run.status, "LW-SERVICE-007" in run.text) == (2, True)


@pytest.mark.trap("nssm-password")
def test_its_account_has_no_password(host: Nssm) -> None:
    assert f"NT SERVICE\\{NAME}" in host.wine("reg", "query", KEY, "/v", "ObjectName")
    assert '"C:\\labwright\\lib\\nssm.exe"' in host.wine("reg", "query", KEY, "/v", "ImagePath")


def test_its_folders_are_its_own(host: Nssm) -> None:
    """As icacls was told; Wine enforces nothing."""
    rights = json.loads((host.drive.parents[1] / "rights.json").read_text(encoding="utf-8"))
    log = rights[f"c:\\programdata\\labwright\\logs\\{NAME}"]
    assert log.startswith("D:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1200a9;;;BU)(A;OICI;0x1301bf;;;S-1-5-80-")
    assert "S-1-5-80-" not in rights["c:\\programdata\\labwright\\etc"]


def test_nothing_changed_nothing_done(lab: WindowsLab, host: Nssm) -> None:
    before = host.process()
    assert lab.good() == [0]
    assert lab.good("--check") == [0]
    assert host.process() == before


@pytest.mark.trap("nssm-log")
def test_comes_back_after_a_crash_and_after_kill(lab: WindowsLab, host: Nssm) -> None:
    first = host.process()
    host.ask("/crash")
    second = host.another(first)
    host.kill("KILL")
    host.another(second)
    until(lambda: host.state()[0] == "active")
    assert lab.good() == [0]
    assert host.log().count("toy is up") >= 3, "a log is added to, not begun anew"


def test_starts_by_itself_at_boot(lab: WindowsLab, host: Nssm) -> None:
    host.boot()
    until(host.process)
    until(lambda: host.state()[0] == "active")
    assert lab.good() == [0]


@pytest.mark.trap("nssm-running")
@pytest.mark.parametrize(
    "change",
    [{"service_environment": {"TOY_TALK": "1"}}, {"service_generation": "another"}, {"service_config": "another"}],
    ids=["definition", "generation", "configuration"],
)
def test_restarts_when_it_changes_and_only_then(lab: WindowsLab, host: Nssm, change: dict[str, object]) -> None:
    """win_nssm leaves a running service as it was when its arguments change."""
    before = host.process()
    assert lab.good(**change) == [1]
    after = host.process()
    assert after
    assert after != before
    assert lab.good(**change) == [0]
    assert host.process() == after


def test_hooks_run_in_order_and_their_failure_is_not_the_services(lab: WindowsLab, host: Nssm) -> None:
    toy = "C:\\contract room\\toy.exe"
    lab.good(service_stop=[toy, "say", "before", "1"], service_stopped=[toy, "say", "after", "1"])
    events = host.drive / "contract room/events.log"
    host.restart()
    until(lambda: host.state()[0] == "active")
    said = [line.split()[0] for line in events.read_text().splitlines()]
    assert said == ["before", "after"]
    first = host.process()
    host.kill("KILL")
    host.another(first)
    assert [line.split()[0] for line in events.read_text().splitlines()] == ["before", "after", "after"]


def test_one_that_will_not_stop_is_ended(lab: WindowsLab, host: Nssm) -> None:
    lab.good(service_environment={"TOY_STUBBORN": "1"}, service_stop_wait_s=2)
    before = host.process()
    lab.good()
    assert "I stay" in host.log()
    assert host.process() not in (0, before)


@pytest.mark.trap("nssm-loop")
def test_a_crash_loop_is_paused_and_given_up_loudly(lab: WindowsLab, host: Nssm) -> None:
    lines = len(host.log())
    run = lab.play(service_environment={"TOY_CRASH": "1"}, service_starts_an_hour=3)
    assert run.status != 0
    assert "LW-SERVICE-001" in run.text
    assert "SERVICE_PAUSED" in run.text
    assert "I cannot live like this" in run.text
    until(host.given_up)
    said = host.log()[lines:]
    assert said.count("I cannot live like this") == 3
    assert any("LW-SERVICE-003" in line for line in said)
    assert lab.good() == [1]
    assert host.process()


def test_logs_are_bounded_while_it_runs_and_over_many_restarts(lab: WindowsLab, host: Nssm) -> None:
    lab.good(service_environment={"TOY_TALK": "400"})
    first = host.process()
    for _ in range(35):
        host.ask("/talk")
    assert len(list((host.drive / LOGS / NAME).glob("*.log"))) > 5, "it is put aside while it runs"
    for _ in range(4):
        host.restart()
        until(lambda: host.state()[0] == "active")
    assert host.log_bytes() <= LOG_MAX * 1.1
    said = [line.split(" ", 4)[:4] for line in host.log()]
    assert ["line", "399", "of", str(host.process())] in said
    assert ["line", "399", "of", str(first)] not in said, "nothing was too much: the test shows nothing"


def test_the_other_verbs_see_it(lab: WindowsLab, host: Nssm) -> None:
    lab.good()
    before = host.process()
    assert lab.play(name="look_windows.yml").status == 0
    assert host.process() not in (0, before), "it was restarted"


@pytest.mark.parametrize("hand", sorted(Nssm.HANDS))
def test_what_a_person_did_by_hand_is_put_right_and_said(lab: WindowsLab, host: Nssm, hand: str) -> None:
    lab.good()
    host.by_hand(hand)
    checked = lab.play("--check")
    assert (checked.status, checked.changed, "LW-SERVICE-004" in checked.text) == (0, [1], True)
    run = lab.play()
    assert (run.status, run.changed) == (0, [1])
    assert re.search(rf"LW-SERVICE-004: {NAME} on .* was .*{hand.split()[0]}", run.text)
    assert host.ask()["argv"] == ARGUMENTS
    assert host.state() == ("active", "enabled")
    assert "CreationDisposition" not in host.wine(NSSM, "dump", NAME)


@pytest.mark.trap("nssm-remove")
def test_absent_leaves_nothing(lab: WindowsLab, host: Nssm, fresh: list[str]) -> None:
    assert lab.good("--check", service_state="absent") == [1]
    assert host.process(), "it runs while it is removed"
    assert lab.good(service_state="absent") == [1]
    assert lab.good(service_state="absent") == [0]
    assert not host.process()
    lab.good(name="setup_windows.yml", gone=True)
    assert set(host.snapshot()) ^ set(fresh) == set()
