"""The lab's journal on a host: entries, their text, and which of them are errors, of which kind.

Read are the lab's own journal (namespace ``labwright``) and what systemd itself says about the lab's units, which
stands in the host's journal. Secrets are masked before anything else is done with a text.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from hostkit.mask import mask

COMMAND = ("journalctl", "--namespace=+labwright", "--no-pager", "--quiet", "--all", "--output=json")
FIELDS = "--output-fields=MESSAGE,PRIORITY,UNIT,_SYSTEMD_UNIT"
FAREWELL = "gave-up-"  # the unit that speaks when a service gave up
ERROR = 3  # syslog's priority; a lower number is worse
# FastChat logs all that is written to stderr as an error, uvicorn's good news among it.
STDERR = re.compile(r"^[0-9: -]+\| ERROR \| stderr \| ")
# What a line must have to be an error; a group names its kind.
KINDS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b(LW-[A-Z]+-[0-9]{3})\b"), ""),
    (re.compile(r"^(?:[A-Za-z_]\w*\.)*([A-Z]\w*(?:Error|Exception))(?::|$)", re.M), ""),
    (re.compile(r"\| (?:ERROR|CRITICAL) \||^(?:ERROR|CRITICAL):"), "ERROR"),
    (re.compile(r'HTTP/[0-9.]+" (5[0-9]{2})\b'), "HTTP "),
    (re.compile(r"\[(?:error|crit|alert|emerg)\]"), "nginx error"),
)


@dataclass(frozen=True)
class Entry:
    """One entry; ``at`` in microseconds since 1970."""

    at: int
    unit: str
    priority: int
    text: str

    @property
    def moment(self) -> str:
        """When, in UTC."""
        return when(self.at / 1e6)

    @property
    def kind(self) -> str:
        """Of which kind of error it is; "" where it is none."""
        text = STDERR.sub("", self.text)
        for pattern, name in KINDS:
            found = pattern.search(text)
            if found:
                return name + found[1] if found.groups() else name
        return "systemd" if self.priority <= ERROR else ""


def when(seconds: float) -> str:
    """A moment as text."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def entries(*options: str) -> Iterator[Entry]:
    """Entries as journalctl says them, one by one; whoever has enough of them stops."""
    with subprocess.Popen([*COMMAND, FIELDS, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None  # noqa: S101 (for the type)
        try:
            for line in process.stdout:
                try:
                    found = json.loads(line)
                    yield entry(found)
                except (ValueError, KeyError, TypeError):
                    continue
        finally:
            process.kill()


def entry(found: dict[str, Any]) -> Entry:
    """One entry of journalctl's JSON. Bytes that are no UTF-8 come as a list of numbers."""
    said = found.get("MESSAGE") or ""
    text = bytes(said).decode("utf-8", "replace") if isinstance(said, list) else str(said)
    unit = str(found.get("UNIT") or found.get("_SYSTEMD_UNIT") or "")
    name = unit[len(FAREWELL) :] if unit.startswith(FAREWELL) else unit
    name = name[: -len(".service")] if name.endswith(".service") else name
    return Entry(int(found["__REALTIME_TIMESTAMP"]), name, int(found.get("PRIORITY") or 6), text)


def last_error(unit: str, lines: int) -> dict[str, str]:
    """The last error of a unit (``at``, ``text``) among its last lines, and of systemd about it at any time."""
    mine = [f"--unit={unit}.service", f"--unit={FAREWELL}{unit}.service", "--reverse"]
    found = [next((one for one in entries(*mine, f"--lines={lines}") if one.kind), None)]
    found += [next(entries(*mine, "--lines=1", f"--priority={ERROR}"), None)]
    last = max((one for one in found if one), key=lambda one: one.at, default=None)
    return {"at": last.moment, "text": mask(last.text.strip())[:500]} if last else {}
