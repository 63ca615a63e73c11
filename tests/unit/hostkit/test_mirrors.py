"""hostkit.mirrors: who answers, and who holds what the locks need, against a server on this machine."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from hostkit import login, mirrors
from unit.hostkit.loopback import Answer, Asked, Loopback, Reply, behind, free_port

GOOD, OTHER = "a" * 64, "b" * 64


def ask(server: Loopback, *wants: dict[str, Any], **more: Any) -> dict[str, dict[str, Any]]:
    """The lines about one mirror, by their ids without the beginning."""
    mirror = {"name": "m", "probe": f"{server.url}/up", "wants": list(wants), **more}
    server.answers.setdefault("/up", Reply())
    data = mirrors.run({"mirrors": [mirror], "timeout_s": 2}, False).data
    return {one["id"].removeprefix("mirror.m."): one for one in data["checks"]}


def page(*files: tuple[str, str]) -> Reply:
    """A page of an index, as PEP 503 has it."""
    links = [
        f'<a href="../../f/{name.replace("+", "%2B")}{"#sha256=" * bool(one)}{one}">{name}</a>' for name, one in files
    ]
    return Reply("<br>".join(links).encode(), headers=(("Content-Type", "text/html"),))


def pep691(*files: tuple[str, str]) -> Reply:
    rows = [{"filename": name, "hashes": {"sha256": one} if one else {}} for name, one in files]
    kind = "application/vnd.pypi.simple.v1+json"
    return Reply(json.dumps({"files": rows}).encode(), headers=(("Content-Type", kind),))


def pins(server: Loopback, *rows: str, indexes: tuple[str, ...] = ("simple",)) -> dict[str, Any]:
    return {"id": "p", "pins": [[row, [GOOD]] for row in rows], "indexes": [f"{server.url}/{one}" for one in indexes]}


# --- does it answer? -------------------------------------------------------------------------------------------------


def test_a_mirror_that_answers(server: Loopback) -> None:
    (line,) = ask(server).values()
    assert (line["id"], line["ok"], line["evidence"]) == ("mirror.m.answers", True, f"{server.url}/up answers")
    assert line["latency_ms"] > 0


@pytest.mark.parametrize(
    ("answer", "identifier", "words"),
    [
        (Reply(status=502), "LW-MIRROR-001", "answered 502"),
        (Reply(status=403), "LW-MIRROR-001", "answered 403"),
        (Reply(status=401), "LW-MIRROR-002", "lab_mirror_credentials"),
        (Reply(status=404), "", ""),
        (Reply(status=410), "", ""),
    ],
)
def test_answers_that_are_none(server: Loopback, answer: Answer, identifier: str, words: str) -> None:
    server.answers["/up"] = answer
    want = {"id": "f", "files": [server.file("x", b"1")]}
    found = ask(server, want)
    assert found["answers"]["ok"] == (not identifier)
    assert identifier in found["answers"]["evidence"]
    assert words in found["answers"]["evidence"]
    assert ("f" in found) == (not identifier), "a mirror that is of no use is asked nothing more"


def test_nobody_there(server: Loopback) -> None:
    line = ask(server, probe=f"http://127.0.0.1:{free_port()}/")["answers"]
    assert not line["ok"]
    assert line["evidence"].startswith("LW-MIRROR-001: ")
    assert "refused" in line["evidence"]


def test_a_mirror_that_says_nothing_is_waited_for_no_longer_than_told(server: Loopback) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        mirror = {"name": "m", "probe": f"http://127.0.0.1:{deaf.getsockname()[1]}/", "wants": []}
        (line,) = mirrors.run({"mirrors": [mirror], "timeout_s": 0.2}, False).data["checks"]
    assert "LW-MIRROR-001" in line["evidence"]
    assert "does not answer within 0.2 s" in line["evidence"]
    assert 150 < line["latency_ms"] < 2000


def test_a_registry_that_asks_for_a_token_answers(server: Loopback) -> None:
    server.answers["/up"] = Reply(status=401)
    assert ask(server, open=True)["answers"]["ok"]


def test_with_its_login_a_mirror_answers_and_without_the_password_is_not_told(server: Loopback) -> None:
    server.answers["/up"] = behind("lab:geheim", Reply())
    login.use({"127.0.0.1": {"user": "lab", "password": "falsch"}})
    line = ask(server)["answers"]
    assert "LW-MIRROR-002" in line["evidence"]
    assert "refuses the login" in line["evidence"]
    assert "falsch" not in json.dumps(line)
    login.use({"127.0.0.1": {"user": "lab", "password": "geheim"}})
    assert ask(server)["answers"]["ok"]


# --- files -----------------------------------------------------------------------------------------------------------


def no_head(data: bytes) -> Callable[[Asked], Reply]:
    """A server without HEAD, as some are."""

    def answer(asked: Asked) -> Reply:
        if asked.method == "HEAD":
            return Reply(status=405)
        assert asked.headers["Range"] == "bytes=0-0"
        return Reply(data[:1], 206, headers=(("Content-Range", f"bytes 0-0/{len(data)}"),))

    return answer


def no_range(asked: Asked) -> Reply:
    return Reply(status=403) if asked.method == "HEAD" else Reply(b"1234")


@pytest.mark.parametrize("answer", [Reply(b"1234"), no_head(b"1234"), no_range])
@pytest.mark.parametrize("size", [4, 0, None])
def test_files_that_are_there(server: Loopback, answer: Answer, size: int | None) -> None:
    server.answers["/x"] = answer
    file = {"url": f"{server.url}/x", "sha256": GOOD} | ({} if size is None else {"size": size})
    line = ask(server, {"id": "f", "files": [file]})["f"]
    assert (line["ok"], line["evidence"]) == (True, "1 of 1 are there")


def test_files_that_are_not_there_or_are_others(server: Loopback) -> None:
    server.answers.update({"/x": Reply(b"1234"), "/long": no_head(b"12345"), "/ill": Reply(status=500)})
    files = [{"url": f"{server.url}/{name}", "size": 4} for name in ("x", "gone", "long", "ill")]
    line = ask(server, {"id": "f", "files": files})["f"]
    assert not line["ok"]
    assert line["evidence"].startswith("LW-MIRROR-003: not there: gone, ill (500). LW-MIRROR-004: not the ones of the ")
    assert "long (5 bytes, expected 4)" in line["evidence"]
    assert "1 of 4 are there" in line["evidence"]


def test_a_file_that_another_address_holds_is_held(server: Loopback) -> None:
    server.answers["/b/x"] = Reply(b"1")
    file = {"url": f"{server.url}/a/x", "more": [f"{server.url}/b/x"], "path": "x", "size": 1}
    assert ask(server, {"id": "f", "files": [file]})["f"]["ok"]
    server.answers["/b/x"] = Reply(b"22")
    assert (
        "LW-MIRROR-004: not the ones of the lock: x (2 bytes"
        in ask(server, {"id": "f", "files": [file]})["f"]["evidence"]
    )


def test_only_some_of_many_are_named(server: Loopback) -> None:
    files = [{"url": f"{server.url}/{number}"} for number in range(9)]
    assert "not there: 0, 1, 2, 3, 4 and 4 more." in ask(server, {"id": "f", "files": files})["f"]["evidence"]


def test_no_file_is_fetched(server: Loopback) -> None:
    server.answers["/x"] = Reply(b"1" * 5000)
    ask(server, {"id": "f", "files": [{"url": f"{server.url}/x", "size": 5000}]})
    assert {one.method for one in server.asked} == {"HEAD"}


# --- indexes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [page, pep691])
def test_an_index_that_has_the_sum(server: Loopback, form: Callable[..., Reply]) -> None:
    server.answers["/simple/my-package/"] = form(
        ("My_Package-1.0.tar.gz", OTHER), ("My_Package-1.0-py3-none-any.whl", GOOD)
    )
    line = ask(server, pins(server, "My.Package==1.0"))["p"]
    assert (line["ok"], line["evidence"]) == (True, "1 of 1 are there")
    assert "v1+json" in server.asked[-1].headers["Accept"]


@pytest.mark.parametrize("form", [page, pep691])
def test_one_wheel_missing_one_with_another_sum_one_without(server: Loopback, form: Callable[..., Reply]) -> None:
    server.answers["/simple/old/"] = form(("old-0.9-py3-none-any.whl", GOOD[1:] + "c"))
    server.answers["/simple/odd/"] = form(("odd-1.0-py3-none-any.whl", OTHER), ("odd-1.0.tar.gz", OTHER))
    server.answers["/simple/torch/"] = form(("torch-2.0.1+cpu-cp311-cp311-linux_x86_64.whl", ""))
    line = ask(server, pins(server, "old==1.0", "odd==1.0", "torch==2.0.1+cpu", "none==1"))["p"]
    assert not line["ok"]
    assert "LW-MIRROR-003: not there: old==1.0, none==1." in line["evidence"]
    assert (
        "LW-MIRROR-004: not the ones of the lock: odd==1.0 (2 files of that version, none with its sum)."
        in line["evidence"]
    )
    assert "1 of 4 are there, 1 of them by their names only" in line["evidence"]


def test_any_of_the_indexes_may_have_it(server: Loopback) -> None:
    server.answers["/one/a/"] = page(("a-1.0-py3-none-any.whl", OTHER))
    server.answers["/two/a/"] = page(("a-1.0-py3-none-any.whl", GOOD))
    assert ask(server, pins(server, "a==1.0", indexes=("one", "two")))["p"]["ok"]
    assert "LW-MIRROR-004" in ask(server, pins(server, "a==1.0", indexes=("one", "none")))["p"]["evidence"]


@pytest.mark.parametrize(
    "answer",
    [
        Reply(status=500),
        Reply(b"{", headers=(("Content-Type", "application/json"),)),
        Reply(b"[1]", headers=(("Content-Type", "application/json"),)),
        Reply(b'{"files": [3]}', headers=(("Content-Type", "application/json"),)),
        Reply(b"<a>\xff<a href=", length=9),
        Reply(b'<a href="">x</a><a name="y">', headers=(("Content-Type", "text/html"),)),
    ],
)
def test_pages_that_make_no_sense_have_nothing(server: Loopback, answer: Answer) -> None:
    server.answers["/simple/a/"] = answer
    assert "LW-MIRROR-003: not there: a==1.0" in ask(server, pins(server, "a==1.0"))["p"]["evidence"]


@pytest.mark.parametrize(
    ("file", "is_it"),
    [
        ("a_b-1.0-py3-none-any.whl", True),
        ("A.B-1.0.tar.gz", True),
        ("a-b-1.0.zip", True),
        ("a_b-1.0.1-py3-none-any.whl", False),
        ("a_b_c-1.0-py3-none-any.whl", False),
        ("a_b", False),
    ],
)
def test_files_by_their_names(file: str, is_it: bool) -> None:
    assert mirrors.is_of(file, "a-b", "1.0") == is_it


def test_several_mirrors_in_the_order_asked(server: Loopback) -> None:
    rows: list[dict[str, Any]] = [
        {"name": name, "probe": f"{server.url}/{name}", "wants": []} for name in ("b", "a", "c")
    ]
    found = mirrors.run({"mirrors": rows}, True)
    assert [one["id"] for one in found.data["checks"]] == [f"mirror.{name}.answers" for name in ("b", "a", "c")]
    assert (found.changed, found.message) == (False, "3 of 3 checks passed")
    assert mirrors.run({"mirrors": []}, False).data == {"checks": []}


def test_a_page_without_an_end_is_none(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "LONGEST_PAGE", 5000)
    server.answers["/simple/a/"] = Reply(stream=[b"x" * 1000] * 1000)
    line = ask(server, pins(server, "a==1"))["p"]
    assert not line["ok"]
    assert "/simple/a/: longer than 5000 bytes" in line["evidence"]
