"""Make the Conda package `python` for win-64: a stand-in whose python.exe hands over to the Linux side (see shim.c).

Runs in the kit's own venv, for its zstandard; reads one JSON request from its first word.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "env"))

from kit.conda_archive import Recipe, repodata, write_conda
from kit.files import write_whole
from kit.make_kit import compressor


def main() -> None:
    """Lay the files out, write the package and the subdir's repodata."""
    request = json.loads(sys.argv[1])
    channel = Path(request["channel"])
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("python.exe", "pythonw.exe"):
            shutil.copyfile(request["shim"], root / name)
            (root / name).chmod(0o755)
        (root / "Lib/site-packages").mkdir(parents=True)
        shutil.copyfile(request["note"], root / "Lib/site-packages/README.txt")
        (root / "Scripts").mkdir()
        shutil.copyfile(request["note"], root / "Scripts/README.txt")  # a folder of its own is nothing to conda
        recipe = Recipe("python", request["version"], "0_stand_in", platform="win-64")
        path, record = write_conda(channel, root, recipe, compressor())
    write_whole(channel / "win-64/repodata.json", repodata("win-64", {path: record}))


if __name__ == "__main__":
    main()
