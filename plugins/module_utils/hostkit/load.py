"""Verb ``load``: clients that ask the API at the same time, each one question after the other, for a bounded time.

Request: ``url`` of the API, ``model``, ``prompt``, ``max_tokens``, ``clients``, ``seconds``, ``grace_s`` (how long a
request that still runs at the end may go on), and ``key_file`` (a file on this host) once the API asks for a key.
Answer (``data``), times in seconds from the start: ``answered`` (a row each: begun, first piece, ended, pieces),
``errors`` (each cause with its count, one example and its times), ``unfinished`` (were cut off), ``pieces`` (how many
came in each second, of all requests), ``elapsed_s`` (until the last one ended).

A piece is one message of the stream with words in it. FastChat does not say tokens in a stream: its worker sends a
message for every second token (``--stream-interval``), and none for a token that is no whole character yet.
Only the one address is asked: no proxy is used, no redirect followed.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any, Optional
from urllib.parse import urlsplit

from hostkit import probe
from hostkit.result import Problem, Result

CONNECT_TIMEOUT_S = 5
PAUSE_S = 0.5  # after a failure: a broken API is not hammered
MOST_REQUESTS = 50_000  # of all clients together, whatever the time
MOST_LINE = 1 << 20


class FailedRequestError(Exception):
    """A request without a whole answer: its cause in a word or two, and what happened as a sentence."""

    def __init__(self, cause: str, sentence: str) -> None:
        """``cause`` groups failures of one kind."""
        super().__init__(sentence)
        self.cause = cause


class Client(threading.Thread):
    """One who asks, waits for the whole answer, and asks again; only its own thread writes down what it saw."""

    def __init__(self, request: dict[str, Any], begun: float, over: threading.Event) -> None:
        """``over`` says that nothing counts any more."""
        super().__init__(daemon=True)
        self.url = str(request["url"])
        self.headers = probe.headers(request)
        self.body = json.dumps({**probe.question(request), "stream": True}).encode()
        self.most = MOST_REQUESTS // int(request["clients"])
        self.begun, self.over = begun, over
        self.end = float(request["seconds"])
        self.last = self.end + float(request["grace_s"])
        self.socket: Optional[socket.socket] = None
        self.asked = 0
        self.answered: list[list[float]] = []
        self.failed: list[tuple[float, str, str]] = []
        self.pieces: Counter[int] = Counter()

    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.begun

    def run(self) -> None:
        """Ask until the time is up."""
        while self.now() < self.end and self.asked < self.most:
            self.asked += 1
            begun = self.now()
            try:
                row = [begun, *self.ask()]
            except FailedRequestError as error:
                if not self.over.is_set():
                    self.failed.append((round(self.now(), 4), error.cause, str(error)))
                self.over.wait(min(PAUSE_S, max(0.0, self.end - self.now())))
            else:
                if not self.over.is_set():
                    self.answered.append([round(one, 4) for one in row])

    def ask(self) -> tuple[float, float, int]:
        """One request: when its first piece came, when it ended, and how many pieces it had."""
        address = urlsplit(self.url)
        left = self.last - self.now() + 1  # longer than it may last: who is late is cut off, and no failure
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=left)
        try:
            connection.connect()
            self.socket = connection.sock
            connection.request("POST", "/v1/chat/completions", self.body, self.headers)
            answer = connection.getresponse()
            if answer.status != 200:
                body = answer.read(MOST_LINE)
                code = code_of(body)
                words = f"{self.url} answered {answer.status}: {probe.cause(body)}"
                raise FailedRequestError(f"FastChat {code}" if code else f"HTTP {answer.status}", words)
            first, pieces = self.listen(answer)
            return first, self.now(), pieces
        except ConnectionRefusedError as error:
            raise FailedRequestError("refused", probe.unreachable(self.url, error)) from error
        except (OSError, http.client.HTTPException) as error:
            raise FailedRequestError("connection", f"{self.url}: {type(error).__name__}: {error}") from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            words = f"{self.url} said something else than expected ({type(error).__name__}: {error})"
            raise FailedRequestError("not understood", f"{words}; is another program there?") from error
        finally:
            connection.close()

    def listen(self, answer: http.client.HTTPResponse) -> tuple[float, int]:
        """The stream to its end mark: when the first piece came, and how many."""
        first, pieces, messages = 0.0, 0, 0
        while line := answer.readline(MOST_LINE):
            if not line.startswith(b"data:"):
                continue
            said = line[5:].strip()
            if said == b"[DONE]":
                if not pieces:
                    raise FailedRequestError("no words", f"the stream ended after {messages} messages without words")
                return first, pieces
            messages += 1
            part = json.loads(said)
            if "error_code" in part:
                words = f"the stream broke off with an error: {probe.cause(said)}"
                raise FailedRequestError(f"FastChat {part['error_code']}", words)
            if part["choices"][0]["delta"].get("content"):
                pieces += 1
                at = self.now()
                first = first if pieces > 1 else at
                self.pieces[int(at)] += 1
        if not messages:
            raise FailedRequestError("not understood", f"{self.url} sent no stream; is another program there?")
        raise FailedRequestError("cut off", f"the stream broke off after {pieces} pieces, without its end mark")

    def cut(self) -> None:
        """End the request that is under way."""
        with suppress(OSError, AttributeError):
            self.socket.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]


def code_of(body: bytes) -> int:
    """FastChat's own code in the words of an error; 0 where there is none."""
    try:
        code = json.loads(body)["code"]
    except (ValueError, LookupError, TypeError):
        return 0
    return code if isinstance(code, int) else 0


def reach(url: str) -> None:
    """A connection, so that an API that is not there is one sentence and no figures."""
    address = urlsplit(url)
    try:
        socket.create_connection((str(address.hostname), address.port or 80), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        words = f"{probe.unreachable(url, error)} Expected the lab's API there; nothing was asked."
        raise Problem("LW-LOAD-004", f"{words} playbooks/verify.yml says which service is not up.") from error


def run(request: dict[str, Any], _check: bool) -> Result:
    """Let them ask, wait for those that are late, cut off the rest."""
    reach(request["url"])
    over, begun = threading.Event(), time.monotonic()
    clients = [Client(request, begun, over) for _number in range(int(request["clients"]))]
    for one in clients:
        one.start()
    for one in clients:
        one.join(max(0.0, one.last - one.now()))
    over.set()
    late = [one for one in clients if one.is_alive()]
    for one in late:
        one.cut()
        one.join(1)
    answered = sorted(row for one in clients for row in one.answered)
    failed = sorted(row for one in clients for row in one.failed)
    pieces = sum((one.pieces for one in clients), Counter())
    unfinished = sum(one.asked for one in clients) - len(answered) - len(failed)
    ends = [clients[0].last] if unfinished else [*(row[2] for row in answered), *(row[0] for row in failed)]
    data = {
        "answered": answered,
        "errors": grouped(failed),
        "unfinished": unfinished,
        "pieces": [pieces[second] for second in range(max(pieces, default=-1) + 1)],
        "elapsed_s": max(ends, default=0.0),
    }
    return Result(message=f"{len(answered)} answered, {len(failed)} failed, {unfinished} unfinished", data=data)


def grouped(failed: list[tuple[float, str, str]]) -> list[dict[str, Any]]:
    """Failures by cause, the most frequent first, each with its first example."""
    found: dict[str, dict[str, Any]] = {}
    for at, cause, words in failed:
        row = found.setdefault(cause, {"cause": cause, "count": 0, "example": words, "times_s": []})
        row["count"] += 1
        row["times_s"].append(at)
    return sorted(found.values(), key=lambda row: -row["count"])
