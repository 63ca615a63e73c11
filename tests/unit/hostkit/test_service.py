"""hostkit.service with a systemctl that remembers what it was told; the real one is met by tests/contract."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from hostkit import service, systemd
from hostkit.result import Problem

RUNS = {"ActiveState": "active", "UnitFileState": "enabled", "NeedDaemonReload": "no", "NRestarts": "0"}


class Manager:
    """What systemd says and what it was told."""

    def __init__(self) -> None:
        self.says: dict[str, str] = {"ActiveState": "inactive", "UnitFileState": ""}
        self.told: list[str] = []
        self.refuses: tuple[str, ...] = ()

    def control(self, *words: str) -> subprocess.CompletedProcess[str]:
        self.told.append(words[0])
        if words[0] in self.refuses:
            return subprocess.CompletedProcess(words, 1, "", "no, never")
        if words[0] == "start":
            self.says = dict(RUNS)
        return subprocess.CompletedProcess(words, 0, "", "")


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manager:
    one = Manager()
    monkeypatch.setattr(systemd, "ETC", tmp_path / "units")
    monkeypatch.setattr(systemd, "OTHERS", (tmp_path / "control",))
    monkeypatch.setattr(service, "FOLDER", tmp_path / "labwright")
    monkeypatch.setattr(systemd, "control", one.control)
    monkeypatch.setattr(systemd, "state", lambda _name: one.says)
    monkeypatch.setattr(systemd, "last_words", lambda _name: "I cannot")
    return one


def request(**more: Any) -> dict[str, Any]:
    files = {"ready.json": '{"checks": []}'}
    return {"name": "toy", "unit": "[Service]\n", "farewell": "[Unit]\n", "files": files, "config": "c", **more}


def up(manager: Manager, **more: Any) -> None:
    service.run(request(**more), False)
    manager.told.clear()


def test_first_run(manager: Manager, tmp_path: Path) -> None:
    assert service.run(request(), True).changed
    assert manager.told == []
    assert not (tmp_path / "units").exists()
    assert service.run(request(), False).changed
    assert manager.told == ["daemon-reload", "enable", "stop", "reset-failed", "start"]
    assert (tmp_path / "units/toy.service").read_text() == "[Service]\n"
    assert not service.run(request(), False).changed


def test_a_run_that_was_cut_off_is_made_good(manager: Manager) -> None:
    up(manager)
    manager.refuses = ("start",)
    with pytest.raises(Problem, match=r"LW-SERVICE-001: toy did not start; .* Its last words: I cannot"):
        service.run(request(unit="[Service]\nNice=1\n"), False)
    manager.refuses = ()
    result = service.run(request(unit="[Service]\nNice=1\n"), False)
    assert (result.changed, result.message, result.warning) == (True, "toy: restarted", "")


@pytest.mark.parametrize(("reload", "told"), [(True, ["reload"]), (False, ["stop", "reset-failed", "start"])])
def test_a_new_configuration(manager: Manager, reload: bool, told: list[str]) -> None:
    up(manager, reload=reload)
    service.run(request(reload=reload, config="d"), False)
    assert manager.told == told
    assert not service.run(request(reload=reload, config="d"), False).changed


def test_a_configuration_that_is_refused_is_tried_again(manager: Manager) -> None:
    up(manager, reload=True)
    manager.refuses = ("reload",)
    for _ in range(2):
        with pytest.raises(Problem, match=r"LW-SERVICE-005: toy refused its new configuration: I cannot"):
            service.run(request(reload=True, config="d"), False)


def test_systemd_refuses(manager: Manager) -> None:
    manager.refuses = ("enable",)
    with pytest.raises(Problem, match=r"LW-SERVICE-006: `systemctl enable toy.service` was refused: no, never"):
        service.run(request(), False)


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        ({"ActiveState": "activating", "NRestarts": "0"}, ["start"]),
        ({"ActiveState": "activating", "NRestarts": "2"}, ["stop", "reset-failed", "start"]),
        ({"ActiveState": "failed"}, ["stop", "reset-failed", "start"]),
    ],
    ids=["a start under way is waited for", "a crash loop begins anew", "given up begins anew"],
)
def test_what_is_not_up(manager: Manager, shown: dict[str, str], told: list[str]) -> None:
    up(manager)
    manager.says = {**RUNS, **shown}
    result = service.run(request(), False)
    assert (manager.told, result.warning) == (told, "")


def test_only_read_again(manager: Manager) -> None:
    up(manager)
    manager.says = {**RUNS, "NeedDaemonReload": "yes"}
    assert service.run(request(), False).message == "toy: read again"
    assert manager.told == ["daemon-reload"]


def test_hands(manager: Manager, tmp_path: Path) -> None:
    up(manager)
    unit = tmp_path / "units/toy.service"
    unit.unlink()
    unit.symlink_to("/dev/null")
    (tmp_path / "units/toy.service.d").mkdir()
    manager.says = {**RUNS, "ActiveState": "inactive", "UnitFileState": "disabled"}
    result = service.run(request(), False)
    assert result.warning.startswith("LW-SERVICE-004: toy on ")
    for word in ("masked", "overridden", "disabled", "stopped"):
        assert word in result.warning
    assert (unit.is_symlink(), (tmp_path / "units/toy.service.d").exists()) == (False, False)


def test_absent(manager: Manager, tmp_path: Path) -> None:
    up(manager)
    service.run(request(name="other"), False)
    (tmp_path / "units/multi-user.target.wants").mkdir()
    (tmp_path / "units/multi-user.target.wants/toy.service").symlink_to("/nowhere")
    gone = {"name": "toy", "state": "absent"}
    manager.told.clear()
    assert service.run(gone, True).changed
    assert (manager.told, (tmp_path / "units/toy.service").exists()) == ([], True)
    assert service.run(gone, False).data == {"last": False}
    manager.says = {"ActiveState": "inactive"}
    assert not service.run(gone, False).changed
    assert service.run({"name": "other", "state": "absent"}, False).data == {"last": True}
    assert [path for path in tmp_path.rglob("*") if path.is_file() or path.is_symlink()] == []
