"""The plan: what every host gets, from wishes, hardware and the catalogue. A pure function; nothing else chooses.

Each choice keeps its reason, each option not taken the rule that spoke against it. How the chosen things reach a host
(files, checksums, addresses of mirrors) is spelt out from the plan by ``delivery``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from labwright import builds, memory, paths
from labwright.catalog import NO_LAST, Catalogue, TorchTable
from labwright.hardware import UNIT_PREFIX, Hardware, version
from labwright.inventory import DUTIES, asked_by_others, check, wishes_of
from labwright.planned import Fleet, HostPlan
from labwright.room import Chooser, Room
from labwright.spreading import fill
from labwright.wishes import Host
from labwright.words import Finding, finding

MOST_PORT = 65535
LOOPBACK = "127.0.0.1"
INNER_PORT = 21000  # FastChat's own API and page, behind the gateway; the next free one below it where that is taken
ENGINE_PORT = 20900  # an engine's own server, behind its worker; the next free one below it, as above
MOST_SKEW_S = 300  # certificates and package signatures fail when clocks differ by more
ENGINES = (
    "debian",
    "ubuntu",
)  # distributions that have a Docker engine of their own; the role docker has their packages
BRANCH = 10  # numbers that a driver branch may count on to: on Windows, 581.15 is of the branch 580
MACHINE = frozenset({"LW-GPU-017"})  # of what hardware finds: they are of the machine, whatever it does with its GPU
NOTES = frozenset({"LW-GPU-012"})  # of what hardware finds: they cost only what they would have added


def make(
    fleet: Sequence[Host],
    hardware: Mapping[str, tuple[Hardware, Sequence[Finding]]],
    catalogue: Catalogue,
    before: Mapping[str, Any] | None = None,
    silent: Collection[str] = (),
) -> Fleet:
    """The plan of the whole lab. ``hardware`` lacks the hosts that were not asked: those keep their part of ``before``,
    the last plan as it was written. ``silent`` were asked and did not answer: they keep it too, with a problem. Models
    with replicas stay where ``before`` has them, as long as they still fit."""
    ordered = sorted(fleet, key=lambda one: one.name)
    first = ordered[0].wishes if ordered else {"lab_name": "lab", "lab_language": "en"}
    lab = Fleet(str(first["lab_name"]), str(first["lab_language"]))
    before = before if before and before.get("lab") == lab.name else {}
    lab.problems, wrong = check(ordered, catalogue)
    lab.controller = next((one.name for one in ordered if "controller" in one.groups), "")
    lab.apis = [one.name for one in ordered if "api" in one.groups]
    chooser = Chooser(catalogue)
    rooms = {}
    for host in ordered:
        plan = HostPlan(host.name, host.address, duties=[one for group, one in DUTIES.items() if group in host.groups])
        lab.hosts[host.name] = plan
        plan.problems += wrong[host.name]
        if host.name not in hardware:
            plan.kept = dict(before.get("hosts", {}).get(host.name, {}))
            if host.name in silent or not plan.kept:
                plan.problems.append(finding("LW-PLAN-019"))
                plan.kept = {**plan.kept, "problems": []} if plan.kept else {}
            continue
        machine, found = hardware[host.name]
        plan.hardware = machine
        check_machine(plan, host, machine, [*found, *undriven(machine, catalogue.torch)])
        if "workers" in host.groups and not plan.problems:
            rooms[host.name] = Room(host, plan, machine, chooser)
            rooms[host.name].serve(wishes_of(host, catalogue))
    fill(lab, [room for _name, room in sorted(rooms.items())], before)
    roomy = sorted(
        (
            (room.largest(), name, [one.model for one in room.plan.workers])
            for name, room in rooms.items()
            if not (room.unmet or room.plan.problems)
        ),
        reverse=True,
    )
    for room in rooms.values():
        room.complain(roomy)
        room.share()
    newest = {platform: builds.newest_driver(platform, catalogue.torch) for platform in ("linux-64", "win-64")}
    for host in ordered:
        plan = lab.hosts[host.name]
        if plan.hardware:
            name_and_number(plan, host, plan.hardware, catalogue)
            check_disk(plan, host, plan.hardware, catalogue)
            note(plan, host, plan.hardware, newest)
    connect(lab, ordered)
    return lab


def check_machine(plan: HostPlan, host: Host, hardware: Hardware, found: Sequence[Finding]) -> None:
    """The machine's state, apart from what the models need; ``found`` is what was wrong with its answer."""
    # Who serves no model, or serves it on the CPU, need not mend a GPU.
    if "workers" in host.groups and host.wishes["lab_device"] != "cpu":
        plan.problems += [one for one in found if one.id not in NOTES | MACHINE]
        plan.notes += [one for one in found if one.id in NOTES]
    plan.problems += [one for one in found if one.id in MACHINE]
    if abs(hardware.clock_skew_s) > MOST_SKEW_S:
        plan.problems.append(finding("LW-HOST-001", seconds=round(hardware.clock_skew_s), most=MOST_SKEW_S))
    if hardware.platform != host.platform:
        plan.problems.append(finding("LW-PLAN-040", found=hardware.platform, group=paths.GROUP))
    if "api" in plan.duties and hardware.nginx_confined:
        plan.problems.append(finding("LW-PLAN-051"))
    if "agent" in plan.duties:
        lock_up(plan, host, hardware)
    if not plan.duties:
        plan.because("duties", "none", finding("WHY-NO-DUTY"))
    others = foreign(host, hardware)
    for port in fixed_ports(plan, host):
        if port in others:
            plan.problems.append(finding("LW-PLAN-009", port=port, program=others[port] or "?"))


def undriven(hardware: Hardware, table: TorchTable) -> list[Finding]:
    """Cards on paper that the driver there does not drive. A real one lists only those that it does."""
    found = []
    for gpu in hardware.gpus if hardware.source == "given" else ():
        first, last = table.branch(gpu.compute_capability) or (0, NO_LAST)
        if not first <= version(hardware.driver_version)[0] < last + BRANCH:
            may = [*([f"≥ {first}"] if first else []), *([f"≤ {last}"] if last < NO_LAST else [])]
            found.append(finding("LW-GPU-015", name=gpu.name, driver=hardware.driver_version, branches=may))
    return [one for at, one in enumerate(found) if one not in found[:at]]


def lock_up(plan: HostPlan, host: Host, hardware: Hardware) -> None:
    """Where the code runs that models write; and Docker Desktop, where the site accepts its terms."""
    wish = str(host.wishes["lab_agent_code"])
    if hardware.platform == paths.LINUX and not hardware.systemd:
        plan.problems.append(finding("LW-KNOWN-007", platform=hardware.platform))
    elif wish == "local":
        plan.sandbox = wish
        plan.because("sandbox", wish, finding("WHY-SANDBOX-LOCAL"))
        plan.notes.append(finding("LW-PLAN-044"))
    elif hardware.platform == paths.WINDOWS:
        plan.problems.append(finding("LW-KNOWN-007", platform=hardware.platform))
    elif wish != "auto":
        plan.sandbox = wish
        plan.because("sandbox", wish, finding("WHY-SANDBOX-WISH"))
    elif hardware.distribution in ("", *ENGINES):
        plan.sandbox = "docker"
        plan.because("sandbox", "docker", finding("WHY-SANDBOX-DOCKER"))
    else:
        plan.sandbox = "unit"
        plan.because("sandbox", "unit", finding("WHY-SANDBOX-UNIT", distribution=hardware.distribution))
    if hardware.platform == paths.WINDOWS and host.wishes["lab_docker_desktop"]:
        if hardware.server:
            plan.problems.append(finding("LW-PLAN-045"))
        else:
            plan.docker = True
            plan.because("docker", "Docker Desktop", finding("WHY-DOCKER-DESKTOP"))


def fixed_ports(plan: HostPlan, host: Host) -> list[int]:
    """The ports that the inventory names."""
    return [int(host.wishes[f"lab_{duty}_port"]) for duty in ("controller", "api", "web") if duty in plan.duties]


def foreign(host: Host, hardware: Hardware) -> dict[int, str]:
    """Ports that somebody else's programs hold where we would listen, the loopback address included."""
    found = {}
    for socket in hardware.listening:
        address = ipaddress.ip_address(socket["address"])
        mapped = getattr(address, "ipv4_mapped", None) or address
        ours = mapped.is_unspecified or mapped.is_loopback or str(mapped) == host.address
        if ours and not str(socket["unit"]).startswith(UNIT_PREFIX):
            found[int(socket["port"])] = str(socket["unit"])
    return found


def name_and_number(plan: HostPlan, host: Host, hardware: Hardware, catalogue: Catalogue) -> None:
    """Names and ports of the workers, past what other programs use."""
    taken = set(fixed_ports(plan, host))
    others = foreign(host, hardware)

    def inner(first: int) -> int:
        found = next(port for port in range(first, 0, -1) if port not in taken and port not in others)
        taken.add(found)
        return found

    if "api" in plan.duties:
        plan.api = {"host": LOOPBACK, "port": inner(INNER_PORT)}
    if "web" in plan.duties:
        plan.web = {"host": LOOPBACK, "port": inner(INNER_PORT)}
    for worker in plan.workers:
        worker.engine_port = inner(ENGINE_PORT) if catalogue.engines[worker.engine].server else 0
    port = int(host.wishes["lab_worker_port"])
    counts: dict[str, int] = {}
    for worker in plan.workers:
        counts[worker.model] = counts.get(worker.model, 0) + 1
        number = f"-{counts[worker.model]}" if counts[worker.model] > 1 else ""
        worker.name = f"{UNIT_PREFIX}worker-{worker.model}{number}"
        while port in taken or port in others:
            if port in others:
                plan.because("port", str(port + 1), finding("WHY-PORT", port=port, program=others[port] or "?"))
            port += 1
        worker.port = min(port, MOST_PORT)
        taken.add(port)
    if max(taken, default=0) > MOST_PORT:
        plan.problems.append(finding("LW-PLAN-011", port=max(taken)))


def note(plan: HostPlan, host: Host, hardware: Hardware, newest: Mapping[str, tuple[int, ...]]) -> None:
    """What is worth knowing and stands in nobody's way."""
    used = {one["rule"] for one in plan.waivers}
    for one in host.wishes["lab_waivers"]:
        if one["rule"] not in used:
            plan.notes.append(finding("LW-PLAN-027", rule=one["rule"]))
    known = newest[hardware.platform]
    if version(hardware.driver_version)[:1] > known:
        plan.notes.append(finding("LW-GPU-014", driver=hardware.driver_version, known=".".join(map(str, known))))
    for gpu in hardware.gpus if "worker" in plan.duties else ():
        if gpu.foreign_mib > gpu.memory_mib * memory.MARGIN:
            holders = list(gpu.holders) or ["?"]
            values = {"name": gpu.name, "index": gpu.index, "used": gpu.foreign_mib, "holders": holders}
            plan.notes.append(finding("LW-GPU-013", **values))


def check_disk(plan: HostPlan, host: Host, hardware: Hardware, catalogue: Catalogue) -> None:
    """Room for the models and environments that are not there yet: an estimate, before anything is fetched."""
    root = str(host.wishes["lab_root"])
    join = host.system.join
    wanted = {(worker.model, worker.quantization == "int4") for worker in plan.workers}
    models = sum(
        memory.files_mib(catalogue.models[model], packed)
        for model, packed in sorted(wanted)
        if join(root, "models", f"{model}{'-int4' if packed else ''}") not in hardware.present
    )
    kinds = {join(root, "envs", f"{one.stack}-{one.build.tag}-"): one.device for one in plan.workers}
    environments = sum(
        catalogue.torch.disk_mib[device]
        for prefix, device in kinds.items()
        if not any(one.startswith(prefix) for one in hardware.present)
    )
    # Archives and model files lie in the store until they are used; archives are about half of what they hold.
    need = {root: models + environments, str(host.wishes["lab_store"]): models + environments // 2}
    need[""] = need[root] + environments // 2  # hardware_given has one number for all
    for path, free in sorted(hardware.disk_mib.items()):
        if need.get(path, 0) > free:
            plan.problems.append(finding("LW-FIT-004", path=path or "/", free=free, need=need[path]))


def connect(lab: Fleet, fleet: Sequence[Host]) -> None:
    """Who listens where, and who talks to whom. FastChat asks nobody for a key, so it listens where only those that
    need it reach it: on the loopback address, unless they are on other hosts. People and agents meet the gateway. An
    agent asks the API of its own host if there is one: it works when the network does not. The others come after it."""
    hosts = {host.name: host for host in fleet}
    control = hosts.get(lab.controller)
    reached = asked_by_others(fleet)
    for name, plan in lab.hosts.items():
        host = hosts[name]
        plan.workers_listen = host.address if "workers" in reached[name] else LOOPBACK
        if control:
            address = control.address if "controller" in reached[lab.controller] else LOOPBACK
            place = {"host": address, "port": control.wishes["lab_controller_port"]}
            plan.controller_url = f"http://{place['host']}:{place['port']}"
            plan.controller = place if "controller" in plan.duties else {}
        if "api" in plan.duties:
            plan.gateway = {"host": host.address, "port": int(host.wishes["lab_api_port"])}
        if "web" in plan.duties:
            plan.page = {"host": host.address, "port": int(host.wishes["lab_web_port"])}
            plan.because("page", f"https://{host.address}:{plan.page['port']}", finding("WHY-PAGE"))
        if lab.apis:
            nearest = host if "api" in plan.duties else hosts[lab.apis[0]]
            plan.api_url = api_url(nearest)
        if "agent" in plan.duties and lab.apis:
            others = [api_url(hosts[one]) for one in lab.apis if api_url(hosts[one]) != plan.api_url]
            urls = [plan.api_url, *others]
            plan.endpoints = [{"model": model, "base_url": url} for model in lab.served for url in urls]


def api_url(host: Host) -> str:
    """Where a host of the group api answers people and agents."""
    return f"https://{host.address}:{host.wishes['lab_api_port']}/v1"
