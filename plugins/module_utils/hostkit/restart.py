"""Verb ``restart``: restart one service and see it serve again.

Request: ``unit``; ``wait_s`` (how long it may take); ``controller`` (its address). For a model worker ``worker`` (its
address) and ``models`` (its names): at the end it must be registered and have answered a token. For the controller
``workers_back``: it must list again what it listed before. A worker's unit drains it before it ends it, and every unit
asks its own program whether it is up. Answer (``data``): ``took_s``.
"""

from __future__ import annotations

import subprocess
import time
from functools import partial
from typing import Any, Callable

from hostkit import place, seen, workers
from hostkit.result import Problem, Result

EVERY_S = 0.5
TOKEN_S = 120.0  # a first answer may compile kernels


def run(request: dict[str, Any], check: bool) -> Result:
    """Restart, wait."""
    unit = request["unit"]
    if check:
        return Result(changed=True, message=f"{unit} would be restarted")
    begun = time.monotonic()
    back: Callable[[], str] = str
    if "worker" in request:
        back = partial(answers, request)
    elif request.get("workers_back"):
        back = partial(forgotten, request["controller"], listed(request["controller"]))
    wrong = seen.restart(unit) if place.windows() else restarted(unit)
    if wrong:
        raise failed(unit, wrong)
    deadline = begun + float(request["wait_s"])
    while lacking := back():
        if time.monotonic() >= deadline:
            raise failed(unit, f"{lacking} (asked for {request['wait_s']} s)")
        time.sleep(EVERY_S)
    took = round(time.monotonic() - begun, 1)
    return Result(changed=True, message=f"{unit} is back after {took} s", data={"took_s": took})


def restarted(unit: str) -> str:
    """Tell systemd; what went wrong, "" where nothing did."""
    done = subprocess.run(["systemctl", "restart", unit], capture_output=True, text=True, check=False)
    return (done.stderr or "systemctl said nothing").strip() if done.returncode else ""


def failed(unit: str, why: str) -> Problem:
    """It did not come back."""
    words = f"{unit} was restarted and does not serve: {why}. Expected it to; nothing after it was touched"
    log = seen.logs_of(unit) / unit if place.windows() else f"journalctl --namespace=labwright -u {unit}"
    return Problem("LW-RESTART-002", f"{words}. See playbooks/status.yml, and {log}.")


def listed(controller: str) -> set[str]:
    """Models that the controller knows; none where it does not answer."""
    try:
        return set(workers.post(controller, "/list_models")["models"])
    except (workers.NoAnswerError, LookupError, TypeError):
        return set()


def forgotten(controller: str, before: set[str]) -> str:
    """What a controller no longer lists."""
    gone = sorted(before - listed(controller))
    return f"the controller does not list {', '.join(gone)}" if gone else ""


def answers(request: dict[str, Any]) -> str:
    """What a worker lacks to serve; "" where it is registered and has answered a token."""
    good, words = workers.serves(request["controller"], request["worker"], request["models"])
    if not good:
        return words
    question = {"model": request["models"][0], "prompt": "Hello", "temperature": 0, "max_new_tokens": 1, "echo": False}
    try:
        said = workers.post(request["worker"], "/worker_generate", question, TOKEN_S)
    except workers.NoAnswerError as error:
        return str(error)
    code = said.get("error_code") if isinstance(said, dict) else "no object"
    return "" if code == 0 else f"{request['worker']} gave no token ({code}): {str(said)[:200]}"
