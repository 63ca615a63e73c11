"""The two action plugins, called as Ansible calls them: a result in every case, a sentence in every bad one."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hostkit.result import Result
from unit.labwright.plugins import plugin

HOSTKIT = plugin("action", "hostkit")
LABWRIGHT = plugin("action", "labwright")


class HostVars(dict[str, dict[str, Any]]):
    """As far as the plugin looks into Ansible's."""

    def raw_get(self, name: str) -> dict[str, Any]:
        return self[name]


def action(module: Any, arguments: dict[str, Any], check: bool = False) -> Any:
    task = SimpleNamespace(args=arguments, async_val=0, check_mode=check, action="test")
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/nowhere"))
    return module.ActionModule(task, connection, None, None, None)


# --- hostkit -------------------------------------------------------------------------------------------------------

Execute = Callable[..., dict[str, Any]]


def answering(stdout: str, seen: list[dict[str, Any]] | None = None, **more: Any) -> Execute:
    def execute(**arguments: Any) -> dict[str, Any]:
        if seen is not None:
            seen.append(arguments)
        return {"stdout": stdout, **more}

    return execute


def ask(execute: Execute, arguments: dict[str, Any], check: bool = False, **variables: Any) -> dict[str, Any]:
    one = action(HOSTKIT, arguments, check)
    one._execute_module = execute
    result: dict[str, Any] = one.run(None, {"ansible_facts": {}, **variables})
    assert one._task.check_mode == check
    return result


GOOD = {"verb": "tree", "request": {"path": "/x"}}


@pytest.mark.parametrize("arguments", [{}, {"verb": "tree"}, {"request": {}}, {**GOOD, "verbose": True}])
def test_wrong_arguments(arguments: dict[str, Any]) -> None:
    result = ask(answering(""), arguments)
    assert result["failed"]
    assert result["msg"].startswith("LW-HOSTKIT-005: ")


@pytest.mark.parametrize("check", [False, True])
def test_the_request_travels_on_standard_input_and_check_mode_with_it(check: bool) -> None:
    seen: list[dict[str, Any]] = []
    said = json.dumps(Result(changed=True, message="done", after="x\n", data={"a": 1}).as_dict())
    result = ask(answering("a banner\n" + said + "\n", seen), GOOD, check)
    diff = {"before": "", "after": "x\n", "before_header": "done"}
    assert result == {"changed": True, "msg": "done", "data": {"a": 1}, "diff": diff}
    arguments = seen[0]["module_args"]
    assert arguments["argv"] == ["python3", "-c", HOSTKIT.BOOT]
    program, request = arguments["stdin"].split("\n")
    assert base64.b64decode(program) == HOSTKIT.archive()
    assert json.loads(request) == {**GOOD, "check": check}
    assert seen[0]["task_vars"]["ansible_no_target_syslog"] is True


@pytest.mark.parametrize(
    ("arguments", "variables", "python"),
    [
        ({}, {}, "python3"),
        ({}, {"ansible_python_interpreter": "/usr/bin/python3.9"}, "/usr/bin/python3.9"),
        ({}, {"ansible_facts": {"discovered_interpreter_python": "/usr/bin/python3.11"}}, "/usr/bin/python3.11"),
        ({"python": "/opt/python"}, {"ansible_python_interpreter": "/usr/bin/python3.9"}, "/opt/python"),
    ],
)
def test_the_python_that_runs_it(arguments: dict[str, Any], variables: dict[str, Any], python: str) -> None:
    seen: list[dict[str, Any]] = []
    ask(answering(json.dumps(Result().as_dict()), seen), {**GOOD, **arguments}, **variables)
    assert seen[0]["module_args"]["argv"][0] == python


def test_no_diff_without_a_change() -> None:
    assert "diff" not in ask(answering(json.dumps(Result(before="a", after="a").as_dict())), GOOD)


def test_a_problem_becomes_the_tasks_message() -> None:
    said = {"failed": True, "changed": False, "code": "LW-ENV-001", "message": "LW-ENV-001: words"}
    expected = {"failed": True, "changed": False, "code": "LW-ENV-001", "msg": "LW-ENV-001: words"}
    assert ask(answering(json.dumps(said)), GOOD) == expected


@pytest.mark.parametrize(
    ("stdout", "more", "words"),
    [
        ("", {"stderr": "python3: not found"}, "python3: not found"),
        ("", {"msg": "no such file"}, "no such file"),
        ("", {"module_stderr": "Killed"}, "Killed"),
        ("no json", {}, "no words"),
        ("3", {}, "no words"),
        ("{}", {}, "no words"),
    ],
)
def test_a_host_that_says_nothing_of_use(stdout: str, more: dict[str, Any], words: str) -> None:
    result = ask(answering(stdout, **more), GOOD)
    assert result["failed"]
    assert result["msg"].startswith("LW-HOSTKIT-006: ")
    assert words in result["msg"]


def test_an_unreachable_host_stays_unreachable() -> None:
    assert ask(answering("", unreachable=True, msg="refused"), GOOD)["unreachable"] is True


# --- labwright -----------------------------------------------------------------------------------------------------


def variables(name: str = "ctl10", **wishes: Any) -> dict[str, Any]:
    common = {"lab_models": ["labwright-demo"], "inventory_dir": "/x", **wishes}
    return {
        "inventory_hostname": name,
        "groups": {"all": ["localhost", "ctl10", "w11"], "controller": ["ctl10"], "api": ["ctl10"], "workers": ["w11"]},
        "hostvars": HostVars(
            localhost={"lab_guess": "localhost is no host of the lab"},
            ctl10={"ansible_host": "192.0.2.10", **common},
            w11={"ansible_host": "192.0.2.11", **common},
        ),
    }


def act(arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = action(LABWRIGHT, arguments).run(None, task_vars)
    return result


def test_check_reads_every_host() -> None:
    assert act({"do": "check"}, variables()) == {"changed": False, "msg": "2 hosts, no unknown or wrong variable"}


def test_check_names_every_problem_of_every_host() -> None:
    result = act({"do": "check"}, variables(lab_device="gpu", lab_modles=[], docker_user=["x"], docker_other=1))
    assert result["failed"]
    assert result["code"].startswith("LW-VAR-")
    lines = result["msg"].splitlines()
    assert len(lines) == 6
    assert {line.split(":")[1].strip() for line in lines} == {"ctl10", "w11"}
    assert "docker_other" not in result["msg"]


def test_plan_explains_and_gives_the_variables() -> None:
    result = act({"do": "plan", "facts": {}}, variables())
    assert result["duties"] == ["controller", "api"]
    assert any(line.startswith("stack: frontend, because ") for line in result["msg"])


def test_plan_gives_a_problem_as_a_sentence(tmp_path: Path) -> None:
    wishes = {"lab_bundle_url": "http://192.0.2.1:8480", "lab_bundle_dir": str(tmp_path)}
    result = act({"do": "plan", "facts": {}}, variables(**wishes))
    assert (result["failed"], result["code"]) == (True, "LW-BUNDLE-001")
    assert result["msg"].startswith("LW-BUNDLE-001: ")


def test_leftovers_need_no_facts() -> None:
    result = act({"do": "leftovers"}, variables(lab_root="/srv/lab"))
    assert result["root"] == "/srv/lab"
    assert not result["changed"]


@pytest.mark.parametrize(
    ("wishes", "groups", "code"),
    [
        ({"lab_models": ["guess"]}, {}, "LW-PLAN-003"),
        ({}, {"controller": []}, "LW-PLAN-001"),
        ({}, {"api": [], "agents": ["ctl10"]}, "LW-PLAN-002"),
        ({"lab_bundle_url": "http://192.0.2.1", "lab_bundle_dir": "/nowhere"}, {}, "LW-BUNDLE-001"),
    ],
)
def test_check_refuses_what_can_be_refused_without_asking_a_host(
    wishes: dict[str, Any], groups: dict[str, list[str]], code: str
) -> None:
    task_vars = variables(**wishes)
    task_vars["groups"].update(groups)
    result = act({"do": "check"}, task_vars)
    assert (result["failed"], result["code"]) == (True, code)


def answered(task_vars: dict[str, Any], **good: bool) -> dict[str, Any]:
    """The answers of all hosts, as the play registers them."""
    for name, ok in good.items():
        check = {"id": "x", "ok": ok, "evidence": "", "latency_ms": 1.0}
        task_vars["hostvars"][name]["lab_answers"] = {"data": {"checks": [check]}}
    return task_vars


VERDICT = {"do": "verdict", "name": "lab_answers"}


@pytest.mark.parametrize("good", [True, False])
def test_verdict_is_written_and_fails_when_one_answer_is_bad(tmp_path: Path, good: bool) -> None:
    path = tmp_path / "new" / "verdict.json"
    result = act(VERDICT, answered(variables(lab_name="room", lab_verdict=str(path)), ctl10=True, w11=good))
    assert (result["failed"], result["path"]) == (not good, str(path))
    whole = json.loads(path.read_text(encoding="utf-8"))
    assert (whole["ok"], whole["lab"], len(whole["checks"])) == (good, "room", 2)


def test_verdict_has_a_place_of_its_own_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABWRIGHT_CACHE", str(tmp_path / "cache"))
    result = act(VERDICT, answered(variables(), ctl10=True))
    assert result["path"] == str(tmp_path / "cache" / "verdict.json")
    assert [one["id"] for one in json.loads(Path(result["path"]).read_text())["checks"]] == ["x", "host.answers"]
