"""hostkit.probe says the true cause: each against a server on loopback, or a program, that behaves so."""

from __future__ import annotations

import errno
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hostkit import causes, exchange, facts, probe
from unit.hostkit.loopback import Asked, Loopback, Reply, behind, free_port, raw, says, serving
from unit.hostkit.test_probe import SAID, program
from unit.hostkit.tls import Authority, authority

KEY = "lw-good-key-0123456789"
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("lab"))


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    (tmp_path / "operator").write_text(f"{KEY}\nlw-the-one-before\n")
    return str(tmp_path / "operator")


def ask(kind: str, url: str, **more: Any) -> dict[str, Any]:
    check = {
        "id": f"the.{kind}",
        "kind": kind,
        "url": url,
        "model": "m",
        "models": ["m"],
        "count": 1,
        "prompt": "Hello",
    }
    return probe.ask({**check, "timeout_s": 2, **more})


def expect(found: dict[str, Any], cause: str, *words: str) -> None:
    assert (found["ok"], found["cause"]) == (False, cause), found
    assert found["cure"] == causes.cure(cause)
    assert all(one in found["evidence"] for one in words), found["evidence"]


# --- TLS and the key --------------------------------------------------------------------------------------------------


def guarded(asked: Asked) -> Reply:
    """As the gateway: 401 without the key."""
    if asked.headers.get("Authorization") == f"Bearer {KEY}":
        return says(SAID)
    return says({"error": {"message": "LW-GATEWAY-001: No valid key; expected", "code": "LW-GATEWAY-001"}}, 401)


def test_over_tls_with_a_key(lab: Authority, key_file: str) -> None:
    with serving(lab.server()) as server:
        server.answers[CHAT] = guarded
        found = ask("completion", server.url, ca_file=lab.file, key_file=key_file)
        assert (found["ok"], "cause" in found) == (True, False), found
        expect(ask("completion", server.url, ca_file=lab.file), "LW-PROBE-014", "401: LW-GATEWAY-001: No valid key")
        Path(key_file).write_text("lw-another-key-0123456789")
        wrong = ask("completion", server.url, ca_file=lab.file, key_file=key_file)
        expect(wrong, "LW-PROBE-014")
        assert "lw-another" not in json.dumps(wrong)


def test_the_certificate_of_another_authority(lab: Authority, tmp_path: Path) -> None:
    with serving(lab.server()) as server:
        other = authority(tmp_path / "other")
        expect(ask("models", server.url, ca_file=other.file), "LW-PROBE-015", server.url, "not accepted")
        expect(ask("models", server.url), "LW-PROBE-015")
        assert server.asked == []


def test_an_expired_certificate(lab: Authority) -> None:
    with serving(lab.server(days=-1)) as server:
        expect(ask("models", server.url, ca_file=lab.file), "LW-PROBE-016", "expired")


def test_a_certificate_for_another_name(lab: Authority) -> None:
    with serving(lab.server("127.0.0.9")) as server:
        expect(ask("models", server.url, ca_file=lab.file), "LW-PROBE-017", "asked for as 127.0.0.1")


def test_plain_http_where_tls_is_spoken_and_the_other_way_round(lab: Authority, server: Loopback) -> None:
    expect(ask("models", server.url.replace("http", "https"), ca_file=lab.file), "LW-PROBE-018", "speaks no TLS")
    told = "400 The plain HTTP request was sent to HTTPS port"
    server.answers["/v1/models"] = Reply(f"<title>{told}</title>".encode(), 400)
    expect(ask("models", server.url), "LW-PROBE-018", told)


def test_a_handshake_that_breaks_off_or_hangs(lab: Authority) -> None:
    with raw(b"") as port:
        expect(ask("models", f"https://127.0.0.1:{port}", ca_file=lab.file), "LW-PROBE-019", "broke off")
    with raw() as port:
        silent = ask("models", f"https://127.0.0.1:{port}", ca_file=lab.file, timeout_s=0.2)
        expect(silent, "LW-PROBE-019", "in time")


def test_files_that_are_not_there(lab: Authority, server: Loopback) -> None:
    expect(ask("models", "https://127.0.0.1:1", ca_file="/none/ca.crt"), "LW-PROBE-039", "No such file")
    expect(ask("models", server.url, key_file="/none/key"), "LW-PROBE-039", "/none/key")


# --- the way there ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("controller", "LW-PROBE-021"),
        ("registered", "LW-PROBE-021"),
        ("worker", "LW-PROBE-011"),
        ("models", "LW-PROBE-020"),
        ("completion", "LW-PROBE-020"),
    ],
)
def test_nothing_listens(kind: str, cause: str) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    expect(ask(kind, url), cause, f"nothing listens at {url}")


def test_an_address_that_takes_no_connection() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = []
        for _number in range(3):  # until the system drops what more comes, as a firewall does
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(full.getsockname())
        found = ask("models", f"http://127.0.0.1:{full.getsockname()[1]}", timeout_s=0.3)
        for one in waiting:
            one.close()
    expect(found, "LW-PROBE-028", "a firewall drops it")


def test_no_route(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_arguments: object, **_more: object) -> None:
        raise OSError(errno.EHOSTUNREACH, "No route to host")

    monkeypatch.setattr(socket, "create_connection", nowhere)
    expect(ask("models", "http://192.0.2.1:9"), "LW-PROBE-028", "No route to host")


def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_arguments: object, **_more: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    expect(ask("models", "http://gpu01:1"), "LW-PROBE-029", "lab_address")


def test_what_takes_a_request_and_says_nothing() -> None:
    with raw() as port:
        expect(ask("worker", f"http://127.0.0.1:{port}", timeout_s=0.2), "LW-PROBE-027", "did not answer in time")


def test_an_answer_that_breaks_off(server: Loopback) -> None:
    server.answers[CHAT] = Reply(b"{", length=50)
    expect(ask("completion", server.url), "LW-PROBE-035", "broke off in the middle")


def test_a_model_that_says_nothing(server: Loopback) -> None:
    server.answers[CHAT] = says({"choices": [{"message": {"content": " "}}]})
    expect(ask("completion", server.url), "LW-PROBE-034", "answered nothing")


# --- workers ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def worker() -> Iterator[Loopback]:
    with serving() as one:
        one.answers["/worker_get_status"] = says({"model_names": ["m"]})
        yield one


def test_no_worker_is_registered(server: Loopback, worker: Loopback) -> None:
    server.answers |= {
        "/list_models": says({"models": []}),
        "/worker_get_status": says({"speed": 0, "queue_length": 0}),
    }
    expect(ask("controller", server.url), "LW-PROBE-010", "not there: m; there: nothing")
    expect(ask("registered", server.url), "LW-PROBE-010", "0 of 1 planned workers")
    found = ask("registered", server.url, workers=[worker.url])
    expect(found, "LW-PROBE-010", "each answers at its own address, and is not registered (yet)")


def test_a_worker_that_is_registered_and_dead_or_hangs(
    server: Loopback, worker: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "WORKER_S", 0.2)
    server.answers |= {
        "/list_models": says({"models": []}),
        "/worker_get_status": says({"speed": 1, "queue_length": 0}),
    }
    dead = f"http://127.0.0.1:{free_port()}"
    with raw() as port:
        hanging = f"http://127.0.0.1:{port}"
        for kind in ("controller", "registered"):
            only = ask(kind, server.url, count=2, workers=[worker.url, hanging])
            expect(only, "LW-PROBE-027", f"{hanging} did not answer in time")
            both = ask(kind, server.url, count=3, workers=[worker.url, hanging, dead])
            expect(both, "LW-PROBE-011", f"nothing listens at {dead}", f"{hanging} did not answer in time")


# --- the port belongs to another program ------------------------------------------------------------------------------

STRANGER = """
import socket, sys
door = socket.create_server(("127.0.0.1", 0))
print(door.getsockname()[1], flush=True)
while True:
    one, _address = door.accept()
    one.recv(9999)
    one.sendall(b"220 mail.example ESMTP\\r\\n")
    one.close()
"""


def test_another_program_on_the_port_is_named() -> None:
    with subprocess.Popen([sys.executable, "-IS", "-c", STRANGER], stdout=subprocess.PIPE, text=True) as stranger:
        assert stranger.stdout is not None
        check = {"id": "x", "kind": "controller", "url": f"http://127.0.0.1:{int(stranger.stdout.readline())}"}
        (found,) = probe.run({"checks": [{**check, "models": []}], "strict": False}, False).data["checks"]
        stranger.kill()
    expect(found, "LW-PROBE-023", "speaks no HTTP", "another program: ", f"{stranger.pid}")


@pytest.mark.parametrize(
    ("owner", "cause", "words"),
    [
        ("labwright-api.service", "LW-PROBE-033", "404"),
        ("apache2.service", "LW-PROBE-023", "belongs to another program: apache2.service"),
        ("", "LW-PROBE-033", "404"),
        ("999999999", "LW-PROBE-023", "pid 999999999"),
    ],
)
def test_who_has_the_port(
    server: Loopback, monkeypatch: pytest.MonkeyPatch, owner: str, cause: str, words: str
) -> None:
    row = {"address": "0.0.0.0", "port": server.port, "unit": owner}  # noqa: S104
    monkeypatch.setattr(facts, "listening", lambda _proc: [{**row, "port": 1, "unit": "x.service"}, row])
    check = {"id": "x", "kind": "models", "url": server.url, "models": []}
    (found,) = probe.run({"checks": [check], "strict": False}, False).data["checks"]
    expect(found, cause, words)


def test_a_program_of_the_lab_that_failed_is_no_other_program(server: Loopback) -> None:
    server.answers["/v1/models"] = Reply(b"Internal Server Error", 500)
    check = {"id": "x", "kind": "models", "url": server.url, "models": []}
    (found,) = probe.run({"checks": [check], "strict": False}, False).data["checks"]
    expect(found, "LW-PROBE-032", "500: Internal Server Error")


def test_a_program_on_another_host_is_not_looked_for_here() -> None:
    assert probe.holder({"url": "http://192.0.2.1:22"}) == ""


# --- units ------------------------------------------------------------------------------------------------------------

DOWN = "ActiveState=failed\nSubState=failed\nNRestarts={restarts}\nResult={result}\nExecMainStatus=3\nLoadState=loaded"


def unit(folder: Path, monkeypatch: pytest.MonkeyPatch, shown: str, *journal: str, **more: Any) -> dict[str, Any]:
    program(folder, "systemctl", f"print({shown!r})")
    program(folder, "journalctl", f"assert '--namespace=labwright' in sys.argv\nprint({chr(10).join(journal)!r})")
    monkeypatch.setenv("PATH", str(folder))
    return probe.ask({"id": "service.x", "kind": "unit", "unit": "x.service", **more})


def test_a_unit_that_is_down_says_its_last_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = DOWN.format(restarts=1, result="exit-code")
    journal = ("Traceback", f"ValueError: no {KEY}, Bearer abcdefgh12", "INFO: bye")
    found = unit(tmp_path, monkeypatch, shown, *journal)
    assert (found["cause"], found["cure"]) == ("LW-PROBE-030", causes.cure("LW-PROBE-030", "x.service"))
    assert "result exit-code, exit status 3; last words: ValueError: no lw-***, Bearer ***; see" in found["evidence"]
    assert KEY not in json.dumps(found)


@pytest.mark.parametrize(
    ("line", "cause", "words"),
    [
        ("LW-SERVE-001: cannot listen on 127.0.0.1:1", "LW-PROBE-023", "LW-SERVE-001: cannot listen"),
        ("[Errno 98] error while attempting to bind: address already in use", "LW-PROBE-023", "already in use"),
        ("LW-SERVE-004: out of memory while loading", "LW-PROBE-012", "LW-SERVE-004"),
        ("torch.cuda.OutOfMemoryError: CUDA out of memory.", "LW-PROBE-012", "OutOfMemoryError"),
        (
            '{"failed": true, "message": "LW-PROBE-001: c: nothing"}',
            "LW-PROBE-030",
            "last words: LW-PROBE-001: c: nothing;",
        ),
        ("", "LW-PROBE-030", "it said nothing"),
    ],
)
def test_what_a_unit_said_is_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, cause: str, words: str
) -> None:
    found = unit(tmp_path, monkeypatch, DOWN.format(restarts=1, result="exit-code"), line, "LW-PROBE-002: ended")
    assert found["cause"] == cause
    assert words in found["evidence"]


@pytest.mark.parametrize(
    ("result", "last"), [("start-limit-hit", "x"), ("exit-code", "LW-SERVICE-003: started 10 times")]
)
def test_a_unit_that_was_given_up_says_so_and_what_to_do_after_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: str, last: str
) -> None:
    found = unit(tmp_path, monkeypatch, DOWN.format(restarts=5, result=result), "KeyError: 'why'", last)
    assert found["cause"] == "LW-PROBE-031"
    assert "systemd gave up after 5 starts; last words: KeyError: 'why'; see" in found["evidence"]
    assert "systemctl reset-failed x.service && systemctl restart x.service" in found["cure"]


def test_a_unit_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = unit(tmp_path, monkeypatch, "ActiveState=inactive\nLoadState=not-found")
    assert (found["cause"], found["evidence"]) == ("LW-PROBE-039", "x.service is not installed on this host")


def test_a_unit_whose_port_is_stolen_names_the_thief(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Loopback
) -> None:
    program(tmp_path, "systemctl", f"print({DOWN.format(restarts=1, result='exit-code')!r})")
    monkeypatch.setenv("PATH", str(tmp_path))
    check = {"id": "service.x", "kind": "unit", "unit": "x.service", "host": "127.0.0.1", "port": server.port}
    (found,) = probe.run({"checks": [check], "strict": False}, False).data["checks"]
    assert found["cause"] == "LW-PROBE-023"
    assert "x.service is failed/failed" in found["evidence"]


# --- certificate and refused ------------------------------------------------------------------------------------------


def test_days_issuer_and_names_of_a_certificate(lab: Authority) -> None:
    with serving(lab.server(days=20.5)) as server:
        check = {"id": "c", "kind": "certificate", "host": "127.0.0.1", "port": server.port, "ca_file": lab.file}
        assert probe.ask(check)["evidence"] == "good for 20 days, by lab CA, for 127.0.0.1"


def test_a_certificate_that_expires_soon_is_to_be_renewed(lab: Authority) -> None:
    with serving(lab.server(days=13.5)) as server:
        check = {"id": "c", "kind": "certificate", "host": "127.0.0.1", "port": server.port, "ca_file": lab.file}
        expect(probe.ask(check), "LW-PROBE-037", "good for 13 days", "expected at least 14 days")
    with serving(lab.server(days=-1)) as server:
        expect(probe.ask({**check, "port": server.port}), "LW-PROBE-016")


def closed(server: Loopback, lab: Authority) -> dict[str, Any]:
    return ask("refused", server.url, ca_file=lab.file)


def test_a_closed_door(lab: Authority) -> None:
    with serving(lab.server()) as server:
        server.answers[CHAT] = guarded
        found = closed(server, lab)
        assert found["evidence"] == "refused without a key, with a wrong key, over plain HTTP", found
        assert [one.headers.get("Authorization") for one in server.asked] == [None, f"Bearer {probe.WRONG_KEY}"]


@pytest.mark.parametrize("status", [200, 400, 404, 500])
def test_an_open_door(lab: Authority, status: int) -> None:
    with serving(lab.server()) as server:
        server.answers[CHAT] = says({}, status)
        expect(closed(server, lab), "LW-PROBE-038", f"answered {status} without a key; expected 401")


def test_a_door_that_any_key_opens(lab: Authority) -> None:
    with serving(lab.server()) as server:
        server.answers[CHAT] = lambda asked: says({}, 200 if "Authorization" in asked.headers else 401)
        expect(closed(server, lab), "LW-PROBE-038", "answered 200 with a wrong key")


@pytest.mark.parametrize(("status", "good"), [(400, True), (301, True), (200, False), (401, False)])
def test_plain_http_at_the_door(lab: Authority, status: int, good: bool) -> None:
    with serving(lab.server(), plain_too=True) as server:
        server.answers[CHAT] = [says({}, 401), says({}, 401), says({}, status)]
        found = closed(server, lab)
    assert found["ok"] == good, found
    if not good:
        expect(found, "LW-PROBE-038", f"answered {status} over plain HTTP")


def test_a_door_behind_which_nobody_is() -> None:
    expect(ask("refused", f"https://127.0.0.1:{free_port()}"), "LW-PROBE-020")


# --- the page --------------------------------------------------------------------------------------------------------

PARTS = {"components": [{"type": one} for one in ("state", "chatbot", "dropdown", "textbox")]}


def page(server: Loopback, lab: Authority, key_file: str) -> dict[str, Any]:
    return ask("page", server.url, ca_file=lab.file, key_file=key_file, user="operator")


def test_the_page_is_the_operator_s_and_nobody_else_s(lab: Authority, key_file: str) -> None:
    with serving(lab.server()) as server:
        server.answers["/"] = behind(f"operator:{KEY}", Reply(b"<html>"))
        server.answers["/config"] = behind(f"operator:{KEY}", says(PARTS))
        found = page(server, lab, key_file)
        assert found["evidence"] == "refused without a login; operator gets the page", found
        assert len(server.asked) == 4
        assert KEY not in json.dumps(found)


@pytest.mark.parametrize(
    ("opens", "words"),
    [("", "without a login"), ("Basic", "with a wrong login"), ("Bearer", "with a program's header")],
)
def test_a_page_that_is_open(lab: Authority, key_file: str, opens: str, words: str) -> None:
    with serving(lab.server()) as server:
        server.answers["/"] = lambda asked: says(
            {}, 200 if asked.headers.get("Authorization", "").partition(" ")[0] == opens else 401
        )
        expect(page(server, lab, key_file), "LW-PROBE-038", f"answered 200 {words}; expected 401")


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (Reply(b"LW-GATEWAY-012: The page behind this gateway does not answer", 502), "LW-PROBE-042"),
        (says({"components": [{"type": "label"}]}), "LW-PROBE-042"),
        (says({}, 401), "LW-PROBE-014"),
        (Reply(b"<html>"), "LW-PROBE-033"),
    ],
)
def test_a_page_that_is_none(lab: Authority, key_file: str, answer: Reply, cause: str) -> None:
    with serving(lab.server()) as server:
        server.answers["/"], server.answers["/config"] = says({}, 401), answer
        assert page(server, lab, key_file)["cause"] == cause


# --- agents -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ({"verdict": "no code", "output": ""}, "LW-PROBE-036"),
        ({"verdict": "not asked", "error": "LW-GATEWAY-001: No valid key"}, "LW-PROBE-014"),
        ({"verdict": "not asked", "error": f"400 LW-API-004: Only a allowed now, {KEY}"}, "LW-PROBE-013"),
    ],
)
def test_what_an_agent_was_told_is_its_cause(tmp_path: Path, said: dict[str, str], cause: str) -> None:
    path = program(tmp_path, "agent", f"print(json.dumps({said!r}))")
    found = probe.ask({"id": "agent.answer", "kind": "agent", "argv": [path]})
    assert found["cause"] == cause
    assert KEY not in json.dumps(found)


def test_an_agent_that_hangs(tmp_path: Path) -> None:
    path = program(tmp_path, "agent", "__import__('signal').pause()")
    found = probe.ask({"id": "agent.answer", "kind": "agent", "argv": [path], "timeout_s": 0.2})
    assert found["cause"] == "LW-PROBE-027"


def test_a_firewall_check_that_says_no_more_has_the_firewalls_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_check: dict[str, Any]) -> str:
        raise causes.Fault("", "the table is not loaded")

    monkeypatch.setitem(probe.KINDS, "firewall", broken)
    expect(probe.ask({"id": "firewall.loaded", "kind": "firewall"}), "LW-PROBE-040", "the table is not loaded")


def test_no_proxy_is_used_and_no_redirect_followed(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy")
    server.answers["/v1/models"] = Reply(b"", 302, headers=(("Location", "/elsewhere"),))
    expect(ask("models", server.url), "LW-PROBE-033", "answered 302")
    assert server.paths() == ["/v1/models"]


def test_a_slow_answer_keeps_its_limit(server: Loopback) -> None:
    go_on = threading.Event()
    server.answers["/v1/models"] = lambda _asked: (go_on.wait(5), says({}))[1]
    expect(ask("models", server.url, timeout_s=0.1), "LW-PROBE-027")
    go_on.set()
    assert exchange.address("https://[::1]:9527/v1")[1:] == ("::1", 9527)
