"""The agents' pure parts: configuration, sentences, verdicts, transcripts, and the tasks that the demo is about."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labwright_agents.__main__ import main
from labwright_agents.config import read_config
from labwright_agents.errors import AgentError, endpoint_sentence
from labwright_agents.outcome import Execution, Message, Outcome, is_end, judge, transcript
from labwright_agents.programs.assistant import TASKS, example, listing

KNOWN = json.loads(TASKS.read_text(encoding="utf-8"))
GOOD = {"base_url": "http://127.0.0.1:9527/v1", "model": "m", "api_key": "NULL"}
CODE = Message("assistant", "assistant", "So:\n```python\nprint(1)\n```")
END = Message("assistant", "assistant", "It is 1.\n\nTERMINATE")
USER = Message("user", "user_proxy", "exitcode: 0 (execution succeeded)\nCode output: 1\n")


def ran(code: int) -> Execution:
    return Execution("python", "print(1)", code, "1\n")


def write(folder: Path, content: Any) -> Path:
    path = folder / "config.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_key_is_filled_in_because_openai_wants_one(tmp_path: Path) -> None:
    entry = {"base_url": "https://lab.example/v1/", "model": "m"}
    assert read_config(write(tmp_path, [entry])) == [{**entry, "api_key": "NULL"}]


@pytest.mark.parametrize(
    ("content", "id_"),
    [
        ("not json", "002"),
        ({}, "003"),
        ([], "003"),
        (["x"], "003"),
        ([{**GOOD, "api_base": "x"}], "004"),
        ([{**GOOD, "api_type": "open_ai"}], "004"),
        ([{"model": "m"}], "005"),
        ([{**GOOD, "model": ""}], "005"),
        ([{**GOOD, "model": 3}], "005"),
        ([{**GOOD, "base_url": "http://127.0.0.1:9527"}], "006"),
        ([{**GOOD, "base_url": "127.0.0.1:9527/v1"}], "006"),
    ],
)
def test_a_wrong_configuration_is_a_sentence(tmp_path: Path, content: Any, id_: str) -> None:
    with pytest.raises(AgentError, match=f"^LW-AGENT-{id_}: "):
        read_config(write(tmp_path, content))


def test_a_missing_configuration_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match=r"^LW-AGENT-001: .*No such file"):
        read_config(tmp_path / "none.json")


def test_the_old_name_of_base_url_says_the_new_one(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="base_url"):
        read_config(write(tmp_path, [{"api_base": "http://127.0.0.1:9527/v1", "model": "m"}]))


@pytest.mark.parametrize(
    ("status", "words", "id_", "part"),
    [
        (None, "refused", "011", "base_url"),
        (400, "Only chatglm2-6b&&gpt-3.5 allowed now, your model x", "012", "serves chatglm2-6b, gpt-3.5"),
        (400, "Only  allowed now, your model x", "012", "no model at present"),
        (404, "Not Found", "013", "/v1"),
        (401, "no", "014", "api_key"),
        (400, "torch.cuda.OutOfMemoryError: CUDA out of memory", "015", "quantisation"),
        (400, "This model's maximum context length is 4096 tokens.", "016", "context"),
        (500, "Internal Server Error", "017", "logs"),
    ],
)
def test_a_refusal_of_the_endpoint_is_a_sentence(status: int | None, words: str, id_: str, part: str) -> None:
    text = endpoint_sentence(status, words, "http://h/v1", "x")
    assert text.startswith(f"LW-AGENT-{id_}: ")
    assert part in text


@pytest.mark.parametrize(
    ("messages", "executions", "verdict"),
    [
        ([USER, CODE, USER, END], [ran(0)], "answered"),
        ([USER, CODE, USER, END], [ran(1)], "code failed"),
        ([USER, CODE, USER, CODE, USER, END], [ran(1), ran(0)], "answered"),
        ([USER, CODE, USER, CODE, USER, END], [ran(0), ran(1)], "code failed"),
        ([USER, END], [], "no code"),
        ([USER, CODE, USER], [ran(0)], "not finished"),
        ([USER, CODE], [ran(0)], "not finished"),
        ([USER], [], "not finished"),
        ([], [], "not finished"),
    ],
)
def test_the_verdict(messages: list[Message], executions: list[Execution], verdict: str) -> None:
    assert judge(messages, executions) == verdict


@given(st.lists(st.sampled_from([CODE, END, USER])), st.lists(st.integers(0, 3).map(ran)))
def test_answered_means_that_code_ran_well_and_the_model_ended(messages: list[Message], runs: list[Execution]) -> None:
    answered = judge(messages, runs) == "answered"
    assert answered == bool(messages and messages[-1] == END and runs and runs[-1].exit_code == 0)


@pytest.mark.parametrize("text", ["TERMINATE", "Done. TERMINATE\n", "**TERMINATE**", "TERMINATE."])
def test_an_end(text: str) -> None:
    assert is_end(text)


@pytest.mark.parametrize("text", [None, "", "TERMINATED early", CODE.content + "\nTERMINATE", "TERMINATE is the word."])
def test_not_an_end(text: str | None) -> None:
    assert not is_end(text)


def test_the_transcript_for_people() -> None:
    task = Message("user", "user_proxy", "Print 1.")
    outcome = Outcome("Print 1.", (task, CODE, USER, END), (ran(0),), 1.23, "m", "http://h/v1")
    text = transcript(outcome)
    parts = [
        "Task\n  | Print 1.",
        "print(1)",
        "exit code 0, and printed\n  | 1\n",
        "TERMINATE",
        "Verdict: answered, in 1.2 s",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert outcome.as_json()["output"] == "1\n"


@pytest.mark.parametrize("task", KNOWN["tasks"], ids=lambda task: task["id"])
def test_the_code_that_the_demo_model_learns_is_right(task: dict[str, Any], tmp_path: Path) -> None:
    code = "\n".join(task["code"])
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert re.fullmatch(task["output"], done.stdout)
    # AutoGen takes a comment in the first line for a file name.
    assert not code.startswith("#")


@pytest.mark.parametrize("task", KNOWN["tasks"], ids=lambda task: task["id"])
def test_no_answer_holds_what_fastchat_would_change(task: dict[str, Any]) -> None:
    texts = [task["lead"], *task["code"], task["conclusion"], *KNOWN["failed"].values(), *KNOWN["unknown"].values()]
    for text in texts:
        assert "###" not in text
        assert not re.search(r" [.?!,]| ' | n't| '(m|s|ve|re)\b", text)


def test_tasks_are_named_once_and_in_both_languages() -> None:
    ids = [task["id"] for task in KNOWN["tasks"]]
    assert len(ids) == len(set(ids)) >= 6
    assert sum(task["language"] == "zh" for task in KNOWN["tasks"]) >= 2


def test_the_list_of_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["assistant", "--list"]) == 0
    assert "Print the first 10 prime numbers." in capsys.readouterr().out
    rows = json.loads(listing(KNOWN["tasks"], as_json=True))
    assert [row["id"] for row in rows] == [task["id"] for task in KNOWN["tasks"]]


def test_an_unknown_example_names_the_known_ones() -> None:
    with pytest.raises(AgentError, match=r"^LW-AGENT-010: .*primes"):
        example(KNOWN["tasks"], "prime")


@pytest.mark.parametrize(
    ("words", "id_"),
    [
        (["--task", " ", "--config", "x"], "007"),
        (["--task", "x"], "008"),
        (["--task", "x", "--config", "x", "--max-turns", "0"], "009"),
        (["--task", "x", "--config", "/nowhere/x.json"], "001"),
    ],
)
def test_wrong_use_is_a_sentence(words: list[str], id_: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["assistant", *words]) == 2
    assert capsys.readouterr().err.startswith(f"LW-AGENT-{id_}: ")
