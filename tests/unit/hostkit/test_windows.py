"""hostkit's Windows half on Linux: what is in use, junctions, rights, line ends, what other verbs say of services."""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hostkit import (
    __main__,
    access,
    env,
    fetch,
    logs,
    model,
    nssm,
    pace,
    place,
    probe,
    restart,
    seen,
    ship,
    state,
    status,
    sweep,
    take,
    tree,
)
from hostkit.result import Problem
from unit.hostkit.loopback import Loopback
from unit.hostkit.test_nssm import up
from unit.hostkit.windows import NAME, Windows, windows


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Windows:
    return windows(tmp_path, monkeypatch)


# --- files that are in use -----------------------------------------------------------------------------------------


def denied(*_words: Any, **_more: Any) -> None:
    raise PermissionError(13, "The process cannot access the file because it is being used by another process")


@pytest.mark.parametrize("on_windows", [False, True])
def test_the_system_is_told_by_python_itself(monkeypatch: pytest.MonkeyPatch, on_windows: bool) -> None:
    monkeypatch.setattr(sys, "platform", "win32" if on_windows else "linux")
    assert place.windows() is on_windows


@pytest.mark.trap("file-in-use")
def test_a_file_that_is_held_for_a_moment(host: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []
    real = Path.replace

    def replace(part: Path, target: Path) -> Path:
        tries.append(target)
        if len(tries) < 3:
            denied()
        return real(part, target)

    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(place, "PAUSE_S", 0)
    place.write(host.folder / "a", "text\n")
    assert ((host.folder / "a").read_bytes(), len(tries)) == (b"text\n", 3)


@pytest.mark.trap("file-in-use")
def test_a_file_that_stays_in_use_is_left_whole(host: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    (host.folder / "a").write_text("old")
    monkeypatch.setattr(Path, "replace", denied)
    monkeypatch.setattr(place, "PAUSE_S", 0)
    with pytest.raises(Problem, match=r"LW-HOSTKIT-011: .*a cannot be replaced or removed: The process cannot access"):
        place.write(host.folder / "a", "new")
    assert {path.name: path.read_text() for path in host.folder.iterdir()} == {"a": "old"}


@pytest.mark.trap("file-in-use")
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_nothing_half_removed(host: Windows, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    thing = host.folder / "thing"
    if kind == "folder":
        thing.mkdir()
        (thing / "inside").touch()
    else:
        thing.touch()
    monkeypatch.setattr(place, "PAUSE_S", 0)
    monkeypatch.setattr(Path, "rename", denied)
    monkeypatch.setattr(Path, "unlink", denied)
    with pytest.raises(Problem, match="LW-HOSTKIT-011"):
        place.discard(thing)
    assert thing.exists()
    assert kind == "file" or (thing / "inside").exists()


@pytest.mark.trap("file-in-use")
def test_an_environment_in_use_stays(host: Windows, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    prefix = tmp_path / "envs" / "one"
    (prefix / "conda-meta").mkdir(parents=True)
    monkeypatch.setattr(place, "PAUSE_S", 0)
    monkeypatch.setattr(Path, "rename", denied)
    asked = {"prefix": str(prefix), "store": str(tmp_path), "conda": "c", "layers": [{"name": "l", "digest": "d"}]}
    with pytest.raises(Problem, match="LW-HOSTKIT-011"):
        env.run(asked, False)
    assert (prefix / "conda-meta").is_dir()


def test_environments_go_all_or_none(host: Windows, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root, real = tmp_path / "envs", Path.rename
    for name in ("a", "b", "c"):
        (root / name).mkdir(parents=True)
        (root / name / state.STAMP).write_text("{}")
    used = {root / "b"}
    monkeypatch.setattr(place, "PAUSE_S", 0)
    monkeypatch.setattr(Path, "rename", lambda path, other: denied() if path in used else real(path, other))
    with pytest.raises(Problem, match=r"LW-HOSTKIT-011: .*b cannot be replaced or removed"):
        env.run({"state": "absent", "root": str(root)}, False)
    assert sorted(str(path.relative_to(root)) for path in root.glob("*/*")) == [
        str(Path(name, state.STAMP)) for name in ("a", "b", "c")
    ]
    used.clear()
    assert env.run({"state": "absent", "root": str(root)}, False).changed
    assert not root.exists()


@pytest.mark.trap("program-moves")
@pytest.mark.parametrize("image", ["python.EXE", "Library/bin/mkl.dll", "Lib/site-packages/a/_b.pyd"])
def test_what_a_program_runs_from_is_neither_moved_nor_removed(
    host: Windows, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, image: str
) -> None:
    """Windows renames the folder of a running program, and then removes all but the files that run."""
    root, real, moved = tmp_path / "envs", Path.open, list[Path]()
    for name in ("a", "b"):
        (root / name / image).parent.mkdir(parents=True)
        for file in (state.STAMP, image, "x.txt"):
            (root / name / file).write_text("{}")
        (root / name / image).chmod(0o444)
    runs = root / "b" / image

    def opened(path: Path, mode: str = "r", *more: Any, **options: Any) -> Any:
        if path == runs and "+" in mode:
            denied()
        return real(path, mode, *more, **options)

    def renamed(path: Path, other: Path) -> None:
        moved.append(path)
        rename(path, other)

    rename = Path.rename
    monkeypatch.setattr(place, "PAUSE_S", 0)
    monkeypatch.setattr(Path, "open", opened)
    monkeypatch.setattr(Path, "rename", renamed)
    before = sorted(root.rglob("*"))
    with pytest.raises(Problem, match=r"LW-HOSTKIT-011: \S+b cannot be replaced or removed: The process cannot"):
        env.run({"state": "absent", "root": str(root)}, False)
    assert (sorted(root.rglob("*")), moved) == (before, [])
    runs = root
    assert env.run({"state": "absent", "root": str(root)}, False).changed
    assert not root.exists()


@pytest.mark.trap("read-only")
def test_what_is_read_only_goes_too(host: Windows, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "in").mkdir(parents=True)
    (folder / "in/read-only.txt").touch(mode=0o444)
    (folder / "open.txt").touch()
    (folder / "other.txt").touch()
    unlink = os.unlink

    def as_windows(name: Any, *, dir_fd: int | None = None) -> None:
        if not os.stat(name, dir_fd=dir_fd).st_mode & 0o200 or Path(name).name == held:
            raise PermissionError(13, "Access is denied", str(name))
        unlink(name, dir_fd=dir_fd)

    held = "open.txt"
    monkeypatch.setattr(os, "unlink", as_windows)
    place.remove_tree(folder, surely=False)
    assert [path.name for path in folder.rglob("*")] == ["open.txt"], "what is open stays, alone"
    (folder / "read-only.txt").touch(mode=0o444)
    with pytest.raises(PermissionError, match="Access is denied"):
        place.remove_tree(folder)
    held = ""
    (folder / state.STAMP).write_text("{}", encoding="utf-8")  # ours
    model.run({"path": str(folder), "state": "absent"}, False)
    assert not folder.exists()


def test_on_linux_a_tree_that_cannot_be_removed_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(place, "windows", lambda: False)
    (tmp_path / "a").touch()
    monkeypatch.setattr(os, "unlink", denied)
    with pytest.raises(PermissionError):
        place.remove_tree(tmp_path)
    place.remove_tree(tmp_path, surely=False)
    place.remove_tree(tmp_path / "nothing", surely=False)
    assert (tmp_path / "a").exists()


def test_what_an_interrupted_removal_put_aside_goes_too(host: Windows, tmp_path: Path) -> None:
    (tmp_path / "envs" / f"{place.GONE}a" / "conda-meta").mkdir(parents=True)
    request = {"state": "absent", "root": str(tmp_path / "envs")}
    assert [env.run(request, check).changed for check in (True, False, False)] == [True, True, False]
    assert not (tmp_path / "envs").exists()


# --- junctions, line ends --------------------------------------------------------------------------------------------


class Junctions:
    """`cmd /c mklink /J` with a symbolic link, and os.readlink as Windows answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, works: bool = True) -> None:
        self.works = works
        self.argv: list[str] = []
        real = Path.rmdir
        monkeypatch.setattr(place, "subprocess", SimpleNamespace(run=self.run))
        monkeypatch.setattr(Path, "rmdir", lambda path: path.unlink() if path.is_symlink() else real(path))
        readlink = os.readlink
        monkeypatch.setattr(
            place, "os", SimpleNamespace(**{**vars(os), "readlink": lambda path: "\\\\?\\" + readlink(path)})
        )

    def run(self, argv: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        self.argv = argv
        if self.works:
            Path(argv[4]).symlink_to(argv[5])
        return subprocess.CompletedProcess(argv, 0 if self.works else 1, "", "Local NTFS volumes are required")


@pytest.mark.trap("junction")
def test_a_junction_is_made_and_turned(host: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    junctions = Junctions(monkeypatch)
    link, one, two = (host.folder / name for name in ("link", "one", "two"))
    one.mkdir()
    two.mkdir()
    for target in (one, two, two):
        env.point(link, target)
        assert env.points_at(link, target)
    assert junctions.argv[:4] == ["cmd.exe", "/c", "mklink", "/J"]
    assert sorted(path.name for path in host.folder.iterdir()) == ["link", "link.before", "one", "two"]
    assert env.points_at(host.folder / "link.before", one)
    place.discard(link)
    assert two.is_dir()


def test_a_junction_that_cannot_be_made(host: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    Junctions(monkeypatch, works=False)
    with pytest.raises(Problem, match=r"LW-HOSTKIT-012: `mklink /J .*` failed: Local NTFS volumes are required"):
        place.link(host.folder / "link", host.folder)


@pytest.mark.trap("junction")
def test_sweep_does_not_look_through_a_junction(host: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    Junctions(monkeypatch)
    (host.folder / "envs").mkdir()
    place.link(host.folder / "envs" / "link", host.folder)
    assert sweep.run({"folders": [str(host.folder / "envs")]}, False).data["kept"] == [str(host.folder / "envs")]


@pytest.mark.trap("line-ends")
def test_no_line_end_is_made_another(host: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    """What writes text writes bytes: Path.write_text would make \\r\\n of \\n on Windows."""
    monkeypatch.setattr(Path, "write_text", lambda *_words, **_more: pytest.fail("text was written as text"))
    state.State(layers=[("a", "b")], made="x").write(host.folder / "prefix")
    model.remember(host.folder / "prefix", [])
    tree.run({"path": str(host.folder / "tree"), "files": {"a": "one\ntwo\r\n"}}, False)
    assert (host.folder / "tree" / "a").read_bytes() == b"one\ntwo\r\n"


@pytest.mark.trap("activated-shell")
def test_a_programs_path_without_an_activated_shell(tmp_path: Path) -> None:
    for program in (tmp_path / "python.exe", tmp_path / "Scripts" / "conda.exe"):
        found = env.path_of(program, "C").split(os.pathsep)
        assert found == [str(tmp_path), str(tmp_path / "Library" / "bin"), str(tmp_path / "Scripts"), "C"]


# --- one file of an archive ------------------------------------------------------------------------------------------


def archive(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as pack:
        pack.writestr(name, data)
    return buffer.getvalue()


def tool(server: Loopback, data: bytes, member: str = "in/nssm.exe") -> dict[str, Any]:
    file = server.file("nssm.whl", archive("in/nssm.exe", data))
    return {**file, "sha256": hashlib.sha256(data).hexdigest(), "member": member, "name": "nssm.exe", "size": 1}


def test_a_member_is_taken_out_and_compared(server: Loopback, tmp_path: Path) -> None:
    path = fetch.fetch(tmp_path, tool(server, b"MZ"))
    assert (path.name, path.read_bytes()) == ("nssm.exe", b"MZ")
    assert [one.name for one in path.parent.iterdir()] == ["nssm.exe"]


@pytest.mark.parametrize("wrong", ["no such member", "another sum", "no archive"])
def test_a_member_that_is_not_the_one(server: Loopback, tmp_path: Path, wrong: str) -> None:
    file = tool(server, b"MZ", "out/nssm.exe" if wrong == "no such member" else "in/nssm.exe")
    if wrong == "another sum":
        file["sha256"] = "0" * 64
    if wrong == "no archive":
        file |= {"url": server.file("x", b"MZ")["url"]}
    with pytest.raises(Problem, match=r"LW-FETCH-003: nssm.exe is not the file that was planned"):
        fetch.fetch(tmp_path, file)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_tool_is_taken_and_shipped_once(server: Loopback, tmp_path: Path) -> None:
    file = {**tool(server, b"MZ"), "path": str(tmp_path / "lib" / "nssm.exe")}
    asked = {"store": str(tmp_path / "store"), "tools": [file]}
    assert take.run(asked, False).data["files"] == 1
    shipped = {"path": file["path"], "file": file, "store": asked["store"]}
    assert ship.run(shipped, True).changed
    assert ship.run(shipped, False).changed
    assert not ship.run(shipped, False).changed
    assert take.run(asked, False).data["files"] == 0
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["nssm.exe"]
    assert ship.run({**shipped, "state": "absent"}, False).changed


def test_names_of_files_are_decoded_the_same_on_both_systems() -> None:
    assert fetch.name_of({"url": "https://x/torch-2.0%2Bcu118-py3.whl"}) == "torch-2.0+cu118-py3.whl"


# --- rights ---------------------------------------------------------------------------------------------------------


class Icacls:
    """icacls.exe that remembers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, saves: str = "", status: int = 0) -> None:
        self.saves, self.status = saves, status
        self.told: list[list[str]] = []
        monkeypatch.setattr(access, "subprocess", SimpleNamespace(run=self.run))

    def run(self, argv: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        self.told.append(argv[2:])
        if argv[2] == "/save" and self.saves:
            Path(argv[3]).write_bytes(f"name\r\n{self.saves}\r\n".encode("utf-16-le"))
        return subprocess.CompletedProcess(argv, self.status, "", "Access is denied")


OWN = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"  # NT SERVICE\TrustedInstaller, as Windows has it
PRIVATE = f"D:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1200a9;;;{OWN})"


def test_the_sid_of_a_service_is_known_before_the_service() -> None:
    assert access.sid("NT SERVICE\\TrustedInstaller") == OWN


@pytest.mark.parametrize(
    ("saved", "fits"),
    [
        (PRIVATE, True),
        (PRIVATE.replace("(A;OICI;FA;;;BA)", "") + "(A;OICI;FA;;;BA)", True),
        (PRIVATE + "(A;OICI;0x1200a9;;;BU)", False),
        (PRIVATE.replace("PAI", "AI"), False),
        (PRIVATE.replace("(A;OICI;FA;;;BA)", "(A;OICIID;FA;;;BA)"), False),
    ],
    ids=["the same", "in another order", "others read", "inherits", "inherited"],
)
def test_rights_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: str, fits: bool) -> None:
    Icacls(monkeypatch, saved)
    assert access.fits(tmp_path, access.wanted(0o700, "NT SERVICE\\TrustedInstaller")) is fits


def test_rights_are_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    icacls = Icacls(monkeypatch)
    access.grant(tmp_path, access.wanted(0o755, "TrustedInstaller", writes=True))
    assert icacls.told == [
        ["/reset"],
        [
            "/inheritance:r", "/grant:r", "*S-1-5-18:(OI)(CI)(F)", "*S-1-5-32-544:(OI)(CI)(F)",
            "*S-1-5-32-545:(OI)(CI)(RX)", f"*{OWN}:(OI)(CI)(M)",
        ],
    ]  # fmt: skip


def test_rights_that_cannot_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Icacls(monkeypatch, status=5)
    with pytest.raises(Problem, match=r"LW-TREE-002: `icacls .* /reset` was refused: Access is denied"):
        access.grant(tmp_path, access.wanted(0o700))


@pytest.mark.trap("open-folder")
def test_a_folder_of_secrets_is_shut_before_they_are_in_it(host: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = host.folder / "secrets"
    seen_in_it: list[list[str]] = []
    rights: dict[Path, Any] = {}

    def grant(path: Path, wanted: Any) -> None:
        seen_in_it.append([one.name for one in path.iterdir()])
        rights[path] = wanted

    monkeypatch.setattr(access, "fits", lambda path, wanted: rights.get(path) == wanted)
    monkeypatch.setattr(access, "grant", grant)
    asked = {"path": str(folder), "files": {"key": "s"}, "secret": True, "directory_mode": "0700", "mode": "0600"}
    assert tree.run(asked, False).changed
    assert seen_in_it == [[]]
    assert rights == {folder: {access.SYSTEM: access.FULL, access.ADMINISTRATORS: access.FULL}}
    assert not tree.run(asked, False).changed
    rights.clear()
    assert tree.run(asked, True).changed
    assert tree.run({"path": str(host.folder / "open"), "files": {"a": "b"}}, False).changed
    assert host.folder / "open" not in rights


# --- what the other verbs say of services ----------------------------------------------------------------------------


LOG = """2026-11-28 16:48:17.872: starting
2026-11-28 16:48:18.160: Traceback (most recent call last):
2026-11-28 16:48:18.161: ValueError: password=hunter22
2026-11-28 16:49:00.000: up
"""


@pytest.fixture
def running(host: Windows) -> Windows:
    up(host)
    (host.folder / "logs" / NAME / f"{NAME}.log").write_text(LOG)
    return host


def test_logs(running: Windows) -> None:
    asked = {"since": "", "lines": 3, "bytes": 10000}
    found = logs.run(asked, False).data
    one = found["units"][NAME]
    assert one["text"].startswith("2026-11-28T16:48:18Z Traceback")
    assert "hunter22" not in one["text"]
    assert (one["kinds"], one["last_error"]["at"]) == ({"ValueError": 1}, "2026-11-28T16:48:18Z")
    assert found["cut"].startswith("only the newest 3 lines")
    assert logs.run({**asked, "since": "2026-11-28 16:48:30"}, False).data["units"][NAME]["lines"] == 1
    assert logs.run({**asked, "since": "2 hours ago"}, False).data["units"].keys() <= {NAME}
    with pytest.raises(Problem, match=r"LW-LOGS-002: 'whenever' is no time"):
        logs.run({**asked, "since": "whenever"}, False)


def test_status(running: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"processes": "     100 C:\\nssm.exe\n     104  C:\\toy.exe\n     108   C:\\conhost.exe\n"}
    real = nssm.ask
    monkeypatch.setattr(nssm, "ask", lambda name, verb: said.get(verb) or real(name, verb))
    listed = (
        b'"toy.exe","104","Services","0","10,240 K"\r\n"x.exe","1","S","0","9 K"\r\n"c","108","S","0","1.024 K"\r\n'
    )
    monkeypatch.setattr(seen, "subprocess", SimpleNamespace(run=lambda *_a, **_b: SimpleNamespace(stdout=listed)))
    units = status.run({"units": [NAME, "labwright-gone"], "workers": {}}, False).data["units"]
    one = units[NAME]
    assert (one["active"], one["sub"], one["pid"], one["rss_mib"]) == ("active", "SERVICE_RUNNING", 104, 11.0)
    assert "hunter22" not in one["last_error"]["text"]
    assert units["labwright-gone"]["active"] == "not there"
    running.state = "SERVICE_PAUSED"
    assert status.run({"units": [NAME], "workers": {}}, False).data["units"][NAME]["active"] == "failed"


@pytest.mark.parametrize(
    ("state_", "log", "cause", "words"),
    [
        ("SERVICE_PAUSED", LOG, "LW-PROBE-030", "it ends right after each start, .*; last words: ValueError"),
        (
            "SERVICE_STOPPED",
            LOG + "LW-SERVICE-003: started 10 times\n",
            "LW-PROBE-031",
            "it was given up; last words: V",
        ),
        ("SERVICE_STOPPED", "", "LW-PROBE-030", "is SERVICE_STOPPED; it said nothing; see "),
        ("", "", "LW-PROBE-039", "labwright-gone is not installed"),
    ],
    ids=["paused", "given up", "stopped", "not there"],
)
def test_probe_of_a_service(running: Windows, state_: str, log: str, cause: str, words: str) -> None:
    (running.folder / "logs" / NAME / f"{NAME}.log").write_text(log)
    running.state = state_
    name = NAME if state_ else "labwright-gone"
    asked = {"checks": [{"id": "one", "kind": "unit", "unit": name}], "strict": False}
    (found,) = probe.run(asked, False).data["checks"]
    assert (found["ok"], found["cause"]) == (False, cause)
    assert re.search(words, found["evidence"]), found["evidence"]
    assert found["unit"] == name
    assert not re.search("systemctl|journal", found["evidence"] + found["cure"])


def test_restart(running: Windows) -> None:
    asked = {"unit": NAME, "wait_s": 1, "controller": ""}
    assert restart.run(asked, False).changed
    assert running.verbs() == ["nssm.exe stop", "nssm.exe start"]
    running.comes_up = False
    with pytest.raises(Problem, match=r"LW-RESTART-002: labwright-toy .*SERVICE_PAUSED; its last words: .*See .*logs"):
        restart.run(asked, False)
    with pytest.raises(Problem, match="there is no such service"):
        restart.run({**asked, "unit": "labwright-gone"}, False)


def test_given_up_ends_with_the_status_that_nssm_knows(
    running: Windows, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = running.folder / "pace.json"
    file.write_text('{"most": 0, "logs": ".", "log_max": "1M"}')
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(running.folder))
    assert __main__.main(["pace", str(file)]) == 99
    assert "LW-SERVICE-003" in capsys.readouterr().out
    assert pace.run({"most": 1, "logs": ".", "log_max": "1M"}, False).message == "start 1 within an hour"
