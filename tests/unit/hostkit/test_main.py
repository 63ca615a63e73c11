"""hostkit as a program: every failure is an object with an id, and the way it travels leaves nothing behind."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hostkit import VERBS, sweep
from hostkit.__main__ import answer
from unit.labwright.plugins import plugin as load


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    return load("action", "hostkit")


def test_a_good_request() -> None:
    said = answer("sweep", {"folders": []}, False)
    assert said == {
        "changed": False,
        "failed": False,
        "message": "",
        "before": "",
        "after": "",
        "warning": "",
        "data": {"kept": []},
    }


def boom(_request: dict[str, Any], _check: bool) -> None:
    raise ZeroDivisionError("by nothing")


@pytest.mark.parametrize(
    ("verb", "request_", "code", "words"),
    [
        ("guess", {}, "LW-HOSTKIT-001", "no verb 'guess'; expected one of facts, take"),
        ("__main__", {}, "LW-HOSTKIT-001", "no verb"),
        ("tree", {}, "LW-HOSTKIT-002", "lacks 'path'"),
        ("env", {}, "LW-HOSTKIT-002", "lacks 'prefix'"),
        ("tree", {"path": "/dev/null/x", "files": {"a": ""}}, "LW-HOSTKIT-003", "the system refused: "),
        ("ship", {"path": "/nowhere/hostkit.pyz"}, "LW-HOSTKIT-004", "not started from its archive"),
        ("sweep", {"folders": 3}, "LW-HOSTKIT-009", "unexpected TypeError at sweep.py:"),
        ("probe", {"checks": [{"id": "x", "kind": "guess"}]}, "LW-HOSTKIT-002", "lacks 'guess'"),
    ],
)
def test_every_failure_has_an_id_and_a_sentence(verb: str, request_: dict[str, Any], code: str, words: str) -> None:
    said = answer(verb, request_, False)
    assert (said["failed"], said["changed"], said["code"]) == (True, False, code)
    assert said["message"].startswith(f"{code}: ")
    assert words in said["message"]
    assert "Traceback" not in said["message"]


def test_what_nobody_foresaw_names_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "run", boom)
    assert "unexpected ZeroDivisionError at test_main.py:" in answer("sweep", {}, False)["message"]


def test_every_verb_is_there() -> None:
    assert all(answer(verb, {}, True).get("code") != "LW-HOSTKIT-001" for verb in VERBS)


class Host:
    """A host on which a request arrives as it does over SSH: the program and the request on standard input."""

    def __init__(self, folder: Path, plugin: ModuleType) -> None:
        self.plugin = plugin
        self.temporary = folder / "tmp"
        self.temporary.mkdir()

    def send(self, request: Any, umask: int = 0o022) -> subprocess.CompletedProcess[str]:
        text = request if isinstance(request, str) else json.dumps(request)
        return subprocess.run(
            [sys.executable, "-c", self.plugin.BOOT],
            input=base64.b64encode(self.plugin.archive()).decode() + "\n" + text,
            env={"TMPDIR": str(self.temporary), "PATH": "/usr/bin:/bin"},
            umask=umask,
            capture_output=True,
            text=True,
            check=False,
        )

    def ask(self, verb: str, request: dict[str, Any], check: bool = False, umask: int = 0o022) -> dict[str, Any]:
        done = self.send({"verb": verb, "check": check, "request": request}, umask)
        assert done.stderr == ""
        assert not list(self.temporary.iterdir()), "its temporary folder is still there"
        said: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == int(said["failed"])
        return said


@pytest.fixture
def host(tmp_path: Path, plugin: ModuleType) -> Host:
    return Host(tmp_path, plugin)


def test_a_request_goes_in_and_one_line_of_plain_ascii_comes_out(host: Host, tmp_path: Path) -> None:
    said = host.ask("tree", {"path": str(tmp_path / "tree"), "files": {"a": "你好"}})
    assert said["changed"]
    assert (tmp_path / "tree" / "a").read_text() == "你好"


def test_check_mode_travels_with_the_request(host: Host, tmp_path: Path) -> None:
    assert host.ask("tree", {"path": str(tmp_path / "tree"), "files": {}}, check=True)["changed"]
    assert not (tmp_path / "tree").exists()


def test_a_problem_ends_with_one_and_leaves_nothing_behind(host: Host) -> None:
    assert host.ask("guess", {})["code"] == "LW-HOSTKIT-001"


@pytest.mark.parametrize("text", ["", "no json", "[]", "3", '{"verb": "facts"}'])
def test_a_request_that_cannot_be_read_ends_with_two(host: Host, text: str) -> None:
    done = host.send(text)
    assert done.returncode == 2
    assert json.loads(done.stdout)["code"] == "LW-HOSTKIT-000"
    assert done.stderr == ""
    assert not list(host.temporary.iterdir())


def test_what_it_makes_can_be_read_by_services_whatever_the_umask(host: Host, tmp_path: Path) -> None:
    host.ask("ship", {"path": str(tmp_path / "lib" / "hostkit.pyz")}, umask=0o077)
    assert (tmp_path / "lib").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "lib" / "hostkit.pyz").stat().st_mode & 0o777 == 0o644


def test_ship_leaves_a_program_that_runs_and_takes_it_away_again(
    host: Host, tmp_path: Path, plugin: ModuleType
) -> None:
    path = tmp_path / "lib" / "hostkit.pyz"
    request = {"path": str(path)}
    assert host.ask("ship", request, check=True)["changed"]
    assert not path.exists()
    assert host.ask("ship", request)["changed"]
    assert path.read_bytes() == plugin.archive()
    assert not host.ask("ship", request)["changed"]

    (tmp_path / "checks.json").write_text('{"checks": []}')
    argv = [sys.executable, str(path), "probe", str(tmp_path / "checks.json")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["data"] == {"checks": []}
    argv[-1] = str(tmp_path / "none.json")
    assert subprocess.run(argv, capture_output=True, check=False).returncode == 2

    path.write_bytes(b"old")
    assert host.ask("ship", request)["changed"]
    assert path.read_bytes() == plugin.archive()
    gone = {**request, "state": "absent"}
    assert host.ask("ship", gone, check=True)["changed"]
    assert path.exists()
    assert host.ask("ship", gone)["changed"]
    assert not path.exists()
    assert not host.ask("ship", gone)["changed"]


def test_the_archive_is_the_same_each_time_and_holds_every_verb(tmp_path: Path, plugin: ModuleType) -> None:
    first = plugin.archive()
    plugin.archive.cache_clear()
    assert plugin.archive() == first
    (tmp_path / "hostkit.pyz").write_bytes(first)
    with zipfile.ZipFile(tmp_path / "hostkit.pyz") as pack:
        assert {f"hostkit/{verb}.py" for verb in VERBS} <= set(pack.namelist())
