"""Take one file from where the plan says, whole and unchanged, or not at all.

A file goes to a store on the host, under its own sha256, first as ``*.part``; it gets its real name only after its
sum was compared with the plan's. So a name in the store can be trusted, and an interrupted download goes on where it
stopped. A file with ``member`` is one file of the zip archive (a wheel is one) at its address; name and sum are the
member's.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path
from typing import Any, Optional

from hostkit import login, place
from hostkit.result import Problem

CHUNK = 1 << 20
BLOCK = 1 << 16
ATTEMPTS = 4
TIMEOUT_S = 60
SLOWEST = 10_000  # bytes a second, over all of a download: below that a server keeps a run waiting for days
LONGEST = 32 << 30  # bytes, of a file whose size nobody knows: eight times the longest of the catalogue
LONGEST_MEMBER = 16 << 20  # bytes; the one that is taken out of an archive today has 0.3 million
FULL = (errno.ENOSPC, errno.EDQUOT)


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
            return bring(url, target, file)
        except Problem as problem:
            if problem.code == "LW-FETCH-004":
                raise
            causes.append(problem)
    raise Problem(causes[0].code, " Then: ".join(cause.message for cause in causes)) from causes[0]


class Wrong(Exception):
    """What came is not what was planned, whatever its sum."""


def bring(url: str, target: Path, file: dict[str, Any]) -> Path:
    """The file at one address under its real name, if it is the one with this sum."""
    part = target.with_name(target.name + ".part")
    resumed, sha256, member = part.exists(), str(file["sha256"]), file.get("member")
    size = 0 if member else int(file.get("size") or 0)  # an archive's is not known, only its member's sum
    try:
        if not (resumed and size == part.stat().st_size):  # else a run was stopped while it took the sum
            insist(url, part, size)
        if member:
            take_out(part, str(member))
        found = sha256_of(part)
    except Wrong as error:
        found = " ".join(("unknown, for", *error.args))
    except OSError as error:
        if error.errno in FULL:
            words = f"{target.parent}: {error.strerror}, at {target.name}. Make room, or set lab_root and lab_store"
            raise Problem("LW-FETCH-004", f"{words} to folders on a larger disk.") from error
        raise
    if found != sha256:
        part.unlink(missing_ok=True)
        if resumed:  # the piece that was there may have been bad, as after a loss of power
            return bring(url, target, file)
        raise Problem(
            "LW-FETCH-003",
            f"{target.name} is not the file that was planned: sha256 {found}, expected {sha256} "
            f"(from {url}). Nothing of it was kept. Make the bundle again with "
            f"`ansible-playbook playbooks/bundle.yml`, or mend the mirror.",
        )
    place.put(part, target)
    return target


def insist(url: str, part: Path, size: int) -> None:
    """Download, and again where that may help. A full disk is no server's fault, and is raised as it is."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            download(url, part, size)
            return
        except urllib.error.HTTPError as error:
            if error.code == 401:
                raise Problem("LW-FETCH-005", f"{url}: {wants_login(url)}") from error
            if error.code in (403, 404, 410) or attempt == ATTEMPTS:
                raise Problem("LW-FETCH-001", f"{url}: the server answered {error.code} {error.reason}.") from error
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) in FULL:
                raise
            if attempt == ATTEMPTS:
                raise Problem(
                    "LW-FETCH-002",
                    f"{url}: {error}. Can this host reach the server? Set lab_bundle_url or lab_mirrors.",
                ) from error
        time.sleep(2 ** (attempt - 1))


def take_out(part: Path, member: str) -> None:
    """Put the member of an archive in the archive's place."""
    inner = part.with_name(part.name + ".member")
    try:
        with zipfile.ZipFile(part) as pack, pack.open(member) as source, inner.open("wb") as out:
            if pack.getinfo(member).file_size > LONGEST_MEMBER:  # more than it says is never read
                raise ValueError(f"it is longer than {LONGEST_MEMBER} bytes")
            shutil.copyfileobj(source, out, CHUNK)
    except Exception as error:  # zipfile, zlib, struct, lzma and bz2 each raise errors of their own
        if getattr(error, "errno", None):  # the disk's, and not the archive's
            raise
        raise Wrong(f"{member} cannot be read in it ({error})") from error
    else:
        place.put(inner, part)
    finally:
        inner.unlink(missing_ok=True)


def wants_login(url: str) -> str:
    """What to do about a server that answered 401."""
    host = login.host_of(url)
    found = "refuses the login that is set for it" if login.header(url) else "asks for a login, and none is set for it"
    return f"{host} {found} (401). Set user and password of {host} in lab_mirror_credentials, from the vault."


def download(url: str, part: Path, size: int = 0) -> None:
    """Fetch ``url`` into ``part``, going on behind what is there when the server can do that.

    Raises ``Wrong`` for more than ``size`` bytes (0: nobody knows), TimeoutError where the rest would take for ever.
    """
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = login.opened(request, TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if number(str(error.headers.get("Content-Range", "")).rpartition("/")[2]) == have:
            return  # there is no more of it
        part.unlink()  # longer than the server's file: what is there is of another file
        response = login.opened(url, TIMEOUT_S)
    with response:
        resumed = getattr(response, "status", None) == 206
        most = (size or LONGEST) - (have if resumed else 0)
        too_long = Wrong(f"it is longer than {size or LONGEST} bytes")
        expected, got, begun = number(response.headers.get("Content-Length")), 0, time.monotonic()
        if (expected or 0) > most:
            raise too_long
        end = most + 1 if expected is None else expected
        with part.open("ab" if resumed else "wb") as out:
            block = b"-"
            while block and got < end:
                block = response.read1(min(BLOCK, end - got))  # what has come; read would wait for a whole block
                out.write(block)
                got += len(block)
                if block and got < end and time.monotonic() - begun > TIMEOUT_S + got / SLOWEST:
                    raise TimeoutError(f"slower than {SLOWEST} bytes a second")
    if got > most:
        raise too_long
    if expected is not None and got != expected:
        raise http.client.IncompleteRead(b"", expected - got)


def number(text: Optional[str]) -> Optional[int]:
    """A length, where it is one."""
    return int(text) if text and text.isdigit() else None


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
