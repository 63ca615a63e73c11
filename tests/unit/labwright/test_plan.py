"""labwright.plan: what every host of a lab gets, each reason to refuse, and what holds for any lab."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from labwright import inventory, memory
from labwright.builds import covers
from labwright.hardware import Gpu, Hardware, seen
from labwright.planned import Fleet, HostPlan
from labwright.wishes import Host, host_of
from labwright.words import finding
from unit.labwright.made_up import (
    MODELS,
    STACKS,
    TORCH,
    all_ids,
    card,
    catalogue,
    entry,
    host,
    ids,
    lab,
    layer,
    machine,
    on_windows,
    one_host,
    placed,
    real,
    stack,
    written,
)

ALL_IN_ONE = [host("one1", "controller api workers agents")]
THREE = [host("ctl10", "controller api agents"), host("w11", "workers"), host("w12", "workers")]
TWO_MODELS = [host("ctl10", "controller api"), host("w11", "workers", lab_models=["demo", "other"])]
GIB = 1024


def chatglm2(*cards: Gpu, **more: Any) -> HostPlan:
    """One host with cards that serves ChatGLM2; wishes and the machine's other properties by name."""
    about = {key: more.pop(key) for key in ("driver", "platform", "memory_mib", "listening") if key in more}
    return one_host(machine(*cards, **about), **more)


def listening(address: str, port: int, unit: str = "nginx.service") -> tuple[dict[str, Any], ...]:
    return ({"address": address, "port": port, "unit": unit},)


def test_a_model_that_waits_for_the_one_before_it_says_so() -> None:
    found = chatglm2(card(12 * GIB), lab_models=["chatglm2-6b", "labwright-demo"])
    assert [one.quantization for one in found.workers] == ["int8", "fp16"]
    (reason,) = [row for row in found.workers[1].explain if row.choice == "quantization"]
    assert (reason.because.id, [no.why.id for no in reason.rejected]) == ("WHY-ORDER", ["LW-FIT-008"])


# --- the page --------------------------------------------------------------------------------------------------------


def test_the_page_listens_on_its_host_alone_and_the_gateway_shows_it() -> None:
    made = lab([host("c1", "controller api web"), host("w2", "workers")])
    assert made.met
    found = made.hosts["c1"]
    assert (found.api["port"], found.web) == (21000, {"host": "127.0.0.1", "port": 20999})
    assert found.page == {"host": "192.0.2.1", "port": 7860}
    (why,) = [row for row in found.explain if row.choice == "page"]
    assert (why.value, why.because.id) == ("https://192.0.2.1:7860", "WHY-PAGE")
    assert made.hosts["w2"].web == made.hosts["w2"].page == {}


def test_without_the_group_nothing_is_different() -> None:
    assert all((one.web, one.page) == ({}, {}) for one in lab(THREE).hosts.values())


def test_a_page_needs_the_gateway_of_an_api() -> None:
    found = lab([host("c1", "controller api"), host("w2", "workers web")])
    assert ids(found.hosts["w2"].problems) == ["LW-PLAN-036"]


def test_a_port_of_the_page_that_somebody_has_is_told() -> None:
    taken = [{"address": "0.0.0.0", "port": 7860, "unit": "other.service"}]  # noqa: S104
    found = lab([host("c1", "controller api web")], machines={"c1": machine(listening=taken)})
    assert ids(found.hosts["c1"].problems) == ["LW-PLAN-009"]


# --- what each host gets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fleet", "duties", "stacks", "workers", "ports"),
    [
        ("ctl10", THREE, ["controller", "api", "agent"], [], [], []),
        ("w11", THREE, ["worker"], ["chatglm2"], ["labwright-worker-demo"], [21002]),
        (
            "one1",
            ALL_IN_ONE,
            ["controller", "worker", "api", "agent"],
            ["chatglm2"],
            ["labwright-worker-demo"],
            [21002],
        ),
        (
            "w11",
            TWO_MODELS,
            ["worker"],
            ["chatglm2", "chatglm2"],
            ["labwright-worker-demo", "labwright-worker-other"],
            [21002, 21003],
        ),
        ("desk5", [*THREE, host("desk5", "agents")], ["agent"], [], [], []),
        ("ctl1", [host("ctl1", "controller")], ["controller"], [], [], []),
    ],
)
def test_duties_decide_what_a_host_gets(
    name: str, fleet: list[Host], duties: list[str], stacks: list[str], workers: list[str], ports: list[int]
) -> None:
    made = lab(fleet)
    assert made.met
    found = made.hosts[name]
    assert found.duties == duties
    assert [worker.stack for worker in found.workers] == stacks
    assert [worker.name for worker in found.workers] == workers
    assert [worker.port for worker in found.workers] == ports


def test_a_host_in_no_group_gets_nothing_and_the_plan_says_why() -> None:
    found = lab([*THREE, host("idle9", "spare")]).hosts["idle9"]
    assert (found.duties, found.workers, found.controller, found.api, found.endpoints) == ([], [], {}, {}, [])
    assert (found.explain[-1].value, found.explain[-1].because.id) == ("none", "WHY-NO-DUTY")


def test_the_controller_listens_where_the_others_reach_it_and_the_api_behind_its_gateway() -> None:
    made = lab(THREE)
    assert made.hosts["ctl10"].controller == {"host": "192.0.2.10", "port": 21001}
    assert made.hosts["ctl10"].api == {"host": "127.0.0.1", "port": 21000}
    assert made.hosts["ctl10"].gateway == {"host": "192.0.2.10", "port": 9527}
    assert {one.controller_url for one in made.hosts.values()} == {"http://192.0.2.10:21001"}
    assert made.hosts["w11"].controller == made.hosts["w11"].api == made.hosts["w11"].gateway == {}
    assert made.hosts["w11"].workers_listen == "192.0.2.11"


@pytest.mark.parametrize(
    ("groups", "controller", "workers"),
    [
        # What all who need it have on their own host listens there alone.
        (["controller api workers agents"], "127.0.0.1", ["127.0.0.1"]),
        (["controller api workers", "agents"], "127.0.0.1", ["127.0.0.1", "192.0.2.2"]),
        (["controller api workers", "workers"], "192.0.2.1", ["127.0.0.1", "192.0.2.2"]),
        (["controller workers", "api"], "192.0.2.1", ["192.0.2.1", "192.0.2.2"]),
        (["controller api workers", "api"], "192.0.2.1", ["192.0.2.1", "192.0.2.2"]),
    ],
)
def test_fastchat_listens_no_wider_than_the_topology_needs(
    groups: list[str], controller: str, workers: list[str]
) -> None:
    hosts = lab([host(f"h{at}", words) for at, words in enumerate(groups, start=1)]).hosts
    assert hosts["h1"].controller["host"] == controller
    assert hosts["h1"].controller_url == f"http://{controller}:21001"
    assert [one.workers_listen for one in hosts.values()] == workers


def test_the_inner_api_steps_over_a_port_in_use() -> None:
    taken = [{"address": "127.0.0.1", "port": 21000, "unit": "other.service"}]
    assert lab(ALL_IN_ONE, {"one1": machine(listening=tuple(taken))}).hosts["one1"].api["port"] == 20999
    ours = [{"address": "127.0.0.1", "port": 21000, "unit": "labwright-api.service"}]
    assert lab(ALL_IN_ONE, {"one1": machine(listening=tuple(ours))}).hosts["one1"].api["port"] == 21000


@pytest.mark.parametrize(
    ("memory", "others", "expected"),
    [(24, [], 5), (16, [], 2), (15, [], 1), (48, ["chatglm2-6b"], 5), (32, ["chatglm2-6b"], 2)],
)
def test_as_many_conversations_at_a_time_as_the_rest_of_the_card_holds(
    memory: int, others: list[str], expected: int
) -> None:
    """One more conversation of 2048 tokens takes 1032 MiB; the weights and the first one 13641."""
    found = chatglm2(card(memory * GIB), lab_models=["chatglm2-6b", *others])
    assert (found.workers[0].quantization, found.workers[0].concurrency) == ("fp16", expected)


def test_an_agent_asks_the_api_of_its_own_host_first() -> None:
    fleet = [host("a1", "controller api"), host("b2", "api agents"), host("c3", "agents"), host("w4", "workers")]
    hosts = lab(fleet).hosts
    assert [hosts[name].api_url for name in ("b2", "c3")] == ["https://192.0.2.2:9527/v1", "https://192.0.2.1:9527/v1"]
    # Each model has an entry for every API, the nearest first: AutoGen asks the next when one is down.
    assert hosts["c3"].endpoints == [{"model": "demo", "base_url": f"https://192.0.2.{one}:9527/v1"} for one in (1, 2)]
    assert [one["base_url"] for one in hosts["b2"].endpoints] == [f"https://192.0.2.{one}:9527/v1" for one in (2, 1)]
    assert hosts["w4"].endpoints == []


def test_aliases_are_served_and_listed_once() -> None:
    named = [{"name": "demo", "aliases": ["gpt-4"]}]
    fleet = [host("ctl10", "controller api agents"), host("w11", "workers", lab_models=named), host("w12", "workers")]
    made = lab(fleet)
    assert made.hosts["w11"].workers[0].names == ["demo", "gpt-4"]
    assert made.served == ["demo", "gpt-4"]
    assert [one["model"] for one in made.hosts["ctl10"].endpoints] == ["demo", "gpt-4"]
    assert made.workers == 2


def test_the_lab_holds_as_many_conversations_as_its_workers_together() -> None:
    made = lab([host("c1", "controller api agents"), host("w2", "workers"), host("w3", "workers")])
    each = [worker.concurrency for one in made.hosts.values() for worker in one.workers]
    assert len(each) == 2
    assert made.capacity == sum(each) > 2


def test_a_hosts_wish_for_one_model_twice_makes_two_workers_with_names_of_their_own() -> None:
    made = lab([host("c1", "controller workers", lab_models=["demo", "demo", "other"])])
    assert made.met
    assert [(one.name, one.port) for one in made.hosts["c1"].workers] == [
        ("labwright-worker-demo", 21002),
        ("labwright-worker-demo-2", 21003),
        ("labwright-worker-other", 21004),
    ]


def test_the_sandbox_is_decided_for_agents_alone() -> None:
    made = lab(THREE)
    assert [one.sandbox for one in made.hosts.values()] == ["docker", "", ""]
    assert [one.value for one in made.hosts["ctl10"].explain if one.choice == "sandbox"] == ["docker"]


@pytest.mark.parametrize(
    ("wish", "distribution", "kind", "reason"),
    [
        ("auto", "debian", "docker", "WHY-SANDBOX-DOCKER"),
        ("auto", "rocky", "unit", "WHY-SANDBOX-UNIT"),
        ("docker", "rocky", "docker", "WHY-SANDBOX-WISH"),
        ("unit", "debian", "unit", "WHY-SANDBOX-WISH"),
        ("local", "debian", "local", "WHY-SANDBOX-LOCAL"),
    ],
)
def test_the_sandbox_is_the_one_that_was_wished_or_that_the_distribution_has(
    wish: str, distribution: str, kind: str, reason: str
) -> None:
    one = host("c1", "controller api workers agents", lab_agent_code=wish)
    made = lab([one], {"c1": machine(distribution=distribution)}).hosts["c1"]
    assert made.sandbox == kind
    assert [row.because.id for row in made.explain if row.choice == "sandbox"] == [reason]
    assert [row.id for row in made.notes] == (["LW-PLAN-044"] if kind == "local" else [])


def test_every_choice_has_its_reason() -> None:
    for made in (lab(THREE), lab(ALL_IN_ONE), lab(TWO_MODELS, {"w11": machine(card(8 * GIB))})):
        for one in made.hosts.values():
            for worker in one.workers:
                assert [row.choice for row in worker.explain] == ["stack", "torch", "quantization", "concurrency"]
            rows = [*one.explain, *(row for worker in one.workers for row in worker.explain)]
            assert all(row.value and row.because.sentence() for row in rows)
            assert all(no.value and no.why.sentence() for row in rows for no in row.rejected)


# --- stacks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "expected"), [("demo", "chatglm2"), ("new", "newer")])
def test_a_model_gets_the_stack_whose_transformers_its_code_works_with(model: str, expected: str) -> None:
    found = lab([host("c1", "controller workers", lab_models=[model])]).hosts["c1"]
    assert [one.stack for one in found.workers] == [expected]
    (row,) = [row for row in found.workers[0].explain if row.choice == "stack"]
    (no,) = row.rejected
    assert (no.value, no.why.id) == ({"chatglm2": "newer", "newer": "chatglm2"}[expected], "LW-STACK-001")


def test_one_host_may_serve_from_several_stacks() -> None:
    found = lab([host("c1", "controller workers", lab_models=["demo", "new"])]).hosts["c1"]
    assert [one.stack for one in found.workers] == ["chatglm2", "newer"]


def test_a_model_that_no_stack_fits_is_refused_with_what_there_is() -> None:
    found = lab([host("c1", "controller workers", lab_models=["odd"])]).hosts["c1"]
    assert ids(found.problems) == ["LW-STACK-002"]
    assert "chatglm2 (4.33.3), newer (4.46.3)" in found.problems[0].sentence()


def test_of_two_stacks_that_do_the_one_with_locks_for_the_platform_comes_first() -> None:
    unlocked = replace(STACKS["chatglm2"], name="unlocked", transformers="4.33.9", locks=())
    one = catalogue(stacks={**STACKS, "unlocked": unlocked})
    found = lab([host("c1", "controller workers")], catalogue_=one).hosts["c1"].workers[0]
    assert found.stack == "chatglm2"
    assert [(no.value, no.why.id) for no in found.explain[0].rejected][-1] == ("unlocked", "LW-STACK-003")


def test_of_two_stacks_with_locks_the_newer_one_comes_first() -> None:
    newest = replace(STACKS["chatglm2"], name="newest", transformers="4.33.9")
    one = catalogue(stacks={**STACKS, "newest": newest})
    assert lab([host("c1", "controller workers")], catalogue_=one).hosts["c1"].workers[0].stack == "newest"


# "newest" would be taken for "demo" unless another one was wished for; "newer" cannot serve it.
TWO_THAT_DO = {**STACKS, "newest": replace(STACKS["chatglm2"], name="newest", transformers="4.33.9")}


def wishing(stack_: str, *models: Any, **wishes: Any) -> HostPlan:
    """One host whose stack was wished for."""
    fleet = [host("c1", "controller workers", lab_models=list(models), lab_stack=stack_, **wishes)]
    return lab(fleet, catalogue_=catalogue(stacks=TWO_THAT_DO)).hosts["c1"]


@pytest.mark.parametrize(("wish", "other"), [("chatglm2", "newest"), ("newest", "chatglm2")])
def test_the_stack_that_is_wished_for_is_taken_and_the_others_are_not(wish: str, other: str) -> None:
    found = wishing(wish, "demo", "other")
    assert found.problems == []
    assert [one.stack for one in found.workers] == [wish, wish]
    (row,) = [row for row in found.workers[0].explain if row.choice == "stack"]
    assert row.because.id == "WHY-STACK"
    assert {no.value: no.why.id for no in row.rejected} == {other: "LW-STACK-005", "newer": "LW-STACK-005"}
    assert row.rejected[0].why.sentence() == f"lab_stack asks for {wish}."


def test_a_wish_for_a_stack_is_one_hosts_own() -> None:
    fleet = [host("c1", "controller workers", lab_stack="chatglm2"), host("w2", "workers")]
    hosts = lab(fleet, catalogue_=catalogue(stacks=TWO_THAT_DO)).hosts
    assert [one.stack for name in ("c1", "w2") for one in hosts[name].workers] == ["chatglm2", "newest"]


@pytest.mark.parametrize("name", ["chatglm3", "frontend", "agents"])
@pytest.mark.parametrize("replicas", [{}, {"replicas": 1}, {"replicas": "fit"}])
def test_a_stack_that_serves_nothing_is_a_problem_of_its_host(name: str, replicas: dict[str, Any]) -> None:
    models = [{"name": "demo", **replicas}]
    fleet = [
        host("c1", "controller"),
        host("w2", "workers", lab_models=models, lab_stack=name),
        host("w3", "workers", lab_models=models),
    ]
    made = lab(fleet)
    assert ids(made.hosts["w2"].problems) == ["LW-STACK-004"]
    assert made.hosts["w2"].problems[0].values == {"wish": name, "known": ["chatglm2", "newer"]}
    assert made.hosts["w2"].workers == []
    assert [one.model for one in made.hosts["w3"].workers] == ["demo"]
    assert not made.met


def test_a_host_that_serves_no_model_may_carry_any_wish_for_a_stack() -> None:
    assert lab([host("c1", "controller", lab_stack="chatglm3"), host("w2", "workers")]).met


def test_a_wished_stack_outside_of_a_models_window_is_refused_though_another_one_would_do() -> None:
    assert wishing("", "new").problems == []
    found = wishing("chatglm2", "demo", "new")
    assert ids(found.problems) == ["LW-STACK-002"]
    assert found.problems[0].values["known"] == ["chatglm2 (4.33.3)"]
    assert "empty lab_stack" in found.problems[0].say()["fix"]
    assert found.workers == []


def test_a_wished_stack_outside_of_a_models_window_is_taken_by_waiver() -> None:
    found = wishing("chatglm2", "new", **waive("LW-STACK-001"))
    assert found.problems == []
    assert [one.stack for one in found.workers] == ["chatglm2"]
    assert found.waivers == [{"rule": "LW-STACK-001", "reason": "tried by hand in May", "value": "chatglm2"}]
    (row,) = [row for row in found.workers[0].explain if row.choice == "stack"]
    assert row.because.id == "WHY-STACK-WAIVED"
    assert {no.value: no.why.id for no in row.rejected} == {"newer": "LW-STACK-005", "newest": "LW-STACK-005"}


def test_a_waiver_is_not_used_where_the_wished_stack_does() -> None:
    found = wishing("newer", "new", **waive("LW-STACK-001"))
    assert ([one.stack for one in found.workers], found.waivers) == (["newer"], [])
    assert ids(found.notes) == ["LW-PLAN-027"]


# --- quantisation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gib", "expected"),
    [(80, "fp16"), (24, "fp16"), (16, "fp16"), (12, "int8"), (10, "int8"), (8, "int4"), (6, "int4")],
)
def test_the_card_decides_how_chatglm2_is_served(gib: int, expected: str) -> None:
    found = chatglm2(card(gib * GIB))
    assert found.problems == []
    assert [one.quantization for one in found.workers] == [expected]
    assert found.workers[0].device == "cuda"
    reason = found.workers[0].explain[2]
    assert (reason.value, reason.because.id) == (expected, "WHY-BEST")
    better = ["fp16", "int8", "int4"][: ["fp16", "int8", "int4"].index(expected)]
    assert [no.value for no in reason.rejected] == better
    assert {no.why.id for no in reason.rejected} <= {"LW-FIT-003"}


def test_a_quantisation_begins_exactly_where_it_fits() -> None:
    model = real().models["chatglm2-6b"]
    need = memory.needed_mib(model, "int8", inventory.TOKENS, "cuda")
    enough = next(mib for mib in range(need, 2 * need) if memory.usable_mib(mib, 0) >= need)
    assert [one.quantization for one in chatglm2(card(enough)).workers] == ["int8"]
    assert [one.quantization for one in chatglm2(card(enough - 1)).workers] == ["int4"]


def test_a_card_of_four_gib_holds_no_chatglm2_and_the_ways_out_are_named() -> None:
    fleet = [host("c1", "controller api"), *(host(f"w{at}", "workers", lab_models=["chatglm2-6b"]) for at in (2, 3, 4))]
    cards = {"w2": machine(card(4 * GIB)), "w3": machine(card(24 * GIB)), "w4": machine(card(4 * GIB))}
    made = lab(fleet, cards, catalogue_=real())
    (problem,) = made.hosts["w2"].problems
    assert (problem.id, problem.values["least"], problem.values["total"]) == ("LW-FIT-001", "int4", 4 * GIB)
    assert "w3" not in problem.say()["fix"], "it serves this model itself"
    assert not made.met
    alone = chatglm2(card(4 * GIB))
    assert alone.workers == []
    assert "It takes a GPU with about" in (fix := alone.problems[0].say()["fix"])
    assert "Of the catalogue, qwen2.5-0.5b-instruct would fit here:" in fix
    would = chatglm2(card(4 * GIB), lab_models=["qwen2.5-0.5b-instruct"])
    assert [one.model for one in would.workers] == ["qwen2.5-0.5b-instruct"], "what is said to fit does"
    assert "Of the catalogue" not in chatglm2(card(GIB // 2)).problems[0].say()["fix"]


def test_a_host_with_room_that_does_not_serve_the_model_is_named_and_a_smaller_model_too() -> None:
    models = {11: ["chatglm2-6b"], 12: ["chatglm2-6b"], 13: ["qwen2.5-0.5b-instruct"], 14: ["qwen2.5-0.5b-instruct"]}
    fleet = [host("c1", "controller api"), *(host(f"w{at}", "workers", lab_models=one) for at, one in models.items())]
    sizes = {"w11": 4, "w12": 80, "w13": 24, "w14": 4}
    made = lab(fleet, {name: machine(card(gib * GIB)) for name, gib in sizes.items()}, catalogue_=real())
    (problem,) = made.hosts["w11"].problems
    assert problem.say()["fix"].startswith("It fits on w13. Of the catalogue, qwen2.5-0.5b-instruct would fit here:")


def test_what_would_fit_here_is_asked_for_the_wished_context() -> None:
    wish = {"name": "qwen2.5-7b-instruct", "context": 32768}
    (problem,) = chatglm2(card(24 * GIB, "7.5"), lab_models=[wish]).problems
    ways = {one.id: one.values for one in problem.values["ways"]}
    shorter, models = ways["WAY-CONTEXT"]["tokens"], ways["WAY-MODEL"]["models"]
    for fitting in ({**wish, "context": shorter}, *({**wish, "name": one} for one in models)):
        assert chatglm2(card(24 * GIB, "7.5"), lab_models=[fitting]).problems == [], "what is said to fit does"
    assert chatglm2(card(24 * GIB, "7.5"), lab_models=[{**wish, "context": shorter + 256}]).problems != []
    names = {name for name, row in real().models.items() if "bundled" not in row} - {wish["name"], *models}
    assert "glm-4-9b-chat-hf" in names
    for one in names:
        assert chatglm2(card(24 * GIB, "7.5"), lab_models=[{**wish, "name": one}]).problems != []


def test_a_model_that_is_here_already_is_not_named_as_the_one_that_would_fit() -> None:
    found = chatglm2(card(8 * GIB), lab_models=["qwen2.5-0.5b-instruct", "chatglm2-6b"])
    assert [one.model for one in found.workers] == ["qwen2.5-0.5b-instruct"]
    assert "Of the catalogue" not in found.problems[0].say()["fix"]


def test_the_need_of_a_model_over_two_cards_is_told_for_each() -> None:
    wish = {"name": "qwen2.5-7b-instruct", "gpus": 2, "context": 8192}
    (problem,) = chatglm2(card(11 * GIB), card(11 * GIB), lab_models=[wish]).problems
    assert (problem.id, problem.values["room"]) == ("LW-FIT-011", memory.usable_mib(11 * GIB, 0))
    (way,) = [one for one in problem.values["ways"] if one.id == "WAY-CARDS"]
    assert way.values["gpus"] == 2
    enough = way.values["need"]
    assert chatglm2(card(enough), card(enough), lab_models=[wish]).problems == []
    assert chatglm2(card(enough), card(enough - 20), lab_models=[wish]).problems != []
    assert "WAY-HOST" not in ids(problem.values["ways"])


def test_the_card_that_is_said_to_be_enough_is() -> None:
    (problem,) = chatglm2(card(4 * GIB)).problems
    (way,) = [one for one in problem.values["ways"] if one.id == "WAY-CARD"]
    assert chatglm2(card(way.values["need"])).problems == []
    assert chatglm2(card(way.values["need"] - 20)).problems != []


def test_an_asked_quantisation_that_does_not_fit_names_the_smaller_one_that_would() -> None:
    found = chatglm2(card(12 * GIB), lab_models=[{"name": "chatglm2-6b", "quantization": "fp16"}])
    assert ids(found.problems) == ["LW-FIT-001"]
    assert found.problems[0].say()["fix"] == "Set quantization: int8 for chatglm2-6b in lab_models: that fits here."


@pytest.mark.parametrize("asked", ["fp16", "int8", "int4"])
def test_an_asked_quantisation_is_kept_where_a_better_one_would_fit(asked: str) -> None:
    found = chatglm2(card(80 * GIB), lab_models=[{"name": "chatglm2-6b", "quantization": asked}])
    assert [one.quantization for one in found.workers] == [asked]
    assert found.workers[0].explain[2].because.id == "WHY-ASKED"
    assert found.workers[0].explain[2].rejected == ()


def test_fp32_is_not_chosen_where_the_catalogue_does_not_list_it_but_may_be_asked_for() -> None:
    assert chatglm2(card(80 * GIB)).workers[0].quantization == "fp16"
    found = chatglm2(card(80 * GIB), lab_models=[{"name": "chatglm2-6b", "quantization": "fp32"}])
    assert [one.quantization for one in found.workers] == ["fp32"]


@pytest.mark.parametrize(("capability", "expected"), [("7.5", "fp16"), ("8.0", "bf16"), ("12.0", "bf16")])
def test_of_the_two_with_sixteen_bits_the_card_decides(capability: str, expected: str) -> None:
    fleet = [host("c1", "controller workers", lab_models=["new"])]
    found = lab(fleet, {"c1": machine(card(8 * GIB, capability))}).hosts["c1"]
    assert [one.quantization for one in found.workers] == [expected]


def test_a_longer_context_takes_more_memory_and_may_cost_the_quality() -> None:
    found = chatglm2(card(16 * GIB), lab_models=[{"name": "chatglm2-6b", "context": 8192}])
    assert found.workers[0].tokens == 8192
    assert found.workers[0].memory_mib > memory.needed_mib(real().models["chatglm2-6b"], "int8", 2048, "cuda")
    assert found.workers[0].quantization == "int8"


def test_memory_that_others_hold_is_not_given_away_and_is_noted() -> None:
    found = chatglm2(card(24 * GIB, foreign_mib=12 * GIB))
    assert [one.quantization for one in found.workers] == ["int8"]
    assert ids(found.notes) == ["LW-GPU-013"]
    assert f"Other programs hold {12 * GIB} MiB" in found.notes[0].sentence()
    assert chatglm2(card(24 * GIB, foreign_mib=200)).notes == [], "a desktop's windows are no news"


def test_a_driver_newer_than_the_catalogue_is_noted_and_taken_for_good() -> None:
    found = chatglm2(card(24 * GIB), driver="610.10.01")
    assert (ids(found.notes), found.problems) == (["LW-GPU-014"], [])
    assert found.workers[0].build.label == chatglm2(card(24 * GIB), driver="595.45.04").workers[0].build.label


# --- this repository's locks ------------------------------------------------------------------------------------------

SERVED = {
    "chatglm2-6b": "chatglm2",
    "qwen2.5-0.5b-instruct": "current",
    "qwen2.5-7b-instruct": "current",
    "glm-4-9b-chat-hf": "current",
}


@pytest.mark.parametrize("platform", ["linux-64", "win-64"])
@pytest.mark.parametrize("model", SERVED)
@pytest.mark.parametrize(
    ("capability", "driver", "build"),
    [
        ("7.5", "535.104.05", "2.10.0+cu128"),
        ("7.5", "470.82.01", "2.7.1+cu118"),
        ("7.0", "580.65.06", "2.10.0+cu128"),
        ("12.0", "580.65.06", "2.12.1+cu130"),
    ],
    ids=["T4", "T4 with an old driver", "V100", "RTX 5090"],
)
def test_each_model_gets_a_locked_build_of_the_stack_that_its_code_works_with(
    capability: str, driver: str, build: str, model: str, platform: str
) -> None:
    found = chatglm2(card(32 * GIB, capability), driver=driver, platform=platform, lab_models=[model])
    assert found.problems == []
    (worker,) = found.workers
    assert (worker.stack, worker.build.label) == (SERVED[model], build)
    stack_ = real().stacks[worker.stack]
    assert (platform, build) in stack_.locked
    assert [one.role for one in stack_.layers(worker.build.tag, platform)] == ["torch", "transformers", "fastchat"]


# --- CPU -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hardware", "wishes", "reason"),
    [
        (machine(), {}, "WHY-CPU"),
        (machine(card(24 * GIB)), {"lab_device": "cpu"}, "WHY-CPU-ASKED"),
        (machine(card(24 * GIB, "3.0"), driver="390.1"), {"lab_device": "cpu"}, "WHY-CPU-ASKED"),
    ],
)
def test_the_cpu_is_chosen_for_a_reason(hardware: Hardware, wishes: dict[str, Any], reason: str) -> None:
    found = one_host(hardware, **wishes)
    assert found.problems == []
    (worker,) = found.workers
    assert (worker.device, worker.gpus, worker.build.tag, worker.quantization) == ("cpu", (), "cpu", "fp32")
    assert worker.explain[2].because.id == reason


@pytest.mark.parametrize(("gib", "expected"), [(64, ["fp32"]), (16, ["int8"]), (8, [])])
def test_the_hosts_memory_decides_on_the_cpu(gib: int, expected: list[str]) -> None:
    found = one_host(machine(memory_mib=gib * GIB))
    assert [one.quantization for one in found.workers] == expected
    assert ids(found.problems) == ([] if expected else ["LW-FIT-001"])


def test_a_broken_driver_is_no_cpu_host() -> None:
    wrong = finding("LW-GPU-002", status=18, said="Driver/library version mismatch")
    made = lab(ALL_IN_ONE, found={"one1": [wrong]})
    assert all_ids(made) == ["LW-GPU-002"]
    assert made.hosts["one1"].workers == []


def test_whoever_asks_for_the_cpu_need_not_mend_the_gpu() -> None:
    wrong = finding("LW-GPU-002", status=18, said="Driver/library version mismatch")
    made = lab([host("c1", "controller workers", lab_device="cpu")], found={"c1": [wrong]})
    assert made.met
    assert len(made.hosts["c1"].workers) == 1


def test_the_gpu_of_a_host_that_serves_no_model_is_nobodys_business() -> None:
    wrong = finding("LW-GPU-002", status=18, said="Driver/library version mismatch")
    assert all_ids(lab(THREE, found={"ctl10": [wrong]})) == []


@pytest.mark.parametrize("groups", ["controller api workers", "controller api"])
@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_machine_with_an_arm_processor_is_refused_whatever_it_would_do(groups: str, device: str) -> None:
    arm = [finding("LW-GPU-017", name="NVIDIA GB10")]
    made = lab([host("c1", groups, lab_device=device)], {"c1": machine(memory_mib=64 * GIB)}, found={"c1": arm})
    assert [one.values["name"] for one in made.hosts["c1"].problems if one.id == "LW-GPU-017"] == ["NVIDIA GB10"]
    assert made.hosts["c1"].workers == []


def test_a_torn_detail_is_a_note() -> None:
    made = lab(ALL_IN_ONE, found={"one1": [finding("LW-GPU-012", said="no element found")]})
    assert made.met
    assert ids(made.hosts["one1"].notes) == ["LW-GPU-012"]


# --- several cards ---------------------------------------------------------------------------------------------------


def test_a_model_too_large_for_one_card_is_spread_on_linux_and_packed_on_windows() -> None:
    cards = [card(12 * GIB), card(12 * GIB)]
    (linux,) = chatglm2(*cards).workers
    assert (linux.quantization, len(linux.gpus), linux.explain[2].because.id) == ("fp16", 2, "WHY-SPREAD")
    assert linux.memory_mib == 2 * linux.each_mib
    (windows,) = chatglm2(*cards, platform="win-64").workers
    assert (windows.quantization, len(windows.gpus)) == ("int8", 1)


def test_what_fits_on_one_card_is_not_spread() -> None:
    (worker,) = chatglm2(card(24 * GIB), card(24 * GIB)).workers
    assert len(worker.gpus) == 1


def test_so_many_cards_as_asked() -> None:
    cards = [card(24 * GIB) for _ in range(4)]
    (worker,) = chatglm2(*cards, lab_models=[{"name": "chatglm2-6b", "gpus": 3}]).workers
    assert (worker.quantization, len(worker.gpus)) == ("fp16", 3)


@pytest.mark.parametrize(
    "hardware",
    [
        machine(),
        machine(card(24 * GIB), card(24 * GIB), platform="win-64"),
        machine(card(24 * GIB)),
    ],
    ids=["no GPU", "Windows", "one GPU"],
)
def test_cards_that_cannot_be_joined_are_refused(hardware: Hardware) -> None:
    found = one_host(hardware, lab_models=[{"name": "chatglm2-6b", "gpus": 2}])
    assert ids(found.problems) == ["LW-FIT-007"]
    assert found.workers == []


def test_cards_of_different_kinds_are_not_joined() -> None:
    (worker,) = chatglm2(card(12 * GIB, "7.5"), card(12 * GIB, "8.6")).workers
    assert len(worker.gpus) == 1


def test_mig_devices_are_not_joined() -> None:
    devices = [card(10 * GIB, "8.0", uuid=f"MIG-{at}", mig=True) for at in range(4)]
    (worker,) = chatglm2(*devices).workers
    assert (worker.quantization, len(worker.gpus)) == ("int8", 1)
    assert worker.gpus[0].uuid.startswith("MIG-")


def test_each_of_several_mig_devices_may_carry_a_model() -> None:
    devices = [card(10 * GIB, "8.0", uuid=f"MIG-{at}", mig=True) for at in range(2)]
    found = chatglm2(*devices, lab_models=["chatglm2-6b", "chatglm2-6b"])
    assert [one.quantization for one in found.workers] == ["int8", "int8"]
    assert {gpu.uuid for one in found.workers for gpu in one.gpus} == {"MIG-0", "MIG-1"}


def test_two_kinds_of_cards_on_one_host_get_a_build_each() -> None:
    cards = [card(16 * GIB, "7.0", "Tesla V100"), card(16 * GIB, "12.0", "GeForce RTX 5080")]
    found = chatglm2(*cards, lab_models=["chatglm2-6b", "chatglm2-6b"])
    assert found.problems == []
    builds = {worker.gpus[0].compute_capability: worker.build.label for worker in found.workers}
    assert builds == {"7.0": "2.10.0+cu128", "12.0": "2.12.1+cu130"}


def test_a_card_without_code_is_left_out_and_the_other_one_serves() -> None:
    found = chatglm2(card(80 * GIB, "3.5", "Tesla K40"), card(8 * GIB, "8.6"))
    assert found.problems == []
    assert [worker.gpus[0].compute_capability for worker in found.workers] == ["8.6"]


def test_where_no_card_has_a_build_the_reason_is_the_problem() -> None:
    assert ids(chatglm2(card(24 * GIB, "7.5"), driver="440.33").problems) == ["LW-TORCH-007"]
    assert ids(chatglm2(card(24 * GIB, "3.5")).problems) == ["LW-TORCH-009"]
    assert ids(chatglm2(card(24 * GIB, "3.7"), driver="460.27.03", lab_level="strict").problems) == ["LW-TORCH-008"]


@pytest.mark.parametrize(
    ("hardware", "quantization"),
    [(machine(), "bf16"), (machine(card(24 * GIB, "7.5")), "bf16"), (machine(), "fp16")],
    ids=["bf16 on the CPU", "bf16 on Turing", "fp16 on the CPU"],
)
def test_what_a_device_cannot_compute_is_refused(hardware: Hardware, quantization: str) -> None:
    wish = [{"name": "new", "quantization": quantization}]
    found = lab([host("c1", "controller workers", lab_models=wish)], {"c1": hardware}).hosts["c1"]
    assert ids(found.problems) == ["LW-FIT-005"]


def test_a_later_wish_waits_for_one_that_found_no_room() -> None:
    found = chatglm2(card(4 * GIB), lab_models=["chatglm2-6b", "labwright-demo"])
    assert ids(found.problems) == ["LW-FIT-001", "LW-FIT-002"]
    assert found.problems[1].values == {"model": "labwright-demo", "other": "chatglm2-6b"}


def test_the_first_wish_gets_the_better_quality() -> None:
    found = chatglm2(card(16 * GIB), lab_models=["chatglm2-6b", "chatglm2-6b"])
    assert [one.quantization for one in found.workers] == ["int8", "int4"]


# --- ports -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "port", "unit", "problem", "worker_port"),
    [
        ("0.0.0.0", 21002, "nginx.service", "", 21003),  # noqa: S104
        ("0.0.0.0", 21002, "", "", 21003),  # noqa: S104
        ("::ffff:192.0.2.1", 21002, "nginx.service", "", 21003),
        ("::ffff:0.0.0.0", 21002, "nginx.service", "", 21003),
        ("192.0.2.1", 21002, "labwright-worker-demo.service", "", 21002),
        ("127.0.0.1", 21002, "nginx.service", "", 21003),
        ("::ffff:127.0.0.1", 21002, "nginx.service", "", 21003),
        ("192.0.2.77", 21002, "nginx.service", "", 21002),
        ("::1", 21002, "nginx.service", "", 21003),
        ("0.0.0.0", 22, "ssh.service", "", 21002),  # noqa: S104
        ("::", 21001, "nginx.service", "LW-PLAN-009", 0),
        ("192.0.2.1", 9527, "nginx.service", "LW-PLAN-009", 0),
        ("::ffff:192.0.2.1", 9527, "", "LW-PLAN-009", 0),
        ("0.0.0.0", 9527, "labwright-api.service", "", 21002),  # noqa: S104
    ],
)
def test_ports_in_use(address: str, port: int, unit: str, problem: str, worker_port: int) -> None:
    made = lab(ALL_IN_ONE, {"one1": machine(listening=listening(address, port, unit))})
    assert all_ids(made) == ([problem] if problem else [])
    assert [one.port for one in made.hosts["one1"].workers] == ([worker_port] if worker_port else [])


def test_the_program_that_has_the_port_is_named() -> None:
    made = lab(ALL_IN_ONE, {"one1": machine(listening=listening("::", 9527))})
    words = made.hosts["one1"].problems[0].sentence()
    assert "Port 9527 is in use by nginx.service" in words
    assert "lab_*_port" in words


def test_a_port_that_was_stepped_over_is_explained() -> None:
    made = lab(ALL_IN_ONE, {"one1": machine(listening=listening("::", 21002))})
    (row,) = [row for row in made.hosts["one1"].explain if row.choice == "port"]
    assert (row.value, row.because.sentence()) == ("21003", "Port 21002 is in use by nginx.service.")


def test_workers_step_over_the_controllers_and_the_apis_port() -> None:
    wishes = {"lab_worker_port": 21001, "lab_api_port": 21003, "lab_models": ["demo", "other"]}
    made = lab([host("c1", "controller api workers", **wishes)])
    assert made.met
    assert [one.port for one in made.hosts["c1"].workers] == [21002, 21004]


def test_there_are_no_ports_above_65535() -> None:
    made = lab([host("c1", "controller workers", lab_worker_port=65535, lab_models=["demo", "other"])])
    assert all_ids(made) == ["LW-PLAN-011"]


# --- replicas over the fleet -----------------------------------------------------------------------------------------


def workers_of(count: int, *models: Any, first: int = 11, **wishes: Any) -> list[Host]:
    """A controller and so many workers that carry the same list."""
    workers = [host(f"w{first + at}", "workers", lab_models=list(models), **wishes) for at in range(count)]
    return [host("ctl10", "controller api"), *workers]


def cards_for(fleet: Sequence[Host], *cards: Gpu) -> dict[str, Hardware]:
    """The same cards in every worker, with UUIDs of their own."""
    return {one.name: machine(*cards, named=one.name) for one in fleet if "workers" in one.groups}


BIG = {"name": "chatglm2-6b", "replicas": 2}


def test_replicas_go_to_the_hosts_that_do_best() -> None:
    fleet = workers_of(3, BIG)
    machines = {
        "w11": machine(card(8 * GIB), named="w11"),
        "w12": machine(card(24 * GIB), named="w12"),
        "w13": machine(card(12 * GIB), named="w13"),
    }
    made = lab(fleet, machines, catalogue_=real())
    assert made.met
    assert placed(made) == {
        "ctl10": [],
        "w11": [],
        "w12": [("chatglm2-6b", "fp16", ("GPU-w12-0",))],
        "w13": [("chatglm2-6b", "int8", ("GPU-w13-0",))],
    }
    assert all(worker.replica for one in made.hosts.values() for worker in one.workers)


def test_equal_hosts_share_the_replicas() -> None:
    fleet = workers_of(4, {"name": "chatglm2-6b", "replicas": 4})
    made = lab(fleet, cards_for(fleet, card(80 * GIB)), catalogue_=real())
    assert [len(made.hosts[f"w{at}"].workers) for at in (11, 12, 13, 14)] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("replicas", "expected"), [(1, [1, 0, 0]), (2, [1, 1, 0]), ("fit", [1, 1, 1])], ids=["one", "two", "as many as fit"]
)
def test_a_card_comes_before_a_cpu_whose_fp32_is_the_better_quality(replicas: int | str, expected: list[int]) -> None:
    fleet = workers_of(3, {"name": "qwen2.5-7b-instruct", "replicas": replicas})
    cards = cards_for(fleet[:3], card(24564, "8.9"))
    made = lab(fleet, {**cards, "w13": machine(memory_mib=64 * GIB)}, catalogue_=real())
    assert made.met
    assert [len(made.hosts[name].workers) for name in ("w11", "w12", "w13")] == expected
    assert {one.device for one in made.hosts["w13"].workers} == ({"cpu"} if expected[2] else set())


def test_several_replicas_on_one_host_have_names_of_their_own() -> None:
    fleet = workers_of(1, {"name": "chatglm2-6b", "replicas": 3})
    made = lab(fleet, cards_for(fleet, card(24 * GIB), card(24 * GIB), card(24 * GIB)), catalogue_=real())
    assert [one.name for one in made.hosts["w11"].workers] == [
        "labwright-worker-chatglm2-6b",
        "labwright-worker-chatglm2-6b-2",
        "labwright-worker-chatglm2-6b-3",
    ]
    assert len({gpu.uuid for one in made.hosts["w11"].workers for gpu in one.gpus}) == 3
    assert [one.port for one in made.hosts["w11"].workers] == [21002, 21003, 21004]


def test_replicas_that_find_no_room_are_the_labs_problem() -> None:
    fleet = workers_of(2, {"name": "chatglm2-6b", "replicas": 5})
    made = lab(fleet, cards_for(fleet, card(8 * GIB)), catalogue_=real())
    assert not made.met
    (problem,) = made.problems
    assert problem.id == "LW-FIT-006"
    assert {key: problem.values[key] for key in ("wanted", "placed", "hosts")} == {"wanted": 5, "placed": 2, "hosts": 2}


def test_replicas_that_no_host_can_have_at_all_say_why() -> None:
    fleet = workers_of(2, {"name": "chatglm2-6b", "replicas": 1})
    old = {name: replace(one, driver_version="440.33") for name, one in cards_for(fleet, card(8 * GIB)).items()}
    assert all_ids(lab(fleet, old, catalogue_=real())) == ["LW-TORCH-007"]


def test_fit_fills_every_card_and_never_complains() -> None:
    fleet = workers_of(2, {"name": "chatglm2-6b", "replicas": "fit"})
    made = lab(fleet, cards_for(fleet, card(16 * GIB), card(8 * GIB), card(4 * GIB)), catalogue_=real())
    assert made.met
    assert [(model, kind) for model, kind, _gpu in placed(made)["w11"]] == [
        ("chatglm2-6b", "fp16"),
        ("chatglm2-6b", "int4"),
    ]
    assert len(placed(made)["w12"]) == 2


def test_on_the_cpu_a_host_carries_one_copy_of_a_model() -> None:
    fleet = workers_of(2, {"name": "demo", "replicas": "fit"})
    assert [len(one.workers) for one in lab(fleet).hosts.values()] == [0, 1, 1]


def test_auto_fills_the_cards_with_all_models_of_the_catalogue_the_largest_first() -> None:
    fleet = [host("ctl10", "controller api"), host("w11", "workers", lab_models="auto")]
    made = lab(fleet, cards_for(fleet, card(80 * GIB)), catalogue_=real())
    assert made.met
    names = ["glm-4-9b-chat-hf", "qwen2.5-7b-instruct", "chatglm2-6b", "qwen2.5-0.5b-instruct"]
    assert [one.model for one in made.hosts["w11"].workers][: len(names)] == names
    bundled = {name for name, model in real().models.items() if "bundled" in model}
    assert not bundled & {one.model for one in made.hosts["w11"].workers}


def test_a_hosts_own_wishes_come_before_the_fleets() -> None:
    fleet = [
        host("ctl10", "controller api"),
        host("w11", "workers", lab_models=[{"name": "chatglm2-6b", "replicas": 1}]),
        host("w12", "workers", lab_models=[{"name": "chatglm2-6b", "replicas": 1}, "labwright-demo"]),
    ]
    made = lab(fleet, cards_for(fleet, card(24 * GIB)), catalogue_=real())
    assert [model for model, _kind, _cards in placed(made)["w12"]] == ["labwright-demo", "chatglm2-6b"]
    assert placed(made)["w11"] == [], "of two that do as well the fuller card is taken"


def test_the_first_of_the_list_is_placed_first() -> None:
    scarce = machine(card(8 * GIB), named="w11")
    for first, second in itertools.permutations(["chatglm2-6b", "labwright-demo"]):
        fleet = workers_of(1, {"name": first, "replicas": 1}, {"name": second, "replicas": "fit"})
        made = lab(fleet, {"w11": scarce}, catalogue_=real())
        assert placed(made)["w11"][0][0] == first


def test_a_host_with_a_problem_of_its_own_gets_no_replicas() -> None:
    fleet = [
        host("ctl10", "controller api"),
        host("w11", "workers", lab_models=["chatglm2-6b", {"name": "labwright-demo", "replicas": 1}]),
        host("w12", "workers", lab_models=[{"name": "labwright-demo", "replicas": 1}]),
    ]
    made = lab(fleet, cards_for(fleet, card(4 * GIB)), catalogue_=real())
    assert [worker.model for worker in made.hosts["w11"].workers] == []
    assert [worker.model for worker in made.hosts["w12"].workers] == ["labwright-demo"]


def test_a_number_of_replicas_is_the_fleets_wherever_in_a_hosts_list_the_entry_stands() -> None:
    one = {"name": "demo", "replicas": 1}
    fleet = [
        host("ctl10", "controller"),
        host("w11", "workers", lab_models=[one]),
        host("w12", "workers", lab_models=["other", one]),
    ]
    made = lab(fleet)
    assert [worker.model for found in made.hosts.values() for worker in found.workers].count("demo") == 1


def test_a_number_of_replicas_is_the_fleets_whatever_aliases_a_host_gives() -> None:
    fleet = [
        host("ctl10", "controller"),
        host("w11", "workers", lab_models=[{"name": "demo", "replicas": 1}]),
        host("w12", "workers", lab_models=[{"name": "demo", "replicas": 1, "aliases": ["gpt-4"]}]),
    ]
    made = lab(fleet)
    assert [worker.model for found in made.hosts.values() for worker in found.workers].count("demo") == 1


def test_a_replica_that_was_asked_over_two_cards_gets_two_or_is_refused() -> None:
    fleet = workers_of(1, {"name": "chatglm2-6b", "replicas": 1, "gpus": 2})
    made = lab(fleet, cards_for(fleet, card(24 * GIB), card(24 * GIB)), catalogue_=real())
    assert [len(worker.gpus) for worker in made.hosts["w11"].workers] == [2] or not made.met


# --- what was planned before -----------------------------------------------------------------------------------------


def again(fleet: Sequence[Host], machines: dict[str, Hardware | None], before: Fleet, **more: Any) -> Fleet:
    """The plan after ``before``, through the JSON that was written."""
    return lab(fleet, machines, catalogue_=real(), before=json.loads(json.dumps(written(before))), **more)


def room_of(count: int, *models: Any, cards: Sequence[Gpu] = (card(24 * GIB),)) -> tuple[list[Host], dict[str, Any]]:
    fleet = workers_of(count, *models)
    return fleet, dict(cards_for(fleet, *cards))


def test_the_same_lab_planned_again_stays_as_it_is() -> None:
    fleet, machines = room_of(
        3, BIG, {"name": "labwright-demo", "replicas": "fit"}, cards=[card(16 * GIB), card(12 * GIB)]
    )
    first = lab(fleet, machines, catalogue_=real())
    second = again(fleet, machines, first)
    assert written(second) == written(first)


def test_a_number_that_cannot_be_reached_makes_no_other_worse_and_pins_nothing() -> None:
    fleet, machines = room_of(1, {"name": "big", "replicas": 1}, {"name": "odd", "replicas": 1})
    first = lab(fleet, machines)
    assert ids(first.problems) == ["LW-STACK-002"]
    assert placed(first)["w11"][0][:2] == ("big", "fp16")
    assert written(first)["placed"] == {}


def test_a_number_and_as_many_as_fit_of_one_model_go_together() -> None:
    fleet, machines = room_of(2, BIG, {"name": "chatglm2-6b", "replicas": "fit"})
    made = lab(fleet, machines, catalogue_=real())
    assert made.met
    assert sum(len(one) for one in placed(made).values()) == 4


def test_two_wishes_for_one_model_in_different_forms_are_two() -> None:
    forms = [{**BIG, "quantization": "int8"}, {**BIG, "quantization": "int4"}]
    fleet, machines = room_of(2, *forms, cards=[card(24 * GIB)] * 2)
    made = lab(fleet, machines, catalogue_=real())
    assert sorted(row[1] for one in placed(made).values() for row in one) == ["int4", "int4", "int8", "int8"]
    assert placed(again(fleet, machines, made)) == placed(made)


def test_a_kept_replica_that_could_be_better_now_says_that_it_was_kept() -> None:
    fleet, machines = room_of(1, {"name": "chatglm2-6b", "replicas": 1}, cards=[card(12 * GIB)])
    first = lab(fleet, machines, catalogue_=real())
    second = again(fleet, dict(cards_for(fleet, card(24 * GIB))), first)
    (reason,) = [row for row in second.hosts["w11"].workers[0].explain if row.choice == "quantization"]
    assert (reason.value, reason.because.id) == ("int8", "WHY-KEPT")
    assert [no.why.id for no in reason.rejected] == ["LW-FIT-009"]


def test_a_kept_replica_over_two_cards_leaves_cards_that_have_become_too_small() -> None:
    wanted = {"name": "chatglm2-6b", "replicas": 1, "gpus": 2, "quantization": "fp16"}
    fleet, machines = room_of(1, wanted, cards=[card(24 * GIB)] * 2)
    first = lab(fleet, machines, catalogue_=real())
    assert len(first.hosts["w11"].workers[0].gpus) == 2
    second = again(fleet, dict(cards_for(fleet, card(6 * GIB), card(6 * GIB))), first)
    assert (second.hosts["w11"].workers, ids(second.problems)) == ([], ["LW-FIT-006"])


def test_as_many_as_fit_where_none_fits_is_worth_a_note() -> None:
    fleet, machines = room_of(1, {"name": "chatglm2-6b", "replicas": "fit"}, cards=[card(4 * GIB)])
    made = lab(fleet, machines, catalogue_=real())
    assert made.met
    (note,) = made.hosts["w11"].notes
    assert note.id == "LW-FIT-010"
    assert "GPU" not in note.sentence(), "a CPU host is told the same"


@pytest.mark.parametrize("hardware", [machine(card(12 * GIB)), machine(memory_mib=64 * GIB)], ids=["card", "cpu"])
@pytest.mark.parametrize("models", ["auto", ["chatglm2-6b", {"name": "chatglm2-6b", "replicas": "fit"}]])
def test_a_host_that_serves_a_model_is_not_told_that_there_is_no_room_for_a_single_one(
    hardware: Hardware, models: Any
) -> None:
    found = one_host(hardware, lab_models=models)
    served = {one.model for one in found.workers}
    assert served
    assert not served & {one.values["model"] for one in found.notes if one.id == "LW-FIT-010"}


@pytest.mark.parametrize(
    ("capability", "driver", "branches"),
    [
        ("12.0", "470.256.02", ["≥ 570"]),
        ("12.0", "535.104.05", ["≥ 570"]),
        ("12.0", "570.26", None),
        ("9.0", "440.33", ["≥ 520"]),
        ("7.0", "590.44.01", ["≤ 580"]),
        ("7.0", "580.65.06", None),
        ("7.0", "581.15", None),  # as Windows counts on within the branch 580
        ("3.7", "535.104.05", ["≤ 470"]),
        ("99.0", "535.104.05", None),
    ],
)
def test_a_driver_that_does_not_drive_the_card_is_refused_on_paper_and_no_other_is_advised(
    capability: str, driver: str, branches: list[str] | None
) -> None:
    paper = replace(machine(card(32 * GIB, capability), card(32 * GIB, capability), driver=driver), source="given")
    found = [one for one in one_host(paper).problems if one.id == "LW-GPU-015"]
    assert [one.values["branches"] for one in found] == ([branches] if branches else []), "two of a kind are told once"
    if branches:
        assert ids(one_host(paper).problems) == ["LW-GPU-015"], "nor is another driver advised"
        assert one_host(paper, lab_device="cpu").problems == []
    assert "LW-GPU-015" not in ids(one_host(replace(paper, source="seen")).problems), "a real driver knows its cards"


def test_of_several_waivers_the_build_that_needs_the_fewest_is_taken() -> None:
    waivers = [{"rule": rule, "reason": "tried by hand"} for rule in ("LW-TORCH-003", "LW-TORCH-004")]
    old = machine(card(12 * GIB, "3.7"), driver="440.33.01")
    made = one_host(old, lab_models=["chatglm2-6b"], lab_level="forced", lab_waivers=waivers)
    assert made.workers[0].build.tag == "cu118"
    assert made.workers[0].explain[1].because.id == "WHY-TORCH-WAIVED"


def test_all_models_that_cannot_be_had_are_named_together() -> None:
    one = catalogue(models={**MODELS, "older": entry("older", "<4.20")})
    fleet = [host("c1", "controller workers", lab_models=["demo", "odd", "older"])]
    problems = lab(fleet, {"c1": machine(card(80 * GIB))}, catalogue_=one).hosts["c1"].problems
    assert [(one.id, one.values["model"]) for one in problems] == [("LW-STACK-002", "odd"), ("LW-STACK-002", "older")]


def test_a_cpu_host_on_auto_planned_again_stays_as_it_is() -> None:
    fleet = [host("c1", "controller workers", lab_models="auto")]
    first = lab(fleet)
    assert [one.model for one in first.hosts["c1"].workers] == ["big", "empty", "hub"]
    assert placed(lab(fleet, before=json.loads(json.dumps(written(first))))) == placed(first)


@pytest.mark.parametrize(
    "models", [[BIG], [BIG, {"name": "labwright-demo", "replicas": "fit"}], [BIG, "labwright-demo"]]
)
def test_a_new_host_moves_nothing(models: list[Any]) -> None:
    fleet, machines = room_of(2, *models, cards=[card(12 * GIB)])
    first = lab(fleet, machines, catalogue_=real())
    grown = [*fleet, host("a5", "workers", lab_models=models)]
    second = again(grown, {**machines, "a5": machine(card(80 * GIB), card(80 * GIB), named="a5")}, first)
    assert {name: one for name, one in placed(second).items() if name != "a5"} == placed(first)
    for name, part in written(first)["hosts"].items():
        assert written(second)["hosts"][name]["workers"] == part["workers"]
    fresh = lab(grown, {**machines, "a5": machine(card(80 * GIB), card(80 * GIB), named="a5")}, catalogue_=real())
    assert placed(fresh) != placed(second), "without the last plan the better host would have taken them"


def test_only_what_a_removed_host_had_is_placed_anew() -> None:
    fleet, machines = room_of(4, {"name": "chatglm2-6b", "replicas": 3})
    first = lab(fleet, machines, catalogue_=real())
    gone = next(name for name, one in placed(first).items() if one)
    second = again([one for one in fleet if one.name != gone], machines, first)
    assert second.met
    for name, one in placed(first).items():
        if name != gone and one:
            assert placed(second)[name] == one
    assert sum(map(len, placed(second).values())) == 3


def test_fewer_replicas_are_taken_away_and_more_are_added() -> None:
    fleet, machines = room_of(4, {"name": "chatglm2-6b", "replicas": 3})
    first = lab(fleet, machines, catalogue_=real())
    fewer = again(workers_of(4, {"name": "chatglm2-6b", "replicas": 1}), machines, first)
    more = again(workers_of(4, {"name": "chatglm2-6b", "replicas": 4}), machines, first)
    assert sum(map(len, placed(fewer).values())) == 1
    assert all(set(one) <= set(placed(first)[name]) for name, one in placed(fewer).items())
    assert sum(map(len, placed(more).values())) == 4
    assert all(set(one) <= set(placed(more)[name]) for name, one in placed(first).items())


def test_a_replica_whose_card_is_gone_or_taken_is_placed_anew() -> None:
    fleet, machines = room_of(2, {"name": "chatglm2-6b", "replicas": 1})
    first = lab(fleet, machines, catalogue_=real())
    assert placed(first)["w11"]
    swapped = {**machines, "w11": machine(card(6 * GIB), named="new")}
    full = {**machines, "w11": machine(card(24 * GIB, foreign_mib=20 * GIB), named="w11")}
    for changed in (swapped, full):
        second = again(fleet, changed, first)
        assert (placed(second)["w11"], len(placed(second)["w12"])) == ([], 1)


def test_a_changed_wish_does_not_keep_what_it_no_longer_asks_for() -> None:
    fleet, machines = room_of(2, BIG)
    first = lab(fleet, machines, catalogue_=real())
    changed = workers_of(2, {**BIG, "quantization": "int8"})
    assert {one[1] for workers in placed(again(changed, machines, first)).values() for one in workers} == {"int8"}


def test_another_labs_plan_is_not_this_ones() -> None:
    fleet, machines = room_of(2, {"name": "chatglm2-6b", "replicas": 1})
    first = lab(fleet, machines, catalogue_=real())
    grown = {**machines, "w11": machine(card(8 * GIB), named="w11")}
    renamed = [host(one.name, " ".join(one.groups), **{**one.wishes, "lab_name": "else"}) for one in fleet]
    assert placed(again(fleet, grown, first))["w12"] or placed(again(fleet, grown, first))["w11"]
    second = again(renamed, grown, first)
    assert placed(second) == placed(lab(renamed, grown, catalogue_=real()))
    assert placed(second)["w12"]


def test_a_host_that_was_not_asked_keeps_its_last_plan() -> None:
    fleet, machines = room_of(3, BIG, "labwright-demo")
    first = lab(fleet, machines, catalogue_=real())
    second = again(fleet, {**machines, "w12": None}, first)
    assert second.met
    assert second.hosts["w12"].kept == written(first)["hosts"]["w12"]
    assert written(second)["hosts"] == written(first)["hosts"]
    assert (second.served, second.workers) == (first.served, first.workers)


def test_replicas_on_a_host_that_was_not_asked_count() -> None:
    fleet, machines = room_of(3, {"name": "chatglm2-6b", "replicas": 3})
    first = lab(fleet, machines, catalogue_=real())
    second = again(fleet, {**machines, "w12": None}, first)
    assert second.workers == 3
    fewer = again(workers_of(3, {"name": "chatglm2-6b", "replicas": 2}), {**machines, "w12": None}, first)
    assert fewer.workers == 2


def test_what_stands_in_the_way_of_a_host_that_was_not_asked_is_still_said() -> None:
    fleet, machines = room_of(2, "chatglm2-6b", cards=[card(4 * GIB)])
    first = lab(fleet, machines, catalogue_=real())
    second = again(fleet, dict.fromkeys(machines), first)
    assert not second.met
    assert written(second)["hosts"]["w11"]["problems"] == written(first)["hosts"]["w11"]["problems"]


def test_what_its_wishes_say_of_a_host_that_was_not_asked_is_judged_all_the_same() -> None:
    first = lab(THREE)
    wrong = [*THREE[:2], host("w12", "workers", lab_models=["guess"])]
    second = lab(wrong, {"w12": None}, before=json.loads(json.dumps(written(first))))
    assert (second.met, written(second)["hosts"]["w12"]["problems"][0]["id"]) == (False, "LW-PLAN-003")


def test_a_host_that_nobody_knows_anything_of_is_a_problem() -> None:
    made = lab(THREE, {"w12": None})
    assert ids(made.hosts["w12"].problems) == ["LW-PLAN-019"]
    assert (made.hosts["w11"].problems, made.met) == ([], False)


def test_a_host_that_did_not_answer_keeps_its_last_plan_with_a_problem() -> None:
    first = written(lab(THREE))
    second = lab(THREE, {"w12": None}, before=json.loads(json.dumps(first)), silent=["w12"])
    assert (ids(second.hosts["w12"].problems), second.met) == (["LW-PLAN-019"], False)
    entry = written(second)["hosts"]["w12"]
    assert entry["workers"] == first["hosts"]["w12"]["workers"]
    assert [row["id"] for row in entry["problems"]] == ["LW-PLAN-019"]


# --- waivers ---------------------------------------------------------------------------------------------------------


def waive(*rules: str) -> dict[str, Any]:
    return {"lab_level": "forced", "lab_waivers": [{"rule": one, "reason": "tried by hand in May"} for one in rules]}


def test_a_used_waiver_stands_in_the_plan_with_its_reason() -> None:
    found = chatglm2(card(24 * GIB, "7.5"), driver="440.33", **waive("LW-TORCH-004"))
    assert (found.problems, found.notes) == ([], [])
    assert found.waivers == [
        {"rule": "LW-TORCH-004", "reason": "tried by hand in May", "value": found.workers[0].build.label}
    ]


def test_an_unused_waiver_is_noted() -> None:
    found = chatglm2(card(24 * GIB), **waive("LW-TORCH-004"))
    assert (found.waivers, ids(found.notes)) == ([], ["LW-PLAN-027"])


def test_a_waived_stack_is_taken_and_named() -> None:
    found = lab([host("c1", "controller workers", lab_models=["odd"], **waive("LW-STACK-001"))]).hosts["c1"]
    assert found.problems == []
    assert found.waivers == [{"rule": "LW-STACK-001", "reason": "tried by hand in May", "value": "newer"}]
    rejected = found.workers[0].explain[0].rejected
    assert [(no.value, no.why.id) for no in rejected] == [("chatglm2", "LW-STACK-001")], "what is taken is not rejected"


# For each rule that may be waived, a host on which it alone stands in the way.
IN_THE_WAY: dict[str, tuple[Hardware, dict[str, Any]]] = {
    "LW-TORCH-001": (machine(card(24 * GIB, "8.6")), {"lab_models": ["demo"]}),
    "LW-TORCH-003": (machine(card(24 * GIB, "3.0")), {"lab_models": ["demo"]}),
    "LW-TORCH-004": (machine(card(24 * GIB, "8.6"), driver="390.10"), {"lab_models": ["demo"]}),
    "LW-TORCH-005": (machine(card(24 * GIB, "3.7"), driver="460.27.03"), {"lab_models": ["demo"]}),
    "LW-STACK-001": (machine(), {"lab_models": ["odd"]}),
}


@pytest.mark.parametrize("rule", inventory.WAIVABLE)
def test_every_rule_that_may_be_waived_is_overruled_by_its_waiver(rule: str) -> None:
    hardware, wishes = IN_THE_WAY[rule]
    old = {"chatglm2": replace(STACKS["chatglm2"], torch=">=99"), "newer": replace(STACKS["newer"], torch=">=99")}
    one = catalogue(stacks={**STACKS, **old}) if rule == "LW-TORCH-001" else catalogue()
    level = "strict" if rule == "LW-TORCH-005" else "compatible"
    plain = lab([host("c1", "controller workers", lab_level=level, **wishes)], {"c1": hardware}, catalogue_=one)
    assert not plain.met
    forced = lab([host("c1", "controller workers", **wishes, **waive(rule))], {"c1": hardware}, catalogue_=one)
    assert forced.met
    assert [row["rule"] for row in forced.hosts["c1"].waivers] == [rule]


# --- what can be refused without asking a host -----------------------------------------------------------------------


def checked(fleet: Sequence[Host]) -> tuple[list[str], dict[str, list[str]]]:
    whole, by_host = inventory.check(fleet, catalogue())
    return ids(whole), {name: ids(found) for name, found in by_host.items() if found}


@pytest.mark.parametrize(
    ("fleet", "expected"),
    [
        ([host("w1", "workers")], "LW-PLAN-001"),
        ([host("w1", "workers controller"), host("w2", "controller")], "LW-PLAN-001"),
        ([host("w1", "workers controller agents")], "LW-PLAN-002"),
        (
            [host("w1", "controller", ansible_host="192.0.2.9"), host("w2", "api", lab_address="192.0.2.9")],
            "LW-PLAN-016",
        ),
        (
            [
                host("c1", "controller workers", lab_models=[{"name": "demo", "replicas": 2}]),
                host("w2", "workers", lab_models=[{"name": "demo", "replicas": 3}]),
            ],
            "LW-PLAN-017",
        ),
        (
            [
                host("c1", "controller workers", lab_models=[{"name": "demo", "replicas": 2}]),
                host("w2", "workers", lab_models=[{"name": "other", "aliases": ["demo"]}]),
            ],
            "LW-PLAN-010",
        ),
        ([host("c1", "controller api agents")], "LW-PLAN-031"),
        (
            [host("c1", "controller workers", lab_models=["demo", {"name": "other", "aliases": ["demo"]}])],
            "LW-PLAN-010",
        ),
        ([host("c1", "controller workers"), host("w2", "worker")], "LW-PLAN-037"),
        ([host("c1", "controller workers"), host("w2", "workers Windows")], "LW-PLAN-037"),
    ],
)
def test_labs_that_cannot_be(fleet: list[Host], expected: str) -> None:
    assert checked(fleet) == ([expected], {})
    assert expected in ids(lab(fleet).problems)
    assert not lab(fleet).met


@pytest.mark.parametrize("group", ["worker", "workers2", "windows11", "gpus"])
def test_a_group_of_the_sites_own_is_none_of_our_business(group: str) -> None:
    """A host of it has the duty as well; or its name is no slip of the pen."""
    duties = "workers" if group in ("worker", "workers2") else "api"
    assert checked([host("c1", "controller workers"), host("w2", f"{duties} {group}")]) == ([], {})


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        ({"lab_models": ["guess"]}, "LW-PLAN-003"),
        ({"lab_api_port": 21001}, "LW-PLAN-008"),
        ({"lab_web_port": 9527}, "LW-PLAN-008"),
        ({"lab_level": "forced"}, "LW-PLAN-018"),
        ({"lab_waivers": [{"rule": "LW-TORCH-004", "reason": "tried by hand"}]}, "LW-PLAN-018"),
        ({"lab_models": [{"name": "demo", "quantization": "int8"}]}, "LW-PLAN-021"),
        ({"lab_models": [{"name": "demo", "context": 4097}]}, "LW-PLAN-024"),
        (waive("LW-TORCH-002"), "LW-PLAN-025"),
        (waive("LW-FIT-001"), "LW-PLAN-025"),
        ({"lab_address": "localhost"}, "LW-KNOWN-001"),
        ({"lab_address": "LOCALHOST"}, "LW-KNOWN-001"),
        ({"lab_address": "::1"}, "LW-KNOWN-001"),
        ({"lab_address": "ip6-localhost"}, "LW-KNOWN-001"),
    ],
)
def test_wishes_that_cannot_be(wishes: dict[str, Any], expected: str) -> None:
    fleet = [host("w1", "controller api web workers", **wishes)]
    assert checked(fleet) == ([], {"w1": [expected]})
    made = lab(fleet)
    assert expected in ids(made.hosts["w1"].problems)
    assert (made.hosts["w1"].workers, made.met) == ([], False)


@pytest.mark.parametrize(
    "wishes",
    [
        {},
        {"lab_address": "127.0.0.1"},
        {"lab_models": ["demo", "demo"]},
        {"lab_models": [{"name": "demo", "aliases": ["demo"]}]},
        {"lab_models": [{"name": "demo", "quantization": "fp32", "context": 4096}]},
        {"lab_models": "auto"},
        waive("LW-TORCH-004"),
    ],
)
def test_wishes_that_can_be(wishes: dict[str, Any]) -> None:
    assert checked([host("w1", "controller api workers", **wishes)]) == ([], {})


def test_an_address_that_each_host_takes_for_itself_is_refused_in_a_lab_of_several() -> None:
    fleet = [host("c1", "controller", lab_address="127.0.1.1"), host("w2", "workers")]
    assert checked(fleet) == ([], {"c1": ["LW-PLAN-023"]})


def test_nginx_that_selinux_confines_is_no_gateway() -> None:
    confined = seen({"nginx_confined": True}, real().gpus)[0]
    fleet = [host("a1", "api"), host("c2", "controller workers", lab_models=["demo"])]
    made = lab(fleet, {"a1": confined, "c2": machine(nginx_confined=True)})
    assert ids(made.hosts["a1"].problems) == ["LW-PLAN-051"]
    assert ids(made.hosts["c2"].problems) == []
    assert lab(fleet, {"a1": seen({}, real().gpus)[0]}).met


NAMED = {"lab_address": "gpu01.lab.example"}
SITES_OWN = {"certificate": "api.crt", "key": "api.key", "authority": "site.crt"}


@pytest.mark.parametrize(
    ("fleet", "listening"),
    [
        ([host("c1", "controller", **NAMED), host("w2", "workers")], ["controller"]),
        ([host("c1", "controller workers", **NAMED), host("a2", "api")], ["controller", "workers"]),
        ([host("c1", "controller"), host("w2", "workers", **NAMED)], ["workers"]),
        ([host("c1", "controller workers api", **NAMED)], ["api"]),
        ([host("c1", "controller workers"), host("a2", "api", **NAMED)], ["api"]),
        (
            [host("c1", "controller api", lab_certificate=SITES_OWN, **NAMED), host("w2", "workers")],
            ["controller"],
        ),
    ],
)
def test_no_service_listens_at_a_name(fleet: list[Host], listening: list[str]) -> None:
    name = next(one.name for one in fleet if one.address == NAMED["lab_address"])
    whole, by_host = inventory.check(fleet, catalogue())
    (found,) = by_host[name]
    assert (whole, found.id, found.values["groups"]) == ([], "LW-PLAN-048", listening)
    assert "getent ahostsv4 gpu01.lab.example" in found.sentence()
    assert not lab(fleet).met


@pytest.mark.parametrize(
    "fleet",
    [
        # Ansible connects by the name, the lab by the address.
        [host("c1", "controller api workers", ansible_host="gpu01.lab.example", lab_address="192.0.2.1")],
        [host("c1", "controller workers", **NAMED)],  # all on the loopback address
        [host("c1", "controller api workers"), host("a2", "agents", **NAMED)],
        # A public certificate is for a name, and nginx looks it up.
        [host("c1", "controller workers"), host("a2", "api", lab_certificate=SITES_OWN, **NAMED)],
        [host("c1", "controller api workers", lab_certificate=SITES_OWN, **NAMED)],
    ],
)
def test_a_name_will_do_where_only_the_gateway_or_nothing_listens(fleet: list[Host]) -> None:
    assert checked(fleet) == ([], {})


@pytest.mark.parametrize(
    "address",
    [
        *("2001:db8::1", "[2001:db8::2]", "fe80::1%eth0", "::ffff:192.0.2.1"),
        *("192.0.2.300", "192.0.2", "192.0.2.1/24", "0.0.0.0", "224.0.0.1", "255.255.255.255", "010.0.0.1"),  # noqa: S104
        *("  192.0.2.4 ", "has space", "机房-01", "host_1", "-a", "a..b", "a.example.", "192.0.2.4\n", "h:22"),
    ],
)
@pytest.mark.parametrize("groups", ["workers", "api", "agents", ""])
def test_an_address_is_one(address: str, groups: str) -> None:
    """Where nothing listens at it, too: it stands in firewalls, certificates and URLs."""
    fleet = [host("c1", "controller api workers"), host("h2", groups, lab_address=address)]
    assert checked(fleet) == ([], {"h2": ["LW-PLAN-047"]})
    (found,) = lab(fleet).hosts["h2"].problems
    assert repr(address) in found.sentence()
    assert repr(address) in found.sentence("zh")


def test_a_hosts_name_is_its_address_where_the_inventory_gives_none() -> None:
    fleet = [host_of("机房-01", ["controller", "workers"], {"lab_models": ["demo"]})]
    assert checked(fleet) == ([], {"机房-01": ["LW-PLAN-047"]})


def test_only_workers_models_are_looked_at() -> None:
    assert checked([host("c1", "controller", lab_models=["guess"])]) == ([], {})


@pytest.mark.parametrize(
    ("groups", "words"), [(("workers", "api"), "holds -;"), (("controller", "controller api"), "holds h1, h2;")]
)
def test_the_controllers_that_were_found_are_named(groups: tuple[str, str], words: str) -> None:
    made = lab([host(f"h{number}", names) for number, names in enumerate(groups, 1)])
    assert words in made.problems[0].sentence()


def test_known_models_are_named_and_the_likely_one_is_guessed() -> None:
    (found,) = lab([host("w1", "controller workers", lab_models=["Demo-6B"])]).hosts["w1"].problems
    known = ", ".join(sorted(MODELS))
    assert found.sentence() == (
        f"There is no model Demo-6B in the catalogue; expected one of {known}. Set lab_models; did you mean demo?"
    )


def test_agents_without_the_package_that_autogen_wants_are_refused() -> None:
    bare = {**STACKS, "agents": stack("agents", [(layer("autogen", "pyautogen==0.2.35"), "")])}
    whole, _by_host = inventory.check(THREE, catalogue(stacks=bare))
    assert ids(whole) == ["LW-KNOWN-006"]
    assert ids(inventory.check(TWO_MODELS, catalogue(stacks=bare))[0]) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, []),
        ("{{ somewhere }}", []),
        ([], []),
        (["no object"], []),
        ([{"model": "demo", "base_url": "http://192.0.2.1:9527/v1"}], []),
        ([{"model": "demo", "base_url": "http://192.0.2.1:9527/v1/"}], []),
        ([{"model": "demo", "api_base": "http://192.0.2.1:9527/v1"}], ["LW-KNOWN-003"]),
        ([{"model": "demo", "api_type": "open_ai"}], ["LW-KNOWN-004"]),
        ([{"model": "gpt-4", "base_url": "http://192.0.2.1:9527/v1"}], ["LW-KNOWN-005"]),
        ([{"model": "demo", "base_url": "http://192.0.2.1:9527"}], ["LW-PLAN-026"]),
        (
            [{"model": "demo", "api_base": "x", "api_type": "y"}, {"model": "Demo"}],
            ["LW-KNOWN-003", "LW-KNOWN-004", "LW-KNOWN-005"],
        ),
    ],
)
def test_endpoints_that_were_written_by_hand(given: Any, expected: list[str]) -> None:
    assert ids(inventory.check_endpoints(given, ["demo", "other"])) == expected


def test_the_model_that_was_probably_meant_is_named() -> None:
    (found,) = inventory.check_endpoints([{"model": "Chatglm2_6b"}], ["demo", "chatglm2-6b"])
    assert (found.values["close"], found.values["served"]) == ("chatglm2-6b", ["chatglm2-6b", "demo"])


# --- the machine -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("skew", "expected"), [(300.0, []), (-300.0, []), (301.0, ["LW-HOST-001"]), (-9e5, ["LW-HOST-001"])]
)
def test_a_clock_that_is_off(skew: float, expected: list[str]) -> None:
    assert all_ids(lab(ALL_IN_ONE, {"one1": machine(clock_skew_s=skew)})) == expected


@pytest.mark.parametrize(
    ("hardware", "expected"),
    [
        (machine(), []),
        (machine(systemd=False), ["LW-KNOWN-007"]),
    ],
)
def test_agents_need_something_that_locks_up_what_models_write(hardware: Hardware, expected: list[str]) -> None:
    assert all_ids(lab(THREE, {"ctl10": hardware})) == expected
    assert all_ids(lab(THREE, {"w11": hardware})) == []


@pytest.mark.parametrize(
    ("disk", "present", "expected"),
    [
        ({}, (), []),
        ({"/opt/labwright": 100_000, "/var/cache/labwright": 100_000}, (), []),
        ({"/opt/labwright": 500}, (), ["LW-FIT-004"]),
        ({"/var/cache/labwright": 100}, (), ["LW-FIT-004"]),
        ({"": 100}, (), ["LW-FIT-004"]),
        ({"/opt/labwright": 500}, ("/opt/labwright/models/demo", "/opt/labwright/envs/chatglm2-cpu-0123"), []),
        ({"/elsewhere": 1}, (), []),
    ],
)
def test_room_on_disk_for_what_is_not_there_yet(
    disk: dict[str, int], present: tuple[str, ...], expected: list[str]
) -> None:
    made = lab(ALL_IN_ONE, {"one1": machine(disk_mib=disk, present=frozenset(present))})
    assert all_ids(made) == expected


# --- languages -------------------------------------------------------------------------------------------------------


def messages(value: Any) -> list[str]:
    """Every sentence of a written plan."""
    if isinstance(value, dict):
        own = [value[key] for key in ("message", "fix", "because") if isinstance(value.get(key), str)]
        return own + [text for one in value.values() for text in messages(one)]
    return [text for one in value for text in messages(one)] if isinstance(value, list) else []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_fleet_speaks_one_language_and_leaves_no_gap_in_a_sentence(language: str) -> None:
    wishes: dict[str, Any] = {"lab_language": language}
    fleet = [
        host("ctl10", "controller api agents", **wishes),
        host("w11", "workers", lab_models=["chatglm2-6b"], **wishes),
        host("w12", "workers", lab_models=["chatglm2-6b", "labwright-demo"], **wishes),
        host("w13", "workers", lab_models=["qwen2.5-7b-instruct"], **wishes),
        host("w14", "workers", lab_models=[{"name": "chatglm2-6b", "replicas": 9}], **wishes, **waive("LW-TORCH-004")),
        host("w15", "workers", lab_models=["nobody"], lab_address="192.0.2.14", **wishes),
        host("w16", "workers spare", **wishes),
        host("x17", "spare", **wishes),
        host("w18", "workers", lab_models=["chatglm2-6b"], **wishes),
    ]
    machines: dict[str, Hardware | None] = {
        "ctl10": machine(clock_skew_s=999, systemd=False),
        "w11": machine(card(12 * GIB), card(12 * GIB), named="w11", listening=listening("::", 21002)),
        "w12": machine(card(4 * GIB, foreign_mib=2 * GIB), driver="999.1", named="w12"),
        "w14": machine(card(8 * GIB), driver="440.33", named="w14"),
        "w16": None,
        "w18": machine(card(8 * GIB), driver="440.33", named="w18"),
    }
    texts = messages(written(lab(fleet, machines, catalogue_=real())))
    assert len(texts) > 30
    for text in texts:
        assert "{" not in text
        assert "}" not in text
        if text:
            assert bool(re.search(r"[\u4e00-\u9fff]", text)) == (language == "zh"), text


# --- any lab ---------------------------------------------------------------------------------------------------------

capabilities = st.sampled_from(["3.5", "3.7", "6.1", "7.0", "7.5", "8.6", "8.9", "9.0", "12.0"])
cards = st.builds(
    card,
    st.sampled_from([2, 4, 6, 8, 10, 12, 16, 24, 48, 80]).map(lambda gib: gib * GIB) | st.integers(1000, 90_000),
    capabilities,
    foreign_mib=st.sampled_from([0, 0, 0, 500, 5000]),
)
drivers = st.sampled_from(["440.33.01", "460.27.03", "525.60.13", "535.104.05", "570.26", "580.65.06", "595.45.04"])
platforms = st.sampled_from(["linux-64", "linux-64", "win-64"])
QUANTIZATIONS = ["auto", "auto", "fp16", "int8", "int4"]


@st.composite
def machines(draw: st.DrawFn, name: str) -> Hardware:
    """A machine with up to four cards."""
    found = draw(st.lists(cards, max_size=4))
    return machine(
        *found,
        driver=draw(drivers),
        platform=draw(platforms),
        memory_mib=draw(st.sampled_from([0, 8, 32, 128])) * GIB,
        named=name,
    )


@st.composite
def wishes(draw: st.DrawFn, *, replicas: bool = True) -> list[Any]:
    """A list of models of the made-up catalogue; a model is the fleet's under one number only."""
    counts = {"big": 3, "demo": "fit", "new": 1} if replicas else {}
    found: list[Any] = []
    for name in draw(st.lists(st.sampled_from(["big", "demo", "other", "new"]), min_size=1, max_size=3)):
        row: dict[str, Any] = {"name": name}
        if name == "big":
            row["quantization"] = draw(st.sampled_from(QUANTIZATIONS))
        if name in counts and draw(st.booleans()):
            row["replicas"] = counts[name]
        found.append(row)
    return found


@st.composite
def labs(draw: st.DrawFn) -> tuple[list[Host], dict[str, Hardware]]:
    """A lab that can be: one controller somewhere, at least one API, some workers, some agents, and its machines."""
    count = draw(st.integers(1, 5))
    control, api = draw(st.integers(0, count - 1)), draw(st.integers(0, count - 1))
    shared = draw(wishes())
    fleet, found = [], {}
    for number in range(count):
        groups = draw(st.sets(st.sampled_from(["workers", "workers", "agents", "api", "spare"])))
        groups |= ({"controller"} if number == control else set()) | ({"api"} if number == api else set())
        models: Any = shared if draw(st.booleans()) else draw(wishes() | st.just("auto"))
        port = draw(st.sampled_from([21000, 21002, 22000]))
        level = draw(st.sampled_from(["compatible", "strict"]))
        name = f"h{number + 1}"
        found[name] = draw(machines(name))
        if "api" in groups:
            found[name] = replace(found[name], platform="linux-64")
        one = host(name, " ".join(sorted(groups)), lab_models=models, lab_worker_port=port, lab_level=level)
        fleet.append(on_windows(one) if found[name].platform == "win-64" else one)
    return fleet, found


@settings(deadline=None, max_examples=150)
@given(made=labs())
def test_no_card_is_given_more_than_it_has_and_none_without_code_or_driver(
    made: tuple[list[Host], dict[str, Hardware]],
) -> None:
    fleet, hardware = made
    one = catalogue()
    for name, found in lab(fleet, hardware).hosts.items():
        for gpu in hardware[name].gpus:
            here = [worker for worker in found.workers if gpu in worker.gpus]
            assert sum(worker.each_mib for worker in here) <= memory.usable_mib(gpu.memory_mib, gpu.foreign_mib)
            assert len(here) == 1 or not any(len(worker.gpus) > 1 for worker in here), "what is spread has its cards"
        for worker in found.workers:
            build = worker.build
            assert (build.torch, build.tag, hardware[name].platform, worker.python) in one.torch.wheels
            assert (worker.device == "cuda") == bool(worker.gpus) == (build.tag != "cpu")
            assert worker.device == ("cuda" if hardware[name].gpus else "cpu")
            for gpu in worker.gpus:
                assert covers(one.torch.architectures[build.torch, build.tag], gpu.compute_capability)
            assert worker.quantization in (*one.models[worker.model]["quantizations"], "fp32")
            assert len(worker.gpus) <= 1 or hardware[name].platform == "linux-64"
        ports = [worker.port for worker in found.workers]
        assert len({*ports, *(duty["port"] for duty in (found.controller, found.api) if duty)}) == len(ports) + sum(
            bool(duty) for duty in (found.controller, found.api)
        )
        assert len({worker.name for worker in found.workers}) == len(found.workers)


@settings(deadline=None, max_examples=80)
@given(made=labs(), data=st.data())
def test_the_order_of_hosts_does_not_matter(made: tuple[list[Host], dict[str, Hardware]], data: st.DataObject) -> None:
    fleet, hardware = made
    other = data.draw(st.permutations(fleet))
    assert json.dumps(written(lab(other, hardware))) == json.dumps(written(lab(fleet, hardware)))


@settings(deadline=None, max_examples=60)
@given(made=labs())
def test_the_same_lab_makes_the_same_plan_and_the_next_one_moves_nothing(
    made: tuple[list[Host], dict[str, Hardware]],
) -> None:
    fleet, hardware = made
    first = lab(fleet, hardware)
    assert written(lab(fleet, hardware)) == written(first)
    before = json.loads(json.dumps(written(first)))
    assert placed(lab(fleet, hardware, before=before)) == placed(first)


@settings(deadline=None, max_examples=80)
@given(made=labs(), more=machines("h9"), models=wishes())
def test_a_new_host_moves_nothing_in_any_lab(
    made: tuple[list[Host], dict[str, Hardware]], more: Hardware, models: list[Any]
) -> None:
    fleet, hardware = made
    first = lab(fleet, hardware)
    new = host("h9", "workers", lab_models=models)
    grown = [*fleet, on_windows(new) if more.platform == "win-64" else new]
    second = lab(grown, {**hardware, "h9": more}, before=json.loads(json.dumps(written(first))))
    # A plan with a problem of the lab is not carried out, so nothing of it is anywhere yet.
    for name, one in placed(first).items() if not first.problems else ():
        assert not Counter(one) - Counter(placed(second)[name])


def test_whoever_takes_any_quantization_leaves_the_copies_of_whoever_asks_for_one() -> None:
    """Found by the test above: `auto` kept the copy of a wish for fp16, which then had to move."""
    wishes = [
        {"name": "big", "quantization": "auto"},
        {"name": "big", "quantization": "auto", "replicas": 3},
        {"name": "big", "quantization": "fp16", "replicas": 3},
    ]
    fleet = [
        host("h1", "api controller workers", lab_models=wishes, lab_worker_port=21000),
        host("h2", "workers", lab_models=wishes, lab_worker_port=21000),
    ]
    hardware = {name: machine(card(49152, "3.7"), driver="460.27.03", named=name) for name in ("h1", "h2")}
    first = lab(fleet, hardware)
    grown = [*fleet, host("h9", "workers", lab_models=[{"name": "other"}])]
    before = json.loads(json.dumps(written(first)))
    second = lab(grown, {**hardware, "h9": machine(named="h9")}, before=before)
    for name, one in placed(first).items():
        assert not Counter(one) - Counter(placed(second)[name])


RANK = {kind: rank for rank, kinds in enumerate(memory.LEVELS) for kind in kinds}


def ranks(made: Fleet, model: str) -> list[int]:
    """How well each worker of a model is served, the best first."""
    return sorted(
        RANK[one.quantization] for found in made.hosts.values() for one in found.workers if one.model == model
    )


def never_worse(before: Fleet, after: Fleet) -> None:
    """Every worker that there was is still there, and none is served worse."""
    for model in {one.model for found in before.hosts.values() for one in found.workers}:
        old, new = ranks(before, model), ranks(after, model)
        assert len(new) >= len(old), (model, old, new)
        assert all(late <= early for early, late in zip(old, new, strict=False)), (model, old, new)


def with_more(found: Hardware, extra: Sequence[int]) -> Hardware:
    """The same machine, its cards with more memory."""
    gpus = [replace(gpu, memory_mib=gpu.memory_mib + more) for gpu, more in zip(found.gpus, extra, strict=False)]
    return replace(found, gpus=(*gpus, *found.gpus[len(gpus) :]))


extras = st.lists(st.integers(0, 40_000) | st.integers(0, 3000), min_size=1, max_size=4)


@settings(deadline=None, max_examples=200)
@given(
    mib=st.integers(4000, 90_000),
    extra=st.integers(0, 20_000),
    capability=capabilities,
    tokens=st.sampled_from([2048, 8192]),
)
def test_more_memory_never_yields_a_worse_quantisation_of_one_model(
    mib: int, extra: int, capability: str, tokens: int
) -> None:
    models = [{"name": "chatglm2-6b", "context": tokens}]
    before, after = (chatglm2(card(size, capability), lab_models=models) for size in (mib, mib + extra))
    if before.workers:
        assert RANK[after.workers[0].quantization] <= RANK[before.workers[0].quantization]


@settings(deadline=None, max_examples=150)
@given(found=machines("h1"), extra=extras, models=wishes(replicas=False))
def test_more_memory_never_yields_a_worse_quantisation_of_several_models_that_all_had_room(
    found: Hardware, extra: list[int], models: list[Any]
) -> None:
    fleet = [host("h1", "controller workers", lab_models=models)]
    before, after = lab(fleet, {"h1": found}), lab(fleet, {"h1": with_more(found, extra)})
    if before.met:
        assert after.met
        never_worse(before, after)


@settings(deadline=None, max_examples=150)
@given(mib=st.integers(4000, 40_000), extra=st.integers(0, 3000), count=st.integers(2, 3))
def test_more_memory_never_yields_a_worse_quantisation_where_a_later_model_had_no_room(
    mib: int, extra: int, count: int
) -> None:
    fleet = [host("h1", "controller workers", lab_models=["big"] * count)]
    before, after = (lab(fleet, {"h1": machine(card(size))}) for size in (mib, mib + extra))
    never_worse(before, after)


@settings(deadline=None, max_examples=100)
@given(mib=st.integers(4000, 40_000), extra=st.integers(0, 3000))
@example(mib=13_000, extra=1500)
def test_more_memory_never_takes_a_replica_away(mib: int, extra: int) -> None:
    models = [{"name": "big", "replicas": 1}, {"name": "demo", "replicas": 1}]
    fleet = [host("h1", "controller workers", lab_models=models)]
    before, after = (lab(fleet, {"h1": machine(card(size))}) for size in (mib, mib + extra))
    if before.met:
        assert after.met


@settings(deadline=None, max_examples=100)
@given(made=labs(), data=st.data())
def test_a_newer_driver_never_loses_a_worker(made: tuple[list[Host], dict[str, Hardware]], data: st.DataObject) -> None:
    fleet, hardware = made
    newer = {name: replace(one, driver_version="595.45.04" if one.gpus else "") for name, one in hardware.items()}
    before, after = lab(fleet, hardware), lab(fleet, newer)
    if before.met:
        assert after.met


def test_a_plan_depends_on_no_file_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = written(lab(ALL_IN_ONE))
    monkeypatch.chdir(tmp_path)
    assert written(lab(ALL_IN_ONE)) == first
    assert TORCH.pins
