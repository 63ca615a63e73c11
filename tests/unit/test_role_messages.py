"""What roles refuse to do, each in a real play: every assertion stops its host before anything is changed.

The hosts are this machine. Modules of Windows are scripts that answer as their host is said to; the roles, Ansible and
hostkit are the real ones, and all paths that they are given lie in a folder of the test.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from unit.hostkit.loopback import Reply, serving
from unit.labwright.test_windows_facts import DISKS, NOW, setup
from unit.programs import ROOT

# Runs under the name of each module of Windows: the answer that the host's variable has for it.
MODULE = """#!/usr/bin/python
# WANT_JSON
import json, os, sys
with open(sys.argv[1]) as stream:
    name = json.load(stream)["_ansible_module_name"].rpartition(".")[2]
print(json.dumps({"changed": False, **json.loads(os.environ["ANSWERS"]).get(name, {})}))
"""
MODULES = {
    "ansible": (
        "win_acl win_acl_inheritance win_command win_copy win_file win_find win_get_url win_listen_ports_facts "
        "win_group_membership win_optional_feature win_owner win_reboot win_reg_stat win_regedit win_stat"
    ),
    "community": "win_disk_facts",
}
# Waiting for a program to be gone takes three minutes; only the waiting is shortened.
HURRIED = "import time\nslept = time.sleep\ntime.sleep = lambda seconds: slept(min(seconds, 0.01))\n"
PLAY = [
    {
        "hosts": "all",
        "gather_facts": False,
        "check_mode": "{{ only_looked_at | default(false) }}",
        "ignore_errors": "{{ goes_on | default(false) }}",
        "environment": {
            "ANSWERS": "{{ answers | default({}) | to_json }}",
            "PATH": "{{ folder }}:{{ lookup('ansible.builtin.env', 'PATH') }}",
        },
        "tasks": [
            {
                "name": "Say what the host is",
                "ansible.builtin.set_fact": {
                    "distribution": "{{ distribution | default('Debian') }}",
                    "distribution_version": "41",
                    "distribution_major_version": "41",
                    "os_product_type": "{{ product | default('workstation') }}",
                    "cacheable": True,
                },
            },
            {"name": "Let the role refuse", "ansible.builtin.include_role": {"name": "{{ role }}"}},
        ],
    }
]
DATA = b"an installer that does nothing"
SUM = hashlib.sha256(DATA).hexdigest()
FOUND = {"exists": True, "properties": {"V": {"value": "1"}, "UninstallString": {"value": "C:\\git\\unins000.exe"}}}
INSTALLER = {
    "role": "installer",
    "installer_name": "Git",
    "installer_registry": {"path": "HKLM:\\Git", "name": "V"},
    "installer_record": "{{ folder }}/record",
    "installer_store": "{{ folder }}/store",
    "installer_file": {"url": "{{ server }}/git.exe", "sha256": SUM, "name": "git.exe", "size": len(DATA)},
}
CONDA = {"role": "anaconda", "anaconda_store": "{{ folder }}/store", "anaconda_prefix": "{{ folder }}/conda"}
WINDOWS = {"anaconda_system": "windows", "anaconda_prefix": "C:\\labwright\\conda", "anaconda_store": "C:\\store"}
NONE = {"dockerd": "exit 127", "docker": "exit 127"}  # whatever this machine has
DOCKER = {"role": "docker", "docker_record": "{{ folder }}/record", "programs": NONE}
DESKTOP = {**DOCKER, "docker_system": "windows"}
# What Ansible asks Windows for its memory with fails here. The role only looks; what it saw is given.
HARDWARE = {"role": "hardware", "hardware_system": "windows", "hardware_paths": [], "goes_on": True}
OLDER = 'import sys; sys.version_info = (3, 8, 10); sys.version = "3.8.10 (default)"; exec(sys.argv[1])'
OURS = {"win_stat": {"stat": {"exists": True}}}
NOTHING = {"win_stat": {"stat": {"exists": False}}}


def seen(**more: Any) -> dict[str, Any]:
    """What the modules tell of a Windows host without a card."""
    none: dict[str, list[Any]] = {name: [] for name in ("ports", "stamps", "cards", "details", "paths")}
    return {"setup": setup(**more), "disks": DISKS, "now": NOW, **none}


# By host: its variables, and what the role says in the end.
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "terms": (
        {**CONDA, "anaconda_distribution": "miniconda"},
        "LW-ANACONDA-001: anaconda_distribution is miniconda and anaconda_terms_accepted is false",
    ),
    "space": (
        {**CONDA, "anaconda_prefix": "{{ folder }}/a b"},
        'LW-ANACONDA-002: anaconda_prefix is "{folder}/a b"; expected a path without a space',
    ),
    "disk": (
        {**CONDA, **WINDOWS, "anaconda_prefix": "C:\\conda"},
        'LW-ANACONDA-002: anaconda_prefix is "C:\\conda"; expected a path such as C:\\labwright\\conda',
    ),
    "foreign": (
        {**CONDA, "anaconda_prefix": "{{ folder }}"},
        "LW-ANACONDA-003: {folder} is there already and Labwright did not make it",
    ),
    "half": (
        {
            **CONDA,
            **WINDOWS,
            "answers": {**NOTHING, "win_reg_stat": {"value": 1}, "win_command": {"rc": 0, "msg": "x"}},
        },
        "LW-ANACONDA-004: Miniforge3-25.11.0-1-Windows-x86_64.exe ended with 0 and left no python.exe",
    ),
    "fedora": (
        {**DOCKER, "distribution": "Fedora", "only_looked_at": True},
        "LW-DOCKER-001: Fedora 41 has no package of the Docker engine that this role knows",
    ),
    "strangers": (
        {**DOCKER, "docker_users": ["root", "nobody-of-that-name"]},
        "LW-DOCKER-005: docker_users names nobody-of-that-name; expected users of strangers",
    ),
    "silent": (
        {**DOCKER, "programs": {"dockerd": "echo 27", "docker": "echo Cannot connect. >&2; exit 1"}},
        "LW-DOCKER-006: silent has a Docker engine that Labwright did not bring, and it does not answer at "
        "/run/docker.sock (Cannot connect.); expected that it runs",
    ),
    "size": (
        {"role": "gateway", "gateway_body_max": "lots"},
        'LW-GATEWAY-013: gateway_body_max is "lots"; expected a number',
    ),
    "nowhere": (
        {"role": "package", "package_record": "packages/git"},
        'LW-PACKAGE-001: what is installed is to be noted in "packages/git"; expected a path that begins with /',
    ),
    "unknown": (
        {
            "role": "package",
            "package_record": "{{ folder }}/record",
            "package_names": ["no-such-package"],
            "only_looked_at": True,
        },
        f"LW-PACKAGE-002: apt cannot install no-such-package on {platform.node()}; expected that its sources have "
        "them, and that nothing has to be removed for them. It says: E: Unable to locate package no-such-package. Mend",
    ),
    "desktop": (DESKTOP, "LW-DOCKER-002: docker_desktop_terms_accepted is false; expected true"),
    "server": (
        {**DESKTOP, "product": "server", "docker_desktop_terms_accepted": True},
        "LW-DOCKER-003: server is a Windows Server; expected Windows 10 or 11",
    ),
    "features": (
        {
            **DESKTOP,
            "docker_desktop_terms_accepted": True,
            "answers": {"win_optional_feature": {"reboot_required": True}},
        },
        "LW-DOCKER-004: features has to be restarted before Docker Desktop can be installed",
    ),
    "python38": (
        {
            "role": "hardware",
            "ansible_python_interpreter": "{{ folder }}/python3.8",
            "programs": {"python3.8": f"exec '{sys.executable}' -c '{OLDER}' \"$2\""},
        },
        "LW-HARDWARE-001: no Python 3.9 or newer answers as `{folder}/python3.8` on python38 (it is Python 3.8.10).",
    ),
    "arm": (
        {**HARDWARE, "answered": seen(ansible_architecture2="ARM 64-bit Processor")},
        "LW-HARDWARE-002: arm is Windows on ARM 64-bit Processor; expected Windows on x86_64",
    ),
    "old": (
        {**HARDWARE, "answered": seen(ansible_distribution_version="10.0.10240.0")},
        "LW-HARDWARE-003: old is Windows 10.0.10240.0; expected 10.0.14393",
    ),
    "failed": (
        {**INSTALLER, "answers": {**NOTHING, "win_reg_stat": {"exists": False}, "win_command": {"rc": 5, "msg": "no"}}},
        "LW-INSTALLER-001: the installer of Git (git.exe) ended with 5 (no), and the registry then has version none;",
    ),
    "lied": (
        {**INSTALLER, "answers": {**NOTHING, "win_reg_stat": {"exists": False}, "win_command": {"rc": 0, "msg": "ok"}}},
        "LW-INSTALLER-001: the installer of Git (git.exe) ended with 0 (ok), and the registry then has version none;",
    ),
    "older": (
        {**INSTALLER, "answers": {**OURS, "win_reg_stat": FOUND, "win_command": {"rc": 5, "msg": "no"}}},
        "LW-INSTALLER-001: the installer of Git (git.exe) ended with 5 (no), and the registry then has version 1;",
    ),
    "restart": (
        {**INSTALLER, "answers": {**OURS, "win_reg_stat": FOUND, "win_command": {"rc": 3010}}},
        "LW-INSTALLER-002: Git is installed and wants restart to be restarted before it is used",
    ),
    "stays": (
        {
            **INSTALLER,
            "installer_state": "absent",
            "answers": {**OURS, "win_reg_stat": FOUND, "win_command": {"rc": 1}},
        },
        "LW-INSTALLER-003: Git is still there three minutes after `C:\\git\\unins000.exe` ended with 1;",
    ),
}


def failures(result: Mapping[str, Any]) -> Iterator[str]:
    """The words of a task that failed, or of its items that did."""
    for one in result.get("results", [result]):
        if one.get("failed"):
            yield str(one["msg"])


@pytest.fixture(scope="module", name="said")
def said_fixture(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[str, str]]:
    """One play for all that are asked for: by host its folder, and what failed there in the end."""
    top = tmp_path_factory.mktemp("roles")
    for namespace, names in MODULES.items():
        modules = top / f"collections/ansible_collections/{namespace}/windows/plugins/modules"
        modules.mkdir(parents=True)
        for name in names.split():
            (modules / f"{name}.py").write_text(MODULE)
    (top / "hurried").mkdir()
    (top / "hurried/sitecustomize.py").write_text(HURRIED)
    hosts = {}
    asked = [one for one in request.session.items if isinstance(one, pytest.Function) and one.parent is request.node]
    for name in (str(one.callspec.params["host"]) for one in asked if hasattr(one, "callspec")):
        (top / name).mkdir()
        for program, line in CASES[name][0].get("programs", {}).items():
            (top / name / program).write_text(f"#!/bin/sh\n{line}\n")
            (top / name / program).chmod(0o755)
        hosts[name] = {"folder": str(top / name), **CASES[name][0]}
    one = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (top / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": one}}, sort_keys=False))
    (top / "play.yml").write_text(yaml.safe_dump(PLAY, sort_keys=False))
    own = {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": f"{top}/collections:{ROOT}/.venv/collections",
        "ANSIBLE_LOCAL_TEMP": str(top / "tmp"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "PYTHONPATH": str(top / "hurried"),
        "no_proxy": "127.0.0.1",
    }
    with serving() as server:
        server.answers["/git.exe"] = Reply(DATA)
        # What the filter makes facts of stands in a variable of the role, which only these overrule.
        given = {"server": server.url, "__hardware_seen": "{{ answered }}"}
        words = ["ansible-playbook", "-i", f"{top}/hosts.yml", f"{top}/play.yml", "-e", json.dumps(given)]
        done = subprocess.run(
            [Path(sys.executable).with_name(words[0]), *words[1:]],
            env={**os.environ, **own}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert "{" in done.stdout, done.stderr
    told, _timer = json.JSONDecoder().raw_decode(done.stdout[done.stdout.index("{") :])
    found: dict[str, tuple[str, str]] = {}
    for task in told["plays"][0]["tasks"]:
        for host, result in task["hosts"].items():
            for words_of in failures(result):
                found[host] = (str(top / host), words_of)
    return found


@pytest.mark.parametrize("host", CASES)
def test_a_role_refuses_with_a_sentence(host: str, said: dict[str, tuple[str, str]]) -> None:
    folder, words = said[host]
    assert words.startswith(CASES[host][1].replace("{folder}", folder))


def test_an_engine_of_somebody_elses_is_used_as_it_is(tmp_path: Path) -> None:
    """On a distribution that has none, and with packages that this machine lacks: nothing is asked for."""
    (tmp_path / "docker").write_text("#!/bin/sh\necho 27.0\n")
    (tmp_path / "docker").chmod(0o755)
    given = {"docker_record": f"{tmp_path}/record", "distribution": "Fedora", "role": "docker", "folder": str(tmp_path)}
    given |= {"ansible_python_interpreter": sys.executable, "docker_log_size": "7m"}
    (tmp_path / "play.yml").write_text(yaml.safe_dump(PLAY))
    (tmp_path / "hosts.yml").write_text("all: {hosts: {theirs: {ansible_connection: local}}}\n")
    words = ["-i", f"{tmp_path}/hosts.yml", f"{tmp_path}/play.yml", "-e", json.dumps(given)]
    own = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp")}
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), *words],
        env={**os.environ, **own, "ANSIBLE_COLLECTIONS_PATH": f"{ROOT}/.venv/collections"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "Ask the engine for its version" in done.stdout
    assert "changed=0" in done.stdout
    assert not (tmp_path / "record").exists()
