"""The plan: what every host gets, chosen from wishes, hardware and the catalogue. A pure function; nothing else chooses.

Each choice keeps its reason, each option not taken the rule that spoke against it. How the chosen things reach a host
(files, checksums, addresses of mirrors) is spelt out from the plan by ``delivery``.
"""

from __future__ import annotations

import difflib
import heapq
import ipaddress
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from packaging.specifiers import SpecifierSet

from labwright import builds, memory
from labwright.builds import Build, Choice, Question, Rejected
from labwright.catalog import Catalogue, Stack
from labwright.hardware import UNIT_PREFIX, Gpu, Hardware, version
from labwright.placing import Level, Placement, Slot, Want, place
from labwright.wishes import Host
from labwright.words import Finding, finding

FRONTEND, AGENTS = "frontend", "agents"
DUTIES = {"controller": "controller", "workers": "worker", "api": "api", "agents": "agent"}  # by group
TOKENS = 2048  # of a conversation, where a wish names none: what published memory figures are stated for
BF16_SINCE = (8, 0)  # compute capability
MOST_SKEW_S = 300  # certificates and package signatures fail when clocks differ by more
CPU_SHARE = 0.9  # of a host's memory may hold models
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


@dataclass(frozen=True)
class Explained:
    """One choice with its reason and what was not taken."""

    choice: str
    value: str
    because: Finding
    rejected: tuple[Rejected, ...] = ()


@dataclass
class Worker:
    """One model worker. Memory in MiB; ``gpus`` is empty on the CPU."""

    model: str
    aliases: tuple[str, ...]
    stack: str
    python: str
    build: Build
    quantization: str
    device: str
    gpus: tuple[Gpu, ...]
    each_mib: int
    tokens: int
    replica: bool = False
    name: str = ""
    port: int = 0
    explain: tuple[Explained, ...] = ()

    @property
    def memory_mib(self) -> int:
        """All that it takes."""
        return self.each_mib * max(1, len(self.gpus))

    @property
    def names(self) -> list[str]:
        """Under which it answers."""
        return [self.model, *self.aliases]


@dataclass
class HostPlan:
    """What one host gets. ``notes`` are findings that do not stand in the way."""

    host: str
    address: str
    hardware: Hardware | None = None
    duties: list[str] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    explain: list[Explained] = field(default_factory=list)
    problems: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    waivers: list[dict[str, str]] = field(default_factory=list)
    sandbox: str = ""
    controller: dict[str, Any] = field(default_factory=dict)
    controller_url: str = ""
    api: dict[str, Any] = field(default_factory=dict)
    api_url: str = ""
    endpoints: list[dict[str, str]] = field(default_factory=list)
    kept: dict[str, Any] = field(default_factory=dict)  # a host that was not asked: its last plan, as written

    def because(self, choice: str, value: str, reason: Finding, rejected: tuple[Rejected, ...] = ()) -> None:
        """Note a choice with its reason."""
        self.explain.append(Explained(choice, value, reason, rejected))


@dataclass
class Fleet:
    """The whole lab: every host's plan, and what concerns the lab as a whole."""

    name: str
    language: str
    hosts: dict[str, HostPlan] = field(default_factory=dict)
    problems: list[Finding] = field(default_factory=list)
    controller: str = ""
    apis: list[str] = field(default_factory=list)

    @property
    def met(self) -> bool:
        """Whether every wish is met."""
        return not self.problems and not any(one.problems for one in self.hosts.values())

    @cached_property
    def served(self) -> list[str]:
        """Names of all models that the lab will answer to, each once."""
        found: dict[str, None] = {}
        for one in self.hosts.values():
            for worker in one.workers:
                found.update(dict.fromkeys(worker.names))
            for kept in one.kept.get("workers", ()):
                found.update(dict.fromkeys(kept["model_names"]))
        return list(found)

    @cached_property
    def workers(self) -> int:
        """How many workers the lab will have."""
        return sum(len(one.workers) + len(one.kept.get("workers", ())) for one in self.hosts.values())


# --- wishes, before any host is asked --------------------------------------------------------------------------------


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


def named(host: Host, catalogue: Catalogue) -> list[str]:
    """The names that a worker's wishes would be served under."""
    return [name for wish in wishes_of(host, catalogue) for name in (wish.model, *wish.aliases)]


def check(fleet: Sequence[Host], catalogue: Catalogue) -> tuple[list[Finding], dict[str, list[Finding]]]:
    """What can be refused without asking any host: of the lab, and of each host."""
    whole = topology(fleet, catalogue)
    by_host: dict[str, list[Finding]] = {host.name: [] for host in fleet}
    addresses: dict[str, list[str]] = {}
    for host in fleet:
        addresses.setdefault(host.address, []).append(host.name)
        by_host[host.name] += check_host(host, len(fleet), catalogue)
    for address, names in sorted(addresses.items()):
        if len(names) > 1:
            whole.append(finding("LW-PLAN-016", address=address, hosts=sorted(names)))
    counts: dict[str, set[str]] = {}
    for host in fleet:
        for wish in wishes_of(host, catalogue):
            if wish.replicas is not None and host.wishes["lab_models"] != "auto":
                counts.setdefault(wish.model, set()).add(str(wish.replicas))
    whole += [
        finding("LW-PLAN-017", model=model, counts=sorted(found))
        for model, found in sorted(counts.items())
        if len(found) > 1
    ]
    return whole, by_host


def topology(fleet: Sequence[Host], catalogue: Catalogue) -> list[Finding]:
    """One controller; somebody to ask where somebody asks; the package that AutoGen wants beside it."""
    controllers = sorted(one.name for one in fleet if "controller" in one.groups)
    found = []
    if len(controllers) != 1:
        found.append(finding("LW-PLAN-001", found=controllers or ["-"]))
    agents = any("agents" in one.groups for one in fleet)
    if agents and not any("api" in one.groups for one in fleet):
        found.append(finding("LW-PLAN-002"))
    pins = [pin for lock in catalogue.stacks[AGENTS].locks for pin, _sums in lock.layer.pins()] if agents else []
    if agents and not any(pin.startswith("docker==") for pin in pins):
        found.append(finding("LW-KNOWN-006"))
    return found


def check_host(host: Host, hosts: int, catalogue: Catalogue) -> list[Finding]:
    """One host's wishes against the catalogue and against each other."""
    found = []
    if host.address.lower() in ("localhost", "ip6-localhost", "::1"):
        found.append(finding("LW-KNOWN-001", address=host.address))
    elif hosts > 1 and is_loopback(host.address):
        found.append(finding("LW-PLAN-023", address=host.address))
    meant: dict[str, set[str]] = {}
    for wish in wishes_of(host, catalogue):
        for name in (wish.model, *wish.aliases):
            meant.setdefault(name, set()).add(wish.model)
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
    found += [
        finding("LW-PLAN-010", name=name, models=sorted(models)) for name, models in meant.items() if len(models) > 1
    ]
    waivers, level = host.wishes["lab_waivers"], host.wishes["lab_level"]
    if (level == "forced") != bool(waivers):
        found.append(finding("LW-PLAN-018", level=level, count=len(waivers)))
    found += [
        finding("LW-PLAN-025", rule=one["rule"], may=list(WAIVABLE)) for one in waivers if one["rule"] not in WAIVABLE
    ]
    if host.wishes["lab_controller_port"] == host.wishes["lab_api_port"] and {"controller", "api"} <= host.groups:
        found.append(finding("LW-PLAN-008", port=host.wishes["lab_api_port"]))
    return found


def is_loopback(address: str) -> bool:
    """Whether others cannot reach it; a name is not looked up."""
    try:
        return ipaddress.ip_address(address).is_loopback
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


# --- the plan --------------------------------------------------------------------------------------------------------


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
            continue
        plan.hardware, found = hardware[host.name][0], list(hardware[host.name][1])
        if host.wishes["lab_device"] == "cpu":  # whoever asks for the CPU need not mend the GPU
            found = [one for one in found if not one.id.startswith("LW-GPU")]
        plan.problems += [one for one in found if one.id not in NOTES]
        plan.notes += [one for one in found if one.id in NOTES]
        check_machine(plan, host)
        if "workers" in host.groups and not plan.problems:
            rooms[host.name] = Room(host, plan, chooser)
            rooms[host.name].serve(wishes_of(host, catalogue))
    fill(lab, [room for _name, room in sorted(rooms.items())], before)
    roomy = sorted(((room.largest(), name) for name, room in rooms.items() if not (room.unmet or room.plan.problems)), reverse=True)
    for room in rooms.values():
        room.complain(roomy)
    for host in ordered:
        finish(lab.hosts[host.name], host, catalogue)
    connect(lab, ordered)
    return lab


NOTES = frozenset({"LW-GPU-012", "LW-GPU-013", "LW-GPU-014"})


def check_machine(plan: HostPlan, host: Host) -> None:
    """The machine's state, apart from what the models need."""
    hardware = plan.hardware
    assert hardware is not None
    if abs(hardware.clock_skew_s) > MOST_SKEW_S:
        plan.problems.append(finding("LW-HOST-001", seconds=round(hardware.clock_skew_s), most=MOST_SKEW_S))
    if "agent" in plan.duties:
        if hardware.platform == "linux-64" and hardware.systemd:
            plan.sandbox = "systemd"
            plan.because("sandbox", "systemd", finding("WHY-SANDBOX"))
        else:
            plan.problems.append(finding("LW-KNOWN-007", platform=hardware.platform))
    if not plan.duties:
        plan.because("duties", "none", finding("WHY-NO-DUTY"))
    fixed = [
        (duty, int(host.wishes[f"lab_{duty}_port"])) for duty in ("controller", "api") if duty in plan.duties
    ]
    for _duty, port in fixed:
        other = foreign(host, hardware).get(port)
        if other is not None:
            plan.problems.append(finding("LW-PLAN-009", port=port, program=other or "?"))


def foreign(host: Host, hardware: Hardware) -> dict[int, str]:
    """Ports that somebody else's programs hold where we would listen, with the program."""
    found = {}
    for socket in hardware.listening:
        address = ipaddress.ip_address(socket["address"])
        mapped = getattr(address, "ipv4_mapped", None) or address
        if not str(socket["unit"]).startswith(UNIT_PREFIX) and (
            address.is_unspecified or mapped.is_unspecified or str(mapped) == host.address
        ):
            found[int(socket["port"])] = str(socket["unit"])
    return found


class Chooser:
    """Choices that many hosts share, each made once: stacks by model, builds by question, levels by wish."""

    def __init__(self, catalogue: Catalogue) -> None:
        """All from one catalogue."""
        self.catalogue = catalogue
        self.stacks: dict[tuple[Any, ...], tuple[Stack | None, Explained]] = {}
        self.choices: dict[Question, Choice] = {}
        self.levels: dict[tuple[Any, ...], tuple[Level, ...]] = {}

    def stack(self, model: str, platform: str, waived: frozenset[str]) -> tuple[Stack | None, Explained]:
        """The stack whose transformers the model's own code works with: one with locks first, then the newest."""
        key = (model, platform, waived)
        if key not in self.stacks:
            self.stacks[key] = self._stack(*key)
        return self.stacks[key]

    def _stack(self, model: str, platform: str, waived: frozenset[str]) -> tuple[Stack | None, Explained]:
        window = str(self.catalogue.models[model]["transformers"]["window"])
        serving = [one for one in self.catalogue.stacks.values() if one.transformers]
        fits = [one for one in serving if one.transformers in SpecifierSet(window)]
        rejected = tuple(
            Rejected(one.name, finding("LW-STACK-001", model=model, window=window, found=one.transformers))
            for one in serving
            if one not in fits
        )
        overruled = not fits and "LW-STACK-001" in waived
        candidates = fits or (serving if overruled else [])
        if not candidates:
            known = [f"{one.name} ({one.transformers})" for one in serving]
            return None, Explained("stack", "-", finding("LW-STACK-002", model=model, window=window, known=known), rejected)
        best = max(candidates, key=lambda one: (self.has_locks(one, platform), version(one.transformers)))
        rejected += tuple(
            Rejected(one.name, finding("LW-STACK-003", other=best.name)) for one in candidates if one is not best
        )
        reason = finding("WHY-STACK", model=model, window=window, transformers=best.transformers, python=best.python)
        return best, Explained("stack", best.name, reason, rejected)

    @staticmethod
    def has_locks(stack: Stack, platform: str) -> bool:
        """Whether anything of a stack can be installed on a platform."""
        return any(one == platform for one, _build in stack.locked)

    def build(self, question: Question) -> Choice:
        """The torch build."""
        if question not in self.choices:
            self.choices[question] = builds.choose(question, self.catalogue.torch)
        return self.choices[question]

    def level(self, wish: Wish, device: str, spread: bool) -> tuple[Level, ...]:
        """Levels of a wish on a device, best first, with what they need."""
        key = (wish.model, wish.quantization, wish.tokens, device, spread)
        if key not in self.levels:
            entry = self.catalogue.models[wish.model]
            self.levels[key] = tuple(
                level_of(entry, rank, kind, wish.tokens, device, spread)
                for rank, kinds in enumerate(memory.LEVELS)
                if (kind := next((one for one in kinds if offered(one, entry, wish, device)), ""))
            )
        return self.levels[key]


def offered(kind: str, entry: Mapping[str, Any], wish: Wish, device: str) -> bool:
    """Whether a quantisation can be had: FastChat computes in fp32 on the CPU, and packs to int8 on either device."""
    if wish.quantization not in ("auto", kind):
        same = {wish.quantization, kind} <= set(memory.LEVELS[1])
        return same and kind == wish.quantization
    if device == "cpu":
        return kind == "fp32" or (kind == "int8" and kind in entry["quantizations"])
    return kind in entry["quantizations"] or (kind == "fp32" and wish.quantization == "fp32")


def level_of(entry: Mapping[str, Any], rank: int, kind: str, tokens: int, device: str, spread: bool) -> Level:
    """One level with its need; only what is not packed can be spread over several cards (FastChat ignores it else)."""
    need = memory.needed_mib(entry, kind, tokens, device)
    if not spread or device == "cpu" or kind in ("int8", "int4"):
        return Level(rank, need)
    each = memory.working_mib(entry, kind, tokens, device)
    return Level(rank, need, shared=need - each, each=each)


class Room:
    """One host's cards (or its memory) while models are being placed."""

    def __init__(self, host: Host, plan: HostPlan, chooser: Chooser) -> None:
        """``plan`` has its hardware."""
        assert plan.hardware is not None
        self.host, self.plan, self.chooser, self.hardware = host, plan, chooser, plan.hardware
        self.gpus = self.hardware.gpus if host.wishes["lab_device"] != "cpu" else ()
        self.device = "cuda" if self.gpus else "cpu"
        waivers = host.wishes["lab_waivers"] if host.wishes["lab_level"] == "forced" else []
        self.waivers = {one["rule"]: one["reason"] for one in waivers}
        if self.gpus:
            self.slots = [
                Slot(memory.usable_mib(one.memory_mib, one.foreign_mib), one.compute_capability, True, one.mig)
                for one in self.gpus
            ]
        else:
            total = self.hardware.memory_mib or 1 << 30  # not known: not the plan's to refuse
            self.slots = [Slot(int(total * CPU_SHARE), "cpu")]
        self.unmet: list[tuple[Wish, Explained | None]] = []

    def question(self, stack: Stack, capabilities: Iterable[str]) -> Question:
        """What to ask the torch table."""
        platform = self.hardware.platform
        return Question(
            platform=platform,
            python=stack.python,
            admits=stack.torch,
            driver=self.hardware.driver_version if self.gpus else "",
            announced=self.hardware.cuda_announced if self.gpus else "",
            capabilities=tuple(sorted(set(capabilities))),
            level=str(self.host.wishes["lab_level"]),
            waived=frozenset(self.waivers),
            locked=frozenset(label for one, label in stack.locked if one == platform),
        )

    def choice(self, stack: Stack, at: int) -> Choice:
        """The build for one slot."""
        return self.chooser.build(self.question(stack, [self.gpus[at].compute_capability] if self.gpus else []))

    def want(self, wish: Wish) -> tuple[Want | None, Finding | None]:
        """A wish in the terms of ``placing``; or why it cannot be had here at all."""
        stack, explained = self.chooser.stack(wish.model, self.hardware.platform, frozenset(self.waivers))
        if stack is None:
            return None, explained.because
        if wish.gpus > 1 and (self.hardware.platform != "linux-64" or not self.gpus):
            return None, finding("LW-FIT-007", model=wish.model, gpus=wish.gpus, platform=self.hardware.platform)
        choices = {at: self.choice(stack, at) for at in range(len(self.slots))}
        usable = [at for at, one in choices.items() if one.build]
        if not usable:
            return None, choices[0].because
        spread = self.hardware.platform == "linux-64" and len(self.slots) > 1
        levels = self.chooser.level(wish, self.device, spread)
        if wish.quantization == "bf16":
            usable = [at for at in usable if version(self.gpus[at].compute_capability) >= BF16_SINCE] if self.gpus else []
        if not levels or not usable:
            return None, finding("LW-FIT-005", model=wish.model, wish=wish.quantization, device=self.device)
        return Want(levels, wish.gpus, frozenset(usable)), None

    def serve(self, wishes: Sequence[Wish]) -> None:
        """The wishes of this very host: as many as there is room for, in their order."""
        own = [wish for wish in wishes if wish.replicas is None]
        wants: list[tuple[Wish, Want]] = []
        for wish in own:
            want, why = self.want(wish)
            if want is None or why is not None:
                assert why is not None
                self.plan.problems.append(why)
                return
            wants.append((wish, want))
        placed = place(tuple(want for _wish, want in wants), tuple(self.slots))
        for (wish, _want), where in zip(wants, placed, strict=False):
            self.add(wish, where, replica=False)
        self.unmet = [(wish, None) for wish, _want in wants[len(placed) :]]

    def add(self, wish: Wish, where: Placement, *, replica: bool) -> None:
        """Take the room and note the worker."""
        stack, explained = self.chooser.stack(wish.model, self.hardware.platform, frozenset(self.waivers))
        assert stack is not None
        gpus = tuple(self.gpus[at] for at in where.slots) if self.gpus else ()
        choice = self.chooser.build(self.question(stack, [one.compute_capability for one in gpus]))
        if choice.build is None:  # cards of one kind have one build
            raise AssertionError(choice)
        entry = self.chooser.catalogue.models[wish.model]
        quantization = kind_of(where.level.rank, wish, entry, gpus, self.device)
        levels = self.chooser.level(wish, self.device, spread=False)
        room = self.slots[where.slots[0]].free
        for rule in choice.waived:
            self.waive(rule, choice.build.label)
        if stack.transformers not in SpecifierSet(str(entry["transformers"]["window"])):
            self.waive("LW-STACK-001", stack.name)
        explain = (
            explained,
            Explained("torch", choice.build.label, choice.because, choice.rejected),
            Explained(
                "quantization",
                quantization,
                self.why(wish, quantization, where, room, entry),
                tuple(
                    Rejected(
                        self.kind(wish, one.rank),
                        finding("LW-FIT-003", model=wish.model, need=one.need, room=room),
                    )
                    for one in levels
                    if one.rank < where.level.rank
                ),
            ),
        )
        for at in where.slots:
            free = self.slots[at].free - where.each if len(where.slots) == 1 else 0
            self.slots[at] = replace(self.slots[at], free=free, whole=False)
        self.plan.workers.append(
            Worker(
                model=wish.model,
                aliases=wish.aliases,
                stack=stack.name,
                python=stack.python,
                build=choice.build,
                quantization=quantization,
                device=self.device,
                gpus=gpus,
                each_mib=where.each,
                tokens=wish.tokens,
                replica=replica,
                explain=explain,
            )
        )

    def waive(self, rule: str, value: str) -> None:
        """Note a waiver that was used."""
        row = {"rule": rule, "reason": self.waivers[rule], "value": value}
        if row not in self.plan.waivers:
            self.plan.waivers.append(row)

    def why(self, wish: Wish, quantization: str, where: Placement, room: int, entry: Mapping[str, Any]) -> Finding:
        """Why this quantisation, and on so many cards."""
        values = {"model": wish.model, "need": where.each, "room": room, "tokens": wish.tokens, "cards": len(where.slots)}
        if not self.gpus:
            return finding("WHY-CPU-ASKED" if self.hardware.gpus else "WHY-CPU", **values)
        if len(where.slots) > 1:
            return finding("WHY-SPREAD", quantization=quantization, **values)
        return finding("WHY-ASKED" if wish.quantization != "auto" else "WHY-BEST", quantization=quantization, **values)

    def largest(self) -> int:
        """The most room that one card still has; 0 on a CPU host."""
        return max((slot.free for slot in self.slots), default=0) if self.gpus else 0

    def complain(self, roomy: Sequence[tuple[int, str]]) -> None:
        """A problem for each wish of this host that found no room, with the cheapest way out."""
        for number, (wish, _explained) in enumerate(self.unmet):
            want, _why = self.want(wish)
            assert want is not None
            least = want.levels[-1].need
            room = max(self.slots[at].free for at in want.slots)
            total = max((one.memory_mib for one in self.gpus), default=self.hardware.memory_mib)
            if number and least <= room:
                self.plan.problems.append(finding("LW-FIT-002", model=wish.model, other=self.unmet[0][0].model))
                continue
            hosts = [name for free, name in roomy[:4] if free >= least and name != self.host.name][:3]
            smaller = self.smaller(wish, room)
            ways = [
                *([finding("WAY-SMALLER", model=wish.model, smaller=smaller)] if smaller else []),
                *([finding("WAY-HOST", hosts=hosts)] if hosts else []),
            ] or [finding("WAY-CARD", need=least + memory.LEAST_MARGIN_MIB)]
            self.plan.problems.append(
                finding(
                    "LW-FIT-001",
                    model=wish.model,
                    wish=wish.quantization,
                    least=self.kind(wish, want.levels[-1].rank),
                    need=least,
                    room=room,
                    total=total,
                    tokens=wish.tokens,
                    ways=ways,
                )
            )

    def smaller(self, wish: Wish, room: int) -> str:
        """A smaller quantisation than the one asked for that would fit; "" for none."""
        auto = self.chooser.level(replace(wish, quantization="auto"), self.device, spread=False)
        fits = [one for one in auto if one.need <= room]
        return f"quantization: {self.kind(replace(wish, quantization='auto'), fits[0].rank)}" if fits else ""

    def kind(self, wish: Wish, rank: int) -> str:
        """A level's name on this host."""
        return kind_of(rank, wish, self.chooser.catalogue.models[wish.model], self.gpus, self.device)


def kind_of(rank: int, wish: Wish, entry: Mapping[str, Any], gpus: Sequence[Gpu], device: str) -> str:
    """The quantisation of a level: of the two with 16 bits, bf16 where the weights and all cards have it."""
    kinds = memory.LEVELS[rank]
    if len(kinds) == 1 or wish.quantization in kinds:
        return wish.quantization if wish.quantization in kinds else kinds[0]
    modern = all(version(one.compute_capability) >= BF16_SINCE for one in gpus)
    bf16 = device == "cuda" and modern and "bf16" in entry["quantizations"]
    return "bf16" if bf16 or "fp16" not in entry["quantizations"] else "fp16"


# --- models with replicas, over the whole fleet ----------------------------------------------------------------------


def fill(lab: Fleet, rooms: Sequence[Room], before: Mapping[str, Any]) -> None:
    """Place the fleet's models: in the order of priority, first where they were before, then where they do best."""
    carriers: dict[tuple[Wish, int], list[Room]] = {}
    for room in rooms:
        if room.plan.problems or room.unmet:
            continue
        for rank, wish in enumerate(wishes_of(room.host, room.chooser.catalogue)):
            if wish.replicas is not None:
                carriers.setdefault((wish, rank), []).append(room)
    order = sorted(carriers, key=lambda one: (one[1], one[0].model, str(one[0].replicas)))
    auto = {id(room) for room in rooms if room.host.wishes["lab_models"] == "auto"}
    elsewhere = [kept for one in lab.hosts.values() for kept in one.kept.get("workers", ())]
    for wish, rank in order:
        hosts = carriers[wish, rank]
        keep(wish, hosts, before)
    for wish, rank in order:
        hosts = carriers[wish, rank]
        there = sum(one.replica and one.model == wish.model for room in hosts for one in room.plan.workers)
        there += sum(bool(one.get("replica")) and one["model"] == wish.model for one in elsewhere)
        placed = there + spread_out(wish, hosts, there)
        if wish.replicas != FIT and placed < int(wish.replicas or 0) and not all(id(room) in auto for room in hosts):
            why = next((why for room in hosts if (why := room.want(wish)[1])), None)
            lab.problems.append(
                why or finding("LW-FIT-006", model=wish.model, wanted=wish.replicas, placed=placed, hosts=len(hosts))
            )


def keep(wish: Wish, rooms: Sequence[Room], before: Mapping[str, Any]) -> None:
    """Replicas of the last plan stay on their cards, as they were, where they still fit."""
    count = sum(one.replica and one.model == wish.model for room in rooms for one in room.plan.workers)
    for room in rooms:
        for old in before.get("hosts", {}).get(room.host.name, {}).get("workers", ()):
            full = wish.replicas != FIT and count >= int(wish.replicas or 0)
            if full or not old.get("replica") or old["model"] != wish.model or old["context"] != wish.tokens:
                continue
            where = same_place(wish, room, old)
            if where is not None:
                room.add(wish, where, replica=True)
                count += 1


def same_place(wish: Wish, room: Room, old: Mapping[str, Any]) -> Placement | None:
    """Where an old worker was, if there is still room for it."""
    want, _why = room.want(wish)
    if want is None or (old["device"] == "cuda") != bool(room.gpus):
        return None
    level = next((one for one in want.levels if old["quantization"] in memory.LEVELS[one.rank]), None)
    by_uuid = {gpu.uuid: at for at, gpu in enumerate(room.gpus)}
    slots = tuple(by_uuid.get(one["uuid"], -1) for one in old["gpus"]) if room.gpus else (0,)
    if level is None or len(slots) != 1 or slots[0] not in want.slots or room.slots[slots[0]].free < level.need:
        return None
    return Placement(level, slots, level.need)


def spread_out(wish: Wish, rooms: Sequence[Room], there: int) -> int:
    """New replicas, each where it does best: the best quality, the emptiest of equals, the tightest room, by name."""
    most = None if wish.replicas == FIT else int(wish.replicas or 0) - there
    heap: list[tuple[Any, ...]] = []
    wants: dict[str, Want] = {}
    by_name = {room.host.name: room for room in rooms}
    for name, room in by_name.items():
        want, _why = room.want(wish)
        if want is not None:
            wants[name] = want
            for at in sorted(want.slots):
                offer(heap, wish, room, want, at)
    placed = 0
    while heap and (most is None or placed < most):
        key = heapq.heappop(heap)
        name, at = key[-2], key[-1]
        room, want = by_name[name], wants[name]
        fresh: list[tuple[Any, ...]] = []
        offer(fresh, wish, room, want, at)
        if not fresh:
            continue
        if fresh[0] != key:
            heapq.heappush(heap, fresh[0])
            continue
        level = next(one for one in want.levels if one.rank == key[0])
        room.add(wish, Placement(level, (at,), level.need), replica=True)
        placed += 1
        offer(heap, wish, room, want, at)
    return placed


def offer(heap: list[tuple[Any, ...]], wish: Wish, room: Room, want: Want, at: int) -> None:
    """Put a card's best offer for one more replica on the heap, if it has one."""
    free = room.slots[at].free
    level = next((one for one in want.levels if one.need <= free), None)
    copies = [one for one in room.plan.workers if one.model == wish.model]
    if level is None or (not room.gpus and copies):  # two copies of a model on one CPU take each other's time
        return
    uuid = room.gpus[at].uuid if room.gpus else ""
    here = sum(uuid in [gpu.uuid for gpu in one.gpus] for one in copies)
    heapq.heappush(heap, (level.rank, here, len(copies), free - level.need, room.host.name, at))


# --- names, ports, and the last checks -------------------------------------------------------------------------------


def finish(plan: HostPlan, host: Host, catalogue: Catalogue) -> None:
    """Names and ports of the workers, the disk, and what is worth a note."""
    if plan.hardware is None:
        return
    taken = {int(host.wishes[f"lab_{duty}_port"]) for duty in ("controller", "api") if duty in plan.duties}
    others = foreign(host, plan.hardware)
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
        worker.port = port
        taken.add(port)
    if max(taken, default=0) > 65535:
        plan.problems.append(finding("LW-PLAN-011", port=max(taken)))
    note_unused_waivers(plan, host)
    check_disk(plan, host, catalogue)
    known = builds.newest_driver(plan.hardware.platform, catalogue.torch)
    if version(plan.hardware.driver_version)[:1] > known:
        plan.notes.append(finding("LW-GPU-014", driver=plan.hardware.driver_version, known=".".join(map(str, known))))
    if plan.hardware.source == "seen":
        for gpu in plan.hardware.gpus:
            if gpu.foreign_mib > gpu.memory_mib * memory.MARGIN:
                plan.notes.append(finding("LW-GPU-013", name=gpu.name, index=gpu.index, used=gpu.foreign_mib))


def check_disk(plan: HostPlan, host: Host, catalogue: Catalogue) -> None:
    """Room for the models and environments that are not there yet: an estimate, before anything is fetched."""
    hardware = plan.hardware
    assert hardware is not None
    root = str(host.wishes["lab_root"])
    new_models = {worker.model for worker in plan.workers if f"{root}/models/{worker.model}" not in hardware.present}
    models = sum(memory.files_mib(catalogue.models[model]) for model in sorted(new_models))
    kinds = {f"{root}/envs/{worker.stack}-{worker.build.tag}-": worker.device for worker in plan.workers}
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
    """Who talks to whom. An agent asks the API on its own host where there is one: it works when the network does not."""
    hosts = {host.name: host for host in fleet}
    control = hosts.get(lab.controller)
    for name, plan in lab.hosts.items():
        host = hosts[name]
        if control:
            plan.controller_url = f"http://{control.address}:{control.wishes['lab_controller_port']}"
        if "controller" in plan.duties:
            plan.controller = {"host": host.address, "port": int(host.wishes["lab_controller_port"])}
        if "api" in plan.duties:
            plan.api = {"host": host.address, "port": int(host.wishes["lab_api_port"])}
        if lab.apis:
            nearest = host if "api" in plan.duties else hosts[lab.apis[0]]
            plan.api_url = f"http://{nearest.address}:{nearest.wishes['lab_api_port']}/v1"
        if "agent" in plan.duties and lab.apis:
            plan.endpoints = [{"model": model, "base_url": plan.api_url} for model in lab.served]


def note_unused_waivers(plan: HostPlan, host: Host) -> None:
    """A waiver that overruled nothing is worth taking out again."""
    used = {one["rule"] for one in plan.waivers}
    plan.notes += [
        finding("LW-PLAN-027", rule=one["rule"]) for one in host.wishes["lab_waivers"] if one["rule"] not in used
    ]
