"""Conda from conda-forge, against a server on this machine with small made-up files: mirrors, sums, failures, order."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hostkit import login
from kit import forge, tools
from kit.fetch import answers, fetch, logins, mirrored
from kit.problem import Problem
from unit.hostkit.loopback import Loopback, Reply, behind, ranged, raw, serving

ENV = Path(__file__).resolve().parents[2] / "env"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "www"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as service:
        thread = threading.Thread(target=service.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{service.server_address[1]}", folder
        service.shutdown()
        thread.join()


def put(folder: Path, name: str, data: bytes) -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def world(server: tuple[str, Path]) -> tuple[dict[str, Any], list[dict[str, Any]], forge.Mirrors, Path]:
    base, folder = server
    packages = []
    for subdir, name, depends in (("linux-64", "python", ["__glibc >=2.17"]), ("noarch", "pip", ["python >=3.10"])):
        file = f"{subdir}/{name}-1-0.conda"
        digest = put(folder, f"forge/{file}", name.encode())
        facts = {
            "version": "1",
            "build": "0",
            "build_number": 0,
            "subdir": subdir,
            "depends": depends,
            "sha256": digest,
        }
        packages.append({"name": name, "url": forge.CONDA_FORGE + file, **facts})
    file = "25.1-0/Miniforge3-25.1-0-Linux-x86_64.sh"
    installer = {"url": forge.MINIFORGE + file, "version": "25.1-0", "sha256": put(folder, f"mini/{file}", b"#!")}
    return installer, packages, forge.Mirrors(f"{base}/forge/", f"{base}/mini/{{version}}"), folder


def test_installer_and_packages_come_from_the_mirrors(world: Any, tmp_path: Path) -> None:
    installer, packages, mirrors, folder = world
    assert forge.unreachable(installer, packages, mirrors, 5) == ""
    part = forge.conda_part(installer, packages, mirrors, tmp_path / "cache")
    assert part.source == "conda-forge"
    assert part.environment == ["channel/linux-64/python-1-0.conda", "channel/noarch/pip-1-0.conda"]
    assert part.installer["path"] == "installers/Miniforge3-25.1-0-Linux-x86_64.sh"
    assert set(part.files) > {part.installer["path"], *part.environment}
    repodata = json.loads(part.files["channel/noarch/repodata.json"].read_text())
    assert repodata["packages.conda"]["pip-1-0.conda"]["depends"] == ["python >=3.10"]
    # Everything is in the cache now: the same again without a server that has it.
    (folder / "forge").rename(folder / "gone")
    assert forge.conda_part(installer, packages, mirrors, tmp_path / "cache").environment == part.environment


def test_wrong_sum_is_refused_and_not_kept(world: Any, tmp_path: Path) -> None:
    installer, packages, mirrors, folder = world
    put(folder, "forge/linux-64/python-1-0.conda", b"pythom")
    with pytest.raises(Problem, match=r"LW-BUNDLE-030: python-1-0\.conda .* sha256 .*, expected "):
        forge.conda_part(installer, packages, mirrors, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*python*"))


def test_damaged_cache_is_fetched_again(world: Any, tmp_path: Path) -> None:
    installer, packages, mirrors, _ = world
    part = forge.conda_part(installer, packages, mirrors, tmp_path / "cache")
    part.files[part.environment[0]].write_bytes(b"damaged")
    part = forge.conda_part(installer, packages, mirrors, tmp_path / "cache")
    assert part.files[part.environment[0]].read_bytes() == b"python"


def test_unreachable_says_who_does_not_answer(world: Any) -> None:
    installer, packages, mirrors, folder = world
    (folder / "mini/25.1-0/Miniforge3-25.1-0-Linux-x86_64.sh").unlink()
    reason = forge.unreachable(installer, packages, mirrors, 5)
    assert reason.startswith("127.0.0.1:")
    assert "does not answer (" in reason
    assert answers("http://127.0.0.1:9/", 2)


def test_the_next_address_is_tried(server: tuple[str, Path], tmp_path: Path) -> None:
    base, folder = server
    digest = put(folder, "b/x", b"x")
    put(folder, "a/x", b"y")
    assert fetch([f"{base}/none", f"{base}/a/x", f"{base}/b/x"], tmp_path / "x", digest).read_bytes() == b"x"


# --- transfers that break ---------------------------------------------------------------------------------------------

DATA = bytes(range(250)) * 4
SUM = hashlib.sha256(DATA).hexdigest()
BROKEN = Reply(DATA[:900], length=1000)


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    with serving() as found:
        yield found


def ranges(mirror: Loopback) -> list[str | None]:
    return [asked.headers.get("Range") for asked in mirror.asked]


def test_a_transfer_goes_on_where_it_broke(mirror: Loopback, tmp_path: Path) -> None:
    mirror.answers["/x"] = [BROKEN, Reply(DATA[900:950], 206, length=100), ranged(DATA)]
    assert fetch([f"{mirror.url}/x"], tmp_path / "x", SUM).read_bytes() == DATA
    assert ranges(mirror) == [None, "bytes=900-", "bytes=950-"]
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_what_came_is_kept_for_the_next_run(mirror: Loopback, tmp_path: Path) -> None:
    mirror.answers["/x"] = [BROKEN, Reply(status=503)]
    with pytest.raises(Problem, match=r"LW-BUNDLE-030: x could not .*: Service Unavailable\. The 900 bytes that came"):
        fetch([f"{mirror.url}/x"], tmp_path / "x", SUM)
    mirror.answers["/x"] = ranged(DATA)
    assert fetch([f"{mirror.url}/x"], tmp_path / "x", SUM).read_bytes() == DATA
    assert ranges(mirror) == [None, "bytes=900-", "bytes=900-"]


def test_a_server_that_breaks_at_one_place_each_time_is_not_asked_for_ever(mirror: Loopback, tmp_path: Path) -> None:
    mirror.answers["/x"] = BROKEN
    with pytest.raises(Problem, match="/x: the transfer broke off"):
        fetch([f"{mirror.url}/x"], tmp_path / "x", SUM)
    mirror.answers["/x"] = [Reply(DATA[:count], length=1000) for count in range(10, 100)]
    with pytest.raises(Problem, match="/x: the transfer broke off"):
        fetch([f"{mirror.url}/x"], tmp_path / "y", SUM)
    assert ranges(mirror) == [None, "bytes=900-", None, "bytes=10-", "bytes=11-", "bytes=12-"]


def test_a_piece_of_another_file_is_thrown_away(mirror: Loopback, tmp_path: Path) -> None:
    (tmp_path / ".x.partial").write_bytes(b"?" * 500)
    mirror.answers["/x"] = ranged(DATA)
    assert fetch([f"{mirror.url}/x"], tmp_path / "x", SUM).read_bytes() == DATA
    assert ranges(mirror) == ["bytes=500-", None]


def test_a_piece_that_is_whole_only_gets_its_name(mirror: Loopback, tmp_path: Path) -> None:
    (tmp_path / ".x.partial").write_bytes(DATA)
    assert fetch([f"{mirror.url}/x"], tmp_path / "x", SUM).read_bytes() == DATA
    assert mirror.asked == []


@pytest.mark.parametrize("known", [{}, {"size": 1000}])
def test_a_file_without_a_sum_comes_whole_from_one_address_or_not_at_all(
    mirror: Loopback, tmp_path: Path, known: dict[str, Any]
) -> None:
    mirror.answers["/x"] = BROKEN
    (tmp_path / ".x.partial").write_bytes(b"older")
    with pytest.raises(Problem, match=r"LW-BUNDLE-030: x .*/x: the transfer broke off\. Is it"):
        fetch([f"{mirror.url}/x"], tmp_path / "x", "", **known)
    assert list(tmp_path.iterdir()) == []
    mirror.answers["/y"] = ranged(DATA)
    assert fetch([f"{mirror.url}/x", f"{mirror.url}/y"], tmp_path / "x", "", **known).read_bytes() == DATA


def test_a_broken_transfer_in_chunks_is_one_too(mirror: Loopback, tmp_path: Path) -> None:
    mirror.answers |= {"/cut": Reply(stream=[DATA[:900]], whole=False), "/x": ranged(DATA)}
    broken = r"/cut: the transfer broke off; .*/cut: the transfer broke off\. The 900 bytes that came are kept"
    with pytest.raises(Problem, match=broken):
        fetch([f"{mirror.url}/cut", f"{mirror.url}/cut"], tmp_path / "x", SUM)
    assert fetch([f"{mirror.url}/cut", f"{mirror.url}/x"], tmp_path / "x", SUM).read_bytes() == DATA


def test_a_file_without_an_end_is_none(mirror: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hostkit.fetch.LONGEST", 999)
    mirror.answers["/x"] = Reply(stream=[DATA])
    with pytest.raises(Problem, match=r"LW-BUNDLE-030: .*/x: it is longer than 999 bytes\. Is it"):
        fetch([f"{mirror.url}/x"], tmp_path / "x", SUM)
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_speak_http_does_not_answer(tmp_path: Path) -> None:
    with raw(b"SSH-2.0\r\n") as port:
        assert answers(f"http://127.0.0.1:{port}/", 5)
        with pytest.raises(Problem, match="LW-BUNDLE-030"):
            fetch([f"http://127.0.0.1:{port}/x"], tmp_path / "x", SUM)


@pytest.mark.parametrize(
    ("known", "reason"),
    [({"size": 999}, "1000 bytes, expected 999"), ({"git_sha1": "1" * 40}, "sha1 [0-9a-f]{40}, expected 1{40}")],
)
def test_all_that_is_known_of_a_file_is_compared(
    mirror: Loopback, tmp_path: Path, known: dict[str, Any], reason: str
) -> None:
    mirror.answers["/x"] = ranged(DATA)
    with pytest.raises(Problem, match=f"/x: {reason}"):
        fetch([f"{mirror.url}/x"], tmp_path / "x", "", **known)
    assert list(tmp_path.iterdir()) == []


def test_gits_own_sum_is_that_of_its_blob(mirror: Loopback, tmp_path: Path) -> None:
    mirror.answers["/x"] = ranged(b"hello\n")
    git = "ce013625030ba8dba906f756967f9e9ca394464a"  # echo hello | git hash-object --stdin
    assert fetch([f"{mirror.url}/x"], tmp_path / "x", "", git_sha1=git).read_bytes() == b"hello\n"


def test_a_full_disk_is_no_servers_fault(mirror: Loopback, tmp_path: Path) -> None:
    mirror.answers["/x"] = ranged(DATA)
    (tmp_path / ".x.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        fetch([f"{mirror.url}/x", f"{mirror.url}/x"], tmp_path / "x", SUM, size=len(DATA))
    assert len(mirror.asked) == 1


# ----------------------------------------------------------------------------------------------------------------------


def test_mirrored() -> None:
    assert mirrored("https://a.example/x/y", "https://a.example/", "http://m/z/") == "http://m/z/x/y"
    assert mirrored("https://b.example/x", "https://a.example/", "http://m") == "https://b.example/x"
    assert mirrored("https://a.example/x", "https://a.example/", "") == "https://a.example/x"


def test_the_committed_lock_is_a_closure_in_order_from_conda_forge_alone() -> None:
    packages = forge.read_lock(ENV)
    names = {package["name"] for package in packages}
    assert names >= {"python", "pip", "setuptools", "wheel"}
    for package in packages:
        assert package["url"] == f"{forge.CONDA_FORGE}{package['subdir']}/{package['url'].rsplit('/', 1)[1]}"
        assert package["url"].endswith(f"/{package['name']}-{package['version']}-{package['build']}.conda")
        assert {d.split()[0] for d in package["depends"] if not d.startswith("__")} <= names
    rank = {package["name"]: index for index, package in enumerate(packages)}
    assert len(rank) == len(packages)
    for package in packages:
        assert all(rank[d.split()[0]] < rank[package["name"]] for d in package["depends"] if not d.startswith("__"))


def test_the_catalogue_has_the_installer() -> None:
    assert forge.read_installer(ENV / "catalog/installers.yml")["url"].startswith(forge.MINIFORGE)


def test_a_catalogue_without_the_installer_is_named(tmp_path: Path) -> None:
    (tmp_path / "installers.yml").write_text("- {name: miniforge3, platform: win-64, sha256: a}\n")
    with pytest.raises(Problem, match=r"LW-BUNDLE-011: .*installers.yml names no miniforge3 for linux-64"):
        forge.read_installer(tmp_path / "installers.yml")


def test_a_lock_that_is_not_there_is_a_problem_of_the_bundle(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"LW-CAT-001: .*conda\.yml cannot be read"):
        forge.read_lock(tmp_path)


# --- logins -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def _no_logins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "LOGINS", {})


@pytest.fixture
def guarded() -> Iterator[Loopback]:
    with serving() as server:
        server.answers["/x"] = behind("lab:geheim", Reply(b"x"))
        yield server


@pytest.mark.usefixtures("_no_logins")
def test_logins_come_from_the_netrc_file(guarded: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert logins() == {}
    with pytest.raises(Problem, match=r"LW-BUNDLE-030: .*401, it wants a login: set lab_mirror_credentials for 127"):
        fetch([f"{guarded.url}/x"], tmp_path / "x", digest)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login lab password geheim\ndefault login a password b\n")
    assert set(logins()) == {"127.0.0.1"}
    login.use(logins())
    assert answers(f"{guarded.url}/x", 5) == ""
    assert fetch([f"{guarded.url}/x"], tmp_path / "x", digest).read_bytes() == b"x"


@pytest.mark.parametrize("text", ["machine", "geheim is the password"])
def test_a_netrc_file_that_is_none_is_a_sentence_without_its_text(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text(text)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(Problem, match="LW-BUNDLE-031: ") as found:
        logins()
    assert "geheim" not in str(found.value)


def test_an_index_that_wants_a_login_is_named_when_pip_found_nothing(
    guarded: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded.answers["/simple/pip/"] = Reply(status=401)
    assert "401, it wants a login" in tools.refused(f"{guarded.url}/simple/")[0]
    assert tools.refused(f"{guarded.url}/other") == tools.refused("") == []
    monkeypatch.setenv("PIP_INDEX_URL", f"{guarded.url}/simple")
    said = subprocess.CompletedProcess([], 1, "", "ERROR: No matching distribution\n")
    assert tools.last_words(said).startswith("No matching distribution http://127.0.0.1")
