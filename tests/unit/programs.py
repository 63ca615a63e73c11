"""Programs that a test puts in the place of others, as scripts of sh."""

from __future__ import annotations

from pathlib import Path


def program(folder: Path, name: str, *lines: str) -> Path:
    """A program of this name that does this."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    path.chmod(0o755)
    return path
