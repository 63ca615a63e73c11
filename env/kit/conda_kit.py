"""The Conda part of a bundle from the Python index alone: choose a CPython, make the kit once, find it again by its key."""

from __future__ import annotations

import json
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
    "base.txt", "conda.txt", "requirements.txt", "build_cpython.sh", "installer.sh", "conda_archive.py", "conda_itself.py",
    "conda_python.py", "conda_wheel.py", "files.py", "installer.py", "make_kit.py",
)  # fmt: skip


@dataclass(frozen=True)
class CondaPart:
    """Conda for hosts: files by their path in the bundle, the installer's facts, what to install and how it was made."""

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
        raise Problem(f"LW-KIT-013: the CPython that was built {candidate.fault}. Remove {candidate.prefix} and try again.")
    return candidate, f"CPython {candidate.version} built from the upstream source that Debian {chroot.SUITE} carries ({why})"


def interpreter_digest(prefix: Path, series: str) -> str:
    """Return a digest of a CPython: its machine code by content, its library by names, sizes and times."""
    library = prefix / f"lib/python{series}"
    code = [prefix / f"bin/python{series}", *sorted((prefix / "lib").glob("*.so*"))]
    parts = [digest_of(path) for path in code if path.is_file()]
    for path in sorted(library.rglob("*")):
        if path.suffix in {".py", ".so"} and "site-packages" not in path.parts:
            status = path.stat()
            parts.append(f"{path.relative_to(library)} {status.st_size} {status.st_mtime_ns}")
    return text_digest(str(prefix), *parts)


def system_libraries_digest(prefix: Path, series: str) -> str:
    """Return a digest of the machine's libraries that the interpreter loads, so that an upgrade of them makes a new kit."""
    objects = " ".join(map(str, sorted((prefix / f"lib/python{series}/lib-dynload").glob("*.so"))))
    answer = subprocess.run(["ldd", *objects.split()], check=False, capture_output=True, text=True).stdout
    found = sorted({line.split(" => ")[1].split(" (")[0] for line in answer.splitlines() if " => /" in line})
    return text_digest(*(f"{p} {Path(p).stat().st_size} {Path(p).stat().st_mtime_ns}" for p in found if Path(p).exists()))


def make(prefix: cpython.Candidate, series: str, cache: Path) -> Path:
    """Return the folder of the kit for this CPython, made now unless it is in the cache."""
    sources = [name + digest_of(HERE / name) for name in SOURCES]
    inputs = text_digest(
        *sources, interpreter_digest(prefix.prefix, series), system_libraries_digest(prefix.prefix, series)
    )
    folder = cache / "kit" / f"conda-{inputs[:16]}"
    if (folder / "kit.json").is_file():
        return folder
    python = tools.venv(cache)
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("base", "conda"):
        if error := tools.pip_download(python, HERE / f"{name}.txt", folder / f"wheels-{name}", series):
            raise Problem(
                f"LW-KIT-005: the packages of env/kit/{name}.txt could not be fetched: {error} "
                "Look at `pip config list`: this machine must reach a Python index or a mirror of one."
            )
    request = {
        "base": str(prefix.prefix),
        "version": prefix.version,
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
    return folder


def conda_part(wish: str, series: str, cache: Path, mirror: str = "") -> CondaPart:
    """Return the kit's Conda part of a bundle."""
    candidate, sentence = choose(wish, series, cache, mirror)
    folder = make(candidate, series, cache)
    kit = json.loads((folder / "kit.json").read_text(encoding="utf-8"))
    names = [f"channel/{package}" for package in kit["packages"]]
    names += [f"channel/{subdir}/repodata.json" for subdir in ("linux-64", "noarch")]
    files = {name: folder / name for name in [*names, kit["installer"]["path"]]}
    recipes = {f"recipes/kit/{name}": HERE / name for name in ("base.txt", "conda.txt")}
    how = f"Conda {kit['installer']['version']} and its channel made by the kit, from the Python index and {sentence}."
    return CondaPart("kit", how, files | recipes, kit["installer"], kit["environment"])
