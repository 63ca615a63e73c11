"""hostkit.model: the files of a model in their places, verified, without hashing gigabytes at each run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from hostkit import fetch, model
from hostkit.result import Problem
from hostkit.state import STAMP
from unit.hostkit.look import look
from unit.hostkit.loopback import Loopback, ranged


@pytest.fixture
def request_(server: Loopback, tmp_path: Path) -> dict[str, Any]:
    files = {"config.json": b"{}", "weights.bin": b"w" * 5000, "code/modeling.py": b"pass\n"}
    return {
        "path": str(tmp_path / "models" / "demo"),
        "store": str(tmp_path / "store"),
        "files": [{**server.file(f"demo/{name}", data), "path": name} for name, data in files.items()],
    }


def test_brings_the_files_and_remembers_them(request_: dict[str, Any], tmp_path: Path) -> None:
    result = model.run(request_, False)
    folder = tmp_path / "models" / "demo"
    assert result.changed
    assert len(result.after.splitlines()) == 3
    assert (folder / "code" / "modeling.py").read_bytes() == b"pass\n"
    assert (folder / "weights.bin").stat().st_mode & 0o777 == 0o644
    assert not list((tmp_path / "store").iterdir())
    assert not list(folder.rglob("*.part"))


def test_the_second_run_neither_asks_nor_hashes(
    request_: dict[str, Any], server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.run(request_, False)
    asked = len(server.asked)

    def never(path: Path) -> str:
        raise AssertionError(path)

    monkeypatch.setattr(fetch, "sha256_of", never)
    result = model.run(request_, False)
    assert not result.changed
    assert "3 files, all as planned" in result.message
    assert len(server.asked) == asked


def test_a_file_that_was_only_touched_is_hashed_and_kept(request_: dict[str, Any], tmp_path: Path) -> None:
    model.run(request_, False)
    os.utime(tmp_path / "models" / "demo" / "weights.bin", (1, 1))
    assert not model.run(request_, False).changed


@pytest.mark.parametrize("harm", ["gone", "other bytes of the same size", "no stamp and other bytes"])
def test_only_what_is_wrong_is_brought_again(
    request_: dict[str, Any], server: Loopback, tmp_path: Path, harm: str
) -> None:
    model.run(request_, False)
    server.asked.clear()
    weights = tmp_path / "models" / "demo" / "weights.bin"
    if harm == "gone":
        weights.unlink()
    else:
        weights.write_bytes(b"x" * 5000)
    if harm.startswith("no stamp"):
        (weights.parent / STAMP).write_text("[1]")
    result = model.run(request_, False)
    assert result.changed
    assert server.paths() == ["/demo/weights.bin"]
    assert weights.read_bytes() == b"w" * 5000


def test_a_file_with_a_changed_plan_is_brought_again(
    request_: dict[str, Any], server: Loopback, tmp_path: Path
) -> None:
    model.run(request_, False)
    request_["files"][0] = {**server.file("demo/config.json", b"[]"), "path": "config.json"}
    model.run(request_, False)
    assert (tmp_path / "models/demo/config.json").read_bytes() == b"[]"


def test_check_mode_changes_nothing(request_: dict[str, Any], tmp_path: Path) -> None:
    told = model.run(request_, True)
    assert told.changed
    assert not list(tmp_path.iterdir())
    assert told == model.run(request_, False)


def test_one_bad_file_and_none_gets_its_real_name(request_: dict[str, Any], server: Loopback, tmp_path: Path) -> None:
    server.answers["/demo/weights.bin"] = ranged(b"v" * 5000)
    with pytest.raises(Problem, match="LW-FETCH-003"):
        model.run(request_, False)
    assert not (tmp_path / "models").exists()


def test_files_of_the_folder_that_are_in_no_plan_stay(request_: dict[str, Any], tmp_path: Path) -> None:
    model.run(request_, False)
    own = tmp_path / "models" / "demo" / "own.txt"
    own.write_text("mine")
    (own.parent / "config.json").unlink()
    model.run(request_, False)
    assert own.read_text() == "mine"


def test_removal(request_: dict[str, Any], tmp_path: Path) -> None:
    model.run(request_, False)
    shutil.rmtree(tmp_path / "store")
    gone = {**request_, "state": "absent"}
    there = look(tmp_path)
    assert model.run(gone, True).changed
    assert look(tmp_path) == there
    assert model.run(gone, False).changed
    assert not (tmp_path / "models" / "demo").exists()
    assert not model.run(gone, False).changed


def test_somebody_elses_folder_is_neither_filled_nor_removed(request_: dict[str, Any], tmp_path: Path) -> None:
    own = tmp_path / "models" / "demo" / "weights.bin"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"fine-tuned for a year")
    there = look(tmp_path)
    for check in (True, False):
        with pytest.raises(Problem, match=r"LW-MODEL-001: .*expected no folder, an empty one or the whole model"):
            model.run(request_, check)
        assert not model.run({**request_, "state": "absent"}, check).changed
    assert look(tmp_path) == there


def test_a_whole_model_of_somebody_elses_is_used_and_stays_theirs(request_: dict[str, Any], tmp_path: Path) -> None:
    model.run(request_, False)
    (tmp_path / "models" / "demo" / STAMP).unlink()
    assert not model.run(request_, False).changed
    assert not model.run({**request_, "state": "absent"}, False).changed
    assert (tmp_path / "models" / "demo" / "weights.bin").exists()


def test_what_an_interrupted_run_left_is_gone_on_with(
    request_: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as one:
        one.setattr(model, "remember", lambda *_args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            model.run(request_, False)
    (tmp_path / "models" / "demo" / "config.json").unlink()
    assert model.run(request_, False).changed
    assert not model.run(request_, False).changed


def test_removal_of_all_models_takes_those_that_are_ours(request_: dict[str, Any], tmp_path: Path) -> None:
    model.run(request_, False)
    models = tmp_path / "models"
    (models / "theirs").mkdir()
    (models / "theirs" / "weights.bin").write_bytes(b"mine")
    (models / ".gone-older").mkdir()
    (models / "nas").symlink_to(models / "demo")
    gone = {"state": "absent", "path": str(models), "store": "", "files": []}
    there = look(tmp_path)
    told = model.run(gone, True)
    assert look(tmp_path) == there
    assert told == model.run(gone, False)
    assert sorted(path.name for path in models.iterdir()) == ["nas", "theirs"]
    assert not model.run(gone, False).changed
    assert (models / "theirs" / "weights.bin").read_bytes() == b"mine"


def test_the_folder_of_all_models_goes_with_the_last_one(request_: dict[str, Any], tmp_path: Path) -> None:
    model.run(request_, False)
    assert model.run({"state": "absent", "path": str(tmp_path / "models"), "files": []}, False).changed
    assert not (tmp_path / "models").exists()


def test_models_that_no_plan_names_any_more_go(request_: dict[str, Any], tmp_path: Path) -> None:
    model.run(request_, False)
    models = tmp_path / "models"
    model.run({**request_, "path": str(models / "older")}, False)
    (models / "theirs").mkdir()
    (models / "theirs" / "weights.bin").write_bytes(b"mine")
    tidy = {"state": "tidy", "path": str(models), "planned": [request_]}
    there = look(tmp_path)
    told = model.run(tidy, True)
    assert look(tmp_path) == there
    assert told.data == {"gone": [str(models / "older")]}
    assert told == model.run(tidy, False)
    assert sorted(path.name for path in models.iterdir()) == ["demo", "theirs"]
    assert not model.run(tidy, False).changed
    (models / "demo" / "weights.bin").unlink()
    with pytest.raises(Problem, match=r"LW-HOSTKIT-013: .*demo is not there as planned"):
        model.run({**tidy, "planned": [request_]}, False)
