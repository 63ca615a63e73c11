"""A Windows host that cannot be reached, or is wished wrongly: a sentence with an id says so, and the others go on."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from targets_lab import ROOT, Target

pytest_plugins = ["targets_fixtures"]
PAPER = {"platform": "linux-64", "memory_mib": 16384, "disk_free_mib": 100000}
Said = tuple[int, str, dict[str, list[str]]]


def played(book: str, folder: Path, targets: Sequence[Target], **variables: Any) -> Said:
    """Run a playbook of the lab for Windows workers, the first of them with these variables, and a controller on
    paper: the exit status, the words, and the ids of each host's problems in the plan."""
    told = {one.name: {**one.told["inventory"], "lab_address": f"192.0.2.2{at}"} for at, one in enumerate(targets)}
    told[targets[0].name] |= variables
    paper = {"hosts": {"paper": {"ansible_host": "192.0.2.10", "hardware_given": PAPER}}}
    groups = {"controller": paper, "api": paper, "workers": {"hosts": told}, "windows": {"hosts": dict.fromkeys(told)}}
    wish = {"lab_models": ["qwen2.5-0.5b-instruct"], "lab_bundle_url": "", "lab_plan_dir": str(folder / "plan")}
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": groups, "vars": wish}}))
    for name in ("all", "windows"):
        place = folder / "group_vars" / name
        place.mkdir(parents=True, exist_ok=True)
        if not (place / "wiring.yml").exists():
            (place / "wiring.yml").symlink_to(ROOT / "inventories/lab/group_vars" / name / "wiring.yml")
    argv = [str(ROOT / ".venv/bin/ansible-playbook"), "-i", str(folder / "hosts.yml"), str(ROOT / book)]
    settings = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    done = subprocess.run(argv, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=600, check=False)
    print(done.stdout + done.stderr)
    plan = folder / "plan/plan.json"
    hosts = json.loads(plan.read_text(encoding="utf-8"))["hosts"] if plan.exists() else {}
    return (
        done.returncode,
        done.stdout + done.stderr,
        {name: [row["id"] for row in entry["problems"]] for name, entry in hosts.items()},
    )


def there(target: Target) -> list[str]:
    """Every file of the target, but what each connection leaves for a moment."""
    found = (path.relative_to(target.drive_c).as_posix() for path in target.drive_c.rglob("*"))
    return sorted(one for one in found if not one.lower().startswith(("windows/temp", "users/root/temp")))


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"ansible_password": "wrong"}, "credentials were rejected"),
        ({"ansible_winrm_ca_trust_path": "/etc/ssl/certs/ca-certificates.crt"}, "CERTIFICATE_VERIFY_FAILED"),
        ({"ansible_winrm_scheme": "http"}, "UNREACHABLE"),
    ],
    ids=["wrong password", "untrusted certificate", "HTTP where HTTPS is wanted"],
)
def test_one_that_lets_nobody_in_is_named_and_the_others_are_planned(
    target: Target, other: Target, tmp_path: Path, variables: dict[str, Any], words: str
) -> None:
    status, text, problems = played("playbooks/plan.yml", tmp_path, [target, other], **variables)
    assert status != 0
    assert words in text
    assert problems == {target.name: ["LW-PLAN-019"], other.name: [], "paper": []}


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        ({"lab_root": "C:\\the lab"}, "LW-VAR-002"),
        ({"lab_store": "C:\\ProgramData\\the store"}, "LW-VAR-002"),
        ({"lab_root": "/opt/labwright"}, "LW-PLAN-041"),
    ],
    ids=["a space", "a space in another", "of Linux"],
)
def test_a_folder_that_cannot_be_is_refused_before_anything_is_changed(
    target: Target, tmp_path: Path, variables: dict[str, Any], code: str
) -> None:
    before = there(target)
    status, text, _ = played("playbooks/preflight.yml", tmp_path, [target], **variables)
    assert (status != 0, code in text) == (True, True)
    assert there(target) == before
