"""Verb ``sweep``: remove folders of ours that are empty; one with anything in it stays, and is named.

Request: ``folders``. Empty folders inside them go too. A link and a disk's own folder stay as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hostkit import place
from hostkit.result import Result


def run(request: dict[str, Any], check: bool) -> Result:
    """Remove what is empty, from the leaves up."""
    gone: list[str] = []
    kept: list[str] = []
    for name in request["folders"]:
        folder = Path(name)
        if not place.removable(folder):
            continue
        if any(not path.is_dir() or place.is_link(path) for path in folder.rglob("*")):
            kept.append(name)
            continue
        gone.append(name)
        if not check:
            for path in sorted(folder.rglob("*"), reverse=True):
                path.rmdir()
            folder.rmdir()
    words = f"not empty, kept: {', '.join(kept)}" if kept else ""
    return Result(changed=bool(gone), message=words, before="".join(f"{name}\n" for name in gone), data={"kept": kept})
