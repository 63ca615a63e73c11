"""Verb ``mirrors``: ask mirrors whether they answer, and whether they hold what the locks need; fetches no file.

Request: ``timeout_s`` (how long one question may wait); ``mirrors``, each ``name``, ``probe`` (an address that must
answer), ``open`` (true: 401 is a good answer, as of a registry) and ``wants``. A want is ``id`` with ``files`` (each
``url``, ``more`` addresses of the same, ``size`` where known), or with ``indexes`` and ``pins`` (each ``name==version``
and the sums that the lock admits).
Answer (``data``): ``checks``, each ``id``, ``ok``, ``evidence``, ``latency_ms``.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from typing import Any, Optional

from hostkit import fetch, login
from hostkit.result import Result
from hostkit.state import canonical

TIMEOUT_S = 10.0
AT_ONCE = 8  # questions to one mirror
LONGEST_PAGE = 64 << 20  # bytes
NAMED = 5  # of what is lacking, in one line
ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
GONE = (404, 410)
RANKS = ("held", "named", "other", "absent")
SILENT = (OSError, http.client.HTTPException, ValueError)


def run(request: dict[str, Any], _check: bool) -> Result:
    """Ask all mirrors at once."""
    mirrors, timeout = request["mirrors"], float(request.get("timeout_s", TIMEOUT_S))
    with ThreadPoolExecutor(max_workers=max(1, len(mirrors))) as pool:
        rows = list(pool.map(lambda mirror: ask(mirror, timeout), mirrors))
    checks = [check for row in rows for check in row]
    good = sum(check["ok"] for check in checks)
    return Result(message=f"{good} of {len(checks)} checks passed", data={"checks": checks})


def ask(mirror: dict[str, Any], timeout: float) -> list[dict[str, Any]]:
    """One mirror's lines: whether it answers, and if so, each want."""
    begun = time.monotonic()
    trouble = silence(mirror, timeout)
    name = f"mirror.{mirror['name']}"
    first = line(f"{name}.answers", trouble, f"{mirror['probe']} answers", begun)
    if trouble:
        return [first]
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        wants = [want_of(f"{name}.{want['id']}", want, timeout, pool) for want in mirror["wants"]]
    return [first, *wants]


def line(identifier: str, trouble: str, good: str, begun: float) -> dict[str, Any]:
    """One line of the answer."""
    latency = round((time.monotonic() - begun) * 1000, 1)
    return {"id": identifier, "ok": not trouble, "evidence": login.hide(trouble or good), "latency_ms": latency}


def silence(mirror: dict[str, Any], timeout: float) -> str:
    """Why a mirror is of no use; "" where it answers. That one file is not there is no reason."""
    url = mirror["probe"]
    try:
        size_of(url, timeout)
    except urllib.error.HTTPError as error:
        if error.code == 401 and not mirror.get("open"):
            return f"LW-MIRROR-002: {url}: {fetch.wants_login(url)}"
        if error.code in (401, *GONE):
            return ""
        return f"LW-MIRROR-001: {url} answered {error.code} {error.reason}; expected a mirror. Set another lab_mirrors."
    except SILENT as error:
        why = getattr(error, "reason", None) or str(error) or type(error).__name__
        return f"LW-MIRROR-001: {url} does not answer within {timeout:g} s ({why}). Set another lab_mirrors."
    return ""


def want_of(identifier: str, want: dict[str, Any], timeout: float, pool: ThreadPoolExecutor) -> dict[str, Any]:
    """The line of one want: how many of its files are there, and which are not or are others."""
    begun = time.monotonic()
    if "files" in want:
        asked = pool.map(lambda file: (label(file), *file_state(file, timeout)), want["files"])
    else:
        asked = pool.map(lambda row: (row[0], *pin_state(row[0], row[1], want["indexes"], timeout)), want["pins"])
    found = list(asked)
    absent = [f"{name} ({why})" if why else name for name, state, why in found if state == "absent"]
    other = [f"{name} ({why})" for name, state, why in found if state == "other"]
    named = sum(state == "named" for _name, state, _why in found)
    count = f"{len(found) - len(absent) - len(other)} of {len(found)} are there"
    count += f", {named} of them by their names only: the index tells no sums" if named else ""
    trouble = [f"LW-MIRROR-003: not there: {some(absent)}."] if absent else []
    trouble += [f"LW-MIRROR-004: not the ones of the lock: {some(other)}."] if other else []
    advice = "Wait until the mirror has them, or set another one in lab_mirrors."
    return line(identifier, " ".join([*trouble, f"{count}.", advice]) if trouble else "", count, begun)


def label(file: dict[str, Any]) -> str:
    """What a file is called in a line."""
    return str(file.get("path") or fetch.name_of(file))


def some(names: list[str]) -> str:
    """The first of them, and how many more."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def file_state(file: dict[str, Any], timeout: float) -> tuple[str, str]:
    """Whether a file is there, at any address, as long as planned; its sum is only known when it is fetched."""
    states = []
    for url in (file["url"], *file.get("more", ())):
        states.append(at_address(url, int(file.get("size") or 0), timeout))
        if states[-1][0] == "held":
            break
    return best(states)


def at_address(url: str, expected: int, timeout: float) -> tuple[str, str]:
    """What is at one address."""
    try:
        size = size_of(url, timeout)
    except SILENT as error:
        code = getattr(error, "code", None)
        return "absent", "" if code in GONE else str(code or getattr(error, "reason", None) or error)
    if size is not None and expected and size != expected:
        return "other", f"{size} bytes, expected {expected}"
    return "held", ""


def best(states: list[tuple[str, str]]) -> tuple[str, str]:
    """Of several places the one that helps most."""
    return min(states, key=lambda state: (RANKS.index(state[0]), not state[1]))


def size_of(url: str, timeout: float) -> Optional[int]:
    """How long a file is, None where the server does not tell: by HEAD, else by asking for its first byte."""
    try:
        with login.opened(urllib.request.Request(url, method="HEAD"), timeout) as response:
            return fetch.number(response.headers.get("Content-Length"))
    except urllib.error.HTTPError as error:
        if error.code in (401, *GONE):
            raise
    with login.opened(urllib.request.Request(url, headers={"Range": "bytes=0-0"}), timeout) as response:
        if response.status == 206:
            return fetch.number(str(response.headers.get("Content-Range", "")).rpartition("/")[2])
        return fetch.number(response.headers.get("Content-Length"))


def pin_state(pin: str, sums: list[str], indexes: list[str], timeout: float) -> tuple[str, str]:
    """What the indexes have of one pinned package, the best of them."""
    states = []
    for index in indexes:
        states.append(in_index(pin, sums, index, timeout))
        if states[-1][0] == "held":
            break
    return best(states)


def in_index(pin: str, sums: list[str], index: str, timeout: float) -> tuple[str, str]:
    """What one index has of a pinned package: by its sum, else by the name of a file without one."""
    name, _, version = pin.partition("==")
    page = f"{index.rstrip('/')}/{canonical(name)}/"
    try:
        found = links(page, timeout)
    except (*SILENT, LookupError, TypeError, AttributeError) as error:
        code = getattr(error, "code", None)
        return "absent", "" if code in GONE else f"{page}: {code or getattr(error, 'reason', None) or error}"
    if any(one in sums for _file, one in found):
        return "held", ""
    files = [(file, one) for file, one in found if is_of(file, name, version)]
    if any(not one for _file, one in files):
        return "named", ""
    return ("other", f"{len(files)} files of that version, none with its sum") if files else ("absent", "")


def is_of(file: str, name: str, version: str) -> bool:
    """Whether a file's name says that it is of this package and version."""
    stem = file[: -len(".tar.gz")] if file.endswith(".tar.gz") else file.rpartition(".")[0]
    parts = stem.split("-") if file.endswith(".whl") else stem.rsplit("-", 1)
    return len(parts) > 1 and canonical(parts[0]) == canonical(name) and parts[1] == version


def links(page: str, timeout: float) -> list[tuple[str, str]]:
    """The files of an index's page, each with its sha256 or "": JSON (PEP 691) or HTML (PEP 503)."""
    with login.opened(urllib.request.Request(page, headers={"Accept": ACCEPT}), timeout) as response:
        kind, body = str(response.headers.get("Content-Type", "")), response.read(LONGEST_PAGE + 1)
    if len(body) > LONGEST_PAGE:
        raise ValueError(f"longer than {LONGEST_PAGE} bytes, so no page of an index")
    if "json" in kind:
        rows = json.loads(body)["files"]
        return [(str(row["filename"]), str(row.get("hashes", {}).get("sha256", ""))) for row in rows]
    reader = Links()
    reader.feed(body.decode("utf-8", "replace"))
    return reader.found


class Links(HTMLParser):
    """The links of a page, as file name and sha256."""

    def __init__(self) -> None:
        """Nothing is found yet."""
        super().__init__()
        self.found: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Optional[str]]]) -> None:
        """Take one link."""
        target = urllib.parse.urlsplit(dict(attrs).get("href") or "")
        name = urllib.parse.unquote(target.path.rpartition("/")[2])
        if tag == "a" and name:
            sum_ = target.fragment[len("sha256=") :] if target.fragment.startswith("sha256=") else ""
            self.found.append((name, sum_))
