"""The Conda kit's pure parts: reproducible packages, Debian's layout told apart, wheels and libraries read rightly."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import zipfile
import zlib
from email.parser import Parser
from pathlib import Path

import pytest

from kit import chroot, conda_kit, cpython, installer, tools
from kit.conda_archive import PLACEHOLDER, Recipe, repodata, write_conda
from kit.conda_itself import lay_out_conda
from kit.conda_python import forget_prefix, parse_ldd, self_test, wanted_libraries
from kit.conda_wheel import console_scripts, depends_of, lay_out_wheel, place_of
from kit.problem import Problem
from unit.programs import program


def tree(root: Path) -> Path:
    (root / "bin").mkdir(parents=True)
    (root / "bin/tool").write_text("#!/opt/placeholder/bin/python\n")
    (root / "bin/tool").chmod(0o755)
    (root / "bin/alias").symlink_to("tool")
    (root / "share").mkdir()
    (root / "share/data").write_text("data")
    return root


def members(conda: Path, part: str) -> dict[str, tarfile.TarInfo]:
    with zipfile.ZipFile(conda) as archive:
        name = next(n for n in archive.namelist() if n.startswith(part))
        data = zlib.decompress(archive.read(name))
    with tarfile.open(fileobj=io.BytesIO(data)) as inner:
        return {entry.name: entry for entry in inner}


RECIPE = Recipe("tool", "1.0", "0", ("python",), prefix_files={"bin/tool": "/opt/placeholder"})


def test_a_package_is_the_same_for_the_same_files_whenever_and_whoever(tmp_path: Path) -> None:
    first = write_conda(tmp_path / "one", tree(tmp_path / "a"), RECIPE, zlib.compress)
    umask = os.umask(0o077)
    second_root = tree(tmp_path / "b")
    os.umask(umask)
    os.utime(second_root / "share/data", (1, 1))
    second = write_conda(tmp_path / "two", second_root, RECIPE, zlib.compress)
    assert first == second
    assert (tmp_path / "one" / first[0]).read_bytes() == (tmp_path / "two" / second[0]).read_bytes()


def test_a_package_says_what_conda_needs(tmp_path: Path) -> None:
    path, record = write_conda(tmp_path / "channel", tree(tmp_path / "a"), RECIPE, zlib.compress)
    assert path == "linux-64/tool-1.0-0.conda"
    assert record["subdir"] == "linux-64"
    entries = members(tmp_path / "channel" / path, "pkg-")
    assert entries["bin/tool"].mode == 0o755
    assert entries["share/data"].mode == 0o644
    assert entries["bin/alias"].linkname == "tool"
    assert "info/has_prefix" in members(tmp_path / "channel" / path, "info-")


def test_a_noarch_package_says_noarch_inside_too(tmp_path: Path) -> None:
    recipe = Recipe("pure", "1", "pyhd_0", noarch_python=True, entry_points=("pure = pure:main",))
    path, record = write_conda(tmp_path, tree(tmp_path / "a"), recipe, zlib.compress)
    assert path == "noarch/pure-1-pyhd_0.conda"
    assert (record["subdir"], record["noarch"]) == ("noarch", "python")
    assert "info/link.json" in members(tmp_path / path, "info-")
    content = json.loads(repodata("noarch", {path: record, "linux-64/x.conda": {}}))
    assert list(content["packages.conda"]) == ["pure-1-pyhd_0.conda"]


def plain_cpython(prefix: Path, sysconfig: str = "posix_prefix", glibc: bytes = b"GLIBC_2.34\0") -> Path:
    library = prefix / "lib/python3.11"
    (library / "site-packages").mkdir(parents=True)
    (library / "os.py").touch()
    (library / "sysconfig.py").write_text(sysconfig)
    (prefix / "bin").mkdir()
    (prefix / "bin/python3.11").write_bytes(b"\x7fELF" + glibc)
    (prefix / "include/python3.11").mkdir(parents=True)
    (prefix / "include/python3.11/patchlevel.h").write_text('#define PY_VERSION      "3.11.7"\n')
    return prefix


def test_a_plain_cpython_is_taken_with_its_version(tmp_path: Path) -> None:
    candidate = cpython.look_at(plain_cpython(tmp_path / "p"), "pyenv", "3.11")
    assert (candidate.fault, candidate.version) == ("", "3.11.7")


@pytest.mark.parametrize("mark", ["'posix_local': {", "def _get_deb_system(): return 'deb_system'"])
def test_debians_layout_is_refused(tmp_path: Path, mark: str) -> None:
    assert "Debian's patched layout" in cpython.fault_of(plain_cpython(tmp_path / "p", mark), "3.11")


def test_a_missing_site_packages_is_debians_layout_too(tmp_path: Path) -> None:
    prefix = plain_cpython(tmp_path / "p")
    (prefix / "lib/python3.11/site-packages").rmdir()
    assert "Debian's patched layout" in cpython.fault_of(prefix, "3.11")


def test_other_reasons_against_a_cpython(tmp_path: Path) -> None:
    assert cpython.fault_of(tmp_path, "3.11") == "has no CPython 3.11"
    assert "glibc 2.38" in cpython.fault_of(plain_cpython(tmp_path / "new", glibc=b"GLIBC_2.4\0GLIBC_2.38\0"), "3.11")
    (plain_cpython(tmp_path / "bare") / "include/python3.11/patchlevel.h").unlink()
    assert "headers" in cpython.fault_of(tmp_path / "bare", "3.11")


def test_the_newest_pyenv_is_found_and_the_search_stops_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setattr("sys.base_prefix", str(tmp_path / "none"))
    monkeypatch.setattr("shutil.which", lambda _name: None)
    for version in ("3.11.9", "3.11.10"):
        plain_cpython(tmp_path / f"pyenv/versions/{version}")
    looked = cpython.candidates("3.11", tmp_path)
    assert [(item.found, bool(item.fault)) for item in looked] == [("the running interpreter", True), ("pyenv", False)]
    assert looked[-1].prefix.name == "3.11.10"


def test_a_named_python_that_cannot_be_used_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="LW-KIT-003"):
        cpython.named(tmp_path / "python", "3.11")
    with pytest.raises(Problem, match=r"LW-KIT-004: .* has no CPython"):
        cpython.named(tmp_path, "3.11")


def test_nothing_found_and_no_way_to_build_says_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpython, "candidates", lambda _series: [cpython.Candidate(tmp_path, "pyenv", fault="is old")])
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with pytest.raises(Problem, match=r"LW-KIT-009: .*apt-get install mmdebstrap.*Looked at: pyenv is old"):
        conda_kit.choose("auto", "3.11", tmp_path, "")


def test_building_needs_root_and_a_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _name: "/usr/bin/mmdebstrap")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(Problem, match="LW-KIT-010"):
        chroot.built_cpython(tmp_path, "3.11")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(chroot, "machine_mirror", lambda: "")
    with pytest.raises(Problem, match="LW-KIT-011"):
        chroot.built_cpython(tmp_path, "3.11")


def test_a_build_that_fails_is_told_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "mmdebstrap", "echo no space left", "exit 1")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(
        Problem, match=r"LW-KIT-012: building CPython 3.11 failed: no space left \(all of it: (.*)\)"
    ) as told:
        chroot.built_cpython(tmp_path, "3.11", "http://m.example/debian")
    assert Path(str(told.value).split("all of it: ")[1].rstrip(").")).read_text() == "no space left\n"


def test_a_built_cpython_that_cannot_be_used_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chroot, "built_cpython", lambda *_: tmp_path)
    with pytest.raises(Problem, match=r"LW-KIT-013: the CPython that was built has no CPython 3.11. Remove"):
        conda_kit.choose("build", "3.11", tmp_path, "")


def test_tools_that_cannot_be_had_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "requirements.txt").write_text("zstandard==0.1\n")
    bare = program(tmp_path, "bare", "echo No module named venv", "exit 1")
    pip = 'printf \'#!/bin/sh\\necho ERROR: no index >&2; exit 1\' > "$3/bin/python"; chmod +x "$3/bin/python"'
    unreached = program(tmp_path, "unreached", 'mkdir -p "$3/bin"', pip)
    for python, said in ((bare, "LW-KIT-001: .*No module named venv"), (unreached, "LW-KIT-002: .*: no index Look at")):
        monkeypatch.setattr("sys.executable", str(python))
        with pytest.raises(Problem, match=said):
            tools.venv(tmp_path / "cache", tmp_path / "requirements.txt")
    assert not list(tmp_path.rglob("ready"))


@pytest.mark.parametrize(
    ("error", "said"),
    [("no index", r"LW-KIT-005: the packages of env/kit/base.txt .*: no index"), ("", r"LW-KIT-014: .*\['it broke'\]")],
)
def test_a_kit_that_cannot_be_made_is_told(
    error: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = program(tmp_path, "python", "cat > /dev/null; echo it broke >&2; exit 1")
    monkeypatch.setattr(tools, "venv", lambda _cache: maker)
    monkeypatch.setattr(tools, "pip_download", lambda *_: error)
    found = cpython.look_at(plain_cpython(tmp_path / "p"), "pyenv", "3.11")
    with pytest.raises(Problem, match=said):
        conda_kit.make(found, "3.11", tmp_path / "cache")


def test_a_cpython_without_its_libraries_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "ldd", "echo '\tlibgone.so.1 => not found'")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Problem, match=r"LW-KIT-006: the chosen CPython needs libgone.so.1, which"):
        wanted_libraries([tmp_path / "python"], tmp_path)
    moved = program(tmp_path, "python", "echo \"ModuleNotFoundError: No module named '_ssl'\" >&2; exit 1")
    with pytest.raises(Problem, match=r"LW-KIT-007: .* once it is moved: ModuleNotFoundError: No module named '_ssl'"):
        self_test(moved)


@pytest.mark.parametrize(
    ("files", "said"),
    [({"conda_lock/x.py": ""}, "carries no conda"), ({"conda_lock/_vendor/conda/_version.py": ""}, "does not say its")],
)
def test_a_wheel_without_a_conda_is_told(files: dict[str, str], said: str, tmp_path: Path) -> None:
    path = tmp_path / "conda_lock-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    with pytest.raises(Problem, match=f"LW-KIT-008: .*{said}"):
        lay_out_conda(path, tmp_path / "root", "3.11")


def test_the_mirror_is_debians_and_not_its_security_archive() -> None:
    lines = "Node https://node.example/\nDebian http://m.example/debian-security/\nDebian http://m.example/debian/\n"
    assert chroot.debian_mirror(lines) == "http://m.example/debian/"
    assert chroot.debian_mirror("Ubuntu http://m.example/ubuntu/\n") == ""


def test_ldd_is_read() -> None:
    text = "\tlinux-vdso.so.1 (0x1)\n\tlibssl.so.3 => /lib/x/libssl.so.3 (0x2)\n\tlibgone.so => not found\n"
    assert parse_ldd(text) == {"libssl.so.3": "/lib/x/libssl.so.3", "libgone.so": ""}


def wheel(folder: Path, tag: str) -> Path:
    path = folder / f"tool-1.0-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tool/__init__.py", "")
        archive.writestr("tool-1.0.data/scripts/helper", "#!python\n")
        archive.writestr("tool-1.0.dist-info/METADATA", "Name: Tool\nVersion: 1.0\nRequires-Dist: six>=1\n")
        archive.writestr("tool-1.0.dist-info/entry_points.txt", "[console_scripts]\nTool = tool:main [extra]\n")
    return path


def test_a_pure_wheel_is_noarch_and_a_compiled_one_is_not(tmp_path: Path) -> None:
    pure = lay_out_wheel(wheel(tmp_path, "py3-none-any"), tmp_path / "pure", "3.11")
    assert pure == Recipe("tool", "1.0", "pyhd_0", ("python >=3.11", "six >=1"), True, ("Tool = tool:main",))
    assert (tmp_path / "pure/python-scripts/helper").stat().st_mode & 0o100
    assert (tmp_path / "pure/site-packages/tool-1.0.dist-info/INSTALLER").read_text() == "conda\n"
    compiled = lay_out_wheel(wheel(tmp_path, "cp311-cp311-linux_x86_64"), tmp_path / "compiled", "3.11")
    assert (compiled.build, compiled.depends[0], compiled.noarch_python) == ("py311_0", "python 3.11.*", False)
    assert "from tool import main" in (tmp_path / "compiled/bin/Tool").read_text()


def test_requirements_are_judged_for_the_host() -> None:
    needs = ("a; sys_platform == 'win32'", "b; python_version < '3.12'", "c; extra == 'x'")
    text = "".join(f"Requires-Dist: {need}\n" for need in needs)
    assert depends_of(Parser().parsestr(text), "3.11", pure=True) == ("python >=3.11", "b")


def test_places_of_a_wheels_members() -> None:
    assert place_of("a/b.py", "site", "bin") == "site/a/b.py"
    assert place_of("x-1.data/purelib/a.py", "site", "bin") == "site/a.py"
    assert place_of("x-1.data/data/share/a", "site", "bin") == "share/a"
    assert place_of("x-1.data/headers/a.h", "site", "bin") is None
    assert console_scripts("[gui_scripts]\na = b:c\n") == ()


@pytest.fixture
def made_installer(tmp_path: Path) -> Path:
    base = tree(tmp_path / "base")
    (base / "bin/conda").write_text(f"#!{base}/bin/python\n")
    (base / "pkgs").mkdir()
    (base / "pkgs/cache").write_text("left out")
    installer.write_installer(base, tmp_path / "conda.sh")
    again = tmp_path / "again.sh"
    installer.write_installer(base, again)
    assert again.read_bytes() == (tmp_path / "conda.sh").read_bytes()
    return tmp_path / "conda.sh"


def run(*command: str | Path) -> tuple[int, str]:
    answer = subprocess.run(["sh", *map(str, command)], check=False, capture_output=True, text=True)
    return answer.returncode, answer.stdout + answer.stderr


def test_the_installer_installs_and_writes_its_prefix(made_installer: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    assert run(made_installer, "-b", "-p", prefix)[0] == 0
    assert (prefix / "bin/conda").read_text() == f"#!{prefix}/bin/python\n"
    assert not (prefix / "pkgs/cache").exists()
    assert str(tmp_path / "base").encode() not in made_installer.read_bytes()
    status, said = run(made_installer, "-b", "-p", prefix)
    assert status == 1
    assert "is there already; -u" in said
    assert run(made_installer, "-b", "-u", "-p", prefix)[0] == 0


def test_the_installer_has_the_manners_of_the_real_one(made_installer: Path, tmp_path: Path) -> None:
    assert "no spaces" in run(made_installer, "-b", "-p", tmp_path / "a b")[1]
    assert run(made_installer, "-p", tmp_path / "p")[0] == 2
    other = tmp_path / "conda"
    other.write_bytes(made_installer.read_bytes())
    assert "ends in .sh" in run(other, "-b", "-p", tmp_path / "p")[1]
    data = bytearray(made_installer.read_bytes())
    data[-9] ^= 1
    made_installer.write_bytes(data)
    status, said = run(made_installer, "-b", "-p", tmp_path / "p")
    assert status == 1
    assert "damaged" in said
    assert not (tmp_path / "p").exists()


def test_the_makers_prefix_is_forgotten_with_its_byte_code(tmp_path: Path) -> None:
    (tmp_path / "__pycache__").mkdir()
    data = tmp_path / "_sysconfigdata__linux_x86_64-linux-gnu.py"
    data.write_text("build_time_vars = {'LIBDIR': '/install/lib',\n 'prefix': '/install'}\n")
    compiled = tmp_path / "__pycache__/_sysconfigdata__linux_x86_64-linux-gnu.cpython-311.pyc"
    compiled.touch()
    assert forget_prefix(tmp_path) == [data]
    assert data.read_text() == f"build_time_vars = {{'LIBDIR': '{PLACEHOLDER}/lib',\n 'prefix': '{PLACEHOLDER}'}}\n"
    assert not compiled.exists()
