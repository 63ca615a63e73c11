"""The five-line scripts of docs/agents.md, to the letter, and problems 3 to 7 of the recipe of 2023."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest

from scripted import CODE, DONE, KEY, PYTHON, RECIPE, Lab, scripts


@pytest.mark.parametrize("client", ["autogen", "openai", "curl"])
def test_a_script_of_five_lines_works_with_the_labs_configuration(lab: Lab, client: str) -> None:
    endpoint = lab.endpoint("Hello from the lab.")
    program = ["bash", "-c"] if client == "curl" else [PYTHON, "-c"]
    script = scripts()[client]
    assert sum(bool(line) for line in script.splitlines()) <= 5
    env = lab.environment(OAI_CONFIG_LIST=str(lab.config_file), NO_PROXY="127.0.0.1", no_proxy="127.0.0.1")
    done = subprocess.run(
        [*program, script], env=env, cwd=lab.folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    said = (
        json.loads(done.stdout)["choices"][0]["message"]["content"]
        if client == "curl"
        else done.stdout.splitlines()[-1]
    )
    assert said == "Hello from the lab."
    assert endpoint.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert endpoint.requests[0]["model"] == "m"


NO_DOCKER: dict[str, Any] = {"code_execution_config": {"use_docker": False, "work_dir": "w"}}


def recipe(lab: Lab, more: dict[str, Any], user: dict[str, Any], before: str = "") -> subprocess.CompletedProcess[str]:
    """The recipe's program, with the wrong setting that is given."""
    # Where /.dockerenv exists AutoGen believes itself in a container, and asks for no Docker.
    hide = "import os.path as p; e = p.exists; p.exists = lambda x: x != '/.dockerenv' and e(x)\n"
    env = lab.environment(
        OAI_CONFIG_LIST=str(lab.config_file), NO_PROXY="127.0.0.1", DOCKER_HOST="unix:///nowhere.sock"
    )
    return subprocess.run(
        [PYTHON, "-c", hide + before + RECIPE, json.dumps(more), json.dumps(user)],
        env=env,
        cwd=lab.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_recipe_itself_works_with_our_settings(lab: Lab) -> None:
    lab.endpoint(CODE, DONE)
    assert recipe(lab, {}, NO_DOCKER).returncode == 0


@pytest.mark.parametrize(
    ("number", "more", "error"),
    [
        (3, {"api_base": "http://127.0.0.1:9527/v1"}, "unexpected keyword argument 'api_base'"),
        (4, {"api_type": "azure"}, "Error code: 404|Missing credentials|azure"),
        (5, {"model": "ChatGLM-6B"}, "Only chatglm2-6b allowed now, your model ChatGLM-6B"),
    ],
)
def test_what_the_recipes_configuration_did_is_a_sentence_with_ours(
    lab: Lab, number: int, more: dict[str, Any], error: str
) -> None:
    """As the recipe of 2023 had it, each fails; the same setting is named before or instead, and ours succeeds."""

    def fastchat(request: dict[str, Any]) -> Any:
        if request["model"] != "m":
            said = f"Only chatglm2-6b allowed now, your model {request['model']}"
            return 400, {"object": "error", "message": said, "code": 40301}
        return CODE if request["messages"][-1]["content"].endswith("Print 42.") else DONE

    endpoint = lab.endpoint(fastchat)
    failed = recipe(lab, more, NO_DOCKER)
    assert failed.returncode != 0
    assert re.search(error, failed.stderr), failed.stderr[-500:]
    assert lab.ask("assistant")[1]["verdict"] == "answered"
    lab.config({"base_url": endpoint.url, **more})
    status, said = lab.ask("assistant")
    assert (status, said["id"]) == (2, "LW-AGENT-012" if number == 5 else "LW-AGENT-004")


def test_a_missing_docker_package_does_not_matter_to_ours(lab: Lab) -> None:
    """Problem 6: the package is not there, or another module of its name is."""
    without = "import sys, types; sys.modules['docker'] = types.ModuleType('docker')\n"
    lab.endpoint(CODE, DONE)
    failed = recipe(lab, {}, {"code_execution_config": {"use_docker": True, "work_dir": "w"}}, without)
    assert failed.returncode != 0
    assert "docker" in failed.stderr.splitlines()[-1]
    assert lab.ask("assistant")[1]["verdict"] == "answered"  # the lock has it, and ours asks it for nothing
    (lab.folder / "docker.py").touch()  # the folder of the program comes first on its path
    assert lab.ask("assistant")[1]["id"] == "LW-AGENT-020"


def test_a_missing_docker_engine_does_not_matter_to_ours(lab: Lab) -> None:
    """Problem 7: by default AutoGen wants an engine, and fails when the agent is made."""
    lab.endpoint(CODE, DONE)
    failed = recipe(lab, {}, {})
    assert failed.returncode != 0
    assert "docker is not running" in failed.stderr
    done = lab.run("assistant", "--task", "x", "--json", AUTOGEN_USE_DOCKER="1", DOCKER_HOST="unix:///nowhere.sock")
    assert json.loads(done.stdout)["verdict"] == "answered"
