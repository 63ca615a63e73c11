"""Which TCP ports take connections: `python3 scan.py ADDRESS…` prints {address: [open ports]} as one line of JSON.

Standard library alone, so that it runs on any host as it is. All 65535 ports of one address after the other are tried
once, AT_ONCE at a time; one that says nothing within WAIT_S counts as closed, and how many did is on standard error.
"""

from __future__ import annotations

import errno
import itertools
import json
import selectors
import socket
import sys
import time
from collections.abc import Iterable

AT_ONCE = 500
WAIT_S = 2.0


def scan(address: str, ports: Iterable[int]) -> dict[str, list[int]]:
    """Ports by what they answered: open, refused, silent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    answers: dict[str, list[int]] = {"open": [], "refused": [], "silent": []}
    left = iter(ports)
    waiting: dict[tuple[socket.socket, int], float] = {}  # until when; the oldest first

    def settle(sock: socket.socket, port: int, answer: str) -> None:
        answers[answer].append(port)
        sock.close()

    with selectors.DefaultSelector() as selector:
        while True:
            while len(waiting) < AT_ONCE and (port := next(left, 0)):
                sock = socket.socket(family, socket.SOCK_STREAM)
                sock.setblocking(False)
                said = sock.connect_ex((address, port))
                if said == errno.EINPROGRESS:
                    selector.register(sock, selectors.EVENT_WRITE, (sock, port))
                    waiting[sock, port] = time.monotonic() + WAIT_S
                else:
                    settle(sock, port, "refused" if said else "open")
            if not waiting:
                return {answer: sorted(found) for answer, found in answers.items()}
            ready = [key.data for key, _events in selector.select(0.1)]
            late = [at for at, _until in itertools.takewhile(lambda row: row[1] < time.monotonic(), waiting.items())]
            for at in dict.fromkeys([*ready, *late]):
                sock, port = at
                said = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                selector.unregister(sock)
                del waiting[at]
                settle(sock, port, "silent" if at in late and at not in ready else "refused" if said else "open")


def main(addresses: list[str]) -> int:
    """Command line; see the module's text."""
    found = {}
    for address in addresses:
        answers = scan(address, range(1, 65536))
        found[address] = answers["open"]
        print(f"{address}: {len(answers['refused'])} refused, {len(answers['silent'])} silent", file=sys.stderr)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
