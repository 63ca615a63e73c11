"""labwright.words: every sentence in both languages, about the same values, said by somebody; and how it is spoken."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from hostkit.result import Problem
from labwright.words import LANGUAGES, Refused, finding, spoken, table
from unit.programs import ROOT

ID = re.compile(r"(LW-[A-Z]+-\d{3}|(WHY|WAY)(-[A-Z]+)+)")
CHINESE = re.compile(r"[\u4e00-\u9fff]")
REJECTIONS = {  # why an option was not taken: there is nothing to mend
    *(f"LW-TORCH-00{number}" for number in range(1, 7)),
    *("LW-STACK-001", "LW-STACK-003", "LW-STACK-005", "LW-FIT-003", "LW-FIT-008", "LW-FIT-009"),
}
IDS = sorted(table())


def placeholders(row: dict[str, str]) -> set[str]:
    """The values that a sentence and its fix name."""
    text = " ".join(row.values())
    return {name for _text, name, _spec, _conversion in string.Formatter().parse(text) if name is not None}


@cache
def sources() -> dict[Path, ast.Module]:
    """The Python sources of the plugins."""
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "plugins").rglob("*.py"))}


def texts(tree: ast.AST) -> set[str]:
    """All plain texts in a piece of source."""
    return {one.value for one in ast.walk(tree) if isinstance(one, ast.Constant) and isinstance(one.value, str)}


def findings() -> Iterator[tuple[str, str, set[str]]]:
    """Every ``finding(…)`` in the sources: where, its id (or each that it chooses from), and the values it names."""
    for path, tree in sources().items():
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "finding":
                values = {one.arg or "**" for one in call.keywords}
                for identifier in sorted(one for one in texts(call.args[0]) if ID.fullmatch(one)):
                    yield f"{path.name}:{call.lineno}", identifier, values


def test_every_id_is_of_a_known_form() -> None:
    assert [one for one in IDS if not ID.fullmatch(one)] == []


@pytest.mark.parametrize("identifier", IDS)
def test_every_sentence_is_there_in_both_languages_and_says_the_same_values(identifier: str) -> None:
    rows = table()[identifier]
    assert set(rows) == set(LANGUAGES)
    assert all(row["message"].strip() for row in rows.values())
    assert all(set(row) <= {"message", "fix"} for row in rows.values())
    assert set(rows["en"]) == set(rows["zh"])
    assert placeholders(rows["en"]) == placeholders(rows["zh"])
    assert {one: placeholders({"": rows["en"][one]}) for one in rows["en"]} == {
        one: placeholders({"": rows["zh"][one]}) for one in rows["zh"]
    }


@pytest.mark.parametrize("identifier", IDS)
def test_each_language_is_itself(identifier: str) -> None:
    rows = table()[identifier]
    assert not any(CHINESE.search(text) for text in rows["en"].values())
    assert all(CHINESE.search(text) for text in rows["zh"].values() if re.sub(r"\{\w+\}", "", text))


@pytest.mark.parametrize("identifier", [one for one in IDS if one.startswith("LW-")])
def test_what_stops_a_run_has_a_fix_and_why_an_option_was_not_taken_has_none(identifier: str) -> None:
    fix = table()[identifier]["en"].get("fix", "")
    assert bool(fix.strip()) == (identifier not in REJECTIONS)


@pytest.mark.parametrize("identifier", [one for one in IDS if not one.startswith("LW-")])
def test_reasons_and_ways_are_one_sentence(identifier: str) -> None:
    assert set(table()[identifier]["en"]) == {"message"}


def test_every_sentence_is_said_by_somebody() -> None:
    said = {text for tree in sources().values() for text in texts(tree)}
    assert [one for one in IDS if one not in said] == []


def test_everything_that_is_found_has_its_sentence() -> None:
    assert len(list(findings())) > 50
    assert [(where, one) for where, one, _values in findings() if one not in table()] == []


def test_everything_that_is_found_brings_the_values_of_its_sentence() -> None:
    lacking = {
        (where, one): placeholders(table()[one]["en"]) - values
        for where, one, values in findings()
        if one in table() and "**" not in values
    }
    assert {key: values for key, values in lacking.items() if values} == {}


# --- spoken -----------------------------------------------------------------------------------------------------------


def test_a_finding_says_its_message_and_its_fix() -> None:
    one = finding("LW-PLAN-008", port=8000, first="lab_api_port", second="lab_web_port")
    assert one.say() == {
        "id": "LW-PLAN-008",
        "message": "Port 8000 stands in both lab_api_port and lab_web_port.",
        "fix": "Set another one of them on this host.",
    }
    assert one.sentence() == f"{one.say()['message']} {one.say()['fix']}"
    assert one.say("zh")["message"] == "lab_api_port 和 lab_web_port 都是端口 8000。"


def test_a_reason_has_no_fix() -> None:
    assert finding("WHY-LOCKED").say() == {
        "id": "WHY-LOCKED",
        "message": "the newest that the stack has a lock for.",
        "fix": "",
    }
    assert finding("WHY-LOCKED").sentence("zh") == "是版本组合有锁文件的最新版本。"


@pytest.mark.parametrize(
    ("value", "english", "chinese"),
    [
        ("cu126", "cu126", "cu126"),
        (5, 5, 5),
        (["a", "b"], "a, b", "a、b"),
        ((75, 80), "75, 80", "75、80"),
        ([], "", ""),
        ([["a", "b"], "c"], "a, b, c", "a、b、c"),
        (
            finding("WHY-NEWEST"),
            "the newest that has a wheel with a known checksum.",
            "是有已知校验和 wheel 的最新版本。",
        ),
        (
            [finding("WAY-HOST", hosts=["w1", "w2"]), finding("WAY-SMALLER", model="m", smaller="int4")],
            "It fits on w1, w2. Set int4 for m in lab_models: that fits here.",
            "它可以放在 w1、w2 上。请在 lab_models 里为 m 设置 int4：这里放得下。",
        ),
    ],
)
def test_values_are_spoken_in_the_language_of_the_sentence(value: object, english: object, chinese: object) -> None:
    assert (spoken(value, "en"), spoken(value, "zh")) == (english, chinese)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_finding_within_a_finding_speaks_the_same_language(language: str) -> None:
    ways = [finding("WAY-HOST", hosts=["w1", "w2"]), finding("WAY-CARD", need=9000)]
    one = finding("LW-FIT-001", model="m", wish="auto", least="int4", need=1, room=2, total=3, tokens=4, ways=ways)
    english = {"WAY-HOST": "It fits on w1, w2.", "WAY-CARD": "It takes a GPU with about 9000 MiB"}
    expected = (
        english if language == "en" else {"WAY-HOST": "它可以放在 w1、w2 上。", "WAY-CARD": "需要约 9000 MiB 的 GPU"}
    )
    assert all(text in one.say(language)["fix"] for text in expected.values())


def test_a_value_with_braces_is_said_as_it_is() -> None:
    assert "{port} {0}" in finding("WHY-PORT", port=1, program="{port} {0}").sentence()


def test_a_refusal_is_a_problem_that_keeps_its_cause() -> None:
    cause = finding("LW-PLAN-012", path="wheels/x.whl")
    with pytest.raises(Problem, match=r"LW-PLAN-012: The bundle has no wheels/x.whl\. Make it again") as found:
        raise Refused(cause)
    assert isinstance(found.value, Refused)
    assert (found.value.code, found.value.cause) == ("LW-PLAN-012", cause)
