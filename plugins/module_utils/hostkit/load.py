"""Verb ``load``: clients that ask the API at the same time, each one question after the other, for a bounded time.

Request: ``url`` of the API, ``model``, ``prompt``, ``max_tokens``, ``clients``, ``seconds``, ``requests`` (end earlier,
after so many; 0: no such bound), ``grace_s`` (how long a request that still runs at the end may go on), ``ca_file`` and
``key_file`` (files on this host) where the API has a certificate and wants a key, ``inner_url`` (the same API without
its gateway, which counts tokens; optional).
Answer (``data``), times in seconds from the start: ``answered`` (a row each: begun, first piece, ended, pieces, tokens
or null), ``errors`` (each cause, an id of ``hostkit.cures``, with its count, one example, its cure and its times),
``unfinished`` (were cut off), ``pieces`` (how many came in each second, of all requests), ``elapsed_s`` (until the last
one ended), ``tokens_lack`` (why tokens are not known; "" where they are).

A piece is one message of the stream with words in it. FastChat does not say tokens in a stream: its worker sends a
message for every second token (``--stream-interval``), and none for a token that is no whole character yet. So each
distinct answer is counted afterwards, by the model's own worker, less what it counts for no text at all.
Only the addresses in the request are asked: no proxy is used, no redirect followed.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Optional

from hostkit import causes, exchange, probe
from hostkit.causes import Fault
from hostkit.result import Problem, Result

PAUSE_S = 0.5  # after a failure: a broken API is not hammered
MOST_REQUESTS = 100_000  # of all clients together, whatever the time
MOST_LINE = 1 << 20
# Of counting tokens: different answers, how many in one question, seconds for one question and for all.
MOST_TEXTS, TEXTS_AT_ONCE, ANSWER_S, COUNT_S = 1000, 20, 20.0, 60.0


class Client(threading.Thread):
    """One who asks, waits for the whole answer, and asks again; only its own thread writes down what it saw."""

    def __init__(
        self,
        request: dict[str, Any],
        tickets: Iterator[int],
        context: Optional[ssl.SSLContext],
        begun: float,
        over: threading.Event,
    ) -> None:
        """Each request takes one of the ``tickets`` of all clients; ``over`` says that nothing counts any more."""
        super().__init__(daemon=True)
        self.url, self.model = str(request["url"]), str(request["model"])
        self.headers = exchange.headers(request)
        self.body = json.dumps({**probe.question(request), "stream": True}).encode()
        self.check: dict[str, Any] = {key: request[key] for key in ("url", "ca_file") if key in request}
        self.tickets, self.context, self.begun, self.over = tickets, context, begun, over
        self.end = float(request["seconds"])
        self.last = self.end + float(request["grace_s"])
        self.socket: Optional[socket.socket] = None
        self.asked = 0
        self.answered: list[tuple[float, float, float, int, str]] = []
        self.texts: dict[str, str] = {}
        self.failed: list[tuple[float, str, str]] = []
        self.pieces: Counter[int] = Counter()

    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.begun

    def run(self) -> None:
        """Ask until the time is up, or all requests were made."""
        while self.now() < self.end and next(self.tickets, None) is not None:
            self.asked += 1
            begun = self.now()
            try:
                first, ended, pieces, text = self.ask()
            except Fault as fault:
                if not self.over.is_set():
                    self.failed.append((round(self.now(), 4), fault.cause, fault.evidence))
                self.over.wait(min(PAUSE_S, max(0.0, self.end - self.now())))
            else:
                if not self.over.is_set():
                    text = self.texts.setdefault(text, text)
                    self.answered.append((round(begun, 4), round(first, 4), round(ended, 4), pieces, text))

    def ask(self) -> tuple[float, float, int, str]:
        """One request: when its first piece came, when it ended, how many pieces it had, and its text."""
        left = self.last - self.now() + 1  # longer than it may last: who is late is cut off, and no failure
        connection = exchange.dial({**self.check, "timeout_s": left}, self.context)
        try:
            self.socket = connection.sock
            connection.request("POST", "/v1/chat/completions", self.body, self.headers)
            answer = connection.getresponse()
            if answer.status != 200:
                raise causes.of_answer(self.url, answer.status, answer.read(MOST_LINE), self.model)
            first, pieces, text = self.listen(answer)
            return first, self.now(), pieces, text
        except (OSError, http.client.HTTPException) as error:
            raise exchange.broken(self.url, error) from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            words = f"{self.url} said something else than expected ({type(error).__name__}: {error})"
            raise Fault(causes.OTHER, f"{words}; is another program there?") from error
        finally:
            connection.close()

    def listen(self, answer: http.client.HTTPResponse) -> tuple[float, int, str]:
        """The stream to its end mark: when the first piece came, how many there were, and their text."""
        first, messages = 0.0, 0
        texts: list[str] = []
        while line := answer.readline(MOST_LINE):
            if not line.startswith(b"data:"):
                continue
            said = line[5:].strip()
            if said == b"[DONE]":
                if not texts:
                    raise Fault("LW-PROBE-034", f"the stream ended after {messages} messages without words")
                return first, len(texts), "".join(texts)
            messages += 1
            part = json.loads(said)
            if "error_code" in part or "error" in part:
                raise causes.of_answer(f"the stream of {self.url}", 0, said, self.model)
            if text := part["choices"][0]["delta"].get("content"):
                texts.append(text)
                at = self.now()
                first = first if len(texts) > 1 else at
                self.pieces[int(at)] += 1
        if not messages:
            raise Fault(causes.OTHER, f"{self.url} sent no stream; is another program there?")
        raise Fault("LW-PROBE-035", f"the stream broke off after {len(texts)} pieces, without its end mark")

    def cut(self) -> None:
        """End the request that is under way."""
        with suppress(OSError, AttributeError):
            self.socket.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]


def reach(request: dict[str, Any], context: Optional[ssl.SSLContext]) -> None:
    """A connection, so that an API that is not there is one sentence and no figures."""
    try:
        exchange.dial({**request, "timeout_s": exchange.CONNECT_S}, context).close()
    except Fault as fault:
        words = f"{fault.evidence} Expected the lab's API there; nothing was asked. {causes.cure(fault.cause)}"
        raise Problem("LW-LOAD-004", f"{words} ({fault.cause})") from fault


def run(request: dict[str, Any], _check: bool) -> Result:
    """Let them ask, wait for those that are late, cut off the rest, count tokens."""
    context = exchange.trust(request) if str(request["url"]).startswith("https:") else None
    reach(request, context)
    over, begun = threading.Event(), time.monotonic()
    tickets = iter(range(min(int(request.get("requests") or MOST_REQUESTS), MOST_REQUESTS)))
    clients = [Client(request, tickets, context, begun, over) for _number in range(int(request["clients"]))]
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
    counts, lack = tokens_of(request, list(dict.fromkeys(row[4] for row in answered)))
    data = {
        "answered": [[*row[:4], counts.get(row[4])] for row in answered],
        "errors": grouped(failed),
        "unfinished": unfinished,
        "pieces": [pieces[second] for second in range(max(pieces, default=-1) + 1)],
        "elapsed_s": max(ends, default=0.0),
        "tokens_lack": lack,
    }
    return Result(message=f"{len(answered)} answered, {len(failed)} failed, {unfinished} unfinished", data=data)


def tokens_of(request: dict[str, Any], texts: list[str]) -> tuple[dict[str, int], str]:
    """How many tokens each text has, as the model's own worker counts, and why that is not known of all of them."""
    if not request.get("inner_url"):
        return {}, "no inner address of the API was given"
    if not texts:
        return {}, ""
    until = time.monotonic() + COUNT_S
    found: dict[str, int] = {}
    wanted = ["", *texts[:MOST_TEXTS]]  # what is counted for no text: marks of beginning
    check = {"url": request["inner_url"], "timeout_s": ANSWER_S}
    try:
        for at in range(0, len(wanted), TEXTS_AT_ONCE):
            some = wanted[at : at + TEXTS_AT_ONCE]
            prompts = [{"model": request["model"], "prompt": text, "max_tokens": 1} for text in some]
            said = json.loads(exchange.ask(check, "/api/v1/token_check", {"prompts": prompts}))["prompts"]
            if len(said) != len(some):
                raise ValueError(f"{len(said)} counts for {len(some)} texts")
            found.update((text, int(one["tokenCount"])) for text, one in zip(some, said))  # noqa: B905 - Python 3.9
            if time.monotonic() > until:
                break
    except Fault as fault:
        return {}, fault.evidence
    except (ValueError, LookupError, TypeError) as error:
        return {}, f"{request['inner_url']} counts no tokens ({type(error).__name__}: {error})"
    lack = "" if len(found) > len(texts) else f"{len(found) - 1} of {len(texts)} different answers were counted"
    return {text: max(0, found[text] - found[""]) for text in texts if text in found}, lack


def grouped(failed: list[tuple[float, str, str]]) -> list[dict[str, Any]]:
    """Failures by cause, the most frequent first, each with its first example."""
    found: dict[str, dict[str, Any]] = {}
    for at, cause, words in failed:
        new = {"cause": cause, "count": 0, "example": words, "cure": causes.cure(cause), "times_s": []}
        row = found.setdefault(cause, new)
        row["count"] += 1
        row["times_s"].append(at)
    return sorted(found.values(), key=lambda row: -row["count"])
