"""playbooks/tidy.yml under a real ansible-playbook, on this machine and below a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hostkit.state import STAMP
from labwright import doors
from unit.programs import ROOT

LEFT = ("envs/chatglm2-cpu-0", "models/older")


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A host on which an environment and a model of ours are left, and a folder of somebody else's."""
    for name in LEFT:
        (tmp_path / "root" / name).mkdir(parents=True)
        (tmp_path / "root" / name / STAMP).write_text("{}\n")
    (tmp_path / "root" / "models" / "theirs").mkdir()
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    wishes = {"lab_root": str(tmp_path / "root"), "lab_plan_dir": str(tmp_path / "plan")}
    (tmp_path / "hosts.yml").write_text(json.dumps({"all": {"hosts": {"w1": {**host, **wishes}}}}))
    return tmp_path


def tidy(lab: Path, entry: dict[str, Any], *more: str) -> tuple[int, str]:
    """With this part of a plan: the exit status and what was said."""
    host = {"name": "w1", "source": "seen", "problems": [], "workers": [], "duties": [], **entry}
    (lab / "plan" / "hosts").mkdir(parents=True, exist_ok=True)
    part = {"language": "en", "host": host, "served": [], "worker_urls": [], "doors": doors.NONE}
    (lab / "plan" / "hosts" / "w1.json").write_text(json.dumps(part))
    program = str(Path(sys.executable).parent / "ansible-playbook")
    argv = [program, str(ROOT / "playbooks/tidy.yml"), "-i", str(lab / "hosts.yml"), *more]
    settings = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_LOCAL_TEMP": str(lab / "tmp"), "HOME": str(lab)}
    done = subprocess.run(argv, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_what_no_plan_names_is_listed_and_then_removed(lab: Path) -> None:
    status, said = tidy(lab, {}, "--check")
    assert status == 0, said
    assert [str(lab / "root" / name) in said for name in LEFT] == [True, True]
    assert [(lab / "root" / name).is_dir() for name in LEFT] == [True, True]
    status, said = tidy(lab, {})
    assert status == 0, said
    assert sorted(path.relative_to(lab).as_posix() for path in (lab / "root").rglob("*")) == [
        "root/models",
        "root/models/theirs",
    ]
    status, said = tidy(lab, {})
    assert (status, "changed=0" in said) == (0, True), said


def test_nothing_is_removed_before_the_plan_is_made(lab: Path) -> None:
    status, said = tidy(lab, {"duties": ["agent"]})
    assert status != 0
    assert "LW-HOSTKIT-013" in said, said
    assert [(lab / "root" / name).is_dir() for name in LEFT] == [True, True]
