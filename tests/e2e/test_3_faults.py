"""What goes wrong in a room of machines, one thing at a time: the lab serves again by itself, and what it refused
meanwhile it refused with the true cause."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from e2e_lab import HOSTS, WORKER, Lab

pytestmark = pytest.mark.usefixtures("fresh")

NO_WORKER, NO_CONTROLLER, NO_ANSWER = "LW-API-005", "LW-API-001", "LW-API-002"
CONTROLLER, GATEWAY = "labwright-controller.service", "labwright-gateway.service"
CLOCK = "/etc/labwright/labwright-controller/clock"
# Where the monotonic clock stays real, libfaketime 0.9.10 lets each sleep of Python fail (clock_nanosleep: [Errno 22]).
# The watchdog's thread ended of that, and systemd the controller 60 s later. So this process sleeps by select.
SLEEP = "import select, time\ntime.sleep = lambda seconds: select.select([], [], [], seconds)\n"


@pytest.mark.parametrize(
    ("host", "unit"),
    [
        ("e2e-ctl", CONTROLLER),
        ("e2e-ctl", "labwright-api.service"),
        ("e2e-ctl", "labwright-web.service"),
        ("e2e-ctl", GATEWAY),
        ("e2e-w1", WORKER),
        ("e2e-w2", WORKER),
    ],
)
def test_a_killed_process_comes_back_without_a_hand(lab: Lab, host: str, unit: str) -> None:
    before = int(lab.ssh(host, f"systemctl show -P NRestarts {unit}"))
    lab.ssh(host, f"systemctl kill -s KILL --kill-whom=main {unit}")
    verdict = lab.wait_until_it_answers()
    assert verdict["ok"]
    mine = next(
        one
        for one in verdict["checks"]
        if (one["host"], one["id"]) == (host, f"service.{unit.removesuffix('.service')}")
    )
    assert f"restarts {before + 1}" in mine["evidence"]


def test_while_a_worker_is_dead_the_other_one_answers(lab: Lab) -> None:
    with lab.asked_all_the_time() as asked:
        time.sleep(1)
        lab.ssh("e2e-w1", f"systemctl kill -s KILL --kill-whom=main {WORKER}")
        time.sleep(15)
    # Questions that the dead one was answering are lost, and say so; no later one is.
    lost = [words for status, words in asked.answers if status != 200]
    assert len(lost) <= 2
    assert all(NO_ANSWER in words for words in lost), lost
    assert lab.wait_until_it_answers()["ok"]


def test_a_controller_that_is_restarted_knows_its_workers_from_its_first_answer_on(lab: Lab) -> None:
    with lab.asked_all_the_time() as asked:
        time.sleep(1)
        lab.ssh("e2e-ctl", f"systemctl restart {CONTROLLER}")
        lab.ssh("e2e-ctl", f"systemctl kill -s KILL --kill-whom=main {CONTROLLER}")
        time.sleep(15)
    assert asked.answers[-1][0] == 200
    assert all(NO_CONTROLLER in words for words in asked.refused), asked.refused
    assert NO_WORKER not in str(asked.refused)
    assert lab.wait_until_it_answers()["ok"]


def test_without_any_worker_people_are_told_so(lab: Lab) -> None:
    for host in ("e2e-w1", "e2e-w2"):
        lab.ssh(host, f"systemctl stop {WORKER}")
    status, words = lab.ask()
    run = lab.play("playbooks/verify.yml")
    for host in ("e2e-w1", "e2e-w2"):
        lab.ssh(host, f"systemctl start --no-block {WORKER}")
    assert status == 503
    assert NO_WORKER in words
    assert run.status != 0
    assert {"e2e-w1 service.labwright-worker-labwright-demo", "e2e-ctl controller.workers"} <= set(lab.failed())
    assert lab.wait_until_it_answers()["ok"]


@pytest.mark.parametrize("host", ["e2e-w1", "e2e-ctl"])
def test_a_host_that_was_rebooted_serves_again(lab: Lab, host: str) -> None:
    first = lab.ssh(host, "stat -c %Y /proc/1")
    lab.ssh(host, "systemctl reboot", check=False)
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if lab.ssh(host, "stat -c %Y /proc/1", check=False) not in ("", first):
            break
        time.sleep(1)
    assert lab.wait_until_it_answers()["ok"]


@contextmanager
def cut_off(lab: Lab, host: str, other: str) -> Iterator[None]:
    """Nothing of one host reaches the other; our own login does."""
    lab.ssh(host, f"ip route add blackhole {HOSTS[other]}/32")
    try:
        yield
    finally:
        lab.ssh(host, f"ip route del blackhole {HOSTS[other]}/32")


def test_a_worker_that_was_cut_off_for_two_minutes_is_back_when_the_network_is(lab: Lab) -> None:
    pid = lab.ssh("e2e-w1", f"systemctl show -P MainPID {WORKER}")
    with cut_off(lab, "e2e-w1", "e2e-ctl"):
        with lab.asked_all_the_time() as first:
            time.sleep(40)
        lab.play("playbooks/verify.yml")
        failed = lab.failed()
        with lab.asked_all_the_time() as later:
            time.sleep(75)
    assert all(NO_ANSWER in words for words in first.refused), first.refused
    assert "e2e-ctl controller.each_worker" in failed
    assert later.refused == [], "the controller had forgotten it by then"
    assert lab.wait_until_it_answers()["ok"]
    assert lab.ssh("e2e-w1", f"systemctl show -P MainPID {WORKER}") == pid, "there was nothing to restart"


def test_a_worker_that_hangs_is_ended_and_started_anew(lab: Lab) -> None:
    before = int(lab.ssh("e2e-w1", f"systemctl show -P NRestarts {WORKER}"))
    lab.ssh("e2e-w1", f"systemctl kill -s STOP --kill-whom=main {WORKER}")
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and lab.ssh("e2e-w1", f"systemctl show -P NRestarts {WORKER}") == str(before):
        time.sleep(1)
    assert lab.wait_until_it_answers()["ok"]
    assert int(lab.ssh("e2e-w1", f"systemctl show -P NRestarts {WORKER}")) == before + 1


@contextmanager
def drop_in(lab: Lab, unit: str, text: str) -> Iterator[None]:
    """Something that somebody added to a unit, until the next boot."""
    folder = f"/run/systemd/system/{unit}.d"
    lab.ssh("e2e-ctl", f"mkdir -p {folder}; printf '{text}' > {folder}/e2e.conf; systemctl daemon-reload; "
            f"systemctl restart {unit}")  # fmt: skip
    try:
        yield
    finally:
        lab.ssh("e2e-ctl", f"rm -r {folder}; systemctl daemon-reload; systemctl restart {unit}")


def test_a_clock_that_jumps_makes_the_controller_forget_nobody(lab: Lab) -> None:
    """Only this process's clock jumps: two hours on, then a day back."""
    python = f"{CLOCK}-python"
    lab.ssh("e2e-ctl", "apt-get -q -y install --no-install-recommends libfaketime; "
            f"echo +0 > {CLOCK}; chmod 644 {CLOCK}; mkdir -m 755 {python}; "
            f"printf '%s' '{SLEEP}' > {python}/sitecustomize.py; chmod 644 {python}/sitecustomize.py")  # fmt: skip
    library = lab.ssh("e2e-ctl", "find /usr/lib -name libfaketime.so.1")
    fake = {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": CLOCK,
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "PYTHONPATH": f"{python}:${{PYTHONPATH}}",
    }
    program = lab.ssh("e2e-ctl", f"sed -n s/^ExecStart=//p /etc/systemd/system/{CONTROLLER}")
    words = " ".join(f"{key}={value}" for key, value in fake.items())
    try:
        with drop_in(lab, CONTROLLER, f"[Service]\\nExecStart=\\nExecStart=/usr/bin/env {words} {program}\\n"):
            assert lab.wait_until_it_answers()["ok"]
            pid = lab.ssh("e2e-ctl", f"systemctl show -P MainPID {CONTROLLER}")
            with lab.asked_all_the_time() as asked:
                for jump in ("+2h", "-1d"):
                    lab.ssh("e2e-ctl", f"echo {jump} > {CLOCK}")
                    time.sleep(35)  # both together longer than systemd waits for the watchdog
            assert asked.refused == []
            assert len(asked.answers) >= 10
            assert lab.ssh("e2e-ctl", f"systemctl show -P MainPID {CONTROLLER}") == pid, "it was never started anew"
    finally:
        lab.ssh("e2e-ctl", f"rm -rf {CLOCK} {python}; apt-get -q -y purge libfaketime")
    assert lab.wait_until_it_answers()["ok"]


def test_a_port_that_somebody_took_is_named_and_taken_again_when_it_is_free(lab: Lab) -> None:
    squatter = f"systemd-run --unit=squatter python3 -m http.server 21001 --bind {HOSTS['e2e-ctl']}"
    lab.ssh("e2e-ctl", f"systemctl stop {CONTROLLER}; {squatter}; sleep 1; systemctl start --no-block {CONTROLLER}")
    time.sleep(5)
    run = lab.play("playbooks/verify.yml")
    words = lab.ssh("e2e-ctl", f"journalctl --namespace=labwright -q -u {CONTROLLER} -n 40 -o cat")
    lab.ssh("e2e-ctl", "systemctl stop squatter")
    assert run.status != 0
    assert "LW-SERVE-001" in words
    assert "squatter.service" in str(lab.failed())
    assert lab.wait_until_it_answers()["ok"]


def test_a_full_disk_under_the_logs_stops_no_answer(lab: Lab) -> None:
    folder = "/var/log/journal/$(cat /etc/machine-id).labwright"
    journald = "systemd-journald@labwright.service"
    lab.ssh("e2e-ctl", f"mount -t tmpfs -o size=9m tmpfs {folder}; systemctl restart {journald}")
    try:
        lab.ssh("e2e-ctl", f"dd if=/dev/zero of={folder}/full bs=64k 2>/dev/null; df {folder} | grep -q 100%")
        with lab.asked_all_the_time() as asked:
            time.sleep(10)
        lab.ssh("e2e-ctl", f"systemctl restart {CONTROLLER}")
        assert lab.wait_until_it_answers()["ok"]
    finally:
        lab.ssh("e2e-ctl", f"umount -l {folder}; systemctl restart {journald}")
    assert asked.refused == []
    assert asked.answers
