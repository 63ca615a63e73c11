"""Verb ``logs``: what the lab's services said, newest kept, secrets masked. Changes nothing.

Request: ``since`` (as journalctl takes it), ``lines`` (at most, of all services together), ``bytes`` (at most).
Answer (``data``): ``units``, of each service its ``text``, ``lines``, ``kinds`` (each kind of error with its count) and
``last_error`` (``at``, ``text``); ``cut`` (why not all is there, "" where it is).
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from typing import Any

from hostkit import journal, place, seen
from hostkit.mask import mask
from hostkit.result import Problem, Result

UNITS = ("labwright-*.service", "gave-up-labwright-*.service")
CODE = re.compile(r"^labwright-(agent-[0-9]+|sandbox@.+)$")  # each run of an agent, and of its code, is a unit
EACH = 48 << 10  # characters of one entry


def run(request: dict[str, Any], _check: bool) -> Result:
    """Read back from the newest, until one of the bounds."""
    most, lines = int(request["bytes"]), int(request["lines"])
    found: list[journal.Entry] = []
    size, cut = 0, ""
    for one in seen.every_entry(request["since"]) if place.windows() else of_journal(request["since"]):
        size += min(len(one.text), EACH) + 30
        if len(found) >= lines or size > most:
            said = f"{lines} lines" if len(found) >= lines else f"{most >> 10} KiB"
            cut = f"only the newest {said}; from {found[-1].moment if found else one.moment} on"
            break
        found.append(one)
    found.reverse()
    by_name: dict[str, list[journal.Entry]] = {}
    for one in found:
        by_name.setdefault(CODE.sub("labwright-agent", one.unit), []).append(one)
    units = {name: of_unit(some) for name, some in sorted(by_name.items())}
    return Result(message=f"{len(found)} entries of {len(units)} services", data={"units": units, "cut": cut})


def of_journal(since: str) -> Iterator[journal.Entry]:
    """The entries of the lab's units, the newest first."""
    bounds = [f"--since={since}"] if since else []
    understood(bounds)
    yield from journal.entries(*(f"--unit={unit}" for unit in UNITS), *bounds, "--reverse")


def understood(bounds: list[str]) -> None:
    """Whether journalctl is there and takes the bounds; it would else say nothing, as where there is nothing."""
    argv = [*journal.COMMAND, "--lines=0", *bounds]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise Problem(
            "LW-LOGS-001", "there is no journalctl on this host; expected systemd. Look at it there."
        ) from error
    if done.returncode and done.stderr.strip():
        words = f"journalctl refused {' '.join(bounds) or 'to answer'}: {mask(done.stderr.strip())}"
        raise Problem("LW-LOGS-002", f"{words}. Expected a time; set it with -e 'logs_since=\"2 hours ago\"'.")


def of_unit(found: list[journal.Entry]) -> dict[str, Any]:
    """One service's part. Masked as one text, since a private key may stand in many entries."""
    rows = [(one, line) for one in found for line in (one.text[:EACH].splitlines() or [""])]
    texts = mask("\n".join(line for _one, line in rows)).split("\n")
    lines = [(one, texts[at]) for at, (one, _line) in enumerate(rows)]
    last = next(((one, line) for one, line in reversed(lines) if one.kind), None)
    return {
        "text": "".join(f"{one.moment} {line}\n" for one, line in lines),
        "lines": len(lines),
        "kinds": dict(Counter(one.kind for one in found if one.kind).most_common()),
        "last_error": {"at": last[0].moment, "text": last[1][:500]} if last else {},
    }
