"""The package `conda`: the real conda that the conda-lock wheel carries, under its own name again.

The Python index has no conda newer than 4.3, but conda-lock ships one inside (`conda_lock/_vendor/conda`). What it
leaves out is the shell hook; a short one stands in for it. Its default solver, libmamba, is not on the index either, so
`.condarc` chooses the classic one, with python-sat under it (pycosat, the usual choice, has no wheel and would need a
compiler).
"""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

from kit.conda_archive import PLACEHOLDER, Recipe
from kit.problem import Problem

DEPENDS = (
    "archspec", "boltons", "charset-normalizer", "conda-package-handling", "conda-package-streaming", "distro",
    "frozendict", "jsonpatch", "packaging", "platformdirs", "pluggy", "python-sat", "requests", "ruamel-yaml",
    "setuptools", "tqdm", "truststore", "zstandard",
)  # fmt: skip
CONDARC = """# The kit's channel is the bundle's; nothing is looked for elsewhere unless a site says so.
solver: classic
sat_solver: pysat
channels: []
default_channels: []
auto_update_conda: false
notify_outdated_conda: false
"""
# The guard is needed: conda looks for a GPU driver in a process of its own, which imports this file again.
START = """#!{prefix}/bin/python
import sys

from conda.cli import main

if __name__ == "__main__":
    sys.exit(main())
"""
SHELL_HOOK = """conda() {
    case "${1:-}" in
        activate | deactivate | reactivate) eval "$("$CONDA_EXE" shell.posix "$@")" ;;
        *) "$CONDA_EXE" "$@" ;;
    esac
}
"""


def unvendor(wheel: Path, site: Path) -> None:
    """Unpack the vendored conda into a site-packages folder and give its modules their own name back."""
    inside = "conda_lock/_vendor/conda/"
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if not name.startswith(inside) or name.endswith("/"):
                continue
            data = archive.read(name)
            if name.endswith(".py"):
                data = re.sub(rb"conda_lock\._?vendor\.conda", b"conda", data)
            path = site / name.removeprefix("conda_lock/_vendor/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    if not (site / "conda/_version.py").is_file():
        raise Problem(f"LW-KIT-008: {wheel.name} carries no conda; env/kit/conda.in must name a conda-lock that does.")
    shutil.rmtree(site / "conda/testing", ignore_errors=True)


def lay_out_conda(wheel: Path, root: Path, series: str) -> Recipe:
    """Fill `root` with the package `conda` made of the conda-lock wheel; return its recipe."""
    site = root / f"lib/python{series}/site-packages"
    unvendor(wheel, site)
    match = re.search(r"'([\d.]+)'", (site / "conda/_version.py").read_text(encoding="utf-8"))
    if match is None:
        raise Problem(f"LW-KIT-008: the conda in {wheel.name} does not say its version.")
    info = site / f"conda-{match[1]}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: conda\nVersion: {match[1]}\n")
    (info / "INSTALLER").write_text("conda\n")
    start = START.format(prefix=PLACEHOLDER)
    texts = {
        "bin/conda": start,
        "condabin/conda": start,
        "etc/profile.d/conda.sh": f"export CONDA_EXE='{PLACEHOLDER}/bin/conda'\n{SHELL_HOOK}",
    }
    hook = (site / "conda/shell/etc/profile.d/conda.sh").relative_to(root).as_posix()
    for name, text in (texts | {hook: SHELL_HOOK, ".condarc": CONDARC}).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if name.endswith("/conda") else 0o644)
    return Recipe(
        "conda",
        match[1],
        f"py{series.replace('.', '')}_0",
        (f"python {series}.*", *DEPENDS),
        prefix_files=dict.fromkeys(texts, PLACEHOLDER),
    )
