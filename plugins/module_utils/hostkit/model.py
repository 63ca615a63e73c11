"""Verb ``model``: the files of one model in one folder, each verified, none half-written under its real name.

Request: ``path`` (the folder), ``store``, ``state``, ``files`` (each ``path`` inside the folder, ``url``, ``sha256``,
``size``). A stamp in the folder remembers sum, size and time of each verified file, so that gigabytes are not hashed
at each run; a file whose size or time differs from the stamp is hashed again. The stamp also says whose the folder is:
somebody else's is neither written into nor removed. ``path`` may be the folder of all models when they are to go; with
``state: tidy`` it is, and ``planned`` are the requests for those that stay. Then the answer is ``gone``.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from hostkit import fetch, place, stamped
from hostkit.result import Problem, Result
from hostkit.state import STAMP

WHAT = "models"


def run(request: dict[str, Any], check: bool) -> Result:
    """Make the folder hold exactly the planned files, or remove it, or those in it that are planned no longer."""
    folder, wanted = Path(request["path"]), request.get("state", "present")
    if wanted == "absent":
        return stamped.remove(folder, WHAT, check)
    if wanted == "tidy":
        stamped.see_that_all_is_made([Path(one["path"]) for one in request["planned"] if missing(one)])
        return stamped.remove(folder, WHAT, check, [Path(one["path"]) for one in request["planned"]])
    lacking = missing(request)
    if not lacking:
        return Result(message=f"{folder.name}: {len(request['files'])} files, all as planned")
    result = Result(
        changed=True,
        message=f"{folder.name}: {len(lacking)} of {len(request['files'])} files to bring",
        after="".join(f"{folder / file['path']} {file['sha256'][:12]}\n" for file in lacking),
    )
    if not check:
        store = Path(request["store"])
        taken = [(file, fetch.fetch(store, file)) for file in lacking]
        if not stamped.is_ours(folder):  # first: what an interrupted run leaves is ours too
            place.write(folder / STAMP, "{}\n")
        for file, source in taken:
            put(source, folder / file["path"])
        remember(folder, request["files"])
        fetch.discard(store, lacking)
    return result


def missing(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Files of the request that are not in their place, as planned. Raises for a folder that is not ours to fill."""
    folder = Path(request["path"])
    stamp = stamps(folder)
    files = [{**file, "name": Path(file["path"]).name} for file in request["files"]]
    lacking = [file for file in files if not same(folder / file["path"], file["sha256"], stamp.get(file["path"]))]
    if lacking and folder.is_dir() and any(folder.iterdir()) and not stamped.is_ours(folder):
        raise Problem(
            "LW-MODEL-001",
            f"{folder} has files in it that Labwright did not bring, and not all of the planned ones; expected no "
            "folder, an empty one or the whole model. It is untouched. Move it elsewhere, or set lab_root to a folder "
            "of its own.",
        )
    return lacking


def same(path: Path, sha256: str, stamp: list[Any] | None) -> bool:
    """True where ``path`` is the file with this sum; asks the stamp first."""
    if not path.is_file():
        return False
    if stamp == fingerprint(path, sha256):
        return True
    return fetch.sha256_of(path) == sha256


def fingerprint(path: Path, sha256: str) -> list[Any]:
    """What the stamp remembers of a file: its sum, size in bytes, time of change in ns."""
    stat = path.stat()
    return [sha256, stat.st_size, stat.st_mtime_ns]


def stamps(folder: Path) -> dict[str, Any]:
    """The stamp of a folder, empty where there is none."""
    try:
        found = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def put(source: Path, target: Path) -> None:
    """Copy a verified file under its real name in one step, readable by the services."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    shutil.copyfile(source, part)
    part.chmod(0o644)
    place.put(part, target)


def remember(folder: Path, files: list[dict[str, Any]]) -> None:
    """Write the stamp; files of the folder that are in no plan stay where they are."""
    found = {file["path"]: fingerprint(folder / file["path"], file["sha256"]) for file in files}
    place.write(folder / STAMP, json.dumps(found, sort_keys=True) + "\n")
