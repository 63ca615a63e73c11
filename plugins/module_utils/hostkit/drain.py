"""Verb ``drain``: a worker leaves the rotation, and is given time for the answers that it has begun.

Request: ``controller`` and ``worker`` (addresses), ``wait_s``. FastChat has no route for leaving: the worker is
registered again under its address, with no model. A unit's ExecStop, and its ExecStopPost too: a worker that was
killed is asked for nothing any more, and not only after its missing signs of life. It never fails: who is away needs
nothing, and says nothing.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.request
from typing import Any

from hostkit.result import Result

TIMEOUT_S = 2.0
SETTLE_S = 1.0  # for a request whose asker was given this worker just before
EVERY_S = 0.2
NOBODY = {"model_names": [], "speed": 1, "queue_length": 0}


def run(request: dict[str, Any], check: bool) -> Result:
    """Leave, then wait until nothing is under way."""
    if check:
        return Result(changed=True, message="would leave the rotation")
    begun = time.monotonic()
    body = {"worker_name": request["worker"], "check_heart_beat": True, "worker_status": NOBODY, "multimodal": False}
    left = ask(f"{request['controller']}/register_worker", body) is not None
    words = ["out of the rotation" if left else "the controller is away"]
    under_way = waiting(request["worker"])
    if under_way is None:
        return Result(changed=left, message=f"{words[0]}; the worker is not running")
    time.sleep(SETTLE_S)
    while (under_way := waiting(request["worker"])) and time.monotonic() - begun < float(request["wait_s"]):
        time.sleep(EVERY_S)
    words.append(f"{under_way} answers are cut off" if under_way else "nothing is under way")
    return Result(changed=left, message="; ".join(words), data={"under_way": under_way or 0})


def waiting(worker: str) -> int | None:
    """Requests that a worker has; None where it does not answer."""
    said = ask(f"{worker}/worker_get_status", {})
    return int(said["queue_length"]) if isinstance(said, dict) and "queue_length" in said else None


def ask(url: str, body: dict[str, Any]) -> Any:
    """One question; None where nobody answers."""
    call = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(call, timeout=TIMEOUT_S) as answer:
            return json.loads(answer.read() or b"null") or {}
    except (OSError, ValueError, http.client.HTTPException):
        return None
