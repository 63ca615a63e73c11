"""Rules for tasks on Windows hosts, which ansible-lint does not know: it skips modules that are written in PowerShell.

Each rule is a trap that was stepped in, here or by others. The tests below keep the rules, and show that each finds
what it is for.
"""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.connection import winrm
from jinja2 import Template
from winrm.protocol import Protocol

ROOT = Path(__file__).resolve().parents[2]
WINDOWS = ("ansible.windows.", "community.windows.")
# What a task file for Windows may use beside these: hostkit, and what runs on the control node or chooses a module.
NEUTRAL = {
    "hostkit",
    *(
        f"ansible.builtin.{name}"
        for name in ("assert", "include_vars", "import_tasks", "include_role", "include_tasks", "set_fact", "setup")
    ),
}
# No program of ours in PowerShell: nothing here could run it.
FORBIDDEN = ("win_shell", "win_powershell", "win_dsc", "raw", "script", "shell")
KEYWORDS = {"args", "block", "rescue", "always"}
# What each installer must be told, or it opens a window and waits for ever, or restarts the host.
SILENT = {
    "/InstallationType=": ("/S", "/InstallationType=AllUsers", "/AddToPath=0", "/RegisterPython=0"),
    "/VERYSILENT": ("/SUPPRESSMSGBOXES", "/NORESTART"),
    "/install": ("/quiet", "/norestart"),
    "install --": ("--quiet", "--accept-license", "--backend=wsl-2"),
}


def files() -> list[Path]:
    """Every file with tasks."""
    return sorted(
        [*ROOT.glob("roles/*/tasks/**/*.yml"), *ROOT.glob("roles/*/handlers/*.yml"), *ROOT.glob("playbooks/**/*.yml")]
    )


def tasks(loaded: Any) -> Iterator[dict[str, Any]]:
    """Each task of a file, those in plays and blocks too."""
    for one in loaded or ():
        inner = [
            one[key]
            for key in ("tasks", "pre_tasks", "post_tasks", "handlers", "block", "rescue", "always")
            if key in one
        ]
        for group in inner:
            yield from tasks(group)
        if not inner:
            yield one


def called(task: Mapping[str, Any]) -> tuple[str, Any]:
    """A task's module and its arguments."""
    for key, value in task.items():
        if key == "hostkit" or key == "labwright" or re.fullmatch(r"\w+\.\w+\.\w+", key):
            return key, value
    return "", None


@cache
def documented(name: str) -> dict[str, Any] | None:
    """A module's documentation; None where there is no such module."""
    doc = Path(sys.executable).with_name("ansible-doc")
    done = subprocess.run([doc, "-j", "-t", "module", name], cwd=ROOT, capture_output=True, text=True, check=False)
    told = json.loads(done.stdout or "{}")
    return dict(told[name]["doc"]) if name in told else None


def arguments(name: str, given: Any) -> Iterator[str]:
    """What a module's documentation has against its arguments; values made by templates are not looked at."""
    told = documented(name)
    if told is None:
        yield f"{name}: there is no such module"
        return
    if (own := f"{told['collection']}.{told['module']}") != name:
        yield f"{name} is an old name, which a later collection drops; expected {own}"
    options = told.get("options") or {}
    if isinstance(given, str):
        if not {"free_form", "_raw_params"} & set(options):
            yield f"{name}: takes no free form"
        return
    known = {alias for key, rule in options.items() for alias in (key, *(rule.get("aliases") or ()))}
    yield from (f"{name}: no option {key}" for key in sorted(set(given or {}) - known))
    for key, rule in options.items():
        values = [given[one] for one in (key, *(rule.get("aliases") or ())) if one in (given or {})]
        if rule.get("required") and not values and key not in ("free_form", "_raw_params"):
            yield f"{name}: {key} is missing"
        for value in values:
            if isinstance(value, str) and ("{{" in value or "{%" in value):
                continue
            choices = rule.get("choices")
            many = value if isinstance(value, list) else str(value).split(",") if key == "inherit" else [value]
            if choices and any(str(one) not in map(str, choices) for one in many):
                yield f"{name}: {key} is {value!r}, expected one of {list(choices)}"
            if rule.get("type") == "bool" and not isinstance(value, bool):
                yield f"{name}: {key} is {value!r}, expected true or false"
            if rule.get("type") == "dict" and not isinstance(value, dict):
                yield f"{name}: {key} is {value!r}, expected a dictionary"


def last_word(line: str) -> Iterator[str]:
    """NSIS takes /D= and _?= as its last word without quotes, else another folder, and ends with 0 all the same."""
    for switch in ("/D=", "_?="):
        if switch in line:
            rest = re.sub(r"\{\{.*?\}\}", "X", line.split(switch, 1)[1].strip())
            if '"' in rest or "'" in rest or " " in rest:
                yield f"{switch} is not the last word without quotes: {line.strip()}"


def silent(line: str) -> Iterator[str]:
    """An installer must neither ask nor restart."""
    for sign, wanted in SILENT.items():
        if sign in line:
            lacking = [one for one in wanted if one not in line.split() and not (one.startswith("--") and one in line)]
            yield from (f"the installer is not told {one}: {line.strip()}" for one in lacking)


def installs(task: Mapping[str, Any]) -> bool:
    """Whether a task runs an installer, and goes on whatever that says."""
    name, given = called(task)
    line = given if isinstance(given, str) else str((given or {}).get("cmd") or "")
    return name.endswith(".win_command") and task.get("failed_when") is False and ("/D=" in line or "_arg" in line)


def unproven(loaded: Any) -> Iterator[str]:
    """Installers end with 0 when they installed nothing, or only half: what is there must be looked at, and refused."""
    row = list(tasks(loaded))
    for at, task in enumerate(row):
        if installs(task):
            looked, refused = (called(one)[0].rpartition(".")[2] for one in [*row[at + 1 : at + 3], {}, {}][:2])
            if looked not in ("win_stat", "win_reg_stat") or refused != "assert":
                yield f"{task.get('name')}: only its exit status says that it did its work"


def faults(task: Mapping[str, Any], windows: bool) -> list[str]:
    """What is wrong with a task; `windows`: it stands in a file for Windows hosts."""
    name, given = called(task)
    found: list[str] = []
    short = name.rpartition(".")[2]
    plain = given if isinstance(given, dict) else {}
    if windows:
        if short in FORBIDDEN:
            found.append(f"{name}: no shell and no PowerShell of ours on Windows hosts")
        elif name and not name.startswith(WINDOWS) and name not in NEUTRAL:
            found.append(f"{name} does not run on a Windows host")
        words = yaml.safe_dump({key: value for key, value in task.items() if key != "name"}, width=10**6)
        if re.search(r"\}\}/|\| *(basename|dirname)\b|~ '/", words):
            found.append(
                "a path is taken apart or put together as on Linux; expected backslashes, win_basename, win_dirname"
            )
    if name.startswith(WINDOWS):
        found += arguments(name, given)
    if short == "win_get_url" and (not plain.get("checksum") or plain.get("checksum_algorithm") != "sha256"):
        found.append("win_get_url: a download without its sha256")
    if short == "win_find" and plain.get("depth") is not None:
        found.append("win_find: depth counts folders side by side as levels; expected one win_find for each level")
    if short == "win_acl" and not re.match(r"S-1-|\{\{", str(plain.get("user"))):
        found.append(
            f"win_acl: {plain.get('user')} has another name on a Windows in another language; expected its number (SID)"
        )
    if short == "win_nssm":
        found.append(
            "win_nssm restarts no service whose definition changed, and cuts its log at each start; use role service"
        )
    if short == "win_command":
        line = given if isinstance(given, str) else str(plain.get("cmd") or "")
        found += [*last_word(line), *silent(line)]
        if any("/D=" in str(word) for word in plain.get("argv") or ()):
            found.append("/D= in argv gets quotes, and the installer then takes another folder; expected cmd")
    arguments_ = str((task.get("vars") or {}).get("installer_arguments", ""))
    return [*found, *silent(arguments_)]


FILES = files()


def of_windows(path: Path) -> bool:
    """Whether a file is for Windows hosts alone."""
    return path.stem == "windows" or "windows" in path.relative_to(ROOT).parts or path.parts[-3] == "installer"


@pytest.mark.trap("installer-status")
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_tasks_of_each_file_keep_the_rules(path: Path) -> None:
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    found = [(task.get("name"), fault) for task in tasks(loaded) for fault in faults(task, of_windows(path))]
    assert found == []
    assert list(unproven(loaded)) == []


INSTALL = """
- ansible.windows.win_command: {cmd: 'x.exe /S /D=C:\\a'}
  failed_when: false
"""
LOOK = "- ansible.windows.win_stat: {path: C:\\a}\n"
REFUSE = "- ansible.builtin.assert: {that: found}\n"


@pytest.mark.trap("installer-status")
@pytest.mark.parametrize(
    ("after", "proven"), [(LOOK + REFUSE, True), ("", False), (LOOK, False), (REFUSE, False), (REFUSE + LOOK, False)]
)
def test_an_installers_exit_status_is_no_proof(after: str, proven: bool) -> None:
    assert (list(unproven(yaml.safe_load(INSTALL + after))) == []) is proven


@pytest.mark.trap("installer-status")
def test_both_files_that_run_installers_are_seen_to() -> None:
    found = [path for path in FILES if any(map(installs, tasks(yaml.safe_load(path.read_text(encoding="utf-8")))))]
    assert [str(path.relative_to(ROOT / "roles")) for path in found] == [
        "anaconda/tasks/install/windows.yml",
        "installer/tasks/install.yml",
    ]


@pytest.mark.trap("conda-path")
@pytest.mark.parametrize(
    ("path", "fits"),
    [
        ("C:\\labwright\\conda", True),
        ("C:\\Program Files\\conda", False),
        ("C:\\labwright\\mini forge", False),
        ("C:\\conda", False),
        ("C:\\labwright\\conda\\", False),
        ("C:/labwright/conda", False),
        ("labwright\\conda", False),
    ],
)
def test_conda_comes_to_no_path_that_its_installer_refuses(path: str, fits: bool) -> None:
    """Silently: with a space it takes another folder, or ends with 2 (conda/constructor#463, anaconda-issues#13163)."""
    rules = yaml.safe_load((ROOT / "roles/anaconda/vars/main.yml").read_text(encoding="utf-8"))["__anaconda_paths"]
    assert bool(re.search(rules["windows"]["pattern"], path)) is fits
    asked = (ROOT / "roles/anaconda/tasks/validate.yml").read_text(encoding="utf-8")
    assert "anaconda_prefix is match(__anaconda_paths[anaconda_system].pattern)" in asked


@pytest.mark.trap("git-components")
@pytest.mark.parametrize(("component", "known"), [("ext\\shellhere", True), ("ext\\reg\\shellhere", False)])
def test_git_is_asked_for_components_that_its_installer_has(component: str, known: bool) -> None:
    """It says nothing of one that it does not have; `ext\\reg\\…` of many recipes is long gone."""
    specs = yaml.safe_load((ROOT / "roles/git/meta/argument_specs.yml").read_text(encoding="utf-8"))
    options = {"git_components": specs["argument_specs"]["main"]["options"]["git_components"]}
    found = ArgumentSpecValidator(options).validate({"git_components": [component]}).error_messages
    assert (found == []) is known, found


@pytest.mark.trap("docker-wsl")
def test_what_docker_desktop_needs_of_windows_is_there_before_its_installer_starts() -> None:
    """Without WSL it hangs while it looks at the machine (docker/for-win#13958)."""
    loaded = yaml.safe_load((ROOT / "roles/docker/tasks/present/windows.yml").read_text(encoding="utf-8"))
    order = [called(task)[0].rpartition(".")[2] for task in tasks(loaded)]
    features, restart, installer = (order.index(one) for one in ("win_optional_feature", "win_reboot", "include_role"))
    assert features < restart < installer


@pytest.mark.trap("working-folder")
@pytest.mark.parametrize(("system", "folder"), [("linux", "/"), ("windows", "C:\\ProgramData\\labwright\\etc")])
def test_no_service_starts_where_everybody_may_make_what_it_would_import(system: str, folder: str) -> None:
    given = yaml.safe_load((ROOT / "roles/service/defaults/main.yml").read_text(encoding="utf-8"))
    starts = Template(given["service_working_directory"])
    assert starts.render({**given, "service_system": system}) == folder
    own = yaml.safe_load((ROOT / "roles/fastchat/vars/main.yml").read_text(encoding="utf-8"))["__fastchat_common"]
    assert own["PYTHONSAFEPATH"] == "1"
    for name in ("labwright-agent.j2", "labwright-agent.cmd.j2"):
        command = (ROOT / "roles/autogen/templates" / name).read_text(encoding="utf-8")
        assert " -P -m labwright_agents " in command


@pytest.mark.trap("long-path")
def test_long_paths_are_allowed_before_anything_with_long_paths_comes() -> None:
    place = ROOT / "roles/anaconda/tasks"
    row = list(tasks(yaml.safe_load((place / "install/windows.yml").read_text(encoding="utf-8"))))
    told = [str(called(task)[1]) for task in row]
    assert told.index("long_paths/windows.yml") < next(at for at, task in enumerate(row) if installs(task))
    loaded = yaml.safe_load((place / "long_paths/windows.yml").read_text(encoding="utf-8"))
    assert [called(task)[1]["data"] for task in tasks(loaded) if called(task)[0].endswith(".win_regedit")] == [1]
    names = yaml.safe_load((ROOT / "roles/anaconda/vars/main.yml").read_text(encoding="utf-8"))["__anaconda_long_paths"]
    assert names == {"path": "HKLM:\\SYSTEM\\CurrentControlSet\\Control\\FileSystem", "name": "LongPathsEnabled"}


@pytest.mark.trap("certificate")
def test_no_inventory_of_ours_switches_the_check_of_certificates_off() -> None:
    places = [*ROOT.glob("inventories/**/*.yml"), *ROOT.glob("tests/**/*.yml"), *ROOT.glob("tests/lab/windows/**/*.py")]
    texts = [path.read_text(encoding="utf-8") for path in places]
    assert any("ansible_winrm_ca_trust_path" in text for text in texts)
    assert not [path for path, text in zip(places, texts, strict=True) if re.search(r"cert_validation\W+ignore", text)]


def test_every_shipped_option_of_winrm_is_one_and_a_host_may_be_silent_for_a_minute() -> None:
    """A name that nobody knows would be a warning in each run, and no more."""
    folder = ROOT / "inventories/lab/group_vars/windows"
    shipped = {
        key: value
        for name in ("wiring.yml", "login.yml")
        for key, value in yaml.safe_load((folder / name).read_text(encoding="utf-8")).items()
        if key.startswith("ansible_winrm_")
    }
    known = set(re.findall(r"name: (ansible_winrm_\w+)", winrm.DOCUMENTATION))
    known |= {f"ansible_winrm_{name}" for name in inspect.signature(Protocol.__init__).parameters}
    assert sorted(set(shipped) - known) == []
    seconds = shipped["ansible_winrm_read_timeout_sec"]
    made = Protocol("https://192.0.2.21:5986/wsman", "ntlm", "x", "x", read_timeout_sec=seconds)
    assert made.read_timeout_sec - made.operation_timeout_sec > 60


def test_there_are_files_for_windows_in_each_role_that_runs_there() -> None:
    roles = {path.relative_to(ROOT / "roles").parts[0] for path in FILES if of_windows(path) and "roles" in path.parts}
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
    ("ansible.windows.win_find: {paths: C:\\x, recurse: true, depth: 3}", "one win_find for each level"),
    ("ansible.windows.win_reboot: {msg: x, reboot_timeout: 3, test: y}", "no option test"),
    ("ansible.windows.win_firewall: some words", "takes no free form"),
    ("ansible.windows.win_pip: {name: x}", "there is no such module"),
    ("ansible.windows.win_git: {repo: x}", "there is no such module"),
    ("community.windows.win_firewall: {state: enabled}", "expected ansible.windows.win_firewall"),
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


@pytest.mark.trap(
    "nsis-quotes",
    "nsis-last",
    "nsis-uninstaller",
    "installer-asks",
    "docker-licence",
    "nssm-log",
    "nssm-options",
    "path-flavour",
    "names-translated",
    "lint-skips",
    "no-module",
    "old-name",
    "download-sum",
    "find-depth",
)
@pytest.mark.parametrize(("text", "words"), BAD)
def test_a_bad_task_is_found(text: str, words: str) -> None:
    assert words in " ".join(faults(yaml.safe_load(text), windows=True))


GOOD = [
    "ansible.windows.win_command: {cmd: 'x /InstallationType=AllUsers /AddToPath=0 /RegisterPython=0 /S /D={{ p }}'}",
    "ansible.windows.win_command: {argv: [cmd.exe, /c, rmdir, x]}",
    "ansible.windows.win_acl: {path: x, user: S-1-5-18, type: allow, rights: Read, inherit: 'ObjectInherit'}",
    "{ansible.builtin.include_role: {name: installer}, vars: {installer_arguments: /install /quiet /norestart}}",
]


@pytest.mark.parametrize("text", GOOD)
def test_a_good_task_is_not(text: str) -> None:
    assert faults(yaml.safe_load(text), windows=True) == []


@pytest.mark.parametrize("lock", sorted(ROOT.glob("env/**/*-linux-64.txt")), ids=lambda path: path.name)
def test_each_lock_has_its_windows_half_or_is_of_an_engine_for_linux(lock: Path) -> None:
    beside = lock.with_name(lock.name.replace("-linux-64", "-win-64"))
    assert beside.exists() or lock.parent.name == "vllm"
