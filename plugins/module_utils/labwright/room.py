"""One host while models are being placed on it: its stacks, builds, levels and the room on its cards."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from packaging.specifiers import SpecifierSet

from labwright import builds, memory
from labwright.builds import Build, Choice, Question, Rejected
from labwright.catalog import FASTCHAT, Catalogue, Engine, Stack
from labwright.hardware import Gpu, Hardware, version
from labwright.inventory import TOKENS, Wish
from labwright.placing import SPLIT_SHARE, Level, Placement, Slot, Want, place
from labwright.planned import NEW, Explained, HostPlan, Worker
from labwright.wishes import Host
from labwright.words import Finding, finding

BF16_SINCE = (8, 0)  # compute capability
CPU_SHARE = 0.9  # of a host's memory may hold models
STEP = 256  # tokens; a shorter context is advised in whole ones


class Chooser:
    """Choices that many hosts share, each made once: stacks by model, builds by question, levels by wish."""

    def __init__(self, catalogue: Catalogue) -> None:
        """All from one catalogue."""
        self.catalogue = catalogue
        self.stacks: dict[tuple[Any, ...], tuple[Stack | None, Explained]] = {}
        self.choices: dict[Question, Choice] = {}
        self.levels: dict[tuple[Any, ...], tuple[Level, ...]] = {}
        self.windows: dict[tuple[str, str], bool] = {}

    def stack(
        self, model: str, platform: str, waived: frozenset[str], wish: str, engine: str
    ) -> tuple[Stack | None, Explained]:
        """The engine's stack whose transformers the model's own code works with: the one wished for ("" for none), or
        one with locks first, then the newest."""
        key = (model, platform, waived, wish, engine)
        if key not in self.stacks:
            self.stacks[key] = self._stack(*key)
        return self.stacks[key]

    def _stack(
        self, model: str, platform: str, waived: frozenset[str], wish: str, engine: str
    ) -> tuple[Stack | None, Explained]:
        window = self.window(model, engine)
        serving = [one for one in self.catalogue.serving if one.engine == engine]
        allowed = [one for one in serving if wish in ("", one.name)]
        fits = [one for one in allowed if one.transformers in SpecifierSet(window)]
        overruled = not fits and "LW-STACK-001" in waived
        best = max(
            fits or (allowed if overruled else []),
            key=lambda one: (self.has_locks(one, platform), version(one.transformers)),
            default=None,
        )

        def against(one: Stack) -> Finding:
            if one not in allowed:
                return finding("LW-STACK-005", wish=wish)
            if one not in fits:
                return finding("LW-STACK-001", model=model, window=window, found=one.transformers)
            return finding("LW-STACK-003", other=best.name if best else "")

        rejected = tuple(Rejected(one.name, against(one)) for one in serving if one is not best)
        if best is None:
            known = [f"{one.name} ({one.transformers})" for one in allowed]
            reason = finding("LW-STACK-002", model=model, window=window, known=known)
            return None, Explained("stack", "-", reason, rejected)
        values = {"model": model, "transformers": best.transformers, "python": best.python}
        if engine != FASTCHAT:
            return best, Explained("engine", engine, finding("WHY-ENGINE", engine=engine, **values), rejected)
        reason = finding("WHY-STACK-WAIVED" if overruled else "WHY-STACK", window=window, **values)
        return best, Explained("stack", best.name, reason, rejected)

    def window(self, model: str, engine: str) -> str:
        """The transformers that a model works with; any, where the engine itself says that it has the model."""
        if self.catalogue.engines[engine].models is not None:
            return ""
        return str(self.catalogue.models[model]["transformers"]["window"])

    def outside(self, model: str, stack: Stack) -> bool:
        """Whether a stack's transformers is outside the model's window, so that only a waiver brought it."""
        key = (model, stack.name)
        if key not in self.windows:
            self.windows[key] = stack.transformers not in SpecifierSet(self.window(model, stack.engine))
        return self.windows[key]

    @staticmethod
    def has_locks(stack: Stack, platform: str) -> bool:
        """Whether anything of a stack can be installed on a platform."""
        return any(one == platform for one, _build in stack.locked)

    def build(self, question: Question) -> Choice:
        """The torch build."""
        if question not in self.choices:
            self.choices[question] = builds.choose(question, self.catalogue.torch)
        return self.choices[question]

    def level(self, wish: Wish, device: str, spread: bool, engine: Engine) -> tuple[Level, ...]:
        """Levels of a wish on a device, best first, with what they need."""
        key = (wish.model, wish.quantization, wish.tokens, device, spread, engine.name)
        if key not in self.levels:
            entry = self.catalogue.models[wish.model]
            self.levels[key] = tuple(
                level_of(entry, rank, kind, wish.tokens, device, spread)
                for rank, kinds in enumerate(memory.LEVELS)
                if (kind := next((one for one in kinds if offered(one, entry, wish, device, engine)), ""))
            )
        return self.levels[key]


def offered(kind: str, entry: Mapping[str, Any], wish: Wish, device: str, engine: Engine) -> bool:
    """Whether a quantisation can be had: FastChat computes in fp32 on the CPU, and packs to int8 on either device."""
    if kind not in engine.quantizations:
        return False
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


def kind_of(rank: int, wish: Wish, entry: Mapping[str, Any], gpus: Sequence[Gpu], device: str) -> str:
    """The quantisation of a level: of the two with 16 bits, bf16 where the weights and all cards have it."""
    kinds = memory.LEVELS[rank]
    if len(kinds) == 1 or wish.quantization in kinds:
        return wish.quantization if wish.quantization in kinds else kinds[0]
    modern = all(version(one.compute_capability) >= BF16_SINCE for one in gpus)
    bf16 = device == "cuda" and modern and "bf16" in entry["quantizations"]
    return "bf16" if bf16 or "fp16" not in entry["quantizations"] else "fp16"


@dataclass(frozen=True)
class Offer:
    """How a wish could be had on a host: its stack, and the terms in which ``placing`` thinks."""

    wish: Wish
    want: Want
    stack: Stack
    explained: Explained


class Room:
    """One host's cards (or its memory) while models are being placed."""

    def __init__(self, host: Host, plan: HostPlan, hardware: Hardware, chooser: Chooser) -> None:
        """``plan`` gets the workers and the problems."""
        self.host, self.plan, self.hardware, self.chooser = host, plan, hardware, chooser
        self.gpus = hardware.gpus if host.wishes["lab_device"] != "cpu" else ()
        self.device = "cuda" if self.gpus else "cpu"
        self.engine = chooser.catalogue.engines[host.wishes["lab_engine"]]
        waivers = host.wishes["lab_waivers"] if host.wishes["lab_level"] == "forced" else []
        self.waivers = {one["rule"]: one["reason"] for one in waivers}
        if self.gpus:
            self.slots = [
                Slot(memory.usable_mib(one.memory_mib, one.foreign_mib), self.kind_of_card(one), True, one.mig)
                for one in self.gpus
            ]
        else:
            total = hardware.memory_mib or 1 << 30  # not known: not the plan's to refuse
            self.slots = [Slot(int(total * CPU_SHARE), "cpu")]
        self.copies: Counter[tuple[str, int]] = Counter()  # of a model on a card
        self.offers: dict[Wish, Offer | Finding] = {}
        self.unmet: list[Offer] = []

    def kind_of_card(self, gpu: Gpu) -> str:
        """Cards of one kind can share a model; an engine that is told one share for all of them needs one size too."""
        return f"{gpu.compute_capability} {gpu.memory_mib}" if self.engine.reserves else gpu.compute_capability

    def offer(self, wish: Wish) -> Offer | Finding:
        """How a wish could be had here; or why it cannot, whatever the room."""
        if wish not in self.offers:
            self.offers[wish] = self._offer(wish)
        return self.offers[wish]

    def against(self, wish: Wish) -> Finding | None:
        """Why the engine cannot serve a wish here, whatever the room."""
        engine, values = self.engine, {"engine": self.engine.name, "model": wish.model}
        if self.hardware.platform not in engine.platforms:
            return finding("LW-ENGINE-003", **values, platform=self.hardware.platform, has=list(engine.platforms))
        if self.device not in engine.devices:
            return finding("LW-ENGINE-004", **values)
        newest = max((gpu.compute_capability for gpu in self.gpus), key=version, default="")
        if self.gpus and version(newest) < version(engine.capability):
            return finding("LW-ENGINE-005", **values, least=engine.capability, found=newest)
        if not engine.has(wish.model):
            row = (engine.models or {}).get(wish.model, {"why": "-"})
            known = [name for name in sorted(self.chooser.catalogue.models) if engine.has(name)]
            return finding("LW-ENGINE-006", **values, why=row["why"].rstrip("."), known=known)
        if wish.quantization not in ("auto", *engine.quantizations):
            return finding("LW-ENGINE-007", **values, wish=wish.quantization, has=list(engine.quantizations))
        if wish.gpus > 1 and self.divides(wish) % wish.gpus:
            return finding("LW-ENGINE-008", **values, gpus=wish.gpus, divides=self.divides(wish))
        return None

    def divides(self, wish: Wish) -> int:
        """What the number of cards must divide (0: any): the attention heads, and the width of the layers between."""
        shape = self.chooser.catalogue.models[wish.model]["shape"]
        heads = int(shape["hidden"]) // int(shape["head_size"])  # so in every model of the catalogue
        return math.gcd(heads, int(shape["feed_forward"])) if self.engine.heads else 0

    def _offer(self, wish: Wish) -> Offer | Finding:
        if wrong := self.against(wish):
            return wrong
        stack, explained = self.chooser.stack(
            wish.model,
            self.hardware.platform,
            frozenset(self.waivers),
            self.host.wishes["lab_stack"],
            self.engine.name,
        )
        if stack is None:
            return explained.because
        if self.hardware.glibc and version(self.hardware.glibc) < version(stack.glibc):
            return finding("LW-STACK-006", stack=stack.name, least=stack.glibc, found=self.hardware.glibc)
        choices = {at: self.choice(stack, at) for at in range(len(self.slots)) if self.able(at)}
        usable = [at for at, one in choices.items() if one.build]
        if not usable:
            return next(iter(choices.values())).because
        for at, one in choices.items():
            if at not in usable and one.because not in self.plan.notes:
                self.plan.notes.append(one.because)
        several = self.hardware.platform == "linux-64" and len(self.slots) > 1
        levels = self.chooser.level(wish, self.device, several, self.engine)
        if wish.gpus > 1:
            kinds = Counter(self.slots[at].kind for at in usable if not self.slots[at].mig)
            levels = tuple(one for one in levels if one.shared)
            if not levels or max(kinds.values(), default=0) < wish.gpus:
                return finding("LW-FIT-007", model=wish.model, gpus=wish.gpus, platform=self.hardware.platform)
        if wish.quantization == "bf16":
            usable = [at for at in usable if self.gpus and self.has_bf16(at)]
        if not levels or not usable:
            return finding("LW-FIT-005", model=wish.model, wish=wish.quantization, device=self.device)
        return Offer(wish, Want(levels, wish.gpus, frozenset(usable), self.divides(wish)), stack, explained)

    def able(self, at: int) -> bool:
        """Whether the engine runs on a card."""
        return not self.gpus or version(self.gpus[at].compute_capability) >= version(self.engine.capability)

    def has_bf16(self, at: int) -> bool:
        """Whether a card computes in bf16."""
        return version(self.gpus[at].compute_capability) >= BF16_SINCE

    def choice(self, stack: Stack, at: int) -> Choice:
        """The build for one slot, and so for all cards of its kind."""
        platform = self.hardware.platform
        question = Question(
            platform=platform,
            python=stack.python,
            admits=stack.torch,
            driver=self.hardware.driver_version if self.gpus else "",
            announced=self.hardware.cuda_announced if self.gpus else "",
            capabilities=(self.gpus[at].compute_capability,) if self.gpus else (),
            level=str(self.host.wishes["lab_level"]),
            waived=frozenset(self.waivers),
            locked=frozenset(label for one, label in stack.locked if one == platform),
        )
        return self.chooser.build(question)

    def serve(self, wishes: Sequence[Wish]) -> None:
        """The wishes of this very host: as many as there is room for, in their order."""
        found = [self.offer(wish) for wish in wishes if wish.replicas is None]
        wrong = [one for one in found if isinstance(one, Finding)]
        self.plan.problems += [one for at, one in enumerate(wrong) if one not in wrong[:at]]
        if wrong:
            return
        offers = [one for one in found if isinstance(one, Offer)]
        placed = place(tuple(one.want for one in offers), tuple(self.slots))
        for offer, where in zip(offers, placed, strict=False):
            self.add(offer, where, replica=False)
        self.unmet = offers[len(placed) :]

    def add(self, offer: Offer, where: Placement, *, replica: bool, order: int = NEW) -> None:
        """Take the room and note the worker; ``order`` is its place in the last plan."""
        wish, stack = offer.wish, offer.stack
        gpus = tuple(self.gpus[at] for at in where.slots) if self.gpus else ()
        choice = self.choice(stack, where.slots[0])
        build = choice.build or Build("", "")  # an offer has only slots with a build
        quantization = self.kind(wish, where.level.rank, gpus)
        for rule in choice.waived:
            self.waive(rule, build.label)
        if self.chooser.outside(wish.model, stack):
            self.waive("LW-STACK-001", stack.name)
        room = self.slots[where.slots[0]].free
        for at in where.slots:
            free = self.slots[at].free - where.each if len(where.slots) == 1 else 0
            self.slots[at] = replace(self.slots[at], free=free, whole=False)
            self.copies[wish.model, at] += 1
        self.plan.workers.append(
            Worker(
                engine=self.engine.name,
                model=wish.model,
                aliases=wish.aliases,
                stack=stack.name,
                python=stack.python,
                build=build,
                quantization=quantization,
                device=self.device,
                gpus=gpus,
                each_mib=where.each,
                tokens=wish.tokens,
                replica=replica,
                order=order,
                explain=(
                    offer.explained,
                    Explained("torch", build.label, choice.because, choice.rejected),
                    self.why(offer, quantization, where, room, kept=order != NEW),
                ),
            )
        )

    def waive(self, rule: str, value: str) -> None:
        """Note a waiver that was used."""
        row = {"rule": rule, "reason": self.waivers[rule], "value": value}
        if row not in self.plan.waivers:
            self.plan.waivers.append(row)

    def why(self, offer: Offer, quantization: str, where: Placement, room: int, *, kept: bool) -> Explained:
        """Why this quantisation, and on so many cards; and what each better one would have needed."""
        wish = offer.wish
        values = {
            "model": wish.model,
            "quantization": quantization,
            "need": where.each,
            "room": room,
            "tokens": wish.tokens,
            "cards": len(where.slots),
        }
        if not self.gpus:
            reason = "WHY-CPU-ASKED" if self.hardware.gpus else "WHY-CPU"
        elif len(where.slots) > 1:
            reason = "WHY-SPREAD-ASKED" if wish.gpus else "WHY-SPREAD"
        else:
            reason = "WHY-ASKED" if wish.quantization != "auto" else "WHY-BEST"
        better = [one for one in offer.want.levels if one.rank < where.level.rank]
        waits = "LW-FIT-008"
        if kept and any(one.need <= room for one in better):
            reason, waits = "WHY-KEPT", "LW-FIT-009"
        elif not self.gpus and not self.hardware.memory_mib:
            values["room"] = "?"
        if reason in ("WHY-BEST", "WHY-CPU", "WHY-CPU-ASKED") and any(one.need <= room for one in better):
            reason = "WHY-ORDER"
        return Explained(
            "quantization",
            quantization,
            finding(reason, **values),
            tuple(
                Rejected(
                    self.kind(wish, one.rank, self.gpus),
                    finding("LW-FIT-003" if one.need > room else waits, model=wish.model, need=one.need, room=room),
                )
                for one in better
            ),
        )

    def share(self) -> None:
        """How many conversations each worker holds at a time: one is in its need, more go into what is left of its
        card, shared evenly by those on it. An engine that takes its memory at its start takes it for all of them."""
        most, shared = self.engine.conversations, self.engine.shared
        on_card = Counter(gpu.uuid for worker in self.plan.workers for gpu in worker.gpus)
        left = {gpu.uuid: slot.free for gpu, slot in zip(self.gpus, self.slots, strict=False)}
        for worker in self.plan.workers:
            entry = self.chooser.catalogue.models[worker.model]
            each = memory.conversation_mib(entry, worker.quantization, worker.tokens, worker.device, shared=shared)
            free = [left[gpu.uuid] // on_card[gpu.uuid] for gpu in worker.gpus]
            if self.engine.reserves and len(free) > 1:  # it has its cards for itself
                free = [memory.usable_mib(gpu.memory_mib, gpu.foreign_mib) - worker.each_mib for gpu in worker.gpus]
            room = min(free) if free else self.slots[0].free // len(self.plan.workers)
            worker.concurrency = max(1, min(most, 1 + max(0, room) // max(1, each)))
            if self.engine.reserves:
                worker.each_mib += (worker.concurrency - 1) * each
                worker.share = max(memory.share_of(worker.each_mib, gpu.memory_mib) for gpu in worker.gpus)
            reason = finding("WHY-CONCURRENCY", model=worker.model, each=each, room=max(0, room), most=most)
            worker.explain += (Explained("concurrency", str(worker.concurrency), reason),)

    def state(self) -> tuple[Any, ...]:
        """What ``back`` needs to undo all that was added since."""
        return list(self.slots), Counter(self.copies), len(self.plan.workers), len(self.plan.waivers)

    def back(self, state: tuple[Any, ...]) -> None:
        """Undo."""
        self.slots, self.copies = list(state[0]), Counter(state[1])
        del self.plan.workers[state[2] :], self.plan.waivers[state[3] :]

    def largest(self) -> int:
        """The most room that one card still has; 0 on a CPU host."""
        return max((slot.free for slot in self.slots), default=0) if self.gpus else 0

    def least(self, offer: Offer) -> tuple[int, int]:
        """What a wish needs at its lowest level, and the room that there is for it; of each card, where it was asked
        over several."""
        low, count = offer.want.levels[-1], offer.wish.gpus
        if count <= 1:
            return low.need, max(self.slots[at].free for at in offer.want.slots)
        free: dict[str, list[int]] = {}
        for slot in (self.slots[at] for at in offer.want.slots):
            if slot.whole and not slot.mig:
                free.setdefault(slot.kind, []).append(slot.free)
        each = -(-low.shared // count) + low.each
        room = max((sorted(one)[-count] for one in free.values() if len(one) >= count), default=0)
        return math.ceil(each / SPLIT_SHARE), room

    def complain(self, roomy: Sequence[tuple[int, str, Collection[str]]]) -> None:
        """A problem for each wish of this host that found no room, with the cheapest ways out. ``roomy`` are the hosts
        by their largest room, with the models that they serve."""
        for number, offer in enumerate(self.unmet):
            wish, want = offer.wish, offer.want
            need, room = self.least(offer)
            if number and need <= room:
                self.plan.problems.append(finding("LW-FIT-002", model=wish.model, other=self.unmet[0].wish.model))
                continue
            one_card = roomy if wish.gpus <= 1 else ()
            hosts = [name for free, name, models in one_card if free >= need and wish.model not in models][:3]
            smaller, shorter, others = self.smaller(wish, room), self.shorter(wish, room), self.others(wish)
            ways = [
                *([finding("WAY-SMALLER", model=wish.model, smaller=smaller)] if smaller else []),
                *([finding("WAY-CONTEXT", model=wish.model, tokens=shorter)] if shorter else []),
                *([finding("WAY-HOST", hosts=hosts)] if hosts else []),
            ] or [self.larger(offer, need)]
            if others and not smaller:
                ways.append(finding("WAY-MODEL", models=others, host=self.host.name))
            self.plan.problems.append(
                finding(
                    "LW-FIT-011" if wish.gpus > 1 else "LW-FIT-001",
                    model=wish.model,
                    wish=wish.quantization,
                    least=self.kind(wish, want.levels[-1].rank, self.gpus),
                    need=need,
                    room=room,
                    total=max((self.gpus[at].memory_mib for at in want.slots), default=0)
                    if self.gpus
                    else self.hardware.memory_mib,
                    tokens=wish.tokens,
                    gpus=wish.gpus,
                    ways=ways,
                )
            )

    def larger(self, offer: Offer, need: int) -> Finding:
        """What a host would have to have for a wish that needs so much."""
        if not self.gpus:
            return finding("WAY-MEMORY", need=need)
        if offer.wish.gpus > 1:
            return finding("WAY-CARDS", gpus=offer.wish.gpus, need=memory.card_mib(need))
        return finding("WAY-CARD", need=memory.card_mib(need))

    def smaller(self, wish: Wish, room: int) -> str:
        """A smaller quantisation on one card that would fit; "" for none."""
        if wish.gpus > 1:
            return ""
        auto = replace(wish, quantization="auto")
        levels = self.chooser.level(auto, self.device, spread=False, engine=self.engine)
        fits = [one for one in levels if one.need <= room]
        return f"quantization: {self.kind(auto, fits[0].rank, self.gpus)}" if fits else ""

    def shorter(self, wish: Wish, room: int) -> int:
        """The longest context that would fit, of those between the usual one and the wish's; 0 for none."""

        def need(tokens: int) -> int:
            offer = self.offer(replace(wish, tokens=tokens))
            return self.least(offer)[0] if isinstance(offer, Offer) else room + 1

        steps = range(TOKENS, wish.tokens, STEP)
        fitting = bisect_right(steps, room, key=need)
        return steps[fitting - 1] if fitting else 0

    def others(self, wish: Wish) -> list[str]:
        """Other models that would fit now in a wish's place, the largest first; not one that comes with Labwright and
        is for its demo, nor one that is here."""
        rows = self.chooser.catalogue.models
        there = {wish.model, *(one.model for one in self.plan.workers)}
        notes = list(self.plan.notes)
        offers = [
            self.offer(Wish(name, tokens=wish.tokens, gpus=wish.gpus))
            for name, row in rows.items()
            if name not in there and "bundled" not in row and int(row["context_length"]) >= wish.tokens
        ]
        self.plan.notes[:] = notes  # what was only asked about is not worth a note
        rooms = [(one.wish.model, *self.least(one)) for one in offers if isinstance(one, Offer)]
        fits = [name for name, need, room in rooms if need <= room]
        return sorted(fits, key=lambda one: (-int(rows[one]["parameters"]), one))

    def kind(self, wish: Wish, rank: int, gpus: Sequence[Gpu]) -> str:
        """A level's name on this host."""
        return kind_of(rank, wish, self.chooser.catalogue.models[wish.model], gpus, self.device)
