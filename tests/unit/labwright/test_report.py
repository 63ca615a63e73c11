"""labwright.report: the plan as JSON for programs, and as a table with reasons and problems for people."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest

from labwright import report
from labwright.hardware import Hardware
from labwright.planned import Fleet
from labwright.wishes import Host
from labwright.words import finding
from unit.labwright.made_up import card, host, lab, machine, real, written

GIB = 1024


def room(language: str = "en", **more: Any) -> tuple[list[Host], dict[str, Hardware | None]]:
    """A lab with something of everything: one card, two, none, one that is too small, one of nobody."""
    fleet = [
        host("ctl10", "controller api agents", lab_language=language),
        host("w11", "workers", lab_models=["chatglm2-6b", "labwright-demo"], lab_language=language),
        host("w12", "workers", lab_models=["chatglm2-6b"], lab_language=language),
        host("w13", "workers", lab_models=["labwright-demo"], lab_language=language),
        host("w14", "workers", lab_models=["chatglm2-6b"], lab_language=language),
        host("x15", "spare", lab_language=language),
    ]
    machines: dict[str, Hardware | None] = {
        "ctl10": machine(memory_mib=8 * GIB),
        "w11": machine(card(24 * GIB, "8.9", "NVIDIA GeForce RTX 4090"), named="w11"),
        "w12": machine(card(12 * GIB), card(12 * GIB), named="w12"),
        "w13": machine(memory_mib=16 * GIB),
        "w14": machine(card(4 * GIB), named="w14"),
        **more,
    }
    return fleet, machines


def made(language: str = "en", **more: Any) -> Fleet:
    fleet, machines = room(language, **more)
    return lab(fleet, machines, catalogue_=real())


# --- JSON ------------------------------------------------------------------------------------------------------------


def test_the_json_has_what_programs_rely_on() -> None:
    found = written(made())
    assert json.loads(report.dump(found)) == found
    assert (found["format"], found["lab"], found["language"], found["met"]) == (report.FORMAT, "lab", "en", False)
    (first, second) = found["hosts"]["w11"]["workers"]
    assert (first["model"], first["stack"], first["quantization"], first["port"]) == (
        "chatglm2-6b",
        "chatglm2",
        "fp16",
        21002,
    )
    assert {"version", "tag"} <= set(first["torch"])
    assert first["torch"]["tag"].startswith("cu")
    assert [{"uuid", "name"} <= set(gpu) for gpu in first["gpus"]] == [True]
    assert (first["gpus"][0]["uuid"], first["gpus"][0]["name"]) == ("GPU-w11-0", "NVIDIA GeForce RTX 4090")
    assert second["port"] == 21003
    (problem,) = found["hosts"]["w14"]["problems"]
    assert (problem["id"], bool(problem["message"]), bool(problem["fix"])) == ("LW-FIT-001", True, True)


def test_every_host_and_worker_has_every_field() -> None:
    found = written(made())
    assert list(found["hosts"]) == ["ctl10", "w11", "w12", "w13", "w14", "x15"]
    for one in found["hosts"].values():
        assert {"host", "address", "source", "platform", "driver_version", "gpus", "duties", "workers"} <= set(one)
        assert {
            "controller_url",
            "api",
            "gateway",
            "api_url",
            "endpoints",
            "choices",
            "waivers",
            "problems",
            "notes",
        } <= set(one)
        for worker in one["workers"]:
            assert worker["quantization"] in ("fp16", "bf16", "fp32", "int8", "int4")
            assert {"version", "tag"} <= set(worker["torch"])
            assert isinstance(worker["port"], int)
            assert [row["choice"] for row in worker["choices"]] == ["stack", "torch", "quantization", "concurrency"]
            for row in worker["choices"]:
                assert row["because"]
                assert all(no["value"] and no["id"] and no["message"] for no in row["rejected"])
        for row in (*one["problems"], *one["notes"]):
            assert set(row) == {"id", "message", "fix"}


def test_a_cards_memory_adds_up() -> None:
    for one in written(made())["hosts"].values():
        for gpu in one["gpus"]:
            here = [w for w in one["workers"] if gpu["uuid"] in [card["uuid"] for card in w["gpus"]]]
            assert gpu["planned_mib"] == sum(worker["memory_each_mib"] for worker in here)
            assert gpu["memory_mib"] == gpu["planned_mib"] + gpu["foreign_mib"] + gpu["free_mib"]
            assert gpu["free_mib"] > 0


def test_the_labs_own_problems_stand_beside_those_of_hosts() -> None:
    fleet = [host("w1", "workers", lab_models=["guess"])]
    found = written(lab(fleet))
    assert [row["id"] for row in found["problems"]] == ["LW-PLAN-001"]
    assert [row["id"] for row in found["hosts"]["w1"]["problems"]] == ["LW-PLAN-003"]


def test_a_host_that_was_not_asked_is_written_as_it_was() -> None:
    fleet, machines = room()
    first = written(lab(fleet, machines, catalogue_=real()))
    second = written(lab(fleet, {**machines, "w12": None}, catalogue_=real(), before=first))
    assert second == first
    text = report.as_text(second)
    assert text == report.as_text(first)


def test_a_host_of_which_nothing_is_known_is_written_with_the_problem() -> None:
    found = written(made(w13=None))["hosts"]["w13"]
    assert (found["source"], found["platform"], found["gpus"], found["workers"]) == ("unknown", "", [], [])
    assert [row["id"] for row in found["problems"]] == ["LW-PLAN-019"]


def test_the_language_of_a_written_plan_is_one() -> None:
    found = written(made("zh"))
    assert found["language"] == "zh"
    assert "放不下" in found["hosts"]["w14"]["problems"][0]["message"]
    assert "驱动" in json.dumps(found["hosts"]["w11"]["workers"], ensure_ascii=False)


# --- the table -------------------------------------------------------------------------------------------------------


def columns(text: str) -> int:
    """Columns of a terminal, counted here once more."""
    return sum(2 if unicodedata.east_asian_width(one) in ("W", "F") else 1 for one in text)


@pytest.mark.parametrize(("text", "expected"), [("", 0), ("host", 4), ("主机", 4), ("显存/内存 MiB", 13), ("：", 2)])
def test_a_chinese_character_is_two_columns_wide(text: str, expected: int) -> None:
    assert report.width(text) == expected == columns(text)


@pytest.mark.parametrize("heads", list(report.HEADS.values()), ids=list(report.HEADS))
def test_columns_are_aligned(heads: tuple[str, ...]) -> None:
    rows = [("w1", "0: 显卡 (8.6)", "2.7.1+cu126", "a", "fp16", "空闲", "21002"), ("", "CPU", "", "模型", "", "1", "")]
    head, line, *body = report.table(rows, heads).splitlines()
    starts = []
    for cells, text in zip((heads, *rows), (head, *body), strict=True):
        at, found = 0, []
        for cell in cells:
            where = text.index(cell, at) if cell else -1
            found.append(columns(text[:where]) if cell else -1)
            at = max(at, where + len(cell))
        starts.append(found)
    for column in zip(*starts, strict=True):
        assert len({one for one in column if one >= 0}) == 1
    assert set(line) == {"-"}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_whole_text_has_a_table_reasons_and_problems(language: str) -> None:
    found = written(made(language))
    text = report.as_text(found)
    texts = report.TEXTS[language]
    assert text.splitlines()[0].split()[0] == report.HEADS[language][0]
    for heading in ("why", "problems"):
        assert f"\n{texts[heading]}\n" in text
    assert text.endswith(texts["unmet"].format(count=1))
    assert "{" not in text
    for number in ("9527", "21001", "21002", "21003"):
        assert number in text


def lines_of(host_: str, text: str) -> list[str]:
    """A host's rows of the table."""
    rows = text.split("\n\n")[0].splitlines()[2:]
    first = next(at for at, row in enumerate(rows) if row.startswith(host_))
    last = next((at for at, row in enumerate(rows) if at > first and not row.startswith(" ")), len(rows))
    return rows[first:last]


def test_each_card_is_a_row_with_what_runs_on_it() -> None:
    text = report.as_text(written(made()))
    first, second = lines_of("w11", text)
    assert "0: GeForce RTX 4090 (8.9)" in first
    assert "chatglm2-6b" in first
    assert "fp16" in first
    assert "labwright-demo" in second
    spread = lines_of("w12", text)
    assert [("chatglm2-6b" in row, row.split()[0 if at else 1]) for at, row in enumerate(spread)] == [
        (True, "0:"),
        (True, "1:"),
    ]
    (empty,) = lines_of("w14", text)
    assert f"{4 * GIB} free" in empty
    (none,) = lines_of("x15", text)
    assert "CPU" in none


def test_a_host_that_was_not_asked_is_said_to_be_so() -> None:
    assert "not asked" in lines_of("w13", report.as_text(written(made(w13=None))))[0]


def test_memory_of_the_cpu_adds_up_in_every_row_of_a_host() -> None:
    total = 64 * GIB
    fleet = [host("c1", "controller workers", lab_models=["big", "demo"], lab_device="cpu")]
    for cards in ([], [card(8 * GIB)]):
        found = written(lab(fleet, {"c1": machine(*cards, memory_mib=total)}))
        used = sum(worker["memory_mib"] for worker in found["hosts"]["c1"]["workers"])
        rows = lines_of("c1", report.as_text(found))
        frees = [row.split(f" of {total}, ")[1].split()[0] for row in rows if f" of {total}, " in row]
        assert frees == [str(total - used)] * 2


def test_problems_of_all_hosts_stand_together_and_the_same_one_once() -> None:
    fleet = [
        host("ctl10", "controller"),
        *(host(f"w{at}", "workers", lab_models=["guess"]) for at in range(11, 22)),
        host("w30", "workers", lab_level="forced"),
    ]
    text = report.as_text(written(lab(fleet)))
    problems = text.split("\nProblems\n")[1].split("\n\n")[0].splitlines()
    assert len(problems) == 2
    assert problems[0].startswith("  w11, w12, w13, w14, w15, w16, w17, w18 + 3: LW-PLAN-003: There is no model guess")
    assert problems[1].startswith("  w30: LW-PLAN-018: ")


def test_the_labs_problems_come_first() -> None:
    text = report.as_text(written(lab([host("w1", "workers", lab_models=["guess"])])))
    problems = text.split("Problems\n")[1].splitlines()
    assert problems[0].startswith("  the lab: LW-PLAN-001: ")
    assert problems[1].startswith("  w1: LW-PLAN-003: ")


def test_a_reason_that_many_hosts_share_is_said_once() -> None:
    fleet = [host("ctl10", "controller"), *(host(f"w{at}", "workers") for at in range(11, 17))]
    text = report.as_text(written(lab(fleet)))
    stacks = [line for line in text.splitlines() if ": stack chatglm2: " in line]
    assert stacks == [next(line for line in stacks if line.startswith("  w11, w12, w13, w14 + 2: "))]


def test_what_spoke_against_the_others_stands_below_the_choice() -> None:
    fleet = [host("c1", "controller workers", lab_models=["chatglm2-6b"])]
    hardware = {"c1": machine(card(12 * GIB, "7.0"), driver="535.104.05")}
    text = report.as_text(written(lab(fleet, hardware, catalogue_=real())))
    lines = text.splitlines()
    at = next(at for at, line in enumerate(lines) if line.startswith("  c1: torch 2.10.0+cu128: "))
    against = [line for line in lines[at + 1 :] if line.startswith("      not ")]
    assert any(line.startswith("      not 2.13.0+cu130: ") and line.endswith(" [LW-TORCH-003]") for line in against)
    assert any(line.startswith("      not fp16: ") and line.endswith(" [LW-FIT-003]") for line in against)
    assert not any(f"[{quiet}]" in text for quiet in report.QUIET)


def test_waivers_and_notes_are_shown() -> None:
    waivers = [{"rule": "LW-TORCH-004", "reason": "tried by hand in May"}]
    fleet = [host("c1", "controller workers", lab_level="forced", lab_waivers=waivers)]
    text = report.as_text(written(lab(fleet, {"c1": machine(card(8 * GIB), driver="390.10")})))
    assert "Waivers in force\n  c1: LW-TORCH-004 for " in text
    assert "tried by hand in May" in text
    unused = report.as_text(written(lab(fleet, found={"c1": [finding("LW-GPU-012", said="torn")]})))
    assert "Waivers in force" not in unused
    assert "Worth knowing\n  c1: LW-GPU-012: " in unused
    assert "LW-PLAN-027" in unused


def test_a_lab_whose_wishes_are_all_met_says_so() -> None:
    fleet = [host("c1", "controller api workers"), host("w2", "workers")]
    text = report.as_text(written(lab(fleet)))
    assert text.endswith("Every wish is met. Hosts: 2, model workers: 2.")
    assert "Problems" not in text


def test_a_written_file_ends_with_a_line_and_keeps_chinese_readable() -> None:
    text = report.dump({"a": 1, "hosts": {"主机": {"b": [2]}, "h2": {}}})
    assert text == '{\n "a": 1,\n "hosts": {\n  "主机": {"b": [2]},\n  "h2": {}\n }\n}\n'
    assert json.loads(text) == {"a": 1, "hosts": {"主机": {"b": [2]}, "h2": {}}}
