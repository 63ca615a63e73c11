"""A web server on this machine that answers as a test says, well or badly, and remembers what it was asked."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One request that came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """One answer; ``length`` is a Content-Length that may lie. A ``stream`` is sent as it comes, in chunks, and never
    properly ended unless it is ``whole``."""

    body: bytes = b""
    status: int = 200
    length: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    stream: Iterable[bytes] | None = None
    whole: bool = True


Answer = Reply | Callable[[Asked], Reply]


def behind(login: str, answer: Answer) -> Callable[[Asked], Reply]:
    """An answer for those alone who say ``user:password`` (Basic)."""
    wanted = "Basic " + base64.b64encode(login.encode()).decode()

    def guarded(asked: Asked) -> Reply:
        if asked.headers.get("Authorization") != wanted:
            return Reply(b"", 401, headers=(("WWW-Authenticate", 'Basic realm="mirror"'),))
        return answer(asked) if callable(answer) else answer

    return guarded


def says(value: Any, status: int = 200) -> Reply:
    """An answer in JSON."""
    return Reply(json.dumps(value, ensure_ascii=False).encode(), status)


def ranged(data: bytes) -> Callable[[Asked], Reply]:
    """A file on a server that can go on in the middle."""

    def answer(asked: Asked) -> Reply:
        wanted = asked.headers.get("Range")
        if wanted is None:
            return Reply(data)
        begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
        return Reply(data[begin:], 206) if begin < len(data) else Reply(status=416)

    return answer


@dataclass
class Loopback:
    """The server: what it answers to each path (a list is used up, its last answer stays), what it was asked."""

    port: int
    scheme: str = "http"
    answers: dict[str, Answer | list[Answer]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def paths(self) -> list[str]:
        return [one.path for one in self.asked]

    def file(self, name: str, data: bytes) -> dict[str, Any]:
        """Serve a file; return it in the shape of a plan."""
        self.answers[f"/{name}"] = ranged(data)
        return {"url": f"{self.url}/{name}", "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}

    def answer(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        found = self.answers.get(asked.path, Reply(b"no such file", 404))
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        return found(asked) if callable(found) else found


@contextmanager
def serving(context: ssl.SSLContext | None = None, plain_too: bool = False) -> Iterator[Loopback]:
    """Serve on a free port until the test is over; over TLS where there is a context, ``plain_too`` not only."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            reply = loopback.answer(Asked(self.command, self.path, dict(self.headers), body))
            self.send_response(reply.status)
            if reply.stream is None:
                self.send_header("Content-Length", str(len(reply.body) if reply.length is None else reply.length))
            else:
                self.send_header("Transfer-Encoding", "chunked")
            for name, value in reply.headers:
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)
            for part in reply.stream or ():
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            if reply.stream is not None and reply.whole:
                self.wfile.write(b"0\r\n\r\n")

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *arguments: object) -> None: ...

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *arguments: object) -> None:
            """A client that does not wait for the answer is part of the tests."""

        def get_request(self) -> tuple[socket.socket, Any]:
            raw, client = super().get_request()
            raw.settimeout(5)
            if context is None or (plain_too and raw.recv(1, socket.MSG_PEEK) != b"\x16"):
                return raw, client
            return context.wrap_socket(raw, server_side=True), client  # an OSError here is the client's

    with Server(("127.0.0.1", 0), Handler) as server:
        loopback = Loopback(server.server_address[1], "https" if context else "http")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield loopback
        server.shutdown()
        thread.join()


@contextmanager
def raw(said: bytes | None = None) -> Iterator[int]:
    """A port where something takes connections and says this, then hangs up; None: it says nothing and holds on."""
    held = []
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()

        def take() -> None:
            with suppress(OSError):
                while True:
                    held.append(door.accept()[0])
                    if said is not None:
                        held[-1].sendall(said)
                        held.pop().close()

        thread = threading.Thread(target=take)
        thread.start()
        try:
            yield door.getsockname()[1]
        finally:
            with suppress(OSError):
                door.shutdown(socket.SHUT_RDWR)
            thread.join()
            for one in held:
                one.close()


def free_port() -> int:
    """A port where nothing listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port
