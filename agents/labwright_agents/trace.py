"""One conversation as JSON lines, an event each, written as it happens: who, what, tokens, latency, exit codes.

`start` (program, task, model, sandbox, limits) · `answer` (of the model: who, content, tokens, seconds) · `message` (of
anyone else) · `run` (code, exit_code, output, seconds) · `end` (verdict, why). Every event has `at` and `conversation`.
Secrets are masked before anything is kept; long texts are cut; old conversations go.
"""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labwright_agents.errors import AgentError
from labwright_agents.limits import cut
from labwright_agents.mask import mask_all

KEEP = 1000  # conversations
KEEP_BYTES = 2 * 2**30  # of them and their work folders
CUT = ("content", "code", "output", "task", "tests")

Event = dict[str, Any]


def new_name() -> str:
    """A name for a conversation: they sort by time, and no two are alike."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


class Trace:
    """The events of one conversation, kept and written at once, so that a killed program leaves what there was."""

    def __init__(self, path: Path | None, name: str, known: Iterable[str], most: int) -> None:
        """Write to path if there is one; `known` are secrets, `most` is the length to which texts are cut."""
        self.name, self.events = name, []  # type: tuple[str, list[Event]]
        self._known, self._most = tuple(known), most
        try:
            self._file = path.open("x", encoding="utf-8") if path else None
        except OSError as error:
            raise AgentError("LW-AGENT-018", path=path, error=error.strerror) from error

    def add(self, kind: str, **what: Any) -> Event:
        """One more event."""
        short = {name: cut(one, self._most) if name in CUT and one else one for name, one in what.items()}
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        event: Event = {"at": at, "conversation": self.name, "kind": kind, **mask_all(short, self._known)}
        self.events.append(event)
        if self._file:
            self._file.write(line(event))
            self._file.flush()
        return event

    def close(self) -> None:
        """No more events."""
        if self._file:
            self._file.close()


def line(event: Event) -> str:
    """One event as it stands in a file."""
    return json.dumps(event, ensure_ascii=False) + "\n"


def read(path: Path) -> list[Event]:
    """The events of a file; a last line that was cut off in the middle is left out."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        events = [json.loads(one) for one in lines[:-1] if one]
    except OSError as error:
        raise AgentError("LW-AGENT-029", path=path, error=error.strerror) from error
    except ValueError as error:
        raise AgentError("LW-AGENT-029", path=path, error=error) from error
    if not events or not all(isinstance(one, dict) and "kind" in one for one in events):
        raise AgentError("LW-AGENT-029", path=path, error="no events")
    return events


def prune(home: Path, keep: int = KEEP, most_bytes: int = KEEP_BYTES, sure_s: float = 3600) -> list[str]:
    """Remove the oldest conversations, each with its work folder, beyond `keep` and `most_bytes`; return their names.

    One that was written to within the last `sure_s` seconds may still be going on, and stays.
    """
    found: Sequence[Path] = sorted((home / "traces").glob("*.jsonl"), reverse=True)
    gone, size = [], 0
    for number, path in enumerate(found):
        try:
            state = path.stat()
            work = home / "work" / path.stem
            size += state.st_size + sum(one.lstat().st_size for one in work.rglob("*"))
            if (number < keep and size <= most_bytes) or time.time() - state.st_mtime < sure_s:
                continue
            path.unlink()
        except FileNotFoundError:  # another conversation was quicker
            continue
        shutil.rmtree(work, ignore_errors=True)
        gone.append(path.stem)
    return gone
