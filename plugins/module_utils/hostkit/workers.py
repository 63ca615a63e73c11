"""Verb ``workers``: does another worker serve a model? Asked on the controller's host, which reaches every worker.

Request: ``controller`` (its address), ``workers`` (each ``url`` and ``models``, the names that it should serve). They
are asked one after the other; the first that answers with all its names, and that the controller knows, is enough.
Answer (``data``): ``serving`` (its address, "" where there is none), ``seen`` (a sentence for each that was asked).

FastChat's controller does not list its workers. It does tell a worker that sends a sign of life whether it is known,
so that is asked in a worker's name: only of one that has just answered, and with the queue that it said, so that
nothing changes by it.
"""

from __future__ import annotations

import json
from typing import Any, Optional

from hostkit import exchange
from hostkit.causes import Fault
from hostkit.result import Result

TIMEOUT_S = 1.5


class NoAnswerError(Exception):
    """A controller or worker that did not answer, as a sentence."""


def run(request: dict[str, Any], _check: bool) -> Result:
    """Ask until one serves."""
    seen = {}
    for worker in request["workers"]:
        good, seen[worker["url"]] = serves(request["controller"], worker["url"], worker["models"])
        if good:
            return Result(message=f"{worker['url']} serves", data={"serving": worker["url"], "seen": seen})
    words = "; ".join(f"{url}: {one}" for url, one in seen.items()) or "there is none to ask"
    return Result(message=f"none serves ({words})", data={"serving": "", "seen": seen})


def serves(controller: str, url: str, names: list[str]) -> tuple[bool, str]:
    """Whether a worker answers to its names and its controller knows it, and how that is said."""
    try:
        status = post(url, "/worker_get_status")
        lacking = sorted(set(names) - set(status["model_names"]))
        if lacking:
            return False, f"does not serve {', '.join(lacking)}"
        if not known(controller, url, status):
            return False, "answers, but the controller does not know it"
    except NoAnswerError as error:
        return False, str(error)
    return True, f"serves, {status['queue_length']} requests are with it"


def known(controller: str, url: str, status: dict[str, Any]) -> bool:
    """Whether the controller knows a worker that has just answered with ``status``."""
    sign = {"worker_name": url, "queue_length": status["queue_length"]}
    return bool(post(controller, "/receive_heart_beat", sign)["exist"])


def post(url: str, path: str, body: Optional[dict[str, Any]] = None, timeout_s: float = 0) -> Any:
    """One question to a controller or a worker."""
    try:
        found = json.loads(
            exchange.ask({"url": url, "timeout_s": timeout_s or TIMEOUT_S}, path, body, post=True) or b"null"
        )
    except Fault as fault:
        raise NoAnswerError(fault.evidence) from fault
    except ValueError:
        found = ""
    if body is None and not isinstance(found, dict):
        raise NoAnswerError(f"{url} answered something else than was asked; is another program there?")
    return found
