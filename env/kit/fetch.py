"""Fetch one file from the first address that has it, checked by all that is known of it before it gets its name.

The transfer itself is hostkit's, which goes on where one broke and knows a file that ended too early.
"""

from __future__ import annotations

import errno
import http.client
import netrc
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hostkit import login
from hostkit.fetch import Wrong, download
from kit.files import digest_of
from kit.problem import Problem

# Errors of this machine's own disk, which no other address cures.
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}
PAUSES_S = (1, 2, 4, 0)


def mirrored(url: str, prefix: str, mirror: str) -> str:
    """Return an address with its well-known beginning replaced by a mirror's; unchanged where no mirror is given."""
    if not mirror or not url.startswith(prefix):
        return url
    return mirror.rstrip("/") + "/" + url.removeprefix(prefix).lstrip("/")


def logins() -> dict[str, dict[str, str]]:
    """Return the logins of the netrc file that pip reads too ($NETRC, else ~/.netrc); none where there is none."""
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        hosts = netrc.netrc(path).hosts if path.is_file() else {}
    except (OSError, netrc.NetrcParseError) as error:
        # Not the parser's own words, which may quote a password.
        why = f"line {error.lineno}" if isinstance(error, netrc.NetrcParseError) else str(error.strerror)
        raise Problem(
            f"LW-BUNDLE-031: {path} is no netrc file that can be used ({why}); expected lines `machine HOST login USER "
            "password PASSWORD`. Mend it, or name another one with NETRC."
        ) from None
    found = {host: (user, password) for host, (user, _account, password) in hosts.items() if host != "default"}
    return {host: {"user": user, "password": password or ""} for host, (user, password) in found.items()}


def reason_of(url: str, error: Exception) -> str:
    """Return why an address gave nothing, in words."""
    if getattr(error, "code", None) == 401:
        return f"401, it wants a login: set lab_mirror_credentials for {login.host_of(url)}, or a netrc file (NETRC)"
    if isinstance(error, http.client.IncompleteRead):
        return "the transfer broke off"
    return str(getattr(error, "reason", None) or error) or type(error).__name__


def answers(url: str, timeout: float) -> str:
    """Return "" when an address answers within `timeout` seconds, else the reason in words."""
    try:
        with login.opened(url, timeout) as response:
            response.read(1)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return reason_of(url, error)
    return ""


def brought(url: str, partial: Path) -> str:
    """Download into `partial`, going on where a transfer broke while each try brings something; why not, in words."""
    for pause in PAUSES_S:
        before = size_of(partial)
        try:
            download(url, partial)
        except Wrong as error:  # longer than any file of a bundle
            partial.unlink()
            return str(error)
        except (OSError, ValueError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in DISK:
                raise
            if not pause or size_of(partial) <= before:
                return reason_of(url, error)
            time.sleep(pause)
        else:
            break
    return ""


def size_of(path: Path) -> int:
    """Return how many bytes a file has; 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def tried(url: str, partial: Path, fault: Callable[[Path], str]) -> str:
    """Bring a file from one address; return "" when it is as expected, else why not. Only what breaks off is kept."""
    resumed = partial.exists()
    if resumed and not fault(partial):
        return ""
    if reason := brought(url, partial):
        return reason
    if reason := fault(partial):
        partial.unlink()
        # The piece that was there may have been of another file.
        return tried(url, partial, fault) if resumed else reason
    return ""


def fetch(urls: Sequence[str], target: Path, sha256: str, hint: str = "", *, size: int = 0, git_sha1: str = "") -> Path:
    """Return `target`, fetched unless it is there as expected; nothing else ever gets the name.

    Empty, or 0, is what is not known. Where no sum is, what the first address gives whole is taken, once, and a piece
    of another run or address is not gone on with: nothing would tell what the two make together.
    """

    def fault(path: Path) -> str:
        found = path.stat().st_size
        if size and found != size:
            return f"{found} bytes, expected {size}"
        for name, wanted, head in (("sha256", sha256, b""), ("sha1", git_sha1, b"blob %d\0" % found)):
            if wanted and (digest := digest_of(path, name, head)) != wanted:
                return f"{name} {digest}, expected {wanted}"
        return ""

    if target.is_file() and not fault(target):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    reasons = []
    for url in urls:
        if not (sha256 or git_sha1):
            partial.unlink(missing_ok=True)
        reason = tried(url, partial, fault)
        if not reason:
            partial.replace(target)
            return target
        reasons.append(f"{url}: {reason}")
    if not (sha256 or git_sha1):
        partial.unlink(missing_ok=True)
    came = size_of(partial)
    kept = f" The {came} bytes that came are kept; run it again to go on." if came else ""
    raise Problem(
        f"LW-BUNDLE-030: {target.name} could not be fetched. {'; '.join(reasons) or 'It has no source.'}.{kept} "
        f"Is it reachable from here? A mirror is set with lab_mirrors.{hint}"
    )
