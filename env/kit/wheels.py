"""Collect the wheels that the locks name, through the machine's own pip configuration, into a cache by their sums."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from kit import tools
from kit.files import digests_of
from kit.locks import Pin, rounds
from kit.problem import Problem

TORCH_INDEX = "https://download.pytorch.org/whl"


def matched(pins: Iterable[Pin], digests: Mapping[str, Path]) -> dict[Pin, Path]:
    """Return the wheel of each pin that is there, by sum."""
    return {pin: digests[h] for pin in pins for h in reversed(pin.hashes) if h in digests}


def torch_options(pin: Pin, index: str) -> list[str]:
    """Return pip's options to get a build such as torch 2.13.0+cpu from PyTorch's own index and nowhere else."""
    tag = pin.version.partition("+")[2]
    return ["--index-url", f"{index.rstrip('/')}/{tag}", "--retries", "1", "--timeout", "20"]


def fetch(pins: list[Pin], folder: Path, python: Path, series: str, torch_index: str, platform: str) -> None:
    """Download pins, those with a local version (+cpu, +cu118) one by one, since they may need another index."""
    for part in rounds(pins):
        usual, local = [p for p in part if "+" not in p.version], [p for p in part if "+" in p.version]
        for group in [usual, *([pin] for pin in local)]:
            if not group:
                continue
            with tempfile.TemporaryDirectory() as temporary:
                requirements = Path(temporary) / "requirements.txt"
                requirements.write_text("".join(pin.line() + "\n" for pin in group))
                error = tools.pip_download(python, requirements, folder, series, platform)
                tried = "the machine's index"
                if error and group is not usual:
                    other = tools.pip_download(
                        python, requirements, folder, series, platform, torch_options(group[0], torch_index)
                    )
                    error, tried = (
                        (f"{error} Then {other}", f"the machine's index and {torch_index}") if other else ("", "")
                    )
            if error:
                error = " ".join([error, *tools.refused(torch_index if group is not usual else "")])
                raise Problem(
                    f"LW-BUNDLE-022: a wheel could not be fetched from {tried}: {error} "
                    "Look at `pip config list`; a mirror of PyTorch's index is set with --torch-index URL."
                )


def by_sum(folder: Path) -> dict[str, Path]:
    """Return sha256 → wheel of a folder."""
    return {digest: path for path, digest in digests_of(sorted(folder.glob("*.whl"))).items()}


def collect(
    pins: list[Pin], present: Path, cache: Path, series: str, torch_index: str, platform: str = tools.LINUX
) -> dict[str, tuple[Path, str]]:
    """Return bundle path → (file, sha256) of each pin's wheel for a platform.

    What lies in `present` (the bundle's own folder) is taken first, then the cache; only the rest is fetched.
    """
    store = cache / "wheels"
    known = by_sum(present)
    if len(matched(pins, known)) < len(pins):
        known = by_sum(store) | known
    there = matched(pins, known)
    if missing := [pin for pin in pins if pin not in there]:
        fetch(missing, store, tools.venv(cache), series, torch_index, platform)
        known = by_sum(store) | known
    found = matched(pins, known)
    if lost := [pin for pin in pins if pin not in found]:
        raise Problem(f"LW-BUNDLE-023: no wheel came for {', '.join(f'{p.name}=={p.version}' for p in lost)}.")
    sums = {path: digest for digest, path in known.items()}
    return {f"wheels/{path.name}": (path, sums[path]) for path in found.values()}
