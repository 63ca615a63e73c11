"""labwright.doors: who may reach which port, from the plan as it was written; whatever the lab looks like."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hostkit import firewall
from labwright import doors, inventory
from labwright.wishes import Host
from unit.labwright.made_up import catalogue, host, ids, lab, machine, written

ROOT = Path(__file__).resolve().parents[3]
ALL_IN_ONE = [host("one1", "controller api workers agents")]
THREE = [host("ctl10", "controller api agents"), host("w11", "workers"), host("w12", "workers")]
SPREAD = [host("c1", "controller"), host("a2", "api"), host("a3", "api workers"), host("w4", "workers")]
SPREAD += [host("g5", "agents"), host("idle6", "spare")]
CONTROLLER, WORKER, API, GATEWAY = 21001, 21002, 21000, 9527
STRANGER = "203.0.113.66"


def requests(fleet: Sequence[Host], **more: Any) -> dict[str, dict[str, Any]]:
    """Each host's request, from the plan's JSON."""
    plan = json.loads(json.dumps(written(lab(fleet, **more))))
    found = doors.of(plan["hosts"])
    return {one.name: doors.request(found[one.name], one) for one in fleet}


def row(request: dict[str, Any], kind: str, what: str) -> dict[str, Any]:
    """The one row of that name."""
    (found,) = [one for one in request[kind] if one["what"] == what]
    return dict(found)


def enters(request: dict[str, Any], source: str, port: int) -> bool:
    """Whether the rules let a beginning of a connection in."""
    rows = [one for one in request["inward"] if one["port"] == port]
    return not rows or any(
        ipaddress.ip_address(source) in ipaddress.ip_network(net) for one in rows for net in one["from"]
    )


def leaves(request: dict[str, Any], user: str, address: str, port: int) -> bool:
    """Whether the rules let a user of the host connect to a peer."""
    rows = [one for one in request["peers"] if one["port"] == port and address in one["to"]]
    return user == "root" or all(user in one["users"] for one in rows)


# --- the order of the play -------------------------------------------------------------------------------------------


def test_what_is_no_longer_planned_goes_on_every_host_before_the_firewall_opens() -> None:
    (play,) = yaml.safe_load((ROOT / "playbooks/services.yml").read_text(encoding="utf-8"))
    roles = [{**task["ansible.builtin.include_role"], "when": task.get("when")} for task in play["tasks"][:3]]
    unplanned = {"tasks_from": "unplanned.yml"}
    assert roles == [
        {"name": "gateway", **unplanned, "when": "lab_plan.system == 'linux' and gateway_listen | length == 0"},
        {"name": "fastchat", **unplanned, "when": None},
        {"name": "firewall", "when": None},
    ]


# --- labs as they are ------------------------------------------------------------------------------------------------


def test_a_lab_on_one_host_has_nothing_open_inside_and_users_kept_apart() -> None:
    found = requests(ALL_IN_ONE)["one1"]
    assert (found["inward"], found["peers"]) == ([], [])
    assert {one["port"]: one["users"] for one in found["here"]} == {
        CONTROLLER: ["labwright"],
        API: ["labwright", "labwright-gateway"],
        WORKER: ["labwright"],
    }
    assert found["users"] == ["labwright", "labwright-gateway"]
    assert found["state"] == "present"


def test_a_lab_of_three_opens_to_each_other_alone() -> None:
    found = requests(THREE)
    assert found["ctl10"]["inward"] == [
        {"what": "controller", "port": CONTROLLER, "from": ["192.0.2.11", "192.0.2.12"]}
    ]
    assert row(found["ctl10"], "peers", "worker")["to"] == ["192.0.2.11", "192.0.2.12"]
    assert found["w11"]["inward"] == [{"what": "worker", "port": WORKER, "from": ["192.0.2.10"]}]
    assert found["w11"]["peers"] == [
        {"what": "controller", "port": CONTROLLER, "to": ["192.0.2.10"], "users": ["labwright"]}
    ]
    assert found["w11"]["users"] == ["labwright"]


def test_a_spread_lab() -> None:
    found = requests(SPREAD)
    assert row(found["c1"], "inward", "controller")["from"] == ["192.0.2.2", "192.0.2.3", "192.0.2.4"]
    assert row(found["w4"], "inward", "worker")["from"] == ["192.0.2.2", "192.0.2.3", "192.0.2.1"]
    assert row(found["a3"], "inward", "worker")["from"] == ["192.0.2.2", "192.0.2.1"]
    assert found["g5"] == found["idle6"] == doors.absent("linux-64")


def test_everybody_may_ask_the_gateway_unless_the_site_names_its_clients() -> None:
    assert all(enters(found, STRANGER, GATEWAY) for found in requests(SPREAD).values())
    few = [Host(one.name, one.groups, {**one.wishes, "lab_api_clients": ["10.1.0.0/16"]}) for one in SPREAD]
    found = requests(few)["a2"]
    assert row(found, "inward", "gateway")["from"] == [f"192.0.2.{at}" for at in (3, 1, 5, 6, 4)] + ["10.1.0.0/16"]
    assert enters(found, "10.1.2.3", GATEWAY)
    assert not enters(found, STRANGER, GATEWAY)
    assert not enters(requests(few)["w4"], "10.1.2.3", WORKER)


def test_the_page_is_reached_as_the_api_is() -> None:
    fleet = [host("c1", "controller api web", lab_api_clients=["10.1.0.0/16"]), host("w2", "workers")]
    found = requests(fleet)["c1"]
    assert row(found, "here", "web") == {"what": "web", "port": 20999, "users": ["labwright", "labwright-gateway"]}
    assert row(found, "inward", "page") == {"what": "page", "port": 7860, "from": ["192.0.2.2", "10.1.0.0/16"]}
    assert not enters(found, STRANGER, 7860)
    open_to_all = requests([host("c1", "controller api web"), host("w2", "workers")])["c1"]
    assert enters(open_to_all, STRANGER, 7860)


def test_a_site_with_rules_of_its_own_gets_none_of_ours() -> None:
    own = [Host(one.name, one.groups, {**one.wishes, "lab_firewall": False}) for one in THREE]
    assert all(found == doors.absent("linux-64") for found in requests(own).values())


def test_names_are_handed_on_and_a_machine_on_paper_is_no_peer() -> None:
    own = {"certificate": "api.crt", "key": "api.key", "authority": "site.crt"}
    api = host("a1", "api", lab_address="api.example.org", lab_certificate=own)
    fleet = [api, host("c1", "controller"), host("w2", "workers"), host("w3", "workers")]
    found = requests(fleet, machines={"w3": machine(source="given")})
    assert row(found["c1"], "inward", "controller")["from"] == ["api.example.org", "192.0.2.2"]
    assert row(found["w2"], "inward", "worker")["from"] == ["api.example.org", "192.0.2.1"]
    assert row(found["a1"], "peers", "worker")["to"] == ["192.0.2.2"]
    assert found["w3"] == doors.absent("linux-64")


def test_an_inner_api_on_the_network_is_nobodys_but_its_hosts() -> None:
    plan = json.loads(json.dumps(written(lab(THREE))))["hosts"]
    plan["ctl10"]["api"] = {"host": "192.0.2.10", "port": API}
    found = doors.of(plan)
    assert row(found["ctl10"], "inward", "api")["from"] == []
    assert all("api" not in [one["what"] for one in rules["peers"]] for rules in found.values())


def test_an_engine_of_its_own_is_for_its_bridge_alone() -> None:
    plan = json.loads(json.dumps(written(lab(THREE))))
    plan["hosts"]["w11"]["workers"][0]["engine_url"] = "http://127.0.0.1:20900"
    rules = doors.of(plan["hosts"])["w11"]
    assert {"what": "engine", "port": 20900, "users": ["labwright"]} in rules["here"]
    assert 20900 not in [one["port"] for one in rules["inward"]]


def test_hosts_outside_of_the_run_keep_their_doors() -> None:
    before = json.loads(json.dumps(written(lab(THREE))))
    assert requests(THREE, machines={"w12": None, "ctl10": None}, before=before) == requests(THREE)


def test_a_thousand_workers_cost_each_a_few_lines() -> None:
    fleet = [host("c1", "controller api"), *(host(f"w{number}", "workers") for number in range(2, 1002))]
    found = requests(fleet)
    assert len(row(found["c1"], "inward", "controller")["from"]) == 1000
    assert len(json.dumps(found["w500"])) < 600


@pytest.mark.parametrize("entry", ["10.1.0.0/33", "desk.example.org", "127.0.0.1", "::1/128", " 10.1.0.1"])
def test_a_client_that_is_no_network_is_refused_before_any_host_is_asked(entry: str) -> None:
    fleet = [host("one1", "controller api workers", lab_api_clients=["192.0.2.0/24", entry])]
    _whole, by_host = inventory.check(fleet, catalogue())
    assert ids(by_host["one1"]) == ["LW-PLAN-035"]


def test_clients_of_every_form_are_taken() -> None:
    clients = ["192.0.2.0/24", "192.0.2.7/24", "10.1.2.3", "2001:db8::/32", "::ffff:10.0.0.0/104", "0.0.0.0/0"]
    _whole, by_host = inventory.check([host("one1", "controller api workers", lab_api_clients=clients)], catalogue())
    assert by_host["one1"] == []


# --- whatever the lab looks like --------------------------------------------------------------------------------------

LABS = st.lists(
    st.tuples(st.sets(st.sampled_from(["api", "workers", "agents", "spare"]), min_size=1), st.integers(1, 3)),
    max_size=6,
).map(
    lambda rows: [
        host(f"h{at}", " ".join(sorted(groups)), lab_models=["demo"] * count)
        for at, (groups, count) in enumerate([({"controller", "api"}, 1), *rows], 1)
    ]
)


@settings(max_examples=60, deadline=None)
@given(LABS, st.sampled_from([[], ["10.1.0.0/16"]]))
def test_what_the_lab_needs_is_open_and_nothing_else(fleet: list[Host], clients: list[str]) -> None:
    fleet = [Host(one.name, one.groups, {**one.wishes, "lab_api_clients": clients}) for one in fleet]
    plan = json.loads(json.dumps(written(lab(fleet))))["hosts"]
    found = {one.name: doors.request(doors.of(plan)[one.name], one) for one in fleet}
    address = {name: one["address"] for name, one in plan.items()}
    needed = {(name, peer, port) for name, peer, port in paths(plan)}
    for name, request in found.items():
        firewall.render({**request, "here": [], "peers": []})  # it can be written
        for target, port, listens in inner(plan):
            open_ = enters(found[target], address[name], port)
            if listens == "127.0.0.1":
                assert not [one for one in found[target]["inward"] if one["port"] == port]
                assert (name, target, port) not in needed or name == target
            elif name != target:
                assert open_ == ((name, target, port) in needed)
                assert not enters(found[target], STRANGER, port)
                assert not enters(found[target], "10.1.2.3", port)
            if (name, target, port) in needed and name != target:
                assert leaves(request, "labwright", address[target], port)
                assert not leaves(request, "labwright-agent", address[target], port)
            elif name != target and listens != "127.0.0.1":
                assert not open_  # no rule for users is needed: the peer refuses the host
        for port in {port for target, port, _listens in inner(plan) if target == name}:
            (users,) = [one["users"] for one in request["here"] if one["port"] == port]
            assert "labwright" in users
            assert ("labwright-gateway" in users) == (port == (plan[name]["api"] or {}).get("port"))
            assert "labwright-agent" not in users
        if plan[name]["gateway"]:
            assert all(enters(request, one, GATEWAY) for one in address.values() if one != address[name])
            assert enters(request, STRANGER, GATEWAY) == (not clients)


def inner(plan: dict[str, Any]) -> list[tuple[str, int, str]]:
    """Every service that asks for no key: host, port, where it listens."""
    found = []
    for name, one in plan.items():
        found += [(name, one[kind]["port"], one[kind]["host"]) for kind in ("controller", "api") if one[kind]]
        found += [(name, worker["port"], worker["listen"]) for worker in one["workers"]]
    return found


def paths(plan: dict[str, Any]) -> list[tuple[str, str, int]]:
    """Who connects to whom, from the duties alone."""
    (control,) = [name for name, one in plan.items() if one["controller"]]
    asking = [name for name, one in plan.items() if {"worker", "api"} & set(one["duties"])]
    found = [(name, control, plan[control]["controller"]["port"]) for name in asking]
    askers = [control, *(name for name, one in plan.items() if "api" in one["duties"])]
    found += [
        (name, target, one["port"]) for target, row_ in plan.items() for one in row_["workers"] for name in askers
    ]
    return found
