"""labwright.operate and the playbooks status, restart and logs: tables that tell, an order that keeps models served."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hostkit.result import Problem
from labwright import operate
from unit.hostkit.fakes import Programs, journal
from unit.hostkit.loopback import Loopback, says, serving
from unit.hostkit.test_status import at, shown
from unit.labwright.test_actions import LABWRIGHT, action, variables
from unit.labwright.test_load_play import planned
from unit.programs import ROOT

MODELS = ("small", "large", "code")
WORKER = "labwright-worker-labwright-demo"


def worker(model: str, port: int, address: str = "192.0.2.1") -> dict[str, Any]:
    row = {"name": f"labwright-worker-{model}-{port}", "model": model, "model_names": [model, f"{model}-alias"]}
    return {**row, "port": port, "url": f"http://{address}:{port}", "device": "cpu", "gpus": []}


def host(number: int, *models: str, **more: Any) -> dict[str, Any]:
    address = f"192.0.2.{number}"
    workers = [worker(model, 21002 + at, address) for at, model in enumerate(models)]
    plain = {"address": address, "controller_url": "http://192.0.2.9:21001", "controller": {}, "api": {}, "gateway": {}}
    return {**plain, "source": "seen", "workers": workers, **more}


CONTROL = host(9, controller={"port": 1}, api={"port": 2}, gateway={"port": 3})
PLAN = {"hosts": {"ctl": CONTROL, "w1": host(1, "small", "large"), "w2": host(2, "small")}}


def wish(**given: Any) -> dict[str, Any]:
    return operate.restart_wish(given, PLAN)


# --- status -----------------------------------------------------------------------------------------------------------


def unit(**more: Any) -> dict[str, Any]:
    plain = {
        "planned": True,
        "active": "active",
        "sub": "running",
        "result": "success",
        "since": "2030-01-02T03:04:05Z",
        "for_s": 7300,
        "restarts": 0,
        "pid": 1,
        "memory_mib": None,
        "rss_mib": 60.4,
        "cpu_s": 1.0,
        "gpu_mib": None,
        "last_error": {},
    }
    return {**plain, **more}


def seen(**units: dict[str, Any]) -> dict[str, Any]:
    return {"data": {"at": "2030-01-02T05:04:05Z", "units": {f"labwright-{name}": one for name, one in units.items()}}}


def table(**answers: Any) -> str:
    return operate.status_table(operate.status("lab", "2030", PLAN, answers))


def test_what_a_host_is_asked() -> None:
    assert operate.status_request(CONTROL, True)["units"] == [
        *("labwright-firewall", "labwright-controller", "labwright-api", "labwright-gateway")
    ]
    found = operate.status_request(PLAN["hosts"]["w1"], False)
    assert found["units"] == ["labwright-worker-small-21002", "labwright-worker-large-21003"]
    assert found["workers"]["labwright-worker-small-21002"] == {
        "url": "http://192.0.2.1:21002",
        "models": ["small", "small-alias"],
    }
    assert operate.status_request(host(4), True)["units"] == []


def test_a_service_that_windows_runs_is_as_planned() -> None:
    text = table(w1=seen(gone=unit(active="active", sub="SERVICE_RUNNING", restarts=None)))
    assert "  running  " in text
    assert text.endswith("all is as planned.")


def test_all_is_well() -> None:
    text = table(ctl=seen(controller=unit(), firewall=unit(sub="exited", pid=None)))
    assert "ctl   controller  running  2030-01-02 03:04  2 h" in text
    assert "done" in text
    assert text.endswith("2 services on 1 hosts; all is as planned.")


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ({"active": "failed", "sub": "failed"}, "GAVE UP"),
        ({"active": "inactive", "sub": "dead"}, "DOWN"),
        ({"active": "activating", "sub": "auto-restart"}, "RESTARTING"),
        ({"active": "activating", "sub": "start-pre", "restarts": 7}, "RESTARTING"),
        ({"active": "activating", "sub": "start-post", "restarts": 1}, "RESTARTING"),
        ({"active": "activating", "sub": "start-post"}, "STARTING"),
        ({"active": "deactivating", "sub": "stop-sigterm"}, "STOPPING"),
        ({"active": "maintenance", "sub": "x"}, "MAINTENANCE (X)"),
        ({"active": "failed", "sub": "SERVICE_PAUSED", "restarts": None}, "RESTARTING"),
        ({"active": "failed", "sub": "SERVICE_STOPPED", "restarts": None}, "GAVE UP"),
        ({"active": "inactive", "sub": "SERVICE_STOPPED", "restarts": None}, "DOWN"),
        ({"active": "activating", "sub": "SERVICE_START_PENDING", "restarts": None}, "STARTING"),
        ({"active": "not there", "sub": ""}, "NOT THERE"),
        ({"planned": False}, "running, NOT PLANNED"),
    ],
)
def test_what_is_wrong_is_marked(row: dict[str, Any], word: str) -> None:
    text = table(ctl=seen(api=unit(**row)))
    assert f"  {word}  " in text
    assert text.endswith("look at what stands in capitals.")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"serves": ["small"], "queue": 2, "registered": True}, ["small", "cpu", "-", "2", "knows it"]),
        ({"serves": ["small"], "queue": 2, "registered": False}, ["DOES NOT KNOW IT"]),
        ({"serves": ["small"], "queue": 2, "registered": None}, ["NO ANSWER"]),
        ({"serves": [], "queue": None, "registered": None}, ["NOTHING (small, small-alias)"]),
    ],
)
def test_workers(row: dict[str, Any], words: list[str]) -> None:
    text = table(w1=seen(**{"worker-small-21002": unit(**row)}))
    line = next(line for line in text.splitlines() if line.startswith("w1") and "small-21002  " in line[:20])
    assert all(word in line for word in words)
    assert ("as planned" in text) == (row["registered"] is True)


def test_hosts_without_an_answer_and_last_errors() -> None:
    error = {"at": "2030-01-02T00:00:00Z", "text": "LW-PROBE-001: taken\nmore"}
    text = table(
        ctl=seen(api=unit(last_error=error)),
        w1={"unreachable": True, "msg": "no route\nto host"},
        w2={"failed": True, "msg": "LW-HOSTKIT-006: no python"},
        w3=None,
    )
    assert "  w1: UNREACHABLE: no route\n" in text
    assert "  w2: NO ANSWER: LW-HOSTKIT-006: no python\n" in text
    assert "  w3: not in the last plan, not asked\n" in text
    assert "  ctl api, 2030-01-02T00:00:00Z: LW-PROBE-001: taken\n" in text
    assert max(map(len, text.splitlines())) <= 140


def test_the_file_says_the_same() -> None:
    whole = operate.status("lab", "2030", PLAN, {"ctl": seen(api=unit()), "w1": {"unreachable": True, "msg": "x"}})
    found = json.loads(operate.as_json(whole))
    assert found == whole
    assert found["hosts"]["ctl"]["units"]["labwright-api"]["rss_mib"] == 60.4
    assert (found["hosts"]["w1"]["answers"], found["hosts"]["w1"]["units"]) == (False, {})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (200000, "2 d")],
)
def test_how_long(seconds: int | None, text: str) -> None:
    assert operate.ago(seconds) == text


# --- restart ----------------------------------------------------------------------------------------------------------


def test_a_worker_with_another_of_its_model_and_one_without() -> None:
    small, large = operate.restarts(PLAN, "w1", wish())
    assert small["name"] == "labwright-worker-small-21002 on w1"
    assert small["others"] == {
        "from": "ctl",
        "controller": "http://192.0.2.9:21001",
        "workers": [{"url": "http://192.0.2.2:21002", "models": ["small", "small-alias"]}],
    }
    assert small["request"] == {
        "unit": "labwright-worker-small-21002.service",
        "controller": "http://192.0.2.9:21001",
        "worker": "http://192.0.2.1:21002",
        "models": ["small", "small-alias"],
        "wait_s": 900,
    }
    assert large["others"]["workers"] == []
    assert operate.last(large["name"], "large", {}).startswith("LW-RESTART-001: labwright-worker-large-21003 on w1 was")


@pytest.mark.parametrize("seed", range(20))
def test_every_model_is_served_at_every_moment_whatever_the_lab(seed: int) -> None:
    """A simulation of the playbook: one worker of one host after the other, left out when no other serves."""
    chance = random.Random(seed)  # noqa: S311
    hosts = {f"w{at}": host(at, *chance.choices(MODELS, k=chance.randrange(4))) for at in range(1, 6)}
    lab = {"hosts": {"ctl": CONTROL, **hosts}}
    everyone = {(row["url"], row["model"]) for one in hosts.values() for row in one["workers"]}
    down = {one for one in everyone if chance.random() < 0.2}  # before we began
    serves, restarted, left = everyone - down, [], []
    begun = {model for _url, model in serves}
    for name in lab["hosts"]:
        for step in operate.restarts(lab, name, operate.restart_wish({}, lab)):
            me = (step["request"]["worker"], step["model"])
            others = {(row["url"], step["model"]) for row in step["others"]["workers"]}
            assert me not in others
            assert others == {one for one in everyone if one[1] == step["model"]} - {me}
            if not others & serves:
                left.append(me)
                continue
            serves.discard(me)
            assert {model for _url, model in serves} >= begun
            serves.add(me)
            restarted.append(me)
    assert sorted([*restarted, *left]) == sorted(everyone)
    assert len(set(restarted)) == len(restarted)


def test_who_is_chosen() -> None:
    def names(**given: Any) -> list[str]:
        return [one["name"][17:] for name in PLAN["hosts"] for one in operate.restarts(PLAN, name, wish(**given))]

    assert names() == ["small-21002 on w1", "large-21003 on w1", "small-21002 on w2"]
    assert names(restart_model="small") == ["small-21002 on w1", "small-21002 on w2"]
    assert names(restart_host="w2") == ["small-21002 on w2"]
    assert [one["last_too"] for one in operate.restarts(PLAN, "w2", wish(restart_even_last="true"))] == [True]
    assert operate.restarts(PLAN, "nobody", wish()) == []


def test_the_rest_is_restarted_only_when_asked_for() -> None:
    assert operate.restart_rest(PLAN, "ctl", wish()) == []
    found = operate.restart_rest(PLAN, "ctl", wish(restart_what="all"))
    assert [one["unit"] for one in found] == [f"labwright-{name}.service" for name in ("controller", "api", "gateway")]
    assert [one["workers_back"] for one in found] == [True, False, False]
    assert operate.restart_rest(PLAN, "ctl", wish(restart_what="all", restart_model="small")) == []
    assert operate.restart_rest(PLAN, "w1", wish(restart_what="all")) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"restart_what": "api"}, "restart_what is 'api'; expected workers or all"),
        ({"restart_modell": "small"}, "there is no restart_modell; expected one of .* Set restart_model"),
        ({"restart_model": "smal"}, "restart_model is 'smal'; expected one of small, large"),
        ({"restart_host": "w9"}, "restart_host is 'w9'; expected one of ctl, w1, w2"),
        ({"restart_even_last": "perhaps"}, "restart_even_last is 'perhaps'; expected true or false"),
        ({"restart_wait_s": 5}, "restart_wait_s is '5'; expected a whole number from 10 to 7200"),
    ],
)
def test_restart_knobs(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(Problem, match=f"^LW-RESTART-003: .*{expected}"):
        wish(**given)


# --- logs -------------------------------------------------------------------------------------------------------------


def test_log_knobs() -> None:
    assert operate.logs_request({}) == {"since": "2 hours ago", "lines": 20000, "bytes": 8 << 20}
    with pytest.raises(Problem, match=r"^LW-LOGS-003: logs_lines is '0'; expected a whole number from 1 to 200000"):
        operate.logs_request({"logs_lines": 0})


def test_the_summary_counts_by_kind() -> None:
    def of(lines: int, **kinds: int) -> dict[str, Any]:
        last = {"at": "2030-01-02T03:04:05Z", "text": "it broke"} if kinds else {}
        return {"text": "", "lines": lines, "kinds": kinds, "last_error": last}

    one = {
        "data": {"cut": "only the newest 5 lines", "units": {"labwright-api": of(5, KeyError=2), "labwright-x": of(1)}}
    }
    two = {"data": {"cut": "", "units": {"labwright-api": of(9, KeyError=1, ERROR=7)}}}
    text = operate.logs_table({"a": one, "b": two, "c": {"unreachable": True, "msg": "no route"}, "d": None})
    rows = [line.split() for line in text.splitlines()]
    assert ["a", "api", "5", "2", "2030-01-02", "03:04:05"] in rows
    assert ["a", "x", "1", "0", "-"] in rows
    assert "  7 x ERROR: b api 7\n  3 x KeyError: a api 2, b api 1\n" in text
    assert "  c: UNREACHABLE: no route\n  d: NO ANSWER: not asked" in text
    assert "  a: only the newest 5 lines" in text
    assert operate.logs_table({}) == "No service of the lab has said anything."


def test_every_text_in_a_secret_is_known_but_the_user_of_a_login() -> None:
    given = [{"mirror": {"user": "me", "password": "p"}}, {"anna": ["k1", "k2"], "bert": "k3\n"}, ["k4"], ""]
    assert operate.secrets(given) == ["p", "k1", "k2", "k3", "k4"]


# --- the playbooks ----------------------------------------------------------------------------------------------------


def act(folder: Path, do: str, **arguments: Any) -> dict[str, Any]:
    task_vars = variables(lab_plan_dir=str(folder / "plan"), lab_secrets_dir=str(folder / "secrets"))
    one = action(LABWRIGHT, {"do": do, **arguments})
    one._templar = SimpleNamespace(template=lambda value: value)
    result: dict[str, Any] = one.run(None, task_vars | {"ansible_play_hosts_all": ["ctl10"]})
    return result


@pytest.mark.parametrize(("do", "problem"), [("status", "LW-STATUS-002"), ("logged", "LW-LOGS-004")])
def test_what_cannot_be_written_is_said(tmp_path: Path, do: str, problem: str) -> None:
    assert act(tmp_path, "status", name="answer")["code"] == "LW-PLAN-029"
    planned(tmp_path / "plan")
    (tmp_path / "report").write_text("a file where the folder should be")
    if do == "logged":
        (tmp_path / "report").unlink()
        (tmp_path / "report").mkdir()
        (tmp_path / "report/logs").write_text("a file where the folder should be")
    result = act(tmp_path, do, name="answer")
    assert (result["failed"], result["code"]) == (True, problem)
    assert "set that to one" in result["msg"]


def test_a_key_that_cannot_be_read_ends_it_before_anything_is_written(tmp_path: Path) -> None:
    planned(tmp_path / "plan")
    (tmp_path / "secrets/keys/operator").mkdir(parents=True)
    assert act(tmp_path, "logged", name="answer")["code"] == "LW-LOGS-005"
    assert not (tmp_path / "report").exists()


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    found = Programs(folder)
    found.says("systemctl")
    found.says("systemctl", f"{shown('labwright-firewall', SubState='exited')}\n{shown(WORKER)}", when="show")
    found.says("journalctl", journal(at(1, "KeyError: 'Top Secret'", _SYSTEMD_UNIT=f"{WORKER}.service")))
    return found


@pytest.fixture
def lab(tmp_path: Path, programs: Programs) -> Any:
    """Two hosts on this machine, one with the controller and the API, one with a worker that serves."""
    with serving() as server:
        server.answers["/worker_get_status"] = says({"model_names": ["m"], "speed": 1, "queue_length": 0})
        server.answers["/receive_heart_beat"] = says({"exist": True})
        server.answers["/worker_generate"] = says({"text": "a", "error_code": 0})
        folder = planned(tmp_path / "plan")
        path = folder / "plan.json"
        written = json.loads(path.read_text())
        for name, one in written["hosts"].items():
            one |= {"address": "127.0.0.1", "controller_url": server.url, "gateway": {}}
            one["controller"] = {"host": "127.0.0.1", "port": server.port} if name == "ctl10" else {}
            for row in one["workers"]:
                row |= {"name": WORKER, "url": server.url, "model_names": ["m"], "device": "cpu"}
        path.write_text(json.dumps(written))
        yield tmp_path, server, programs


def play(folder: Path, name: str, *more: str) -> subprocess.CompletedProcess[str]:
    one = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    two = {**one, "lab_api_keys": {"anna": "Top-Secret-Top-Secret"}}
    away = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_ssh_common_args": "-o BatchMode=yes"}
    (folder / "hosts.yml").write_text(json.dumps({"all": {"hosts": {"ctl10": two, "w11": one, "w12": away}}}))
    given = ("-e", f"lab_plan_dir={folder}/plan", "-e", f"lab_secrets_dir={folder}/secrets")
    settings = {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
        "HOME": str(folder),
    }
    return subprocess.run(
        [
            str(Path(sys.executable).parent / "ansible-playbook"),
            *(str(ROOT / f"playbooks/{name}.yml"), "-i", str(folder / "hosts.yml"), *given, *more),
        ],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )


def test_status_says_what_it_saw_and_judges_nobody(lab: tuple[Path, Loopback, Programs]) -> None:
    folder, _server, programs = lab
    down = shown(WORKER, ActiveState="failed", SubState="failed")
    programs.says("systemctl", down, when="show")
    written = json.loads((folder / "plan/plan.json").read_text())
    written["hosts"]["w12"] = {**written["hosts"]["w11"], "workers": []}
    (folder / "plan/plan.json").write_text(json.dumps(written))
    done = play(folder, "status")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "GAVE UP" in done.stdout
    assert "  w12: UNREACHABLE: " in done.stdout
    found = json.loads((folder / "report/status.json").read_text())
    assert found["hosts"]["w11"]["units"][WORKER]["active"] == "failed"
    assert (folder / "report/status.json").stat().st_mode & 0o777 == 0o600
    assert not [
        call for call in programs.calls("systemctl") if call.split()[0] not in ("show", "list-units", "list-unit-files")
    ]


def test_status_of_one_host(lab: tuple[Path, Loopback, Programs]) -> None:
    folder, _server, _programs = lab
    done = play(folder, "status", "-l", "w11", "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all is as planned" in done.stdout, done.stdout
    assert "ctl10" not in done.stdout


def test_the_last_worker_is_left_out_and_named(lab: tuple[Path, Loopback, Programs]) -> None:
    folder, _server, programs = lab
    done = play(folder, "restart", "-l", "w11")
    assert done.returncode == 0, done.stdout + done.stderr
    said = " ".join((done.stdout + done.stderr).split())
    assert f"LW-RESTART-001: {WORKER} on w11 was left out: it is the last that serves labwright-demo" in said
    assert not any(call.startswith("restart") for call in programs.calls("systemctl"))


def test_even_the_last_one_where_that_is_said(lab: tuple[Path, Loopback, Programs]) -> None:
    folder, server, programs = lab
    done = play(folder, "restart", "-l", "w11", "-e", "restart_even_last=true")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"restart {WORKER}.service" in programs.calls("systemctl")
    assert "/worker_generate" in server.paths()


def test_the_first_that_does_not_come_back_is_the_end(lab: tuple[Path, Loopback, Programs]) -> None:
    folder, _server, programs = lab
    written = json.loads((folder / "plan/plan.json").read_text())
    written["hosts"]["ctl10"]["workers"] = written["hosts"]["w11"]["workers"]
    (folder / "plan/plan.json").write_text(json.dumps(written))
    programs.says("systemctl", when="restart", status=1, error="it crashed")
    done = play(folder, "restart", "-l", "ctl10,w11", "-e", "restart_what=all")
    assert done.returncode != 0
    assert f"LW-RESTART-002: {WORKER}.service was restarted and does not serve: it crashed" in done.stdout
    assert [call for call in programs.calls("systemctl") if call.startswith("restart")] == [f"restart {WORKER}.service"]


def test_logs_are_private_files_without_what_the_lab_knows_to_be_secret(lab: tuple[Path, Loopback, Programs]) -> None:
    folder, _server, programs = lab
    (folder / "secrets/keys").mkdir(parents=True)
    (folder / "secrets/keys/operator").write_text("made-by-us-1\nmade-by-us-2\n")
    rows = [at(1, "KeyError: 'Top-Secret-Top-Secret'"), at(0, "said made-by-us-2 and made-by-us-1")]
    programs.says("journalctl", journal(*({**row, "_SYSTEMD_UNIT": f"{WORKER}.service"} for row in rows)))
    stale = folder / "report/logs/gone/labwright-api.log"
    stale.parent.mkdir(parents=True)
    stale.touch()
    done = play(folder, "logs", "-l", "ctl10,w12", "-vvvvv")
    whole = done.stdout + done.stderr
    assert done.returncode == 0, whole
    path = folder / f"report/logs/ctl10/{WORKER}.log"
    assert path.read_text().splitlines() == [
        "2026-11-23T03:53:20Z said *** and ***",
        "2026-11-23T03:53:21Z KeyError: '***'",
    ]
    assert path.stat().st_mode & 0o777 == 0o600
    assert not stale.exists()
    assert "1 x KeyError" in whole
    assert "w12: UNREACHABLE" in whole
    for secret in ("Top-Secret", "made-by-us"):
        assert secret not in whole
