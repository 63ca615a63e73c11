"""Stand-ins where they are pure: the registry's types, the store, the firewall's words, facts, what listens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab.errors import LabError
from lab.windows import sockets, store, targets
from lab.windows.modules import (
    STAND_INS,
    Context,
    Failed,
    Machine,
    accounts,
    commands,
    facts,
    files,
    network,
    registry,
    system,
)
from lab.windows.wine import Wine

FIREWALL: dict[str, Any] = dict.fromkeys(network.RULE) | {"state": "present", "name": "Door"}


@pytest.fixture(name="context")
def context_fixture(tmp_path: Path) -> Context:
    (tmp_path / "drive_c/windows").mkdir(parents=True)
    return Context(
        Wine(tmp_path), Machine("win1", "127.0.0.1", "Administrator", tmp_path), variables={"systemroot": "C:\\windows"}
    )


@pytest.mark.parametrize(
    ("kind", "data", "value"),
    [
        ("string", None, ""),
        ("string", 5, "5"),
        ("dword", "7", 7),
        ("dword", 4294967295, 4294967295),
        ("dword", -1, 4294967295),
        ("qword", None, 0),
        ("multistring", "one", ["one"]),
        ("multistring", ["a", 1], ["a", "1"]),
        ("binary", "hex:be,ef", [190, 239]),
        ("binary", "beef", [190, 239]),
        ("binary", [1, 2], [1, 2]),
    ],
)
def test_registry_values_survive_their_way(kind: str, data: object, value: object) -> None:
    number = registry.TYPES[kind]
    assert registry.wished(number, data) == value
    assert registry.decoded(number, registry.encoded(number, value)) == value


@pytest.mark.parametrize(("kind", "data"), [("dword", 1 << 32), ("dword", "x"), ("qword", 1 << 64), ("binary", 256)])
def test_registry_refuses(kind: str, data: object) -> None:
    with pytest.raises(Failed):
        registry.wished(registry.TYPES[kind], data)


def test_percent_names_are_filled_in_and_unknown_ones_stay(context: Context) -> None:
    assert context.expanded("%SystemRoot%\\x %NOTHING%") == "C:\\windows\\x %NOTHING%"


@pytest.mark.parametrize(
    ("there", "wish", "after"),
    [
        (["A"], ["B"], ["A", "B"]),
        (["C:\\A\\", "B"], ["c:\\a"], ["C:\\A\\", "B"]),
        (["A", "B"], ["B", "A"], ["B", "A"]),
    ],
)
def test_elements_of_a_path(there: list[str], wish: list[str], after: list[str]) -> None:
    assert system.extended(there, wish) == after


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("remoteip", "10.1.1.1/33"),
        ("remoteip", "10.1.1.1/8"),
        ("localport", "0-70000"),
        ("localport", "a"),
        ("protocol", "tpc"),
    ],
)
def test_the_firewall_refuses(context: Context, option: str, value: str) -> None:
    with pytest.raises(Failed):
        network.win_firewall_rule({**FIREWALL, "protocol": "tcp", option: value}, context)
    assert store.read(context.machine.folder)["firewall"] == {}


def test_the_firewall_writes_addresses_in_its_own_way(context: Context) -> None:
    wish = {**FIREWALL, "protocol": "tcp", "localport": "80", "remoteip": "10.1.1.1, 10.2.0.0/16"}
    assert network.win_firewall_rule(wish, context)["changed"]
    assert not network.win_firewall_rule(wish, context)["changed"]
    kept = store.read(context.machine.folder)["firewall"]["Door"]
    assert kept["remoteip"] == "10.1.1.1/255.255.255.255,10.2.0.0/255.255.0.0"


def test_check_mode_keeps_nothing_and_an_error_neither(context: Context) -> None:
    with store.changing(context.machine.folder, check=True) as state:
        state["users"]["x"] = {}

    def fail() -> None:
        with store.changing(context.machine.folder, check=False) as state:
            state["users"]["y"] = {}
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert set(store.read(context.machine.folder)["users"]) == {"Administrator", "Guest"}


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("SYSTEM", "NT AUTHORITY\\SYSTEM"),
        ("S-1-5-18", "NT AUTHORITY\\SYSTEM"),
        (".\\administrator", "WIN1\\Administrator"),
        ("NT SERVICE\\labwright-x", "NT SERVICE\\labwright-x"),
        ("Users", "BUILTIN\\Users"),
    ],
)
def test_accounts_have_whole_names(context: Context, name: str, whole: str) -> None:
    assert accounts.account(context, store.fresh(), name)[0] == whole


def test_a_services_own_number_is_made_of_its_name(context: Context) -> None:
    # Windows' own: `sc showsid TrustedInstaller`.
    known = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"
    assert accounts.account(context, store.fresh(), "NT SERVICE\\TrustedInstaller")[1] == known


@pytest.mark.parametrize("name", ["nobody", "OTHER\\Administrator", ""])
def test_an_unknown_account_fails(context: Context, name: str) -> None:
    with pytest.raises(Failed):
        accounts.account(context, store.fresh(), name)


@pytest.mark.parametrize(
    ("wish", "has", "lacks"),
    [
        (["all"], "memory", ""),
        (["!all"], "distribution", "memory"),
        (["!all", "!min"], "", "distribution"),
        (["!all", "!min", "memory"], "memory", "distribution"),
        (["hardware", "!all", "!min"], "memory", "distribution"),
    ],
)
def test_subsets_of_facts(wish: list[str], has: str, lacks: str) -> None:
    found = facts.subsets(wish, pytest.fail)
    assert not has or has in found
    assert not lacks or lacks not in found


def test_a_junction_is_a_link_of_the_prefix(context: Context) -> None:
    (context.wine.drive_c / "to").mkdir()
    made = commands.junction('cmd.exe /c mklink /J "C:\\from" C:\\to', context)
    assert made is not None
    assert made["rc"] == 0
    assert (context.wine.drive_c / "from").resolve() == context.wine.drive_c / "to"
    again = commands.junction("cmd /c mklink /J C:\\from C:\\to", context)
    assert again is not None
    assert again["rc"] == 1
    assert commands.junction("cmd /c echo mklink", context) is None
    with pytest.raises(Failed):
        commands.junction("cmd /c mklink /D C:\\other C:\\to", context)


@pytest.mark.trap("find-depth")
def test_a_depth_counts_folders_side_by_side_as_the_module_does(context: Context) -> None:
    for name in ("conda/a/b/c/d", "envs/one", "models/one/a/b/c/d"):
        folder = context.wine.drive_c / "labwright" / name
        folder.mkdir(parents=True)
        (folder / ".labwright.json").touch()
    options: dict[str, Any] = {
        **dict.fromkeys(("follow", "recurse", "use_regex", "case_sensitive", "get_checksum"), False),
        "file_type": "file", "patterns": [".labwright.json"],
    }  # fmt: skip

    def found(*paths: str, **more: Any) -> list[str]:
        listed = files.win_find({**options, "paths": [f"C:\\{one}" for one in paths], **more}, context)["files"]
        return [one["path"].removeprefix("C:\\labwright\\") for one in listed]

    # What is asked for, envs\\one, is not looked into; what lies deep in models is.
    assert found("labwright", recurse=True, depth=3) == ["models\\one\\a\\b\\c\\d\\.labwright.json"]
    assert len(found("labwright", recurse=True)) == 3
    assert found("labwright\\envs\\one", "labwright\\conda") == ["envs\\one\\.labwright.json"]


def test_a_process_is_its_services() -> None:
    running = {pid: {"parent": parent} for pid, parent in ((8, 0), (20, 8), (21, 20), (30, 31), (31, 30))}
    owners = {0: "stopped", 20: "NT SERVICE\\x"}
    found = [facts.owner(pid, running, owners) for pid in (21, 20, 8, 30, 0)]
    assert found == ["NT SERVICE\\x", "NT SERVICE\\x", None, None, None]


def test_the_kernels_table_of_sockets() -> None:
    text = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0\n"
        "   1: 0100007F:1F91 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 112 1 0\n"
    )
    assert sockets.table("tcp", text) == {"111": ("127.0.0.1", 8080)}
    assert sockets.readable("00000000000000000000000001000000") == "::1"


@pytest.mark.parametrize(
    ("code", "address", "http", "https"),
    [
        ("LW-LAB-111", "localhost", 1, 2),
        ("LW-LAB-111", "8.8.8.8", 1, 2),
        ("LW-LAB-111", "0.0.0.0", 1, 2),  # noqa: S104
        ("LW-LAB-111", "127.0.0.1", 5, 5),
        ("LW-LAB-111", "127.0.0.1", 0, 5),
    ],
)
def test_a_wish_that_cannot_be(code: str, address: str, http: int, https: int) -> None:
    with pytest.raises(LabError) as caught:
        targets.check_wish(address, http, https)
    assert caught.value.code == code


@pytest.mark.parametrize("name", ["", "Win", "../x", "a" * 16, "1a"])
def test_a_name_that_cannot_be(name: str) -> None:
    from lab.settings import from_environment

    with pytest.raises(LabError) as caught:
        targets.folder_of(from_environment(), name)
    assert caught.value.code == "LW-LAB-110"


def test_the_modules_that_roles_may_use_have_stand_ins() -> None:
    of_windows = (
        "setup win_ping win_file win_stat win_copy win_command win_find win_get_url win_regedit win_reg_stat win_user "
        "win_group win_group_membership win_user_right win_acl win_acl_inheritance win_service win_service_info "
        "win_owner win_environment win_path win_optional_feature win_package slurp async_status win_listen_ports_facts"
    )
    wanted = {f"ansible.windows.{one}" for one in of_windows.split()}
    wanted |= {f"community.windows.{one}" for one in ("win_firewall_rule", "win_disk_facts", "win_nssm")}
    assert set(STAND_INS) == wanted
