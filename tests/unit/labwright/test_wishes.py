"""labwright.wishes: every variable with a good and a bad value; unknown names; other projects' names."""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import pytest

from labwright import wishes
from unit.programs import ROOT

# name → good values, bad values with a word of the message
TABLE: dict[str, tuple[list[Any], list[tuple[Any, str]]]] = {
    "lab_name": (["lab", "room-2"], [("Room 2", "fits"), ("", "fits"), (5, "type string")]),
    "lab_address": (["192.0.2.1", "gpu01"], [("", "non-empty"), (None, "type string")]),
    "lab_models": (
        [["labwright-demo"], [{"name": "a", "aliases": ["b", "gpt-3.5-turbo", "Qwen/Qwen2.5_7B:latest"]}]],
        [
            ([], "non-empty"),
            ("a", "auto or array"),
            ([{"aliases": []}], "name"),
            (
                [{"name": "a", "aliases": ["b", "gpt-4,gpt-3.5"]}],
                "['aliases'][1] is 'gpt-4,gpt-3.5'; expected text that fits",
            ),
            ([{"name": "a", "aliases": ["my model"]}], "is 'my model'"),
            ([{"name": "a", "aliases": ["--device"]}], "is '--device'"),
            ([{"name": "a", "gpu": 1}], "gpu"),
        ],
    ),
    "lab_stack": (["", "chatglm2"], [(["chatglm2"], "type string"), (None, "type string")]),
    "lab_engine": (["fastchat", "vllm"], [(["vllm"], "type string")]),
    "lab_device": (["auto", "cpu"], [("cuda", "one of ['auto', 'cpu']")]),
    "lab_controller_port": (
        [1024, 65535],
        [(1023, "at least 1024"), (65536, "at most 65535"), ("21001", "type integer")],
    ),
    "lab_worker_port": ([1024, 21002], [(1023, "at least 1024"), (True, "type integer")]),
    "lab_api_port": ([1024, 8443], [(443, "at least 1024"), (70000, "at most"), (9527.5, "type integer")]),
    "lab_web_port": ([1024, 7860], [(1023, "at least 1024"), (65536, "at most 65535"), ("7860", "type integer")]),
    "lab_api_clients": ([[], ["192.0.2.0/24", "2001:db8::1"]], [("192.0.2.0/24", "type array"), ([1], "type string")]),
    "lab_firewall": ([True, False], [("no", "type boolean")]),
    "lab_root": (
        ["/srv/lab", "C:\\labwright", "d:\\lab\\one"],
        [
            ("/srv/my lab", "fits"),
            ("srv", "fits"),
            ("/", "fits"),
            ("C:\\my lab", "fits"),
            ("C:/labwright", "fits"),
            ("C:\\", "fits"),
            ("\\\\server\\share", "fits"),
            ("C:labwright", "fits"),
            ("C:\\a\\", "fits"),
            ("C:\\a+b", "fits"),
        ],
    ),
    "lab_state": (["/srv/state", "C:\\state"], [("state", "fits"), ("C:state", "fits")]),
    "lab_store": (["/srv/store", "D:\\store"], [("", "fits"), ("D:", "fits")]),
    "lab_agent_code": (["auto", "docker", "unit", "local"], [("podman", "one of ['auto', 'docker'"), (None, "one of")]),
    "lab_docker_desktop": ([True, False], [("yes", "type boolean")]),
    "anaconda_distribution": (["miniforge", "miniconda", "anaconda"], [("mambaforge", "one of"), (True, "one of")]),
    "lab_bundle_dir": (["", "/a b"], [([], "type string")]),
    "lab_bundle_url": (["", "http://192.0.2.1:8480", "https://x/y"], [("192.0.2.1:8480", "fits"), ("ftp://x", "fits")]),
    "lab_bundle_source": (["auto", "kit", "conda-forge"], [("pip", "one of")]),
    "lab_bundle_python": (["auto", "build", "/usr/bin/python3.11"], [("", "non-empty")]),
    "lab_bundle_tags": (
        [["cpu"], ["cpu", "cu118", "cu130"]],
        [([], "non-empty"), ("cpu", "type array"), (["cuda"], "fits"), (["cu12"], "fits"), ([128], "type string")],
    ),
    "lab_bundle_engines": ([[], ["vllm"]], [("vllm", "type array"), ([1], "type string")]),
    "lab_bundle_models": ([[], ["chatglm2-6b"]], [("chatglm2-6b", "type array"), ([1], "type string")]),
    "lab_mirrors": (
        [{}, {"python": "https://mirror.example.org/simple"}, {"profile": "internal", "base": "http://m:8081/r"}],
        [
            ({"python": "mirror"}, "fits"),
            ({"pypi": "https://x"}, "pypi"),
            ([], "type object"),
            ({"docker": "https://x/y"}, "fits"),
        ],
    ),
    "lab_mirror_credentials": ([{}, {"m.example": {"user": "u", "password": "p#:@/~["}}], []),
    "lab_secrets_dir": (["/srv/secrets", "x"], [("", "non-empty"), (1, "type string")]),
    "lab_api_names": (
        [[], ["lab.example.org", "192.0.2.1", "2001:db8::1"]],
        [("x", "type array"), (["https://x"], "fits"), (["a b"], "fits"), (["-a"], "fits")],
    ),
    "lab_api_keys": (
        [{}, {"anna": "a" * 20}, {"anna-2": ["a" * 20, "b" * 128]}],
        [],  # see test_keys.py
    ),
    "lab_certificate": (
        [{"certificate": "/c", "key": "/k", "authority": "/a"}],
        [({"certificate": "/c", "key": "/k"}, "authority"), ("/c", "type object")],
    ),
    "lab_task": (["Say hello."], [("", "non-empty")]),
    "lab_verdict": (["/srv/verdict.json"], [("", "non-empty"), (True, "type string")]),
    "lab_level": (["strict", "compatible", "forced"], [("lax", "one of")]),
    "lab_waivers": (
        [[], [{"rule": "LW-TORCH-004", "reason": "a patched driver"}]],
        [([{"rule": "LW-TORCH-004"}], "reason"), ([{"rule": "all", "reason": "a patched driver"}], "fits")],
    ),
    "lab_language": (["en", "zh"], [("de", "one of")]),
    "lab_plan_dir": (["/srv/plan"], [("", "non-empty")]),
    "hardware_given": (
        [{}, {"platform": "win-64", "driver_version": "535.104.05", "gpus": [{"name": "A", "memory_mib": 8192}]}],
        [
            ({"platform": "arm"}, "one of"),
            ({"memory_mib": -1}, "at least"),
            ({"driver_version": "new"}, "fits"),
            ({"gpus": [{"name": "A"}]}, "memory_mib"),
            ({"gpus": [{"name": "A", "memory_mib": 10**9}]}, "at most"),
            ({"gpus": [{"name": "A", "memory_mib": 8192, "compute_capability": "86"}]}, "fits"),
            ({"cores": 4}, "cores"),
        ],
    ),
    "lab_image": (["bookworm", "trixie"], [("buster", "one of")]),
}


def messages(variables: dict[str, Any], roles: dict[str, set[str]] | None = None) -> list[str]:
    return [str(one) for one in wishes.problems("gpu01", variables, roles or {})]


def test_every_variable_is_in_the_table_of_this_test() -> None:
    assert set(TABLE) == set(wishes.table())


@pytest.mark.parametrize(("name", "value"), [(name, good) for name, row in TABLE.items() for good in row[0]])
def test_good_values(name: str, value: Any) -> None:
    assert messages({name: value}) == []


@pytest.mark.parametrize(("name", "value", "word"), [(name, *bad) for name, row in TABLE.items() for bad in row[1]])
def test_bad_values(name: str, value: Any, word: str) -> None:
    (message,) = messages({name: value})
    assert message.startswith(f"LW-VAR-002: gpu01: {name}")
    assert word in message


@pytest.mark.parametrize("name", list(TABLE))
def test_every_row_of_the_table_is_sound(name: str) -> None:
    row = wishes.table()[name]
    jsonschema.Draft202012Validator.check_schema(row["schema"])
    assert row["about"].endswith(".")
    if "default" in row:
        assert messages({name: row["default"]}) == []


def test_how_a_list_is_written_is_shown_to_who_wrote_none() -> None:
    (models,) = messages({"lab_models": "chatglm2-6b"})
    assert "is 'chatglm2-6b'; expected auto or array of string or object with name" in models
    assert models.endswith(", such as [chatglm2-6b].")
    (tags,) = messages({"lab_bundle_tags": "cpu"})
    assert tags.endswith("is 'cpu'; expected a value of type array of string, such as [cpu].")


def test_the_place_of_a_bad_value_is_named() -> None:
    assert messages({"lab_mirrors": {"torch": 5}}) == [
        "LW-VAR-002: gpu01: lab_mirrors['torch'] is 5; expected a value of type string."
    ]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("lab_modles", "did you mean lab_models?"),
        ("lab_api_prot", "did you mean lab_api_port?"),
        ("lab_xyzzy_quux", "see docs/reference/inventory.md for the names."),
    ],
)
def test_unknown_names_with_our_prefix(name: str, hint: str) -> None:
    assert messages({name: 1}) == [f"LW-VAR-001: gpu01: there is no variable {name}; {hint}"]


def test_what_the_plays_set_themselves_is_no_wish() -> None:
    assert messages(dict.fromkeys(wishes.INTERNAL, 1)) == []


def test_what_plays_set_on_hosts_is_no_wish() -> None:
    """A later play of the same run sees it among the host's variables."""
    plays = "\n".join(path.read_text() for path in (ROOT / "playbooks").rglob("*.yml"))
    assert set(re.findall(r"register: (lab_\w+)", plays)) <= wishes.INTERNAL


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("docker_user", "docker_users"),
        ("docker_user_s", "docker_users"),
        ("docker_users", ""),
        ("docker_registry_password", ""),
        ("docker_compose_version", ""),
        ("nginx_users", ""),
        ("ansible_user", ""),
    ],
)
def test_only_near_misses_of_a_roles_own_names_are_found(name: str, meant: str) -> None:
    found = messages({name: 1}, {"docker": {"docker_users", "docker_state"}})
    expected = f"LW-VAR-001: gpu01: the role docker has no variable {name}; did you mean {meant}?"
    assert found == ([expected] if meant else [])


def test_the_roles_of_this_repository_say_what_they_take() -> None:
    roles = wishes.role_variables(ROOT / "roles")
    assert {"anaconda", "torch", "transformers", "fastchat", "autogen", "git", "docker"} <= set(roles)
    assert all(name.startswith(f"{role}_") for role, names in roles.items() for name in names)
    theirs = {name for names in roles.values() for name in names} - set(wishes.table())
    assert messages(dict.fromkeys(theirs, 1), roles) == []


def test_all_problems_are_told_at_once() -> None:
    found = messages({"lab_device": "gpu", "lab_modles": [], "lab_api_port": 0})
    assert [one.split(":")[0] for one in found] == ["LW-VAR-002", "LW-VAR-002", "LW-VAR-001"]


def test_a_host_has_the_defaults_and_its_own_wishes() -> None:
    host = wishes.host_of("gpu01", ["workers"], {"lab_api_port": 8080, "ansible_host": "192.0.2.7", "other": 1})
    assert (host.name, host.groups, host.address) == ("gpu01", frozenset({"workers"}), "192.0.2.7")
    assert host.wishes["lab_api_port"] == 8080
    assert host.wishes["lab_controller_port"] == 21001
    assert set(host.wishes) <= set(wishes.table())


@pytest.mark.parametrize(
    ("variables", "address"),
    [({}, "gpu01"), ({"ansible_host": "1.2.3.4"}, "1.2.3.4"), ({"ansible_host": "1.2.3.4", "lab_address": "a"}, "a")],
)
def test_the_address_of_a_host(variables: dict[str, Any], address: str) -> None:
    assert wishes.host_of("gpu01", [], variables).address == address


def test_every_wrong_value_inside_of_one_is_named() -> None:
    given = {"driver_version": "new", "memory_mib": -5, "gpus": [{"name": "A", "memory_mib": 0}]}
    found = messages({"hardware_given": given})
    assert len(found) == 3
    assert all(any(word in one for one in found) for word in ("driver_version", "['memory_mib'] is -5", "['gpus'][0]"))


HUSH = "pa55word"


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"lab_mirrors": {"python": f"https://me:{HUSH}@m.example/simple"}}, "lab_mirrors['python']"),
        ({"lab_mirrors": {"base": f"HTTPS://me:{HUSH}@m.example"}}, "lab_mirrors['base']"),
        ({"lab_mirrors": {"torch": f"me:{HUSH}@m.example"}}, "lab_mirrors['torch']"),
        ({"lab_mirrors": {"torch": f"https://m.example/whl?token={HUSH}"}}, "lab_mirrors['torch']"),
        ({"lab_mirrors": {"torch": {"url": "https://m.example", "password": HUSH}}}, "lab_mirrors['torch']"),
        ({"lab_mirrors": {"password": HUSH}}, "lab_mirrors['password']"),
        ({"lab_bundle_url": f"http://me:{HUSH}@m.example"}, "lab_bundle_url"),
    ],
)
def test_a_login_inside_of_an_address_is_refused_and_not_repeated(variables: dict[str, Any], place: str) -> None:
    (message,) = messages(variables)
    assert message.startswith(f"LW-VAR-003: gpu01: {place} has a login")
    assert "lab_mirror_credentials" in message
    assert HUSH not in message


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (HUSH, ""),
        ({"https://m.example": {"user": "u", "password": HUSH}}, ""),
        ({"m.example": HUSH}, "['m.example']"),
        ({"m.example": {"user": "u", "passwort": HUSH}}, "['m.example']"),
        ({"m.example": {"user": "u", "password": f"{HUSH} x"}}, "['m.example']['password']"),
        ({"m.example": {"user": "u", "password": f"{HUSH}é"}}, "['m.example']['password']"),
        ({"m.example": {"user": f"u:{HUSH}", "password": "p"}}, "['m.example']['user']"),
    ],
)
def test_credentials_of_another_form_are_refused_and_not_shown(value: Any, place: str) -> None:
    found = messages({"lab_mirror_credentials": value})
    assert found
    assert all(one.startswith(f"LW-VAR-004: gpu01: lab_mirror_credentials{place} is not of the form") for one in found)
    assert not any(HUSH in one for one in found)


def test_credentials_are_no_part_of_a_hosts_wishes() -> None:
    given = {"lab_mirror_credentials": {"m.example": {"user": "u", "password": HUSH}}}
    assert HUSH not in repr(wishes.host_of("gpu01", [], given))
