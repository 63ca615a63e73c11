"""What the demo's model learns is what the programs ask: they hold each of its conversations, and ask nothing else."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from labwright_agents.running import known
from models.rehearsal import rehearse
from scripted import Lab

TASKS = known()["tasks"]


def without_version(text: str) -> str:
    """One program prints the version of its Python, and the tests' own may be another."""
    return re.sub(r"Python [.\d]+", "", text)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task["id"])
def test_a_program_asks_what_the_model_has_learnt_and_succeeds(lab: Lab, task: dict[str, Any]) -> None:
    learnt = rehearse([task])
    endpoint = lab.endpoint(*(one.answer for one in learnt))
    program = task.get("program", "assistant")
    done = lab.run(program, "--example", task["id"], "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said["verdict"] == "answered"
    asked = [[without_version(one["content"]) for one in request["messages"]] for request in endpoint.requests]
    assert asked == [[without_version(text) for text in (one.system, *one.messages)] for one in learnt]
    if program == "assistant":
        assert re.fullmatch(task["output"], said["output"])
    if program == "coder":
        assert [one["exit_code"] == 0 for one in said["executions"]] == [False] * (len(task["attempts"]) - 1) + [True]
    if program == "research":
        assert [one["where"] for one in said["sources"] if one["cited"]] == task["cites"]
