"""What the inventory wishes for, as the plan takes it, and what contradicts before any host is asked."""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from labwright import builds, mirrors, paths
from labwright.authority import DNS
from labwright.catalog import Catalogue
from labwright.wishes import Host, table
from labwright.words import Finding, Refused, finding

FRONTEND, AGENTS, WEB = "frontend", "agents", "web"
DUTIES = {"controller": "controller", "workers": "worker", "api": "api", "web": "web", "agents": "agent"}  # by group
TOKENS = 2048  # of a conversation, where a wish names none: what published memory figures are stated for
FIT = "fit"
WAIVABLE = ("LW-STACK-001", *builds.WAIVABLE)


@dataclass(frozen=True)
class Wish:
    """One model that somebody wants. ``replicas`` None: one on this very host."""

    model: str
    aliases: tuple[str, ...] = ()
    quantization: str = "auto"
    tokens: int = TOKENS
    gpus: int = 0
    replicas: int | str | None = None


def wishes_of(host: Host, catalogue: Catalogue) -> list[Wish]:
    """A worker's wishes, the most important first."""
    if "workers" not in host.groups:
        return []
    wanted = host.wishes["lab_models"]
    if wanted == "auto":
        large = sorted(
            (one for one in catalogue.models.values() if "bundled" not in one),
            key=lambda one: (-int(one["parameters"]), one["name"]),
        )
        return [Wish(one["name"], replicas=count) for count in (1, FIT) for one in large]
    rows = [{"name": one} if isinstance(one, str) else one for one in wanted]
    return [
        Wish(
            model=row["name"],
            aliases=tuple(row.get("aliases", ())),
            quantization=row.get("quantization", "auto"),
            tokens=int(row.get("context", TOKENS)),
            gpus=int(row.get("gpus", 0)),
            replicas=row.get("replicas"),
        )
        for row in rows
    ]


def alike(wish: Wish) -> Wish:
    """A wish without what may differ from host to host: two with the same rest are one wish of the fleet."""
    return replace(wish, aliases=(), replicas=None)


def named(host: Host, catalogue: Catalogue) -> list[str]:
    """The names that a worker's wishes would be served under."""
    return [name for wish in wishes_of(host, catalogue) for name in (wish.model, *wish.aliases)]


def check(fleet: Sequence[Host], catalogue: Catalogue) -> tuple[list[Finding], dict[str, list[Finding]]]:
    """What can be refused without asking any host: of the lab, and of each host."""
    whole = topology(fleet, catalogue)
    by_host: dict[str, list[Finding]] = {host.name: [] for host in fleet}
    addresses: dict[str, list[str]] = {}
    reached = asked_by_others(fleet)
    for host in fleet:
        addresses.setdefault(host.address, []).append(host.name)
        by_host[host.name] += check_address(host, len(fleet), reached[host.name])
        by_host[host.name] += check_host(host, catalogue) + check_windows(host, fleet) + check_folders(host)
    for address, names in sorted(addresses.items()):
        if len(names) > 1:
            whole.append(finding("LW-PLAN-016", address=address, hosts=sorted(names)))
    counts: dict[Wish, set[int]] = {}
    meant: dict[str, set[str]] = {}
    for host in fleet:
        for wish in wishes_of(host, catalogue):
            for name in (wish.model, *wish.aliases):
                meant.setdefault(name, set()).add(wish.model)
            if isinstance(wish.replicas, int) and host.wishes["lab_models"] != "auto":
                counts.setdefault(alike(wish), set()).add(wish.replicas)
    whole += [
        finding("LW-PLAN-017", model=wish.model, counts=sorted(found))
        for wish, found in sorted(counts.items(), key=lambda one: one[0].model)
        if len(found) > 1
    ]
    whole += [
        finding("LW-PLAN-010", name=name, models=sorted(models))
        for name, models in sorted(meant.items())
        if len(models) > 1
    ]
    return whole, by_host


def differing(given: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """What hosts (``given``: their variables) say differently, though the lab has one of it. No secret is repeated."""
    found = []
    for wish, row in table().items():
        hosts: dict[str, list[str]] = {}
        for name, variables in sorted(given.items()) if "one" in row else ():
            said = variables.get(wish, row.get("default", "-"))
            hosts.setdefault(json.dumps(said, sort_keys=True, default=str), []).append(name)
        if len(hosts) > 1:
            sides = [
                some(names) + ("" if "secret" in row else f": {json.loads(said)}") for said, names in hosts.items()
            ]
            found.append(finding("LW-PLAN-049", wish=wish, sides="; ".join(sides)))
    return found


def unwired(
    fleet: Sequence[Host], given: Mapping[str, Mapping[str, Any]], wiring: Mapping[str, Iterable[str]]
) -> list[Finding]:
    """Hosts whose variables (``given``) lack some that hand the plan to the roles (``wiring``: their names, by group):
    there the roles would take their own defaults. A machine on paper needs none. How Ansible connects is the site's."""
    found = []
    for group, names in wiring.items():
        wanted = {one for one in names if not one.startswith("ansible_")}
        lacking = {
            host.name: missing
            for host in fleet
            if group in ("all", *host.groups) and "hardware_given" not in host.wishes
            if (missing := wanted - set(given[host.name]))
        }
        if lacking:
            missed = sorted(set().union(*lacking.values()))
            found.append(finding("LW-PLAN-050", hosts=some(sorted(lacking)), names=some(missed), group=group))
    return found


def some(names: Sequence[str]) -> str:
    """The first few; of a thousand hosts they tell where to look."""
    return f"{', '.join(names[:3])}{' …' if len(names) > 3 else ''}"


def topology(fleet: Sequence[Host], catalogue: Catalogue) -> list[Finding]:
    """One controller; somebody to ask where somebody asks; the package that AutoGen wants beside it."""
    controllers = sorted(one.name for one in fleet if "controller" in one.groups)
    found = []
    if len(controllers) != 1:
        found.append(finding("LW-PLAN-001", found=controllers or ["-"]))
    agents = any("agents" in one.groups for one in fleet)
    if agents and not any("api" in one.groups for one in fleet):
        found.append(finding("LW-PLAN-002"))
    if agents and not any("workers" in one.groups for one in fleet):
        found.append(finding("LW-PLAN-031"))
    found += misspelt(fleet)
    pins = [pin for lock in catalogue.stacks[AGENTS].locks for pin, _sums in lock.layer.pins] if agents else []
    if agents and not any(pin.startswith("docker==") for pin in pins):
        found.append(finding("LW-KNOWN-006"))
    return found


def misspelt(fleet: Sequence[Host]) -> list[Finding]:
    """Groups whose name is nearly a duty's, with hosts that do not have it; of a name with a digit or a hyphen it is
    the site's own."""
    members: dict[str, list[str]] = {}
    for host in fleet:
        for name in host.groups:
            members.setdefault(name, []).append(host.name)
    ours = [*DUTIES, paths.GROUP]
    found = []
    for name in sorted(one for one in members if one not in ours and one.isalpha()):
        meant = "".join(difflib.get_close_matches(name.lower(), ours, n=1, cutoff=0.85))
        if hosts := sorted(set(members[name]) - set(members.get(meant, []))) if meant else []:
            found.append(finding("LW-PLAN-037", found=name, hosts=hosts, meant=meant))
    return found


def asked_by_others(fleet: Sequence[Host]) -> dict[str, list[str]]:
    """For each host, the groups whose part of FastChat would be asked by other hosts there, and so listen at its
    address."""
    controllers, workers, apis = (
        {one.name for one in fleet if group in one.groups} for group in ("controller", "workers", "api")
    )
    askers = {"controller": controllers | workers | apis, "workers": controllers | apis}
    return {host.name: [group for group, names in askers.items() if names != {host.name}] for host in fleet}


def check_address(host: Host, hosts: int, reached: Sequence[str]) -> list[Finding]:
    """What a host is reached by: an IPv4 address where something listens at it, else a name will do. Only the gateway
    can listen at a name (nginx looks it up), and does so for the site's own certificate: no public one has private
    addresses."""
    address = host.address
    if address.lower() in ("localhost", "ip6-localhost", "::1"):
        return [finding("LW-KNOWN-001", address=address)]
    if hosts > 1 and is_loopback(address):
        return [finding("LW-PLAN-023", address=address)]
    if is_ipv4(address):
        return []
    if not is_name(address):
        return [finding("LW-PLAN-047", address=repr(address))]
    listening = {*reached, *([] if "lab_certificate" in host.wishes else ["api"])} & host.groups
    return [finding("LW-PLAN-048", name=address, groups=sorted(listening))] if listening else []


def check_host(host: Host, catalogue: Catalogue) -> list[Finding]:
    """One host's wishes against the catalogue and against each other."""
    found = []
    for wish in wishes_of(host, catalogue):
        entry = catalogue.models.get(wish.model)
        if entry is None:
            found.append(unknown_model(wish.model, catalogue))
            continue
        if wish.quantization not in ("auto", "fp32", *entry["quantizations"]):
            found.append(
                finding("LW-PLAN-021", model=wish.model, wish=wish.quantization, has=list(entry["quantizations"]))
            )
        if wish.tokens > int(entry["context_length"]):
            found.append(
                finding("LW-PLAN-024", model=wish.model, tokens=wish.tokens, most=int(entry["context_length"]))
            )
    stack, known = host.wishes["lab_stack"], sorted(one.name for one in catalogue.serving)
    if "workers" in host.groups and stack not in ("", *known):
        found.append(finding("LW-STACK-004", wish=stack, known=known))
    engine = host.wishes["lab_engine"]
    if engine not in catalogue.engines:
        found.append(finding("LW-ENGINE-001", wish=engine, known=sorted(catalogue.engines)))
    elif "workers" in host.groups and stack in known and catalogue.stacks[stack].engine != engine:
        found.append(finding("LW-ENGINE-002", stack=stack, other=catalogue.stacks[stack].engine, engine=engine))
    waivers, level = host.wishes["lab_waivers"], host.wishes["lab_level"]
    if (level == "forced") != bool(waivers):
        found.append(finding("LW-PLAN-018", level=level, count=len(waivers)))
    found += [
        finding("LW-PLAN-025", rule=one["rule"], may=list(WAIVABLE)) for one in waivers if one["rule"] not in WAIVABLE
    ]
    if "web" in host.groups and "api" not in host.groups:
        found.append(finding("LW-PLAN-036"))
    ports: dict[int, str] = {}
    for duty in (one for one in ("controller", "api", "web") if one in host.groups):
        port = int(host.wishes[f"lab_{duty}_port"])
        if ports.setdefault(port, duty) != duty:
            found.append(finding("LW-PLAN-008", port=port, first=f"lab_{ports[port]}_port", second=f"lab_{duty}_port"))
    found += [finding("LW-PLAN-035", entry=one) for one in host.wishes["lab_api_clients"] if not is_client(one)]
    try:
        mirrors.resolve(host.wishes["lab_mirrors"], catalogue.mirrors)
    except Refused as refused:
        found.append(refused.cause)
    return found


def check_folders(host: Host) -> list[Finding]:
    """Folders of the lab that are the system's, or that services do not see."""
    system = host.system
    found = []
    for wish in ("lab_root", "lab_state", "lab_store"):
        path = system.plain(str(host.wishes[wish]))
        hidden = re.fullmatch(system.hidden, path)
        if re.fullmatch(system.shared, path):
            found.append(finding("LW-PLAN-055", wish=wish, path=path, below=system.join(path, "labwright")))
        elif hidden and wish == "lab_root":
            found.append(finding("LW-PLAN-056", path=path, folder=hidden[1]))
    return found


def check_windows(host: Host, fleet: Sequence[Host]) -> list[Finding]:
    """What a host's system makes of its wishes: paths of that system, and what Windows cannot be."""
    system = host.system
    found = [
        finding("LW-PLAN-041", wish=wish, path=str(host.wishes[wish]), system=system.name)
        for wish in ("lab_root", "lab_state", "lab_store")
        if not system.whole(str(host.wishes[wish]))
    ]
    if host.platform != paths.WINDOWS:
        return found
    if "api" in host.groups:
        found.append(finding("LW-PLAN-022"))
    # Others that are let in here listen to FastChat themselves, which no name does (LW-PLAN-048).
    named = sorted({one.address for one in fleet if "api" in one.groups and is_name(one.address)})
    if host.wishes["lab_firewall"] and {"controller", "workers"} & host.groups and named:
        found.append(finding("LW-PLAN-043", names=named))
    return found


def is_ipv4(text: str) -> bool:
    """Whether it is an IPv4 address that one host can have; of IPv6 the gateway alone would know the brackets."""
    try:
        found = ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return not (found.is_unspecified or found.is_multicast or found.is_reserved)


def is_name(text: str) -> bool:
    """Whether it is a name of DNS. One that ends in a number is a mistyped address."""
    return bool(DNS.fullmatch(text)) and not text.rpartition(".")[2].isdigit()


def is_loopback(address: str) -> bool:
    """Whether others cannot reach it; a name is not looked up."""
    try:
        found = ipaddress.ip_address(address)
        return (getattr(found, "ipv4_mapped", None) or found).is_loopback
    except ValueError:
        return False


def is_client(entry: str) -> bool:
    """Whether an entry of lab_api_clients is an address or a network of others."""
    try:
        return not ipaddress.ip_network(entry, strict=False).is_loopback
    except ValueError:
        return False


def unknown_model(name: str, catalogue: Catalogue) -> Finding:
    """A model that nobody knows, with the one that was probably meant."""
    known = sorted(catalogue.models)
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    return finding("LW-PLAN-003", model=name, known=known, close=close or known[:1])


def check_endpoints(given: Any, served: Iterable[str]) -> list[Finding]:
    """An agent configuration that was written by hand (AutoGen's config_list), against what the lab serves."""
    names = sorted(served)
    found = []
    for row in given if isinstance(given, list) else []:
        if not isinstance(row, dict):
            continue
        found += [
            finding(rule, value=str(row[key]))
            for key, rule in (("api_base", "LW-KNOWN-003"), ("api_type", "LW-KNOWN-004"))
            if key in row
        ]
        url = str(row.get("base_url", ""))
        if url and not url.rstrip("/").endswith("/v1"):
            found.append(finding("LW-PLAN-026", url=url))
        model = str(row.get("model", ""))
        if model and names and model not in names:
            close = difflib.get_close_matches(model.lower(), names, n=1, cutoff=0.3) or names[:1]
            found.append(finding("LW-KNOWN-005", model=model, served=names, close=close[0]))
    return found
