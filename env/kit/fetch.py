"""Fetch one file from the first address that answers, checked by its sum before it gets its name."""

from __future__ import annotations

import hashlib
import shutil
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from kit.files import BLOCK, digest_of
from kit.problem import Problem


def mirrored(url: str, prefix: str, mirror: str) -> str:
    """Return an address with its well-known beginning replaced by a mirror's; unchanged where no mirror is given."""
    if not mirror or not url.startswith(prefix):
        return url
    return mirror.rstrip("/") + "/" + url.removeprefix(prefix).lstrip("/")


def answers(url: str, timeout: float) -> str:
    """Return "" when an address answers within `timeout` seconds, else the reason in words."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as response:
            response.read(1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None)
        return str(reason or error) or type(error).__name__
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
            with urllib.request.urlopen(url, timeout=timeout) as response, partial.open("wb") as stream:
                while block := response.read(BLOCK):
                    digest.update(block)
                    stream.write(block)
        except (OSError, ValueError) as error:
            tried.append(f"{url}: {getattr(error, 'reason', None) or error}")
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
