"""Verb ``drain``: take a worker out of the controller, and wait until it has answered what it was asked.

Request: ``controller``, ``worker`` (addresses), ``wait_s`` (how long it may take). Answer (``data``): ``out`` (the
controller gives it no more requests), ``left`` (requests that still ran at the end; -1: it does not answer).

It is a unit's ExecStop and ExecStopPost: nothing that it meets is a failure, since the worker ends all the same. After
a crash nobody answers at the worker's address any more, and it only takes it out: in at most 2 s.

FastChat's controller has no way to sign off. A worker that registers once more without a model is asked by nobody; it
stays known, and its signs of life do not bring its models back. The worker that is started later registers as usual.
"""

from __future__ import annotations

import time
from typing import Any

from hostkit.result import Result
from hostkit.workers import NoAnswerError, post

SETTLE_S = 1.0  # for requests that had its address already
EVERY_S = 0.25
PATIENCE = 4  # questions without an answer, each of 1.5 s at most
NOBODY = {"model_names": [], "speed": 1, "queue_length": 0}


def run(request: dict[str, Any], check: bool) -> Result:
    """Take it out, then wait for its last answers."""
    if check:
        return Result(message=f"{request['worker']} would be taken out of the controller")
    out, left, words = drain(request["controller"], request["worker"], float(request["wait_s"]))
    return Result(changed=out, message=words, data={"out": out, "left": left})


def drain(controller: str, worker: str, wait_s: float) -> tuple[bool, int, str]:
    """Whether it is out, how many requests still ran at the end, and both as a sentence."""
    begun = time.monotonic()
    out, why = sign_off(controller, worker)
    left = queue(worker)
    silent = int(left < 0)
    alive = not silent
    if alive:
        time.sleep(min(SETTLE_S, wait_s))
    while alive and silent < PATIENCE:
        if not out:
            out, why = sign_off(controller, worker)
        left = queue(worker)
        silent = silent + 1 if left < 0 else 0
        if left == 0 or time.monotonic() - begun >= wait_s:
            break
        time.sleep(EVERY_S)
    took = time.monotonic() - begun
    said = f"{worker}: " + ("the controller gives it no more requests" if out else f"not taken out: {why}")
    if left < 0:
        return out, left, f"{said}; it does not answer, so nothing was waited for"
    if left:
        return out, left, f"{said}; {left} requests still ran after {took:.1f} s and will be cut off"
    return out, left, f"{said}; its last request ended, {took:.1f} s"


def sign_off(controller: str, worker: str) -> tuple[bool, str]:
    """Register it without a model; whether that went well, else why not."""
    row = {"worker_name": worker, "check_heart_beat": True, "worker_status": NOBODY, "multimodal": False}
    try:
        post(controller, "/register_worker", row)
    except NoAnswerError as error:
        return False, str(error)
    return True, ""


def queue(worker: str) -> int:
    """Requests that are with a worker; -1 where it does not answer."""
    try:
        return int(post(worker, "/worker_get_status")["queue_length"])
    except (NoAnswerError, LookupError, TypeError, ValueError):
        return -1
