"""labwright.verdict: all answers in one object; silence is no good answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from labwright import verdict


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
