"""The sandbox from both of its sides without a host: what a program asks of the keeper, and what the keeper refuses."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labwright_agents import sandbox
from labwright_agents.errors import AgentError
from labwright_agents.outcome import Execution
from labwright_agents.programs import check
from labwright_agents.sandbox import keeper
from scripted import KEY

SIZE = {"memory_mib": 256, "processes": 9, "work_mib": 1, "seconds": 100}
BOX = sandbox.Settings("docker", *SIZE.values())


@dataclass(frozen=True)
class CodeBlock:
    """As AutoGen has it."""

    language: str
    code: str


@contextmanager
def keeps(tmp_path: Path, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> Iterator[tuple[str, list[Any]]]:
    """A keeper that judges requests as the real one does, and has no box: `answer` says what would have come of it."""
    path, asked = str(tmp_path / "door"), []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve() -> None:
        while True:
            try:
                line, _address = listener.accept()
            except OSError:
                return
            with line, line.makefile("rwb") as both:
                request = keeper.judge(both.readline(), SIZE)
                asked.append(request)
                both.write(json.dumps(answer(request)).encode() + b"\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield path, asked
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def ended(
    request: dict[str, Any], status: int = 0, output: str = "", cause: str = "", **files: bytes
) -> dict[str, Any]:
    """An answer: the files as they were sent, but for `files`."""
    after = {path: base64.b64encode(data).decode() for path, data in {**request["files"], **files}.items()}
    return {"exit_code": status, "output": output, "cause": cause, "files": after}


def test_the_work_folder_goes_there_and_comes_back(tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "sub").mkdir(parents=True)
    (work / "sub/in").write_bytes(b"\0in")
    (work / "gone").write_text("x")
    (work / "link").symlink_to("/etc/passwd")

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        said = ended(request, output="done\n", out=b"\xff")
        del said["files"]["gone"]
        return said

    runs: list[Execution] = []
    with keeps(tmp_path, answer) as (path, asked):
        box = sandbox.Box(BOX, work, 60, runs.append, path)
        assert box.run_all([CodeBlock("python", "# filename: a/main.py\nprint()")]) == (0, "done\n")
    assert [(one.code, one.exit_code, one.output, one.cause) for one in runs] == [
        ("# filename: a/main.py\nprint()", 0, "done\n", "")
    ]
    assert {name: asked[0][name] for name in ("language", "script", "seconds")} == {
        "language": "python",
        "script": "a/main.py",
        "seconds": 60,
    }
    assert set(asked[0]["files"]) == {"sub/in", "gone", "a/main.py"}
    assert (work / "out").read_bytes() == b"\xff"
    assert not (work / "gone").exists()


def made(folder: Path, number: int, size: int = 0) -> None:
    """Files of so many bytes, which take up no room."""
    folder.mkdir(parents=True)
    for name in range(number):
        with (folder / f"aaa{name:04}").open("wb") as file:
            file.truncate(size)


@pytest.mark.parametrize(("number", "size", "inner"), [(2, 600_000, ""), (keeper.MOST_FILES, 0, ""), (1, 0, "x/" * 16)])
def test_where_the_code_left_more_than_is_kept_nothing_of_the_users_is_lost(
    tmp_path: Path, number: int, size: int, inner: str
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    for name in "abc":
        (work / f"input_{name}.csv").write_text(name)

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        left = tmp_path / "box"
        made(left / inner, number, size)
        (left / "result").write_text("x")
        return {**ended(request, output="done\n"), "files": keeper.taken(left, SIZE["work_mib"] << 20)}

    with keeps(tmp_path, answer) as (path, _asked):
        status, output, cause = sandbox.Box(BOX, work, 60, lambda _run: None, path).run("python", "x")
    assert (status, output) == (0, "done\n")
    assert cause.startswith("LW-AGENT-071: ")
    assert {one.name: one.read_text() for one in work.iterdir()} == {f"input_{name}.csv": name for name in "abc"}


def test_blocks_run_up_to_the_first_that_fails(tmp_path: Path) -> None:
    runs: list[Execution] = []
    with keeps(tmp_path, lambda request: ended(request, len(request["files"]) - 1, "x\n")) as (path, asked):
        box = sandbox.Box(BOX, tmp_path / "w", 600, runs.append, path)
        (tmp_path / "w").mkdir()
        assert box.run_all([CodeBlock(one, "x") for one in ("bash", "py", "sh")]) == (1, "x\nx\n")
    assert [one["script"] for one in asked] == ["code.sh", "code1.py"]
    assert asked[0]["seconds"] == SIZE["seconds"]
    assert sandbox.Box(BOX, tmp_path, 60, runs.append, path).run("perl", "x")[0] == 1


@pytest.mark.parametrize(
    ("known", "output", "id_"),
    [
        ("time", "", "LW-AGENT-061"),
        ("output", "y\n", "LW-AGENT-062"),
        ("killed", "", "LW-AGENT-063"),
        ("", "MemoryError\n", "LW-AGENT-063"),
        ("disk", "", "LW-AGENT-064"),
        ("", "OSError: [Errno 28] No space left on device\n", "LW-AGENT-064"),
        ("", "RuntimeError: can't start new thread\n", "LW-AGENT-065"),
        ("", "OSError: [Errno 101] Network is unreachable\n", "LW-AGENT-066"),
        ("", "FileNotFoundError: [Errno 2] No such file or directory: '/etc/shadow'\n", "LW-AGENT-067"),
    ],
)
def test_what_stopped_the_code_is_a_sentence(tmp_path: Path, known: str, output: str, id_: str) -> None:
    with keeps(tmp_path, lambda request: ended(request, 1, output, known)) as (path, _asked):
        box = sandbox.Box(BOX, tmp_path / "w", 60, lambda _run: None, path)
        (tmp_path / "w").mkdir()
        assert box.run("python", "x")[2].startswith(f"{id_}: ")


def test_code_that_ended_well_or_failed_by_itself_has_no_cause(tmp_path: Path) -> None:
    box = sandbox.Box(BOX, tmp_path, 60, lambda _run: None)
    assert box.cause("", 0, "Permission denied") == ""
    assert box.cause("", 1, "No such file or directory: 'data.csv'") == ""


def test_a_keeper_that_is_not_there_cannot_or_may_not_is_a_sentence(tmp_path: Path) -> None:
    work = tmp_path / "w"
    work.mkdir()
    with pytest.raises(AgentError, match=r"^LW-AGENT-060: .*No such file"):
        sandbox.Box(BOX, work, 60, lambda _run: None, str(tmp_path / "none")).run("python", "x")
    with keeps(tmp_path, lambda _request: {"fault": "docker create: no engine"}) as (path, _asked):
        box = sandbox.Box(BOX, work, 60, lambda _run: None, path)
        with pytest.raises(AgentError, match=r"^LW-AGENT-069: .*no engine"):
            box.run("python", "x")
        (work / "big").write_bytes(bytes(1 << 20))
        with pytest.raises(AgentError, match=r"^LW-AGENT-068: .* 1 MiB"):
            box.run("python", "x")  # the folder alone would go into the box, and the code with it does not


@pytest.mark.parametrize(("number", "inner"), [(keeper.MOST_FILES, ""), (1, "x/" * 16)])
def test_a_work_folder_that_the_keeper_would_refuse_is_not_sent(tmp_path: Path, number: int, inner: str) -> None:
    made(tmp_path / "w" / inner, number)
    with pytest.raises(AgentError, match=r"^LW-AGENT-068: .* 1000 files"):
        sandbox.gathered(tmp_path / "w", 1, {"code.py": b""})
    next((tmp_path / "w").rglob("aaa*")).rename(tmp_path / "w/code.py")
    assert len(sandbox.gathered(tmp_path / "w", 1, {"code.py": b""})) == number


def test_a_file_that_may_not_be_read_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "closed.csv").write_text("x")
    monkeypatch.setattr(Path, "read_bytes", refuse)  # root may read it
    with pytest.raises(AgentError, match=r"^LW-AGENT-018: .*closed\.csv .*Permission denied"):
        sandbox.gathered(tmp_path, 1, {})


def test_the_check_of_a_sandbox_finds_one_that_is_open_or_does_nothing(tmp_path: Path) -> None:
    config = tmp_path / "OAI_CONFIG_LIST"
    config.write_text(json.dumps([{"base_url": "https://192.0.2.1:9527/v1", "model": "m", "api_key": KEY}]))

    def says(reached: str, works: bool = True) -> Callable[[dict[str, Any]], dict[str, Any]]:
        def answer(request: dict[str, Any]) -> dict[str, Any]:
            word = request["files"]["code.py"].decode().strip().splitlines()[-1][7:-2]
            return ended(request, output=f"{reached}{word}\n", **({"left": word.encode()} if works else {}))

        return answer

    with keeps(tmp_path, says("")) as (path, _asked):
        check.attempt(BOX, config, path)
    Path(path).unlink()
    refused = pytest.raises(AgentError, match=r"^LW-AGENT-070: .*reached .*the lab's API")
    with keeps(tmp_path, says("reached: the lab's API\n")) as (path, _asked), refused:
        check.attempt(BOX, config, path)
    Path(path).unlink()
    refused = pytest.raises(AgentError, match=r"^LW-AGENT-069: ")
    with keeps(tmp_path, says("", works=False)) as (path, _asked), refused:
        check.attempt(BOX, config, path)


@pytest.mark.parametrize("name", ["../up.py", "/etc/up.py", "a/../../up.py", "..", "-", ""])
def test_a_file_name_that_leaves_the_work_folder_is_not_taken(name: str) -> None:
    assert sandbox.named(f"# filename: {name}\nx") == ""


def test_a_link_in_the_work_folder_does_not_go_along(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert sandbox.gathered(tmp_path, 1, {}) == {"plain": b"x"}


@pytest.mark.parametrize(
    ("end", "status", "cause"), [("exit 3", 3, ""), ("exit 255", 255, ""), ("kill -9 $$", 137, "killed")]
)
def test_a_box_says_all_on_one_stream_and_how_the_code_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, status: int, cause: str
) -> None:
    """Docker carries two streams, and an early error could overtake the word that the box began; systemd-run says 255
    of all that was killed, which Python's sys.exit(-1) is too."""
    streams: list[tuple[bytes, bytes]] = []

    def watch(argv: list[str], _seconds: int) -> tuple[bytes, str, int]:
        done = subprocess.run(argv, capture_output=True, check=False)
        streams.append((done.stdout, done.stderr))
        return done.stdout, "", done.returncode if done.returncode >= 0 else 255

    monkeypatch.setattr(keeper, "unit", lambda *words: words[-1])
    monkeypatch.setattr(keeper, "watch", watch)
    monkeypatch.setattr(keeper, "stop", lambda *_words: None)
    script = tmp_path / "code.sh"
    script.write_text(f"echo wrong >&2; {end}")
    settings = {"kind": "unit", "prefix": "", "work_mib": 1}
    said = keeper.run(settings, "box", tmp_path, {"language": "sh", "script": str(script), "seconds": 5})
    assert (said["exit_code"], said["cause"]) == (status, cause)
    assert said["output"].startswith("wrong\n")
    ((told, wrong),) = streams
    assert told.startswith(b"ready\nwrong\n")
    assert wrong == b""


def test_when_the_sandbox_goes_each_keeper_ends_its_box(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of either kind: a keeper that is stopped takes away what it made."""
    called: list[tuple[str, ...]] = []

    def command(*argv: str) -> str:
        called.append(argv)
        return ""

    monkeypatch.setattr(keeper, "command", command)
    monkeypatch.setattr(keeper, "BOXES", tmp_path / "boxes")
    keeper.BOXES.mkdir()
    keeper.forget()
    assert called[0] == ("systemctl", "stop", "labwright-sandbox@*.service")
    assert not keeper.BOXES.exists()


def test_what_the_code_left_is_read_without_following_anything(tmp_path: Path) -> None:
    box = tmp_path / "box"
    (box / "a/b").mkdir(parents=True)
    (box / "a/b/c").write_text("x")
    (box / "link").symlink_to("/etc/passwd")
    (box / "folder").symlink_to("/etc")
    (tmp_path / "secret").write_text("s")
    assert keeper.taken(box, 100) == {"a/b/c": "eA=="}
    with (box / "hole").open("wb") as file:
        file.truncate(1 << 40)
    assert keeper.taken(box, 100) is None
