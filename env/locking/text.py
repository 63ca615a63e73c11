"""The lock file's form: requirements with hashes, as pip reads them, and a head that says what they were made from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from labwright.catalog import entries_digest
from locking.problem import LockError
from locking.sources import Source

DIGEST_LINE = re.compile(r"^# inputs-sha256: ([0-9a-f]{64})$", re.MULTILINE)
ADDRESS = re.compile(r"https?://|file:|^\s*--?(i|index-url|extra-index-url|find-links|f)\b|\s@\s", re.MULTILINE)
HASH = re.compile(r"^[0-9a-f]{64}$")


@dataclass(frozen=True)
class Package:
    """One entry of a lock: canonical name, version, environment marker (may be empty), sha256 of its usable wheels.

    `origin` says where the sums come from when not from the package index; `metadata` is where the index tells a
    wheel's own metadata, while a lock is being made.
    """

    name: str
    version: str
    marker: str = ""
    hashes: tuple[str, ...] = ()
    origin: str = ""
    metadata: str = ""

    def render(self) -> str:
        """The entry as pip reads it in hash mode."""
        comment = f"# The sum of the next one: {self.origin}\n" if self.origin else ""
        marker = f" ; {self.marker}" if self.marker else ""
        head = f"{self.name}=={self.version}{marker}"
        return comment + " \\\n    ".join([head, *(f"--hash=sha256:{one}" for one in self.hashes)])


def render(source: Source, packages: Iterable[Package]) -> str:
    """A lock file's text. Nothing in it depends on where and when it was made."""
    entries = "".join(f"{package.render()}\n" for package in sorted(packages, key=lambda one: one.name))
    head = (
        f"# Made by env/lock.py from {source.name}'s {', '.join(source.inputs)} as of {source.as_of()}; "
        "not edited by hand.\n"
        f"# inputs-sha256: {source.digest()}\n"
        f"# entries-sha256: {entries_digest(entries)}\n"
        "# Sums are the package index's, where no other origin is named.\n"
    )
    return head + entries


def read(text: str) -> list[Package]:
    """A lock file's entries."""
    packages = []
    for logical in re.sub(r"\\\n", " ", text).splitlines():
        words = logical.split("#", 1)[0].split()
        if not words:
            continue
        entry, *rest = words
        name, _, version = entry.partition("==")
        hashes = tuple(word.removeprefix("--hash=sha256:") for word in rest if word.startswith("--hash="))
        marker = " ".join(word for word in rest if not word.startswith("--hash=")).removeprefix(";").strip()
        packages.append(Package(canonicalize_name(name), version, marker, hashes))
    return packages


def read_if_there(path: Path) -> list[Package]:
    """The same for a file that may be missing."""
    return read(text_of(path)) if path.is_file() else []


def text_of(path: Path) -> str:
    """A lock's text."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LockError(f"LW-LOCK-038: {path} cannot be read ({error}); restore it, or `make lock`.") from error
