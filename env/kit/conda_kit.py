"""The Conda part of a bundle from the Python index alone: choose a CPython, make the kit once, keep it by its key."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from kit import chroot, cpython, tools
from kit.files import as_json, digest_of, text_digest
from kit.problem import Problem

HERE = Path(__file__).resolve().parent
# Everything that the kit's bytes depend on, besides the interpreter.
SOURCES = (
    "base.txt", "conda.txt", "requirements.txt", "build_cpython.sh", "installer.sh", "conda_archive.py",
    "conda_itself.py", "conda_python.py", "conda_wheel.py", "files.py", "installer.py", "make_kit.py",
)  # fmt: skip


# The base's packages, and the wheel that carries conda.
LOCKS = ("base", "conda")


@dataclass(frozen=True)
class CondaPart:
    """Conda for hosts: files by path in the bundle, the installer's facts, what to install, how it was made."""

    source: str
    how: str
    files: dict[str, Path]
    installer: dict[str, str]
    environment: list[str]


def choose(wish: str, series: str, cache: Path, mirror: str) -> tuple[cpython.Candidate, str]:
    """Return the CPython to use and a sentence that says which and why. `wish` is `auto`, `build` or a path."""
    if wish == "build":
        return _built(series, cache, mirror, "asked for with --python build")
    if wish != "auto":
        candidate = cpython.named(Path(wish).expanduser(), series)
        return candidate, f"CPython {candidate.version} as named by --python"
    looked = cpython.candidates(series)
    if not looked[-1].fault:
        return looked[-1], f"the plain CPython {looked[-1].version} of this machine ({looked[-1].found})"
    reasons = "; ".join(f"{item.found} {item.fault}" for item in looked)
    try:
        return _built(series, cache, mirror, reasons)
    except Problem as problem:
        raise Problem(f"{problem} Looked at: {reasons}.") from problem


def _built(series: str, cache: Path, mirror: str, why: str) -> tuple[cpython.Candidate, str]:
    candidate = cpython.look_at(chroot.built_cpython(cache, series, mirror), "built", series)
    if candidate.fault:
        raise Problem(
            f"LW-KIT-013: the CPython that was built {candidate.fault}. Remove {candidate.prefix} and try again."
        )
    return (
        candidate,
        f"CPython {candidate.version} built from the upstream source that Debian {chroot.SUITE} carries ({why})",
    )


def interpreter_digest(prefix: Path, series: str) -> str:
    """Return a digest of a CPython: its machine code by content, its library by names, sizes and times."""
    library = prefix / f"lib/python{series}"
    code = [prefix / f"bin/python{series}", *sorted((prefix / "lib").glob("*.so*"))]
    parts = [digest_of(path) for path in code if path.is_file()]
    for folder, folders, names in os.walk(library):
        folders[:] = sorted(set(folders) - {"site-packages", "__pycache__", "test"})
        for name in sorted(names):
            status = (Path(folder) / name).stat()
            parts.append(f"{folder}/{name} {status.st_size} {status.st_mtime_ns}")
    return text_digest(*parts)


def usable(folder: Path) -> bool:
    """Say whether a kit is whole, and made with the libraries that the machine has today."""
    record = folder / "kit.json"
    if not record.is_file():
        return False
    libraries = json.loads(record.read_text(encoding="utf-8"))["libraries"]
    return all(Path(path).is_file() and digest_of(Path(path)) == digest for path, digest in libraries.items())


def make(candidate: cpython.Candidate, series: str, cache: Path) -> Path:
    """Return the folder of the kit for this CPython, made now unless it is in the cache."""
    sources = [name + digest_of(HERE / name) for name in SOURCES]
    inputs = text_digest(*sources, interpreter_digest(candidate.prefix, series))
    folder = cache / "kit" / f"conda-{inputs[:16]}"
    if usable(folder):
        return folder
    python = tools.venv(cache)
    shutil.rmtree(folder, ignore_errors=True)
    for name in LOCKS:
        if error := tools.pip_download(python, HERE / f"{name}.txt", folder / f"wheels-{name}", series):
            raise Problem(
                f"LW-KIT-005: the packages of env/kit/{name}.txt could not be fetched: {error} "
                "Look at `pip config list`: this machine must reach a Python index or a mirror of one."
            )
    request = {
        "base": str(candidate.prefix),
        "version": candidate.version,
        "wheels": str(folder / "wheels-base"),
        "conda": str(folder / "wheels-conda"),
        "out": str(folder),
    }
    made = subprocess.run(
        [str(python), str(HERE / "make_kit.py")], input=as_json(request), check=False, capture_output=True
    )
    if made.returncode:
        said = made.stderr.decode(errors="replace").strip().splitlines()
        raise Problem(said[-1] if said and said[-1].startswith("LW-") else f"LW-KIT-014: the kit failed: {said[-3:]}")
    # Kits of other inputs (an older checkout, another CPython) would pile up; one is made anew in half a minute.
    for other in (path for path in folder.parent.glob("conda-*") if path != folder):
        shutil.rmtree(other, ignore_errors=True)
    for name in LOCKS:
        shutil.rmtree(folder / f"wheels-{name}")
    return folder


def conda_part(wish: str, series: str, cache: Path, mirror: str = "") -> CondaPart:
    """Return the kit's Conda part of a bundle."""
    candidate, sentence = choose(wish, series, cache, mirror)
    folder = make(candidate, series, cache)
    kit = json.loads((folder / "kit.json").read_text(encoding="utf-8"))
    names = [f"channel/{package}" for package in kit["packages"]]
    names += [f"channel/{subdir}/repodata.json" for subdir in ("linux-64", "noarch")]
    files = {name: folder / name for name in [*names, kit["installer"]["path"]]}
    recipes = {f"recipes/kit/{name}.txt": HERE / f"{name}.txt" for name in LOCKS}
    how = f"Conda {kit['installer']['version']} and its channel made by the kit, from the Python index and {sentence}."
    return CondaPart("kit", how, files | recipes, kit["installer"], kit["environment"])
