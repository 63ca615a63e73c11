"""A day with a lab: load, a look, a rolling restart, the logs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from e2e_lab import CACHE, FOLDER, HERE, HOSTS, MODEL, WORKER, Lab

from documented import as_written, checkout, run

pytestmark = pytest.mark.usefixtures("fresh")


def test_a_small_load_is_answered_and_written_down(lab: Lab) -> None:
    run = lab.play("playbooks/loadtest.yml", load_seconds=3, load_clients=2)
    assert run.status == 0
    figures = json.loads((FOLDER / "report/load.json").read_text(encoding="utf-8"))
    (model,) = figures["runs"]
    assert (model["model"], model["failed"], model["unfinished"]) == (MODEL, 0, 0)
    assert model["answered"] >= 2
    assert model["tokens"] > model["answered"]
    assert (FOLDER / "report/load.svg").read_text(encoding="utf-8").startswith("<svg")


def test_status_tells_what_runs_where(lab: Lab) -> None:
    run = lab.play("playbooks/status.yml")
    assert run.status == 0
    assert (FOLDER / "report/status.json").is_file()
    for word in (*HOSTS, "controller", "api", "web", "gateway", f"worker-{MODEL}", "all is as planned"):
        assert word in run.text


def test_status_tells_what_is_down(lab: Lab) -> None:
    lab.ssh("e2e-w1", f"systemctl stop {WORKER}")
    run = lab.play("playbooks/status.yml")
    lab.ssh("e2e-w1", f"systemctl start {WORKER}")
    assert run.status == 0
    assert "DOWN" in run.text
    assert lab.wait_until_it_answers()["ok"]


def test_a_rolling_restart_fails_no_request(lab: Lab) -> None:
    pids = {host: lab.ssh(host, f"systemctl show -P MainPID {WORKER}") for host in ("e2e-w1", "e2e-w2")}
    load = lab.start("playbooks/loadtest.yml", "-e", json.dumps({"load_seconds": 100, "load_clients": 4}))
    assert load.stdout is not None
    assert any("TASK [Ask]" in line for line in load.stdout)
    assert lab.play("playbooks/restart.yml").status == 0
    assert load.poll() is None, "the load lasted as long as the restart"
    load.communicate(timeout=300)
    (figures,) = json.loads((FOLDER / "report/load.json").read_text(encoding="utf-8"))["runs"]
    assert (figures["failed"], figures["unfinished"]) == (0, 0), figures["errors"]
    assert figures["answered"] >= 10
    for host, pid in pids.items():
        assert lab.ssh(host, f"systemctl show -P MainPID {WORKER}") != pid


def test_the_last_worker_of_a_model_is_not_restarted(lab: Lab) -> None:
    lab.ssh("e2e-w2", f"systemctl stop {WORKER}")
    pid = lab.ssh("e2e-w1", f"systemctl show -P MainPID {WORKER}")
    run = lab.play("playbooks/restart.yml", restart_host="e2e-w1")
    lab.ssh("e2e-w2", f"systemctl start {WORKER}")
    assert "LW-RESTART-" in run.text
    assert lab.ssh("e2e-w1", f"systemctl show -P MainPID {WORKER}") == pid
    assert lab.wait_until_it_answers()["ok"]


def test_the_logs_of_all_hosts_come_together(lab: Lab) -> None:
    assert lab.play("playbooks/logs.yml").status == 0
    found = {path.relative_to(FOLDER / "report/logs").as_posix() for path in (FOLDER / "report/logs").rglob("*.log")}
    assert {"e2e-ctl/labwright-controller.log", "e2e-w1/labwright-worker-labwright-demo.log"} <= found
    worker = (FOLDER / "report/logs/e2e-w2/labwright-worker-labwright-demo.log").read_text(encoding="utf-8")
    assert "Register to controller" in worker


def test_logs_are_bounded(lab: Lab) -> None:
    assert "SystemMaxUse=200M" in lab.ssh("e2e-w1", "cat /etc/systemd/journald@labwright.conf")
    assert lab.ssh("e2e-w1", f"journalctl --namespace=labwright -q -n 5 -u {WORKER}")
    assert lab.ssh("e2e-w1", "find / -xdev -name 'model_worker_*.log'") == ""


@pytest.mark.parametrize("command", as_written("test_a_command_of_the_documents_runs_as_written"))
@pytest.mark.usefixtures("lab")
def test_a_command_of_the_documents_runs_as_written(tmp_path: Path, command: str) -> None:
    folder = checkout(tmp_path)
    for name in ("hosts.yml", "group_vars"):
        (folder / "lab" / name).symlink_to(HERE / name)
    done = run(folder, command, LABWRIGHT_CACHE=str(CACHE.resolve()))
    assert done.returncode == 0, done.stdout + done.stderr
