"""Take one file from where the plan says, whole and unchanged, or not at all.

A file goes to a store on the host, under its own sha256, first as ``*.part``; it gets its real name only after its
sum was compared with the plan's. So a name in the store can be trusted, and an interrupted download goes on where it
stopped. A file with ``member`` is one file of the zip archive (a wheel is one) at its address; name and sum are the
member's.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

from hostkit import login, place
from hostkit.result import Problem

CHUNK = 1 << 20
ATTEMPTS = 4
TIMEOUT_S = 60


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(CHUNK), b""):
            digest.update(block)
    return digest.hexdigest()


def name_of(file: dict[str, Any]) -> str:
    """The file's own name: given, or the last part of its address."""
    return str(file.get("name") or urllib.parse.unquote(file["url"].rsplit("/", 1)[1]))


def stored(store: Path, file: dict[str, Any]) -> Path:
    """Where the store keeps this file. The sum is in the path, so two files of one name never meet."""
    return store / str(file["sha256"])[:16] / name_of(file)


def fetch(store: Path, file: dict[str, Any]) -> Path:
    """Bring ``file`` (url, sha256; at will size, member, ``more`` addresses of the same) into the store; its path."""
    target = stored(store, file)
    if target.is_file() and sha256_of(target) == file["sha256"]:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    causes = []
    for url in (file["url"], *file.get("more", ())):
        try:
            return bring(url, target, str(file["sha256"]), str(file.get("member") or ""))
        except Problem as problem:
            causes.append(problem)
    raise Problem(causes[0].code, " Then: ".join(cause.message for cause in causes)) from causes[0]


def bring(url: str, target: Path, sha256: str, member: str = "") -> Path:
    """The file at one address under its real name, if it is the one with this sum."""
    part = target.with_name(target.name + ".part")
    resumed = part.exists()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            download(url, part)
            break
        except urllib.error.HTTPError as error:
            if error.code == 401:
                raise Problem("LW-FETCH-005", f"{url}: {wants_login(url)}") from error
            if error.code in (403, 404, 410) or attempt == ATTEMPTS:
                raise Problem("LW-FETCH-001", f"{url}: the server answered {error.code} {error.reason}.") from error
        except (OSError, http.client.HTTPException) as error:
            if attempt == ATTEMPTS:
                raise Problem(
                    "LW-FETCH-002",
                    f"{url}: {error}. Can this host reach the server? Set lab_bundle_url or lab_mirrors.",
                ) from error
        time.sleep(2 ** (attempt - 1))
    found = (taken_out(part, member) if member else "") or sha256_of(part)
    if found != sha256:
        part.unlink()
        if resumed:  # the piece that was there may have been bad, as after a loss of power
            return bring(url, target, sha256, member)
        raise Problem(
            "LW-FETCH-003",
            f"{target.name} is not the file that was planned: sha256 {found}, expected {sha256} "
            f"(from {url}). Nothing of it was kept. Make the bundle again with "
            f"`ansible-playbook playbooks/bundle.yml`, or mend the mirror.",
        )
    place.put(part, target)
    return target


def taken_out(part: Path, member: str) -> str:
    """Put the member of an archive in the archive's place; what is wrong, "" where nothing is."""
    inner = part.with_name(part.name + ".member")
    try:
        with zipfile.ZipFile(part) as pack, pack.open(member) as source, inner.open("wb") as out:
            shutil.copyfileobj(source, out, CHUNK)
    except (zipfile.BadZipFile, KeyError):
        return f"unknown, for there is no {member} in it"
    place.put(inner, part)
    return ""


def wants_login(url: str) -> str:
    """What to do about a server that answered 401."""
    host = login.host_of(url)
    found = "refuses the login that is set for it" if login.header(url) else "asks for a login, and none is set for it"
    return f"{host} {found} (401). Set user and password of {host} in lab_mirror_credentials, from the vault."


def download(url: str, part: Path) -> None:
    """Fetch ``url`` into ``part``, going on behind what is there when the server can do that."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = login.opened(request, TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        part.unlink()  # longer than the server's file: what is there is of another file
        response = login.opened(url, TIMEOUT_S)
    with response:
        resumed = getattr(response, "status", None) == 206
        with part.open("ab" if resumed else "wb") as out:
            expected = response.headers.get("Content-Length")
            got = 0
            for block in iter(lambda: response.read(CHUNK), b""):
                out.write(block)
                got += len(block)
    if expected is not None and got != int(expected):
        raise http.client.IncompleteRead(b"", int(expected) - got)


def discard(store: Path, files: list[dict[str, Any]]) -> None:
    """Forget files that have been used: what was made of them carries its own stamp."""
    for file in files:
        target = stored(store, file)
        target.unlink(missing_ok=True)
        target.with_name(target.name + ".part").unlink(missing_ok=True)
        try:
            target.parent.rmdir()
        except OSError:
            continue
