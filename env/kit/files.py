"""Files by their sums: hashing, and writing so that a reader never sees half a file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

BLOCK = 1 << 20


def digest_of(path: Path, algorithm: str = "sha256", head: bytes = b"") -> str:
    """Return the hexadecimal digest of a file's bytes, or of `head` and them."""
    digest = hashlib.new(algorithm, head)
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def digests_of(paths: Iterable[Path]) -> dict[Path, str]:
    """Return the sha256 of many files; hashlib lets go of the interpreter lock, so threads help."""
    found = list(paths)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return dict(zip(found, pool.map(digest_of, found), strict=True))


def text_digest(*parts: str | bytes) -> str:
    """Return the sha256 over several texts, each with its length, so that no two lists of parts look the same."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(f"{len(data)}\0".encode() + data)
    return digest.hexdigest()


def write_whole(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write under another name, then rename: the real name never holds half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(data)
    partial.chmod(mode)
    partial.replace(path)


def copy_whole(source: Path, target: Path) -> None:
    """Copy like write_whole. A copy, not a hard link: a byte changed in the bundle must not change the cache too."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    shutil.copyfile(source, partial)
    partial.chmod(0o644)
    partial.replace(target)


def as_json(value: Any) -> bytes:
    """Return JSON that is the same for the same value: sorted keys, two spaces, a last newline."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def files_under(folder: Path) -> list[str]:
    """Return the relative names of all files (and links) under a folder, sorted, with `/`."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_symlink() or not p.is_dir())
