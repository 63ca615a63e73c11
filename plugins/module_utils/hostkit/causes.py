"""Why a service did not answer as it should: causes with stable ids, and how each is told from what came back.

FastChat calls most of them "NETWORK ERROR DUE TO HIGH TRAFFIC". Here a cause is told from where an exchange ended
(name, connection, TLS, answer), from the ids in our own API's and gateway's sentences, from FastChat's codes, and from
the text. ``hostkit.cures`` has their words.
"""

from __future__ import annotations

import difflib
import errno
import json
import re
import socket
import ssl
from typing import Any

from hostkit.cures import CURES, ON_WINDOWS
from hostkit.mask import mask

OTHER = "LW-PROBE-033"
# The ids that our own API and gateway put before their sentences.
OF_ID = {
    "LW-API-001": "LW-PROBE-022",
    "LW-API-002": "LW-PROBE-011",
    "LW-API-003": "LW-PROBE-012",
    "LW-API-004": "LW-PROBE-013",
    "LW-API-005": "LW-PROBE-010",
    "LW-API-006": "LW-PROBE-024",
    "LW-API-007": "LW-PROBE-032",
    "LW-API-008": "LW-PROBE-027",
    "LW-API-009": "LW-PROBE-033",
    "LW-API-010": "LW-PROBE-032",
    "LW-API-011": "LW-PROBE-026",
    "LW-API-012": "LW-PROBE-033",
    "LW-API-013": "LW-PROBE-033",
    "LW-API-014": "LW-PROBE-033",
    "LW-GATEWAY-001": "LW-PROBE-014",
    "LW-GATEWAY-002": "LW-PROBE-018",
    "LW-GATEWAY-003": "LW-PROBE-033",
    "LW-GATEWAY-004": "LW-PROBE-033",
    "LW-GATEWAY-005": "LW-PROBE-024",
    "LW-GATEWAY-006": "LW-PROBE-025",
    "LW-GATEWAY-007": "LW-PROBE-026",
    "LW-GATEWAY-008": "LW-PROBE-027",
    "LW-GATEWAY-009": "LW-PROBE-014",
    "LW-GATEWAY-010": "LW-PROBE-033",
    "LW-GATEWAY-011": "LW-PROBE-033",
    "LW-GATEWAY-012": "LW-PROBE-042",
    "LW-GATEWAY-014": "LW-PROBE-033",
    "LW-SERVE-001": "LW-PROBE-023",
    "LW-SERVE-004": "LW-PROBE-012",
}
# FastChat's own codes (fastchat/constants.py, ErrorCode).
OF_CODE = {
    40101: "LW-PROBE-014",
    40102: "LW-PROBE-014",
    40103: "LW-PROBE-014",
    40301: "LW-PROBE-013",
    40303: "LW-PROBE-024",
    42901: "LW-PROBE-025",
    42902: "LW-PROBE-025",
    42903: "LW-PROBE-025",
    50001: "LW-PROBE-032",
    50002: "LW-PROBE-012",
    50004: "LW-PROBE-032",
    50005: "LW-PROBE-010",
    50006: "LW-PROBE-011",
}
OF_STATUS = {
    401: "LW-PROBE-014",
    403: "LW-PROBE-014",
    413: "LW-PROBE-024",
    429: "LW-PROBE-025",
    500: "LW-PROBE-032",
    502: "LW-PROBE-026",
    503: "LW-PROBE-026",
    504: "LW-PROBE-027",
}
OUT_OF_MEMORY = re.compile(r"CUDA out of memory|OutOfMemoryError", re.I)
PLAIN_TO_TLS = "plain HTTP request was sent to HTTPS port"  # nginx
OURS = re.compile(r"LW-[A-Z]+-\d{3}")
# OpenSSL's X509_V_ERR_*: not yet valid and expired; another host name, address.
DATES, NAMES = (9, 10), (62, 63, 64)
# What OpenSSL calls an answer in plain text: 1.1 and 3.0, 3.2 and later, and the other way round.
PLAIN = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST", "UNKNOWN_PROTOCOL")
NO_WAY = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM)
MOST_WORDS = 400


class Fault(Exception):
    """What is wrong, as a sentence, and its cause; "" leaves the cause to the kind of the check."""

    def __init__(self, cause: str, evidence: str) -> None:
        """``cause`` is an id of ``CURES``."""
        super().__init__(evidence)
        self.cause, self.evidence = cause, evidence


def cure(cause: str, unit: str = "", language: str = "en") -> str:
    """What to set or run. A unit of systemd has a suffix, one of Windows has none."""
    text = CURES[cause][language][1]
    if unit and not unit.endswith(".service"):
        for linux, windows in ON_WINDOWS.items():
            text = text.replace(linux, windows)
    return text.replace("UNIT", unit) if unit else text


def of_connection(where: str, error: OSError) -> Fault:
    """Why no connection came about."""
    if isinstance(error, ConnectionRefusedError):
        return Fault("LW-PROBE-020", f"nothing listens at {where}; is its service up?")
    if isinstance(error, socket.gaierror):
        return Fault("LW-PROBE-029", f"the name in {where} is not known here; set lab_address on that host")
    if isinstance(error, (socket.timeout, TimeoutError)):
        return Fault(
            "LW-PROBE-028", f"{where} did not take a connection in time; a firewall drops it, or the host is off"
        )
    if error.errno in NO_WAY:
        return Fault("LW-PROBE-028", f"no way leads to {where}: {error.strerror}")
    return Fault(OTHER, f"{where}: {error}")


def of_tls(where: str, host: str, error: OSError) -> Fault:
    """Why a connection came about, and no TLS over it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        said = f"the certificate of {where} is not accepted: {error.verify_message}"
        if error.verify_code in DATES:
            return Fault("LW-PROBE-016", said)
        if error.verify_code in NAMES:
            return Fault("LW-PROBE-017", f"{said}; it was asked for as {host}")
        return Fault("LW-PROBE-015", said)
    if isinstance(error, ssl.SSLError) and error.reason in PLAIN:
        return Fault("LW-PROBE-018", f"{where} speaks no TLS; plain HTTP, or another program, is there")
    if isinstance(error, (socket.timeout, TimeoutError)):
        return Fault("LW-PROBE-019", f"{where} took the connection, and did not answer the TLS handshake in time")
    words = getattr(error, "reason", None) or error.strerror or str(error) or type(error).__name__
    return Fault("LW-PROBE-019", f"{where} broke off the TLS handshake ({words})")


def of_answer(where: str, status: int, body: bytes, model: str = "") -> Fault:
    """Why an answer is a refusal; the message of our API, our gateway, FastChat or OpenAI's shape is shown as it is."""
    message, code = said(body)
    cause = of_words(message) or (OF_CODE.get(code) if isinstance(code, int) else None) or OF_STATUS.get(status)
    if cause is None and "does not exist" in message and model in message:
        cause = "LW-PROBE-013"  # another engine's words
    if cause == "LW-PROBE-013":
        names = names_in(message)
        if names == []:
            cause = "LW-PROBE-010"
        elif names:
            nearest = difflib.get_close_matches(model, names, n=len(names), cutoff=0.0)
            message += f" (there: {', '.join(nearest + sorted(set(names) - set(nearest)))}; the closest first)"
    cause = cause or OTHER
    code_words = f" (FastChat's code {code})" if isinstance(code, int) and code in OF_CODE else ""
    what = f" That means: {CURES[cause]['en'][0]}" if cause != OTHER and not OURS.match(message) else ""
    answered = f"{where} answered {status}" if status else f"{where} sent an error"
    return Fault(cause, mask(f"{answered}: {message}{code_words}{what}"))


def of_words(text: str) -> str | None:
    """The cause that a text says of itself; None where it says none."""
    if OUT_OF_MEMORY.search(text):
        return "LW-PROBE-012"
    if PLAIN_TO_TLS in text:
        return "LW-PROBE-018"
    return next((OF_ID[one] for one in OURS.findall(text) if one in OF_ID), None)


def said(body: bytes) -> tuple[str, Any]:
    """Message and code of an error: FastChat's shape, OpenAI's (also inside FastAPI's ``detail``), or plain text."""
    text = body.decode("utf-8", "replace")
    try:
        found = json.loads(text)
    except ValueError:
        return text.strip()[:MOST_WORDS], None
    for key in ("detail", "error"):
        if isinstance(found, dict) and isinstance(found.get(key), (dict, str)):
            found = found[key]
    if not isinstance(found, dict):
        return str(found)[:MOST_WORDS], None
    message = found.get("message") or found.get("text") or found.get("code") or found
    return str(message)[: 2 * MOST_WORDS], found.get("error_code", found.get("code"))


def names_in(message: str) -> list[str] | None:
    """The names in FastChat's "Only a&&b allowed now, your model c"; None where it is something else."""
    found = re.search(r"Only (.*?) ?allowed now", message)
    return [name.strip() for name in found[1].split("&&") if name.strip()] if found else None
