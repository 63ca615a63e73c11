"""The Conda lock: the committed one is right, each fault is named, and real conda-lock makes it again."""

from __future__ import annotations

import functools
import http.server
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kit.problem import Problem
from labwright import catalog
from locking import conda
from locking.fitting import GLIBC_MINOR
from locking.matchspec import UnknownFormError, compare, fits

LOCK = "conda/conda-lock.yml"
RECORDS = "catalog/conda.yml"


@pytest.fixture
def env(tmp_path: Path) -> Path:
    """What the lock is made from and checked with, to be changed."""
    for name in ("conda", "catalog", "stacks", "agents"):
        shutil.copytree(conda.ENV / name, tmp_path / name)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    """Put one text for another, wherever it stands."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def records(env: Path) -> list[dict[str, Any]]:
    return list(catalog.checked(env, "conda")["packages"])


# ---- the committed one


def test_the_committed_lock_has_no_fault() -> None:
    assert conda.faults() == []


def test_the_catalogue_is_written_as_the_program_writes_it() -> None:
    path = conda.ENV / RECORDS
    assert conda.catalogue_text(yaml.safe_load(path.read_text(encoding="utf-8"))) == path.read_text(encoding="utf-8")


def test_both_platforms_have_the_same_python_and_the_same_pure_packages() -> None:
    packages = yaml.safe_load((conda.ENV / LOCK).read_text(encoding="utf-8"))["package"]
    versions = {
        platform: {row["name"]: row["version"] for row in packages if row["platform"] == platform}
        for platform in conda.PLATFORMS
    }
    linux, windows = versions["linux-64"], versions["win-64"]
    assert {name: linux[name] for name in ("python", "pip", "setuptools", "wheel")}.items() <= windows.items()
    assert {"libgcc", "ncurses"} <= set(linux) - set(windows)
    assert {"vc14_runtime", "ucrt"} <= set(windows) - set(linux)


def test_the_glibc_that_is_solved_for_is_that_of_the_python_locks() -> None:
    virtual = yaml.safe_load((conda.ENV / "conda/virtual-packages.yml").read_text(encoding="utf-8"))["subdirs"]
    assert virtual["linux-64"]["packages"]["__glibc"] == f"2.{GLIBC_MINOR}"


def test_conda_lock_and_the_conda_that_solves_are_of_one_version() -> None:
    pins = [
        re.findall(r"^conda-lock==\S+$", (conda.ENV / name).read_text(encoding="utf-8"), re.MULTILINE)
        for name in ("conda/tools.in", "kit/conda.in")
    ]
    assert pins[0] == pins[1]
    assert len(pins[0]) == 1


# ---- each fault


def flip_in_lock(env: Path) -> None:
    row = records(env)[0]
    edit(env / LOCK, row["sha256"], row["sha256"][::-1])


def flip_in_catalogue(env: Path) -> None:
    row = records(env)[0]
    edit(env / RECORDS, row["sha256"], row["sha256"][::-1])


def without(name: str, platform: str = "") -> Callable[[Path], None]:
    """Take a package out of the lock, or a whole platform."""

    def change(env: Path) -> None:
        head, body = (env / LOCK).read_text(encoding="utf-8").split("version: 1\n")
        content = yaml.safe_load(body)
        content["package"] = [p for p in content["package"] if p["name"] != name and p["platform"] != platform]
        (env / LOCK).write_text(f"{head}version: 1\n{yaml.safe_dump(content)}", encoding="utf-8")

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda env: (env / LOCK).unlink(), r"LW-LOCK-023: env/conda cannot be read \(FileNotFoundError"),
        (lambda env: (env / LOCK).write_text("package: 1\n"), r"LW-LOCK-023: env/conda cannot be read \(TypeError"),
        (lambda env: edit(env / "conda/environment.yml", "=3.11", "=3.12"), r"LW-LOCK-024: .* not made from"),
        (lambda env: edit(env / "conda/virtual-packages.yml", "2.28", "2.39"), r"LW-LOCK-024: .* not made from"),
        (without("", "win-64"), r"LW-LOCK-024: conda-lock\.yml has nothing for win-64"),
        (
            lambda env: edit(
                env / LOCK, "https://conda.anaconda.org/conda-forge/linux-64/bzip2", "https://example.org/bzip2"
            ),
            r"LW-LOCK-025: linux-64 bzip2 1\.0\.8 is at https://example\.org/bzip2-",
        ),
        (
            lambda env: edit(env / LOCK, "bzip2-1.0.8-", "bzip2-1.0.7-"),
            r"LW-LOCK-025: linux-64 bzip2 1\.0\.8 is at .*0\.7-",
        ),
        (
            lambda env: edit(env / LOCK, f"    sha256: {records(env)[0]['sha256']}\n", ""),
            r"LW-LOCK-025: linux-64 \S+ \S+ has no sha256",
        ),
        (flip_in_lock, r"LW-LOCK-026: linux-64 .*: sha256 is \w+ in conda-lock\.yml, but \w+ in env/catalog"),
        (flip_in_catalogue, r"LW-LOCK-026: linux-64 .*: sha256 is "),
        (
            lambda env: edit(env / LOCK, "    libgomp: '>=7.5.0'\n", ""),
            r"LW-LOCK-026: linux-64 _openmp_mutex 4\.5 depends on other packages than its record",
        ),
        (without("libzlib"), r"LW-LOCK-027: linux-64: libsqlite needs `libzlib .*`, and there is no libzlib"),
        (without("vcomp14"), r"LW-LOCK-027: win-64: vc14_runtime needs `vcomp14 14.*`, and there is no vcomp14"),
        (
            lambda env: edit(env / RECORDS, "'libzlib >=1.3.1,<2.0a0'", "'libzlib >=1.4,<2.0a0'"),
            r"LW-LOCK-027: linux-64: .* needs `libzlib >=1\.4,<2\.0a0`, but libzlib is 1\.3\.2 ",
        ),
        (
            lambda env: edit(env / RECORDS, "vcomp14 14.44.35208 h818238b_34", "vcomp14 14.44.35208 h818238b_35"),
            r"LW-LOCK-027: win-64: vc14_runtime needs `vcomp14 14\.44\.35208 h818238b_35`, but vcomp14 is ",
        ),
        (
            lambda env: edit(env / "conda/virtual-packages.yml", '"2.28"', '"2.16"'),
            r"LW-LOCK-027: linux-64: .* needs `__glibc >=2\.17,<3\.0\.a0`, but __glibc is 2\.16 0",
        ),
        (
            lambda env: edit(env / RECORDS, "ld_impl_linux-64 >=2.36.1", "libexpat <2"),
            r"LW-LOCK-027: linux-64: python needs `libexpat <2`, but libexpat is 2\.7\.5 ",
        ),
        (
            lambda env: edit(env / "stacks/frontend/stack.yml", '"3.11"', '"3.12"'),
            r"LW-LOCK-028: linux-64 has Python 3\.11\.15, but env/stacks/frontend/stack\.yml wants 3\.12;",
        ),
    ],
)
def test_a_fault_is_named(env: Path, change: Callable[[Path], object], sentence: str) -> None:
    assert conda.faults(env) == []
    change(env)
    found = conda.faults(env)
    assert [fault for fault in found if re.match(sentence, fault)], found


def test_a_constraint_that_a_package_breaks_is_named() -> None:
    rows = [
        {"name": "a", "version": "1", "build": "0", "depends": [], "constrains": ["b 2.*", "c >1"]},
        {"name": "b", "version": "1.5", "build": "h_0", "depends": ["a [build=x]"]},
    ]
    assert list(conda.closure_faults(rows, {})) == [
        "a admits only `b 2.*`, but b is 1.5 h_0",
        "b needs `a [build=x]`, a form (a [build=x]) that env/locking/matchspec.py does not know",
    ]


# ---- conda's versions


def test_versions_stand_in_conda_s_order() -> None:
    text = "0.4 0.4.1.rc 0.4.1 0.5a1 0.5b3 0.5 0.9.6 0.960923 1.0 1.1dev1 1.1a1 1.1.0post1 1996.07.12 1!0.4.1"
    ordered = text.split()
    assert all(compare(a, b) == (i > j) - (i < j) for i, a in enumerate(ordered) for j, b in enumerate(ordered))
    assert compare("1.1", "1.1.0") == 0
    assert compare("1.0+b", "1.0+a") == 1


@pytest.mark.parametrize(
    ("spec", "version", "build", "fitting"),
    [
        ("x", "1", "0", True),
        ("y", "1", "0", False),
        ("x >=1.2,<3.0.a0", "2.9", "0", True),
        ("x >=1.2,<3.0.a0", "3.0", "0", False),
        ("x <7.0a0", "7.0", "0", False),
        ("x <7.0a0", "6.99", "0", True),
        ("x 1.3|2.*", "2.7", "0", True),
        ("x 1.3", "1.3.0", "0", True),
        ("x 1.3", "1.3.1", "0", False),
        ("x 1.3.*", "1.31", "0", False),
        ("x !=1.3.*", "1.3.9", "0", False),
        ("x =1.3", "1.3.9", "0", True),
        ("x 3.11.* *_cp311", "3.11.4", "7_cp311", True),
        ("x 3.11.* *_cp311", "3.11.4", "7_cp312", False),
        ("x ==15.2.0=*_18", "15.2.0", "h_18", True),
        ("x ==15.2.0=*_18", "15.2.0", "h_19", False),
    ],
)
def test_a_dependency_is_judged_by_version_and_build(spec: str, version: str, build: str, fitting: bool) -> None:
    assert fits(spec, "x", version, build) is fitting


@pytest.mark.parametrize("spec", ["x[version='>1']", "x >=1.*", "x ~=1.2", "x ^1$", "x 1 0 extra", "x 1.0+a.*"])
def test_a_form_that_is_not_covered_is_refused(spec: str) -> None:
    with pytest.raises(UnknownFormError):
        fits(spec, "x", "1", "0")


# ---- made for real: conda-lock and the kit's conda, some seconds each once the kit is in the cache


def test_locking_again_gives_the_same_bytes_and_says_where_each_sum_was_read(env: Path) -> None:
    before = {name: (env / name).read_bytes() for name in (LOCK, RECORDS)}
    (env / LOCK).unlink()
    told = [conda.lock(env, "catalogue"), conda.lock(env)]
    assert {name: (env / name).read_bytes() for name in before} == before
    assert told[1][0].startswith(
        "env/conda/conda-lock.yml: solved against env/catalog/conda.yml (the inputs are unchanged;"
    )
    assert told[0][1:] == told[1][1:]
    assert len(told[0]) == 1 + before[LOCK].count(b"\n- name: ")
    assert all(re.search(r" sha256:[0-9a-f]{64} catalogue: \S", line) for line in told[0][1:])


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server on this machine that stands for a mirror of conda-forge, and its folder."""
    folder = tmp_path / "www/conda-forge"
    folder.mkdir(parents=True)
    handler = functools.partial(Quiet, directory=str(folder.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as service:
        thread = threading.Thread(target=service.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{service.server_address[1]}/conda-forge/", folder
        service.shutdown()
        thread.join()


def test_what_a_mirror_has_is_resolved_now_and_kept_for_later(env: Path, mirror: tuple[str, Path]) -> None:
    address, folder = mirror
    [wheel] = [row for row in records(env) if row["name"] == "wheel"]
    newer = wheel | {"version": "0.99.0", "url": wheel["url"].replace("-0.46.3-", "-0.99.0-"), "sha256": "0" * 64}
    conda.write_channel([*records(env), newer], folder)
    told = conda.lock(env, "conda-forge", address)
    assert told[0] == f"env/conda/conda-lock.yml: solved against {address} (asked for with --source conda-forge)."
    assert all(line.endswith(" resolved now") for line in told[1:])
    assert f"  win-64 wheel 0.99.0 sha256:{'0' * 64} resolved now" in told
    assert conda.faults(env) == []
    [kept] = [row for row in records(env) if row["url"] == newer["url"]]
    assert kept == newer | {"sources": ["resolved"]}
    assert "127.0.0.1" not in (env / LOCK).read_text(encoding="utf-8") + (env / RECORDS).read_text(encoding="utf-8")
    # The same again without the mirror: the record has become a source.
    before = (env / LOCK).read_bytes()
    assert "wheel 0.99.0" in "\n".join(conda.lock(env))
    assert (env / LOCK).read_bytes() == before


def test_a_sum_that_contradicts_the_catalogue_is_refused(env: Path, mirror: tuple[str, Path]) -> None:
    address, folder = mirror
    before = {name: (env / name).read_bytes() for name in (LOCK, RECORDS)}
    conda.write_channel(
        [row | {"sha256": "0" * 64} if row["name"] == "tzdata" else row for row in records(env)], folder
    )
    with pytest.raises(
        Problem, match=rf"^LW-LOCK-026: \S+/tzdata-\S+: sha256 {'0' * 64} in the index, but env/catalog"
    ):
        conda.lock(env, "conda-forge", address)
    assert {name: (env / name).read_bytes() for name in before} == before


def test_what_nobody_can_solve_is_said(env: Path) -> None:
    edit(env / "conda/environment.yml", "python =3.11", "python =3.12")
    with pytest.raises(Problem, match=r"^LW-LOCK-029: conda-lock could not lock against .*python=3\.12"):
        conda.lock(env, "catalogue")
    with pytest.raises(
        Problem, match=r"^LW-LOCK-029: the mirror is http://127\.0\.0\.1/forge; expected an address that ends "
    ):
        conda.lock(env, "conda-forge", "http://127.0.0.1/forge")


def test_where_conda_forge_is_silent_the_catalogue_serves(env: Path) -> None:
    assert conda.choose(env, "auto", "")[0] == ""
    edit(env / "conda/environment.yml", "  - wheel\n", "")
    channel, why = conda.choose(env, "auto", "http://127.0.0.1:9/conda-forge")
    assert channel == ""
    assert why.startswith("http://127.0.0.1:9/conda-forge does not answer: ")
