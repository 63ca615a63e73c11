"""The door: `python -m labwright_serve controller|worker|bridge|api|page FASTCHAT-OPTIONS…`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from labwright_serve import api, bridge, controller, listening, page, worker

PROGRAMS = {
    "controller": controller.run,
    "worker": worker.run,
    "bridge": bridge.run,
    "api": api.run,
    "page": page.run,
}


def main(argv: Sequence[str]) -> None:
    """Bind the socket, then let the named program make itself ready and serve."""
    program = PROGRAMS.get(argv[0] if argv else "")
    if program is None:
        listening.end(f"LW-SERVE-003: expected one of {', '.join(PROGRAMS)} as the first word; got {list(argv[:1])}.")
    # FastChat writes a new, unbounded file at each start into the working directory, unless this is empty.
    os.environ.setdefault("LOGDIR", "")
    # FastChat reads its options from here.
    sys.argv = [f"labwright_serve {argv[0]}", *argv[1:]]
    program(listening.bind(argv[1:]))


if __name__ == "__main__":
    main(sys.argv[1:])
