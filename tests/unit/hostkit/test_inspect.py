"""hostkit.inspect: one word for what is installed, and the sentences behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hostkit import inspect
from hostkit.state import State
from unit.hostkit.look import package

LAYERS = [
    {"name": "conda", "digest": "1", "conda": []},
    {"name": "torch", "digest": "2", "requirements": "torch==2.0\n"},
]
BOTH = [("conda", "1"), ("torch", "2")]


@pytest.mark.parametrize(
    ("state", "packages", "word", "drift"),
    [
        (None, [], "none", []),
        (State(BOTH), ["torch-2.0"], "whole", []),
        (State([*BOTH, ("fastchat", "3")]), ["torch-2.0", "fschat-1"], "whole", []),
        (State(BOTH[:1]), [], "half-made", []),
        (State(BOTH[:1], "torch"), [], "half-made", []),
        (State([("conda", "9")]), [], "half-made", []),
        (State(BOTH), [], "drifted", ["torch 2.0 is gone"]),
        (State(BOTH), ["torch-2.1"], "drifted", ["torch is 2.1, the lock says 2.0"]),
        (State(BOTH), ["torch-2.0", "x-1"], "drifted", ["x 1 is in no lock"]),
    ],
)
def test_words(tmp_path: Path, state: State | None, packages: list[str], word: str, drift: list[str]) -> None:
    prefix = tmp_path / "prefix"
    if state:
        state.write(prefix)
    for name in packages:
        package(prefix, name)
    request: dict[str, Any] = {"prefix": str(prefix), "layers": LAYERS}
    result = inspect.run(request, False)
    assert not result.changed
    assert result.data == {"state": word, "layers": state.layers if state else [], "drift": drift}
    assert word in result.message
    assert all(line in result.message for line in drift)
