"""Unpack the Ansible collections that Labwright uses out of the pinned `ansible` wheel.

`python env/control/get_collections.py [FOLDER]` downloads the wheel that collections.txt names, with pip and its hash,
and puts only the collections of collections.yml under FOLDER/ansible_collections (default: .venv/collections). It does
nothing when they are there already, and swaps the folder in one step, so that a broken run leaves the old one.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
STAMP = "labwright-collections.sha256"
NAME = re.compile(r"^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$")


class CollectionsError(Exception):
    """Something a person can set right; its text starts with an id."""


def wanted(text: str) -> list[str]:
    """Read the names of collections.yml (`namespace.name`); raise CollectionsError on anything else."""
    names = yaml.safe_load(text)
    if not isinstance(names, list) or not all(isinstance(n, str) and NAME.match(n) for n in names):
        raise CollectionsError(f"LW-LOCK-020: collections.yml holds {names!r}; expected a list of namespace.name.")
    return sorted(set(names))


def unpack(wheel: Path, names: Sequence[str], folder: Path) -> None:
    """Unpack the named collections of a wheel into folder/ansible_collections."""
    with zipfile.ZipFile(wheel) as archive:
        members = archive.namelist()
        for name in names:
            prefix = f"ansible_collections/{name.replace('.', '/')}/"
            chosen = [m for m in members if m.startswith(prefix)]
            if not chosen:
                raise CollectionsError(
                    f"LW-LOCK-021: {wheel.name} holds no collection {name}. Take it out of collections.yml, or pin an "
                    "ansible package that has it in collections.in."
                )
            archive.extractall(folder, chosen)


def fetch(lock: Path, folder: Path) -> Path:
    """Download the one wheel that a lock names, verified by its hash; return its path."""
    argv = [sys.executable, "-m", "pip", "download", "-q", "--require-hashes", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run([*argv, "-r", str(lock), "-d", str(folder)], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise CollectionsError(
            f"LW-LOCK-022: pip could not download what {lock.name} names, with the hash that stands there:\n"
            f"{done.stderr.strip()}\nCheck this machine's pip settings (`pip config list`)."
        )
    return wheels[0]


def install(folder: Path) -> bool:
    """Make the collections folder as it should be; return whether anything was changed."""
    lock, listing = HERE / "collections.txt", HERE / "collections.yml"
    names = wanted(listing.read_text(encoding="utf-8"))
    digest = hashlib.sha256(lock.read_bytes() + listing.read_bytes()).hexdigest()
    stamp = folder / STAMP
    there = all((folder / "ansible_collections" / n.replace(".", "/") / "MANIFEST.json").is_file() for n in names)
    if there and stamp.is_file() and stamp.read_text(encoding="utf-8").strip() == digest:
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".collections-", dir=folder.parent) as scratch:
        fresh = Path(scratch, "new")
        unpack(fetch(lock, Path(scratch)), names, fresh)
        (fresh / STAMP).write_text(digest + "\n", encoding="utf-8")
        if folder.exists():
            folder.rename(Path(scratch, "old"))
        fresh.rename(folder)
    return True


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return the exit status (0 done, 2 not done)."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / ".venv" / "collections")
    folder: Path = parser.parse_args(argv).folder
    try:
        changed = install(folder)
    except CollectionsError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{folder}: {'unpacked' if changed else 'already right'}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
