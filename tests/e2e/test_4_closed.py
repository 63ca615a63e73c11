"""Closed by default: what a stranger reaches, what a wrong key gets, and where secrets do not stand."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_lab import API, FOLDER, HOSTS, MODEL, PAGE, ROOT, SECRETS, Lab

import page_client

pytestmark = pytest.mark.usefixtures("fresh")

SSH, GATEWAY, WEB = 22, 9527, 7860
SERVICES = ("playbooks/preflight.yml", "playbooks/services.yml", "--limit", "e2e-ctl")
HERE = Path(__file__).resolve().parent


def test_a_stranger_finds_ssh_the_api_and_the_page_that_this_lab_asks_for_and_nothing_else(lab: Lab) -> None:
    """All 65535 ports of each host, from a container on the lab's network that is no host of the lab."""
    found = json.loads(lab.stranger((HERE / "scan.py").read_text(encoding="utf-8"), *HOSTS.values()))
    assert found == {
        HOSTS["e2e-ctl"]: [SSH, WEB, GATEWAY],
        HOSTS["e2e-w1"]: [SSH],
        HOSTS["e2e-w2"]: [SSH],
    }


FORGED = """
import json, sys, urllib.request
status = {"model_names": ["labwright-demo"], "speed": 1, "queue_length": 0}
body = {"worker_name": "http://192.0.2.66:1", "check_heart_beat": False, "worker_status": status}
call = urllib.request.Request(f"http://{sys.argv[1]}:21001/register_worker", json.dumps(body).encode())
try:
    print(urllib.request.urlopen(call, timeout=5).status)
except OSError as error:
    print(type(getattr(error, "reason", error)).__name__)
"""


def test_a_forged_worker_is_refused_at_the_network(lab: Lab) -> None:
    assert lab.stranger(FORGED, HOSTS["e2e-ctl"]).strip() in ("ConnectionRefusedError", "ConnectionResetError")
    assert "192.0.2.66" not in lab.ssh("e2e-ctl", "journalctl --namespace=labwright -q -u labwright-controller -o cat")


def test_on_the_hosts_themselves_only_the_labs_own_users_reach_fastchat(lab: Lab) -> None:
    """Code that a model wrote runs there, as a user of its own."""
    ask = "python3 -c 'import socket; socket.create_connection((\"{}\", {}), 5)' 2>&1 | tail -n 1"
    here = lab.plan()["hosts"]["e2e-ctl"]
    inner, page = here["api"]["port"], here["web"]["port"]
    for address, port in (
        ("127.0.0.1", inner),
        ("127.0.0.1", page),
        (HOSTS["e2e-ctl"], 21001),
        (HOSTS["e2e-w1"], 21002),
    ):
        words = lab.ssh("e2e-ctl", f"setpriv --reuid=labwright-agent --clear-groups {ask.format(address, port)}")
        assert "refused" in words or "reset" in words, (address, port, words)
        assert lab.ssh("e2e-ctl", f"setpriv --reuid=labwright --clear-groups {ask.format(address, port)}") == ""


@pytest.mark.parametrize("key", [None, "wrong", "lw-" + "x" * 43])
def test_without_a_right_key_there_is_no_answer(lab: Lab, key: str | None) -> None:
    for path in ("chat/completions", "models", "embeddings", "completions"):
        status, words = lab.ask(path, key=key)
        assert status == 401
        assert "LW-GATEWAY-001" in words


def test_a_key_that_was_given_works_until_it_is_taken_back(lab: Lab) -> None:
    alice = {"lab_api_keys": {"alice": "alice-0123456789-abcdefghij"}}
    assert lab.play(*SERVICES, **alice).status == 0
    assert lab.ask(key="alice-0123456789-abcdefghij")[0] == 200
    assert b"gradio" in b"".join(lab.page(login="alice:alice-0123456789-abcdefghij"))
    with lab.asked_all_the_time() as asked:
        assert lab.play(*SERVICES).status == 0
    assert lab.ask(key="alice-0123456789-abcdefghij")[0] == 401
    with pytest.raises(urllib.error.HTTPError):
        list(lab.page(login="alice:alice-0123456789-abcdefghij"))
    assert asked.refused == []


def test_a_key_is_rotated_without_a_refusal(lab: Lab) -> None:
    old = lab.key("agent-e2e-ctl")
    with lab.asked_all_the_time() as asked:
        assert lab.play("playbooks/keys.yml", rotate="agent-e2e-ctl").status == 0
    assert asked.refused == []
    assert lab.key("agent-e2e-ctl") != old
    assert lab.ask(key=old)[0] == 401
    said = lab.ssh(
        "e2e-ctl", "/opt/labwright/bin/labwright-agent assistant --json --task 'Print the first 10 prime numbers.'"
    )
    assert json.loads(said.splitlines()[-1])["verdict"] == "answered"


def test_a_person_logs_in_to_the_page_and_gets_an_answer(lab: Lab) -> None:
    def browser(method: str, path: str, body: bytes | None) -> Iterator[bytes]:
        return lab.page(method, path, body, Origin=PAGE)

    assert b"gradio" in b"".join(lab.page())
    assert page_client.models(browser) == [MODEL]
    words, pieces = page_client.chat(browser, MODEL, "Hello")
    assert "demo model" in words
    assert pieces > 2


@pytest.mark.parametrize("login", [None, "operator:wrong", "", "agent", "nobody"])
def test_nobody_else_gets_the_page(lab: Lab, login: str | None) -> None:
    """No login, a wrong one, another site's request with the right one, an agent's key, a name that is not there."""
    keys = {"agent": f"agent-e2e-ctl:{lab.key('agent-e2e-ctl')}", "nobody": f"nobody:{lab.key()}"}
    header = {"Origin": "https://evil.example"} if login == "" else {}
    with pytest.raises(urllib.error.HTTPError) as error:
        list(lab.page("POST", "/queue/join", b"{}", keys.get(str(login), login), **header))
    assert error.value.code == (403 if header else 401)
    assert ("LW-GATEWAY-010" if header else "LW-GATEWAY-009") in error.value.read().decode()


def test_plain_http_is_refused(lab: Lab) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(API.replace("https", "http") + "/models", timeout=10)
    assert error.value.code == 400
    assert "LW-GATEWAY-002" in error.value.read().decode()


@pytest.mark.parametrize("path", ["../api/v1/chat/completions", "../docs", "../openapi.json", "../", "../v1/../docs"])
def test_only_the_routes_of_the_api_are_there(lab: Lab, path: str) -> None:
    assert lab.ask(path)[0] == 404


def test_each_unit_is_locked_in(lab: Lab) -> None:
    for host in HOSTS:
        units = lab.ssh(host, "systemctl list-units --plain --no-legend 'labwright-*.service' | cut -d' ' -f1").split()
        assert units
        for unit in units:
            score = lab.ssh(host, f"systemd-analyze security --no-pager {unit} | tail -n 1")
            assert float(score.split(": ")[1].split()[0]) <= 2.5, (unit, score)


def test_secrets_stand_nowhere_but_in_their_files(lab: Lab) -> None:
    """Keys of the API and private keys: logs, processes, units and the whole output of a run with -vvv."""
    lab.ssh("e2e-ctl", "systemctl restart labwright-gateway")
    run = lab.play("site.yml", "-vvv", "--diff")
    assert run.status == 0
    assert lab.play("playbooks/logs.yml").status == 0
    secrets = [lab.key(one.name) for one in (SECRETS / "keys").iterdir() if not one.name.startswith(".")]
    secrets += [
        next(line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("-"))
        for path in SECRETS.rglob("*.key")
    ]
    secrets.append(base64.b64encode(f"operator:{lab.key()}".encode()).decode())
    assert len(secrets) >= 5
    everything = {path: path.read_text(encoding="utf-8", errors="replace") for path in (FOLDER / "report").rglob("*.*")}
    everything[Path("the run")] = run.text
    for host in HOSTS:
        everything[Path(host)] = lab.ssh(
            host,
            "journalctl -q -o cat; journalctl --namespace=* -q -o cat; cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ "
            "2>/dev/null | tr '\\0' '\\n'; systemctl cat 'labwright-*'; cat /var/log/*.log 2>/dev/null; true",
        )
    assert len(everything) > 5
    for place, text in everything.items():
        assert [secret[:6] for secret in secrets if secret in text] == [], place


def test_the_files_with_secrets_are_their_readers_alone(lab: Lab) -> None:
    files = "gateway/keys.map gateway/people.map gateway/server.key keys/operator"
    modes = f"cd /etc/labwright; stat -c '%a %U %G %n' {files}"
    assert lab.ssh("e2e-ctl", modes).splitlines() == [
        "640 root labwright-gateway gateway/keys.map",
        "640 root labwright-gateway gateway/people.map",
        "640 root labwright-gateway gateway/server.key",
        "600 root root keys/operator",
    ]
    assert [path.stat().st_mode & 0o077 for path in (SECRETS, *SECRETS.rglob("*.key"), SECRETS / "keys")] == [0] * (
        2 + len(list(SECRETS.rglob("*.key")))
    )


def test_five_lines_of_a_user_work_with_the_labs_certificate(lab: Lab) -> None:
    """Python's own client here; curl and openai are in docs/security.md."""
    said = subprocess.run(
        [sys.executable, "-c", "import ssl, sys, urllib.request as u\n"
         "c = ssl.create_default_context(cafile=sys.argv[1])\n"
         "r = u.Request(sys.argv[2] + '/models', headers={'Authorization': 'Bearer ' + sys.stdin.read()})\n"
         "print(u.urlopen(r, context=c).read().decode())", str(SECRETS / "ca.crt"), API],
        input=lab.key(), capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    assert "labwright-demo" in said.stdout
