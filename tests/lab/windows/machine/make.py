"""Make what stands in for Windows software: programs, installers, Conda packages. Once, kept in the cache by content.

`make.py folder` prints the folder that `env/bundle.py make --windows` takes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[3]) if __name__ == "__main__" else sys.path[0]

from lab.errors import LabError  # noqa: E402

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[3]
ENV = ROOT / "env"
SERIES = "3.11"
COMPILER = "x86_64-w64-mingw32-gcc"
OPTIONS = (
    "-O2",
    "-s",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unused-parameter",
    "-municode",
    "-Wl,--no-insert-timestamp",
)
# By their names in env/catalog/installers.yml.
STAND_INS = {
    "miniforge3": "miniforge.nsi",
    "git-for-windows": "git.nsi",
    "vc-redist-2015-2022-x64": "vc_redist.nsi",
    "docker-desktop": "docker.nsi",
}


def cache_folder() -> Path:
    """LABWRIGHT_CACHE, else `.cache` of the checkout."""
    return Path(os.environ.get("LABWRIGHT_CACHE") or ROOT / ".cache").resolve()


def run(argv: Sequence[str | Path], **environment: str) -> None:
    """Run a tool; LabError with its last words."""
    words = [str(word) for word in argv]
    if not shutil.which(words[0]):
        raise LabError(
            "LW-LAB-142", f"{words[0]} was expected and is not there; run `apt-get install wine wine64 mingw-w64 nsis`"
        )
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    if done.returncode:
        last = " | ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-5:])
        raise LabError("LW-LAB-143", f"`{' '.join(words)[:200]}` ended with status {done.returncode}: {last}")


@contextmanager
def alone(cache: Path) -> Iterator[None]:
    """One maker at a time."""
    folder = cache / "windows"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "making.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def kept(cache: Path, name: str, inputs: Sequence[Path | str], fill: Callable[[Path], None]) -> Path:
    """The folder `cache/windows/NAME-…`, made now unless one of the same inputs is there."""
    parts = [one.read_bytes() if isinstance(one, Path) else one.encode() for one in inputs]
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    folder = cache / "windows" / f"{name}-{digest}"
    with alone(cache):
        if not folder.is_dir():
            part = folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            fill(part)
            part.rename(folder)
    return folder


def programs(cache: Path) -> Path:
    """shim.exe, reach.exe, and conda's start program (Scripts/conda.exe), which is shim.exe too."""

    def fill(folder: Path) -> None:
        run([COMPILER, *OPTIONS, "-o", folder / "shim.exe", HERE / "shim.c", "-lws2_32"])
        run([COMPILER, *OPTIONS, "-o", folder / "reach.exe", HERE / "reach.c"])
        (folder / "Scripts").mkdir()
        shutil.copyfile(folder / "shim.exe", folder / "Scripts/conda.exe")

    return kept(cache, "programs", [HERE / "shim.c", HERE / "reach.c", *OPTIONS], fill)


def kit(cache: Path) -> Path:
    """The folder of the kit (env/kit), which has a real conda for Linux."""
    sys.path[:0] = [one for one in (str(ENV), str(ROOT / "plugins/module_utils")) if one not in sys.path]
    from kit import conda_kit

    candidate, _ = conda_kit.choose("auto", SERIES, cache, "")
    return conda_kit.make(candidate, SERIES, cache)


def base(cache: Path) -> Path:
    """A Linux Conda with Python 3.11, in which run conda, pip, and what stands in for Windows Python."""
    found = kit(cache)
    installer = found / json.loads((found / "kit.json").read_text(encoding="utf-8"))["installer"]["path"]
    digest = hashlib.sha256(installer.read_bytes()).hexdigest()[:16]
    prefix = cache / "windows" / f"base-{digest}"
    with alone(cache):
        if not (prefix / ".ready").is_file():
            shutil.rmtree(prefix, ignore_errors=True)
            run(["bash", installer, "-b", "-p", prefix])
            (prefix / ".ready").touch()
    return prefix


def catalogue() -> dict[str, dict[str, str]]:
    """The catalogue's installers for Windows, by name; of several versions the first."""
    import yaml

    rows = yaml.safe_load((ENV / "catalog/installers.yml").read_text(encoding="utf-8"))
    return {row["name"]: row for row in reversed(rows) if row["platform"] == "win-64"}


def installers(cache: Path) -> tuple[Path, dict[str, str]]:
    """A folder with the stand-in installers, and the file of each by its name in the catalogue."""
    version = json.loads((kit(cache) / "kit.json").read_text(encoding="utf-8"))["installer"]["version"]
    rows = catalogue() | {"miniforge3": {"version": version, "filename": f"Miniforge3-{version}-Windows-x86_64.exe"}}
    files = {name: rows[name]["filename"] for name in STAND_INS}
    given = programs(cache)

    def fill(folder: Path) -> None:
        for name, script in STAND_INS.items():
            _, minor, build, *_ = [*str(rows[name]["version"]).split("."), "0", "0"]
            values = {"PROGRAMS": given, "VERSION": rows[name]["version"], "MINOR": minor, "BUILD": build.split("-")[0],
                      "OUT": folder / files[name]}  # fmt: skip
            words = [f"-D{key}={value}" for key, value in values.items()]
            run(["makensis", "-V2", "-WX", *words, HERE / "installers" / script], SOURCE_DATE_EPOCH="1700000000")

    sources = sorted((HERE / "installers").iterdir())
    inputs: list[Path | str] = [
        *sources,
        given / "shim.exe",
        json.dumps([files, *(str(rows[one]["version"]) for one in STAND_INS)]),
    ]
    return kept(cache, "installers", inputs, fill), files


def folder(cache: Path) -> Path:
    """What `env/bundle.py make --windows` takes: installers, Conda packages for win-64, and windows.json."""
    sys.path[:0] = [one for one in (str(ENV), str(ROOT / "plugins/module_utils")) if one not in sys.path]
    from kit import tools

    found, files = installers(cache)
    given, linux = programs(cache), kit(cache)
    made = json.loads((linux / "kit.json").read_text(encoding="utf-8"))
    noarch = [path for path in made["environment"] if path.startswith("channel/noarch/")]
    python = next(path for path in made["environment"] if "/python-" in path).split("/python-")[1].split("-")[0]

    def fill(target: Path) -> None:
        request = {"shim": str(given / "shim.exe"), "note": str(HERE / "installers/stand-in.txt"), "version": python,
                   "channel": str(target / "channel")}  # fmt: skip
        maker = [tools.venv(cache), HERE / "make_package.py", json.dumps(request)]
        run([str(word) for word in maker])
        for path in [*noarch, "channel/noarch/repodata.json"]:
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(linux / path, target / path)
        (target / "installers").mkdir()
        for name in files.values():
            shutil.copyfile(found / name, target / "installers" / name)
        package = next((target / "channel/win-64").glob("python-*.conda")).name
        says = {
            "how": "Stand-ins for Windows software, for tests alone (tests/lab/windows/machine).",
            "conda": {
                "installer": {"path": f"installers/{files['miniforge3']}", "version": made["installer"]["version"]},
                "environment": [f"channel/win-64/{package}", *noarch],
            },
            "installers": {name: f"installers/{file}" for name, file in files.items() if name != "miniforge3"},
        }
        (target / "windows.json").write_text(json.dumps(says, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    inputs = [found / name for name in files.values()] + [
        given / "shim.exe",
        linux / "kit.json",
        HERE / "make_package.py",
    ]
    return kept(cache, "bundle-part", inputs, fill)


def main() -> int:
    """Print the folder for a bundle."""
    try:
        print(folder(cache_folder()))
    except LabError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
