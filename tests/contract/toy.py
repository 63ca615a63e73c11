"""The program that the acceptance suite runs as a service: it answers, crashes, hangs and talks when asked to.

Standard library only: it runs on the host's own Python. ``toy.py PORT``; ``TOY_CRASH`` in its environment makes it end
at once, ``TOY_TALK`` makes it write so many lines at its start.
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

HEARD = {"hangup": 0}


def tell(words: str) -> None:
    """Say something to the service manager, if it listens (sd_notify)."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if place:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wire:
            wire.connect("\0" + place[1:] if place.startswith("@") else place)
            wire.send(words.encode())


def live() -> None:
    """Tell the watchdog, over and over."""
    while True:
        tell("WATCHDOG=1")
        time.sleep(0.3)


def may(path: str, how: int) -> bool:
    """Whether the file can be opened so."""
    try:
        os.close(os.open(path, how))
    except OSError:
        return False
    return True


def rights() -> dict[str, object]:
    """What this process is allowed to do."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    new = os.O_WRONLY | os.O_CREAT
    return {
        "user": os.getuid(),
        "capabilities": [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
        "no_new_privileges": status["NoNewPrivs"],
        "writes": [path for path in ("/etc/toy", "/usr/toy", "/var/lib/toy", "/opt/contract/toy") if may(path, new)],
        "own": may("/run/labwright-toy/own", new) and may("/var/lib/contract/own", new),
        "reads": [path for path in ("/etc/shadow", "/root/.bashrc", "/home/ops/.bashrc") if may(path, os.O_RDONLY)],
        "devices": [path for path in ("/dev/fuse", "/dev/net/tun") if may(path, os.O_RDWR)],
        "processes": sorted({one.stat().st_uid for one in Path("/proc").iterdir() if one.name.isdigit()}),
    }


class Toy(http.server.BaseHTTPRequestHandler):
    """Answers GET."""

    def do_GET(self) -> None:
        """Do what the path says."""
        if self.path == "/crash":
            os._exit(3)
        if self.path == "/hang":
            os.kill(os.getpid(), signal.SIGSTOP)
        body = json.dumps(rights() if self.path == "/rights" else {"pid": os.getpid(), **HEARD}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words: object) -> None:
        """Talk only when asked to."""


def hangup(*_signal: object) -> None:
    """Read the configuration again, as it were."""
    HEARD["hangup"] += 1


def main() -> int:
    """Serve until told to stop."""
    if os.environ.get("TOY_CRASH"):
        print("I cannot live like this", flush=True)
        return 7
    for number in range(int(os.environ.get("TOY_TALK", "0"))):
        print(f"line {number} of {os.getpid()} {os.urandom(450).hex()}", flush=True)
    signal.signal(signal.SIGHUP, hangup)
    signal.signal(signal.SIGTERM, lambda *_signal: (print("told to stop", flush=True), os._exit(0)))
    threading.Thread(target=live, daemon=True).start()
    server = http.server.ThreadingHTTPServer(("", int(sys.argv[1])), Toy)
    print("toy is up", flush=True)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
