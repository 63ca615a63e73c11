"""Verb ``firewall``: a table of nftables of our own, that judges the lab's ports and touches no other rules.

Request: ``path`` of the file that the host loads at boot, ``state``, and rows of rules (each with ``what`` for people):
``inward`` (``port``, ``from``: addresses, names and networks that may reach it), ``here`` (``port``, ``users`` of this
host that may connect to it), ``peers`` (``port``, ``to``: addresses of others, ``users``). Root always may.
The answer's message says what differed: the file, or what the kernel has.

Only beginnings of connections are judged (SYN without ACK): running ones go on, replies pass, and no connection
tracking is switched on. The table comes before other filters and can only close; what others refuse stays refused.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Union

from hostkit import tree
from hostkit.result import Problem, Result

TABLE = "inet labwright"
HEAD = f"""\
# Written by Labwright from the plan, loaded at boot by labwright-firewall.service. Replaces this one table in one step.
table {TABLE}
delete table {TABLE}
table {TABLE} {{
"""
MODE = {"mode": "0644"}
BEGINNINGS = "\t\ttcp flags & (syn | ack) != syn accept"
NO_NFT = "there is no program nft"
NO_USER = "there is no user"
WAY_OUT = "or set lab_firewall: false where the site closes these ports itself"

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


def run(request: dict[str, Any], check: bool) -> Result:
    """Make file and kernel as wanted, or remove both."""
    path = Path(request["path"])
    there = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    if request.get("state", "present") == "absent":
        return remove(path, there, check)
    lacking = [one for one in [missing(request)] if one]
    if lacking and check:  # on a fresh host both are still to come
        return Result(True, f"{lacking[0]} yet", before=there)
    if lacking:
        code = "LW-FIREWALL-001" if lacking[0] == NO_NFT else "LW-FIREWALL-003"
        words = "expected what role firewall brings: the package nftables, the services' users"
        raise Problem(code, f"{lacking[0]} on this host; {words}. Run the role again, {WAY_OUT}.")
    text = render(request)
    wanted, loaded = listing(text), loaded_now()
    reasons = ["the rules are not those of the plan"] if there and there != text else []
    reasons += ["there is no file"] if not there else []
    reasons += ["others may write to the file"] if path.exists() and not tree.fits(path, MODE) else []
    reasons += [difference(loaded)] if loaded != wanted and there == text else []
    result = Result(changed=bool(reasons), message="; ".join(reasons), before=there, after=text)
    if there == text:
        result.before, result.after = loaded, wanted
    if result.changed and not check:
        nft(["-f", "-"], text)
        tree.write(path, text, MODE)
    return result


def fault(path: Path) -> str:
    """What is wrong with the firewall that was written to ``path``, in words; "" where the kernel has it."""
    if not path.exists():
        return f"{path} is not there"
    if program("nft") is None:
        return NO_NFT
    loaded = loaded_now()
    return difference(loaded) if loaded != listing(path.read_text(encoding="utf-8")) else ""


def difference(loaded: str) -> str:
    """How what the kernel has differs, as far as it can be said."""
    return f"table {TABLE} was changed by hand" if loaded else f"table {TABLE} is not loaded"


def remove(path: Path, there: str, check: bool) -> Result:
    """Table and file gone; whatever else is loaded stays."""
    loaded = loaded_now() if program("nft") else ""
    result = Result(changed=bool(there or path.exists() or loaded), before=there or loaded)
    if result.changed and not check:
        if loaded:
            nft(["delete", "table", *TABLE.split()])
        path.unlink(missing_ok=True)
    return result


def missing(request: dict[str, Any]) -> str:
    """What the host lacks for the rules; "" where it lacks nothing."""
    if program("nft") is None:
        return NO_NFT
    absent = [name for name in sorted(users_of(request)) if uid(name) is None]
    return f"{NO_USER} {', '.join(absent)}" if absent else ""


def users_of(request: dict[str, Any]) -> set[str]:
    """Every user that a rule names."""
    return {str(user) for kind in ("here", "peers") for row in request[kind] for user in row["users"]}


def uid(name: str) -> Union[int, None]:
    """A user's number; None where there is no such user."""
    import pwd  # here: Windows has no such module, and probes there import this one

    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


# --- the text --------------------------------------------------------------------------------------------------------


def render(request: dict[str, Any]) -> str:
    """The file: names resolved, users as numbers, so that it can be loaded before there is a network."""
    found = resolved(request)
    inward = ['\t\tiifname "lo" accept', BEGINNINGS]
    for row in request["inward"]:
        inward += [
            f"\t\ttcp dport {int(row['port'])} {family} saddr {group} accept"
            for family, group in groups(found, row["from"])
        ]
        inward.append(f"\t\ttcp dport {int(row['port'])} {refuse(row)}")
    outward, masqueraded = [BEGINNINGS], [BEGINNINGS, "\t\tfib saddr type != local accept"]
    for row in request["here"]:
        port = f'oifname "lo" tcp dport {int(row["port"])}'
        outward += [f"\t\t{port} {allowed(row)} accept", f"\t\t{port} {refuse(row)}"]
    for row in request["peers"]:
        for family, group in groups(found, row["to"]):
            port = f"{family} daddr {group} tcp dport {int(row['port'])}"
            outward += [f"\t\t{port} {allowed(row)} accept", f"\t\t{port} {refuse(row)}"]
            # Docker and others give their guests this host's address (srcnat): here they show, having no user.
            masqueraded += [f"\t\t{port} {allowed(row)} accept", f"\t\t{port} counter drop comment {quoted(row)}"]
    chains = [("input", "input", "filter - 10", inward), ("output", "output", "filter - 10", outward)]
    chains += [("masqueraded", "postrouting", "srcnat + 10", masqueraded)] if request["peers"] else []
    return (
        HEAD
        + "\n".join(
            f"\tchain {name} {{\n\t\ttype filter hook {hook} priority {priority}; policy accept;\n"
            + "\n".join(lines)
            + "\n\t}\n"
            for name, hook, priority, lines in chains
        )
        + "}\n"
    )


def refuse(row: dict[str, Any]) -> str:
    """Refused at once and counted, for `nft list table` to show."""
    return f"counter reject with tcp reset comment {quoted(row)}"


def quoted(row: dict[str, Any]) -> str:
    """What a rule is about, as a comment that stays in the kernel."""
    return '"' + "".join(one for one in str(row["what"]) if one.isalnum() or one in " -.") + '"'


def allowed(row: dict[str, Any]) -> str:
    """The users that may connect."""
    return f"meta skuid {braces([0, *(uid(str(user)) for user in row['users'])])}"


def braces(items: Iterable[Any]) -> str:
    """A set in nft's words."""
    return "{ " + ", ".join(str(one) for one in items) + " }"


def groups(found: dict[str, list[Network]], names: Iterable[str]) -> list[tuple[str, str]]:
    """nft's family and set for addresses, each once, none inside another: overlapping ones would be refused."""
    nets = [net for name in names for net in found[str(name)]]
    parts: list[tuple[str, list[Any]]] = [
        ("ip", [net for net in nets if net.version == 4]),
        ("ip6", [net for net in nets if net.version == 6]),
    ]
    return [
        (family, braces(short(net) for net in ipaddress.collapse_addresses(part))) for family, part in parts if part
    ]


def short(net: Network) -> str:
    """A network; a single address without its length."""
    return str(net.network_address) if net.num_addresses == 1 else str(net)


def resolved(request: dict[str, Any]) -> dict[str, list[Network]]:
    """Every address, name and network of the rules as networks; all names that are not known in one sentence."""
    peers = {str(name) for row in [*request["inward"]] for name in row["from"]}
    peers |= {str(name) for row in request["peers"] for name in row["to"]}
    found = {name: networks(name) for name in sorted(peers)}
    unknown = [name for name, nets in found.items() if not nets]
    if unknown:
        words = "expected names that this host can look up, as its services must reach these hosts too"
        fix = "Add them to DNS or to /etc/hosts, or set lab_address of those hosts to addresses."
        raise Problem("LW-FIREWALL-002", f"this host knows no address of {', '.join(unknown)}; {words}. {fix}")
    inside = [name for name, nets in found.items() if any(net.is_loopback for net in nets)]
    if inside:
        words = "lead this host to itself; expected addresses of other hosts"
        fix = "Mend /etc/hosts here, or set lab_address of those hosts to addresses."
        raise Problem("LW-FIREWALL-004", f"the names {', '.join(inside)} {words}. {fix}")
    return found


def networks(name: str) -> list[Network]:
    """What a name, an address or a network stands for; nothing where a name is not known."""
    try:
        return [plain(ipaddress.ip_network(name.partition("%")[0], strict=False))]
    except ValueError:
        pass
    try:
        rows = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return sorted({plain(ipaddress.ip_network(str(row[4][0]).partition("%")[0])) for row in rows}, key=str)


def plain(net: Network) -> Network:
    """An IPv4 network written as IPv6 (``::ffff:10.0.0.1``) as what it is on the wire."""
    if isinstance(net, ipaddress.IPv6Network) and net.network_address.ipv4_mapped and net.prefixlen >= 96:
        return ipaddress.IPv4Network((net.network_address.ipv4_mapped, net.prefixlen - 96))
    return net


# --- the kernel ------------------------------------------------------------------------------------------------------


def program(name: str) -> Union[str, None]:
    """The path of a system program; a login over SSH may lack the folders of such programs."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin")


def nft(arguments: list[str], text: str = "") -> str:
    """Run nft; what it says when it refuses is a problem."""
    return system([str(program("nft")), *arguments], text)


def listing(text: str) -> str:
    """The table of ``text`` as this host's nft would list it: really loaded, into a network namespace that nobody uses
    and that is gone with the command. nft's versions write the same rule in different words."""
    script = f'"$0" -f - && exec "$0" -s list table {TABLE}'
    return system([str(program("unshare")), "--net", "sh", "-c", script, str(program("nft"))], text)


def loaded_now() -> str:
    """The table as it is loaded, without its counters; "" where it is not."""
    tables = nft(["list", "tables"]).split("\n")
    return nft(["-s", "list", "table", *TABLE.split()]) if f"table {TABLE}" in tables else ""


def system(argv: list[str], text: str) -> str:
    """Run a program, give it ``text``, return what it prints."""
    try:
        done = subprocess.run(
            argv,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "LC_ALL": "C"},
        )
        words, good = done.stderr.strip(), done.returncode == 0
    except (OSError, subprocess.TimeoutExpired) as error:
        words, good = str(error), False
    if not good:
        need = "expected a kernel with nf_tables, and root with CAP_NET_ADMIN and CAP_SYS_ADMIN"
        raise Problem("LW-FIREWALL-005", f"nft refuses ({words[:500]}); {need}. Mend that, {WAY_OUT}.")
    return done.stdout
