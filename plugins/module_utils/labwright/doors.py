"""Who may reach which of the lab's ports: each host's firewall, from the whole plan as it was written.

FastChat asks nobody for a key, so of its ports only what the lab itself needs is open: on the network to hosts that
ask, on each host to the users that its services run as. The rules only close: what another firewall refuses stays
refused. hostkit's verb ``firewall`` makes a table of nftables of them.

Addresses may be names; they are resolved on the host. Each pair of hosts that talk stands here once, so a fleet of
thousands of workers costs each worker a line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from labwright.inventory import is_loopback

FASTCHAT, GATEWAY = "labwright", "labwright-gateway"  # users; root may always
FILE = "/etc/labwright/firewall.nft"
NONE: dict[str, list[Any]] = {"inward": [], "here": [], "peers": [], "clients": []}


def of(hosts: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each host's rules, from the hosts' parts of the plan, kept ones among them:

    * ``inward``: ports of its own, each with the addresses ``from`` which it may be reached; nobody else may
    * ``here``: ports of its own, each with the ``users`` of this host that may connect to it
    * ``peers``: ports of others, each with their addresses (``to``) and the ``users`` of this host that may connect

    ``clients`` are the gateway's own rows of ``inward``; they count only where the site names its clients.
    """
    there = {name: one for name, one in sorted(hosts.items()) if one.get("source") != "given"}  # not only on paper
    asks_controller = [name for name, one in there.items() if {"worker", "api", "controller"} & set(one["duties"])]
    asks_workers = [name for name, one in there.items() if {"api", "controller"} & set(one["duties"])]
    found: dict[str, dict[str, Any]] = {name: {kind: [] for kind in NONE} for name in hosts}
    reached: dict[tuple[str, str, int], list[str]] = {}
    for name, one in there.items():
        rules = found[name]
        for what, place, askers, users in services(one, asks_controller, asks_workers):
            port = int(place["port"])
            rules["here"].append({"what": what, "port": port, "users": users})
            if is_loopback(str(place["host"])):
                continue
            others = [asker for asker in askers if asker != name]
            rules["inward"].append({"what": what, "port": port, "from": [there[asker]["address"] for asker in others]})
            for asker in others:
                reached.setdefault((asker, what, port), []).append(one["address"])
        for what in ("gateway", "page"):
            place = one.get(what) or {}
            if place and not is_loopback(str(place["host"])):
                lab = [other["address"] for peer, other in there.items() if peer != name]
                rules["clients"].append({"what": what, "port": int(place["port"]), "from": lab})
    for (asker, what, port), addresses in reached.items():
        found[asker]["peers"].append({"what": what, "port": port, "to": addresses, "users": [FASTCHAT]})
    return found


def services(
    one: Mapping[str, Any], asks_controller: list[str], asks_workers: list[str]
) -> list[tuple[str, Mapping[str, Any], list[str], list[str]]]:
    """A host's services that ask for no key: what, where it listens, the hosts that need it, the users that may."""
    found: list[tuple[str, Mapping[str, Any], list[str], list[str]]] = []
    if one.get("controller"):
        found.append(("controller", one["controller"], asks_controller, [FASTCHAT]))
    if one.get("api"):
        found.append(("api", one["api"], [], [FASTCHAT, GATEWAY]))
    if one.get("web"):
        found.append(("web", one["web"], [], [FASTCHAT, GATEWAY]))
    for worker in one.get("workers", ()):
        place = {"host": worker.get("listen", one["address"]), "port": worker["port"]}
        found.append(("worker", place, asks_workers, [FASTCHAT]))
        if worker.get("engine_url"):  # on the loopback address, for its bridge alone
            inner = urlsplit(worker["engine_url"])
            found.append(("engine", {"host": inner.hostname, "port": inner.port}, [], [FASTCHAT]))
    return found


def request(rules: Mapping[str, Any], wishes: Mapping[str, Any]) -> dict[str, Any]:
    """hostkit's request for one host: its rules and the site's wishes. A host with nothing to close gets no table."""
    clients = list(wishes["lab_api_clients"])
    inward = [*rules["inward"], *({**row, "from": [*row["from"], *clients]} for row in rules["clients"] if clients)]
    wanted = wishes["lab_firewall"] and (inward or rules["here"] or rules["peers"])
    if not wanted:
        return absent()
    users = {"root", *(user for kind in ("here", "peers") for row in rules[kind] for user in row["users"])}
    return {
        **absent(),
        "state": "present",
        "inward": inward,
        "here": rules["here"],
        "peers": rules["peers"],
        "users": sorted(users - {"root"}),
    }


def absent() -> dict[str, Any]:
    """hostkit's request for no firewall of ours."""
    return {"path": FILE, "state": "absent", "inward": [], "here": [], "peers": [], "users": []}
