"""Read wheels' own metadata from the package index, a little of each wheel only, and keep it by the wheel's sum."""

from __future__ import annotations

import json
from pathlib import Path

from locking.requires import Needs
from locking.text import Package
from metadata import Index


class Reader:
    """The index's metadata; the index is asked for what the cache lacks."""

    def __init__(self, cache: Path) -> None:
        """`cache` is a folder that may be missing."""
        self.cache = cache
        self.index: Index | None = None

    def needs(self, package: Package) -> Needs:
        """What the package's first wheel asks for."""
        path = self.cache / f"{package.hashes[0]}.json"
        if not path.is_file():
            self.index = self.index or Index()
            self.cache.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            part.write_text(json.dumps(self.index.needs(package.name, package.metadata)), encoding="utf-8")
            part.replace(path)
        python, dist = json.loads(path.read_text(encoding="utf-8"))
        return Needs(python, tuple(dist))
