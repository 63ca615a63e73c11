"""The code of models against both kinds of sandbox: each attack is stopped, its cause said, and the lab as it was."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from e2e_lab import API, HERE, Lab

pytestmark = pytest.mark.usefixtures("fresh")

HOST = "e2e-ctl"
CONFIG = "/etc/labwright/agents/OAI_CONFIG_LIST"
SETTINGS = "/etc/labwright/agents/sandbox.json"
AGENT = "/opt/labwright/bin/labwright-agent"
ATTACKS = yaml.safe_load((HERE / "attacks.yml").read_text(encoding="utf-8"))
# As the agents' user: the work folder goes into a box, and what comes back is listed.
RUN = """
import json, pathlib, sys, tempfile
from labwright_agents import sandbox
asked = json.load(sys.stdin)
folder = pathlib.Path(tempfile.mkdtemp())
settings = sandbox.read(pathlib.Path(asked["settings"]))
box = sandbox.Box(settings, folder, asked["seconds"], lambda run: None)
status, output, cause = box.run(asked["language"], asked["code"])
left = sorted(ascii(str(path.relative_to(folder)))[1:-1] for path in folder.rglob("*") if not path.is_dir())
links = [str(path) for path in folder.rglob("*") if path.is_symlink()]
print(json.dumps({"status": status, "output": output[-2000:], "cause": cause, "left": left, "links": links}))
"""
# What is said straight to the keeper, by somebody who has the agents' user.
SAY = """
import json, socket, sys
line = socket.socket(socket.AF_UNIX)
line.connect("/run/labwright-sandbox.sock")
line.sendall(json.load(sys.stdin).encode() + b"\\n")
print(json.dumps(line.makefile().readline()))
"""


def as_agent(lab: Lab, program: str, said: Any) -> Any:
    """What a program prints that runs as the agents' user, with `said` as JSON on its standard input."""
    python = "PYTHONPATH=/opt/labwright/agents PYTHONDONTWRITEBYTECODE=1 /opt/labwright/envs/agents/bin/python"
    give = f"printf %s {shlex.quote(json.dumps(said))}"
    return json.loads(
        lab.ssh(HOST, f"cd /tmp; {give} | runuser -u labwright-agent -- env {python} -c {shlex.quote(program)}")
    )


def attack(lab: Lab, one: dict[str, Any]) -> Any:
    """What came of one attack."""
    code = one["code"]
    for word, value in {"<api>": API, "<key>": lab.key(f"agent-{HOST}"), "<config>": CONFIG}.items():
        code = code.replace(word, value)
    asked = {"settings": SETTINGS, "language": one.get("language", "python"), "code": code}
    return as_agent(lab, RUN, {**asked, "seconds": one.get("seconds", 60)})


@pytest.fixture(scope="module", params=["docker", "unit"])
def kind(lab: Lab, request: pytest.FixtureRequest) -> Iterator[str]:
    """The two kinds, each by the keeper that the role put in place; the role itself chose Docker here."""
    before = lab.ssh(HOST, f"cat {SETTINGS}")
    assert json.loads(before)["kind"] == "docker"
    lab.ssh(HOST, f'sed -i \'s/"kind": "docker"/"kind": "{request.param}"/\' {SETTINGS}')
    yield str(request.param)
    lab.ssh(HOST, f'sed -i \'s/"kind": "{request.param}"/"kind": "docker"/\' {SETTINGS}')
    assert lab.ssh(HOST, f"cat {SETTINGS}") == before


SWEPT = (
    "for n in $(seq 60); do systemctl list-units --state=deactivating --plain --no-legend 'labwright-sandbox@*'"
    " | grep -q . || break; sleep 0.5; done"
)


def remains(lab: Lab) -> str:
    """Whatever there is on the host of any box, by everything that can make one. A keeper looks behind itself after it
    gave its answer; while it does, it is waited for."""
    return lab.ssh(
        HOST,
        f"{SWEPT};"
        "ls -A /run/labwright-boxes; docker ps --all --quiet; grep labwright-box /proc/mounts || true;"
        "systemctl list-units --all --plain --no-legend 'labwright-box*' 'labwright-sandbox@*';"
        "ps -eo uid,args | awk '$1 >= 1900000000 && $1 < 2100000000'; pgrep -fa '^sleep 7654' || true",
    )


def test_code_runs_and_leaves_its_files(lab: Lab, kind: str) -> None:
    code = "import os, pathlib\npathlib.Path('a').mkdir()\npathlib.Path('a/left').write_text('x')\nprint(os.getcwd())"
    said = attack(lab, {"code": code})
    assert said == {"status": 0, "output": "/run/work\n", "cause": "", "left": ["a/left", "code.py"], "links": []}
    said = attack(lab, {"code": "echo a | awk '{print $1}'", "language": "bash"})
    assert (said["status"], said["output"], said["cause"]) == (0, "a\n", "")


@pytest.mark.parametrize("one", ATTACKS, ids=lambda one: str(one["name"]).replace(" ", "-"))
def test_an_attack_is_stopped_and_its_cause_said(lab: Lab, kind: str, one: dict[str, Any]) -> None:
    said = attack(lab, one)
    assert said["status"] != 0, said
    assert said["cause"].startswith(one["id"] + ": ") if "id" in one else True, said
    assert re.search(one.get("says", ""), said["output"]), said
    assert said["left"] == one["left"] if "left" in one else "code" in str(said["left"]), said
    assert said["links"] == []
    assert remains(lab) == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"files": {"../evil": "", "code.py": ""}}, "no name below the work folder"),
        ({"files": {"/etc/evil": "", "code.py": ""}}, "no name below the work folder"),
        ({"files": {"a/../../evil": "", "code.py": ""}}, "no name below the work folder"),
        ({"files": {"a": "", "a/b": "", "code.py": ""}}, "cannot be written"),
        ({"files": {"x" * 300: "", "code.py": ""}}, "cannot be written"),
        ({"files": {}}, "not among the files"),
        ({"language": "perl"}, "language 'perl'"),
        ({"seconds": 10**6}, "at most 900 s"),
        ({"seconds": -1}, "at most 900 s"),
        ({"seconds": "x"}, "no request"),
        ({"files": ["code.py"]}, "no request"),
        ({"files": {"code.py": "*"}}, "no request"),
    ],
)
def test_the_keeper_refuses_what_is_no_request(lab: Lab, kind: str, change: dict[str, Any], words: str) -> None:
    request = {"language": "python", "script": "code.py", "seconds": 5, "files": {"code.py": ""}}
    assert words in json.loads(as_agent(lab, SAY, json.dumps({**request, **change})))["fault"]
    assert remains(lab) == ""


def test_nobody_else_reaches_the_keeper_or_docker(lab: Lab, kind: str) -> None:
    knock = "python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"/run/{}.sock\")' 2>&1"
    for user, door in (("nobody", "labwright-sandbox"), ("nobody", "docker"), ("labwright-agent", "docker")):
        said = lab.ssh(HOST, f"runuser -u {user} -- {knock.format(door)}", check=False)
        assert "PermissionError" in said, (user, door, said)


SLEEPER = json.dumps(
    {"language": "sh", "script": "x", "seconds": 600, "files": {"x": "c2xlZXAgNzY1NA=="}}
)  # sleep 7654
BEGUN = "for n in $(seq 90); do pgrep -f '^sleep 7654' >/dev/null && exit 0; sleep 1; done; exit 1"
ENDED = 'for n in $(seq 90); do [ -z "$(ls -A /run/labwright-boxes)" ] && exit 0; sleep 1; done; exit 1'


@pytest.mark.parametrize(
    "kill", ["systemctl kill --signal=KILL 'labwright-sandbox@*.service'", "pkill -KILL -f wait-for-it"]
)
def test_who_asks_or_keeps_and_is_killed_leaves_no_box(lab: Lab, kind: str, kill: str) -> None:
    words = f"runuser -u labwright-agent -- /opt/labwright/envs/agents/bin/python -c {shlex.quote(SAY)} wait-for-it"
    lab.ssh(HOST, f"(printf %s {shlex.quote(json.dumps(SLEEPER))} | {words}) >/dev/null 2>&1 &")
    lab.ssh(HOST, BEGUN)
    assert "labwright-box" in remains(lab)
    lab.ssh(HOST, kill)
    lab.ssh(HOST, ENDED)
    assert remains(lab) == ""


def test_the_check_of_the_role_passes(lab: Lab, kind: str) -> None:
    words = {"docker": "a Docker container", "unit": "a locked-down systemd unit"}
    assert words[kind] in lab.ssh(HOST, f"{AGENT} check")


def test_a_conversation_is_not_fooled_by_a_file_that_says_docker(lab: Lab, kind: str) -> None:
    """Where /.dockerenv exists AutoGen believes itself in a container, and runs code where it is."""
    count = "journalctl -u 'labwright-sandbox@*' | grep -c 'Started labwright-sandbox@' || true"
    before = int(lab.ssh(HOST, count))
    lab.ssh(HOST, "touch /.dockerenv")
    try:
        raw = lab.ssh(HOST, f"{AGENT} assistant --json --task 'Print the first 10 prime numbers.'")
    finally:
        lab.ssh(HOST, "rm /.dockerenv")
    said = json.loads(raw.splitlines()[-1])
    assert (said["verdict"], said["sandbox"].split()[-3:]) == ("answered", ["of", "its", "own"])
    assert kind in said["sandbox"].lower()
    assert int(lab.ssh(HOST, count)) > before


def test_an_engine_that_is_not_there_is_found_when_the_agents_are_deployed(lab: Lab) -> None:
    """Problems 6 and 7 of the recipe of 2023: there a conversation ends in a traceback, at its first code."""
    lab.ssh(HOST, "systemctl stop docker.socket docker.service")
    try:
        run = lab.play("playbooks/preflight.yml", "playbooks/agents.yml", "--limit", f"{HOST},localhost")
        said = lab.ssh(HOST, f"{AGENT} assistant --task 'Print the first 10 prime numbers.' 2>&1", check=False)
    finally:
        lab.ssh(HOST, "systemctl start docker.socket docker.service")
    assert run.status != 0
    assert "LW-AGENT-069" in run.text
    assert "Cannot connect to the Docker daemon" in run.text
    assert "LW-AGENT-069" in said
    assert "Traceback" not in said


def test_the_lab_is_as_it_was(lab: Lab) -> None:
    assert lab.wait_until_it_answers()["ok"]
    assert remains(lab) == ""
