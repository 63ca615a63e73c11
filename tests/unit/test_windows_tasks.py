"""Tasks for Windows hosts keep the rules of windows_rules.py, and each rule finds what it is for."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from unit import windows_rules as rules

FILES = rules.files()


def of_windows(path: Path) -> bool:
    """Whether a file is for Windows hosts alone."""
    return path.stem == "windows" or "windows" in path.parts or path.parts[-3] == "installer"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(rules.ROOT)))
def test_the_tasks_of_each_file_keep_the_rules(path: Path) -> None:
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    found = [
        (task.get("name"), fault) for task in rules.tasks(loaded) for fault in rules.faults(task, of_windows(path))
    ]
    assert found == []


def test_there_are_files_for_windows_in_each_role_that_runs_there() -> None:
    roles = {
        path.relative_to(rules.ROOT / "roles").parts[0] for path in FILES if of_windows(path) and "roles" in path.parts
    }
    expected = {
        "anaconda",
        "autogen",
        "docker",
        "fastchat",
        "firewall",
        "git",
        "hardware",
        "installer",
        "service",
        "torch",
        "transformers",
    }
    assert roles == expected


BAD = [
    ("ansible.windows.win_service: {nam: x}", "no option nam"),
    ("ansible.windows.win_service: {name: x, start_mode: automatic}", "start_mode is 'automatic'"),
    ("ansible.windows.win_get_url: {url: u, checksum: '1', checksum_algorithm: sha256}", "dest is missing"),
    ("ansible.windows.win_get_url: {url: u, dest: d}", "without its sha256"),
    ("ansible.windows.win_file: {path: C:\\x, state: directory, recurse: true}", "no option recurse"),
    ("ansible.windows.win_reboot: {msg: x, reboot_timeout: 3, test: y}", "no option test"),
    ("ansible.windows.win_firewall: some words", "takes no free form"),
    ("ansible.windows.win_pip: {name: x}", "there is no such module"),
    ("ansible.windows.win_copy: {src: a, dest: b, remote_src: 'perhaps'}", "expected true or false"),
    ("ansible.windows.win_shell: {cmd: x}", "no shell and no PowerShell"),
    ("ansible.windows.win_powershell: {script: x}", "no shell and no PowerShell"),
    ("ansible.builtin.raw: x", "no shell and no PowerShell"),
    ("ansible.builtin.command: {cmd: x}", "does not run on a Windows host"),
    ("ansible.builtin.file: {path: x}", "does not run on a Windows host"),
    ("hostkit: {verb: tree, request: {path: '{{ a }}/b'}}", "as on Linux"),
    ("ansible.windows.win_file: {path: '{{ a | dirname }}', state: absent}", "as on Linux"),
    ("ansible.windows.win_acl: {path: x, user: Users, type: allow, rights: Read}", "another name on a Windows"),
    ("community.windows.win_nssm: {name: x}", "restarts no service"),
    ("ansible.windows.win_command: {cmd: 'x.exe /S /D=\"C:\\a b\"'}", "not the last word without quotes"),
    ("ansible.windows.win_command: {cmd: 'x.exe /D=C:\\a /S'}", "not the last word"),
    ("ansible.windows.win_command: {cmd: 'x.exe /S /D=C:\\Program Files\\a'}", "not the last word"),
    ("ansible.windows.win_command: {cmd: 'u.exe _?=C:\\a /S'}", "not the last word"),
    ("ansible.windows.win_command: x.exe /S /D=C:\\a /AddToPath=0", "not the last word"),
    ("ansible.windows.win_command: {argv: [x.exe, /S, '/D=C:\\a']}", "/D= in argv"),
    (
        "ansible.windows.win_command: {cmd: 'x.exe /InstallationType=AllUsers /AddToPath=0 /RegisterPython=0 /D=C:\\'}",
        "told /S",
    ),
    (
        "ansible.windows.win_command: {cmd: 'x /InstallationType=JustMe /AddToPath=0 /RegisterPython=0 /S /D=C:\\'}",
        "AllUsers",
    ),
    ("ansible.windows.win_command: {cmd: 'git.exe /VERYSILENT /NORESTART'}", "told /SUPPRESSMSGBOXES"),
    (
        "{ansible.builtin.include_role: {name: installer}, vars: {installer_arguments: /install /quiet}}",
        "told /norestart",
    ),
    (
        "{ansible.builtin.include_role: {name: installer}, vars: {installer_arguments: install --quiet}}",
        "told --accept-license",
    ),
]


@pytest.mark.parametrize(("text", "words"), BAD)
def test_a_bad_task_is_found(text: str, words: str) -> None:
    assert words in " ".join(rules.faults(yaml.safe_load(text), windows=True))


GOOD = [
    "ansible.windows.win_command: {cmd: 'x /InstallationType=AllUsers /AddToPath=0 /RegisterPython=0 /S /D={{ p }}'}",
    "ansible.windows.win_command: {argv: [cmd.exe, /c, rmdir, x]}",
    "ansible.windows.win_acl: {path: x, user: S-1-5-18, type: allow, rights: Read, inherit: 'ObjectInherit'}",
    "{ansible.builtin.include_role: {name: installer}, vars: {installer_arguments: /install /quiet /norestart}}",
]


@pytest.mark.parametrize("text", GOOD)
def test_a_good_task_is_not(text: str) -> None:
    assert rules.faults(yaml.safe_load(text), windows=True) == []


@pytest.mark.parametrize("lock", sorted(rules.ROOT.glob("env/**/*-linux-64.txt")), ids=lambda path: path.name)
def test_each_lock_has_its_windows_half_or_is_of_an_engine_for_linux(lock: Path) -> None:
    beside = lock.with_name(lock.name.replace("-linux-64", "-win-64"))
    assert beside.exists() or lock.parent.name == "vllm"
