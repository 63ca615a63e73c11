"""Verb ``take``: bring the files that this host will need into its store, before its software is changed.

Request: ``store``; ``installers`` (files, each with ``unless``: a stamp file that holds the sum of what is installed
already); ``tools`` (files, each with the ``path`` at which the verb ``ship`` will leave it); ``environments`` and
``models``: the requests that the verbs ``env`` and ``model`` will get later. What is there already is not fetched. A
file that is not the one planned ends the run here, with its name, while the host is as it was.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from hostkit import env, fetch, model, place
from hostkit.result import Problem, Result

# An environment takes this many times the size of its files: measured 4.6 for the demo's (1228 of 264 MiB), rounded up.
UNPACKED = 5
TAKEN = re.compile(r"(\.gone-)?[0-9a-f]{16}")  # what fetch.stored calls its folders, and an interrupted removal


def run(request: dict[str, Any], check: bool) -> Result:
    """Fetch and verify, or say what would be fetched."""
    store = Path(request["store"])
    if request.get("state", "present") == "absent":
        return forget(store, check)
    files = needed(request)
    missing = [file for file in files if not fetch.stored(store, file).is_file()]
    size = sum(outstanding(store, file) for file in missing)
    folders = [Path(one["prefix"]) for one in request.get("environments", [])] or [store]
    weights = {file["sha256"] for one in request.get("models", []) for file in one["files"]}
    unpacked = sum(int(file.get("size") or 0) * (1 if file["sha256"] in weights else UNPACKED) for file in files)
    room([(store, size), (folders[0], unpacked)])
    result = Result(
        changed=bool(missing),
        message=f"{len(missing)} of {len(files)} needed files to take, {size / 1e6:.0f} MB",
        after="".join(f"{fetch.name_of(file)}\n" for file in missing),
        data={"files": len(files), "bytes": size},
    )
    if not check:
        for file in files:
            fetch.fetch(store, file)
    return result


def outstanding(store: Path, file: dict[str, Any]) -> int:
    """Bytes of a file that are still to come: a download that broke goes on where it stopped."""
    target = fetch.stored(store, file)
    part = target.with_name(target.name + ".part")
    return max(0, int(file.get("size") or 0) - (part.stat().st_size if part.exists() else 0))


def needed(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Files that are still wanted on this host, each once."""
    files = [file for file in request.get("installers", []) if not installed(file)]
    files += [file for file in request.get("tools", []) if not shipped(file)]
    for environment in request.get("environments", []):
        for layer in env.look(environment).todo:
            files += env.files_of(layer)
    for one in request.get("models", []):
        files += model.missing(one)
    return list({(file["sha256"], fetch.name_of(file)): file for file in files}.values())


def installed(file: dict[str, Any]) -> bool:
    """True where the stamp says that this very installer has done its work."""
    try:
        return Path(file["unless"]).read_text(encoding="utf-8").strip() == str(file["sha256"])
    except OSError:
        return False


def shipped(file: dict[str, Any]) -> bool:
    """True where a tool is in its place already."""
    path = Path(file["path"])
    return path.is_file() and fetch.sha256_of(path) == file["sha256"]


def room(needs: list[tuple[Path, int]]) -> None:
    """Refuse early when downloads and what is made of them would not fit; ``needs`` are folders with bytes."""
    by_disk: dict[int, tuple[Path, int]] = {}
    for folder, size in needs:
        there = next(path for path in (folder, *folder.parents) if path.exists())
        disk = there.stat().st_dev
        by_disk[disk] = (there, size + by_disk.get(disk, (there, 0))[1])
    for there, size in by_disk.values():
        free = shutil.disk_usage(there).free
        if size > free:
            raise Problem(
                "LW-FETCH-004",
                f"{there} has {free / 1e6:.0f} MB free, and {size / 1e6:.0f} MB are needed there, downloads and what "
                f"is made of them together. Make room, or set lab_root and lab_store to folders on a larger disk.",
            )


def forget(store: Path, check: bool) -> Result:
    """Remove what was taken, by the names that it has in the store, and the store if nothing else is in it."""
    inside = sorted(store.iterdir()) if store.is_dir() else []
    ours = [path for path in inside if TAKEN.fullmatch(path.name) and path.is_dir() and not place.is_link(path)]
    if not check:
        place.discard_folders(ours)
        place.leave(store)
    return Result(
        changed=bool(ours),
        message=f"{store}: {len(ours)} of {len(inside)} removed",
        before="".join(f"{path}\n" for path in ours),
    )
