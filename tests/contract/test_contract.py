"""The service contract: what every backend of the role `service` must do. In order; each test leaves the toy running.

No test asserts how long something took. What a backend calls things stands in contract_lab.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from contract_lab import Lab, Systemd, until

NOTHING = [0, 0]
MOST_EXPOSURE = 2.5
LOG_MAX = 8 * 1024 * 1024


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two fresh hosts."""
    one = Lab()
    one.lab("prerequisites", "--install")
    one.lab("down", "--lab", one.name, "--any-checkout")
    one.lab("up", *one.wish)
    yield one
    one.lab("down", "--lab", one.name)


@pytest.fixture(scope="module")
def fresh(lab: Lab) -> list[list[str]]:
    """What was on the hosts before anything of ours."""
    return lab.each(lambda host: host.snapshot())


def same(lab: Lab, before: list[int]) -> bool:
    """Whether still the same processes answer."""
    return lab.each(lambda host: host.process()) == before


def test_check_mode_on_a_fresh_host_tells_and_touches_nothing(lab: Lab, fresh: list[list[str]]) -> None:
    assert lab.good("--check", name="play.yml") != NOTHING
    now = lab.each(lambda host: host.snapshot())
    assert [set(one) ^ set(before) for one, before in zip(now, fresh, strict=True)] == [set(), set()]


def test_runs_and_starts_at_boot(lab: Lab, fresh: list[list[str]]) -> None:
    lab.good(name="setup.yml")
    assert min(lab.good()) > 0
    assert all(lab.each(lambda host: host.process()))
    assert lab.each(lambda host: host.state()) == [("active", "enabled")] * 2


def test_nothing_changed_nothing_done(lab: Lab) -> None:
    before = lab.each(lambda host: host.process())
    assert lab.good() == NOTHING
    assert lab.good("--check") == NOTHING
    assert same(lab, before)


def test_comes_back_after_a_crash_and_after_kill(lab: Lab) -> None:
    def story(host: Systemd) -> None:
        first = host.process()
        host.ask("/crash")
        second = host.another(first)
        host.kill("KILL")
        host.another(second)
        until(lambda: host.state()[0] == "active")

    lab.each(story)
    assert lab.good() == NOTHING


def test_starts_by_itself_at_boot(lab: Lab) -> None:
    def story(host: Systemd) -> None:
        before = host.boot()
        host.run("systemctl reboot", check=False)
        until(lambda: host.boot() not in ("", before))
        until(host.process)
        until(lambda: host.state()[0] == "active")

    lab.each(story)


CHANGES: list[tuple[str, dict[str, object]]] = [
    ("definition", {"service_environment": {"TOY_TALK": "1"}}),
    ("generation", {"service_generation": "another"}),
    ("configuration, which cannot be reloaded", {"service_config": "another"}),
]


@pytest.mark.parametrize("change", [row[1] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_restarts_when_it_changes_and_only_then(lab: Lab, change: dict[str, object]) -> None:
    before = lab.each(lambda host: host.process())
    assert lab.good(**change) == [1, 1]
    after = lab.each(lambda host: host.process())
    assert all(one and one != other for one, other in zip(after, before, strict=True))


def test_reloads_when_only_its_configuration_changes(lab: Lab) -> None:
    reload = {"service_reload": ["/bin/kill", "-HUP", "$MAINPID"]}
    lab.good(**reload, service_config="one")
    before = lab.each(lambda host: host.process())
    assert lab.good(**reload, service_config="two") == [1, 1]
    assert lab.good(**reload, service_config="two") == NOTHING
    assert same(lab, before)
    assert [one["hangup"] for one in lab.each(lambda host: host.ask())] == [1, 1]


def test_a_program_that_hangs_is_killed_and_comes_back(lab: Lab) -> None:
    lab.good(service_watchdog_s=2)

    def story(host: Systemd) -> None:
        first = host.process()
        host.kill("STOP")
        second = host.another(first)
        assert host.process() == second, "one that does not hang is left alone"

    lab.each(story)


def test_hooks_run_in_order_and_their_failure_is_not_the_services(lab: Lab) -> None:
    def says(words: str) -> list[str]:
        return ["/bin/sh", "-c", f"echo {words}; exit 1"]

    lab.good(service_stop=says("hook before"), service_stopped=says("hook after"))

    def story(host: Systemd) -> tuple[list[str], list[str]]:
        told = ("hook before", "told to stop", "hook after", "toy is up")
        lines = len(host.log())
        host.restart()
        stopped = [line for line in host.log()[lines:] if line in told]
        lines = len(host.log())
        host.kill("KILL")
        until(lambda: "toy is up" in host.log()[lines:])
        return stopped, [line for line in host.log()[lines:] if line in ("hook after", "toy is up")]

    for stopped, killed in lab.each(story):
        assert stopped == ["hook before", "told to stop", "hook after", "toy is up"]
        assert killed == ["hook after", "toy is up"]


def test_unprivileged(lab: Lab) -> None:
    lab.good()
    for rights in lab.each(lambda host: host.ask("/rights")):
        assert rights["user"] not in (0, 65534)
        assert rights["capabilities"] == [0] * 5
        assert rights["no_new_privileges"] == "1"
        assert (rights["writes"], rights["reads"], rights["devices"]) == ([], [], [])
        assert rights["own"]
        assert rights["processes"] == [rights["user"]]
    lab.each(lambda host: host.run("! su labwright-toy -c true"))


def test_exposed_to_little(lab: Lab) -> None:
    assert max(lab.each(lambda host: host.exposure())) <= MOST_EXPOSURE


def test_exactly_the_devices_that_it_needs(lab: Lab) -> None:
    lab.each(lambda host: host.run("chmod 0666 /dev/fuse /dev/net/tun"))
    lab.good(service_devices=["/dev/fuse"])
    assert [one["devices"] for one in lab.each(lambda host: host.ask("/rights"))] == [["/dev/fuse"]] * 2
    assert max(lab.each(lambda host: host.exposure())) <= MOST_EXPOSURE


def test_a_crash_loop_comes_later_each_time_and_ends_loudly(lab: Lab) -> None:
    alarms = lab.each(lambda host: len(host.alarms()))
    lines = lab.each(lambda host: len(host.log()))
    run = lab.play(service_environment={"TOY_CRASH": "1"}, service_starts_an_hour=3)
    assert run.status != 0
    assert "LW-SERVICE-001" in run.text
    assert "I cannot live like this" in run.text

    def story(host: Systemd) -> None:
        before = lines[lab.hosts.index(host)]
        until(host.given_up)
        said = host.log()[before:]
        delays = [int(found[1]) for line in said if (found := re.search(r"within an hour, (\d+) s later", line))]
        assert delays == [0, 0, 2]
        assert said.count("I cannot live like this") == 3
        assert any("LW-SERVICE-003" in line for line in said)
        # The alarm is a unit of its own, which systemd starts when this one is failed.
        until(lambda: len(host.alarms()) > alarms[lab.hosts.index(host)])
        loud = host.alarms()[alarms[lab.hosts.index(host)] :]
        assert [line.split(":")[0] for line in loud if "labwright-toy" in line] == ["LW-SERVICE-002"]

    lab.each(story)
    assert min(lab.good()) > 0
    assert all(lab.each(lambda host: host.process()))


def test_what_it_waits_for_is_no_crash(lab: Lab) -> None:
    never = [{"id": "never", "kind": "connect", "host": "127.0.0.1", "port": 9}]
    assert "LW-SERVICE-001" in lab.play(service_before=never, service_before_wait_s=3, service_starts_an_hour=1).text

    def story(host: Systemd) -> None:
        until(lambda: sum("LW-PROBE-001" in line for line in host.log()) > 2)
        assert not host.given_up()

    lab.each(story)
    lab.good()


def test_logs_are_bounded_over_many_restarts(lab: Lab) -> None:
    lab.good(service_environment={"TOY_TALK": "300"})

    def story(host: Systemd) -> None:
        first = host.process()
        for _ in range(30):
            host.restart()
        assert host.log_bytes() <= LOG_MAX
        said = [line.split(" ", 4)[:4] for line in host.log()]
        assert ["line", "299", "of", str(host.process())] in said
        assert ["line", "0", "of", str(first)] not in said, "nothing was too much: the test shows nothing"

    lab.each(story)


def test_a_full_disk_under_the_logs_does_not_matter(lab: Lab) -> None:
    lab.good()

    def story(host: Systemd) -> None:
        host.fill_log_disk()
        try:
            host.restart()
            first = host.process()
            assert first
            host.kill("KILL")
            host.another(first)
        finally:
            host.empty_log_disk()
        until(lambda: host.state()[0] == "active")
        host.restart()
        assert "toy is up" in host.log()[-4:]

    lab.each(story)


@pytest.mark.parametrize("hand", sorted(Systemd.HANDS))
def test_what_a_person_did_by_hand_is_put_right_and_said(lab: Lab, hand: str) -> None:
    lab.each(lambda host: host.run(host.HANDS[hand]))
    run = lab.play()
    assert (run.status, run.changed) == (0, [1, 1])
    assert run.text.count("LW-SERVICE-004") == 2
    assert hand in run.text
    assert all(lab.each(lambda host: host.process()))
    assert all(lab.each(lambda host: host.clean()))
    assert lab.each(lambda host: host.state()) == [("active", "enabled")] * 2


def test_check_mode_tells_what_a_person_did_and_leaves_it(lab: Lab) -> None:
    assert lab.good("--check") == NOTHING, "all is put right"
    lab.each(lambda host: host.run(host.HANDS["stopped"]))
    run = lab.play("--check")
    assert (run.status, run.changed) == (0, [1, 1])
    assert run.text.count("LW-SERVICE-004") == 2
    assert not any(lab.each(lambda host: host.process()))


def test_absent_leaves_nothing(lab: Lab, fresh: list[list[str]]) -> None:
    lab.good()
    assert min(lab.good("--check", service_state="absent")) > 0
    assert all(lab.each(lambda host: host.process()))
    lab.good(service_state="absent")
    assert lab.good(service_state="absent") == NOTHING
    lab.good(name="setup.yml", gone=True)
    assert not any(lab.each(lambda host: host.process()))
    assert lab.each(lambda host: host.run("systemctl list-units --all --no-legend 'labwright-*' 'gave-up-*'")) == [
        "",
        "",
    ]
    now = lab.each(lambda host: host.snapshot())
    assert [set(one) ^ set(before) for one, before in zip(now, fresh, strict=True)] == [set(), set()]
