"""labwright.verdict: all answers in one object; silence is no good answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hostkit.causes import cure as cure_of
from hostkit.cures import CURES
from labwright import verdict


def cure(cause: str) -> str:
    return cure_of(cause) if cause else ""


def check(name: str, ok: bool = True) -> dict[str, Any]:
    return {"id": name, "ok": ok, "evidence": f"说 {name}", "latency_ms": 12.4}


def answer(*checks: dict[str, Any]) -> dict[str, Any]:
    return {"changed": False, "data": {"checks": list(checks)}}


def test_all_is_well() -> None:
    whole = verdict.of("room", {"a": answer(check("x"), check("y")), "b": answer(check("x")), "idle": answer()})
    assert (whole["format"], whole["lab"], whole["ok"], whole["passed"], whole["failed"]) == (1, "room", True, 3, 0)
    assert [(one["host"], one["id"]) for one in whole["checks"]] == [("a", "x"), ("a", "y"), ("b", "x")]
    assert verdict.as_lines(whole)[0] == "ok   a x: 说 x (12 ms)"
    assert verdict.as_lines(whole)[-1] == "The lab room answers: 3 checks passed, 0 failed."


def test_one_bad_answer_is_enough() -> None:
    whole = verdict.of("room", {"a": answer(check("x"), check("y", ok=False))})
    assert (whole["ok"], whole["passed"], whole["failed"]) == (False, 1, 1)
    assert verdict.as_lines(whole)[1:] == [
        "FAIL a y: 说 y (12 ms)",
        "The lab room does NOT answer as planned: 1 checks passed, 1 failed.",
    ]


@pytest.mark.parametrize(
    ("silence", "words"),
    [
        (None, "not reached"),
        ("text", "not reached"),
        ({}, "not reached"),
        ({"data": None}, "not reached"),
        ({"failed": True, "msg": "LW-HOSTKIT-006: no words"}, "LW-HOSTKIT-006"),
        ({"unreachable": True, "msg": "Connection refused"}, "Connection refused"),
    ],
)
def test_a_host_that_did_not_answer_fails(silence: Any, words: str) -> None:
    whole = verdict.of("room", {"a": answer(check("x")), "b": silence})
    assert not whole["ok"]
    (last,) = [one for one in whole["checks"] if one["host"] == "b"]
    assert (last["id"], last["ok"]) == ("host.answers", False)
    assert words in last["evidence"]


@pytest.mark.parametrize("answers", [{}, {"a": answer()}])
def test_a_lab_that_was_asked_nothing_is_not_good(answers: dict[str, Any]) -> None:
    assert not verdict.of("room", answers)["ok"]


def test_the_file_can_be_read_by_programs_and_by_people() -> None:
    whole = verdict.of("room", {"a": answer(check("x"))})
    text = verdict.as_json(whole)
    assert json.loads(text) == whole
    assert "说 x" in text
    assert text.endswith("}\n")


def test_a_page_that_is_down_explains_why_nobody_gets_it() -> None:
    root, why = explained(
        ctl=[
            ("service.labwright-web", "LW-PROBE-031"),
            ("page.login", "LW-PROBE-042"),
            ("gateway.closed", "LW-PROBE-038"),
        ]
    )
    assert root == "ctl service.labwright-web"
    assert why == {"ctl service.labwright-web": "", "ctl page.login": root, "ctl gateway.closed": ""}


def test_a_gateway_that_is_down_explains_the_page() -> None:
    root, why = explained(ctl=[("service.labwright-gateway", "LW-PROBE-030"), ("page.login", "LW-PROBE-020")])
    assert (root, why["ctl page.login"]) == ("ctl service.labwright-gateway", root)


# --- causes and what comes of them -----------------------------------------------------------------------------------


def failing(name: str, cause: str) -> dict[str, Any]:
    return {**check(name, ok=False), "cause": cause, "cure": cure(cause)}


def explained(**hosts: list[tuple[str, str]]) -> tuple[str, dict[str, str]]:
    """The root, and what each failed check comes of."""
    whole = verdict.of("room", {host: answer(*(failing(*one) for one in found)) for host, found in hosts.items()})
    return whole["root"], {f"{one['host']} {one['id']}": one["follows"] for one in whole["checks"]}


def test_a_controller_that_is_down_is_said_once_and_the_rest_comes_of_it() -> None:
    unit = "ctl service.labwright-controller"
    root, why = explained(
        w1=[("service.labwright-worker-1", "LW-PROBE-030"), ("worker.1", "LW-PROBE-011")],
        ctl=[
            ("service.labwright-controller", "LW-PROBE-031"),
            ("controller.workers", "LW-PROBE-021"),
            ("controller.each_worker", "LW-PROBE-021"),
            ("api.models", "LW-PROBE-022"),
            ("api.completion.m", "LW-PROBE-022"),
            ("agent.answer", "LW-PROBE-036"),
        ],
    )
    assert root == unit
    assert {name: other for name, other in why.items() if name != unit} == dict.fromkeys(set(why) - {unit}, unit)
    assert why[unit] == ""


@pytest.mark.parametrize(
    ("found", "root", "own"),
    [
        # a stolen port is the cause of the unit that could not have it
        (
            [("service.labwright-controller", "LW-PROBE-031"), ("controller.workers", "LW-PROBE-023")],
            "ctl controller.workers",
            {"ctl controller.workers"},
        ),
        (
            [("service.labwright-gateway", "LW-PROBE-030"), ("api.models", "LW-PROBE-023")],
            "ctl api.models",
            {"ctl api.models"},
        ),
        (
            [
                ("service.labwright-api", "LW-PROBE-030"),
                ("api.models", "LW-PROBE-026"),
                ("agent.answer", "LW-PROBE-036"),
            ],
            "ctl service.labwright-api",
            {"ctl service.labwright-api"},
        ),
        (
            [("service.labwright-gateway", "LW-PROBE-030"), ("api.models", "LW-PROBE-020")],
            "ctl service.labwright-gateway",
            {"ctl service.labwright-gateway"},
        ),
        # each of these units runs without the other
        (
            [("service.labwright-api", "LW-PROBE-030"), ("service.labwright-gateway", "LW-PROBE-030")],
            "ctl service.labwright-api",
            {"ctl service.labwright-api", "ctl service.labwright-gateway"},
        ),
        (
            [("service.labwright-gateway", "LW-PROBE-030"), ("gateway.closed", "LW-PROBE-020")],
            "ctl service.labwright-gateway",
            {"ctl service.labwright-gateway"},
        ),
        # a wrong key, or certificate, is one cause however often it is met, and comes of nothing
        (
            [("api.models", "LW-PROBE-014"), ("api.completion.a", "LW-PROBE-014"), ("agent.answer", "LW-PROBE-036")],
            "ctl api.models",
            {"ctl api.models"},
        ),
        (
            [("service.labwright-controller", "LW-PROBE-030"), ("api.models", "LW-PROBE-015")],
            "ctl service.labwright-controller",
            {"ctl service.labwright-controller", "ctl api.models"},
        ),
        # two models out of memory are two causes
        (
            [
                ("api.completion.a", "LW-PROBE-012"),
                ("api.stream.a", "LW-PROBE-012"),
                ("api.completion.b", "LW-PROBE-012"),
            ],
            "ctl api.completion.a",
            {"ctl api.completion.a", "ctl api.completion.b"},
        ),
        ([("firewall.loaded", "LW-PROBE-040"), ("api.models", "LW-PROBE-022")], "ctl firewall.loaded", None),
        (
            [("firewall.loaded", "LW-PROBE-040"), ("controller.workers", "LW-PROBE-028")],
            "ctl firewall.loaded",
            {"ctl firewall.loaded"},
        ),
        # words without a cause, as an older hostkit gives them
        ([("x", ""), ("y", "")], "ctl x", {"ctl x", "ctl y"}),
    ],
)
def test_what_is_a_cause_and_what_comes_of_it(found: list[tuple[str, str]], root: str, own: set[str] | None) -> None:
    best, why = explained(ctl=found)
    assert best == root
    assert {name for name, other in why.items() if not other} == (set(why) if own is None else own)


def test_two_dead_workers_are_two_causes_and_what_others_say_of_them_comes_of_one() -> None:
    root, why = explained(
        ctl=[("controller.each_worker", "LW-PROBE-011"), ("api.completion.m", "LW-PROBE-010")],
        w1=[("service.labwright-worker-1", "LW-PROBE-030"), ("worker.1", "LW-PROBE-011")],
        w2=[("worker.1", "LW-PROBE-011")],
    )
    assert root == "w1 service.labwright-worker-1"
    assert why == {
        "ctl controller.each_worker": root,
        "ctl api.completion.m": root,
        "w1 service.labwright-worker-1": "",
        "w1 worker.1": root,
        "w2 worker.1": "",
    }


def test_a_host_that_is_silent_explains_what_others_miss_but_no_unit_of_theirs() -> None:
    found = [failing("controller.workers", "LW-PROBE-010"), failing("service.labwright-api", "LW-PROBE-030")]
    whole = verdict.of("room", {"w1": None, "ctl": answer(*found)})
    assert [one["follows"] for one in whole["checks"]] == ["", "w1 host.answers", ""]
    assert (whole["root"], whole["checks"][0]["cause"]) == ("w1 host.answers", "LW-PROBE-041")


def test_people_read_causes_first_and_the_most_likely_at_the_end() -> None:
    found = [failing("api.models", "LW-PROBE-022"), failing("service.labwright-controller", "LW-PROBE-030"), check("x")]
    lines = verdict.as_lines(verdict.of("room", {"ctl": answer(*found)}))
    assert lines == [
        "ok   ctl x: 说 x (12 ms)",
        "FAIL ctl service.labwright-controller: 说 service.labwright-controller (12 ms) → LW-PROBE-030: "
        + cure("LW-PROBE-030"),
        "FAIL ctl api.models: 说 api.models (12 ms) (comes of ctl service.labwright-controller)",
        "The lab room does NOT answer as planned: 1 checks passed, 2 failed.",
        "Most likely cause: ctl service.labwright-controller: A service is not active. (LW-PROBE-030) "
        + cure("LW-PROBE-030"),
    ]


def test_the_cure_is_said_in_the_labs_language_with_the_units_name() -> None:
    found = failing("service.labwright-api", "LW-PROBE-031")
    (one,) = verdict.of("room", {"ctl": answer(found)}, "zh")["checks"]
    assert "systemctl reset-failed labwright-api.service && systemctl restart labwright-api.service" in one["cure"]
    assert "放弃" not in one["cure"]
    assert "请" in one["cure"]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("cause", ["LW-PROBE-030", "LW-PROBE-031"])
def test_the_cure_of_a_service_on_windows_is_in_the_words_of_windows(cause: str, language: str) -> None:
    found = {**failing("service.labwright-worker-m", cause), "unit": "labwright-worker-m"}
    found["cure"] = cure_of(cause, found["unit"])
    (one,) = verdict.of("room", {"win": answer(found)}, language)["checks"]
    assert "Restart-Service labwright-worker-m" in one["cure"]
    assert "systemctl" not in one["cure"]


def test_a_lab_that_is_well_has_no_cause() -> None:
    whole = verdict.of("room", {"a": answer(check("x"))})
    assert whole["root"] == ""
    assert "follows" not in whole["checks"][0]


def test_the_table_of_needs_has_no_circle_and_names_things_that_there_are() -> None:
    assert set().union(*verdict.NEEDS.values()) <= set(verdict.NEEDS)
    assert all(name not in verdict.needed(name) for name in verdict.NEEDS)
    assert {*verdict.ABOUT, *verdict.FOLLOWING, *verdict.OF_MODEL} <= set(CURES)
