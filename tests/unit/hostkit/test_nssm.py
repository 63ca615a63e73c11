"""hostkit.nssm with a service manager that remembers; the real nssm.exe is met by tests/contract."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hostkit import nssm, pace, probe, registry, service
from hostkit.result import Problem
from unit.hostkit.windows import KEY, NAME, Windows, windows


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Windows:
    return windows(tmp_path, monkeypatch)


def request(host: Windows, definition: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    program = host.folder / "nssm.exe"
    program.touch()
    one = {
        "argv": ["C:\\toy.exe", "two words"], "directory": "C:\\", "environment": {"B": "b", "A": "a"},
        "description": "%", "after": [], "stop": [], "stopped": [], "stop_wait_s": 5, "writable": [],
        "python": "C:\\p.exe", "hostkit": "h",
    }  # fmt: skip
    return {
        "name": NAME, "nssm": str(program), "etc": str(host.folder / "etc"), "logs": str(host.folder / "logs"),
        "definition": {**one, **(definition or {})}, "files": {"ready.json": '{"checks": []}'}, "config": "c",
        "generation": "", "log_max": "200M", **more,
    }  # fmt: skip


def up(host: Windows, **more: Any) -> None:
    service.run(request(host, **more), False)
    host.told.clear()


@pytest.mark.trap("nssm-status", "nssm-password")
def test_first_run(host: Windows) -> None:
    assert service.run(request(host), True).changed
    assert host.told == []
    result = service.run(request(host), False)
    assert (result.changed, result.message) == (True, f"{NAME}: started")
    assert host.verbs()[:2] == ["sc.exe create", "sc.exe failure"]
    assert host.verbs()[-1] == "nssm.exe start"
    assert host.keys[KEY]["ObjectName"] == f"NT SERVICE\\{NAME}"
    assert host.keys[f"{KEY}\\Parameters"]["AppEnvironmentExtra"][:2] == ["A=a", "B=b"]
    assert host.keys[f"{KEY}\\Parameters\\AppExit"] == {"": "Restart"}
    host.told.clear()
    again = service.run(request(host), False)
    assert (again.changed, again.message, host.verbs()) == (False, f"{NAME}: as it was", [])


WORDS = [
    (["a"], "a"),
    (["two words"], '"two words"'),
    ([""], '""'),
    (['a"b'], 'a\\"b'),
    (["C:\\ends\\"], "C:\\ends\\"),
    (["C:\\two words\\"], '"C:\\two words\\\\"'),
    (['\\"'], '\\\\\\"'),
    (["中文", "--x=1 2"], '中文 "--x=1 2"'),
]


@pytest.mark.trap("nssm-quotes")
@pytest.mark.parametrize(("argv", "line"), WORDS)
def test_arguments_are_quoted_as_windows_programs_take_them_apart(host: Windows, argv: list[str], line: str) -> None:
    wanted = nssm.definition(request(host, {"argv": ["C:\\toy.exe", *argv]}))
    assert wanted["Parameters\\AppParameters"] == line


@pytest.mark.trap("nssm-percent")
@pytest.mark.parametrize(
    ("definition", "fine"),
    [
        ({"environment": {"PATH": "%PATH%;C:\\x"}}, False),
        ({"argv": ["C:\\toy.exe", "%TEMP%"]}, False),
        ({"stop": ["C:\\toy.exe", "%A%"]}, False),
        ({"argv": ["C:\\toy.exe", "50%"]}, True),
        ({"description": "from 50% to 60%"}, True),
    ],
)
def test_variables_that_nssm_would_fill_in_are_refused(host: Windows, definition: dict[str, Any], fine: bool) -> None:
    if fine:
        nssm.definition(request(host, definition))
        return
    with pytest.raises(Problem, match=r"LW-SERVICE-007: labwright-toy: \w+ has a name between two per cent signs"):
        service.run(request(host, definition), False)
    assert host.told == []


@pytest.mark.trap("nssm-running")
def test_restarts_when_it_changes_and_only_then(host: Windows) -> None:
    up(host)
    result = service.run(request(host, {"argv": ["C:\\toy.exe", "other"]}), False)
    assert host.verbs() == ["nssm.exe stop", "nssm.exe set", "nssm.exe start"]
    assert "-" not in result.warning
    assert (result.before, "other" in result.after) == ('Parameters\\AppParameters: "two words"\n', True)
    host.told.clear()
    assert service.run(request(host, {"argv": ["C:\\toy.exe", "other"]}, config="d"), False).message.endswith(
        "restarted"
    )
    assert host.verbs() == ["nssm.exe stop", "nssm.exe start"]


@pytest.mark.trap("nssm-dependencies")
def test_what_is_no_longer_wanted_goes(host: Windows) -> None:
    up(host, definition={"stop": ["C:\\drain.exe"], "after": ["other"]})
    assert host.keys[KEY]["DependOnService"] == ["other"]
    service.run(request(host), False)
    assert "DependOnService" not in host.keys[KEY]
    assert host.keys[f"{KEY}\\Parameters\\AppEvents\\Stop"] == {}


def test_another_account_or_program_makes_it_anew(host: Windows) -> None:
    up(host)
    host.keys[KEY]["ObjectName"] = "LocalSystem"
    result = service.run(request(host), False)
    assert "LW-SERVICE-004" in result.warning
    assert host.keys[KEY]["ObjectName"] == f"NT SERVICE\\{NAME}"
    anew = [verb for verb in host.verbs() if verb.split()[1] in ("delete", "create")]
    assert anew == ["sc.exe delete", "sc.exe create"]


@pytest.mark.trap("nssm-log")
@pytest.mark.parametrize(
    ("hand", "word"),
    [
        (lambda one: one.keys[f"{KEY}\\Parameters"].update(AppParameters="x"), "edited (Parameters\\AppParameters)"),
        (lambda one: one.keys[f"{KEY}\\Parameters"].update(AppStdoutCreationDisposition=2), "edited"),
        (lambda one: one.keys[f"{KEY}\\Parameters"].pop("AppThrottle"), "edited (Parameters\\AppThrottle)"),
        (lambda one: one.keys[KEY].update(Start=4), "disabled"),
        (lambda one: setattr(one, "state", "SERVICE_STOPPED"), "stopped"),
        (lambda one: one.manager(["sc.exe", "delete", NAME]), "deleted"),
        (lambda one: (one.folder / "etc" / NAME / "ready.json").unlink(), "deleted"),
    ],
    ids=["edited", "log begun anew", "default", "disabled", "stopped", "deleted", "file"],
)
def test_hands(host: Windows, hand: Any, word: str) -> None:
    up(host)
    before = json.dumps(host.keys, sort_keys=True)
    hand(host)
    checked = service.run(request(host), True)
    assert (checked.changed, host.verbs()) == (True, host.verbs() if word == "deleted" else [])
    result = service.run(request(host), False)
    assert result.warning.startswith(f"LW-SERVICE-004: {NAME} on ")
    assert word in result.warning
    assert host.state == "SERVICE_RUNNING"
    assert json.dumps(host.keys, sort_keys=True) == before
    assert not service.run(request(host), False).changed


def test_given_up_is_no_persons_hand(host: Windows) -> None:
    up(host)
    host.state = "SERVICE_STOPPED"
    log = host.folder / "logs" / NAME / f"{NAME}.log"
    log.write_text('I cannot\n{"message": "LW-SERVICE-003: started 10 times"}\n')
    result = service.run(request(host), False)
    assert (result.message, result.warning) == (f"{NAME}: started", "")


@pytest.mark.trap("nssm-status")
def test_it_ends_right_after_its_start(host: Windows) -> None:
    host.comes_up = False
    log = host.folder / "logs" / NAME
    log.mkdir(parents=True)
    (log / f"{NAME}-20260101T000000.000.log").write_text("I cannot live like this\n")
    with pytest.raises(Problem, match=r"LW-SERVICE-001: .*SERVICE_PAUSED.*Its last words: I cannot live like this"):
        service.run(request(host), False)
    host.comes_up = True
    assert service.run(request(host), False).message == f"{NAME}: started", "a run that was cut off is made good"


def test_windows_own_reason_is_told(host: Windows) -> None:
    """A policy that keeps NT SERVICE from logging on as a service, say: nothing of ours ran, so no log says why."""
    host.cannot = "The service did not start due to a logon failure."
    with pytest.raises(Problem, match=r"LW-SERVICE-001: .*SERVICE_STOPPED.* said: labwright-toy: START: .* logon fail"):
        service.run(request(host), False)


def test_it_runs_and_does_not_answer(host: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_request: dict[str, Any], _check: bool) -> None:
        raise Problem("LW-PROBE-001", "nothing listens")

    monkeypatch.setattr(probe, "run", never)
    with pytest.raises(Problem, match=r"LW-SERVICE-001: labwright-toy was not started: nothing listens"):
        service.run(request(host), False)
    monkeypatch.setattr(probe, "run", lambda one, _check: never({}, False) if "wait_s" in one else None)
    with pytest.raises(Problem, match=r"LW-SERVICE-001: .* did not start; .* It nothing listens"):
        service.run(request(host), False)


@pytest.mark.parametrize(
    ("hangs", "state"),
    [((), "STOP_PENDING"), (("stop labwright-toy",), "RUNNING")],
    ids=["nssm says so", "nssm waits for ever"],
)
def test_it_will_not_stop(host: Windows, hangs: tuple[str, ...], state: str) -> None:
    up(host)
    host.stops, host.hangs = False, hangs
    with pytest.raises(Problem, match=rf"LW-SERVICE-008: labwright-toy does not stop \(SERVICE_{state}\)"):
        service.run(request(host, {"argv": ["C:\\other.exe"]}), False)
    assert host.keys[f"{KEY}\\Parameters"]["Application"] == "C:\\toy.exe", "nothing of it was changed"


def test_nssm_does_not_say_how_a_service_is(host: Windows) -> None:
    up(host)
    host.hangs = ("status",)
    with pytest.raises(Problem, match=r"LW-SERVICE-006: labwright-toy: `nssm.exe status` did not end within 120 s"):
        service.run(request(host), False)


def test_nssm_refuses(host: Windows) -> None:
    host.refuses = ("AppRotateFiles",)
    with pytest.raises(
        Problem, match=r"LW-SERVICE-006: labwright-toy: `nssm.exe set AppRotateFiles` was refused: no, never"
    ):
        service.run(request(host), False)


def test_it_drains_before_it_is_stopped(host: Windows) -> None:
    drain = ["C:\\p.exe", "drain"]
    up(host, definition={"stop": drain, "stopped": drain})
    service.run(request(host, {"stop": drain, "stopped": drain}, generation="new"), False)
    assert host.verbs() == ["p.exe drain", "nssm.exe stop", "nssm.exe start"]
    assert host.keys[f"{KEY}\\Parameters\\AppEvents\\Stop"] == {"Pre": "C:\\p.exe drain"}
    assert host.keys[f"{KEY}\\Parameters\\AppEvents\\Exit"] == {"Post": "C:\\p.exe drain"}


def gone(host: Windows) -> dict[str, Any]:
    whole = request(host)
    return {key: whole[key] for key in ("name", "nssm", "etc", "logs")} | {"state": "absent"}


@pytest.mark.trap("nssm-remove")
def test_absent(host: Windows) -> None:
    up(host)
    host.write(f"{nssm.SERVICES}\\labwright-other", "Start", "2")
    assert service.run(gone(host), True).changed
    assert host.told == []
    result = service.run(gone(host), False)
    assert (result.changed, result.data) == (True, {"last": False})
    assert host.verbs() == ["nssm.exe stop", "sc.exe delete"]
    assert [path.name for path in host.folder.iterdir()] == ["nssm.exe"]
    assert not service.run(gone(host), False).changed


@pytest.mark.parametrize("whose", ["ours", "another's"])
def test_the_last_service_takes_along_where_nssm_wrote_itself_down(host: Windows, whose: str) -> None:
    up(host)
    program = request(host)["nssm"] if whose == "ours" else "C:\\tools\\nssm.exe"
    host.write(nssm.EVENT_SOURCE, "EventMessageFile", program)
    assert service.run(gone(host), False).data == {"last": True}
    assert (registry.read(nssm.EVENT_SOURCE) is None) == (whose == "ours")


@pytest.mark.trap("nssm-remove")
def test_absent_while_something_has_it_open(host: Windows) -> None:
    up(host)
    host.goes = False
    with pytest.raises(Problem, match=r"LW-SERVICE-009: labwright-toy is marked for deletion"):
        service.run(gone(host), False)


def test_logs_put_aside_are_bounded(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    for number in range(4):
        path = folder / f"a-{number}.log"
        path.write_bytes(b"x" * 1000)
        os.utime(path, (number, number))
    (folder / "a.log").write_bytes(b"x" * 5000)
    nssm.prune(tmp_path, "7K")
    assert sorted(path.name for path in folder.iterdir()) == ["a-2.log", "a-3.log", "a.log"]
    nssm.prune(tmp_path, "0")
    assert [path.name for path in folder.iterdir()] == ["a.log"], "what is being written stays"


def test_a_log_that_cannot_be_removed_is_passed_over_and_the_start_counts(
    host: Windows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service's account may only read the logs of the others; what a reader has open stays too."""
    for number, name in enumerate(("b/b-1.log", "a/a-1.log", "a/a-2.log", "a/a.log")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 1000)
        os.utime(path, (number, number))
    removed = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path.parent.name == "b":
            raise PermissionError(13, "Access is denied", str(path))
        removed(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "a"))
    assert pace.run({"most": 1, "logs": str(tmp_path), "log_max": "3K"}, False).message == "start 1 within an hour"
    left = sorted(path.name for path in tmp_path.glob("*/*.log"))
    assert left == ["a-2.log", "a.log", "b-1.log"], "the next oldest goes instead"
    with pytest.raises(Problem, match="LW-SERVICE-003"):
        pace.run({"most": 1, "logs": str(tmp_path), "log_max": "3K"}, False)


@pytest.mark.parametrize(("text", "size"), [("200M", 200 << 20), ("8k", 8192), ("1G", 1 << 30), ("77", 77)])
def test_sizes(text: str, size: int) -> None:
    assert nssm.size(text) == size


@pytest.mark.trap("nssm-utf16")
@pytest.mark.parametrize("coding", ["utf-8", "utf-16-le"])
def test_words_of_nssm(coding: str) -> None:
    assert nssm.words_of("SERVICE_RUNNING\r\n".encode(coding)) == "SERVICE_RUNNING"
    assert nssm.words_of(b"") == ""


@pytest.mark.trap("nssm-loop")
def test_pace_counts_and_gives_up_without_waiting(host: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(host.folder))
    monkeypatch.setattr("time.sleep", lambda _s: pytest.fail("NSSM waits by itself"))
    asked = {"most": 2, "logs": str(host.folder), "log_max": "1M"}
    for count in ("0", "1"):
        monkeypatch.setenv("NSSM_START_COUNT", count)
        pace.run(asked, False)
    with pytest.raises(Problem, match=r"LW-SERVICE-003: started 2 times"):
        pace.run(asked, False)
    monkeypatch.setenv("NSSM_START_COUNT", "0")
    assert pace.run(asked, False).message == "start 1 within an hour", "a person's start begins anew"


def test_list2cmdline_is_what_is_meant() -> None:
    """The table above is subprocess's own rule; were it another one some day, this says so first."""
    assert subprocess.list2cmdline(["two words", "a\\"]) == '"two words" a\\'
