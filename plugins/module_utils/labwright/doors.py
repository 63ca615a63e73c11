"""Who may reach which of the lab's ports: each host's firewall, from the whole plan as it was written.

FastChat asks nobody for a key, so of its ports only what the lab itself needs is open: on the network to hosts that
ask, on each host to the users that its services run as. The rules only close: what another firewall refuses stays
refused. hostkit's verb ``firewall`` makes a table of nftables of them.

On Windows nothing is open that no rule opens, and a rule knows no user: there each service that others ask gets one
rule of Windows' own firewall, and what is on the host itself or goes out is not judged.

Addresses may be names; Linux hosts resolve them, for Windows hosts the plan refuses them
(LW-PLAN-043). Each pair of hosts that talk stands here once, so a fleet of thousands of workers costs each worker a
line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from labwright import paths
from labwright.inventory import is_loopback
from labwright.wishes import Host

FASTCHAT, GATEWAY = "labwright", "labwright-gateway"  # users; root may always
FILE = "/etc/labwright/firewall.nft"
# Rules of Windows' firewall, by the service that they open: always these, so that none of another plan is left over.
RULES = {"controller": "Labwright controller", "worker": "Labwright model workers"}
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


def request(rules: Mapping[str, Any], host: Host) -> dict[str, Any]:
    """What closes one host: its rules and the site's wishes. A host with nothing to close gets no firewall of ours."""
    if host.platform == paths.WINDOWS:
        return windows(rules["inward"] if host.wishes["lab_firewall"] else [])
    clients = list(host.wishes["lab_api_clients"])
    inward = [*rules["inward"], *({**row, "from": [*row["from"], *clients]} for row in rules["clients"] if clients)]
    wanted = host.wishes["lab_firewall"] and (inward or rules["here"] or rules["peers"])
    if not wanted:
        return absent(host.platform)
    users = {"root", *(user for kind in ("here", "peers") for row in rules[kind] for user in row["users"])}
    return {
        **absent(host.platform),
        "state": "present",
        "inward": inward,
        "here": rules["here"],
        "peers": rules["peers"],
        "users": sorted(users - {"root"}),
    }


def windows(inward: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The rules of Windows' firewall, as the role firewall takes them: one a service, with all its ports."""
    found = []
    for what, name in RULES.items():
        rows = [row for row in inward if row["what"] == what and row["from"]]
        sources = dict.fromkeys(address for row in rows for address in row["from"])
        found.append(
            {
                "name": name,
                "state": "present" if rows else "absent",
                "ports": ",".join(str(row["port"]) for row in rows),
                "from": ",".join(sources),
            }
        )
    return {"state": "present" if any(row["state"] == "present" for row in found) else "absent", "rules": found}


def absent(platform: str) -> dict[str, Any]:
    """The same for no firewall of ours."""
    if platform == paths.WINDOWS:
        return windows([])
    return {"path": FILE, "state": "absent", "inward": [], "here": [], "peers": [], "users": []}
