"""hostkit.fetch: a file comes whole and unchanged, or not at all."""

from __future__ import annotations

import io
import itertools
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hostkit import fetch
from hostkit.result import Problem
from unit.hostkit.look import look
from unit.hostkit.loopback import Loopback, Reply, free_port, ranged

DATA = bytes(range(256)) * 40


def begun(store: Path, file: dict[str, object], data: bytes) -> Path:
    """A download that was cut off earlier."""
    part = fetch.stored(store, file)
    part = part.with_name(part.name + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(data)
    return part


def test_brings_the_file_into_the_store_under_its_sum(server: Loopback, tmp_path: Path) -> None:
    file = server.file("a.whl", DATA)
    path = fetch.fetch(tmp_path, file)
    assert path == tmp_path / file["sha256"][:16] / "a.whl"
    assert path.read_bytes() == DATA
    assert sorted(look(tmp_path)) == [file["sha256"][:16], f"{file['sha256'][:16]}/a.whl"]


def test_what_is_there_is_not_fetched_again(server: Loopback, tmp_path: Path) -> None:
    file = server.file("a.whl", DATA)
    fetch.fetch(tmp_path, file)
    fetch.fetch(tmp_path, file)
    assert server.paths() == ["/a.whl"]


def test_what_was_spoilt_in_the_store_is_fetched_again(server: Loopback, tmp_path: Path) -> None:
    file = server.file("a.whl", DATA)
    fetch.fetch(tmp_path, file).write_bytes(b"spoilt")
    assert fetch.fetch(tmp_path, file).read_bytes() == DATA


def test_goes_on_where_it_stopped(server: Loopback, tmp_path: Path) -> None:
    file = server.file("a.whl", DATA)
    begun(tmp_path, file, DATA[:1000])
    assert fetch.fetch(tmp_path, file).read_bytes() == DATA
    assert [one.headers.get("Range") for one in server.asked] == ["bytes=1000-"]


def test_starts_over_where_the_server_cannot_go_on(server: Loopback, tmp_path: Path) -> None:
    file = server.file("a.whl", DATA)
    server.answers["/a.whl"] = Reply(DATA)
    begun(tmp_path, file, b"x" * 1000)
    assert fetch.fetch(tmp_path, file).read_bytes() == DATA
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("length", "size", "asked"),
    [
        (len(DATA), 0, [f"bytes={len(DATA)}-", None]),
        (len(DATA) + 5, 0, [f"bytes={len(DATA) + 5}-", None]),
        (len(DATA), len(DATA), [None]),
        (0, 0, [None]),
        (len(DATA) + 5, len(DATA), [f"bytes={len(DATA) + 5}-", None]),
    ],
)
def test_a_part_as_long_as_the_file_or_longer_is_thrown_away(
    server: Loopback, tmp_path: Path, length: int, size: int, asked: list[str | None]
) -> None:
    file = {**server.file("a.whl", DATA), "size": size}
    begun(tmp_path, file, b"x" * length)
    assert fetch.fetch(tmp_path, file).read_bytes() == DATA
    assert [one.headers.get("Range") for one in server.asked] == asked


def test_a_bad_part_does_not_blame_the_server(server: Loopback, tmp_path: Path) -> None:
    file = server.file("a.whl", DATA)
    begun(tmp_path, file, b"\0" * 1000)
    assert fetch.fetch(tmp_path, file).read_bytes() == DATA


def test_a_connection_that_breaks_is_taken_up_again(server: Loopback, tmp_path: Path) -> None:
    file = server.file("a.whl", DATA)
    server.answers["/a.whl"] = [Reply(DATA[:700], length=len(DATA)), ranged(DATA)]
    assert fetch.fetch(tmp_path, file).read_bytes() == DATA
    assert server.asked[1].headers["Range"] == "bytes=700-"


def test_a_connection_that_always_breaks_is_a_problem_and_keeps_what_came(server: Loopback, tmp_path: Path) -> None:
    file = server.file("a.whl", DATA)
    server.answers["/a.whl"] = [Reply(DATA[:700], length=len(DATA)), Reply(b"", 206, length=9)]
    with pytest.raises(Problem, match="LW-FETCH-002"):
        fetch.fetch(tmp_path, file)
    part = fetch.stored(tmp_path, file)
    assert part.with_name("a.whl.part").read_bytes() == DATA[:700]
    assert not part.exists()


@pytest.mark.parametrize(("status", "times"), [(404, 1), (403, 1), (410, 1), (500, 2), (503, 2)])
def test_a_refusal_is_named_and_asked_again_only_where_that_may_help(
    server: Loopback, tmp_path: Path, status: int, times: int
) -> None:
    file = server.file("a.whl", DATA)
    server.answers["/a.whl"] = Reply(b"", status)
    with pytest.raises(Problem, match=f"LW-FETCH-001: {server.url}/a.whl: the server answered {status} "):
        fetch.fetch(tmp_path, file)
    assert len(server.asked) == times


def test_a_server_that_was_busy_for_a_moment(server: Loopback, tmp_path: Path) -> None:
    file = server.file("a.whl", DATA)
    server.answers["/a.whl"] = [Reply(b"", 503), ranged(DATA)]
    assert fetch.fetch(tmp_path, file).read_bytes() == DATA


def test_nobody_there_says_which_settings_help(tmp_path: Path) -> None:
    file = {"url": f"http://127.0.0.1:{free_port()}/a.whl", "sha256": "0" * 64}
    with pytest.raises(Problem, match=r"LW-FETCH-002.*refused.*lab_bundle_url or lab_mirrors"):
        fetch.fetch(tmp_path, file)


def test_a_whole_part_is_looked_at_before_anybody_is_asked(server: Loopback, tmp_path: Path) -> None:
    """A run that was stopped while it took the sum of 12 GB."""
    file = server.file("a.whl", DATA)
    begun(tmp_path, file, DATA)
    assert fetch.fetch(tmp_path, file).read_bytes() == DATA
    assert not server.asked


def test_a_whole_part_of_unknown_size_does_not_come_again(server: Loopback, tmp_path: Path) -> None:
    file = {**server.file("a.whl", DATA), "size": 0}
    server.answers["/a.whl"] = Reply(b"", 416, headers=(("Content-Range", f"bytes */{len(DATA)}"),))
    begun(tmp_path, file, DATA)
    assert fetch.fetch(tmp_path, file).read_bytes() == DATA
    assert len(server.asked) == 1


def endless() -> Iterator[bytes]:
    """Of a server that goes on for ever."""
    for _ in range(1000):  # a client that does not stop gets so much
        yield b"x" * 4096


@pytest.mark.parametrize(
    "lie", [Reply(b"x" * (len(DATA) + 1)), Reply(stream=endless()), Reply(b"x", length=1 << 40)], ids=lambda _reply: ""
)
@pytest.mark.parametrize("have", [0, 100])
def test_no_more_is_taken_than_was_planned(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: Reply, have: int
) -> None:
    file, written = server.file("a.whl", DATA), list[int]()
    server.answers["/a.whl"] = replace(lie, stream=endless() if lie.stream else None)
    if have:
        begun(tmp_path, file, DATA[:have])
    real = Path.unlink

    def removed(path: Path, missing_ok: bool = False) -> None:
        written.append(path.stat().st_size if path.exists() else 0)
        real(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", removed)
    with pytest.raises(Problem, match=rf"LW-FETCH-003: .* longer than {len(DATA)} bytes, expected {file['sha256']}"):
        fetch.fetch(tmp_path, file)
    assert max(written) <= len(DATA) + 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_file_of_unknown_size_has_a_bound_too(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = {**server.file("a.whl", DATA), "size": 0}
    server.answers["/a.whl"] = Reply(stream=endless())
    monkeypatch.setattr(fetch, "LONGEST", 5000)
    with pytest.raises(Problem, match=r"LW-FETCH-003: .* longer than 5000 bytes"):
        fetch.fetch(tmp_path, file)


def test_a_server_that_trickles_holds_no_run_for_ever(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = server.file("a.whl", DATA)
    server.answers["/a.whl"] = lambda _asked: Reply(stream=[b"x"] * 1000)
    clock = itertools.count(step=59)
    monkeypatch.setattr("hostkit.fetch.time.monotonic", lambda: next(clock))
    with pytest.raises(Problem, match=r"LW-FETCH-002: .*: slower than 10000 bytes a second"):
        fetch.fetch(tmp_path, file)
    assert next(clock) < 59 * 20


def test_what_came_slowly_and_is_whole_is_taken(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(step=3600)
    monkeypatch.setattr("hostkit.fetch.time.monotonic", lambda: next(clock))
    file = server.file("a.whl", b"x")
    assert fetch.fetch(tmp_path, file).read_bytes() == b"x"
    assert len(server.asked) == 1


def test_a_length_that_is_none(server: Loopback, tmp_path: Path) -> None:
    file = server.file("a.whl", DATA)
    server.answers["/a.whl"] = Reply(stream=[DATA], headers=(("Content-Length", "many"),))
    assert fetch.fetch(tmp_path, file).read_bytes() == DATA


@pytest.mark.parametrize("harm", ["damaged", "a bomb", "not packed as zip says"])
def test_an_archive_that_cannot_be_read_is_not_the_planned_file(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as pack:
        pack.writestr("nssm.exe", b"abcdefgh" * 10000)
    bad = bytearray(data.getvalue())
    if harm == "damaged":
        bad[60:100] = b"\xff" * 40
    elif harm == "a bomb":
        monkeypatch.setattr(fetch, "LONGEST_MEMBER", 79999)
    else:
        at = bad.index(b"PK\x01\x02") + 10
        bad[at : at + 2] = b"\x63\x00"
    one = {**server.file("bad.zip", bytes(bad)), "sha256": "1" * 64, "name": "nssm.exe", "member": "nssm.exe"}
    with pytest.raises(Problem, match=r"LW-FETCH-003: nssm.exe is not .* Then: .* answered 404"):
        fetch.fetch(tmp_path, {**one, "more": [f"{server.url}/none"]})
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("member", ["", "a"])
def test_a_full_disk_is_no_servers_fault(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: str
) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as pack:
        pack.writestr("a", DATA)
    file = {**server.file("a.zip", data.getvalue()), "member": member, "more": [f"{server.url}/other"]}
    real, full = Path.open, ".member" if member else ".part"

    def opened(path: Path, *words: Any) -> Any:
        return real(Path("/dev/full") if path.name.endswith(full) else path, *words)

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(Problem, match=r"LW-FETCH-004: .*: No space left on device, at a\.zip\. Make room.*lab_store"):
        fetch.fetch(tmp_path, file)
    assert server.paths() == ["/a.zip"]


def test_another_file_than_planned_is_named_and_not_kept(server: Loopback, tmp_path: Path) -> None:
    file = server.file("a.whl", DATA)
    server.answers["/a.whl"] = ranged(DATA[:-1] + b"!")
    with pytest.raises(Problem, match=f"LW-FETCH-003: a.whl is not .* expected {file['sha256']}"):
        fetch.fetch(tmp_path, file)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_names() -> None:
    assert fetch.name_of({"url": "http://x/y/torch-2.0%2Bcpu.whl"}) == "torch-2.0+cpu.whl"
    assert fetch.name_of({"url": "http://x/y/z", "name": "config.json"}) == "config.json"


def test_two_files_of_one_name_do_not_meet(server: Loopback, tmp_path: Path) -> None:
    one, two = server.file("1/config.json", b"1"), server.file("2/config.json", b"2")
    assert fetch.fetch(tmp_path, one).read_bytes() + fetch.fetch(tmp_path, two).read_bytes() == b"12"


def test_discard_leaves_nothing_of_what_was_used_and_all_of_the_rest(server: Loopback, tmp_path: Path) -> None:
    used, kept = server.file("used", b"1"), server.file("kept", b"2")
    fetch.fetch(tmp_path, used)
    path = fetch.fetch(tmp_path, kept)
    begun(tmp_path, server.file("begun", b"3"), b"")
    fetch.discard(tmp_path, [used, server.file("begun", b"3"), server.file("never", b"4")])
    assert [one for one in tmp_path.rglob("*") if one.is_file()] == [path]
    assert list(tmp_path.iterdir()) == [path.parent]
