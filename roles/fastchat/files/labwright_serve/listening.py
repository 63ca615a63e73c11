"""The socket: bound before anything slow, served until SIGTERM, and asked by the watchdog."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import glob
import http.client
import ipaddress
import logging
import math
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from labwright_serve import watchdog

# The watchdog asks for this; FastChat has no such route, and answering 404 takes nothing but a live event loop.
ASKED = "/labwright-alive"
# What bind() says of a port that somebody has. Windows (10013) also keeps ranges of ports for itself, for Hyper-V say.
TAKEN, KEPT = (errno.EADDRINUSE, 10048), 10013


def end(sentence: str) -> NoReturn:
    """Say why this process cannot serve, and end it whatever threads run.

    With FastChat's own start a controller that could not bind stayed alive without a socket: a thread kept it.
    """
    os.write(2, f"{sentence}\n".encode())
    os._exit(1)


@dataclass
class Door:
    """A bound socket, and the server behind it once there is one."""

    socket: socket.socket
    address: tuple[str, int]
    server: Any = None

    def alive(self, within_s: float) -> bool:
        """Whether the server answers; while it is not there yet, or ends, it is enough that this thread runs."""
        if self.server is None or self.server.should_exit:
            return True
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection(*self.address, timeout=within_s)
            with contextlib.closing(connection):
                connection.request("GET", ASKED)
                return bool(connection.getresponse().status)
        return False


def holder(host: str, port: int) -> str:
    """Who listens there, as far as this user may know; on Windows nobody says."""
    ours = "00000000" if ":" in host else f"{int.from_bytes(socket.inet_aton(host), 'little'):08X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for row in Path(table).read_text(encoding="ascii").splitlines()[1:] if Path(table).exists() else ():
            _, local, _, state, _, _, _, uid, _, inode, *_ = row.split()
            theirs, theirs_port = local.split(":")
            meets = len(theirs) > 8 or "00000000" in (ours, theirs) or theirs == ours
            if state != "0A" or int(theirs_port, 16) != port or not meets:
                continue
            for link in glob.iglob("/proc/[0-9]*/fd/*"):  # noqa: PTH207  pathlib's stops at what may not be read
                with contextlib.suppress(OSError):
                    if os.readlink(link) == f"socket:[{inode}]":  # noqa: PTH115
                        process = Path(link).parents[1]
                        return f"process {process.name} ({(process / 'comm').read_text().strip()})"
            import pwd  # Windows has no such module, and no such table

            with contextlib.suppress(KeyError):
                return f"a program of the user {pwd.getpwuid(int(uid)).pw_name}"
    return "another program"


def guarded(host: str, port: int, take: Callable[[], object]) -> None:
    """Take the address, or end with who has it."""
    try:
        take()
    except OSError as error:
        taken = f"; {holder(host, port)} has the port" if error.errno in TAKEN else ""
        if error.errno == KEPT:
            kept = "Windows keeps it for itself (netsh interface ipv4 show excludedportrange tcp)"
            taken = f"; another program has the port, or {kept}"
        end(
            f"LW-SERVE-001: cannot listen on {host}:{port}: {error.strerror}{taken}. Expected an address of this host "
            "with a free port: stop that program, or plan another port or address."
        )


def bind(arguments: Sequence[str]) -> Door:
    """Bind the socket of FastChat's --host and --port; nobody can connect before it is served."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--host", default="")
    parser.add_argument("--port", type=int)
    parser.add_argument("--ssl", action="store_true")
    options, _ = parser.parse_known_args(arguments)
    try:
        version: int = ipaddress.ip_address(options.host).version
    except ValueError:
        version = 0
    # FastChat's default is the name localhost, which may mean ::1 on a host without IPv6 ([Errno 99]).
    if not version or options.port is None or options.ssl:
        end("LW-SERVE-003: expected --host with an address (no name), --port, and no --ssl: the gateway has the keys.")
    bound = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET)
    # On Linux this lets a service that was restarted have its port at once. On Windows the same option would let any
    # program take the port away, and there is one that forbids just that.
    own = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
    bound.setsockopt(socket.SOL_SOCKET, own, 1)
    guarded(options.host, options.port, lambda: bound.bind((options.host, options.port)))
    door = Door(bound, bound.getsockname()[:2])
    watchdog.start(door.alive, end)
    return door


def replace(app: Any, path: str, answer: Callable[[Any], Any]) -> None:
    """Put a route of ours in the place of one of FastChat's."""
    app.router.routes[:] = [route for route in app.router.routes if route.path != path]
    app.add_route(path, answer, methods=["POST"])


def serve(
    door: Door,
    app: Any,
    ready: Callable[[], object] = lambda: watchdog.notify("READY=1"),
    patience_s: float = math.inf,
) -> None:
    """Serve until SIGTERM, then finish the requests in flight, for so many seconds at most, and end; `ready` is called
    on the event loop."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets=sockets)
            door.server = self
            ready()

        async def _wait_tasks_to_complete(self) -> None:
            # uvicorn and Python also wait for threads that nobody does: a generation whose client has gone.
            over = time.monotonic() + patience_s
            while self.server_state.connections and time.monotonic() < over:
                await asyncio.sleep(0.1)
            logging.shutdown()
            os._exit(0)

    server = Server(uvicorn.Config(app, log_level="info"))
    logging.getLogger("uvicorn.access").addFilter(lambda record: ASKED not in record.getMessage())
    guarded(*door.address, door.socket.listen)
    server.run(sockets=[door.socket])
