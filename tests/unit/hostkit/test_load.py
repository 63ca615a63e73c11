"""hostkit.load against servers that stream as FastChat's API does, and as it does when something is wrong."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hostkit import load
from hostkit.__main__ import answer
from hostkit.result import Problem
from unit.hostkit.loopback import Answer, Asked, Loopback, Reply, free_port, says

PATH = "/v1/chat/completions"
DONE = b"data: [DONE]\n\n"


def message(value: Any) -> bytes:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


def piece(**delta: Any) -> bytes:
    return message({"choices": [{"delta": delta}]})


def fastchat(*texts: str, pause_s: float = 0.0, first_s: float = 0.0, end: bytes = DONE) -> Iterator[bytes]:
    """As chat_completion_stream_generator sends it: the role, the words, a last delta without words, the end mark."""
    yield piece(role="assistant")
    time.sleep(first_s)
    for text in texts:
        yield piece(content=text)
        time.sleep(pause_s)
    yield piece()
    yield end


def streaming(*texts: str, **more: Any) -> Answer:
    return lambda _asked: Reply(stream=fastchat(*texts, **more))


def cut_off(_asked: Asked) -> Reply:
    return Reply(stream=[piece(role="assistant"), piece(content="Hel")], whole=False)


def measure(url: str, **more: Any) -> dict[str, Any]:
    request = {"url": url, "model": "m", "prompt": "Hello", "max_tokens": 8, "clients": 2, "seconds": 0.3, "grace_s": 2}
    return load.run({**request, **more}, False).data


def test_clients_ask_one_question_after_the_other_until_the_time_is_up(server: Loopback) -> None:
    server.answers[PATH] = streaming("Hel", "lo", " 你", pause_s=0.01)
    begun = time.monotonic()
    found = measure(server.url)
    assert time.monotonic() - begun < 5
    rows = found["answered"]
    assert len(rows) == len(server.asked) >= 4
    assert all(0 <= begin <= first <= end <= found["elapsed_s"] for begin, first, end, _pieces in rows)
    assert {row[3] for row in rows} == {3}
    assert all(row[0] < 0.3 for row in rows)
    assert (found["errors"], found["unfinished"]) == ([], 0)
    assert sum(found["pieces"]) == 3 * len(rows)
    assert server.asked[0].json() == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hello"}],
        "temperature": 0,
        "max_tokens": 8,
        "stream": True,
    }
    assert {(one.method, one.path) for one in server.asked} == {("POST", PATH)}


def test_as_many_clients_as_wished_wait_at_the_same_time(server: Loopback) -> None:
    together = threading.Barrier(5)

    def all_at_once(_asked: Asked) -> Reply:
        together.wait(5)
        return Reply(stream=fastchat("x", first_s=0.2))

    server.answers[PATH] = all_at_once
    # The barrier lets five through or none; the time is up before a second round.
    assert len(measure(server.url, clients=5, seconds=0.1)["answered"]) == 5


def test_the_first_piece_is_the_first_with_words_and_not_the_role(server: Loopback) -> None:
    server.answers[PATH] = streaming("", "Hello", first_s=0.2, pause_s=0.1)
    ((begin, first, end, pieces),) = measure(server.url, clients=1, seconds=0.01)["answered"]
    assert 0.3 <= first - begin < 3
    assert 0.1 <= end - first < 3
    assert pieces == 1


def test_answers_that_run_at_the_end_are_waited_for_and_count(server: Loopback) -> None:
    server.answers[PATH] = streaming("x", first_s=0.3)
    found = measure(server.url, seconds=0.05)
    assert (len(found["answered"]), found["unfinished"]) == (2, 0)
    assert found["elapsed_s"] >= 0.3


def test_what_hangs_is_cut_off_after_the_grace_and_unfinished(server: Loopback) -> None:
    go_on = threading.Event()

    def hang() -> Iterator[bytes]:
        yield piece(content="Hel")
        go_on.wait(20)
        yield DONE

    server.answers[PATH] = lambda _asked: Reply(stream=hang())
    begun = time.monotonic()
    found = measure(server.url, clients=3, seconds=0.1, grace_s=0.2)
    took = time.monotonic() - begun
    go_on.set()
    assert 0.3 <= took < 5
    assert (found["answered"], found["errors"], found["unfinished"]) == ([], [], 3)
    assert (found["pieces"], found["elapsed_s"]) == ([3], pytest.approx(0.3))


def test_a_server_that_takes_the_request_and_says_nothing_is_cut_off_too(server: Loopback) -> None:
    go_on = threading.Event()

    def silent(_asked: Asked) -> Reply:
        go_on.wait(20)
        return Reply()

    server.answers[PATH] = silent
    found = measure(server.url, seconds=0.1, grace_s=0.1)
    go_on.set()
    assert (found["answered"], found["errors"], found["unfinished"]) == ([], [], 2)


# the answer, its cause, a part of the example
FAILURES: list[tuple[Answer, str, str]] = [
    (
        says({"message": "Only a && b allowed now", "code": 40301}, 400),
        "FastChat 40301",
        "400: Only a && b allowed now",
    ),
    (says({"object": "error", "message": "HIGH TRAFFIC", "code": 50002}, 400), "FastChat 50002", "ran out of GPU mem"),
    (
        lambda _asked: Reply(stream=[piece(role="assistant"), message({"text": "HIGH", "error_code": 50002}), DONE]),
        "FastChat 50002",
        "the stream broke off with an error: ",
    ),
    (says({"detail": {"error": {"code": "invalid_api_key"}}}, 401), "HTTP 401", "answered 401"),
    (Reply(b"Internal Server Error", 500), "HTTP 500", "500: Internal Server Error"),
    (says([1], 503), "HTTP 503", "answered 503"),
    (cut_off, "cut off", "after 1 pieces, without its end mark"),
    (Reply(b"data: {", length=90), "not understood", "another program"),
    (Reply(b"<html>"), "not understood", "sent no stream"),
    (lambda _asked: Reply(stream=[message({"choices": []}), DONE]), "not understood", "another program"),
    (lambda _asked: Reply(stream=[message([]), DONE]), "not understood", "another program"),
    (lambda _asked: Reply(stream=[b"data: \xff\n\n", DONE]), "not understood", "another program"),
    (streaming(""), "no words", "without words"),
]


@pytest.mark.parametrize(("wrong", "cause", "example"), FAILURES)
def test_every_way_to_fail_has_a_cause_and_an_example(
    server: Loopback, wrong: Answer, cause: str, example: str
) -> None:
    server.answers[PATH] = wrong
    found = measure(server.url, clients=1, seconds=0.05)
    (error,) = found["errors"]
    assert (found["answered"], found["unfinished"]) == ([], 0)
    assert (error["cause"], error["count"], len(error["times_s"])) == (cause, 1, 1)
    assert example in error["example"]


def test_failures_are_grouped_and_do_not_hammer(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "PAUSE_S", 0.1)
    server.answers[PATH] = [cut_off, Reply(b"", 500)]
    found = measure(server.url, clients=1, seconds=0.45)
    many, one = found["errors"]
    assert (many["cause"], one["cause"], one["count"]) == ("HTTP 500", "cut off", 1)
    assert 2 <= many["count"] == len(many["times_s"]) <= 4


def test_a_client_goes_on_after_a_failure(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "PAUSE_S", 0.01)
    server.answers[PATH] = [Reply(b"", 503), streaming("x")]
    found = measure(server.url, clients=1, seconds=0.2)
    assert [one["count"] for one in found["errors"]] == [1]
    assert len(found["answered"]) > 1


def test_an_api_that_goes_away_meanwhile_is_an_error_of_each_request(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "reach", lambda url: None)
    url = f"http://127.0.0.1:{free_port()}"
    (error,) = measure(url, seconds=0.1)["errors"]
    assert (error["cause"], error["count"]) == ("refused", 2)
    assert "is its service up?" in error["example"]


def test_a_connection_that_is_thrown_away_is_an_error(server: Loopback) -> None:
    def throw(_asked: Asked) -> Reply:
        raise ConnectionAbortedError

    server.answers[PATH] = throw
    (error,) = measure(server.url, clients=1, seconds=0.05)["errors"]
    assert error["cause"] == "connection"


def test_an_api_that_does_not_answer_at_all_is_one_sentence() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Problem, match=r"^LW-LOAD-004: nothing listens at .*is its service up\? Expected the lab's API"):
        measure(url)


def test_the_number_of_requests_is_bounded_too(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "MOST_REQUESTS", 6)
    server.answers[PATH] = streaming("x")
    assert len(measure(server.url, clients=2, seconds=30)["answered"]) == 6


def test_nothing_but_the_address_is_asked(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy")
    server.answers[PATH] = Reply(b"", 307, headers=(("Location", "/elsewhere"),))
    found = measure(server.url, clients=1, seconds=0.05)
    assert found["errors"][0]["cause"] == "HTTP 307"
    assert server.paths() == [PATH]


def test_a_key_comes_from_its_file(server: Loopback, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-1\n")
    server.answers[PATH] = streaming("x")
    measure(server.url, clients=1, seconds=0.01, key_file=str(tmp_path / "key"))
    assert server.asked[0].headers["Authorization"] == "Bearer sk-1"


def test_a_request_that_lacks_something_is_the_plans_fault(server: Loopback) -> None:
    assert answer("load", {"url": server.url}, False)["code"] == "LW-HOSTKIT-002"
