"""hostkit.sweep: our empty folders go, nothing of anybody else's does."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostkit import sweep
from unit.hostkit.look import look


def test_empty_folders_go_and_others_are_named(tmp_path: Path) -> None:
    for name in ("empty/a/b", "full/a", "linked"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "full/a/file").touch()
    (tmp_path / "linked/link").symlink_to(tmp_path / "nowhere")
    request = {"folders": [str(tmp_path / name) for name in ("empty", "full", "linked", "never")]}
    there = look(tmp_path)
    told = sweep.run(request, True)
    assert look(tmp_path) == there
    done = sweep.run(request, False)
    assert told == done
    assert done.changed
    assert done.before == f"{tmp_path / 'empty'}\n"
    assert done.data["kept"] == [str(tmp_path / "full"), str(tmp_path / "linked")]
    assert str(tmp_path / "full") in done.message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "linked"]
    assert not sweep.run(request, False).changed


def test_a_link_and_a_disks_own_folder_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk/lost+found").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    monkeypatch.setattr("hostkit.place.ismount", lambda path: path == tmp_path / "disk")
    request = {"folders": [str(tmp_path / name) for name in ("disk", "link")]}
    assert not sweep.run(request, True).changed
    assert not sweep.run(request, False).changed
    assert (tmp_path / "link/lost+found").is_dir()
