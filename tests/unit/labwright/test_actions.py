"""The two action plugins, called as Ansible calls them: a result in every case, a sentence in every bad one."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleConnectionFailure
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from hostkit.result import Problem, Result
from unit.labwright.made_up import real
from unit.labwright.plugins import plugin
from unit.programs import ROOT

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
    def execute(command: str, in_data: bytes) -> dict[str, Any]:
        if seen is not None:
            seen.append({"argv": shlex.split(command), "stdin": in_data.decode()})
        return {"stdout": stdout, **more}

    return execute


def ask(execute: Execute, arguments: dict[str, Any], check: bool = False, **variables: Any) -> dict[str, Any]:
    one = action(HOSTKIT, arguments, check)
    one._low_level_execute_command = execute
    one._templar = Templar(DataLoader(), variables=variables)
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
    assert seen[0]["argv"] == ["python3", "-c", HOSTKIT.BOOT]
    program, request = seen[0]["stdin"].split("\n")
    assert base64.b64decode(program) == HOSTKIT.archive()
    assert json.loads(request) == {**GOOD, "check": check}


@pytest.mark.parametrize(
    ("arguments", "variables", "python"),
    [
        ({}, {}, "python3"),
        ({}, {"ansible_python_interpreter": "/usr/bin/python3.9"}, "/usr/bin/python3.9"),
        ({}, {"ansible_facts": {"discovered_interpreter_python": "/usr/bin/python3.11"}}, "/usr/bin/python3.11"),
        ({"python": "/opt/python"}, {"ansible_python_interpreter": "/usr/bin/python3.9"}, "/opt/python"),
        ({}, {"ansible_python_interpreter": "auto"}, "python3"),
        ({}, {"ansible_python_interpreter": "auto_silent"}, "python3"),
        ({"python": "auto_legacy"}, {}, "python3"),
        ({}, {"ansible_python_interpreter": trust_as_template("{{ ansible_playbook_python }}")}, "/lab/bin/python"),
    ],
)
def test_the_python_that_runs_it(arguments: dict[str, Any], variables: dict[str, Any], python: str) -> None:
    seen: list[dict[str, Any]] = []
    given = {"ansible_playbook_python": "/lab/bin/python", **variables}
    ask(answering(json.dumps(Result().as_dict()), seen), {**GOOD, **arguments}, **given)
    assert seen[0]["argv"][0] == python


@pytest.mark.parametrize(
    ("given", "python"),
    [
        ({}, "/usr/bin/python3"),
        ({"ansible_python_interpreter": "auto_silent"}, "/usr/bin/python3"),
        ({"ansible_python_interpreter": "/usr/bin/python3.11"}, "/usr/bin/python3.11"),
        ({"ansible_python_interpreter": "/home/anna/lab/.venv/bin/python"}, "/usr/bin/python3"),
        ({"ansible_python_interpreter": "/usr/bin/env python3"}, "/usr/bin/python3"),
    ],
)
def test_the_services_python_is_the_chosen_one_where_they_see_it(given: dict[str, str], python: str) -> None:
    loader = DataLoader()
    wiring = loader.load_from_file(str(ROOT / "inventories/lab/group_vars/all/wiring.yml"), trusted_as_template=True)
    assert Templar(loader, variables=given).template(wiring["service_python"]) == python


PYTHON = r"C:\labwright\conda\python.exe"
NO_FILE = {"failed": True, "rc": 2, "msg": "Failed to run: 'x': The system cannot find the file specified"}


def ask_windows(
    answer: dict[str, Any], arguments: dict[str, Any], check: bool = False, **variables: Any
) -> tuple[dict[str, Any], list[Any]]:
    """The same on a host that PowerShell answers for; with what was sent to which module, and in which mode."""
    one = action(HOSTKIT, arguments, check)
    one._connection._shell._IS_WINDOWS = True
    one._templar = SimpleNamespace(template=lambda text: text)
    seen: list[Any] = []

    def execute(name: str, sent: dict[str, Any], **_more: Any) -> dict[str, Any]:
        seen.append((name, sent, one._task.check_mode))
        return answer

    one._execute_module = execute
    result: dict[str, Any] = one.run(None, {"ansible_facts": {}, **variables})
    assert one._task.check_mode == check
    return result, seen


@pytest.mark.parametrize("check", [False, True])
def test_on_windows_a_module_carries_it_and_nothing_of_that_module_comes_back(check: bool) -> None:
    said = json.dumps(Result(changed=True, message="done", after="x\n").as_dict()) + "\r\n"
    answer = {"rc": 0, "stdout": said, "stderr": "", "cmd": "C", "invocation": {"module_args": {"stdin": "secret"}}}
    result, seen = ask_windows(answer, GOOD, check, hostkit_python=PYTHON)
    assert result == {"changed": True, "msg": "done", "data": {}, "diff": {**result["diff"]}}
    ((name, sent, mode),) = seen
    assert (name, sent["argv"], mode) == ("ansible.windows.win_command", [PYTHON, "-c", HOSTKIT.BOOT], False)
    assert json.loads(sent["stdin"].split("\n")[1]) == {**GOOD, "check": check}


def test_boot_has_no_word_that_windows_would_read_otherwise() -> None:
    assert not set('"%^&|<>\n') & set(HOSTKIT.BOOT)
    assert len(HOSTKIT.BOOT) < 1000


def test_windows_without_hostkit_python() -> None:
    result, seen = ask_windows({}, GOOD)
    assert result["msg"].startswith("LW-HOSTKIT-008: hostkit_python is not set")
    assert seen == []


@pytest.mark.parametrize(
    ("arguments", "check", "outcome"),
    [
        (GOOD, False, {"failed": True}),
        (GOOD, True, {"changed": True}),
        ({"verb": "env", "request": {"state": "absent"}}, False, {"changed": False}),
        ({"verb": "env", "request": {"state": "absent"}}, True, {"changed": False}),
        ({"verb": "sweep", "request": {"folders": []}}, False, {"changed": False}),
    ],
    ids=["fails", "would change", "nothing to remove", "nothing to remove in check mode", "nothing to sweep"],
)
def test_python_is_not_there_yet(arguments: dict[str, Any], check: bool, outcome: dict[str, Any]) -> None:
    result, _seen = ask_windows(NO_FILE, arguments, check, hostkit_python=PYTHON)
    assert outcome.items() <= result.items()
    if result.get("failed"):
        assert result["msg"].startswith(f"LW-HOSTKIT-010: {PYTHON} does not start: ")
        assert "role anaconda brings it" in result["msg"]
    elif not result["changed"]:
        assert result["warnings"][0].startswith("LW-HOSTKIT-010: ")


def test_on_windows_a_program_that_broke_is_quoted_without_secrets() -> None:
    credentials = {"mirror.example.com": {"user": "u", "password": "s3cret"}}
    answer = {"failed": True, "rc": 1, "stdout": "", "stderr": "went wrong: s3cret", "msg": "non-zero return code"}
    result, _seen = ask_windows(
        answer, {"verb": "take", "request": {}}, hostkit_python=PYTHON, lab_mirror_credentials=credentials
    )
    assert result["msg"] == "LW-HOSTKIT-006: hostkit did not answer on this host: went wrong: ***"


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
        ("", {"stderr": "\n"}, "no words"),
        ("no json", {}, "no json"),
        ("3", {}, "3"),
        ("{}", {}, "{}"),
    ],
)
def test_a_host_that_says_nothing_of_use(stdout: str, more: dict[str, Any], words: str) -> None:
    result = ask(answering(stdout, **more), GOOD)
    assert result["failed"]
    assert result["msg"].startswith("LW-HOSTKIT-006: ")
    assert words in result["msg"]


def test_an_unreachable_host_is_ansibles_own_matter() -> None:
    def away(command: str, in_data: bytes) -> dict[str, Any]:
        raise AnsibleConnectionFailure("refused")

    with pytest.raises(AnsibleConnectionFailure):
        ask(away, GOOD)


HUSH = "pa55word"
WIRING = LABWRIGHT.catalog.read(LABWRIGHT.WIRING / "all/wiring.yml")
ANNA = "anna-1234567890123456789"
LOGINS = {"mirror.example": {"user": "lab", "password": HUSH}}
FROM_MIRROR = {"verb": "model", "request": {"files": [{"url": "https://mirror.example/x"}]}}


def ask_with_login(execute: Execute, arguments: dict[str, Any], given: Any) -> dict[str, Any]:
    one = action(HOSTKIT, arguments)
    one._low_level_execute_command = execute
    one._templar = SimpleNamespace(template=lambda value: value)
    result: dict[str, Any] = one.run(None, {"ansible_facts": {}, "lab_mirror_credentials": given})
    return result


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        (FROM_MIRROR, True),
        ({**FROM_MIRROR, "verb": "tree"}, False),
        ({"verb": "take", "request": {"files": [{"url": "https://other.example/x"}]}}, False),
    ],
)
def test_logins_travel_beside_a_request_that_fetches_from_their_host(arguments: dict[str, Any], sent: bool) -> None:
    seen: list[dict[str, Any]] = []
    ask_with_login(answering(json.dumps(Result().as_dict()), seen), arguments, LOGINS)
    request = json.loads(seen[0]["stdin"].split("\n")[1])
    assert request.get("logins") == (LOGINS if sent else None)
    assert HUSH not in json.dumps([request["request"], seen[0]["argv"]])
    assert HUSH not in json.dumps(arguments)


def test_what_comes_back_is_cleared_of_passwords() -> None:
    result = ask_with_login(answering("", stderr=f"{HUSH}: not found"), FROM_MIRROR, LOGINS)
    assert "***: not found" in result["msg"]
    assert HUSH not in json.dumps(result)


@pytest.mark.parametrize("given", [HUSH, [HUSH], {"mirror.example": HUSH}, {"mirror.example": {"user": HUSH}}])
def test_credentials_of_another_form_are_a_sentence_without_them(given: Any) -> None:
    result = ask_with_login(answering(""), FROM_MIRROR, given)
    assert result["msg"].startswith("LW-HOSTKIT-007: lab_mirror_credentials is not of the form")
    assert HUSH not in json.dumps(result)


# --- labwright -----------------------------------------------------------------------------------------------------

PLAIN = {"system": "Linux", "cpus": 4, "memory_mib": 8192, "nvidia_smi": None}
FIELDS = ["index", "uuid", "name", "memory.total", "memory.used", "driver_version", "compute_cap"]
SMI = {
    "rc": 0,
    "stdout": "0, GPU-1, NVIDIA GeForce RTX 3090, 24576, 1, 535.104.05, 8.6\n",
    "stderr": "",
    "fields": FIELDS,
}
GPU = {**PLAIN, "nvidia_smi": SMI}
ON_PAPER = {
    "driver_version": "580.65.06",
    "memory_mib": 65536,
    "gpus": [{"name": "NVIDIA GeForce RTX 5090", "memory_mib": 32607, "compute_capability": "12.0"}],
}


def whole_bundle(folder: Path, tags: Collection[str] | None = None) -> Path:
    """A bundle that holds all that this repository's own catalogue wants of one; of torch the builds of ``tags``."""
    one = real()
    sums = {f"conda/{row['url'].rsplit('/', 1)[1]}": row["sha256"] for row in one.conda["linux-64"]}
    members = list(sums)
    sums |= {"installers/conda.sh": "0" * 64}
    for stack in one.stacks.values():
        for lock in stack.locks:
            if tags is None or lock.tag in ("", *tags):
                sums |= {f"wheels/{one}.whl": one for _pin, found in lock.layer.pins for one in found}
    for file in one.models["labwright-demo"]["files"]:
        sums[f"models/labwright-demo/{file['path']}"] = file["sha256"]
    manifest = {
        "format": 1,
        "files": {path: {"sha256": found, "size": 1} for path, found in sums.items()},
        "installer": {"path": "installers/conda.sh"},
        "conda": {"linux-64": {"3.11": members}},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def variables(name: str = "ctl10", **wishes: Any) -> dict[str, Any]:
    """What Ansible gives the plugin: two hosts that are not on paper, both in the play."""
    common = {**WIRING, "lab_models": ["labwright-demo"], "inventory_dir": "/x", **wishes}
    return {
        "inventory_hostname": name,
        "ansible_play_hosts_all": ["ctl10", "w11"],
        "groups": {"all": ["ctl10", "w11"], "controller": ["ctl10"], "api": ["ctl10"], "workers": ["w11"]},
        "hostvars": HostVars(
            localhost={"lab_guess": "localhost is no host of the lab"},
            ctl10={"ansible_host": "192.0.2.10", **common},
            w11={"ansible_host": "192.0.2.11", **common},
        ),
    }


def lab_of(
    tmp_path: Path, *, bundle: bool = True, facts: dict[str, Any] | None = None, **wishes: Any
) -> dict[str, Any]:
    """Two hosts that were asked, a folder for the plan, and a bundle that has everything."""
    places = {"lab_plan_dir": str(tmp_path / "plan"), **wishes}
    if bundle:
        folder = str(whole_bundle(tmp_path / "bundle"))
        places = {"lab_bundle_url": "http://192.0.2.1:8480", "lab_bundle_dir": folder, **places}
    task_vars = variables(**places)
    for one in ("ctl10", "w11"):
        task_vars["hostvars"][one]["hardware_facts"] = facts or PLAIN
    return task_vars


def act(arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = action(LABWRIGHT, arguments).run(None, task_vars)
    return result


@pytest.fixture
def no_gpu_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """This repository's own catalogue without a lock for any GPU."""
    load = LABWRIGHT.catalog.load

    def bare(env: Path, bundle: Path | None) -> Any:
        found = load(env, bundle)
        stacks = {
            name: replace(one, locks=tuple(lock for lock in one.locks if not lock.tag.startswith("cu")))
            for name, one in found.stacks.items()
        }
        return replace(found, stacks=stacks)

    monkeypatch.setattr(LABWRIGHT.catalog, "load", bare)


def the_plan(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "plan" / "plan.json").read_text(encoding="utf-8"))
    return found


def ids(rows: Iterable[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]


@pytest.mark.parametrize("arguments", [{}, {"do": "guess"}])
def test_there_are_only_the_jobs_that_there_are(arguments: dict[str, Any]) -> None:
    result = act(arguments, variables())
    assert (result["failed"], result["code"]) == (True, "LW-CONTROL-010")
    assert "expected one of check, plan, met, read, leftovers, verdict" in result["msg"]


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


def test_check_names_every_contradiction_of_the_lab_and_its_hosts_together() -> None:
    task_vars = variables(lab_models=["guess"], lab_level="forced")
    task_vars["groups"]["controller"] = ["ctl10", "w11"]
    result = act({"do": "check"}, task_vars)
    lines = result["msg"].splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["LW-PLAN-001", "the lab"],
        ["LW-PLAN-018", "ctl10"],
        ["LW-PLAN-003", "w11"],
        ["LW-PLAN-018", "w11"],
    ]
    assert (result["failed"], result["code"]) == (True, "LW-PLAN-001")


@pytest.mark.parametrize(
    ("wishes", "groups", "code"),
    [
        ({"lab_models": ["guess"]}, {}, "LW-PLAN-003"),
        ({"lab_stack": "frontend"}, {}, "LW-STACK-004"),
        ({}, {"controller": []}, "LW-PLAN-001"),
        ({}, {"api": [], "agents": ["ctl10"]}, "LW-PLAN-002"),
        ({"lab_address": "192.0.2.1"}, {}, "LW-PLAN-016"),
        ({"lab_address": "localhost"}, {}, "LW-PLAN-016"),
        ({"autogen_endpoints": [{"model": "labwright-demo", "api_base": "x"}]}, {}, "LW-KNOWN-003"),
        ({"autogen_endpoints": [{"model": "labwright-demo", "api_type": "x"}]}, {}, "LW-KNOWN-004"),
        ({"autogen_endpoints": [{"model": "gpt-4", "base_url": "http://192.0.2.10:9527/v1"}]}, {}, "LW-KNOWN-005"),
        ({"autogen_endpoints": [{"model": "labwright-demo", "base_url": "http://192.0.2.10"}]}, {}, "LW-PLAN-026"),
    ],
)
def test_check_refuses_what_can_be_refused_without_asking_a_host(
    wishes: dict[str, Any], groups: dict[str, list[str]], code: str
) -> None:
    task_vars = variables(**wishes)
    task_vars["groups"].update(groups)
    result = act({"do": "check"}, task_vars)
    assert (result["failed"], result["code"]) == (True, code)


@pytest.mark.parametrize(
    ("wish", "there", "here", "sides"),
    [
        ("lab_name", "north", None, "ctl10: north; w11: lab"),
        ("lab_plan_dir", "/srv/plan", "/srv/else", "ctl10: /srv/plan; w11: /srv/else"),
        ("lab_secrets_dir", None, "/srv/secrets", "ctl10: -; w11: /srv/secrets"),
    ],
)
def test_check_refuses_hosts_that_differ_in_what_the_lab_has_one_of(
    wish: str, there: Any, here: Any, sides: str
) -> None:
    """Two names would be two authorities and two sets of keys."""
    task_vars = variables()
    for name, value in (("ctl10", there), ("w11", here)):
        task_vars["hostvars"][name].update({wish: value} if value is not None else {})
    result = act({"do": "check"}, task_vars)
    assert (result["failed"], result["code"]) == (True, "LW-PLAN-049")
    assert f"Hosts differ in {wish}, of which the lab has one ({sides})." in result["msg"]


def test_check_takes_a_default_that_is_written_out_and_keys_that_only_one_api_takes() -> None:
    task_vars = variables()
    task_vars["hostvars"]["ctl10"].update(lab_name="lab", lab_api_keys={"anna": ANNA})
    task_vars["hostvars"]["w11"].update(lab_verdict="/x/verdict.json")
    assert not act({"do": "check"}, task_vars).get("failed")


def test_check_names_the_first_hosts_of_each_side() -> None:
    given = {f"w{at}": {"lab_name": "north"} for at in range(5)} | {"x": {}}
    (found,) = LABWRIGHT.inventory.differing(given)
    assert found.values["sides"] == "w0, w1, w2 …: north; x: lab"


def test_check_refuses_an_inventory_that_does_not_hand_the_plan_to_the_roles() -> None:
    task_vars = variables()
    for name in WIRING:
        del task_vars["hostvars"]["w11"][name]
    del task_vars["hostvars"]["ctl10"]["gateway_record"]  # a copy that is older than this Labwright
    result = act({"do": "check"}, task_vars)
    assert (result["failed"], result["code"]) == (True, "LW-PLAN-050")
    assert "on ctl10, w11: anaconda_installer, anaconda_prefix, anaconda_store … are not set" in result["msg"]
    assert "group_vars/all/wiring.yml" in result["msg"]
    task_vars["hostvars"]["ctl10"]["gateway_record"] = "/srv/records"  # the site's own value is one
    task_vars["hostvars"]["w11"]["hardware_given"] = {"memory_mib": 16384}
    assert not act({"do": "check"}, task_vars).get("failed"), "a machine on paper is not changed"


def test_check_wants_the_wiring_of_windows_where_windows_is_but_not_its_way_to_connect() -> None:
    shipped = LABWRIGHT.catalog.read(LABWRIGHT.WIRING / "windows/wiring.yml")
    task_vars = variables()
    task_vars["groups"]["windows"] = ["w11"]
    task_vars["hostvars"]["w11"].update({name: shipped[name] for name in shipped if name.startswith("lab_")})
    result = act({"do": "check"}, task_vars)
    assert (result["failed"], result["code"]) == (True, "LW-PLAN-050")
    assert "on w11: anaconda_folders" in result["msg"]
    assert "group_vars/windows/wiring.yml" in result["msg"]
    task_vars["hostvars"]["w11"].update({name: shipped[name] for name in shipped if not name.startswith("ansible_")})
    assert not act({"do": "check"}, task_vars).get("failed")


def test_check_speaks_the_labs_language() -> None:
    result = act({"do": "check"}, variables(lab_models=["guess"], lab_language="zh"))
    assert result["msg"].startswith("LW-PLAN-003: w11: 目录里没有模型 guess")


# plan


def test_plan_prints_and_writes_the_lab_and_each_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = act({"do": "plan"}, lab_of(tmp_path))
    assert result == {"changed": False, "msg": f"{tmp_path}/plan/plan.json", "met": True, "warnings": []}
    whole = the_plan(tmp_path)
    assert (whole["met"], list(whole["hosts"])) == (True, ["ctl10", "w11"])
    (worker,) = whole["hosts"]["w11"]["workers"]
    assert (worker["model"], worker["torch"]["tag"]) == ("labwright-demo", "cpu")
    for name in ("ctl10", "w11"):
        part = json.loads((tmp_path / "plan" / "hosts" / f"{name}.json").read_text(encoding="utf-8"))
        assert part["host"] == whole["hosts"][name]
        assert (part["served"], part["workers"]) == (["labwright-demo"], 1)
    printed = capsys.readouterr().out
    assert "labwright-demo" in printed
    assert "Every wish is met. Hosts: 2, model workers: 1." in printed
    assert not list((tmp_path / "plan").rglob("*.new"))


@pytest.mark.usefixtures("no_gpu_locks")
def test_a_host_on_paper_is_planned_without_facts_and_its_gaps_are_notes(tmp_path: Path) -> None:
    task_vars = lab_of(tmp_path)
    task_vars["hostvars"]["w11"] |= {"hardware_given": ON_PAPER, "lab_models": ["chatglm2-6b"]}
    del task_vars["hostvars"]["w11"]["hardware_facts"]
    assert act({"do": "plan"}, task_vars)["met"]
    entry = the_plan(tmp_path)["hosts"]["w11"]
    assert (entry["source"], entry["workers"][0]["torch"]["tag"]) == ("given", "cu130")
    assert (ids(entry["problems"]), ids(entry["notes"])) == ([], ["LW-PLAN-005"])
    card = {"uuid": "GPU-given-w11-0", "name": "NVIDIA GeForce RTX 5090", "index": 0, "devices": ["/dev/nvidia0"]}
    assert entry["workers"][0]["gpus"] == [card]


@pytest.mark.usefixtures("no_gpu_locks")
def test_the_gaps_of_a_host_that_was_asked_are_its_problems(tmp_path: Path) -> None:
    result = act({"do": "plan"}, lab_of(tmp_path, facts=GPU))
    assert result["met"] is False
    whole = the_plan(tmp_path)
    assert whole["met"] is False
    assert ids(whole["hosts"]["w11"]["problems"]) == ["LW-PLAN-005"]
    assert ids(whole["hosts"]["ctl10"]["problems"]) == []


def test_a_bundle_without_the_torch_build_of_a_card_is_a_gap_that_names_the_wish(tmp_path: Path) -> None:
    task_vars = lab_of(tmp_path, facts=GPU)
    whole_bundle(tmp_path / "bundle", tags=["cpu"])
    assert act({"do": "plan"}, task_vars)["met"] is False
    entry = the_plan(tmp_path)["hosts"]["w11"]
    assert (ids(entry["problems"]), entry["workers"][0]["torch"]["tag"]) == (["LW-PLAN-014"], "cu128")
    assert "lab_bundle_tags (cu128)" in entry["problems"][0]["fix"]
    whole_bundle(tmp_path / "bundle", tags=["cpu", "cu128"])
    assert act({"do": "plan"}, task_vars)["met"]


@pytest.mark.parametrize(
    ("wish", "code"),
    [({"anaconda_distribution": "anaconda"}, "LW-PLAN-058"), ({"lab_bundle_source": "conda-forge"}, "LW-PLAN-057")],
)
def test_a_host_alike_but_for_its_wish_has_its_own_gaps(tmp_path: Path, wish: dict[str, str], code: str) -> None:
    task_vars = lab_of(tmp_path)
    task_vars["groups"]["workers"] = task_vars["groups"]["api"] = ["ctl10", "w11"]
    task_vars["groups"]["controller"] = []
    task_vars["hostvars"]["w11"] |= wish
    act({"do": "plan"}, task_vars)
    found = the_plan(tmp_path)["hosts"]
    assert (ids(found["ctl10"]["problems"]), ids(found["w11"]["problems"])) == ([], [code])


def test_without_a_bundle_a_model_of_this_repository_is_a_gap(tmp_path: Path) -> None:
    act({"do": "plan"}, lab_of(tmp_path, bundle=False))
    assert ids(the_plan(tmp_path)["hosts"]["w11"]["problems"]) == ["LW-PLAN-007"]


@pytest.mark.parametrize("text", [None, "{", '{"format": 2}'])
def test_a_broken_bundle_is_a_problem_of_every_host_that_takes_from_it(tmp_path: Path, text: str | None) -> None:
    task_vars = lab_of(tmp_path)
    manifest = tmp_path / "bundle" / "manifest.json"
    manifest.unlink()
    if text is not None:
        manifest.write_text(text)
    assert act({"do": "plan"}, task_vars)["met"] is False
    for one in the_plan(tmp_path)["hosts"].values():
        assert ids(one["problems"]) == ["LW-PLAN-030"]
        assert "LW-BUNDLE-00" in one["problems"][0]["message"]


def test_the_catalogue_is_read_once_for_each_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task_vars = lab_of(tmp_path)
    read: list[Path | None] = []
    load = LABWRIGHT.catalog.load

    def counted(env: Path, bundle: Path | None) -> Any:
        read.append(bundle)
        return load(env, bundle)

    monkeypatch.setattr(LABWRIGHT.catalog, "load", counted)
    act({"do": "plan"}, task_vars)
    assert read == [None, tmp_path / "bundle"]


def test_the_bundle_is_read_where_it_is_made(tmp_path: Path, maker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with its address alone, wherever the command is given."""
    monkeypatch.chdir(tmp_path)
    task_vars = lab_of(tmp_path, bundle=False, lab_bundle_url="http://192.0.2.1:8480")
    read: list[Path] = []

    def manifest_of(folder: Path) -> dict[str, Any]:
        read.append(folder)
        raise Problem("LW-BUNDLE-001", "there is none")

    monkeypatch.setattr(LABWRIGHT.catalog, "manifest_of", manifest_of)
    act({"do": "plan"}, task_vars)
    act({"do": "bundle"}, task_vars)
    assert set(read) == {ROOT / ".cache" / "bundle"}
    assert f"--out={ROOT}/.cache/bundle" in told(maker)["argv"]


def test_a_host_outside_of_limit_keeps_its_last_plan(tmp_path: Path) -> None:
    task_vars = lab_of(tmp_path)
    act({"do": "plan"}, task_vars)
    first = the_plan(tmp_path)
    task_vars["ansible_play_hosts_all"] = ["ctl10"]
    task_vars["hostvars"]["w11"]["hardware_facts"] = GPU  # remembered from another play, but not asked in this one
    assert act({"do": "plan"}, task_vars)["met"]
    assert the_plan(tmp_path)["hosts"]["w11"] == first["hosts"]["w11"]


def test_a_host_outside_of_limit_that_was_never_planned_is_a_problem(tmp_path: Path) -> None:
    task_vars = lab_of(tmp_path)
    task_vars["ansible_play_hosts_all"] = ["ctl10"]
    assert act({"do": "plan"}, task_vars)["met"] is False
    assert ids(the_plan(tmp_path)["hosts"]["w11"]["problems"]) == ["LW-PLAN-019"]


def test_a_host_that_did_not_answer_keeps_its_last_plan_with_a_problem(tmp_path: Path) -> None:
    task_vars = lab_of(tmp_path)
    act({"do": "plan"}, task_vars)
    first = the_plan(tmp_path)["hosts"]["w11"]
    del task_vars["hostvars"]["w11"]["hardware_facts"]
    assert act({"do": "plan"}, task_vars)["met"] is False
    second = the_plan(tmp_path)["hosts"]["w11"]
    assert ids(second["problems"]) == ["LW-PLAN-019"]
    assert {**second, "problems": []} == first


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"format": 0, "hosts": 3}'])
def test_a_last_plan_that_is_none_is_no_plan(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "plan.json").write_text(text)
    assert act({"do": "plan"}, lab_of(tmp_path))["met"]


def test_parts_of_hosts_that_are_gone_are_taken_away(tmp_path: Path) -> None:
    hosts = tmp_path / "plan" / "hosts"
    hosts.mkdir(parents=True)
    (hosts / "gone.example.org.json").write_text("{}")
    (hosts / "README").write_text("not ours")
    act({"do": "plan"}, lab_of(tmp_path))
    assert sorted(one.name for one in hosts.iterdir()) == ["README", "ctl10.json", "w11.json"]


@pytest.mark.parametrize("blocked", ["plan", "plan/hosts"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, blocked: str) -> None:
    task_vars = lab_of(tmp_path)
    (tmp_path / blocked).parent.mkdir(exist_ok=True)
    (tmp_path / blocked).write_text("a file stands here")
    result = act({"do": "plan"}, task_vars)
    assert (result["failed"], result["code"]) == (True, "LW-PLAN-028")
    assert str(tmp_path / "plan") in result["msg"]
    assert "lab_plan_dir" in result["msg"]


# met


def test_met_says_whether_every_wish_is_met(tmp_path: Path) -> None:
    task_vars = lab_of(tmp_path)
    act({"do": "plan"}, task_vars)
    assert act({"do": "met"}, task_vars) == {"changed": False, "failed": False, "msg": "every wish is met"}


def test_met_counts_the_problems_of_the_lab_and_of_the_hosts_in_the_play(tmp_path: Path) -> None:
    task_vars = lab_of(tmp_path, lab_models=["guess"])
    task_vars["groups"]["controller"] = []
    act({"do": "plan"}, task_vars)
    result = act({"do": "met"}, task_vars)
    assert result["failed"]
    assert result["msg"].startswith("LW-PLAN-034: Not every wish is met (LW-PLAN-001, LW-PLAN-003).")
    assert "(LW-PLAN-001)." in act({"do": "met", "of": "lab"}, task_vars)["msg"]
    task_vars["ansible_play_hosts_all"] = ["ctl10"]
    assert "(LW-PLAN-001)." in act({"do": "met"}, task_vars)["msg"]


def test_met_of_the_lab_lets_a_hosts_own_problem_pass(tmp_path: Path) -> None:
    task_vars = lab_of(tmp_path, lab_models=["guess"])
    act({"do": "plan"}, task_vars)
    assert act({"do": "met"}, task_vars)["failed"]
    assert not act({"do": "met", "of": "lab"}, task_vars)["failed"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"format": 1, "met": tr', "Expecting value"),
        ('{"format": 1, "lab": "lab", "hosts": null}', "not a plan"),
        ('{"format": 2}', "not a plan"),
        ("[]", "not a plan"),
        ('{"format": 1, "problems": [], "placed": {}, "hosts": {"w11": {"workers": [{}]}}}', "not a plan"),
        ('{"format": 1, "lab": "other", "problems": [], "placed": {}, "hosts": {}}', "lab_name other"),
    ],
)
def test_a_last_plan_that_cannot_be_used_is_said_and_made_anew(tmp_path: Path, text: str, why: str) -> None:
    task_vars = lab_of(tmp_path)
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "plan.json").write_text(text)
    result = act({"do": "plan"}, task_vars)
    (warning,) = result["warnings"]
    assert warning.startswith("LW-PLAN-032: ")
    assert why in warning
    assert act({"do": "plan"}, task_vars)["warnings"] == []


def test_a_host_cannot_be_named_like_the_control_node(tmp_path: Path) -> None:
    task_vars = lab_of(tmp_path)
    task_vars["groups"]["all"] = ["localhost", *task_vars["groups"]["all"]]
    result = act({"do": "check"}, task_vars)
    assert (result["failed"], result["code"]) == (True, "LW-PLAN-033")


def test_met_without_a_plan_says_so(tmp_path: Path) -> None:
    result = act({"do": "met"}, lab_of(tmp_path))
    assert (result["failed"], result["code"]) == (True, "LW-PLAN-029")


# read


def test_read_spells_this_hosts_part_out(tmp_path: Path) -> None:
    task_vars = lab_of(tmp_path)
    act({"do": "plan"}, task_vars)
    result = act({"do": "read"}, task_vars)
    assert (result["changed"], result["duties"]) == (False, ["controller", "api"])
    assert result["frontend"].endswith("/bin/python")
    worker = act({"do": "read"}, {**task_vars, "inventory_hostname": "w11"})["workers"][0]
    assert worker["url"] == "http://192.0.2.11:21002"


def test_a_host_gets_the_base_of_conda_that_it_wishes_for(tmp_path: Path) -> None:
    task_vars = lab_of(tmp_path, bundle=False)
    task_vars["hostvars"]["ctl10"]["anaconda_distribution"] = "miniconda"
    act({"do": "plan"}, task_vars)
    assert act({"do": "read"}, task_vars)["conda"]["installer"]["name"].startswith("Miniconda3-")


def test_read_without_a_plan_says_what_to_run(tmp_path: Path) -> None:
    result = act({"do": "read"}, lab_of(tmp_path))
    assert (result["failed"], result["code"]) == (True, "LW-PLAN-029")
    assert "playbooks/plan.yml" in result["msg"]


@pytest.mark.parametrize("text", ["", "{", "{}", "[]"])
def test_a_torn_part_is_no_plan(tmp_path: Path, text: str) -> None:
    task_vars = lab_of(tmp_path)
    act({"do": "plan"}, task_vars)
    (tmp_path / "plan" / "hosts" / "ctl10.json").write_text(text)
    result = act({"do": "read"}, task_vars)
    assert (result["failed"], result["code"]) == (True, "LW-PLAN-029")


def test_read_gives_all_problems_of_its_host_and_of_no_other(tmp_path: Path) -> None:
    task_vars = lab_of(tmp_path, facts={**PLAIN, "clock_skew_s": 4000.0}, lab_level="forced")
    act({"do": "plan"}, task_vars)
    result = act({"do": "read"}, {**task_vars, "inventory_hostname": "w11"})
    assert (result["failed"], result["code"]) == (True, "LW-PLAN-018")
    assert [line.split(": ")[:2] for line in result["msg"].splitlines()] == [
        ["LW-PLAN-018", "w11"],
        ["LW-HOST-001", "w11"],
    ]


def test_a_host_on_paper_is_never_changed(tmp_path: Path) -> None:
    task_vars = lab_of(tmp_path, hardware_given={})
    assert act({"do": "plan"}, task_vars)["met"]
    result = act({"do": "read"}, {**task_vars, "inventory_hostname": "w11"})
    assert (result["failed"], result["code"]) == (True, "LW-PLAN-020")


def test_a_bundle_that_was_broken_since_the_plan_is_a_sentence(tmp_path: Path) -> None:
    task_vars = lab_of(tmp_path)
    act({"do": "plan"}, task_vars)
    (tmp_path / "bundle" / "manifest.json").unlink()
    result = act({"do": "read"}, task_vars)
    assert (result["failed"], result["code"]) == (True, "LW-BUNDLE-001")
    assert result["msg"].startswith("LW-BUNDLE-001: ")


# leftovers and verdict


def test_leftovers_need_neither_facts_nor_a_plan() -> None:
    result = act({"do": "leftovers"}, variables(lab_root="/srv/lab"))
    assert result["root"] == "/srv/lab"
    assert not result["changed"]


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


# bundle and mirrors

# Stands for env/bundle.py: notes what it was told and what it found in the netrc file, and ends as the test says.
MAKER = """
import json, os, sys
from pathlib import Path
folder, netrc = Path(__file__).parent, os.environ.get("NETRC", "")
told = {"argv": sys.argv[1:], "netrc": Path(netrc).read_text() if netrc else "", "where": netrc}
told["mode"] = oct(os.stat(netrc).st_mode & 0o777) if netrc else ""
(folder / "told.json").write_text(json.dumps(told))
words = folder / "words"
if words.exists():
    print(words.read_text(), file=sys.stderr)
    sys.exit(1)
print(json.dumps({"changed": True, "how": "made", "folder": "/b"}))
"""


@pytest.fixture
def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "maker.py").write_text(MAKER)
    monkeypatch.setattr(LABWRIGHT, "MAKER", tmp_path / "maker.py")
    monkeypatch.delenv("NETRC", raising=False)
    return tmp_path


def told(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "told.json").read_text())
    return found


def test_the_bundle_is_made_as_the_first_host_wishes(maker: Path) -> None:
    wish = {"profile": "internal", "base": "https://mirror.example", "torch": "https://t.example/whl"}
    wishes: dict[str, Any] = {
        "lab_mirrors": wish,
        "lab_bundle_dir": str(maker / "b"),
        "lab_bundle_models": ["chatglm2-6b"],
    }
    result = act({"do": "bundle"}, variables(**wishes))
    assert result == {"changed": True, "msg": "made", "folder": "/b"}
    argv = told(maker)["argv"]
    assert argv[:2] == ["make", "--json"]
    assert set(argv[2:]) == {
        *(f"--out={maker}/b", "--source=auto", "--python=auto", "--model=chatglm2-6b"),
        *(
            "--mirror-conda-forge=https://mirror.example/conda-forge",
            "--mirror-miniforge=https://mirror.example/miniforge",
        ),
        *("--mirror-huggingface=https://mirror.example/huggingface", "--mirror-modelscope="),
        *("--python-index=https://mirror.example/simple", "--torch-index=https://t.example/whl"),
        *("--debian-mirror=https://mirror.example/debian", "--tag=cpu"),
    }
    assert told(maker)["netrc"] == ""


def test_the_bundle_serves_windows_hosts_where_there_are_some(maker: Path) -> None:
    task_vars = variables()
    task_vars["groups"]["windows"] = ["w11"]
    act({"do": "bundle"}, task_vars)
    assert [one for one in told(maker)["argv"] if one.startswith(("--platform", "--installer"))] == [
        "--platform=win-64"
    ]
    task_vars = variables(lab_docker_desktop=True)
    task_vars["groups"] |= {"windows": ["w11"], "agents": ["w11"]}
    act({"do": "bundle"}, task_vars)
    assert told(maker)["argv"][-2:] == ["--platform=win-64", "--installer=docker-desktop"]
    linux = variables(lab_docker_desktop=True)
    linux["groups"] |= {"agents": ["w11"]}
    act({"do": "bundle"}, linux)
    assert not any(one.startswith(("--platform", "--installer")) for one in told(maker)["argv"])


def test_the_bundle_takes_the_page_where_a_host_has_it(maker: Path) -> None:
    task_vars = variables()
    act({"do": "bundle"}, task_vars)
    assert "--also=web" not in told(maker)["argv"]
    task_vars["groups"]["web"] = ["ctl10"]
    act({"do": "bundle"}, task_vars)
    assert "--also=web" in told(maker)["argv"]


def test_the_bundles_maker_gets_logins_in_a_private_file_and_its_words_are_cleared_of_them(maker: Path) -> None:
    (maker / "words").write_text(f"From the kit.\nLW-BUNDLE-001: https://lab:{HUSH}@mirror.example answered 401.")
    result = act({"do": "bundle"}, variables(lab_mirror_credentials=LOGINS))
    said = told(maker)
    assert said["netrc"] == f"machine mirror.example login lab password {HUSH}\n"
    assert said["mode"] == "0o600"
    assert not Path(said["where"]).exists()
    assert HUSH not in json.dumps([result, said["argv"]])
    assert (result["failed"], result["code"]) == (True, "LW-BUNDLE-001")
    (maker / "words").write_text("Traceback: boom")
    result = act({"do": "bundle"}, variables())
    assert result["code"] == "LW-CONTROL-011"
    assert "ended with 1: Traceback: boom" in result["msg"]


@pytest.mark.parametrize(
    ("wishes", "code"),
    [
        ({"lab_mirrors": {"python": f"https://lab:{HUSH}@mirror.example"}}, "LW-VAR-003"),
        ({"lab_mirror_credentials": {"mirror.example": HUSH}}, "LW-VAR-004"),
        ({"lab_mirrors": {"profile": "moon"}}, "LW-MIRROR-010"),
    ],
)
def test_a_bundle_is_not_begun_with_wrong_wishes(maker: Path, wishes: dict[str, Any], code: str) -> None:
    result = act({"do": "bundle"}, variables(**wishes))
    assert (result["failed"], result["code"]) == (True, code)
    assert HUSH not in result["msg"]
    assert not (maker / "told.json").exists()


def test_without_a_host_the_bundle_is_made_with_the_defaults_and_in_check_mode_not_at_all(maker: Path) -> None:
    alone = variables() | {"groups": {"all": []}}
    alone["hostvars"]["localhost"] = {"lab_bundle_source": "kit"}
    check = action(LABWRIGHT, {"do": "bundle"}, check=True).run(None, alone)
    assert check["skipped"]
    assert not (maker / "told.json").exists()
    assert act({"do": "bundle"}, alone)["changed"]
    assert "--source=kit" in told(maker)["argv"]
    assert any(one.endswith("/.cache/bundle") for one in told(maker)["argv"])


def test_each_host_asks_what_it_needs_and_localhost_what_the_bundle_needs() -> None:
    asked = {}
    for name in ("localhost", "ctl10", "w11"):
        task_vars = variables(lab_mirrors={"profile": "china"})
        one = task_vars | {"inventory_hostname": name, "group_names": ["workers"] if name == "w11" else ["controller"]}
        request = act({"do": "needs", "timeout_s": "3"}, one)["request"]
        assert request["timeout_s"] == 3
        asked[name] = {row["name"] for row in request["mirrors"]}
    assert asked["localhost"] == {"installers", "conda_forge", "python", "torch", "debian"}
    assert asked["w11"] == {"installers", "conda_forge", "python", "torch"}
    assert asked["ctl10"] == {"installers", "conda_forge", "python"}


def test_the_table_of_mirrors_and_its_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    task_vars = variables()
    row = {"id": "mirror.torch.answers", "ok": True, "evidence": "it answers", "latency_ms": 1.0}
    view = task_vars["hostvars"]
    view["localhost"] = {"lab_mirror_answers": {"data": {"checks": [row]}}}
    view["ctl10"]["lab_mirror_answers"] = {"skipped": True}
    good = act({"do": "mirrors", "name": "lab_mirror_answers"}, task_vars)
    assert (good["failed"], good["msg"]) == (False, "1 answers are good, 0 are not")
    bad = {**row, "id": "mirror.torch.x", "ok": False, "evidence": "LW-MIRROR-003: not there: torch==2."}
    view["w11"]["lab_mirror_answers"] = {"data": {"checks": [row, bad]}}
    assert act({"do": "mirrors", "name": "lab_mirror_answers"}, task_vars)["failed"]
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "ok       localhost  mirror.torch.answers  it answers",
        "ok       w11        mirror.torch.answers  it answers",
        "LACKING  w11        mirror.torch.x        LW-MIRROR-003: not there: torch==2.",
    ]
    view["w11"]["lab_mirror_answers"] = {"failed": True, "msg": "no python"}
    assert "2 answers" not in act({"do": "mirrors", "name": "lab_mirror_answers"}, task_vars)["msg"]
    assert "no python" in capsys.readouterr().out


# secrets, keys, rotate, retire

PEOPLE = {"anna": "anna-1234567890123456789"}


def lab_with_agents(tmp_path: Path, **wishes: Any) -> dict[str, Any]:
    """The lab, planned, with agents on both hosts; the play holds one host and no other's facts."""
    task_vars = lab_of(tmp_path, lab_secrets_dir=str(tmp_path / "safe"), lab_api_keys=PEOPLE, **wishes)
    task_vars["groups"]["agents"] = ["ctl10", "w11"]
    act({"do": "plan"}, task_vars)
    for one in ("ctl10", "w11"):
        del task_vars["hostvars"][one]["hardware_facts"]
    return task_vars


def at(task_vars: dict[str, Any], name: str) -> dict[str, Any]:
    return {**task_vars, "inventory_hostname": name, "ansible_play_hosts_all": [name]}


def test_each_host_gets_what_its_duties_need_and_nobody_sees_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task_vars = lab_with_agents(tmp_path)
    first = act({"do": "secrets"}, at(task_vars, "ctl10"))
    assert (first["changed"], first["_ansible_no_log"], first["warnings"]) == (True, True, [])
    assert set(first["accepted"]) == {"anna", "operator", "agent-ctl10", "agent-w11"}
    assert (first["agent"], first["operator"]) == (
        first["accepted"]["agent-ctl10"][0],
        first["accepted"]["operator"][0],
    )
    assert set(first["people"]) == {"anna", "operator"}
    certificate = LABWRIGHT.authority.parse(first["certificate"].encode())[0]
    names = {LABWRIGHT.authority.general(name) for name in ("192.0.2.10", "ctl10")}
    assert LABWRIGHT.authority.covered(certificate) == names
    said = capsys.readouterr().out
    assert "keys/operator" in said
    assert not any(key in said for lines in first["accepted"].values() for key in lines)
    assert act({"do": "secrets"}, at(task_vars, "ctl10")) == {**first, "changed": False}
    second = act({"do": "secrets"}, at(task_vars, "w11"))
    assert set(second) == {"changed", "warnings", "authority", "agent", "_ansible_no_log"}
    assert (second["agent"], second["authority"]) == (first["accepted"]["agent-w11"][0], first["authority"])


def test_check_mode_hands_out_what_is_not_kept(tmp_path: Path) -> None:
    task_vars = lab_with_agents(tmp_path)
    result: dict[str, Any] = action(LABWRIGHT, {"do": "secrets"}, True).run(None, at(task_vars, "ctl10"))
    assert result["changed"]
    assert set(result["accepted"]) == {"anna", "operator", "agent-ctl10", "agent-w11"}
    assert result["key"].startswith("-----BEGIN")
    assert not (tmp_path / "safe").exists()


def test_a_host_without_duties_needs_no_secrets(tmp_path: Path) -> None:
    task_vars = lab_of(tmp_path, lab_secrets_dir=str(tmp_path / "safe"))
    act({"do": "plan"}, task_vars)
    assert act({"do": "secrets"}, at(task_vars, "w11"))["msg"] == "this host needs no secrets"
    assert not (tmp_path / "safe").exists()


def test_secrets_need_a_plan(tmp_path: Path) -> None:
    assert act({"do": "secrets"}, lab_of(tmp_path))["code"] == "LW-PLAN-029"


def test_a_new_agents_key_that_no_api_knows_yet_is_a_warning(tmp_path: Path) -> None:
    task_vars = lab_with_agents(tmp_path)
    (warning,) = act({"do": "secrets"}, at(task_vars, "w11"))["warnings"]
    assert warning.startswith("LW-KEYS-006: agent-w11 has a new key")
    assert act({"do": "secrets"}, at(task_vars, "w11"))["warnings"] == []


def test_the_sites_own_certificate_is_checked_and_handed_out(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    issuer = LABWRIGHT.authority.make_authority("site", now)
    pair = LABWRIGHT.authority.make_server(issuer, "x", ["192.0.2.10"], now)
    files = {"certificate": pair.certificate, "key": pair.key, "authority": issuer.certificate}
    given = {name: str(tmp_path / name) for name in files}
    task_vars = lab_with_agents(tmp_path, lab_certificate=given)
    result = act({"do": "secrets"}, at(task_vars, "ctl10"))
    assert (result["code"], pair.key.decode() in result["msg"]) == ("LW-TLS-001", False)
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    result = act({"do": "secrets"}, at(task_vars, "ctl10"))
    assert {name: result[name].encode() for name in files} == files
    assert not (tmp_path / "safe" / "ca.key").exists()
    task_vars["hostvars"]["ctl10"]["lab_api_names"] = ["lab.example"]
    assert act({"do": "secrets"}, at(task_vars, "ctl10"))["code"] == "LW-TLS-004"


def test_an_authority_that_the_control_node_has_lost_is_told_before_another_is_made(tmp_path: Path) -> None:
    task_vars = at(lab_with_agents(tmp_path), "ctl10")
    assert act({"do": "read"}, task_vars)["authority"] == "/etc/labwright/ca.crt"
    there = act({"do": "secrets"}, task_vars)["authority"]
    assert act({"do": "trusted", "there": there}, task_vars) == {"changed": False, "msg": "as before"}
    (tmp_path / "safe").rename(tmp_path / "lost")
    assert act({"do": "trusted", "there": there}, task_vars)["code"] == "LW-TLS-010"
    assert not (tmp_path / "safe").exists()
    task_vars["hostvars"]["ctl10"]["lab_certificate"] = dict.fromkeys(("certificate", "key", "authority"), "/site/x")
    assert "code" not in act({"do": "trusted", "there": there}, task_vars)


def test_keys_are_listed_and_rotated_without_being_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task_vars = lab_with_agents(tmp_path)
    old = act({"do": "secrets"}, at(task_vars, "ctl10"))["accepted"]
    assert act({"do": "rotate", "name": "operator"}, task_vars) == {"changed": True, "msg": "the keys of operator"}
    both = act({"do": "secrets"}, at(task_vars, "ctl10"))["accepted"]["operator"]
    assert both[1] == old["operator"][0]
    capsys.readouterr()
    assert act({"do": "keys"}, task_vars)["msg"].startswith("4 names have a key")
    said = capsys.readouterr().out
    assert "two keys are accepted" in said
    assert not any(key in said for key in [*both, *PEOPLE.values()])
    assert act({"do": "retire", "name": "operator"}, task_vars)["changed"]
    assert act({"do": "secrets"}, at(task_vars, "ctl10"))["accepted"]["operator"] == both[:1]
    assert act({"do": "rotate", "name": "anna"}, task_vars)["code"] == "LW-KEYS-005"


def test_no_key_is_rotated_where_a_limit_leaves_out_who_would_need_it(tmp_path: Path) -> None:
    task_vars = lab_with_agents(tmp_path)
    both = act({"do": "secrets"}, at(task_vars, "ctl10"))["accepted"]
    for do in ("rotate", "retire"):
        refused = act({"do": do, "name": "operator"}, at(task_vars, "ctl10"))
        assert refused["code"] == "LW-KEYS-007"
        assert "leaves out w11" in refused["msg"]
    assert act({"do": "secrets"}, at(task_vars, "ctl10"))["accepted"] == both
    (first, *_, last, _accept) = yaml.safe_load((ROOT / "playbooks/keys.yml").read_text(encoding="utf-8"))
    assert (first["hosts"], last["hosts"]) == ("all", "{{ 'all' if rotate is defined else 'none' }}")


def test_check_finds_names_that_share_a_key() -> None:
    task_vars = variables(lab_api_keys={"anna": PEOPLE["anna"], "ben": PEOPLE["anna"]})
    result = act({"do": "check"}, task_vars)
    assert (result["code"], PEOPLE["anna"] in result["msg"]) == ("LW-KEYS-001", False)
