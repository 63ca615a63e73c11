"""hostkit.firewall: one table of ours, found out when somebody takes it away, and nobody else's rules touched.

A made-up nft keeps tables in a folder: the machine's own is not asked. What the kernel makes of the rules is tried in
the end-to-end test.
"""

from __future__ import annotations

import os
import pwd
import re
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from hostkit import firewall
from hostkit.result import Problem
from unit.hostkit.look import look

NFT = """\
#!{python}
import os, pathlib, re, sys
state = pathlib.Path("{state}") / ("private" if os.environ.get("PRIVATE") else "kernel")
state.mkdir(exist_ok=True)
with open("{state}/asked", "a") as stream:
    stream.write(state.name + " " + " ".join(sys.argv[1:]) + "\\n")
words = [one for one in sys.argv[1:] if one != "-s"]
if words[:2] == ["-f", "-"]:
    text = sys.stdin.read()
    if "21666" in text:
        sys.exit("Error: Could not process rule: Operation not supported")
    assert re.findall("^(?:delete )?table .*", text, re.M) == [
        "table inet labwright", "delete table inet labwright", "table inet labwright {{"]
    (state / "inet labwright").write_text("table inet labwright {{" + text.split("labwright {{")[1])
elif words == ["list", "tables"]:
    print("".join(f"table {{path.name}}\\n" for path in sorted(state.iterdir())), end="")
elif words[:2] == ["list", "table"]:
    print((state / " ".join(words[2:])).read_text(), end="")
elif words[:2] == ["delete", "table"]:
    (state / " ".join(words[2:])).unlink()
else:
    sys.exit("what?")
"""
UNSHARE = """\
#!/bin/sh
test "$1" = --net && shift
rm -rf "{state}/private"
PRIVATE=1 exec "$@"
"""
ME = pwd.getpwuid(os.getuid()).pw_name
OTHERS = "table inet filter { }\n"


class Kernel:
    """What the made-up nft has loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tables = folder / "kernel"

    @property
    def loaded(self) -> str:
        path = self.tables / "inet labwright"
        return path.read_text() if path.exists() else ""

    def load(self, text: str) -> None:
        (self.tables / "inet labwright").write_text(text)

    def asked(self) -> list[str]:
        """What was asked of the machine's own tables since the last look."""
        path = self.folder / "asked"
        words = path.read_text().splitlines() if path.exists() else []
        path.write_text("")
        return [one.removeprefix("kernel ") for one in words if one.startswith("kernel ")]


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    programs, state = tmp_path / "bin", tmp_path / "state"
    for name, text in (("nft", NFT), ("unshare", UNSHARE)):
        programs.mkdir(exist_ok=True)
        (programs / name).write_text(text.format(python=sys.executable, state=state))
        (programs / name).chmod(0o755)
    (state / "kernel").mkdir(parents=True)
    (state / "kernel" / "inet filter").write_text(OTHERS)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return Kernel(state)


def request(tmp_path: Path, **more: Any) -> dict[str, Any]:
    return {
        "path": str(tmp_path / "etc" / "firewall.nft"),
        "state": "present",
        "inward": [{"what": "controller", "port": 21001, "from": ["192.0.2.11", "2001:db8::11"]}],
        "here": [{"what": "api", "port": 21000, "users": [ME]}],
        "peers": [{"what": "worker", "port": 21002, "to": ["192.0.2.11"], "users": [ME]}],
        **more,
    }


def rules(tmp_path: Path, chain: str, **more: Any) -> list[str]:
    """The rules of one chain."""
    text = firewall.render(request(tmp_path, **more))
    inside = text.split(f"chain {chain} {{\n")[1].split("\t}\n")[0] if f"chain {chain} {{" in text else ""
    return [line.strip() for line in inside.splitlines()[1:]]


# --- the text --------------------------------------------------------------------------------------------------------


def test_a_port_is_open_to_those_named_and_refused_to_the_rest(tmp_path: Path) -> None:
    assert rules(tmp_path, "input") == [
        'iifname "lo" accept',
        "tcp flags & (syn | ack) != syn accept",
        "tcp dport 21001 ip saddr { 192.0.2.11 } accept",
        "tcp dport 21001 ip6 saddr { 2001:db8::11 } accept",
        'tcp dport 21001 counter reject with tcp reset comment "controller"',
    ]


def test_a_port_that_nobody_may_reach_is_refused_to_all(tmp_path: Path) -> None:
    found = rules(tmp_path, "input", inward=[{"what": "worker", "port": 21002, "from": []}])
    assert found[2:] == ['tcp dport 21002 counter reject with tcp reset comment "worker"']


def test_on_the_host_and_towards_peers_only_the_users_named_connect(tmp_path: Path) -> None:
    uid = os.getuid()
    assert rules(tmp_path, "output")[1:] == [
        f'oifname "lo" tcp dport 21000 meta skuid {{ 0, {uid} }} accept',
        'oifname "lo" tcp dport 21000 counter reject with tcp reset comment "api"',
        f"ip daddr {{ 192.0.2.11 }} tcp dport 21002 meta skuid {{ 0, {uid} }} accept",
        'ip daddr { 192.0.2.11 } tcp dport 21002 counter reject with tcp reset comment "worker"',
    ]


def test_guests_behind_the_hosts_address_do_not_reach_peers(tmp_path: Path) -> None:
    """A container of Docker's has no user here, and the peer would take it for this host."""
    found = rules(tmp_path, "masqueraded")
    assert found[1] == "fib saddr type != local accept"
    assert found[-1] == 'ip daddr { 192.0.2.11 } tcp dport 21002 counter drop comment "worker"'
    assert rules(tmp_path, "masqueraded", peers=[]) == []


def test_running_connections_and_replies_are_judged_nowhere(tmp_path: Path) -> None:
    text = firewall.render(request(tmp_path))
    chains = text.count("type filter hook")
    assert text.count("policy accept") == chains == 3
    assert text.count("tcp flags & (syn | ack) != syn accept") == chains
    assert not re.search(r"\bct\b", text)  # it would switch connection tracking on, for the whole host


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["::ffff:192.0.2.7"], ["ip saddr { 192.0.2.7 }"]),
        (["::ffff:192.0.2.0/120"], ["ip saddr { 192.0.2.0/24 }"]),
        (["192.0.2.0/24", "192.0.2.7", "192.0.3.9/24"], ["ip saddr { 192.0.2.0/23 }"]),
        (["fe80::1%eth0"], ["ip6 saddr { fe80::1 }"]),
        (["2001:db8::/32", "192.0.2.1"], ["ip saddr { 192.0.2.1 }", "ip6 saddr { 2001:db8::/32 }"]),
        (["0.0.0.0/0", "::/0"], ["ip saddr { 0.0.0.0/0 }", "ip6 saddr { ::/0 }"]),
    ],
)
def test_addresses_of_every_form(tmp_path: Path, given: list[str], expected: list[str]) -> None:
    found = rules(tmp_path, "input", inward=[{"what": "gateway", "port": 9527, "from": given}])
    assert found[2:-1] == [f"tcp dport 9527 {one} accept" for one in expected]


def test_names_are_looked_up_on_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = {"w1": ["192.0.2.21", "2001:db8::21"], "w2": ["192.0.2.22"], "me": ["127.0.1.1"]}

    def look_up(name: str, _port: None, **_more: Any) -> list[Any]:
        if name not in book:
            raise socket.gaierror(-2, "Name or service not known")
        return [(0, 0, 0, "", (address, 0)) for address in book[name]]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    found = rules(tmp_path, "input", inward=[{"what": "a", "port": 1, "from": ["w1", "w2"]}])
    assert found[2:4] == [
        "tcp dport 1 ip saddr { 192.0.2.21, 192.0.2.22 } accept",
        "tcp dport 1 ip6 saddr { 2001:db8::21 } accept",
    ]
    with pytest.raises(Problem, match=r"LW-FIREWALL-002: .* no address of w8, w9; .*/etc/hosts, or set lab_address"):
        rules(tmp_path, "input", inward=[{"what": "a", "port": 1, "from": ["w9", "w1", "w8"]}])
    with pytest.raises(Problem, match=r"LW-FIREWALL-004: the names me lead this host to itself"):
        rules(tmp_path, "input", inward=[{"what": "a", "port": 1, "from": ["me"]}])


# --- file and kernel -------------------------------------------------------------------------------------------------


def test_the_table_is_loaded_and_written_once(kernel: Kernel, tmp_path: Path) -> None:
    one = request(tmp_path)
    there = look(tmp_path / "etc")
    told = firewall.run(one, True)
    assert (kernel.loaded, look(tmp_path / "etc")) == ("", there)
    done = firewall.run(one, False)
    assert told == done
    assert done.changed
    path = Path(one["path"])
    assert done.after == path.read_text()
    assert path.stat().st_mode & 0o777 == 0o644
    assert "tcp dport 21001" in kernel.loaded
    kernel.asked()
    again = firewall.run(one, False)
    assert (again.changed, again.message, again.before) == (False, "", again.after)
    assert all("list" in words for words in kernel.asked())
    assert firewall.fault(path) == ""


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda kernel, _path: (kernel.tables / "inet labwright").unlink(), "table inet labwright is not loaded"),
        (lambda kernel, _path: kernel.load("table inet labwright {\n}\n"), "table inet labwright was changed by hand"),
        (lambda _kernel, path: path.write_text("table inet labwright\n"), "the rules are not those of the plan"),
        (lambda _kernel, path: path.unlink(), "there is no file"),
        (lambda _kernel, path: path.chmod(0o666), "others may write to the file"),
    ],
)
def test_what_somebody_did_by_hand_is_found_and_put_right(
    kernel: Kernel, tmp_path: Path, harm: Any, words: str
) -> None:
    one = request(tmp_path)
    firewall.run(one, False)
    good, path = kernel.loaded, Path(one["path"])
    harm(kernel, path)
    harmed = kernel.loaded
    told = firewall.run(one, True)
    assert (told.changed, told.message, kernel.loaded) == (True, words, harmed)
    assert firewall.run(one, False).changed
    assert (kernel.loaded, path.stat().st_mode & 0o777) == (good, 0o644)
    assert not firewall.run(one, False).changed


def test_a_probe_can_ask(kernel: Kernel, tmp_path: Path) -> None:
    one = request(tmp_path)
    path = Path(one["path"])
    assert firewall.fault(path) == f"{path} is not there"
    firewall.run(one, False)
    (kernel.tables / "inet labwright").unlink()
    assert firewall.fault(path) == "table inet labwright is not loaded"
    kernel.load("table inet labwright {\n}\n")
    assert firewall.fault(path) == "table inet labwright was changed by hand"


def test_rules_that_the_kernel_refuses_are_neither_loaded_nor_written(kernel: Kernel, tmp_path: Path) -> None:
    firewall.run(request(tmp_path), False)
    there, good = look(tmp_path / "etc"), kernel.loaded
    wrong = request(tmp_path, here=[{"what": "api", "port": 21666, "users": []}])
    with pytest.raises(Problem, match=r"LW-FIREWALL-005: .*Operation not supported.*nf_tables.*lab_firewall: false"):
        firewall.run(wrong, False)
    assert (look(tmp_path / "etc"), kernel.loaded) == (there, good)


def test_removal_takes_our_table_and_file_alone(kernel: Kernel, tmp_path: Path) -> None:
    one = request(tmp_path)
    gone = {**one, "state": "absent"}
    assert not firewall.run(gone, False).changed
    firewall.run(one, False)
    assert firewall.run(gone, True).changed
    assert kernel.loaded
    assert firewall.run(gone, False).changed
    assert not Path(one["path"]).exists()
    assert [path.name for path in kernel.tables.iterdir()] == ["inet filter"]
    assert (kernel.tables / "inet filter").read_text() == OTHERS
    assert not firewall.run(gone, False).changed


def test_what_the_host_lacks_is_said_and_in_check_mode_it_is_still_to_come(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = request(tmp_path, here=[{"what": "api", "port": 21000, "users": ["nobody-at-all", ME]}])
    with pytest.raises(Problem, match=r"LW-FIREWALL-003: there is no user nobody-at-all on this host; expected"):
        firewall.run(stranger, False)
    assert firewall.run(stranger, True).message == "there is no user nobody-at-all yet"
    monkeypatch.setattr(firewall, "program", lambda _name: None)
    with pytest.raises(Problem, match=r"LW-FIREWALL-001: there is no program nft .*lab_firewall: false"):
        firewall.run(request(tmp_path), False)
    told = firewall.run(request(tmp_path), True)
    assert (told.changed, told.message) == (True, "there is no program nft yet")
    assert firewall.fault(tmp_path / "bin" / "nft") == "there is no program nft"
    assert not firewall.run({**request(tmp_path), "state": "absent"}, False).changed
