"""hostkit.probe against servers that answer as FastChat's controller, worker and API do, and as they should not."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hostkit import probe
from hostkit.result import Problem
from unit.hostkit.loopback import Answer, Asked, Loopback, Reply, free_port, says

SAID = {"choices": [{"index": 0, "message": {"role": "assistant", "content": " Hello there. "}}]}
VECTOR = {"data": [{"embedding": [0.5, -0.5, 0.25]}]}
FASTCHAT_ERROR = {"object": "error", "message": "NETWORK ERROR DUE TO HIGH TRAFFIC.", "code": 50002}


def pieces(*parts: Any, end: bool = True, newline: str = "\n\n") -> Reply:
    """A stream of server-sent events as FastChat writes them."""
    lines = [f"data: {json.dumps(part, ensure_ascii=False)}{newline}" for part in parts]
    return Reply("".join([*lines, f"data: [DONE]{newline}" if end else ""]).encode())


def words(*texts: str | None) -> list[dict[str, Any]]:
    return [{"choices": [{"delta": {"role": "assistant"}}]}] + [
        {"choices": [{"delta": {"content": text}}]} for text in texts
    ]


# kind, what the check needs, path, answer, whether it is good, what the evidence says
TABLE: list[tuple[str, dict[str, Any], str, Answer, bool, str]] = [
    ("controller", {"models": ["a"]}, "/list_models", says({"models": ["b", "a"]}), True, "registered: a, b"),
    ("controller", {"models": ["a"]}, "/list_models", says({"models": []}), False, "not there: a; there: nothing"),
    ("controller", {"models": ["a"]}, "/list_models", says({"models": ["b"]}), False, "not there: a; there: b"),
    ("controller", {"models": ["a"]}, "/list_models", says({}), False, "answered something else than was asked"),
    ("controller", {"models": ["a"]}, "/list_models", says([1]), False, "answered something else than was asked"),
    ("controller", {"models": ["a"]}, "/list_models", Reply(b"<html>"), False, "Expecting value"),
    (
        "controller",
        {"models": ["a"]},
        "/list_models",
        says({"models": None}),
        False,
        "answered something else than was asked",
    ),
    ("registered", {"count": 2}, "/worker_get_status", says({"speed": 2, "queue_length": 1}), True, "2 workers answer"),
    ("registered", {"count": 2}, "/worker_get_status", says({"speed": 1, "queue_length": 0}), False, "1 of 2 planned"),
    (
        "registered",
        {"count": 2},
        "/worker_get_status",
        says({"speed": None}),
        False,
        "answered something else than was asked",
    ),
    ("worker", {"models": ["a"]}, "/worker_get_status", says({"model_names": ["a", "gpt"]}), True, "serves a, gpt"),
    ("worker", {"models": ["a"]}, "/worker_get_status", says({"model_names": ["gpt"]}), False, "not there: a"),
    ("models", {"models": ["a"]}, "/v1/models", says({"data": [{"id": "a"}]}), True, "lists a"),
    ("models", {"models": ["a", "b"]}, "/v1/models", says({"data": [{"id": "a"}]}), False, "not there: b; there: a"),
    ("models", {"models": ["a"]}, "/v1/models", says({"detail": "key"}, 401), False, "answered 401"),
    ("completion", {}, "/v1/chat/completions", says(SAID), True, "m said 'Hello there.'"),
    (
        "completion",
        {},
        "/v1/chat/completions",
        says({"choices": [{"message": {"content": "  "}}]}),
        False,
        "answered nothing",
    ),
    (
        "completion",
        {},
        "/v1/chat/completions",
        says({"choices": [{"message": {"content": None}}]}),
        False,
        "answered nothing",
    ),
    ("completion", {}, "/v1/chat/completions", says({"choices": []}), False, "answered something else than was asked"),
    ("completion", {}, "/v1/chat/completions", says(FASTCHAT_ERROR, 400), False, "The GPU has no memory left"),
    (
        "completion",
        {},
        "/v1/chat/completions",
        says({"message": "Only a allowed now", "code": 40301}, 400),
        False,
        "Only a allowed now (there: a; the closest first) (FastChat's code 40301) That means",
    ),
    ("completion", {}, "/v1/chat/completions", says({"message": "odd", "code": "x"}, 400), False, "400: odd"),
    ("completion", {}, "/v1/chat/completions", says(["odd"], 500), False, "500: ['odd']"),
    ("completion", {}, "/v1/chat/completions", Reply(b"Internal Server Error", 500), False, "500: Internal Server Err"),
    ("completion", {}, "/v1/chat/completions", Reply(b"{", length=50), False, "broke off"),
    ("completion", {}, "/v1/chat/completions", Reply(b"{", 500, length=50), False, "answered 500"),
    ("stream", {}, "/v1/chat/completions", pieces(*words("Hel", "lo")), True, "3 pieces, 'Hello'"),
    ("stream", {}, "/v1/chat/completions", pieces(*words("Hel", "lo"), newline="\r\n\r\n"), True, "3 pieces, 'Hello'"),
    ("stream", {}, "/v1/chat/completions", pieces(*words("a\u2028b", "\x85c")), True, "3 pieces"),
    ("stream", {}, "/v1/chat/completions", pieces(*words("Hel"), end=False), False, "broke off after 2 pieces"),
    ("stream", {}, "/v1/chat/completions", Reply(b""), False, "broke off after 0 pieces"),
    ("stream", {}, "/v1/chat/completions", Reply(b"data: {}\n", length=90), False, "broke off in the middle"),
    ("stream", {}, "/v1/chat/completions", pieces(*words(" ", None)), False, "no words"),
    (
        "stream",
        {},
        "/v1/chat/completions",
        pieces({"text": "**NETWORK ERROR**", "error_code": 50004}),
        False,
        "(FastChat's code 50004) That means: The program failed",
    ),
    ("stream", {}, "/v1/chat/completions", pieces({"choices": []}), False, "answered something else than was asked"),
    ("stream", {}, "/v1/chat/completions", Reply(b"\xff\xff"), False, "invalid start byte"),
    ("embeddings", {}, "/v1/embeddings", says(VECTOR), True, "3 numbers"),
    ("embeddings", {}, "/v1/embeddings", says({"data": [{"embedding": [0.0] * 8}]}), False, "8 numbers, all alike"),
    ("embeddings", {}, "/v1/embeddings", says({"data": [{"embedding": []}]}), False, "0 numbers"),
    ("embeddings", {}, "/v1/embeddings", says({"data": [{"embedding": [float("nan")] * 3}]}), False, "not finite"),
    (
        "embeddings",
        {},
        "/v1/embeddings",
        says({"data": [{"embedding": "AAAA8D8="}]}),
        False,
        "answered something else than was asked",
    ),
]


def check_of(kind: str, more: dict[str, Any], server: Loopback) -> dict[str, Any]:
    return {"id": f"the.{kind}", "kind": kind, "url": server.url, "model": "m", "prompt": "Hello", **more}


@pytest.mark.parametrize(("kind", "more", "path", "answer", "good", "evidence"), TABLE)
def test_one_question(
    server: Loopback, kind: str, more: dict[str, Any], path: str, answer: Answer, good: bool, evidence: str
) -> None:
    server.answers[path] = answer
    found = probe.ask(check_of(kind, more, server))
    assert (found["id"], found["ok"]) == (f"the.{kind}", good)
    assert evidence in found["evidence"]
    assert found["latency_ms"] >= 0
    assert server.paths() == [path]


def test_the_table_asks_every_kind_that_speaks_http() -> None:
    others = {"connect", "unit", "agent", "certificate", "refused", "page"}
    assert {row[0] for row in TABLE} == set(probe.KINDS) - others - {"firewall"}


def test_controller_and_worker_are_asked_with_post_and_the_list_of_models_with_get(server: Loopback) -> None:
    for kind in ("controller", "registered", "worker", "models"):
        probe.ask(check_of(kind, {"models": [], "count": 0}, server))
    assert [(one.method, one.path) for one in server.asked] == [
        ("POST", "/list_models"),
        ("POST", "/worker_get_status"),
        ("POST", "/worker_get_status"),
        ("GET", "/v1/models"),
    ]


def test_the_question_is_answered_the_same_each_time(server: Loopback) -> None:
    server.answers["/v1/chat/completions"] = says(SAID)
    probe.ask(check_of("completion", {"max_tokens": 5}, server))
    assert server.asked[0].json() == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hello"}],
        "temperature": 0,
        "max_tokens": 5,
    }


def test_a_key_comes_from_its_file(server: Loopback, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-1\n")
    server.answers["/v1/models"] = says({"data": []})
    assert probe.ask(check_of("models", {"models": [], "key_file": str(tmp_path / "key")}, server))["ok"]
    assert server.asked[0].headers["Authorization"] == "Bearer sk-1"
    gone = probe.ask(check_of("models", {"models": [], "key_file": str(tmp_path / "none")}, server))
    assert not gone["ok"]
    assert "No such file" in gone["evidence"]


@pytest.mark.parametrize("kind", ["controller", "completion", "connect"])
def test_nobody_listens(kind: str) -> None:
    port = free_port()
    address = {"host": "127.0.0.1", "port": port} if kind == "connect" else {"url": f"http://127.0.0.1:{port}"}
    found = probe.ask({"id": "x", "kind": kind, "models": [], "model": "m", "prompt": "", **address})
    assert not found["ok"]
    assert f"127.0.0.1:{port}; is its service up?" in found["evidence"]


def test_somebody_listens(server: Loopback) -> None:
    found = probe.ask({"id": "x", "kind": "connect", "host": "127.0.0.1", "port": server.port})
    assert found["ok"], found


def test_a_server_that_is_too_slow(server: Loopback) -> None:
    go_on = threading.Event()

    def late(_asked: Asked) -> Reply:
        go_on.wait(5)
        return says({"models": []})

    server.answers["/list_models"] = late
    found = probe.ask(check_of("controller", {"models": [], "timeout_s": 0.05}, server))
    go_on.set()
    assert "did not answer in time" in found["evidence"]


@pytest.mark.parametrize("kind", ["connect", "controller"])
def test_a_name_that_nobody_knows_names_the_setting(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_arguments: object, **_more: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    where = {"host": "gpu01", "port": 1, "url": "http://gpu01:1", "models": []}
    found = probe.ask({"id": "x", "kind": kind, **where})
    assert not found["ok"]
    assert "lab_address" in found["evidence"]


def program(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(f"#!{sys.executable} -IS\nimport json, sys, os\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("shown", "good", "evidence"),
    [
        ("ActiveState=active\nSubState=running\nNRestarts=0\nResult=success", True, "x.service is active/running"),
        ("ActiveState=failed\nSubState=failed\nNRestarts=5\nResult=exit-code", False, "restarts 5, result exit-code"),
        (
            "ActiveState=activating\nSubState=start-post\nNRestarts=1\nResult=success",
            False,
            "it said nothing; see journalctl",
        ),
        ("", False, "is None/None"),
    ],
)
def test_a_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: str, good: bool, evidence: str) -> None:
    program(tmp_path, "systemctl", f"print({shown!r})")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = probe.ask({"id": "x", "kind": "unit", "unit": "x.service"})
    assert found["ok"] == good
    assert evidence in found["evidence"]


def test_a_system_without_systemd_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = probe.ask({"id": "service.api", "kind": "unit", "unit": "x.service"})
    assert not found["ok"]
    assert found["evidence"].startswith("service.api: ")
    assert "systemctl" in found["evidence"]


ANSWERED = 'print(json.dumps({"verdict": "answered", "output": "5050"}))'
RAN = ANSWERED.replace("{", '{"code": "print(5050)", "sandbox": "without a sandbox", ')


@pytest.mark.parametrize(
    ("text", "more", "good", "evidence"),
    [
        (ANSWERED, {}, True, "answered: '5050'"),
        ("print('some words')\n" + ANSWERED, {}, True, "answered: '5050'"),
        (RAN, {}, True, "answered: '5050'; the code ran without a sandbox"),
        (ANSWERED + "\nsys.exit(3)", {}, False, "answered: '5050'"),
        ('print(json.dumps({"verdict": "gave up", "error": "no code"}))', {}, False, "gave up: 'no code'"),
        ("sys.exit('no key')", {}, False, "ended with 1: no key"),
        ("", {}, False, "ended with 0: "),
        ("print('[1]')", {}, False, "answered something else than was asked"),
        (
            'print(json.dumps({"verdict": "answered", "output": os.environ["LAB"]}))',
            {"environment": {"LAB": "7"}},
            True,
            "'7'",
        ),
        ("sys.stdin.read() or __import__('signal').pause()", {"timeout_s": 0.2}, False, "had not ended after 0 s"),
    ],
)
def test_an_agent(tmp_path: Path, text: str, more: dict[str, Any], good: bool, evidence: str) -> None:
    found = probe.ask({"id": "agent.answer", "kind": "agent", "argv": [program(tmp_path, "agent", text)], **more})
    assert found["ok"] == good
    assert evidence in found["evidence"]


def test_an_agent_that_is_not_installed(tmp_path: Path) -> None:
    found = probe.ask({"id": "agent.answer", "kind": "agent", "argv": [str(tmp_path / "none")]})
    assert not found["ok"]
    assert f"agent.answer: [Errno 2] No such file or directory: '{tmp_path / 'none'}'" in found["evidence"]


def after(times: int, first: Reply, then: Reply) -> Callable[[Asked], Reply]:
    """One answer so many times, then another for good."""
    left = [first] * times

    def answer(_asked: Asked) -> Reply:
        return left.pop() if left else then

    return answer


def test_waits_until_all_pass_and_asks_only_what_has_not_passed(server: Loopback) -> None:
    server.answers["/list_models"] = after(3, says({"models": []}), says({"models": ["a"]}))
    server.answers["/v1/models"] = says({"data": [{"id": "a"}]})
    checks = [check_of(kind, {"models": ["a"]}, server) for kind in ("models", "controller")]
    result = probe.run({"checks": checks, "wait_s": 30}, False)
    assert not result.changed
    assert [(one["id"], one["ok"]) for one in result.data["checks"]] == [("the.models", True), ("the.controller", True)]
    assert result.message == "2 of 2 checks passed"
    assert (server.paths().count("/v1/models"), server.paths().count("/list_models")) == (1, 4)


def test_asks_once_without_a_time_to_wait(server: Loopback) -> None:
    words = r"LW-PROBE-001: the\.controller: .*/list_models answered 404: no such file; .* \(LW-PROBE-023\)$"
    with pytest.raises(Problem, match=words):
        probe.run({"checks": [check_of("controller", {"models": []}, server)]}, False)
    assert len(server.asked) == 1


def test_says_how_long_it_asked(server: Loopback) -> None:
    with pytest.raises(Problem, match=r"LW-PROBE-001: .* \(asked for 0.3 s\)$"):
        probe.run({"checks": [check_of("controller", {"models": []}, server)], "wait_s": 0.3}, False)
    assert len(server.asked) > 1


def test_without_strict_all_answers_come_back_good_and_bad(server: Loopback) -> None:
    server.answers["/v1/models"] = says({"data": []})
    checks = [check_of(kind, {"models": []}, server) for kind in ("controller", "models")]
    result = probe.run({"checks": checks, "strict": False}, False)
    assert [one["ok"] for one in result.data["checks"]] == [False, True]
    assert result.message == "1 of 2 checks passed"


def test_no_checks_pass() -> None:
    assert probe.run({"checks": []}, False).data == {"checks": []}


def test_a_program_that_ended_is_not_waited_for(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.Popen([sys.executable, "-IS", "-c", ""])
    ended.wait()
    monkeypatch.setenv("MAINPID", str(ended.pid))
    with pytest.raises(Problem, match="LW-PROBE-002"):
        probe.run({"checks": [check_of("controller", {"models": []}, server)], "wait_s": 600}, False)


def test_a_program_that_runs_is_waited_for(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAINPID", str(os.getpid()))
    server.answers["/list_models"] = after(2, Reply(b"", 503), says({"models": []}))
    assert probe.run({"checks": [check_of("controller", {"models": []}, server)], "wait_s": 600}, False)


def test_a_check_that_lacks_something_is_the_plans_fault() -> None:
    with pytest.raises(KeyError):
        probe.run({"checks": [{"id": "x", "kind": "guess"}]}, False)
