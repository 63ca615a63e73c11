"""Each stand-in: its effect in Wine, its second run, check mode, and what it refuses."""

from __future__ import annotations

import functools
import hashlib
import http.server
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from targets_lab import ROOT, C, Result, Target, W, changed

pytest_plugins = ["targets_fixtures"]


def twice(target: Target, module: str, **options: Any) -> None:
    """Check mode says what will change and changes nothing; then it changes, and then it is right."""
    task = {module: options}
    assert changed(target.play([{**task, "check_mode": True, "diff": True}, task, task])) == [True, True, False]


@pytest.fixture(name="served")
def served_fixture(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A folder over HTTP."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", tmp_path
        server.shutdown()


def test_ping_and_facts(target: Target) -> None:
    ping, facts, few = target.play(
        [
            {f"{W}.win_ping": {"data": "here"}},
            {"ansible.builtin.setup": {}},
            {"ansible.builtin.setup": {"gather_subset": ["!all", "!min", "memory"]}},
        ]
    )
    assert ping["ping"] == "here"
    told = facts["ansible_facts"]
    assert told["ansible_os_family"] == "Windows"
    assert told["ansible_distribution"] == "Microsoft Windows 11 Pro"
    assert told["ansible_distribution_version"] == "10.0.22631.0"
    assert told["ansible_os_product_type"] == "workstation"
    assert told["ansible_architecture2"] == "x86_64"
    total = int(Path("/proc/meminfo").read_text().split()[1]) // 1024
    assert told["ansible_memtotal_mb"] == total
    assert told["ansible_env"]["SystemRoot"].lower() == "c:\\windows"
    assert not [name for name in told["ansible_env"] if name.startswith(("WINE", "HAND"))]
    assert set(few["ansible_facts"]) & {"ansible_distribution", "ansible_env"} == set()
    assert few["ansible_facts"]["ansible_memtotal_mb"] == total


def test_files(target: Target) -> None:
    twice(target, f"{W}.win_file", path="C:\\Program Files\\a b", state="directory")
    assert (target.drive_c / "Program Files/a b").is_dir()
    twice(target, f"{W}.win_copy", content="grüße\n", dest="C:\\Program Files\\a b\\x.txt")
    assert (target.drive_c / "Program Files/a b/x.txt").read_text() == "grüße\n"
    results = target.play(
        [
            {f"{W}.win_stat": {"path": "c:\\PROGRAM FILES\\A B\\X.TXT", "checksum_algorithm": "sha256"}},
            {f"{W}.win_find": {"paths": ["C:\\Program Files\\a b"], "patterns": ["*.TXT"]}},
            {"ansible.builtin.slurp": {"src": "C:\\Program Files\\a b\\x.txt"}},
            {f"{W}.win_file": {"path": "C:\\Program Files\\a b", "state": "file"}},
            {f"{W}.win_file": {"path": "relative\\path", "state": "directory"}},
            {f"{W}.win_file": {"path": "Z:\\etc", "state": "absent"}},
            {f"{W}.win_file": {"path": "C:\\..\\x", "state": "absent"}},
        ]
    )
    stat = results[0]["stat"]
    assert stat["checksum"] == hashlib.sha256("grüße\n".encode()).hexdigest()
    assert (stat["isreg"], stat["path"]) == (True, "C:\\Program Files\\a b\\x.txt")
    assert [one["filename"] for one in results[1]["files"]] == ["x.txt"]
    assert results[2]["content"] == "Z3LDvMOfZQo="
    assert [one["failed"] for one in results[3:]] == [True] * 4
    assert "no drive but C:" in results[5]["msg"]
    twice(target, f"{W}.win_file", path="C:\\Program Files\\a b", state="absent")
    assert not (target.drive_c / "Program Files/a b").exists()


@pytest.mark.trap("find-depth")
def test_the_role_hardware_finds_what_is_whole(target: Target) -> None:
    for name in ("conda/pkgs/a", "envs/one", "envs/half", "envs/one/Lib/x", "lib", "models/one"):
        (target.drive_c / "labwright" / name).mkdir(parents=True)
    for name in ("envs/one", "envs/one/Lib/x", "models/one"):
        (target.drive_c / "labwright" / name / ".labwright.json").touch()
    role = yaml.safe_load((ROOT / "roles/hardware/tasks/windows.yml").read_text())
    looks = [
        {key: value for key, value in task.items() if key != "name"}
        for task in role
        if {f"{W}.win_stat", f"{W}.win_find"} & set(task)
    ]
    roots = ["C:\\labwright", "C:\\ProgramData\\labwright\\store"]
    stamps = target.play(looks, hardware_paths=roots)[-1]["files"]
    assert sorted(one["path"] for one in stamps) == [
        "C:\\labwright\\envs\\one\\.labwright.json",
        "C:\\labwright\\models\\one\\.labwright.json",
    ]
    assert target.play(looks, hardware_paths=roots[1:])[-1]["skipped"]


def test_trees_templates_and_fetching_back(target: Target, tmp_path: Path) -> None:
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/ü b.txt").write_text("1")
    (tmp_path / "t.j2").write_text("x {{ 1 + 1 }}\n")
    got = tmp_path / "got"
    tasks: list[Result] = [
        {f"{W}.win_copy": {"src": f"{tmp_path}/tree/", "dest": "C:\\tree"}},
        {f"{W}.win_template": {"src": f"{tmp_path}/t.j2", "dest": "C:\\tree\\t.txt"}},
        {f"{W}.win_copy": {"src": "C:\\tree\\", "dest": "C:\\tree2", "remote_src": True}},
    ]
    assert changed(target.play(tasks[:1], "--check")) == [True]
    assert not (target.drive_c / "tree").exists()
    assert changed(target.play([*tasks, *tasks])) == [True] * 3 + [False] * 3
    assert (target.drive_c / "tree2/sub/ü b.txt").read_text() == "1"
    assert (target.drive_c / "tree/t.txt").read_bytes() == b"x 2\r\n"
    target.one("ansible.builtin.fetch", src="C:\\tree\\t.txt", dest=f"{got}/", flat=True)
    assert (got / "t.txt").read_bytes() == b"x 2\r\n"


@pytest.mark.trap("junction")
def test_a_junction_is_told_apart_and_its_removal_keeps_what_it_leads_to(target: Target) -> None:
    results = target.play(
        [
            {f"{W}.win_file": {"path": "C:\\junction\\to", "state": "directory"}},
            {f"{W}.win_command": "cmd.exe /c mklink /J C:\\junction\\from C:\\junction\\to"},
            {f"{W}.win_stat": {"path": "C:\\junction\\from"}},
            {f"{W}.win_file": {"path": "C:\\junction\\from", "state": "absent"}},
            {f"{W}.win_stat": {"path": "C:\\junction\\to"}},
        ]
    )
    stat = results[2]["stat"]
    assert (stat["isjunction"], stat["islnk"], stat["lnk_target"]) == (True, False, "C:\\junction\\to")
    assert results[4]["stat"]["exists"]


def test_commands(target: Target) -> None:
    results = target.play(
        [
            {f"{W}.win_command": {"argv": ["cmd.exe", "/c", "echo %TOLD%& exit 0"]}, "environment": {"TOLD": "a b"}},
            {f"{W}.win_command": "cmd.exe /c exit 3010"},
            {f"{W}.win_command": {"argv": ["C:\\no\\such.exe"]}},
            {f"{W}.win_command": {"cmd": "cmd.exe /c cd", "chdir": "C:\\windows\\system32"}},
            {f"{W}.win_command": {"cmd": "cmd.exe /c exit 1", "creates": "C:\\windows"}},
            {f"{W}.win_command": {"cmd": "cmd.exe /c exit 1", "removes": "C:\\nothing"}},
            {f"{W}.win_command": {"argv": ["cmd.exe", "/c", "set /p X= & call echo got %^X%"], "stdin": "by stdin"}},
            {f"{W}.win_command": {"cmd": "x", "argv": ["x"]}},
        ]
    )
    assert results[0]["stdout"] == "a b\r\n"
    assert results[1]["rc"] == 3010  # an exit status of Windows has 32 bits
    assert (results[2]["failed"], results[2]["rc"]) == (True, 2)
    assert results[3]["stdout"].lower() == "c:\\windows\\system32\r\n"
    assert [one["skipped"] for one in results[4:6]] == [True, True]
    assert "by stdin" in results[6]["stdout"]
    assert "mutually exclusive" in results[7]["msg"]
    assert target.one(f"{W}.win_command", "--check", cmd="cmd.exe /c exit 1")["skipped"]


@pytest.mark.trap("wine-powershell")
@pytest.mark.parametrize("line", ["powershell -Command exit 5", "cmd /c C:\\x\\pwsh.exe", "PowerShell.exe -File x.ps1"])
def test_powershell_is_never_run(target: Target, line: str) -> None:
    answer = target.one(f"{W}.win_command", cmd=line)
    assert answer["failed"]
    assert "no PowerShell" in answer["msg"]


@pytest.mark.trap("wine-programs")
def test_programs_that_wine_only_pretends_to_have_refuse(target: Target) -> None:
    tasks = [{f"{W}.win_command": f"cmd /c {one} x"} for one in ("netsh", "schtasks", "dism", "setx", "findstr")]
    for answer in target.play(tasks):
        assert answer["rc"] == 97
        assert "This test target has no" in answer["stderr"]


@pytest.mark.trap("nssm-options", "stand-in")
def test_what_has_no_stand_in_fails_loudly(target: Target) -> None:
    results = target.play(
        [
            {f"{W}.win_shell": "Get-Service"},
            {f"{W}.win_powershell": {"script": "1"}},
            {"ansible.builtin.raw": "$PSVersionTable"},
            {f"{C}.win_scheduled_task": {"name": "x", "state": "absent"}},
            {f"{W}.win_service": {"name": "x", "start_mode": "automatic"}},
            {f"{W}.win_service": {"state": "started"}},
            {f"{C}.win_nssm": {"name": "x", "application": "C:\\x.exe", "app_exit": "Restart"}},
            {f"{W}.win_copy": {"content": "x", "dest": "C:\\x", "owner": "me"}},
        ]
    )
    said = [one.get("msg", "") + one.get("stderr", "") for one in results]
    assert all(one.get("failed") for one in results), results
    for index in (0, 1, 3):
        assert "has no stand-in" in said[index]
    assert "has no PowerShell" in said[2]
    assert "must be one of" in said[4]
    assert "missing required arguments: name" in said[5]
    assert "Unsupported parameters" in said[6]
    assert "Unsupported parameters: owner" in said[7]


def test_download(target: Target, served: tuple[str, Path]) -> None:
    url, folder = served
    (folder / "a.bin").write_bytes(b"a" * 100_000)
    right = hashlib.sha256(b"a" * 100_000).hexdigest()
    given = {"url": f"{url}/a.bin", "dest": "C:\\got.bin", "checksum_algorithm": "sha256"}
    wrong = target.one(f"{W}.win_get_url", **given, checksum="0" * 64)
    assert (wrong["failed"], (target.drive_c / "got.bin").exists()) == (True, False)
    assert "did not match" in wrong["msg"]
    twice(target, f"{W}.win_get_url", **given, checksum=right)
    assert (target.drive_c / "got.bin").read_bytes() == b"a" * 100_000
    results = target.play(
        [
            {f"{W}.win_get_url": {**given, "dest": "C:\\no\\such\\folder\\x"}},
            {f"{W}.win_get_url": {**given, "url": f"{url}/nothing", "dest": "C:\\y"}},
        ]
    )
    assert "does not exist for destination" in results[0]["msg"]
    assert "404" in results[1]["msg"]


def test_registry(target: Target) -> None:
    key = "HKLM:\\Software\\Labwright Test"
    for name, kind, data in (
        ("text", "string", "a \\ b"),
        ("path", "expandstring", "%SystemRoot%\\x"),
        ("list", "multistring", ["a", "b c"]),
        ("number", "dword", 4294967295),
        ("big", "qword", 1 << 40),
        ("bytes", "binary", "hex:be,ef"),
    ):
        twice(target, f"{W}.win_regedit", path=key, name=name, type=kind, data=data)
    told = target.one(f"{W}.win_reg_stat", path=key)["properties"]
    assert (told["list"]["value"], told["number"]["value"], told["big"]["value"]) == (["a", "b c"], 4294967295, 1 << 40)
    assert told["bytes"]["raw_value"] == ["0xbe", "0xef"]
    assert (told["path"]["raw_value"], told["path"]["value"].lower()) == ("%SystemRoot%\\x", "c:\\windows\\x")
    seen = target.one(f"{W}.win_command", cmd='reg query "HKLM\\Software\\Labwright Test" /v text')
    assert "a \\ b" in seen["stdout"]
    twice(target, f"{W}.win_regedit", path=key, name="text", state="absent")
    twice(target, f"{W}.win_regedit", path=key, state="absent")
    assert not target.one(f"{W}.win_reg_stat", path=key)["exists"]
    assert "not a valid" in target.one(f"{W}.win_regedit", path="HKXX:\\x", name="y")["msg"]


def test_environment_and_path_reach_programs(target: Target) -> None:
    twice(target, f"{W}.win_environment", level="machine", variables={"TOLD": "x y", "SECOND": "2"})
    assert target.one(f"{W}.win_command", cmd="cmd /c echo %TOLD%-%SECOND%")["stdout"] == "x y-2\r\n"
    twice(target, f"{W}.win_environment", level="machine", name="TOLD", state="absent")
    twice(target, f"{W}.win_path", elements=["C:\\tools\\bin"])
    again = target.one(f"{W}.win_path", elements=["c:\\TOOLS\\bin\\"])
    assert not again["changed"]
    assert "C:\\tools\\bin" in target.one(f"{W}.win_command", cmd="cmd /c echo %PATH%")["stdout"]
    twice(target, f"{W}.win_path", elements=["C:\\tools\\bin"], state="absent")


def test_accounts_groups_and_rights(target: Target) -> None:
    user = {"name": "worker", "password": "S3cret!", "update_password": "on_create"}
    twice(target, f"{W}.win_user", **user, groups=["Users"])
    twice(target, f"{W}.win_group", name="docker-users", description="d")
    twice(target, f"{W}.win_group_membership", name="docker-users", members=["worker"])
    twice(target, f"{W}.win_user_right", name="SeServiceLogonRight", users=["worker"], action="add")
    query = target.one(f"{W}.win_user", name="worker", state="query")
    assert [one["name"] for one in query["groups"]] == ["Users", "docker-users"]
    assert "S3cret" not in (Path(target.told["folder"]) / "emulated.json").read_text()
    results = target.play(
        [
            {f"{W}.win_group_membership": {"name": "docker-users", "members": ["nobody"]}},
            {f"{W}.win_group_membership": {"name": "no-group", "members": ["worker"]}},
            {f"{W}.win_user_right": {"name": "LogOnAsAService", "users": ["worker"]}},
            {
                f"{W}.win_ping": {},
                "become": True,
                "become_method": "runas",
                "become_user": "worker",
                "vars": {"ansible_become_password": "S3cret!"},
            },
            {
                f"{W}.win_ping": {},
                "become": True,
                "become_method": "runas",
                "become_user": "nobody",
                "vars": {"ansible_become_password": "x"},
            },
        ]
    )
    assert [bool(one.get("failed")) for one in results] == [True, True, True, False, True]
    assert "is not a valid account" in results[0]["msg"]
    assert "1326" in results[4]["msg"]
    twice(target, f"{W}.win_user", name="worker", state="absent")


def test_permissions(target: Target) -> None:
    changed([target.one(f"{W}.win_file", path="C:\\secret", state="directory")])
    rule = {"path": "C:\\secret", "user": "NT SERVICE\\labwright-worker", "rights": "Read,Write", "type": "allow"}
    twice(target, f"{W}.win_acl", **rule)
    twice(target, f"{W}.win_acl_inheritance", path="C:\\secret", state="absent")
    results = target.play(
        [
            {f"{W}.win_acl": {**rule, "rights": "Reed"}},
            {f"{W}.win_acl": {**rule, "user": "nobody"}},
            {f"{W}.win_acl": {**rule, "path": "C:\\nothing"}},
        ]
    )
    assert all(one["failed"] for one in results)


def test_firewall(target: Target) -> None:
    rule = {
        "name": "Labwright worker", "direction": "in", "action": "allow", "protocol": "tcp", "localport": "21002",
        "remoteip": "10.84.1.2,10.84.2.0/24", "profiles": ["domain", "private"],
    }  # fmt: skip
    twice(target, f"{C}.win_firewall_rule", **rule)
    twice(target, f"{C}.win_firewall_rule", **{**rule, "remoteip": "10.84.1.3"})
    results = target.play(
        [
            {f"{C}.win_firewall_rule": {**rule, "remoteip": "10.84.1.0/33"}},
            {f"{C}.win_firewall_rule": {**rule, "localport": "70000"}},
            {f"{C}.win_firewall_rule": {**rule, "protocol": "any"}},
        ]
    )
    assert all(one["failed"] for one in results)
    twice(target, f"{C}.win_firewall_rule", name="Labwright worker", state="absent")


def test_features(target: Target) -> None:
    names = ["VirtualMachinePlatform", "Microsoft-Windows-Subsystem-Linux"]
    first = target.one(f"{W}.win_optional_feature", name=names, state="present")
    assert (first["changed"], first["reboot_required"]) == (True, True)
    again = target.one(f"{W}.win_optional_feature", name=names, state="present")
    assert (again["changed"], again["reboot_required"]) == (False, False)
    assert "Failed to find feature" in target.one(f"{W}.win_optional_feature", name=["Nothing"])["msg"]


@pytest.mark.trap("nsis-quotes")
def test_package(target: Target, tmp_path: Path) -> None:
    script = tmp_path / "setup.nsi"
    script.write_text(
        'Target amd64-unicode\nName "Thing"\nOutFile "setup.exe"\nSilentInstall silent\nInstallDir "C:\\Default"\n'
        'Section\n  SetOutPath $INSTDIR\n  FileOpen $0 "$INSTDIR\\thing.txt" w\n  FileClose $0\nSectionEnd\n'
    )
    subprocess.run(["makensis", "-V1", script], check=True, cwd=tmp_path)
    changed([target.one(f"{W}.win_copy", src=f"{tmp_path}/setup.exe", dest="C:\\setup.exe")])
    package = {"path": "C:\\setup.exe", "creates_path": "C:\\Thing\\thing.txt", "arguments": "/S /D=C:\\Thing"}
    twice(target, f"{W}.win_package", **package)
    assert (target.drive_c / "Thing/thing.txt").exists()
    # The trap: as a list the argument is quoted, the installer takes its own folder, and its exit status is 0.
    trap = {**package, "creates_path": "C:\\A B\\thing.txt", "arguments": ["/S", "/D=C:\\A B"]}
    answer = target.one(f"{W}.win_package", **trap)
    assert (answer["rc"], (target.drive_c / "A B").exists(), (target.drive_c / "Default").exists()) == (0, False, True)


@pytest.mark.trap("nssm-running")
def test_services_with_the_real_nssm(target: Target, nssm: str, sleeper: str) -> None:
    service = {
        "name": "sleeper", "executable": nssm, "application": sleeper, "arguments": ["C:\\tools\\log.txt", "two words"],
        "app_environment": {"TOLD": "by nssm"}, "working_directory": "C:\\tools", "display_name": "A sleeper",
    }  # fmt: skip
    twice(target, f"{C}.win_nssm", **service)
    twice(target, f"{W}.win_service", name="sleeper", state="started", start_mode="auto", description="sleeps")
    told = target.one(f"{W}.win_service_info", name="sleeper")["services"][0]
    assert (told["state"], told["start_mode"], told["description"]) == ("started", "auto", "sleeps")
    assert told["process_id"] > 0
    for name, names in (("SLEEP*", ["sleeper"]), ("A sleeper", ["sleeper"]), ("A sleep*", [])):
        assert [one["name"] for one in target.one(f"{W}.win_service_info", name=name)["services"]] == names
    log = target.drive_c / "tools/log.txt"
    assert log.read_text() == "C:\\tools|by nssm|two words\n"
    # The trap of win_nssm: changed arguments do not restart what runs.
    changed([target.one(f"{C}.win_nssm", **{**service, "arguments": ["C:\\tools\\log.txt", "other"]}, state="started")])
    assert log.read_text().count("\n") == 1
    changed([target.one(f"{W}.win_service", name="sleeper", state="restarted")])
    assert log.read_text().endswith("|other\n")
    # A program that runs can be neither removed nor overwritten.
    for task in (
        {f"{W}.win_file": {"path": sleeper, "state": "absent"}},
        {f"{W}.win_file": {"path": "C:\\tools", "state": "absent"}},
        {f"{W}.win_copy": {"content": "x", "dest": sleeper}},
    ):
        answer = target.play([task])[0]
        assert answer["failed"]
        assert "is denied" in answer["msg"]
    twice(target, f"{W}.win_service", name="sleeper", dependencies=["Eventlog"])
    assert target.one(f"{W}.win_service_info", name="sleeper")["services"][0]["dependencies"] == ["Eventlog"]
    twice(target, f"{W}.win_service", name="sleeper", state="stopped")
    refused = target.one(f"{W}.win_service", name="sleeper", failure_command="x")
    assert "does not set failure_command" in refused["msg"]
    assert "is not installed" in target.one(f"{W}.win_service", name="nothing", state="started")["msg"]


@pytest.mark.trap("nssm-status")
def test_a_service_whose_program_ends_at_once_is_paused_and_said(target: Target, nssm: str) -> None:
    loop = {
        "name": "looper",
        "executable": nssm,
        "application": "C:\\windows\\system32\\cmd.exe",
        "arguments": "/c exit 1",
    }
    # However slow the machine is: a program that ends before this time is never told as running.
    key = r"HKLM:\SYSTEM\CurrentControlSet\Services\looper\Parameters"
    throttle = {"path": key, "name": "AppThrottle", "data": 60000, "type": "dword"}
    changed(target.play([{f"{C}.win_nssm": loop}, {f"{W}.win_regedit": throttle}]))
    answer = target.one(f"{W}.win_service", name="looper", state="started")
    assert answer["failed"]
    assert "it is paused" in answer["msg"] or "it is stopped" in answer["msg"]
    changed([target.one(f"{C}.win_nssm", name="looper", executable=nssm, state="absent")])


def test_async(target: Target) -> None:
    sleep = "cmd /c ping -n 4 127.0.0.1 >nul & exit 5"
    started, ended = target.play(
        [
            {f"{W}.win_command": sleep, "async": 60, "poll": 0, "register": "job"},
            {
                "ansible.builtin.async_status": {"jid": "{{ job.ansible_job_id }}"},
                "register": "seen",
                "until": "seen is finished",
                "retries": 60,
                "delay": 1,
            },
        ]
    )
    assert started["started"]
    assert ended["rc"] == 5
    late = target.play([{f"{W}.win_command": "cmd /c ping -n 30 127.0.0.1", "async": 2, "poll": 1}])[0]
    assert late["failed"]


def test_every_call_is_in_the_journal(target: Target) -> None:
    (quiet, _) = target.play(
        [
            {f"{W}.win_environment": {"level": "process", "name": "A", "value": "hidden word"}, "no_log": True},
            {f"{W}.win_ping": {"data": "in the journal"}},
        ]
    )
    rows = [one for one in target.journal() if "module" in one][-2:]
    assert [one["module"] for one in rows] == [f"{W}.win_environment", f"{W}.win_ping"]
    assert rows[1]["arguments"] == {"data": "in the journal"}
    assert "hidden word" not in Path(target.told["journal"]).read_text()
    assert "hidden word" not in str(quiet)


def test_disk_facts_are_those_of_drive_c(target: Target) -> None:
    import shutil

    disk = target.one(f"{C}.win_disk_facts")["ansible_facts"]["ansible_disks"][0]
    volume = disk["partitions"][0]["volumes"][0]
    assert disk["partitions"][0]["drive_letter"] == "C"
    assert volume["size"] == shutil.disk_usage(target.drive_c).total
    assert 0 < volume["size_remaining"] <= volume["size"]


def test_modules_are_those_of_the_contract(target: Target) -> None:
    """What roles may use has a stand-in; and an unlisted one names those that are there."""
    said = target.one(f"{W}.win_shell", _raw_params="x")["msg"]
    wanted = (ROOT / "tests/lab/windows/README.md").read_text()
    for name in said.rpartition("it has ")[2].split(", "):
        assert name.rpartition(".")[2] in wanted, name
