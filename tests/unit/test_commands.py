"""Every command in the documents is known, and those that need no host run as they are written."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import documented
from documented import ROOT, as_written, blocks, checkout, commands, known, pages, run
from labwright import wishes

OWN_LAB = ROOT / "docs/own-lab.md"
CARDS: dict[str, dict[str, Any]] = {  # what the three hosts of docs/own-lab.md may be
    "gpu01": {"driver_version": "580.95.05", "gpus": [{"name": "NVIDIA GeForce RTX 4090", "memory_mib": 24564}]},
    "gpu02": {"driver_version": "560.35.03", "gpus": [{"name": "NVIDIA A100-SXM4-80GB", "memory_mib": 81920}]},
    "win01": {"driver_version": "581.15", "gpus": [{"name": "NVIDIA GeForce RTX 5090", "memory_mib": 32607}]},
}


def test_every_command_of_the_documents_is_known_and_no_other() -> None:
    rows = [command for by_test in known().values() for listed in by_test.values() for command in listed]
    assert len(rows) == len(set(rows))
    assert {command: where for command, where in commands().items() if command not in rows} == {}
    assert sorted(set(rows) - set(commands())) == []


@pytest.mark.parametrize("test", sorted({*known()["as_written"], *known()["like"]}))
def test_a_test_that_is_named_is_there_and_runs_what_is_said(test: str) -> None:
    path, _, name = test.partition("::")
    text = (ROOT / path).read_text(encoding="utf-8")
    assert f"def {name}(" in text
    for command in known()["like"].get(test, []):
        for playbook in re.findall(r"playbooks/\w+\.yml", command):
            made = "".join(one.read_text(encoding="utf-8") for one in sorted((ROOT / path).parent.glob("*.py")))
            upward = (ROOT / "playbooks/demo_up.yml").read_text(encoding="utf-8") if "demo_up" in made else ""
            assert playbook in made or Path(playbook).name in upward, f"{path} runs no {playbook}"


def test_every_block_says_what_it_is() -> None:
    lacking = [page.name for page in pages() for language, _text in blocks(page) if not language]
    assert lacking == [], "write ```sh, ```text …: a command is found by it"


def test_every_target_of_make_that_a_document_names_is_there() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    ours = [page for page in pages() if page.name != "problems.md"]  # which tells what upstream's make does
    named = {one for page in ours for one in re.findall(r"`make ([a-z0-9-]+)", page.read_text(encoding="utf-8"))}
    named |= {command.split()[1] for command in commands() if command.startswith("make ")}
    assert sorted(named - targets) == []


@pytest.mark.parametrize("command", as_written("test_a_command_of_the_control_node_runs_as_written"))
def test_a_command_of_the_control_node_runs_as_written(tmp_path: Path, command: str) -> None:
    folder = checkout(tmp_path)
    (folder / "requirements.txt").write_text("transformers==4.33.3\n", encoding="utf-8")
    (folder / "WIN01.pem").write_text("a certificate\n", encoding="utf-8")
    done = run(folder, command)
    assert done.returncode == 0, done.stdout + done.stderr
    if "secrets" in command:
        assert wishes.problems("ctl", {"lab_api_keys": {"anna": done.stdout.strip()}}, {}) == []
    if ".pem" in command:
        login = yaml.safe_load((ROOT / "inventories/lab/group_vars/windows/login.yml").read_text(encoding="utf-8"))
        trusted = login["ansible_winrm_ca_trust_path"].replace("{{ inventory_dir }}", "inventories/lab")
        assert (folder / trusted).read_text(encoding="utf-8") == "a certificate\n"


@pytest.mark.parametrize("command", as_written("test_make_has_nothing_to_do_where_it_was_done"))
def test_make_has_nothing_to_do_where_it_was_done(command: str) -> None:
    done = run(ROOT, f"{command} --question")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", [OWN_LAB, ROOT / "docs/zh/own-lab.md"], ids=["en", "zh"])
def test_two_linux_hosts_and_one_with_windows_are_planned_as_written(tmp_path: Path, page: Path) -> None:
    """The inventory and the wishes of the page, on machines that are there on paper only."""
    (command,) = as_written("test_two_linux_hosts_and_one_with_windows_are_planned_as_written")
    hosts, wish = [yaml.safe_load(text) for language, text in blocks(page) if language == "yaml"][:2]
    for name, card in CARDS.items():
        hosts["all"]["hosts"][name]["hardware_given"] = {"memory_mib": 65536, "disk_free_mib": 500000} | card
    folder = checkout(tmp_path)
    shutil.copytree(ROOT / "inventories/lab/group_vars", folder / "lab/group_vars")
    (folder / "lab/hosts.yml").write_text(yaml.safe_dump(hosts), encoding="utf-8")
    shown = wish | {"lab_plan_dir": str(tmp_path / "plan")}
    (folder / "lab/group_vars/all/lab.yml").write_text(yaml.safe_dump(shown), encoding="utf-8")
    login = folder / "lab/group_vars/windows/login.yml"
    login.write_text(
        login.read_text(encoding="utf-8").replace('"{{ vault_windows_password }}"', "none"), encoding="utf-8"
    )
    done = run(folder, command)
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("gpu01", "gpu02", "win01", "qwen2.5-7b-instruct", "api 9527"):
        assert words in done.stdout
    assert done.stdout.count("qwen2.5-7b-instruct  ") >= len(CARDS)


@pytest.mark.parametrize("page", [ROOT / "docs/plan.md", ROOT / "docs/zh/plan.md"], ids=["en", "zh"])
def test_machines_on_paper_are_planned_as_written(tmp_path: Path, page: Path) -> None:
    *wiring, plan = as_written("test_machines_on_paper_are_planned_as_written")
    hosts = next(yaml.safe_load(text) for language, text in blocks(page) if language == "yaml")
    hosts["all"]["vars"]["lab_plan_dir"] = str(tmp_path / "plan")
    folder = checkout(tmp_path)
    shutil.copytree(ROOT / "inventories/lab/group_vars", folder / "inventories/lab/group_vars")
    assert [run(folder, one).returncode for one in wiring] == [0, 0, 0]
    for group in ("all", "windows"):
        assert (folder / f"inventories/paper/group_vars/{group}/wiring.yml").is_file()
    (folder / "inventories/paper/hosts.yml").write_text(yaml.safe_dump(hosts), encoding="utf-8")
    done = run(folder, plan)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(words in done.stdout for words in ("old ", "new ", "RTX 5090", "chatglm2-6b"))


def test_a_command_is_found_with_its_continuation_and_without_its_comment(tmp_path: Path, monkeypatch: Any) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```sh\none --with \\\n  more   # why\n\n# a comment\n```\n```text\nno command\n```\n", encoding="utf-8"
    )
    monkeypatch.setattr(documented, "ROOT", tmp_path)
    assert commands() == {"one --with more": ["page.md"]}
