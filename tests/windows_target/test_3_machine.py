"""The machine: reboot, two side by side, what listens, the command line."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from targets_lab import C, Target, W, call, changed, free_port

from lab.windows import sockets
from lab.windows.machine.make import cache_folder, programs

pytest_plugins = ["targets_fixtures"]


def test_reboot_brings_automatic_services_back_and_no_others(target: Target, nssm: str, sleeper: str) -> None:
    service = {"executable": nssm, "application": sleeper, "arguments": []}
    before, *_, rebooted, auto, manual, facts = target.play(
        [
            {"ansible.builtin.setup": {"gather_subset": ["!all", "uptime"]}},
            {f"{C}.win_nssm": {**service, "name": "auto", "start_mode": "auto", "state": "started"}},
            {f"{C}.win_nssm": {**service, "name": "manual", "start_mode": "manual", "state": "started"}},
            {f"{W}.win_reboot": {}},
            {f"{W}.win_service_info": {"name": "auto"}},
            {f"{W}.win_service_info": {"name": "manual"}},
            {"ansible.builtin.setup": {"gather_subset": ["!all", "uptime"]}},
        ]
    )
    assert rebooted["rebooted"], rebooted
    assert (auto["services"][0]["state"], manual["services"][0]["state"]) == ("started", "stopped")
    assert facts["ansible_facts"]["ansible_lastboot"] != before["ansible_facts"]["ansible_lastboot"]


@pytest.mark.trap("wine-reboot", "wine-managers")
def test_one_service_manager_and_no_reboot_between_calls(target: Target) -> None:
    """`wineserver -p` before the first boot gives two service managers; without it every idle moment is a reboot."""
    pids = [target.one(f"{W}.win_service_info", name="auto")["services"][0]["process_id"] for _ in range(2)]
    assert pids[0] == pids[1] != 0
    own = sockets.belonging(Path(target.told["folder"]) / "prefix", ())
    managers = [pid for pid, (_, name, _) in own.items() if name == "services.exe"]
    assert len(managers) == 1


@pytest.mark.trap("wine-service-stays", "wine-lost-word")
@pytest.mark.parametrize("last", ["SERVICE_STOPPED", "SERVICE_STOP_PENDING"])
def test_a_process_goes_soon_after_its_service_stopped(target: Target, tmp_path: Path, last: str) -> None:
    """This one never ends by itself, as nssm.exe does in Wine now and then; it would stay for a minute, or for ever."""
    words = ["x86_64-w64-mingw32-gcc", "-O2", "-s", f"-DLAST={last}", "-o", f"{tmp_path}/staying.exe"]
    subprocess.run([*words, str(Path(__file__).with_name("staying.c"))], check=True)
    changed(
        target.play(
            [
                {f"{W}.win_copy": {"src": f"{tmp_path}/staying.exe", "dest": "C:\\staying.exe"}},
                {f"{W}.win_service": {"name": "staying", "path": "C:\\staying.exe", "state": "started"}},
                {f"{W}.win_service": {"name": "staying", "state": "stopped"}},
            ]
        )
    )
    prefix, deadline = Path(target.told["folder"]) / "prefix", time.monotonic() + 20
    while any(name == "staying.exe" for _, name, _ in sockets.belonging(prefix, ()).values()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    told = prefix / "drive_c/windows/temp/labwright-lost.txt"
    assert (told.exists() and "staying: its last word was lost; stopped" in told.read_text()) == ("PENDING" in last)
    changed([target.one(f"{W}.win_service", name="staying", state="absent")])


def test_reboot_by_the_command_line_cuts_connections(target: Target) -> None:
    first = target.one("ansible.builtin.setup", gather_subset=["!all", "uptime"])["ansible_facts"]["ansible_lastboot"]
    assert call("reboot", "--name", target.name)[0] == 0
    second = target.one("ansible.builtin.setup", gather_subset=["!all", "uptime"])["ansible_facts"]["ansible_lastboot"]
    assert first != second


def test_two_targets_side_by_side(target: Target, other: Target) -> None:
    changed([target.one(f"{W}.win_copy", content="a", dest="C:\\only-a.txt")])
    assert not other.one(f"{W}.win_stat", path="C:\\only-a.txt")["stat"]["exists"]
    assert not other.one(f"{W}.win_service_info", name="auto")["exists"]
    assert target.password != other.password
    assert other.play([{f"{W}.win_ping": {}}], ansible_password=target.password)[0]["unreachable"]
    listed = {one["name"]: one for one in call("list")[1]["targets"]}
    assert listed[target.name]["up"]
    assert listed[other.name]["up"]


def test_listening_is_the_targets_own(target: Target, other: Target, tmp_path: Path) -> None:
    source = tmp_path / "listen.c"
    port = free_port()
    source.write_text(
        "#include <winsock2.h>\n#include <windows.h>\nint main(void) { WSADATA d; WSAStartup(0x202, &d); SOCKET s = "
        "socket(AF_INET, SOCK_STREAM, 0); struct sockaddr_in a = {0}; a.sin_family = AF_INET; a.sin_port = "
        f'htons({port}); a.sin_addr.s_addr = inet_addr("127.0.0.1"); bind(s, (struct sockaddr *)&a, sizeof a); '
        "listen(s, 1); Sleep(INFINITE); return 0; }\n"
    )
    words = ["x86_64-w64-mingw32-gcc", "-O2", "-s", "-o", f"{tmp_path}/listen.exe", f"{source}", "-lws2_32"]
    subprocess.run(words, check=True)
    nssm = {"executable": "C:\\tools\\nssm.exe", "application": "C:\\tools\\listen.exe", "name": "listen"}
    results = target.play(
        [
            {f"{W}.win_copy": {"src": f"{tmp_path}/listen.exe", "dest": "C:\\tools\\listen.exe"}},
            {f"{C}.win_nssm": {**nssm, "state": "started"}},
            {f"{W}.win_command": "cmd /c ping -n 2 127.0.0.1"},
            {f"{W}.win_listen_ports_facts": {}},
        ]
    )
    found = {one["port"]: one for one in results[3]["ansible_facts"]["tcp_listen"]}
    assert port in found  # Wine's own sockets lie in wineserver, so whose they are is not told
    assert found[target.told["https"]]["pid"] == 4
    rest = other.one(f"{W}.win_listen_ports_facts")["ansible_facts"]["tcp_listen"]
    assert {one["port"] for one in rest} == {other.told["http"], other.told["https"]}


def test_a_service_that_listens_is_told_by_its_account(target: Target, nssm: str, tmp_path: Path) -> None:
    """By its account the plan knows that a port is held by one of ours. Python here is the machine's stand-in."""
    program, port = programs(cache_folder()) / "shim.exe", free_port()
    (tmp_path / "listen.py").write_text(
        f"import socket, time\ns = socket.socket()\ns.bind(('127.0.0.1', {port}))\ns.listen()\ntime.sleep(600)\n"
    )
    key = "HKLM:\\System\\CurrentControlSet\\Services\\listener\\Parameters"
    *_, told = target.play(
        [
            {f"{W}.win_file": {"path": "C:\\labwright\\conda", "state": "directory"}},
            {f"{W}.win_copy": {"src": str(program), "dest": "C:\\labwright\\conda\\python.exe"}},
            {f"{W}.win_copy": {"src": f"{tmp_path}/listen.py", "dest": "C:\\labwright\\listen.py"}},
            {f"{W}.win_command": f'sc.exe create listener binPath= {nssm} obj= "NT SERVICE\\listener"'},
            {f"{W}.win_regedit": {"path": key, "name": "Application", "data": "C:\\labwright\\conda\\python.exe"}},
            {f"{W}.win_regedit": {"path": key, "name": "AppParameters", "data": "C:\\labwright\\listen.py"}},
            {f"{W}.win_service": {"name": "listener", "state": "started"}},
            {f"{W}.win_command": "cmd /c ping -n 4 127.0.0.1"},
            {f"{W}.win_listen_ports_facts": {}},
        ]
    )
    found = {one["port"]: one for one in told["ansible_facts"]["tcp_listen"]}
    assert (found[port]["name"], found[port]["user"]) == ("python.exe", "NT SERVICE\\listener")


def test_up_again_changes_nothing_and_otherwise_refuses(target: Target) -> None:
    words = ["up", "--name", target.name, "--http", str(target.told["http"]), "--https"]
    status, told, _ = call(*words, str(target.told["https"]))
    assert (status, told["changed"]) == (0, False)
    status, _, said = call(*words, str(free_port()))
    assert (status, said[:11]) == (2, "LW-LAB-113:")
    status, _, said = call("up", "--name", "third", "--http", str(target.told["http"]), "--https", str(free_port()))
    assert (status, said[:11]) == (2, "LW-LAB-116:")


@pytest.mark.parametrize("verb", ["down", "wipe"])
def test_going_down_leaves_no_process(other: Target, verb: str) -> None:
    assert call(verb, "--name", other.name)[1] == {"changed": True}
    assert sockets.belonging(Path(other.told["folder"]) / "prefix", ()) == {}
    assert Path(other.told["folder"]).exists() == (verb == "down")
    assert call(verb, "--name", other.name)[1] == {"changed": False}
    words = ["--http", str(other.told["http"]), "--https", str(other.told["https"])]
    assert call("up", "--name", other.name, *words)[1]["changed"]
    assert call("reboot", "--name", other.name)[0] == 0
