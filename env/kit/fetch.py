"""Fetch one file from the first address that answers, checked by its sum before it gets its name."""

from __future__ import annotations

import hashlib
import netrc
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from hostkit import login
from kit.files import BLOCK, digest_of
from kit.problem import Problem


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
    return str(getattr(error, "reason", None) or error) or type(error).__name__


def answers(url: str, timeout: float) -> str:
    """Return "" when an address answers within `timeout` seconds, else the reason in words."""
    try:
        with login.opened(url, timeout) as response:
            response.read(1)
    except (OSError, ValueError) as error:
        return reason_of(url, error)
    return ""


def fetch(urls: Sequence[str], target: Path, sha256: str, hint: str = "", timeout: float = 60) -> Path:
    """Return `target`, fetched unless it is there with this sum; nothing with another sum ever gets the name.

    An empty sum means that none is known: then what the first address gives is taken, once.
    """
    if target.is_file() and sha256 in ("", digest_of(target)):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    tried = []
    for url in urls:
        digest = hashlib.sha256()
        try:
            with login.opened(url, timeout) as response, partial.open("wb") as stream:
                while block := response.read(BLOCK):
                    digest.update(block)
                    stream.write(block)
        except (OSError, ValueError) as error:
            tried.append(f"{url}: {reason_of(url, error)}")
            continue
        if sha256 in ("", digest.hexdigest()):
            shutil.move(partial, target)
            return target
        tried.append(f"{url}: sha256 {digest.hexdigest()}, expected {sha256}")
    partial.unlink(missing_ok=True)
    raise Problem(
        f"LW-BUNDLE-030: {target.name} could not be fetched. {'; '.join(tried) or 'It has no source.'}. "
        f"Is it reachable from here? A mirror is set with lab_mirrors.{hint}"
    )
