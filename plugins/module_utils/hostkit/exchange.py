"""One question over HTTP or TLS, in steps, so that it can be said which one failed: connection, TLS, answer.

``check`` has ``url``, and where they are needed ``ca_file`` (PEM; else the system's trust), ``key_file`` (the key's
first line) and ``timeout_s``. Only the one address is asked: no proxy is used, no redirect followed.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from pathlib import Path
from typing import Any, Optional
from urllib.parse import SplitResult, urlsplit

from hostkit import causes, login
from hostkit.causes import Fault
from hostkit.mask import mask

CONNECT_S = 5.0
ANSWER_S = 60.0


def headers(check: dict[str, Any]) -> dict[str, str]:
    """What every question says beside itself; the key comes from a file on this host, never from the request."""
    found = {"Content-Type": "application/json"}
    if check.get("key_file"):
        lines = Path(check["key_file"]).read_text(encoding="utf-8").split("\n")  # below it: the one before it
        found["Authorization"] = f"Bearer {lines[0].strip()}"
    return found


def trust(check: dict[str, Any]) -> ssl.SSLContext:
    """Certificates are always verified, and the name in them."""
    file = check.get("ca_file")
    return ssl.create_default_context(cafile=file) if file else login.trust()


def address(url: str) -> tuple[SplitResult, str, int]:
    """Parts of an address, its host, and its port."""
    parts = urlsplit(url)
    return parts, str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80)


def dial(check: dict[str, Any], context: Optional[ssl.SSLContext] = None) -> http.client.HTTPConnection:
    """A connection that is up, with TLS where the address says so. Raises ``Fault``, or OSError for a missing file."""
    url = check["url"]
    parts, host, port = address(url)
    limit = float(check.get("timeout_s", ANSWER_S))
    secure = parts.scheme == "https"
    context = context or (trust(check) if secure else None)
    try:
        raw = socket.create_connection((host, port), timeout=min(CONNECT_S, limit))
    except OSError as error:
        raise causes.of_connection(url, error) from error
    try:
        line = context.wrap_socket(raw, server_hostname=host) if secure and context else raw
    except OSError as error:
        raw.close()
        raise causes.of_tls(url, host, error) from error
    line.settimeout(limit)
    connection = http.client.HTTPConnection(host, port, timeout=limit)
    connection.sock = line
    return connection


def answer(check: dict[str, Any], path: str, body: Optional[bytes], said: dict[str, str]) -> tuple[int, bytes]:
    """Status and content of what came back; POST where there is a body."""
    connection = dial(check)
    try:
        connection.request("GET" if body is None else "POST", path, body, said)
        got = connection.getresponse()
        status = got.status
        try:
            return status, got.read()
        except (OSError, http.client.HTTPException) as error:
            if status == 200:
                raise broken(check["url"], error) from error
            return status, b"(its answer broke off)"
    except (OSError, http.client.HTTPException) as error:
        raise broken(check["url"], error) from error
    finally:
        connection.close()


def broken(where: str, error: Exception) -> Fault:
    """Why a connection that was up gave no whole answer."""
    if isinstance(error, (socket.timeout, TimeoutError)):
        return Fault("LW-PROBE-027", f"{where} did not answer in time; it took the request, and hangs or is busy")
    if isinstance(error, http.client.BadStatusLine) and not isinstance(error, http.client.RemoteDisconnected):
        return Fault(causes.OTHER, f"{where} speaks no HTTP ({mask(str(error)[:80])})")
    if isinstance(error, ssl.SSLError) and "ALERT" in str(error.reason):
        # With TLS 1.3 the other side may refuse after our part of the handshake is done.
        return Fault("LW-PROBE-019", f"{where} broke off the TLS handshake ({error.reason})")
    return Fault("LW-PROBE-035", f"{where} broke off in the middle of its answer ({type(error).__name__}: {error})")


def ask(check: dict[str, Any], path: str, body: Optional[dict[str, Any]] = None, post: bool = False) -> bytes:
    """The content of a good answer; anything else is a ``Fault``."""
    data = json.dumps(body).encode() if body is not None else (b"" if post else None)
    status, content = answer(check, path, data, headers(check))
    if status != 200:
        raise causes.of_answer(check["url"] + path, status, content, str(check.get("model", "")))
    return content
