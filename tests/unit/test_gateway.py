"""The gateway's nginx.conf, run by a real nginx before a made-up API: what gets in, what not, and what is written down.

Needs nginx on PATH, or its program's path in LABWRIGHT_NGINX; without it the tests of behaviour are skipped.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from labwright import authority

ROLE = Path(__file__).resolve().parents[2] / "roles/gateway"
NGINX = os.environ.get("LABWRIGHT_NGINX") or shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
KEY, OTHER, OLD = "lw-Key~one_0123456789.abc", "lw-other-key-0123456789abc", "lw-old-key-0123456789abcdef"
PAIR_OF_KEYS = {"anna": [KEY, OLD], "agent-a%2F1": [OTHER]}
PEOPLE = {"anna": [KEY, OLD]}
CHAT = "/v1/chat/completions"
# What clients are told; what the role itself refuses is not theirs.
TEXTS = yaml.safe_load((ROLE / "vars/messages.yml").read_text(encoding="utf-8"))
del TEXTS["__gateway_messages"]
ANSWERS, PAGE_ANSWERS = TEXTS["__gateway_answers"], TEXTS["__gateway_page_answers"]
behaviour = pytest.mark.skipif(NGINX is None, reason="there is no nginx here; set LABWRIGHT_NGINX")


def rendered(name: str, **more: Any) -> str:
    """A template of the role with its defaults, as Ansible renders it."""
    env = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined)  # noqa: S701
    env.filters["to_json"] = json.dumps
    env.filters["b64encode"] = lambda words: base64.b64encode(words.encode()).decode()
    values = {"ansible_managed": "Ansible managed", **yaml.safe_load((ROLE / "defaults/main.yml").read_text()), **more}
    texts = {
        name: {key: {**row, "message": env.from_string(row["message"]).render(values)} for key, row in found.items()}
        for name, found in TEXTS.items()
    }
    text = (ROLE / "templates" / name).read_text(encoding="utf-8")
    return env.from_string(text).render({**values, **texts})


class Api(BaseHTTPRequestHandler):
    """As much of an API as is needed: it notes what it is asked."""

    protocol_version = "HTTP/1.1"
    server: Backend

    def do_GET(self) -> None:
        self.server.seen.append((self.command, self.path, {key.lower(): value for key, value in self.headers.items()}))
        self.send_response(200)
        self.send_header("X-Accel-Redirect", "/v1/models")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for word in ("one", "two"):
            self.piece(f"data: {word}\n\n".encode())
            self.server.between.wait(5)
        self.piece(b"")

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.bodies.append(data)
        if data == b"silent":
            time.sleep(3)
        self.do_GET()

    def piece(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


class Backend(ThreadingHTTPServer):
    """The made-up API."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Api)
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.bodies: list[bytes] = []
        self.between = threading.Event()
        self.between.set()


@dataclass
class Gateway:
    """A running gateway."""

    folder: Path
    port: int
    client: ssl.SSLContext
    api: Backend
    process: subprocess.Popen[bytes]
    page_port: int = 0
    answers: list[int] = field(default_factory=list)

    def send(self, method: str, path: str, key: str | None = KEY, body: bytes | None = None, **headers: str) -> Any:
        """One request; the answer with its text in ``said``."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.client, timeout=20)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent.setdefault("Authorization", f"Bearer {key}")
        connection.request(method, path, body, sent)
        answer: Any = connection.getresponse()
        answer.said = answer.read().decode()
        connection.close()
        return answer

    def page(
        self, path: str, who: str | None = f"anna:{KEY}", method: str = "GET", body: bytes | None = None, **headers: str
    ) -> Any:
        """The same of the page, as somebody who logged in with NAME:KEY."""
        login = {} if who is None else {"Authorization": f"Basic {base64.b64encode(who.encode()).decode()}"}
        connection = http.client.HTTPSConnection("127.0.0.1", self.page_port, context=self.client, timeout=20)
        connection.request(method, path, body, login | {name.replace("_", "-"): one for name, one in headers.items()})
        answer: Any = connection.getresponse()
        answer.said = answer.read().decode()
        connection.close()
        return answer

    def refused(self, method: str, path: str, key: str | None = KEY, body: bytes | None = None, **more: str) -> Any:
        """Status and id of an answer in the shape of OpenAI's errors."""
        answer = self.send(method, path, key, body, **more)
        error = json.loads(answer.said)["error"]
        assert answer.headers["Content-Type"] == "application/json"
        assert error["message"].startswith(f"{error['code']}: ")
        assert not any(one in answer.said for keys in PAIR_OF_KEYS.values() for one in keys)
        return answer.status, error["code"]

    def log(self) -> str:
        """All that it wrote."""
        time.sleep(0.2)
        return "".join((self.folder / name).read_text() for name in ("access.log", "error.log"))

    def reload(self, accepted: dict[str, list[str]]) -> None:
        """Other keys."""
        write(self.folder / "keys.map", rendered("keys.map.j2", gateway_secrets={"accepted": accepted}))
        command = [str(NGINX), "-e", "stderr", "-c", str(self.folder / "nginx.conf"), "-s", "reload"]
        subprocess.run(command, check=True, capture_output=True)


def write(path: Path, text: str) -> None:
    """A file in one step."""
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def running(folder: Path, *, backend: bool = True, **more: Any) -> Iterator[Gateway]:
    """A gateway with a made-up API behind it, or none."""
    api, port, page_port = Backend(), free_port(), free_port()
    now = datetime.now(UTC)
    issuer = authority.make_authority("lab", now)
    pair = authority.make_server(issuer, "api10", ["127.0.0.1"], now)
    where = f"127.0.0.1:{api.server_port if backend else free_port()}"
    values = {
        "gateway_listen": {"host": "127.0.0.1", "port": port},
        "gateway_backends": [where],
        "gateway_work": str(folder),
        "gateway_page": {"port": page_port, "backend": where},
        **more,
    }
    text = rendered("nginx.conf.j2", **values)
    assert "syslog:server=unix:/dev/log,nohostname,tag=labwright_gateway" in text  # no such thing in a test
    text = text.replace("syslog:server=unix:/dev/log,nohostname,tag=labwright_gateway", f"{folder}/access.log")
    write(folder / "nginx.conf", text)
    write(folder / "keys.map", rendered("keys.map.j2", gateway_secrets={"accepted": PAIR_OF_KEYS}))
    write(folder / "people.map", rendered("people.map.j2", gateway_secrets={"people": PEOPLE}))
    write(folder / "server.crt", pair.certificate.decode())
    write(folder / "server.key", pair.key.decode())
    command = [str(NGINX), "-e", "stderr", "-c", str(folder / "nginx.conf")]
    tested = subprocess.run([*command, "-t", "-q"], capture_output=True, text=True, check=False)
    assert "syntax is ok" in tested.stderr or not tested.stderr.strip() or os.geteuid() == 0, tested.stderr
    assert tested.returncode == 0, tested.stderr
    with (folder / "error.log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
    threading.Thread(target=api.serve_forever, daemon=True).start()
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        client = ssl.create_default_context(cadata=issuer.certificate.decode())
        yield Gateway(folder, port, client, api, process, page_port)
    finally:
        process.terminate()
        process.wait(10)
        api.shutdown()
        api.server_close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running(tmp_path_factory.mktemp("gateway")) as one:
        yield one


# --- texts -----------------------------------------------------------------------------------------------------------


ALL = [row["message"] for found in TEXTS.values() for row in found.values()]


def test_no_text_ends_nginx_s_own_quotes() -> None:
    assert not [words for words in ALL if set(words) & set("'\"$\\") or "\n" in words]
    assert not [words for words in ALL if not words.isascii()]


def test_ids_are_in_the_docs() -> None:
    page = (ROLE.parents[1] / "docs/security.md").read_text(encoding="utf-8")
    assert [words[:14] for words in ALL if words[:14] not in page] == []


def test_an_ipv6_address_is_bracketed() -> None:
    listen = {"host": "2001:db8::1", "port": 9527}
    assert "listen [2001:db8::1]:9527 ssl" in rendered("nginx.conf.j2", gateway_listen=listen)


# --- who gets in -----------------------------------------------------------------------------------------------------


@behaviour
@pytest.mark.parametrize("key", [KEY, OLD, OTHER])
def test_each_accepted_key_gets_in(gateway: Gateway, key: str) -> None:
    answer = gateway.send("GET", "/v1/models", key)
    assert (answer.status, answer.said) == (200, "data: one\n\ndata: two\n\n")
    assert answer.headers["Server"] == "nginx"
    assert gateway.send("GET", "/v1/models", None, Authorization=f"bearer {key}").status == 200


@behaviour
@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        KEY,
        f"Basic {KEY}",
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY.upper()}",
        f"Bearer {KEY.lower()}",
        f"Bearer anna {KEY}",
        f"Bearer {KEY}|Bearer {KEY}",
        f"anna {KEY}|Bearer {KEY}",
        "Bearer guess|Bearer guess",
        "Bearer x guess|Bearer guess",
        "x guess|Bearer guess",
        f"Bearer  {KEY}",
        f"Bearer {KEY}, Bearer {KEY}",
    ],
)
def test_no_other_word_gets_in(gateway: Gateway, value: str | None) -> None:
    headers = {} if value is None else {"Authorization": value}
    before = len(gateway.api.seen)
    for method, path in (("GET", "/v1/models"), ("POST", CHAT), ("GET", "/nowhere")):
        assert gateway.refused(method, path, None, None, **headers) == (401, "LW-GATEWAY-001")
    assert len(gateway.api.seen) == before


@behaviour
def test_the_answer_to_a_wrong_key_is_the_same_as_to_none(gateway: Gateway) -> None:
    answers = {gateway.send("GET", "/v1/models", key).said for key in (None, "wrong", KEY.upper(), f"{OLD}x")}
    assert len(answers) == 1
    assert gateway.send("GET", "/v1/models", None).headers["WWW-Authenticate"] == "Bearer"


@behaviour
def test_plain_http_is_refused_with_a_sentence(gateway: Gateway) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {KEY}"})
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["error"]["code"]) == (400, "LW-GATEWAY-002")


@behaviour
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_tls_is_refused(gateway: Gateway, version: ssl.TLSVersion) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLS"):
        context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", gateway.port), 5) as plain, pytest.raises((ssl.SSLError, OSError)):
        context.wrap_socket(plain)


# --- the page --------------------------------------------------------------------------------------------------------


def test_without_a_page_there_is_no_second_door() -> None:
    text = rendered("nginx.conf.j2", gateway_listen={"host": "192.0.2.1", "port": 9527})
    assert text.count("listen ") == 1
    assert "people.map" not in text


@behaviour
@pytest.mark.parametrize("who", [f"anna:{KEY}", f"anna:{OLD}"])
def test_a_person_logs_in_to_the_page(gateway: Gateway, who: str) -> None:
    answer = gateway.page("/", who)
    assert (answer.status, answer.said) == (200, "data: one\n\ndata: two\n\n")
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    seen = gateway.api.seen[-1][2]
    assert "authorization" not in seen
    assert (seen["host"], seen["x-forwarded-proto"]) == (f"127.0.0.1:{gateway.page_port}", "https")


@behaviour
@pytest.mark.parametrize(
    "who",
    [
        *(None, "", ":", f"anna:{OTHER}", f"agent-a%2F1:{OTHER}", f"operator:{KEY}", f"Anna:{KEY}", f"anna:{KEY}x"),
        *(f"anna:{KEY.upper()}", f":{KEY}", KEY, f"anna:{KEY[:-1]}", f"anna {KEY}"),
    ],
)
def test_nobody_else_gets_the_page(gateway: Gateway, who: str | None) -> None:
    before = len(gateway.api.seen)
    answer = gateway.page("/", who)
    assert (answer.status, answer.said[:14]) == (401, "LW-GATEWAY-009")
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert len(gateway.api.seen) == before


@behaviour
def test_a_key_of_the_api_is_no_login_and_a_login_no_key(gateway: Gateway) -> None:
    assert gateway.page("/", None, Authorization=f"Bearer {KEY}").status == 401
    login = base64.b64encode(f"anna:{KEY}".encode()).decode()
    for words in (f"Basic {login}", f"Basic {login.upper()}", f"Basic {login.lower()}"):
        assert gateway.send("GET", "/v1/models", None, Authorization=words).status == 401
    assert gateway.page("/", None, Authorization=f"Basic {login.swapcase()}").status == 401
    assert gateway.page("/", None, Authorization=f"basic {login}").status == 200


@behaviour
@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:{}", "https://127.0.0.1:{}.evil.example", "x{}"]
)
def test_another_page_cannot_use_somebody_s_login(gateway: Gateway, origin: str) -> None:
    before = len(gateway.api.seen)
    answer = gateway.page("/queue/join", method="POST", Origin=origin.format(gateway.page_port))
    assert (answer.status, answer.said[:14]) == (403, "LW-GATEWAY-010")
    assert len(gateway.api.seen) == before
    assert gateway.page("/queue/join", method="POST", Origin=f"https://127.0.0.1:{gateway.page_port}").status == 200


@behaviour
def test_only_what_the_page_is_made_of_is_there(gateway: Gateway) -> None:
    for path in (
        "/",
        "/config",
        "/theme.css",
        "/assets/index-a1B_c.js",
        "/queue/data?session_hash=abc1",
        "/queue/join",
    ):
        assert gateway.page(path).status == 200, path
        assert gateway.api.seen[-1][1] == path
    for path in (
        *(
            "/upload",
            "/file=/etc/passwd",
            "/proxy=http://192.0.2.1/",
            "/stream/a/b/c",
            "/info",
            "/docs",
            "/openapi.json",
        ),
        *("/assets/../file=/etc/passwd", "/assets/%2e%2e/upload", "/v1/models", "/component_server", "/monitoring"),
    ):
        answer = gateway.page(path)
        assert (answer.status, answer.said[:14]) == (404, "LW-GATEWAY-011"), path


@behaviour
def test_the_page_s_stream_comes_as_it_is_made(gateway: Gateway) -> None:
    gateway.api.between.clear()
    connection = http.client.HTTPSConnection("127.0.0.1", gateway.page_port, context=gateway.client, timeout=20)
    login = base64.b64encode(f"anna:{KEY}".encode()).decode()
    connection.request("GET", "/queue/data?session_hash=a", headers={"Authorization": f"Basic {login}"})
    answer = connection.getresponse()
    assert answer.read1() == b"data: one\n\n"
    gateway.api.between.set()
    assert answer.read() == b"data: two\n\n"
    connection.close()


@behaviour
def test_a_person_asks_the_page_no_faster_than_the_api(tmp_path: Path) -> None:
    with running(tmp_path, gateway_rate=1, gateway_burst=2) as gateway:
        answers = [gateway.page("/queue/join", method="POST") for _ in range(9)]
        assert [answer.status for answer in answers[:3]] == [200] * 3
        assert {answer.said[:14] for answer in answers if answer.status == 429} == {"LW-GATEWAY-006"}
        # What the page is made of comes all the same.
        assert [gateway.page("/assets/a.js").status for _ in range(9)] == [200] * 9


@behaviour
def test_a_page_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    with running(tmp_path, backend=False) as gateway:
        answer = gateway.page("/")
        assert (answer.status, answer.said[:14]) == (502, "LW-GATEWAY-012")
        plain = http.client.HTTPConnection("127.0.0.1", gateway.page_port, timeout=10)
        plain.request("GET", "/", headers={"Authorization": "Basic x"})
        said = plain.getresponse()
        assert (said.status, said.read()[:14]) == (400, b"LW-GATEWAY-002")


@behaviour
def test_no_key_stands_in_the_page_s_log(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        gateway.page(f"/config?key={KEY}")
        gateway.page(f"/{KEY}", None, Referer=f"https://x/{KEY}", Authorization=f"Basic {KEY}")
        log = gateway.log()
    assert "anna page 200" in log
    assert "- - 401" in log
    assert KEY not in log


# --- what gets through -----------------------------------------------------------------------------------------------


@behaviour
@pytest.mark.parametrize(
    ("method", "path", "passed"),
    [
        ("GET", "/v1/models", "/v1/models"),
        ("POST", CHAT, CHAT),
        ("POST", "/v1/completions", "/v1/completions"),
        ("POST", "/v1/embeddings", "/v1/embeddings"),
        ("POST", "/v1/engines/gpt-3.5_turbo/embeddings", "/v1/engines/gpt-3.5_turbo/embeddings"),
        ("GET", "/v1/models?key=x&a=../b", "/v1/models"),
        ("GET", "/api/../v1/%6dodels", "/v1/models"),
        ("GET", "//v1//models", "/v1/models"),
    ],
)
def test_the_routes_that_there_are(gateway: Gateway, method: str, path: str, passed: str) -> None:
    body = b'{"a": 1}' if method == "POST" else None
    headers = {"Content_Type": "application/json", "api_key": KEY, "Cookie": f"key={KEY}", "X_Api_Key": KEY}
    assert gateway.send(method, path, KEY, body, **headers).status == 200
    seen_method, seen_path, seen = gateway.api.seen[-1]
    assert (seen_method, seen_path) == (method, passed)
    assert KEY not in str(seen)
    assert "authorization" not in seen
    assert seen["content-type"] == "application/json"
    if body:
        assert (gateway.api.bodies[-1], seen["content-length"]) == (body, str(len(body)))


@behaviour
@pytest.mark.parametrize(
    "path",
    [
        *("/", "/v1", "/v1/", "/v1/models/", "/v1/models/x", "/v1/chat", "/V1/models", "/v1/engines//embeddings"),
        *("/api/v1/chat/completions", "/api/v1/token_check", "/docs", "/openapi.json", "/register_worker"),
        *("/v1/models/../../docs", "/v1/models%2F..%2F..%2Fdocs", "/v1/engines/a%20b/embeddings", "/v1/models%0a"),
        *("/v1/engines/../embeddings/x", "/v1/models;x"),
    ],
)
def test_no_other_route(gateway: Gateway, path: str) -> None:
    before = len(gateway.api.seen)
    assert gateway.refused("GET", path) == (404, "LW-GATEWAY-003")
    assert gateway.send("GET", "/v1/models%00").status == 400  # nginx's own page: there is no path to go by
    assert len(gateway.api.seen) == before


@behaviour
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/models"), ("GET", CHAT), ("DELETE", CHAT), ("OPTIONS", CHAT)]
)
def test_no_other_method(gateway: Gateway, method: str, path: str) -> None:
    assert gateway.refused(method, path) == (405, "LW-GATEWAY-004")


@behaviour
def test_a_stream_comes_as_it_is_made(gateway: Gateway) -> None:
    gateway.api.between.clear()
    connection = http.client.HTTPSConnection("127.0.0.1", gateway.port, context=gateway.client, timeout=10)
    connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {KEY}"})
    answer = connection.getresponse()
    assert answer.readline() == b"data: one\n"  # the API has not said more yet
    gateway.api.between.set()
    assert answer.read() == b"\ndata: two\n\n"


# --- limits ----------------------------------------------------------------------------------------------------------


@behaviour
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large(tmp_path: Path, chunked: bool) -> None:
    with running(tmp_path, gateway_body_max="100k") as one:
        body: Any = iter([b"x" * 4096] * 40) if chunked else b"x" * 160_000
        assert one.refused("POST", CHAT, body=body) == (413, "LW-GATEWAY-005")
        assert one.send("POST", CHAT, body=b"x" * 99_000).status == 200
        assert len(one.api.bodies) == 1


@behaviour
def test_a_body_that_the_gateway_cannot_keep(tmp_path: Path) -> None:
    with running(tmp_path) as one:
        (tmp_path / "body").rmdir()
        assert one.refused("POST", CHAT, body=b"x" * 2_000_000) == (500, "LW-GATEWAY-014")
        answer = one.page("/queue/join", method="POST", body=b"x" * 2_000_000)
        assert (answer.status, answer.said[:14]) == (500, "LW-GATEWAY-014")
        assert one.send("POST", CHAT, body=b"x").status == 200


@behaviour
def test_the_rate_is_each_names_own(tmp_path: Path) -> None:
    with running(tmp_path, gateway_rate=1, gateway_burst=2) as one:
        assert [one.send("GET", "/v1/models").status for _ in range(3)] == [200] * 3
        assert one.refused("GET", "/v1/models") == (429, "LW-GATEWAY-006")
        assert one.refused("GET", "/v1/models", OLD) == (429, "LW-GATEWAY-006")  # two keys, one name
        assert one.send("GET", "/v1/models").headers["Retry-After"] == "1"
        assert one.send("GET", "/v1/models", OTHER).status == 200


@behaviour
def test_requests_at_the_same_time_are_bounded(tmp_path: Path) -> None:
    with running(tmp_path, gateway_connections=2) as one:
        one.api.between.clear()
        threads = [threading.Thread(target=one.send, args=("GET", "/v1/models")) for _ in range(2)]
        for thread in threads:
            thread.start()
        while len(one.api.seen) < 2:
            time.sleep(0.02)
        assert one.refused("GET", "/v1/models") == (429, "LW-GATEWAY-006")
        one.api.between.set()
        for thread in threads:
            thread.join(10)
        assert one.send("GET", "/v1/models").status == 200


@behaviour
def test_an_api_that_is_silent_or_away(tmp_path: Path) -> None:
    with running(tmp_path, gateway_time_s=1) as one:
        assert one.refused("POST", CHAT, body=b"silent") == (504, "LW-GATEWAY-008")
    folder = tmp_path / "away"
    folder.mkdir()
    with running(folder, backend=False) as one:
        assert one.refused("POST", CHAT, body=b"{}") == (502, "LW-GATEWAY-007")


# --- what is written down --------------------------------------------------------------------------------------------


def raw(gateway: Gateway, data: bytes) -> bytes:
    """What comes back for these bytes."""
    plain = socket.create_connection(("127.0.0.1", gateway.port), 5)
    with gateway.client.wrap_socket(plain, server_hostname="127.0.0.1") as secure, contextlib.suppress(OSError):
        secure.sendall(data)
        return b"".join(iter(lambda: secure.recv(65536), b""))
    return b""


@behaviour
def test_one_line_a_request_and_no_key_in_it_whatever_is_sent(tmp_path: Path) -> None:
    with running(tmp_path, gateway_body_max="1k", gateway_rate=1, gateway_burst=3, gateway_time_s=1) as one:
        one.send("POST", CHAT, body=b"hello")
        one.send("POST", CHAT, body=b"silent")
        one.send("POST", CHAT, body=b"x" * 5000)
        for _ in range(4):
            one.send("GET", "/v1/models")
        one.send("GET", f"/{KEY}", f"{KEY}x")
        head = f"Authorization: Bearer {KEY}\r\n"
        for data in (
            f"GET /v1/models HTTP/1.1\r\n{head}\r\n",
            f"GET /v1/models HTTP/1.1\r\nHost: x\r\n{head}{head}\r\n",
            f"GET /v1/models HTTP/9.1\r\nHost: x\r\n{head}\r\n",
            f"Bearer {KEY}\r\n\r\n",
            f"GET /v1/models HTTP/1.1\r\nHost: x\r\n{head} {KEY}\r\n\r\n",
            f"GET /v1/models HTTP/1.1\r\nHost: {KEY} x\r\n\r\n",
            f"GET /v1/models HTTP/1.1\r\nHost: x\r\n{head}X: {KEY * 2000}\r\n\r\n",
            f"GET /{KEY * 2000} HTTP/1.1\r\nHost: x\r\n{head}\r\n",
            f"POST {CHAT} HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {KEY}\r\n\r\n",
            f"POST {CHAT} HTTP/1.1\r\nHost: x\r\n{head}Transfer-Encoding: {KEY}\r\n\r\n",
            f"POST {CHAT} HTTP/1.1\r\nHost: x\r\n{head}Transfer-Encoding: chunked\r\n\r\n{KEY}\r\n",
        ):
            assert KEY.encode() not in raw(one, data.encode())
        written = one.log()
    assert KEY not in written
    lines = (tmp_path / "access.log").read_text().splitlines()
    assert lines[0].startswith(f"127.0.0.1 anna {CHAT} 200 ")
    assert " bytes 0." in lines[0]
    assert " anna /v1/models 429 " in "\n".join(lines)


# --- other keys ------------------------------------------------------------------------------------------------------


@behaviour
def test_keys_change_without_a_failed_request_and_a_stream_goes_on(tmp_path: Path) -> None:
    new = "lw-new-key-0123456789abcdef"
    with running(tmp_path, gateway_rate=5000, gateway_burst=5000) as one:
        one.api.between.clear()
        streaming = http.client.HTTPSConnection("127.0.0.1", one.port, context=one.client, timeout=20)
        streaming.request("GET", "/v1/models", headers={"Authorization": f"Bearer {KEY}"})
        stream = streaming.getresponse()
        assert stream.readline() == b"data: one\n"
        one.api.between.set()  # of others
        one.api.between = threading.Event()
        one.api.between.set()
        current, done, failed = [KEY], threading.Event(), []

        def ask() -> None:
            while not done.is_set():
                try:
                    one.answers.append(one.send("POST", CHAT, current[0], b"{}").status)
                except (OSError, http.client.HTTPException) as error:
                    failed.append(error)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for keys, used in (([new, KEY], KEY), ([new, KEY], new), ([new], new), ([new], new)):
            one.reload({"anna": keys})
            time.sleep(0.4)
            current[0] = used
            time.sleep(0.4)
        done.set()
        for thread in threads:
            thread.join(10)
        assert failed == []
        assert set(one.answers) == {200}
        assert len(one.answers) > 30
        assert one.refused("GET", "/v1/models", KEY) == (401, "LW-GATEWAY-001")
        assert one.refused("GET", "/v1/models", OTHER) == (401, "LW-GATEWAY-001")
        assert stream.read().endswith(b"data: two\n\n")
