"""hostkit.load against servers that stream as FastChat's API does, and as it does when something is wrong."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hostkit import load
from hostkit.__main__ import answer
from hostkit.causes import cure
from hostkit.result import Problem
from unit.hostkit.loopback import Answer, Asked, Loopback, Reply, free_port, says, serving
from unit.hostkit.tls import authority

PATH = "/v1/chat/completions"
COUNT = "/api/v1/token_check"
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


REQUEST = {"model": "m", "prompt": "Hello", "max_tokens": 8, "clients": 2, "seconds": 0.3, "grace_s": 2}


def measure(url: str, **more: Any) -> dict[str, Any]:
    return load.run({**REQUEST, "url": url, **more}, False).data


def test_clients_ask_one_question_after_the_other_until_the_time_is_up(server: Loopback) -> None:
    server.answers[PATH] = streaming("Hel", "lo", " 你", pause_s=0.01)
    begun = time.monotonic()
    found = measure(server.url)
    assert time.monotonic() - begun < 30
    rows = found["answered"]
    assert len(rows) == len(server.asked) >= 4
    assert all(0 <= begin <= first <= end <= found["elapsed_s"] for begin, first, end, *_more in rows)
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
    assert len(measure(server.url, clients=5, requests=5, seconds=30)["answered"]) == 5


def test_the_first_piece_is_the_first_with_words_and_not_the_role(server: Loopback) -> None:
    server.answers[PATH] = streaming("", "Hello", first_s=0.2, pause_s=0.5)
    ((begin, first, end, pieces, _tokens),) = measure(server.url, clients=1, requests=1, seconds=30)["answered"]
    assert 0.7 <= first - begin < 30
    assert 0.1 <= end - first < 30
    assert pieces == 1


def test_answers_that_run_at_the_end_are_waited_for_and_count(server: Loopback) -> None:
    server.answers[PATH] = streaming("x", first_s=0.8)
    found = measure(server.url, seconds=0.5)
    assert (len(found["answered"]), found["unfinished"]) == (2, 0)
    assert found["elapsed_s"] >= 0.8


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
    assert 0.3 <= took < 15
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
        "LW-PROBE-013",
        "400: Only a && b allowed now",
    ),
    (says({"object": "error", "message": "HIGH TRAFFIC", "code": 50002}, 400), "LW-PROBE-012", "no memory left"),
    (
        lambda _asked: Reply(stream=[piece(role="assistant"), message({"text": "HIGH", "error_code": 50002}), DONE]),
        "LW-PROBE-012",
        "sent an error: HIGH",
    ),
    (
        lambda _asked: Reply(stream=[message({"error": {"message": "LW-API-002: the worker at x", "code": 50006}})]),
        "LW-PROBE-011",
        "sent an error: LW-API-002: the worker at x",
    ),
    (says({"detail": {"error": {"code": "invalid_api_key"}}}, 401), "LW-PROBE-014", "answered 401"),
    (says({"error": {"message": "LW-GATEWAY-006: Too many"}}, 429), "LW-PROBE-025", "LW-GATEWAY-006: Too many"),
    (Reply(b"Internal Server Error", 500), "LW-PROBE-032", "500: Internal Server Error"),
    (says([1], 503), "LW-PROBE-026", "answered 503"),
    (cut_off, "LW-PROBE-035", "after 1 pieces, without its end mark"),
    (Reply(b"data: {", length=90), "LW-PROBE-033", "another program"),
    (Reply(b"<html>"), "LW-PROBE-033", "sent no stream"),
    (lambda _asked: Reply(stream=[message({"choices": []}), DONE]), "LW-PROBE-033", "another program"),
    (lambda _asked: Reply(stream=[message([]), DONE]), "LW-PROBE-033", "another program"),
    (lambda _asked: Reply(stream=[b"data: \xff\n\n", DONE]), "LW-PROBE-033", "another program"),
    (streaming(""), "LW-PROBE-034", "without words"),
]


@pytest.mark.parametrize(("wrong", "cause", "example"), FAILURES)
def test_every_way_to_fail_has_a_cause_and_an_example(
    server: Loopback, monkeypatch: pytest.MonkeyPatch, wrong: Answer, cause: str, example: str
) -> None:
    monkeypatch.setattr(load, "PAUSE_S", 0.0)
    server.answers[PATH] = wrong
    found = measure(server.url, clients=1, requests=1, seconds=30)
    (error,) = found["errors"]
    assert (found["answered"], found["unfinished"]) == ([], 0)
    assert (error["cause"], error["count"], len(error["times_s"])) == (cause, 1, 1)
    assert error["cure"] == cure(cause)
    assert example in error["example"]


def test_failures_are_grouped_and_do_not_hammer(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "PAUSE_S", 0.1)
    server.answers[PATH] = [cut_off, Reply(b"", 500)]
    found = measure(server.url, clients=1, requests=4, seconds=30)
    many, one = found["errors"]
    assert (many["cause"], one["cause"], one["count"]) == ("LW-PROBE-032", "LW-PROBE-035", 1)
    times = [*one["times_s"], *many["times_s"]]
    assert many["count"] == 3
    assert all(after - before > 0.099 for before, after in pairwise(times))


def test_a_client_goes_on_after_a_failure(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "PAUSE_S", 0.01)
    server.answers[PATH] = [Reply(b"", 503), streaming("x")]
    found = measure(server.url, clients=1, requests=3, seconds=30)
    assert [one["count"] for one in found["errors"]] == [1]
    assert len(found["answered"]) == 2


def test_an_api_that_goes_away_meanwhile_is_an_error_of_each_request(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "reach", lambda request, context: None)
    url = f"http://127.0.0.1:{free_port()}"
    (error,) = measure(url, requests=2, seconds=30)["errors"]
    assert (error["cause"], error["count"]) == ("LW-PROBE-020", 2)
    assert "is its service up?" in error["example"]


def test_a_connection_that_is_thrown_away_is_an_error(server: Loopback) -> None:
    def throw(_asked: Asked) -> Reply:
        raise ConnectionAbortedError

    server.answers[PATH] = throw
    (error,) = measure(server.url, clients=1, requests=1, seconds=30)["errors"]
    assert error["cause"] == "LW-PROBE-035"


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
    found = measure(server.url, clients=1, requests=1, seconds=30)
    assert found["errors"][0]["cause"] == "LW-PROBE-033"
    assert server.paths() == [PATH]


def test_a_key_comes_from_its_file(server: Loopback, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-1\n")
    server.answers[PATH] = streaming("x")
    measure(server.url, clients=1, requests=1, seconds=30, key_file=str(tmp_path / "key"))
    assert server.asked[0].headers["Authorization"] == "Bearer sk-1"


def test_a_request_that_lacks_something_is_the_plans_fault(server: Loopback) -> None:
    assert answer("load", {"url": server.url}, False)["code"] == "LW-HOSTKIT-002"


# --- TLS, a number of requests, tokens --------------------------------------------------------------------------------


def test_over_tls_with_the_key_of_a_file(tmp_path: Path) -> None:
    lab = authority(tmp_path / "lab")
    (tmp_path / "key").write_text("lw-first-0123456789\nlw-before-0123456789\n")
    with serving(lab.server()) as server:
        server.answers[PATH] = streaming("x")
        result = load.run({**REQUEST, "url": server.url, "ca_file": lab.file, "key_file": str(tmp_path / "key")}, False)
        assert {one.headers["Authorization"] for one in server.asked} == {"Bearer lw-first-0123456789"}
        assert len(result.data["answered"]) == len(server.asked) >= 2
        assert "lw-first" not in json.dumps(result.as_dict())
        other = authority(tmp_path / "other")
        with pytest.raises(Problem, match=r"^LW-LOAD-004: the certificate of .*\(LW-PROBE-015\)$"):
            measure(server.url, ca_file=other.file)


def test_ends_after_so_many_requests_of_all_clients(server: Loopback) -> None:
    server.answers[PATH] = streaming("x")
    begun = time.monotonic()
    found = measure(server.url, clients=3, seconds=30, requests=7)
    assert time.monotonic() - begun < 15
    assert (len(found["answered"]), len(server.asked), found["unfinished"]) == (7, 7, 0)
    assert found["elapsed_s"] < 15


def counting(asked: Asked) -> Reply:
    """As /api/v1/token_check: a token a letter, and two marks before them."""
    prompts = asked.json()["prompts"]
    return says(
        {"prompts": [{"fits": True, "tokenCount": 2 + len(one["prompt"]), "contextLength": 9} for one in prompts]}
    )


def test_tokens_are_counted_by_the_model_once_for_each_different_answer(server: Loopback) -> None:
    server.answers[PATH] = [streaming("Hel", "lo"), streaming("你")]
    server.answers[COUNT] = counting
    found = measure(server.url, clients=1, seconds=30, requests=5, inner_url=server.url)
    assert [row[4] for row in found["answered"]] == [5, 1, 1, 1, 1]
    assert found["tokens_lack"] == ""
    (count,) = [one for one in server.asked if one.path == COUNT]
    assert [one["prompt"] for one in count.json()["prompts"]] == ["", "Hello", "你"]
    assert {one["model"] for one in count.json()["prompts"]} == {"m"}
    assert "Authorization" not in count.headers


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Reply(b"no such route", 404), "answered 404: no such route"),
        (says({"prompts": [{}, {}]}), "counts no tokens (KeyError"),
        (says({"prompts": []}), "counts no tokens (ValueError: 0 counts for 2 texts)"),
        (Reply(b"<html>"), "counts no tokens (JSONDecodeError"),
    ],
)
def test_tokens_that_nobody_counts_are_not_known(server: Loopback, answer: Answer, why: str) -> None:
    server.answers |= {PATH: streaming("x"), COUNT: answer}
    found = measure(server.url, clients=1, seconds=30, requests=1, inner_url=server.url)
    assert [row[4] for row in found["answered"]] == [None]
    assert why in found["tokens_lack"]


def test_without_an_inner_address_tokens_are_not_known(server: Loopback) -> None:
    server.answers[PATH] = streaming("x")
    found = measure(server.url, clients=1, seconds=30, requests=1)
    assert (found["answered"][0][4], found["tokens_lack"]) == (None, "no inner address of the API was given")
    dead = measure(server.url, clients=1, seconds=30, requests=1, inner_url=f"http://127.0.0.1:{free_port()}")
    assert "nothing listens at" in dead["tokens_lack"]


@pytest.mark.parametrize(("name", "most"), [("MOST_TEXTS", 2), ("COUNT_S", 0)])
def test_the_counting_is_bounded(server: Loopback, monkeypatch: pytest.MonkeyPatch, name: str, most: int) -> None:
    monkeypatch.setattr(load, name, most)
    monkeypatch.setattr(load, "TEXTS_AT_ONCE", 3)
    server.answers |= {PATH: [streaming("x" * number) for number in range(1, 5)], COUNT: counting}
    found = measure(server.url, clients=1, seconds=30, requests=4, inner_url=server.url)
    assert [row[4] for row in found["answered"]] == [1, 2, None, None]
    assert found["tokens_lack"] == "2 of 4 different answers were counted"
