"""Verb ``ship``: leave this very program on the host as one file, for services that probe before and after their start.

Request: ``path`` (the file), ``state``; for another program than this one ``file`` (as for ``fetch``) and ``store``.
Answer (``data``): ``path``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostkit
from hostkit import place
from hostkit.fetch import discard, fetch, sha256_of
from hostkit.result import Problem, Result


def run(request: dict[str, Any], check: bool) -> Result:
    """Write the archive that this program was loaded from, or the given file, or remove it."""
    target = Path(request["path"])
    before = f"{target} {sha256_of(target)[:12]}\n" if target.is_file() else ""
    if request.get("state", "present") == "absent":
        if before and not check:
            place.discard(target)
        return Result(changed=bool(before), before=before, data={"path": str(target)})
    file = request.get("file")
    after = f"{target} {(file['sha256'] if file else sha256_of(own()))[:12]}\n"
    if before != after and not check:
        source = fetch(Path(request["store"]), file) if file else own()
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        part.write_bytes(source.read_bytes())
        part.chmod(0o644)
        place.put(part, target)
        if file:
            discard(Path(request["store"]), [file])
    return Result(changed=before != after, before=before, after=after, data={"path": str(target)})


def own() -> Path:
    """The archive that this program was loaded from."""
    archive = Path(str(getattr(hostkit.__loader__, "archive", "")))
    if not archive.is_file():
        raise Problem("LW-HOSTKIT-004", "hostkit was not started from its archive; run it through the action plugin.")
    return archive
