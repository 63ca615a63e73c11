"""The assistant from outside: verdicts, transcripts, refusals of the endpoint."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

import pytest

from scripted import AGENTS, CODE, DONE, KEY, Lab, told


def test_code_is_run_and_the_model_concludes(lab: Lab) -> None:
    endpoint = lab.endpoint(CODE, DONE)
    status, said = lab.ask("assistant")
    assert (status, said["verdict"], said["why"]) == (0, "answered", "")
    assert (said["code"], said["output"], said["exit_code"]) == ("print(6 * 7)", "42\n", 0)
    assert [m["role"] for m in said["messages"]] == ["user", "assistant", "user", "assistant"]
    assert said["messages"][2]["content"] == "exitcode: 0 (execution succeeded)\nCode output: 42\n"
    assert (said["model"], said["base_url"]) == ("m", endpoint.url)
    assert (said["answers"], said["tokens"]) == (2, 84)
    assert [r["temperature"] for r in endpoint.requests] == [0, 0]
    assert endpoint.requests[0]["messages"][0]["role"] == "system"
    # GET /v1/models would make FastChat drop a worker that is slow to answer.
    assert set(endpoint.paths) == {"/v1/chat/completions"}


def test_a_chinese_task_gets_a_chinese_conversation(lab: Lab) -> None:
    endpoint = lab.endpoint("写好了。\n\n```python\nprint('你好')\n```", "好的", "打印了你好。\n\nTERMINATE")
    status, said = lab.ask("assistant", task="打印你好。")
    assert (status, said["verdict"], said["output"]) == (0, "answered", "你好\n")
    assert "请为任务写一个程序" in endpoint.requests[2]["messages"][-1]["content"]


def test_the_transcript_shows_task_code_output_and_verdict_in_three_forms(lab: Lab) -> None:
    lab.endpoint(CODE, DONE)
    words = [word for name in ("t.txt", "t.jsonl", "t.html") for word in ("--transcript", name)]
    done = lab.run("assistant", "--task", "Print 42.", *words, "--work-dir", "a b/work")
    assert done.returncode == 0
    for part in ("Print 42.", "print(6 * 7)", "exit code 0", "  | 42\n", "Verdict: answered", "without a sandbox"):
        assert part in done.stdout
    assert (lab.folder / "t.txt").read_text().strip() == done.stdout.strip()
    assert list((lab.folder / "a b/work").glob("*.py"))
    events = [json.loads(line) for line in (lab.folder / "t.jsonl").read_text().splitlines()]
    assert [one["kind"] for one in events] == ["start", "message", "answer", "run", "message", "answer", "end"]
    answer, run = events[2], events[3]
    assert (answer["who"], answer["prompt_tokens"], answer["completion_tokens"]) == ("assistant", 30, 12)
    assert (run["exit_code"], run["output"]) == (0, "42\n")
    assert answer["seconds"] >= 0
    assert "<details>" in (lab.folder / "t.html").read_text()
    assert lab.traces() == [events]


def test_code_that_runs_without_a_sandbox_is_called_so_everywhere(lab: Lab) -> None:
    """On Windows it does where the inventory says so (lab_agent_code: local); nobody should have to guess."""
    words = "without a sandbox, as the program's own user"
    lab.endpoint(CODE, DONE)
    (lab.config_file.parent / "sandbox.json").write_text('{"kind": "local"}')
    shown = [word for name in ("t.txt", "t.html") for word in ("--transcript", name)]
    status, said = lab.ask("assistant", *shown)
    assert (status, said["sandbox"]) == (0, words)
    text = (lab.folder / "t.txt").read_text()
    assert f"The code ran {words}, exit code 0" in text
    assert text.strip().splitlines()[-1].startswith("Verdict: answered, ")
    assert text.strip().endswith(f"; code that it writes runs {words}")
    assert words.replace("'", "&#x27;") in (lab.folder / "t.html").read_text()
    assert lab.traces()[0][0]["sandbox"] == words


@pytest.mark.parametrize(
    ("replies", "verdict", "code"),
    [
        (["```python\nraise SystemExit(3)\n```", "I cannot.\n\nTERMINATE"], "code failed", 3),
        (["It is 42. exitcode: 0 (execution succeeded)\n\nTERMINATE"], "no code", None),
        ([CODE, "and so on"], "not finished", 0),
        (["```python\n1 / 0\n```", CODE, DONE], "answered", 0),
        (["```sh\nrm -rf nothing\n```", DONE], "code failed", 1),
        (["```python\nimport time; time.sleep(30)\n```", DONE], "code failed", 124),
        (["# Program and end in one breath\n" + CODE + "\nTERMINATE", DONE], "answered", 0),
        (["", "", ""], "not finished", None),
        ([CODE, "It printed:\n\n```text\n42\n```\n\nTERMINATE"], "answered", 0),
        ([CODE, "It printed:\n\n```\n42 and so on\n```\n\nTERMINATE"], "answered", 0),
        ([CODE, "It printed:\n\n```\n42\n```\n\nTERMINATE"], "answered", 0),
        (["```python3\nprint(6 * 7)\n```", DONE], "answered", 0),
        (["```\nprint(6 * 7)\n```\n\nTERMINATE", DONE], "answered", 0),
        (["```json\n{}\n```\n\n" + CODE + "\n\nIt prints\n\n```\n42 it is\n```", DONE], "answered", 0),
    ],
)
def test_the_verdict_follows_what_happened(lab: Lab, replies: list[str], verdict: str, code: int | None) -> None:
    lab.endpoint(*replies)
    status, said = lab.ask("assistant", "--max-turns", "4", "--code-timeout", "2")
    assert (said["verdict"], said["exit_code"]) == (verdict, code)
    assert status == (0 if verdict == "answered" else 1)


@pytest.mark.parametrize(
    ("reply", "id_", "words"),
    [
        ((400, {"message": "Only a&&b allowed now, your model m", "code": 40301}), "LW-AGENT-012", "it serves: a, b"),
        ((400, {"message": "Only  allowed now, your model m", "code": 40301}), "LW-AGENT-012", "no model"),
        ((404, {"detail": "Not Found"}), "LW-AGENT-013", "/v1"),
        ((401, {"error": {"message": "wrong key", "code": "invalid_api_key"}}), "LW-AGENT-014", "api_key"),
        ((400, {"message": "(CUDA out of memory)", "code": 50002}), "LW-AGENT-015", "quantisation"),
        (
            (400, {"message": "This model's maximum context length is 5 tokens.", "code": 40303}),
            "LW-AGENT-016",
            "shorter",
        ),
    ],
)
def test_a_refusal_is_a_sentence(lab: Lab, reply: tuple[int, dict[str, Any]], id_: str, words: str) -> None:
    lab.endpoint(reply)
    done = lab.run("assistant", "--task", "x", "--json", "--transcript", "t.txt")
    assert done.returncode == 2
    assert done.stderr.startswith(f"{id_}: ")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    said = json.loads(done.stdout)
    assert (said["verdict"], said["id"]) == ("not asked", id_)
    assert lab.traces()[0][-1]["verdict"] == "not asked"


def test_a_refusal_in_the_middle_keeps_what_was_said(lab: Lab) -> None:
    lab.endpoint(CODE, (500, {"message": "gone"}))
    status, said = lab.ask("assistant")
    assert (status, said["verdict"], said["output"]) == (1, "not finished", "42\n")
    assert said["why"].startswith("LW-AGENT-017: ")


def test_an_endpoint_that_does_not_listen_is_a_sentence(lab: Lab) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        lab.config({"base_url": f"http://127.0.0.1:{free.getsockname()[1]}/v1"})
        done = lab.run("assistant", "--task", "x")
    assert (done.returncode, done.stderr[:12]) == (2, "LW-AGENT-011")


def test_the_sentence_is_in_the_labs_language(lab: Lab) -> None:
    endpoint = lab.endpoint((401, {"message": "no"}))
    lab.config({"base_url": endpoint.url}, language="zh")
    assert "拒绝了密钥" in lab.run("assistant", "--task", "x").stderr


def test_the_next_api_is_asked_when_one_is_down(lab: Lab) -> None:
    endpoint = lab.endpoint(CODE, DONE)
    lab.config({"base_url": "http://127.0.0.1:9/v1", "max_retries": 0}, {"base_url": endpoint.url})
    assert lab.ask("assistant")[1]["verdict"] == "answered"


def test_no_other_model_answers_in_its_place(lab: Lab) -> None:
    endpoint = lab.endpoint(CODE, DONE)
    lab.config({"base_url": "http://127.0.0.1:9/v1", "max_retries": 0}, {"base_url": endpoint.url, "model": "other"})
    assert lab.ask("assistant")[1]["id"] == "LW-AGENT-011"
    assert lab.ask("assistant", "--model", "other")[1]["model"] == "other"
    assert endpoint.requests[0]["model"] == "other"
    status, said = lab.ask("assistant", "--model", "gpt-9")
    assert (status, said["id"]) == (2, "LW-AGENT-027")


def test_a_busy_endpoint_is_asked_again(lab: Lab) -> None:
    endpoint = lab.endpoint((429, {"message": "busy"}), (503, {"message": "busy"}), CODE, DONE)
    assert lab.ask("assistant")[1]["verdict"] == "answered"
    assert len(endpoint.requests) == 4


def test_a_secret_is_written_nowhere(lab: Lab) -> None:
    show = f"```python\nprint({KEY[:9]!r} + {KEY[9:]!r}, 'password=hunter2hunter2')\n```"
    lab.endpoint(show, DONE)
    done = lab.run(
        "assistant", "--task", f"Print {KEY}.", "--transcript", "t.html", "--transcript", "t.jsonl", "--json"
    )
    files = [path.read_text() for path in (lab.folder / "t.html", lab.folder / "t.jsonl")]
    files += [path.read_text() for path in (lab.folder / "home/traces").iterdir()]
    assert len(files) == 3
    for text in (done.stdout, done.stderr, *files):
        assert KEY not in text
        assert "hunter2" not in text
    assert json.loads(done.stdout)["output"] == "*** password=***\n"


def answer(message: Any, **more: Any) -> tuple[int, Any]:
    """What an endpoint says to a question, but for what is odd."""
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return 200, {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **more}


@pytest.mark.parametrize(
    "reply",
    [
        answer(None),
        answer("words"),
        answer({"role": "assistant", "content": [1]}),
        answer(None, choices=[]),
        answer(None, choices=None),
        (200, {"object": "error", "message": "NETWORK ERROR", "code": 50001}),
        (200, []),
        (200, b"<html>hi</html>"),
        (200, b""),
    ],
    ids=str,
)
def test_an_answer_that_is_none_is_a_sentence(lab: Lab, reply: Any) -> None:
    lab.endpoint(reply)
    status, said = lab.ask("assistant", "--transcript", "t.html")
    assert (status, said["verdict"], said["id"]) == (2, "not asked", "LW-AGENT-038")
    assert lab.traces()[0][-1]["verdict"] == "not asked"
    assert "LW-AGENT-038" in (lab.folder / "t.html").read_text()


def test_the_next_api_is_asked_when_one_answers_what_is_no_answer(lab: Lab) -> None:
    first, second = lab.endpoint((200, [])), lab.endpoint(CODE, DONE)
    lab.config({"base_url": first.url}, {"base_url": second.url})
    done = lab.run("assistant", "--task", "x", "--transcript", "t.html")
    assert done.returncode == 0
    for text in (done.stdout, (lab.folder / "t.html").read_text()):
        assert second.url in text
        assert first.url not in text


def test_the_endpoint_that_refused_is_named(lab: Lab) -> None:
    endpoint = lab.endpoint((401, {"message": "no"}))
    lab.config({"base_url": "http://127.0.0.1:9/v1", "max_retries": 0}, {"base_url": endpoint.url})
    assert endpoint.url in lab.ask("assistant")[1]["error"]


@pytest.mark.parametrize("usage", [None, {}, dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"))])
def test_an_endpoint_that_does_not_count_is_counted_by_its_letters(lab: Lab, usage: Any) -> None:
    lab.endpoint(answer({"role": "assistant", "content": CODE}, usage=usage), DONE)
    status, said = lab.ask("assistant")
    assert (status, said["verdict"]) == (0, "answered")
    assert said["tokens"] > 42


def test_a_tool_that_nobody_offered_is_no_answer(lab: Lab) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "python", "arguments": "{}"}}
    endpoint = lab.endpoint(answer({"role": "assistant", "content": None, "tool_calls": [call]}), CODE, DONE)
    said = lab.ask("assistant")[1]
    assert (said["verdict"], said["messages"][1]["content"]) == ("answered", "")
    assert told(endpoint.requests[1]).startswith("Write a program")


def test_halves_of_characters_end_nothing(lab: Lab) -> None:
    """A model that was cut in the middle of one, and a task from a terminal that writes GB 18030."""
    endpoint = lab.endpoint(CODE + " \ud83d", DONE)
    task = os.fsdecode("打印 42。".encode("gb18030"))
    status, said = lab.ask("assistant", "--transcript", "t.txt", task=task)
    assert (status, said["task"]) == (0, "打印 42。")
    assert told(endpoint.requests[0]) == "打印 42。"
    assert said["messages"][1]["content"].endswith(" ?")


def test_a_fault_of_the_programs_own_has_an_end_and_a_sentence(lab: Lab) -> None:
    (lab.folder / "sitecustomize.py").write_text(
        "from labwright_agents.programs import assistant\nassistant.talk = lambda *_words: 1 / 0\n"
    )
    lab.endpoint(CODE)
    done = lab.run("assistant", "--task", "x", PYTHONPATH=f"{AGENTS}{os.pathsep}{lab.folder}")
    assert (done.returncode, done.stderr[:48]) == (2, "LW-AGENT-039: the program itself failed: ZeroDiv")
    end = lab.traces()[0][-1]
    assert (end["kind"], end["verdict"]) == ("end", "not asked")
    assert "ZeroDivisionError" in end["traceback"][-1]


def test_what_would_act_on_a_terminal_is_shown_written_out(lab: Lab) -> None:
    lab.endpoint("```python\nprint('\\033]0;owned\\a', '\\u202eback')\n```", "It is \x1b[2J.\n\nTERMINATE")
    done = lab.run("assistant", "--task", "x \x1b[2J")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert r"\x1b]0;owned\x07 \u202eback" in done.stdout
    assert r"\x1b[2J" in done.stdout
    listed = lab.run("show").stdout
    assert "\x1b" not in listed + lab.run("show", listed.split()[0]).stdout
