"""The folder of the lab's secrets on the control node (`lab_secrets_dir`): private, each file whole or not there.

Two runs, and the hosts of one run, take turns (``opened``). In check mode nothing is written: what would be kept is
handed out for as long as the task lasts.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from labwright.words import Refused, finding


class Safe:
    """The open folder: what is in it, and what was put into it since it was opened."""

    def __init__(self, folder: Path, check: bool = False) -> None:
        """``check`` keeps what is put away from the disk."""
        self.folder = folder
        self.check = check
        self.put_here: dict[str, bytes] = {}

    def get(self, name: str) -> bytes | None:
        """A file's contents; None where there is none."""
        if name in self.put_here:
            return self.put_here[name]
        path = self.folder / name
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise refused(path, error) from error

    def put(self, name: str, data: bytes) -> None:
        """Keep a file, in one step, readable by its owner alone."""
        self.put_here[name] = data
        if self.check:
            return
        path = self.folder / name
        beside = path.with_name(f".{path.name}.new")
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            beside.unlink(missing_ok=True)
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError as error:
            raise refused(path, error) from error

    def since(self, name: str) -> datetime | None:
        """When a file was last put here."""
        path = self.folder / name
        return datetime.fromtimestamp(path.stat().st_mtime, UTC) if path.exists() else None


@contextmanager
def opened(folder: Path, check: bool = False) -> Iterator[Safe]:
    """The folder, made where it is not there, and nobody else's until it is closed."""
    if check:
        yield Safe(folder, check)
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in (folder, *folder.rglob("*")):
            if path.stat().st_mode & 0o077:
                path.chmod(0o700 if path.is_dir() else 0o600)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise refused(folder, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Safe(folder)
    finally:
        os.close(lock)


def refused(path: Path, error: OSError) -> Refused:
    """The folder is not ours to read or write."""
    return Refused(finding("LW-KEYS-002", path=str(path), why=error.strerror or str(error)))
