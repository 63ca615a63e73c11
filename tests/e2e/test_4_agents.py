"""The agent programs on the lab: coder, research, a killed batch, scripts of people, the wrong settings of 2023."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e_lab import MODEL, ROOT, Lab, known_tasks

from scripted import RECIPE, scripts

pytestmark = pytest.mark.usefixtures("fresh")

AGENT = "/opt/labwright/bin/labwright-agent"
HOME = "/var/lib/labwright-agent"
PYTHON = "/opt/labwright/envs/agents/bin/python"
CODER = next(task for task in known_tasks() if task["id"] == "leap-year")
OTHERS = [task for task in known_tasks() if task["program"] != "assistant"]


def as_agent(lab: Lab, script: str, check: bool = True) -> str:
    """Run lines of bash on the host as the agents' user, with what docs/agents.md has people export."""
    return lab.ssh(
        "e2e-ctl",
        f"cd {HOME}; exec setpriv --reuid=labwright-agent --regid=labwright-agent --clear-groups "
        f"env HOME={HOME} bash -c {shlex.quote(scripts()['export'] + script)}",
        check,
    )


@pytest.mark.parametrize("task", OTHERS, ids=lambda task: str(task["id"]))
def test_coder_and_research_do_their_tasks(lab: Lab, task: dict[str, Any]) -> None:
    said = json.loads(lab.ssh("e2e-ctl", f"{AGENT} {task['program']} --json --example {task['id']}").splitlines()[-1])
    assert said["verdict"] == "answered"
    if task["program"] == "coder":
        count = len(task["attempts"])
        assert [run["exit_code"] for run in said["executions"]] == [1] * (count - 1) + [0]
        assert [one["name"] for one in said["messages"]].count("critic") == count - 1
        assert re.fullmatch(r"\d tests passed\n", said["output"])
    else:
        assert [one["where"] for one in said["sources"] if one["cited"]] == task["cites"]


def test_a_task_with_tests_of_the_control_node_and_its_transcripts(lab: Lab, tmp_path: Path) -> None:
    tests = tmp_path / "test_leap.py"
    tests.write_text("\n".join(CODER["tests"]) + "\n", encoding="utf-8")
    run = lab.play("playbooks/ask.yml", program="coder", task=CODER["task"], tests=str(tests))
    assert run.status == 0
    found = re.search(r"The conversation is in (\S+)\.html", run.text)
    assert found
    events = [json.loads(line) for line in Path(f"{found[1]}.jsonl").read_text(encoding="utf-8").splitlines()]
    assert (events[-1]["verdict"], events[-1]["passed"]) == ("answered", True)
    page = Path(f"{found[1]}.html").read_text(encoding="utf-8")
    assert "<title>coder: answered</title>" in page
    assert all(who in page for who in (">writer", ">critic", "2 tests passed"))


def test_documents_on_the_host_are_cited_by_file_and_line(lab: Lab) -> None:
    task = next(one for one in OTHERS if one["id"] == "api-port")
    documents = json.loads((ROOT / "agents/labwright_agents/tasks.json").read_text(encoding="utf-8"))["documents"]
    for name, lines in documents.items():
        text = shlex.quote("\n".join(lines) + "\n")
        lab.ssh("e2e-ctl", f"mkdir -p /srv/papers; printf %s {text} > /srv/papers/{name}")
    options = ["--documents", "/srv/papers"]
    run = lab.play("playbooks/ask.yml", program="research", task=task["task"], options=options)
    lab.ssh("e2e-ctl", "rm -r /srv/papers")
    assert run.status == 0
    assert f"[1] {task['cites'][0]} (cited)" in run.text


HELLO = "Hello! I am the small demo model of Labwright."


@pytest.mark.parametrize("client", ["autogen", "openai"])
def test_the_five_lines_of_the_documentation_work_as_they_stand(lab: Lab, client: str) -> None:
    assert as_agent(lab, f"{PYTHON} -c {shlex.quote(scripts()[client])}").splitlines()[-1] == HELLO


@pytest.fixture
def curl(lab: Lab) -> Iterator[str]:
    """What lets bash find curl, which the bare host lacks: the packages are unpacked, and not installed."""
    folder = "/tmp/labwright-curl"  # noqa: S108
    lab.ssh(
        "e2e-ctl",
        f"mkdir -p {folder}/partial; apt-get -q update; apt-get install -q -y --no-install-recommends --download-only "
        f"-o Dir::Cache::archives={folder} curl; for one in {folder}/*.deb; do dpkg-deb -x $one {folder}; done; "
        f"chmod -R a+rX {folder}",
    )
    yield f"export PATH={folder}/usr/bin:$PATH LD_LIBRARY_PATH={folder}/usr/lib/x86_64-linux-gnu\n"
    lab.ssh("e2e-ctl", f"rm -r {folder}")


def test_the_lines_for_curl_work_as_they_stand(lab: Lab, curl: str) -> None:
    said = json.loads(as_agent(lab, curl + scripts()["curl"]))
    assert said["choices"][0]["message"]["content"] == HELLO


@pytest.fixture
def many(lab: Lab) -> Iterator[list[dict[str, Any]]]:
    """Fifty tasks of two programs, in a file on the host."""
    known = [task for task in known_tasks() if task["program"] == "assistant"]
    rows = [{"id": f"t{number}", "task": known[number % len(known)]["task"]} for number in range(40)]
    options = {"tests": f"{HOME}/many/tests.py"}
    rows += [{"id": f"c{n}", "program": "coder", "task": CODER["task"], "options": options} for n in range(10)]
    files = {"tasks.jsonl": "\n".join(map(json.dumps, rows)), "tests.py": "\n".join(CODER["tests"])}
    lab.ssh("e2e-ctl", f"rm -rf {HOME}/many; install -d -o labwright-agent {HOME}/many")
    for name, text in files.items():
        lab.ssh("e2e-ctl", f"printf '%s\\n' {shlex.quote(text)} > {HOME}/many/{name}")
    yield rows
    lab.ssh("e2e-ctl", f"rm -rf {HOME}/many")


def test_a_batch_of_fifty_is_killed_in_the_middle_and_ends_at_the_second_start(
    lab: Lab, many: list[dict[str, Any]]
) -> None:
    results = f"{HOME}/many/results.jsonl"
    command = f"{AGENT} batch --json --tasks {HOME}/many/tasks.jsonl --results {results}"
    count = f"grep -c . {results} 2>/dev/null || true"
    lab.ssh("e2e-ctl", f"setsid {command} </dev/null >/dev/null 2>&1 &")
    deadline = time.monotonic() + 240
    while int(lab.ssh("e2e-ctl", count) or 0) < 5:
        assert time.monotonic() < deadline, "no results"
        time.sleep(0.5)
    unit = lab.ssh("e2e-ctl", "systemctl list-units --plain --no-legend 'labwright-agent-*.service'").split()[0]
    lab.ssh("e2e-ctl", f"kill -9 $(systemctl show -P MainPID {unit})")
    before = lab.ssh("e2e-ctl", f"cat {results}").splitlines()
    assert 5 <= len(before) < 50
    said = json.loads(lab.ssh("e2e-ctl", command, timeout=900).splitlines()[-1])
    assert (said["tasks"], said["verdicts"], said["open"]) == (50, {"answered": 50}, 0)
    assert said["at_once"] > 1
    after = lab.ssh("e2e-ctl", f"cat {results}").splitlines()
    assert after[: len(before) - 1] == before[:-1]  # the last may have been half a line
    assert sorted(json.loads(line)["id"] for line in after) == sorted(row["id"] for row in many)


def recipe(lab: Lab, **more: str) -> str:
    """What the recipe's program says when it ends, with something added to each entry of the lab's configuration."""
    user = {"code_execution_config": {"use_docker": False, "work_dir": f"{HOME}/recipe"}}
    words = " ".join(shlex.quote(one) for one in (RECIPE, json.dumps(more), json.dumps(user)))
    return as_agent(lab, f"{PYTHON} -W ignore -c {words} 2>&1; echo status $?").rstrip()


@pytest.mark.parametrize(
    ("number", "wrong", "error"),
    [
        (3, {"api_base": "http://127.0.0.1:9527/v1"}, "unexpected keyword argument 'api_base'"),
        (4, {"api_type": "azure"}, "azure|Error code: 404"),
        (5, {"model": "ChatGLM-6B"}, f"Only {MODEL} allowed now, your model ChatGLM-6B"),
    ],
)
def test_the_recipes_wrong_settings_fail_on_the_real_fastchat(
    lab: Lab, number: int, wrong: dict[str, str], error: str
) -> None:
    """Problems 6 and 7 have no FastChat in them, and are in agents/tests."""
    said = recipe(lab, **wrong)
    assert said.endswith("status 1"), number
    assert re.search(error, said), said[-600:]


def test_the_recipe_works_with_the_labs_own_settings(lab: Lab) -> None:
    assert recipe(lab).endswith("status 0")
    lab.ssh("e2e-ctl", f"rm -rf {HOME}/recipe")
