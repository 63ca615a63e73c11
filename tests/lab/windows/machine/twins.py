"""Linux twins of the machine's environments: what a Windows environment's programs run in, for want of Windows Python.

A twin is made from the Linux locks of the same stack, a layer when pip installs that layer into the Windows prefix.
Twins lie in the cache and are shared by all targets. What the Windows prefix lacks cannot be imported there (twin.py).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from lab.windows.machine.settings import Settings

ROOT = Path(__file__).resolve().parents[4]
ENV = ROOT / "env"
STAMP = ".labwright.json"  # hostkit's, in each environment
SERIES = "3.11"
_making = threading.Lock()


class NoTwin(Exception):
    """There is no twin for an environment; the text says why."""


@cache
def known() -> dict[str, list[Path]]:
    """Every Windows lock by its digest; stacks may have one in common."""
    sys.path[:0] = [str(ROOT / "plugins/module_utils"), str(ENV)]
    from labwright.catalog import Layer

    found: dict[str, list[Path]] = {}
    for path in sorted([*ENV.glob("stacks/*/*-win-64.txt"), *ENV.glob("agents/*-win-64.txt")]):
        found.setdefault(Layer("", path.read_text(encoding="utf-8")).digest, []).append(path)
    return found


def digest_of(lock: Path) -> str:
    """A lock's digest as the plan and hostkit know it."""
    known()
    from labwright.catalog import Layer

    return Layer("", lock.read_text(encoding="utf-8")).digest


def layers(prefix: Path) -> list[str]:
    """Digests of the layers that a Windows environment has, or is getting."""
    try:
        stamp = json.loads((prefix / STAMP).read_text(encoding="utf-8"))
        return [str(digest) for _, digest in stamp["layers"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NoTwin(f"{prefix} has no stamp that can be read ({error})") from error


def siblings(digests: Sequence[str], prefix: Path) -> list[Path]:
    """The Linux locks of Windows ones, of one stack; the Conda layer has none and is left out.

    Where several stacks have all of them, it is the one that the prefix is named after.
    """
    pip = [known()[one] for one in digests if one in known()]
    stacks = sorted(set.intersection(*({path.parent for path in paths} for paths in pip))) if pip else []
    if not stacks:
        return []
    named = [one for one in stacks if prefix.name.startswith(one.name)]
    stack = (named or stacks)[0]
    chosen = [next(path for path in paths if path.parent == stack) for paths in pip]
    return [path.with_name(path.name.replace("-win-64", "-linux-64")) for path in chosen]


def folder_for(locks: Sequence[Path], here: Settings) -> Path:
    """A twin's folder: of one stack and torch build, whatever layers it has by now."""
    torch = [lock for lock in locks if lock.name.startswith("torch-")]
    stack = locks[0].parent
    whole = [*torch, *(one for one in sorted(stack.glob("*-linux-64.txt")) if not one.name.startswith("torch-"))]
    tag = torch[0].name.split("-")[1] if torch else ""
    digest = hashlib.sha256(b"".join(one.read_bytes() for one in whole) + here.base.encode()).hexdigest()[:12]
    return Path(here.cache) / "windows/twins" / "-".join(filter(None, [stack.name, tag, digest]))


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One maker of a twin at a time, over threads and processes."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _making, folder.with_suffix(".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def begin(lock: Path, prefix: Path, here: Settings) -> None:
    """pip installs this lock into a Windows prefix: make the twin's layer meanwhile. A lock of nobody's has no twin."""
    digest = digest_of(lock)
    if digest not in known():
        return
    try:
        before = layers(prefix)
    except NoTwin:
        return
    locks = siblings([*before, digest], prefix)
    if locks:
        threading.Thread(target=_quietly, args=(locks, here), daemon=True).start()


def _quietly(locks: list[Path], here: Settings) -> None:
    """Failures are said by `ready`, which tries again."""
    try:
        complete(locks, here)
    except NoTwin as error:
        print(error, file=sys.stderr)


def ready(prefix: Path, here: Settings) -> Path:
    """The twin's interpreter, with every layer that the Windows environment has; NoTwin where it cannot be had."""
    locks = siblings(layers(prefix), prefix)
    if not locks:
        raise NoTwin(f"{prefix} has no layer of a lock of env/, so it has no twin to run in")
    return complete(locks, here) / "bin/python"


def complete(locks: Sequence[Path], here: Settings) -> Path:
    """The twin with these layers; what it lacks is installed now."""
    folder = folder_for(locks, here)
    with alone(folder):
        made = folder / ".layers"
        if not (folder / "bin/python").exists():
            run([f"{here.base}/bin/python", "-m", "venv", "--without-pip", str(folder)])
            made.mkdir()
        for lock in locks:
            if not (made / lock.name).is_file():
                install(lock, folder, here)
                (made / lock.name).touch()
    return folder


def install(lock: Path, folder: Path, here: Settings) -> None:
    """One layer, from the wheels of the cache, of a bundle, or of the machine's own index."""
    known()
    from kit import locks, wheels

    store = Path(here.cache) / "wheels"
    found = wheels.collect(
        locks.read_locks([lock], SERIES),
        Path(here.cache) / "bundle/wheels",
        Path(here.cache),
        SERIES,
        wheels.TORCH_INDEX,
    )
    links = sorted({str(path.parent) for path, _ in found.values()} | {str(store)})
    options = ["--no-deps", "--require-hashes", "--no-index", "--disable-pip-version-check", "-q", "--no-compile"]
    options += [word for link in links for word in ("--find-links", link)]
    run(
        [
            f"{here.base}/bin/python",
            "-m",
            "pip",
            "--python",
            f"{folder}/bin/python",
            "install",
            *options,
            "-r",
            str(lock),
        ]
    )


def run(argv: list[str]) -> None:
    """Run one step; NoTwin with its last words."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        words = " | ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-4:])
        raise NoTwin(f"`{' '.join(argv[:5])} …` ended with {done.returncode}: {words}")
