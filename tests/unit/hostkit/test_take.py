"""hostkit.take: all that a host will need is in its store, verified, before anything else is changed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hostkit import take
from hostkit.fetch import stored
from hostkit.result import Problem
from hostkit.state import State
from unit.hostkit.look import look, package
from unit.hostkit.loopback import Loopback, ranged


@pytest.fixture
def request_(server: Loopback, tmp_path: Path) -> dict[str, Any]:
    """An installer, two environments that share their Python, and a model; 2 + 20 + 7 + 100 bytes."""
    python = server.file("python.conda", b"p" * 20)
    lock = {"name": "torch", "digest": "2", "requirements": "torch==2.0\n"}
    return {
        "store": str(tmp_path / "store"),
        "installers": [{**server.file("conda.sh", b"sh"), "unless": str(tmp_path / "conda" / "stamp")}],
        "environments": [
            {
                "prefix": str(tmp_path / "envs" / "one"),
                "layers": [
                    {"name": "conda", "digest": "1", "conda": [python]},
                    {**lock, "wheels": [server.file("torch.whl", b"t" * 7)]},
                ],
            },
            {
                "prefix": str(tmp_path / "envs" / "two"),
                "layers": [{"name": "conda", "digest": "1", "conda": [python]}, {**lock, "index": []}],
            },
        ],
        "models": [
            {
                "path": str(tmp_path / "models" / "demo"),
                "store": str(tmp_path / "store"),
                "files": [{**server.file("demo/weights.bin", b"w" * 100), "path": "weights.bin"}],
            }
        ],
    }


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_takes_each_needed_file_once(request_: dict[str, Any], server: Loopback, tmp_path: Path) -> None:
    result = take.run(request_, False)
    assert result.changed
    assert result.data == {"files": 4, "bytes": 129}
    assert names(tmp_path) == ["conda.sh", "python.conda", "torch.whl", "weights.bin"]
    assert len(server.asked) == 4
    assert not take.run(request_, False).changed
    assert len(server.asked) == 4


def test_check_mode_says_what_would_come(request_: dict[str, Any], server: Loopback, tmp_path: Path) -> None:
    result = take.run(request_, True)
    assert result.changed
    assert result.after.split() == ["conda.sh", "python.conda", "torch.whl", "weights.bin"]
    assert result.message.startswith("4 of 4 needed files")
    assert not server.asked
    assert not list(tmp_path.iterdir())


def test_what_the_host_has_is_not_needed(request_: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "conda").mkdir()
    (tmp_path / "conda" / "stamp").write_text(request_["installers"][0]["sha256"] + "\n")
    State([("conda", "1")]).write(tmp_path / "envs" / "one")
    State([("conda", "1"), ("torch", "2")]).write(tmp_path / "envs" / "two")
    package(tmp_path / "envs" / "two", "torch-2.0")
    for name in ("one", "two"):
        (tmp_path / "envs" / name / "conda-meta").mkdir()
        (tmp_path / "envs" / name / "conda-meta" / "python.json").touch()
    (tmp_path / "models" / "demo").mkdir(parents=True)
    (tmp_path / "models" / "demo" / "weights.bin").write_bytes(b"w" * 100)
    assert take.run(request_, True).after.split() == ["torch.whl"]


def test_another_installer_than_the_one_that_was_run_is_needed(request_: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "conda").mkdir()
    (tmp_path / "conda" / "stamp").write_text("0" * 64)
    assert "conda.sh" in take.run(request_, True).after


def test_a_tampered_file_ends_it_with_its_name(request_: dict[str, Any], server: Loopback, tmp_path: Path) -> None:
    server.answers["/torch.whl"] = ranged(b"T" * 7)
    with pytest.raises(Problem, match=r"LW-FETCH-003: torch\.whl"):
        take.run(request_, False)
    assert "torch.whl" not in names(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_file_that_was_spoilt_in_the_store_is_taken_again(request_: dict[str, Any], tmp_path: Path) -> None:
    take.run(request_, False)
    path = stored(tmp_path / "store", request_["installers"][0])
    path.write_bytes(b"xx")
    take.run(request_, False)
    assert path.read_bytes() == b"sh"


@pytest.mark.parametrize(("free", "fits"), [(10**9, True), (200, False), (0, False)])
def test_a_disk_that_is_too_small_is_said_before_anything_is_taken(
    request_: dict[str, Any], server: Loopback, monkeypatch: pytest.MonkeyPatch, free: int, fits: bool
) -> None:
    monkeypatch.setattr("hostkit.take.shutil.disk_usage", lambda _path: SimpleNamespace(free=free))
    if fits:
        take.run(request_, True)
        return
    with pytest.raises(Problem, match=r"LW-FETCH-004.*lab_store"):
        take.run(request_, False)
    assert not server.asked


def test_a_download_that_broke_needs_room_for_the_rest_alone(
    request_: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    only = {"store": request_["store"], "models": request_["models"]}
    part = stored(Path(request_["store"]), request_["models"][0]["files"][0])
    part.parent.mkdir(parents=True)
    part.with_name(part.name + ".part").write_bytes(b"w" * 90)
    monkeypatch.setattr("hostkit.take.shutil.disk_usage", lambda _path: SimpleNamespace(free=110))
    assert take.run(only, True).data["bytes"] == 10
    monkeypatch.setattr("hostkit.take.shutil.disk_usage", lambda _path: SimpleNamespace(free=109))
    with pytest.raises(Problem, match="LW-FETCH-004"):
        take.run(only, True)


def test_what_lies_in_the_store_needs_room_to_be_unpacked(
    request_: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    take.run(request_, False)
    for free in (244, 245):  # 5 times 2 + 20 + 7, and 100 of a model
        monkeypatch.setattr("hostkit.take.shutil.disk_usage", lambda _path, free=free: SimpleNamespace(free=free))
        if free == 245:
            assert not take.run(request_, True).changed
            continue
        with pytest.raises(Problem, match="LW-FETCH-004"):
            take.run(request_, True)


def test_weights_are_not_packed_so_they_need_their_size_twice_and_no_more(
    request_: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    only = {"store": request_["store"], "models": request_["models"]}
    monkeypatch.setattr("hostkit.take.shutil.disk_usage", lambda _path: SimpleNamespace(free=200))
    assert take.run(only, True).changed


def test_a_full_disk_is_no_matter_when_nothing_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("hostkit.take.shutil.disk_usage", lambda _path: SimpleNamespace(free=0))
    assert not take.run({"store": str(tmp_path / "store")}, False).changed


def test_the_store_is_forgotten(request_: dict[str, Any], tmp_path: Path) -> None:
    take.run(request_, False)
    gone = {"store": request_["store"], "state": "absent"}
    there = look(tmp_path)
    assert take.run(gone, True).changed
    assert look(tmp_path) == there
    assert take.run(gone, False).changed
    assert not (tmp_path / "store").exists()
    assert not take.run(gone, False).changed


def test_what_others_keep_in_the_store_stays(request_: dict[str, Any], tmp_path: Path) -> None:
    take.run(request_, False)
    store = tmp_path / "store"
    for name in ("thesis.iso", "backup/2026.tar", "0123456789abcdef-mine/a"):
        (store / name).parent.mkdir(exist_ok=True)
        (store / name).write_text("theirs")
    (store / "0123456789abcdef").symlink_to(store / "backup")
    gone = {"store": str(store), "state": "absent"}
    assert take.run(gone, False).changed
    assert names(store) == ["2026.tar", "a", "thesis.iso"]
    assert not take.run(gone, False).changed


def test_a_store_that_is_a_link_to_another_disk_is_emptied_and_stays(request_: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "store").symlink_to(tmp_path / "disk")
    take.run(request_, False)
    assert take.run({"store": request_["store"], "state": "absent"}, False).changed
    assert not list((tmp_path / "store").iterdir())


def test_a_folder_of_somebody_elses_is_refused_before_anything_is_taken(
    request_: dict[str, Any], server: Loopback, tmp_path: Path
) -> None:
    own = tmp_path / "models" / "demo" / "weights.bin"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine")
    with pytest.raises(Problem, match=r"LW-MODEL-001: .*models/demo has files in it that Labwright did not bring"):
        take.run(request_, False)
    assert not server.asked
    assert own.read_bytes() == b"mine"
