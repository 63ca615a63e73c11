"""Verb ``pace``: a program that ends again and again starts later each time, and in the end not at all.

A unit's last ExecStartPre, so that only starts of the program count and not what it waits for. Request: ``most``
(starts by itself within an hour). The starts are kept in the unit's RuntimeDirectory, which systemd removes when the
service is stopped and when it has failed for good; the unit's ExecStopPost empties it when a person restarts.

systemd 252, Debian 12's, has no RestartSteps=, so the growing delay is slept here: 2 s, 4 s, … 60 s. When there were
too many starts, this ends at once each time, and the unit's start limit makes of that a unit that is `failed`.

On Windows NSSM runs it before each start of the program. It waits by itself, and would end this after 20 s; the exit
status 99 makes it give the start up. A person's start, and a boot's, is NSSM's first: its starts are forgotten. Logs
that were put aside are bounded here too (``logs``, ``log_max``).
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

from hostkit import place
from hostkit.result import Problem, Result

WINDOW_S = 3600.0
FIRST_S = 2.0  # the unit's RestartSec: systemd has waited so long already
LONGEST_S = 60.0


def run(request: dict[str, Any], _check: bool) -> Result:
    """Count this start, and wait before it as long as the earlier ones ask for."""
    path = Path(os.environ["RUNTIME_DIRECTORY"], "starts")
    now = time.monotonic()
    if place.windows() and os.environ.get("NSSM_START_COUNT") == "0":
        path.unlink(missing_ok=True)
    recent = [one for one in starts(path) if now - WINDOW_S < one <= now]
    if len(recent) >= request["most"]:
        words = f"started {len(recent)} times by itself within an hour, and ended each time"
        raise Problem("LW-SERVICE-003", f"{words}; it is given up. Why it ends stands above, in its own words.")
    path.write_text("\n".join(str(one) for one in [*recent, now]), encoding="ascii")
    if place.windows():
        from hostkit import nssm  # here: a start on Linux shall not wait for all that it imports

        with contextlib.suppress(OSError):  # the paces of two services may meet there
            nssm.prune(Path(request["logs"]), request["log_max"])
        return Result(message=f"start {len(recent) + 1} within an hour")
    wait = delay(len(recent))
    time.sleep(wait)
    return Result(message=f"start {len(recent) + 1} within an hour, {wait:.0f} s later than systemd would")


def starts(path: Path) -> list[float]:
    """Earlier starts, in seconds of the monotonic clock; no clock that jumps can touch them."""
    try:
        return [float(line) for line in path.read_text(encoding="ascii").split()]
    except (OSError, ValueError):
        return []


def delay(earlier: int) -> float:
    """Seconds to wait beyond what systemd has waited, after so many earlier starts."""
    return float(max(0.0, min(FIRST_S**earlier, LONGEST_S) - FIRST_S))
