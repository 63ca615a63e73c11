"""What a browser does with the chat page (Gradio 4.44): it sends a message, and reads the answer as it grows."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable
from typing import Any

# An HTTP request: method, path and body; the lines of its answer.
Ask = Callable[[str, str, bytes | None], Iterable[bytes]]


def event(ask: Ask, function: int, session: str, *values: Any) -> list[list[Any]]:
    """One event of the page: its values each time that they come."""
    wish = {"data": values, "fn_index": function, "session_hash": session}
    json.loads(b"".join(ask("POST", "/queue/join", json.dumps(wish).encode())))
    found: list[list[Any]] = []
    for line in ask("GET", f"/queue/data?session_hash={session}", None):
        if not line.startswith(b"data: "):
            continue
        said = json.loads(line[6:])
        if said["msg"] in ("process_generating", "process_completed"):
            assert said["success"], said
            found.append(said["output"]["data"])
        if said["msg"] == "process_completed":
            return found
    raise AssertionError("the page broke off")


def models(ask: Ask) -> list[str]:
    """The names that a person may choose from when the page opens."""
    found = event(ask, function(ask, "load_demo"), uuid.uuid4().hex[:10], {})
    return [name for name, _value in found[-1][1]["choices"]]


def function(ask: Ask, name: str) -> int:
    """The number of one of the page's functions."""
    rows = json.loads(b"".join(ask("GET", "/config", None)))["dependencies"]
    return int(next(row["id"] for row in rows if str(row["api_name"]).startswith(name)))


def chat(ask: Ask, model: str, words: str) -> tuple[str, int]:
    """The answer to a message, and in how many pieces it came."""
    session = uuid.uuid4().hex[:10]
    event(ask, function(ask, "add_text"), session, None, model, words, None)
    found = event(ask, function(ask, "bot_response"), session, None, 0.0, 1.0, 64)
    last = found[-1][1] or found[-2][1]
    return str(last[-1][1]), len(found)
