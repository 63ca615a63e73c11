"""The road, on the same hosts: check, interrupted runs, the run, the second run, what people changed. In this order."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_lab import HOSTS, ROOT, WORKER, Lab, known_tasks

# The snapshot of the fresh hosts comes first, whichever tests are chosen.
pytestmark = pytest.mark.usefixtures("fresh")


def test_check_mode_on_fresh_hosts_does_not_fail_and_changes_nothing(lab: Lab, fresh: dict[str, set[str]]) -> None:
    run = lab.play("site.yml", "--check", "--diff")
    assert run.status == 0
    assert all(run.recap[host]["failed"] == 0 for host in HOSTS)
    assert lab.changes(fresh) == []


@pytest.mark.parametrize(
    ("task", "program"),
    [
        ("Run the installer", "tar|labwright/conda|installer"),
        ("Make the environments up to torch, or remove them", "pip install|conda install"),
        ("Bring the model's files or remove it|Bring the model's files or remove them", ""),
    ],
)
def test_a_run_killed_in_the_middle_is_survived(lab: Lab, task: str, program: str) -> None:
    run = lab.start("site.yml")
    assert run.stdout is not None
    for line in run.stdout:
        if line.startswith("TASK") and re.search(task, line):
            break
    else:
        pytest.fail(f"the run never came to {task!r}")
    # Let the host begin with it, then pull the plug on both ends: the control node, and what runs on the host.
    deadline = time.monotonic() + 60
    while program and time.monotonic() < deadline:
        if lab.ssh("e2e-w1", f"pgrep -f '{program}' | grep -vw $$ || true"):
            break
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    lab.ssh(
        "e2e-w1", "pkill -KILL -f hostkit-; pkill -KILL -f 'pip install'; pkill -KILL -f 'conda'; true", check=False
    )


def test_the_next_run_converges_and_the_agent_gets_an_answer(lab: Lab) -> None:
    run = lab.play("site.yml")
    assert run.status == 0, lab.verdict()
    verdict = lab.verdict()
    assert verdict["ok"]
    ids = {check["id"] for check in verdict["checks"]}
    assert {
        "service.labwright-controller", "service.labwright-api", "service.labwright-gateway",
        "service.labwright-web", "page.login",
        "service.labwright-worker-labwright-demo",
        "controller.workers", "controller.each_worker", "worker.labwright-demo", "firewall.loaded",
        "gateway.certificate", "gateway.closed", "api.models",
        "api.completion.labwright-demo", "api.stream.labwright-demo", "api.embeddings.labwright-demo", "agent.answer",
    } == ids  # fmt: skip


@pytest.mark.parametrize(
    ("host", "environments"),
    [("e2e-ctl", ["agents", "frontend", "web"]), ("e2e-w1", ["chatglm2-cpu"]), ("e2e-w2", ["current-cpu"])],
)
def test_every_environment_holds_together(lab: Lab, host: str, environments: list[str]) -> None:
    folder = "/opt/labwright/envs"
    assert lab.ssh(host, f"find {folder} -maxdepth 1 -type l -printf '%f\n' | sort").split() == environments
    for name in environments:
        assert lab.ssh(host, f"{folder}/{name}/bin/python -m pip check") == "No broken requirements found."


def test_each_worker_serves_from_the_stack_that_its_host_asks_for(lab: Lab) -> None:
    for host, stack in (("e2e-w1", "chatglm2"), ("e2e-w2", "current")):
        running = lab.ssh(host, f"systemctl show -P ExecStart {WORKER}")
        assert f"/opt/labwright/envs/{stack}-cpu-" in running


def test_the_second_run_changes_nothing(lab: Lab) -> None:
    run = lab.play("site.yml")
    assert run.status == 0
    assert run.changed() == 0


def test_check_mode_on_converged_hosts_reports_no_change(lab: Lab) -> None:
    run = lab.play("site.yml", "--check", "--diff")
    assert run.status == 0
    assert run.changed() == 0


ASSISTANTS = [task for task in known_tasks() if task["program"] == "assistant"]


@pytest.mark.parametrize("task", ASSISTANTS, ids=lambda task: str(task["id"]))
def test_the_agent_answers_every_task_with_code_that_ran(lab: Lab, task: dict[str, object]) -> None:
    text = shlex.quote(str(task["task"]))
    raw = lab.ssh("e2e-ctl", f"/opt/labwright/bin/labwright-agent assistant --json --task {text}")
    said = json.loads(raw.splitlines()[-1])
    assert said["verdict"] == "answered"
    assert said["exit_code"] == 0
    assert re.fullmatch(str(task["output"]), said["output"]), said["output"]


def test_the_conversation_is_shown_to_people(lab: Lab) -> None:
    run = lab.play("playbooks/ask.yml", task="Print the first 10 prime numbers.")
    assert run.status == 0
    for part in ("Print the first 10 prime numbers.", "```python", "29]", "TERMINATE", "answered"):
        assert part in run.text


def test_a_task_that_the_model_does_not_know_is_not_called_answered(lab: Lab) -> None:
    raw = lab.ssh("e2e-ctl", "/opt/labwright/bin/labwright-agent assistant --json --task 'Write a novel.'", check=False)
    assert json.loads(raw.splitlines()[-1])["verdict"] != "answered"


def test_what_somebody_changed_by_hand_is_found_and_put_right(lab: Lab) -> None:
    prefix = "/opt/labwright/envs/frontend"
    lab.ssh("e2e-ctl", f"{prefix}/bin/python -m pip uninstall -q -y --root-user-action=ignore shortuuid")
    run = lab.play(
        "playbooks/preflight.yml", "playbooks/services.yml", "playbooks/verify.yml", "--limit", "e2e-ctl,localhost"
    )
    assert "shortuuid" in run.text
    assert lab.ssh("e2e-ctl", f"{prefix}/bin/python -c 'import shortuuid; print(shortuuid.__name__)'") == "shortuuid"


def test_what_somebody_installed_by_hand_is_found_and_taken_out(lab: Lab) -> None:
    prefix = "/opt/labwright/envs/agents"
    lock = (ROOT / "env/stacks/frontend/fastchat-linux-64.txt").read_text(encoding="utf-8")
    version = re.findall(r"^shortuuid==(\S+)", lock, re.MULTILINE)[0]
    wheel = f"http://10.83.41.1:8480/wheels/shortuuid-{version}-py3-none-any.whl"
    install = f"{prefix}/bin/python -m pip install -q --no-cache-dir --no-deps --root-user-action=ignore"
    lab.ssh("e2e-ctl", f"{install} {wheel}")
    run = lab.play(
        "playbooks/preflight.yml", "playbooks/agents.yml", "playbooks/verify.yml", "--limit", "e2e-ctl,localhost"
    )
    assert f"shortuuid {version} is in no lock" in run.text
    assert run.recap["e2e-ctl"]["failed"] == 0
    assert "No module" in lab.ssh("e2e-ctl", f"{prefix}/bin/python -c 'import shortuuid' 2>&1", check=False)


@pytest.fixture
def workshop(lab: Lab) -> Iterator[str]:
    """The training script with what it reads, on a worker, and how to run it there in the environment that serves."""
    folder = "/root/workshop"
    package = sorted(path for end in ("py", "json") for path in (ROOT / "agents/labwright_agents").rglob(f"*.{end}"))
    for path in (ROOT / "env/models/train.py", ROOT / "env/models/rehearsal.py", *package):
        to, text = f"{folder}/{path.relative_to(ROOT)}", path.read_text(encoding="utf-8")
        lab.ssh("e2e-w1", f"mkdir -p {Path(to).parent}; cat > {to} <<'END_OF_FILE'\n{text}\nEND_OF_FILE\n")
    lab.ssh("e2e-w1", f"cp -r /opt/labwright/models/labwright-demo {folder}/model")
    python = "/opt/labwright/envs/chatglm2-cpu/bin/python -W ignore"
    yield f"cd {folder}; HOME={folder} OMP_WAIT_POLICY=PASSIVE {python} env/models/train.py"
    lab.ssh("e2e-w1", f"rm -rf {folder}")


def test_the_stored_model_answers_its_whole_exam(lab: Lab, workshop: str) -> None:
    lab.ssh("e2e-w1", f"{workshop} --check model", timeout=900)


def test_the_script_still_learns(lab: Lab, workshop: str) -> None:
    """A few steps of the training that made the stored files; a whole one takes minutes."""
    said = lab.ssh("e2e-w1", f"{workshop} learnt --steps 60 2>/dev/null || true", timeout=900)
    losses = [float(loss) for loss in re.findall(r"loss\s+([0-9.]+)", said)]
    assert len(losses) >= 2, said
    assert losses[-1] < losses[0] / 2, losses
