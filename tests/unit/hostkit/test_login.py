"""hostkit.login: a login goes to its own host, as a header or in a private file for pip, and comes back in no words."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import textwrap
import urllib.request
import zipfile
from http.client import HTTPMessage
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest

from hostkit import env, exchange, fetch, login, place
from hostkit.__main__ import main
from hostkit.result import Problem
from unit.hostkit.loopback import Loopback, Reply, behind, serving
from unit.hostkit.tls import authority
from unit.labwright.plugins import plugin

HUSH = "pa55#wo:rd/~"
LOGIN = {"127.0.0.1": {"user": "lab", "password": HUSH}}
BASIC = f"lab:{HUSH}"


def guarded(server: Loopback, name: str, data: bytes) -> dict[str, Any]:
    file = server.file(name, data)
    server.answers[f"/{name}"] = behind(BASIC, Reply(data))
    return file


@pytest.mark.trap("authorities")
@pytest.mark.parametrize(
    ("on_windows", "conda", "fine"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_windows_trusts_whom_condas_python_trusts_too(
    on_windows: bool, conda: bool, fine: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = authority(tmp_path / "Library/ssl")
    if conda:
        Path(one.file).rename(tmp_path / "Library/ssl/cacert.pem")
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    login.trust.cache_clear()
    monkeypatch.setattr(place, "windows", lambda: on_windows)
    with serving(one.server()) as server:
        file = server.file("a.whl", b"1")
        if fine:
            assert fetch.fetch(tmp_path, file).read_bytes() == b"1"
            assert exchange.trust({}).cert_store_stats() == login.trust().cert_store_stats()
        else:
            with pytest.raises(Problem, match="CERTIFICATE_VERIFY_FAILED"):
                fetch.fetch(tmp_path, file)
    login.trust.cache_clear()


def headers(server: Loopback) -> list[str | None]:
    return [one.headers.get("Authorization") for one in server.asked]


def test_a_file_behind_a_login_comes_with_it(server: Loopback, tmp_path: Path) -> None:
    login.use(LOGIN)
    assert fetch.fetch(tmp_path, guarded(server, "a.whl", b"1")).read_bytes() == b"1"


@pytest.mark.parametrize(
    ("logins", "words"),
    [
        ({}, "127.0.0.1 asks for a login, and none is set for it"),
        ({"127.0.0.1": {"user": "lab", "password": "old"}}, "127.0.0.1 refuses the login that is set for it"),
    ],
)
def test_a_server_that_asks_for_a_login_is_a_sentence_and_is_not_asked_again(
    server: Loopback, tmp_path: Path, logins: dict[str, dict[str, str]], words: str
) -> None:
    login.use(logins)
    with pytest.raises(Problem, match=rf"LW-FETCH-005: .*{words} \(401\).*lab_mirror_credentials") as found:
        fetch.fetch(tmp_path, guarded(server, "a.whl", b"1"))
    assert "old" not in str(found.value)
    assert len(server.asked) == 1


def test_another_host_does_not_get_it_and_neither_does_one_that_is_led_to(server: Loopback, tmp_path: Path) -> None:
    file = server.file("a.whl", b"1")
    server.answers["/from"] = Reply(status=302, headers=(("Location", f"http://localhost:{server.port}/a.whl"),))
    login.use(LOGIN)
    assert fetch.fetch(tmp_path, {**file, "url": f"{server.url}/from", "name": "a.whl"}).read_bytes() == b"1"
    assert [bool(one) for one in headers(server)] == [True, False]
    login.use({"mirror.example": LOGIN["127.0.0.1"]})
    fetch.fetch(tmp_path / "other", file)
    assert headers(server)[-1] is None


def test_a_redirect_within_the_host_and_to_one_with_its_own_login(server: Loopback, tmp_path: Path) -> None:
    file = guarded(server, "a.whl", b"1")
    server.answers["/from"] = Reply(status=302, headers=(("Location", "/a.whl"),))
    login.use(LOGIN)
    assert fetch.fetch(tmp_path, {**file, "url": f"{server.url}/from"}).read_bytes() == b"1"
    server.answers["/from"] = Reply(status=302, headers=(("Location", f"http://localhost:{server.port}/a.whl"),))
    login.use({"localhost": LOGIN["127.0.0.1"]})
    fetch.fetch(tmp_path / "other", {**file, "url": f"{server.url}/from"})
    assert [bool(one) for one in headers(server)] == [True, True, False, True]


def test_a_login_does_not_go_from_https_to_http() -> None:
    login.use({"mirror.example": LOGIN["127.0.0.1"]})
    one = urllib.request.Request("https://mirror.example/a", method="HEAD")
    follow = login.Sender().redirect_request
    with pytest.raises(OSError, match="without TLS, where no login is sent"):
        follow(one, None, 302, "Found", HTTPMessage(), "http://mirror.example/a")  # type: ignore[arg-type]
    on = follow(one, None, 302, "Found", HTTPMessage(), "https://mirror.example/b")  # type: ignore[arg-type]
    assert on is not None
    assert on.get_method() == "HEAD"


def test_the_next_address_of_a_file_is_tried_and_all_are_told(server: Loopback, tmp_path: Path) -> None:
    file = server.file("a.bin", b"1")
    server.answers["/other"] = Reply(b"2")
    first = {**file, "url": f"{server.url}/none", "name": "a.bin"}
    more = [f"{server.url}/other", file["url"]]
    assert fetch.fetch(tmp_path, {**first, "more": more}).read_bytes() == b"1"
    assert server.paths() == ["/none", "/other", "/a.bin"]
    with pytest.raises(Problem, match=r"LW-FETCH-001: .*/none: .* 404 .* Then: a\.bin is not the file .*/other"):
        fetch.fetch(tmp_path / "new", {**first, "more": more[:1]})


def test_words_are_cleared_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    login.use(LOGIN)
    for form in (HUSH, login.encoded(LOGIN["127.0.0.1"]), "pa55%23wo%3Ard%2F~"):
        assert login.hide(f"a {form} b") == "a *** b"


def test_a_login_without_a_password_leaves_words_readable() -> None:
    login.use({"127.0.0.1": {"user": "lab", "password": ""}})
    assert login.hide("the mirror answered 403; bGFiOg== was sent") == "the mirror answered 403; *** was sent"


def test_the_netrc_file_is_private(tmp_path: Path) -> None:
    login.use(LOGIN)
    path = Path(login.write_netrc(tmp_path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == f"machine 127.0.0.1 login lab password {HUSH}\n"


def test_an_answer_does_not_repeat_it(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def leak(_file: dict[str, Any]) -> Path:
        raise Problem("LW-FETCH-001", f"{HUSH} was refused")

    monkeypatch.setattr(fetch, "stored", lambda _store, file: leak(file))
    files = [{"path": "a", "url": server.url, "sha256": "0"}]
    request = {"path": str(tmp_path / "m"), "store": str(tmp_path), "files": files}
    text = json.dumps({"verb": "model", "request": request, "logins": LOGIN})
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"\xef\xbb\xbf" + text.encode())))
    assert main([]) == 1
    said = capsys.readouterr()
    assert HUSH not in said.out + said.err
    assert "*** was refused" in said.out


# --- pip itself ------------------------------------------------------------------------------------------------------


def wheel(folder: Path) -> bytes:
    """The smallest wheel that pip installs."""
    path = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as pack:
        pack.writestr("tiny.py", "")
        pack.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        pack.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        pack.writestr("tiny-1.0.dist-info/RECORD", "")
    return path.read_bytes()


@pytest.fixture
def layer(server: Loopback, tmp_path: Path) -> dict[str, Any]:
    """A layer from an index behind a login; a prefix whose Python notes how it was called."""
    data = wheel(tmp_path)
    file = guarded(server, "files/tiny-1.0-py3-none-any.whl", data)
    page = f'<a href="../../files/tiny-1.0-py3-none-any.whl#sha256={file["sha256"]}">tiny-1.0-py3-none-any.whl</a>'
    server.answers["/simple/tiny/"] = behind(BASIC, Reply(page.encode(), headers=(("Content-Type", "text/html"),)))
    python = tmp_path / "prefix" / "bin" / "python"
    python.parent.mkdir(parents=True)
    # The interpreter of the tests, told to install elsewhere; while pip runs, its command line is written down.
    python.write_text(
        textwrap.dedent(f"""\
        #!/bin/sh
        echo "$@" >> {tmp_path}/argv; ls -l "$NETRC" >> {tmp_path}/netrc 2>&1; echo "$NETRC" >> {tmp_path}/where
        exec {sys.executable} "$@" --target {tmp_path}/target
        """)
    )
    python.chmod(0o755)
    lock = f"tiny==1.0 --hash=sha256:{file['sha256']}\n"
    return {"requirements": lock, "index": ["--index-url", f"{server.url}/simple"]}


def test_pip_gets_the_login_in_a_private_file_that_is_gone_afterwards(layer: dict[str, Any], tmp_path: Path) -> None:
    login.use(LOGIN)
    env.pip_layer(tmp_path / "prefix", layer, [])
    assert (tmp_path / "target" / "tiny.py").exists()
    assert HUSH not in (tmp_path / "argv").read_text()
    assert (tmp_path / "netrc").read_text().startswith("-rw------- ")
    assert not Path((tmp_path / "where").read_text().strip()).exists()


def test_pip_without_the_login_says_which_setting_helps(layer: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"LW-ENV-004: .*401.*lab_mirror_credentials"):
        env.pip_layer(tmp_path / "prefix", layer, [])
    login.use({"127.0.0.1": {"user": "lab", "password": "old-one"}})
    with pytest.raises(Problem, match=r"LW-ENV-004: .*401.*lab_mirror_credentials") as found:
        env.pip_layer(tmp_path / "prefix", layer, [])
    assert "old-one" not in str(found.value)


def arguments(path: Path) -> str:
    """The command line of a process that may just have ended."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def test_the_system_sees_no_password_while_a_request_runs(tmp_path: Path) -> None:
    """The way over SSH: the login is on standard input, and in no process's arguments while the file is on its way."""
    seen: list[str] = []

    def look(_asked: Any) -> Reply:
        seen.append(" ".join(arguments(path) for path in Path("/proc").glob("[0-9]*/cmdline")))
        return Reply(b"1")

    hostkit = plugin("action", "hostkit")
    with serving() as server:
        file = {**server.file("a.bin", b"1"), "path": "a.bin"}
        server.answers["/a.bin"] = behind(BASIC, look)
        request = {"path": str(tmp_path / "m"), "store": str(tmp_path / "s"), "files": [file]}
        text = json.dumps({"verb": "model", "check": False, "request": request, "logins": LOGIN})
        done = subprocess.run(
            [sys.executable, "-c", hostkit.BOOT],
            input=base64.b64encode(hostkit.archive()).decode() + "\n" + text,
            capture_output=True,
            text=True,
            check=False,
        )
    assert json.loads(done.stdout)["failed"] is False
    assert "hostkit" in seen[0]
    assert HUSH not in seen[0] + done.stdout + done.stderr
