"""playbooks/ask.yml with a command that only says what it was given: the task arrives as it was written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from unit.programs import ROOT

COMMAND = f"""#!{sys.executable}
import json, sys
print(json.dumps(sys.argv[1:]))
sys.exit(2)
"""
TEXT = """Explain {{ lookup("pipe", "touch FOLDER/ran") }} to me,
and write a Vue page with {{ name }}, {% if x %} and {# y #}; \\n, "$$x^2$$", '${HOME}', `sh` and 中文."""


def asked(folder: Path, *words: str) -> list[str]:
    """What the command on the host is called with."""
    command = folder / "bin/labwright-agent"
    command.parent.mkdir()
    command.write_text(COMMAND)
    command.chmod(0o755)
    (folder / "hosts.yml").write_text("agents: {hosts: {here: {ansible_connection: local}}}\n")
    given = {"lab_root": str(folder), "ansible_python_interpreter": sys.executable}
    own = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_LOCAL_TEMP": str(folder / "tmp")}
    argv = ["-i", f"{folder}/hosts.yml", f"{ROOT}/playbooks/ask.yml", "-e", json.dumps(given), *words]
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), *argv],
        env={**os.environ, **own, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
             "ANSIBLE_COLLECTIONS_PATH": f"{ROOT}/.venv/collections"},
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    told, _rest = json.JSONDecoder().raw_decode(done.stdout[done.stdout.index("{") :])
    (result,) = [one["hosts"]["here"] for one in told["plays"][0]["tasks"] if one["task"]["name"] == "Give it the task"]
    found: list[str] = json.loads(result["stdout"])
    assert not (folder / "ran").exists()
    return found


@pytest.mark.parametrize("by_file", [False, True], ids=["in a variable", "by a file"])
def test_a_task_is_no_template_and_names_no_variable(tmp_path: Path, by_file: bool) -> None:
    text = TEXT.replace("FOLDER", str(tmp_path))
    (tmp_path / "task.txt").write_text(text + "\n", encoding="utf-8")
    words = {"task_file": f"{tmp_path}/task.txt"} if by_file else {"task": text}
    assert asked(tmp_path, "-e", json.dumps(words))[:3] == ["assistant", "--task", text]


def test_without_a_task_the_lab_has_one(tmp_path: Path) -> None:
    assert asked(tmp_path, "-e", "lab_task='Say hello.'")[:3] == ["assistant", "--task", "Say hello."]
