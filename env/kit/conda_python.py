"""A plain CPython tree as the Conda package `python`, with the shared libraries that a bare host may lack."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from kit.conda_archive import PLACEHOLDER, Recipe
from kit.problem import Problem

# Every Debian, Ubuntu and RHEL has these; taking the maker's copy along would break the host's loader or its C++ code.
SYSTEM_LIBRARIES = re.compile(
    r"^(ld-linux[^/]*|linux-vdso|libc|libm|libdl|libpthread|librt|libutil|libresolv|libgcc_s|libstdc\+\+)\.so"
)
# Left out: tests, the graphical parts (a server has no display), modules that pull in Kerberos or a database library.
NOT_SHIPPED = (
    "test", "tests", "idlelib", "turtledemo", "tkinter", "turtle.py", "__pycache__", "site-packages", "config-*",
    "*.a", "_tkinter*.so", "_test*.so", "_ctypes_test*.so", "_xxtestfuzz*.so", "xxlimited*.so", "nis.*.so", "_dbm.*.so",
    "_gdbm.*.so",
)  # fmt: skip
SELF_TEST = "import bz2, ctypes, hashlib, lzma, sqlite3, ssl, uuid, zlib; ssl.create_default_context()"


def parse_ldd(text: str) -> dict[str, str]:
    """Return library name → path of an `ldd` answer; a library that was not found has an empty path."""
    found = {}
    for line in text.splitlines():
        name, arrow, rest = line.strip().partition(" => ")
        if arrow:
            found[name] = "" if rest.startswith("not found") else rest.split(" (")[0]
    return found


def wanted_libraries(objects: Sequence[Path], search: Path) -> dict[str, Path]:
    """Return the libraries, beyond the C library, that these ELF files load; looked for in `search` first."""
    environment = os.environ | {"LD_LIBRARY_PATH": str(search), "LC_ALL": "C"}
    answer = subprocess.run(
        ["ldd", *map(str, objects)], check=False, capture_output=True, text=True, env=environment
    ).stdout
    found = {name: path for name, path in parse_ldd(answer).items() if not SYSTEM_LIBRARIES.match(name)}
    if missing := sorted(name for name, path in found.items() if not path):
        raise Problem(
            f"LW-KIT-006: the chosen CPython needs {', '.join(missing)}, which this machine does not have. "
            "Install what is missing, or choose another CPython with --python PATH, or --python build."
        )
    return {name: Path(path) for name, path in found.items()}


def copy_tree(base: Path, root: Path, series: str) -> list[Path]:
    """Lay out the interpreter and its standard library under `root`; return the ELF files."""
    library = Path(f"lib/python{series}")
    shutil.copytree(base / library, root / library, ignore=shutil.ignore_patterns(*NOT_SHIPPED), symlinks=True)
    (root / library / "site-packages").mkdir()
    (root / library / "site-packages/README.txt").write_text("Packages installed by conda or pip come here.\n")
    shutil.copytree(base / f"include/python{series}", root / f"include/python{series}")
    (root / "bin").mkdir()
    executable = root / f"bin/python{series}"
    shutil.copy2((base / f"bin/python{series}").resolve(), executable)
    for name in ("python", "python3"):
        (root / "bin" / name).symlink_to(executable.name)
    return [executable, *sorted((root / library / "lib-dynload").glob("*.so"))]


def take_libraries(objects: Sequence[Path], base: Path, root: Path) -> dict[Path, Path]:
    """Copy the libraries that the objects need into `lib/`; return copy → original."""
    taken = {}
    for name, source in sorted(wanted_libraries(objects, base / "lib").items()):
        taken[root / "lib" / name] = source.resolve()
        shutil.copyfile(source, root / "lib" / name)
    return taken


def make_relocatable(objects: Iterable[Path], root: Path, patchelf: Path) -> None:
    """Let every ELF file find the libraries in its own prefix, wherever that will be; strip it where `strip` exists."""
    strip = shutil.which("strip")
    for path in objects:
        path.chmod(0o755)
        # strip goes first: stripping after patchelf can damage what patchelf moved.
        if strip:
            subprocess.run([strip, "--strip-unneeded", str(path)], check=True)
        origin = "$ORIGIN/" + os.path.relpath(root / "lib", path.parent)
        subprocess.run([str(patchelf), "--set-rpath", origin, str(path)], check=True)


def compile_library(executable: Path, tree: Path, root: Path) -> None:
    """Byte-compile a tree the same way each time. Unchecked, because a package's file times are not the maker's."""
    environment = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "PATH": os.environ.get("PATH", "/usr/bin")}
    # Not -I: it would make the interpreter ignore the hash seed, and sets would be written in another order each time.
    command = [str(executable), "-s", "-B", "-m", "compileall", "-f", "-q", "--invalidation-mode", "unchecked-hash"]
    # lib2to3 carries files that are Python 2 on purpose; compileall's exit status is theirs, so it is not judged.
    subprocess.run([*command, "-s", str(root), str(tree)], check=False, env=environment, capture_output=True, cwd=root)


def self_test(executable: Path) -> None:
    """Run the laid out interpreter once, with nothing but its own libraries."""
    answer = subprocess.run(
        [str(executable), "-I", "-B", "-c", SELF_TEST], check=False, capture_output=True, text=True, env={}
    )
    if answer.returncode:
        lines = answer.stderr.strip().splitlines()
        raise Problem(
            f"LW-KIT-007: the chosen CPython does not work once it is moved: {(lines or ['it stops'])[-1]}. "
            "It was probably built without a library; choose another with --python PATH, or --python build."
        )


def forget_prefix(library: Path) -> list[Path]:
    """Put conda's stand-in for the prefix that the CPython was configured with; return the files changed.

    Their byte code goes too: conda will rewrite the text only, and unchecked byte code would keep the old prefix.
    """
    changed = []
    for path in sorted(library.glob("_sysconfigdata*.py")):
        text = path.read_text(encoding="utf-8")
        if match := re.search(r"'prefix': '(/[^']+)'", text):
            path.write_text(text.replace(match[1], PLACEHOLDER), encoding="utf-8")
            for compiled in (library / "__pycache__").glob(f"{path.stem}.*"):
                compiled.unlink()
            changed.append(path)
    return changed


def lay_out_python(base: Path, root: Path, version: str, patchelf: Path) -> tuple[Recipe, list[Path]]:
    """Fill `root` with the package `python` of the CPython at `base`; return its recipe and the libraries in it."""
    series = version.rpartition(".")[0]
    objects = copy_tree(base, root, series)
    libraries = take_libraries(objects, base, root)
    make_relocatable([*objects, *libraries], root, patchelf)
    executable = root / f"bin/python{series}"
    self_test(executable)
    library = root / f"lib/python{series}"
    compile_library(executable, library, root)
    prefixes = {path.relative_to(root).as_posix(): PLACEHOLDER for path in forget_prefix(library)}
    return Recipe("python", version, "0_cpython", prefix_files=prefixes), list(libraries.values())
