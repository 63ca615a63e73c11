"""Verb ``inspect``: what is really installed, against the locks. Reads only.

Request: as for ``env``. Answer (``data``): ``state`` (whole, half-made, none, drifted), ``layers``, ``drift``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hostkit import env
from hostkit.result import Result
from hostkit.state import State


def run(request: dict[str, Any], _check: bool) -> Result:
    """Compare and say."""
    prefix = Path(request["prefix"])
    state = State.read(prefix)
    drift = env.drift(prefix, state, request["layers"])
    decision = env.look(request)
    if not prefix.exists():
        word = "none"
    elif drift:
        word = "drifted"
    else:
        word = "half-made" if decision.todo else "whole"
    return Result(
        message=f"{prefix.name}: {word}" + (f" ({'; '.join(drift)})" if drift else ""),
        data={"state": word, "layers": state.layers if state else [], "drift": drift},
    )
