"""Nothing runs away: limits and signals end a conversation in a sentence, with its transcript."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import pytest

from scripted import CODE, DONE, Lab, slowly

COUNT = iter(range(10**9))


def endless(_request: dict[str, Any]) -> str:
    """Something else each time, and never an end."""
    return f"Thought {next(COUNT)}: and so on."


@pytest.mark.parametrize(
    ("words", "id_"),
    [
        (["--max-turns", "5"], "LW-AGENT-031"),
        (["--max-tokens", "100", "--max-turns", "999"], "LW-AGENT-032"),
        (["--max-seconds", "4", "--max-turns", "999999"], "LW-AGENT-033"),
    ],
)
def test_a_model_that_goes_on_for_ever_ends_in_a_sentence(lab: Lab, words: list[str], id_: str) -> None:
    lab.endpoint(endless)
    done = lab.run("assistant", "--task", "x", "--json", "--transcript", "t.html", *words)
    said = json.loads(done.stdout)
    assert (done.returncode, said["verdict"]) == (1, "not finished")
    assert said["why"].startswith(f"{id_}: ")
    assert done.stderr.startswith(f"{id_}: ")
    assert (lab.folder / "t.html").is_file()


def test_rubbish_for_ever_ends_after_the_third_time(lab: Lab) -> None:
    endpoint = lab.endpoint("\x00\ufffd blah blah")
    said = lab.ask("assistant", "--max-turns", "999")[1]
    assert said["why"].startswith("LW-AGENT-035: ")
    assert len(endpoint.requests) == 3


def test_an_answer_without_an_end_is_an_end(lab: Lab) -> None:
    lab.endpoint("no " * 20_000)
    status, said = lab.ask("assistant", "--max-output", "1000")
    assert (status, said["why"][:12]) == (1, "LW-AGENT-037")
    assert len(said["messages"][-1]["content"]) < 1200


def test_output_without_an_end_is_cut_for_model_and_trace(lab: Lab) -> None:
    endpoint = lab.endpoint("```python\nprint('x' * 1000000)\nprint('the end')\n```", DONE)
    said = lab.ask("assistant", "--max-output", "2000")[1]
    assert said["verdict"] == "answered"
    for text in (said["output"], endpoint.requests[1]["messages"][-1]["content"]):
        assert "characters left out" in text
        assert text.endswith("the end\n")
        assert len(text) < 2200


def test_a_silent_endpoint_ends_in_a_sentence(lab: Lab) -> None:
    endpoint = lab.endpoint(slowly(5, CODE))
    lab.config({"base_url": endpoint.url, "timeout": 1, "max_retries": 0})
    status, said = lab.ask("assistant")
    assert (status, said["id"]) == (2, "LW-AGENT-011")


def test_time_that_is_over_ends_code_too(lab: Lab) -> None:
    lab.endpoint("```python\nimport time\ntime.sleep(100)\n```", DONE)
    status, said = lab.ask("assistant", "--max-seconds", "5", "--code-timeout", "90")
    assert (status, said["why"][:12]) == (1, "LW-AGENT-033")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["answer", "code"])
def test_a_signal_ends_the_conversation_with_its_transcript(lab: Lab, number: int, where: str) -> None:
    """Whether the model is thinking or its code runs; what was said until then is there."""
    marker = lab.folder / "running"
    wait = f"import pathlib, time; pathlib.Path({str(marker)!r}).touch(); time.sleep(100)"

    def slow(_request: dict[str, Any]) -> str:
        marker.touch()
        time.sleep(100)
        return DONE

    lab.endpoint(*([f"```python\n{wait}\n```"] if where == "code" else [CODE, slow]))
    program = lab.start("assistant", "--task", "x", "--json", "--transcript", "t.jsonl")
    deadline = time.monotonic() + 60
    while not marker.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(program.pid, number)
    out, errors = program.communicate(timeout=60)
    said = json.loads(out)
    assert (program.returncode, said["verdict"]) == (1, "not finished")
    assert said["why"] == f"LW-AGENT-034: the conversation was stopped by {signal.Signals(number).name}."
    assert "Traceback" not in errors
    events = [json.loads(line) for line in (lab.folder / "t.jsonl").read_text().splitlines()]
    assert [one["kind"] for one in events][:3] == ["start", "message", "answer"]
    assert events[-1]["kind"] == "end"


@pytest.mark.parametrize("option", ["--max-turns", "--max-tokens", "--max-seconds", "--max-output", "--code-timeout"])
def test_a_limit_of_nothing_is_refused(lab: Lab, option: str) -> None:
    lab.endpoint(CODE)
    assert lab.ask("assistant", option, "0")[1]["id"] == "LW-AGENT-009"
