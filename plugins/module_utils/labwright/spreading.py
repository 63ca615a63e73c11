"""Models with replicas, over the whole fleet: first where they were, then where they do best.

Numbers come before ``fit``, and within each the order of ``lab_models`` counts. All numbers first, then quality: where
the best quality leaves no room for another wish, all replicas are placed again one level lower.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from labwright import memory
from labwright.inventory import FIT, Wish, alike, wishes_of
from labwright.placing import Level, Placement, spread
from labwright.planned import Fleet
from labwright.room import Offer, Room
from labwright.words import Finding, finding

PINNED = ("order", "model", "context", "quantization", "device", "gpus")  # of a worker, for the next plan
MOST_ON_A_CARD = 8  # copies of one model; CUDA gives them turns, so more only wait for each other
MOST_ON_A_CPU = 1  # they take each other's time


@dataclass
class Group:
    """One model that the fleet shall have: ``count`` copies (None: as many as fit) on the hosts that carry the wish."""

    wish: Wish
    count: int | None
    rank: int
    demanded: bool = False  # by a person; `auto` takes what it gets
    members: dict[str, tuple[Room, Offer]] = field(default_factory=dict)
    refused: list[tuple[Room, Finding]] = field(default_factory=list)
    kept: int = 0

    @property
    def model(self) -> str:
        """The model's name."""
        return self.wish.model

    @property
    def missing(self) -> int:
        """How many more copies are wanted; 0 for ``fit``."""
        return max(0, (self.count or 0) - self.kept)

    def was(self, row: Mapping[str, Any]) -> bool:
        """Whether a worker of the last plan was one of these."""
        same = row["model"] == self.model and row["context"] == self.wish.tokens
        asked = self.wish.quantization in ("auto", row["quantization"])
        return same and asked and max(1, len(row["gpus"])) == max(1, self.wish.gpus)

    def full(self) -> bool:
        """Whether no more copies are wanted."""
        return self.count is not None and self.kept >= self.count


def fill(lab: Fleet, rooms: Sequence[Room], before: Mapping[str, Any]) -> None:
    """Place the fleet's models, and note which numbers could not be reached."""
    groups = groups_of(rooms)
    elsewhere = [row for one in lab.hosts.values() for row in one.kept.get("workers", ()) if row["replica"]]
    old = {name: {row["order"]: row for row in rows} for name, rows in before.get("placed", {}).items()}
    # Who asks for one quantisation takes back his own first: whoever takes any may have another's.
    for group in sorted(groups, key=lambda one: one.wish.quantization == "auto"):
        theirs = [row for row in elsewhere if group.was(row)][: group.count]
        elsewhere = [row for row in elsewhere if row not in theirs]
        group.kept = len(theirs)
        keep(group, old)
    numbers = [group for group in groups if group.count is not None]
    placed = place_numbers(numbers, rooms)
    for group in groups:
        if group.count is None and spread_out(group, None, best=0) + group.kept == 0:
            no_room(group)
        for room, why in group.refused:
            if why not in room.plan.notes:
                room.plan.notes.append(why)
    for room in rooms:  # names and ports go by this order: those of before first, as they stood
        room.plan.workers.sort(key=lambda one: (one.replica, one.order))
    for group, count in zip(numbers, placed, strict=True):
        if group.demanded and group.count is not None and group.kept + count < group.count:
            missing = finding(
                "LW-FIT-006",
                model=group.model,
                wanted=group.count,
                placed=group.kept + count,
                hosts=len(group.members) + len(group.refused),
            )
            lab.problems.append(group.refused[0][1] if group.refused and not group.members else missing)
    lab.placed = dict(before.get("placed", {})) if lab.problems else pins_of(lab, rooms)


def pins_of(lab: Fleet, rooms: Sequence[Room]) -> dict[str, list[dict[str, Any]]]:
    """Where the fleet's models are, for the next plan. One that is not met is not carried out, so it pins nothing."""
    found = {}
    for name, one in lab.hosts.items():
        rows = [row for row in one.kept.get("workers", ()) if row["replica"]]
        if rows:
            found[name] = [{key: row[key] for key in PINNED} for row in rows]
    for room in rooms:
        rows = [
            {
                "order": at,
                "model": one.model,
                "context": one.tokens,
                "quantization": one.quantization,
                "device": one.device,
                "gpus": [{"uuid": gpu.uuid} for gpu in one.gpus],
            }
            for at, one in enumerate(room.plan.workers)
            if one.replica
        ]
        if rows:
            found[room.host.name] = rows
    return found


def no_room(group: Group) -> None:
    """``fit`` that places nothing is no fault, and worth knowing."""
    for room, offer in group.members.values():
        if any(one.model == group.model for one in room.plan.workers):
            continue  # by another wish: a number, or its own
        need, free = room.least(offer)
        room.plan.notes.append(finding("LW-FIT-010", model=group.model, need=need, room=free))


def groups_of(rooms: Sequence[Room]) -> list[Group]:
    """The fleet's wishes by model, by priority. A host that has no room for its own wishes takes no part."""
    found: dict[tuple[Wish, str], Group] = {}
    for room in rooms:
        if room.plan.problems or room.unmet:
            continue
        for rank, wish in enumerate(wishes_of(room.host, room.chooser.catalogue)):
            if wish.replicas is None:
                continue
            count = None if wish.replicas == FIT else int(wish.replicas)
            group = found.setdefault((alike(wish), str(wish.replicas)), Group(wish, count, rank))
            group.rank = min(group.rank, rank)
            group.demanded |= room.host.wishes["lab_models"] != "auto"
            offer = room.offer(wish)
            if isinstance(offer, Finding):
                group.refused.append((room, offer))
            else:
                group.members.setdefault(room.host.name, (room, offer))
    return sorted(found.values(), key=lambda one: (one.count is None, one.rank, one.model))


def keep(group: Group, old: Mapping[str, dict[int, Mapping[str, Any]]]) -> None:
    """Replicas of the last plan stay on their cards, as they were, where they still fit; each is kept once."""
    for name, (room, offer) in sorted(group.members.items()):
        for at, row in list(old.get(name, {}).items()):
            if group.full() or not group.was(row):
                continue
            where = same_place(room, offer, row)
            if where is not None:
                room.add(offer, where, replica=True, order=at)
                del old[name][at]
                group.kept += 1


def same_place(room: Room, offer: Offer, row: Mapping[str, Any]) -> Placement | None:
    """Where an old worker was, if it may be there still and there is room for it."""
    if (row["device"] == "cuda") != bool(room.gpus):
        return None
    level = next((one for one in offer.want.levels if row["quantization"] in memory.LEVELS[one.rank]), None)
    at_uuid = {gpu.uuid: at for at, gpu in enumerate(room.gpus)}
    slots = tuple(at_uuid.get(one["uuid"], -1) for one in row["gpus"]) if room.gpus else (0,)
    if level is None or not set(slots) <= offer.want.slots:
        return None
    if len(slots) > 1:
        only = replace(offer.want, cards=len(slots), slots=frozenset(slots))
        free, whole = [one.free for one in room.slots], [one.whole for one in room.slots]
        return next(iter(spread(level, only, tuple(room.slots), free, whole)), None)
    return Placement(level, slots, level.need) if room.slots[slots[0]].free >= level.need else None


def place_numbers(groups: Sequence[Group], rooms: Sequence[Room]) -> list[int]:
    """New copies of each model that has a number, at the best quality at which most of what is demanded is there."""
    before = [room.state() for room in rooms]

    def place(best: int) -> list[int]:
        for room, state in zip(rooms, before, strict=True):
            room.back(state)
        return [spread_out(one, one.missing, best) for one in groups]

    demanded = [at for at, one in enumerate(groups) if one.demanded and one.members]
    wanted = sum(groups[at].missing for at in demanded)
    tries: list[tuple[int, int]] = []
    for best in range(len(memory.LEVELS)):
        placed = place(best)
        there = sum(placed[at] for at in demanded)
        if there >= wanted:
            return placed
        tries.append((there, -best))
    return place(-max(tries)[1])


def spread_out(group: Group, most: int | None, best: int) -> int:
    """New copies, each where it does best: a card before a CPU, whose fp32 is the better quality and many times slower;
    then the quality, the emptiest of equals, the tightest room, the host's name. ``best`` is the best level that may be
    taken; a model that has none as low takes its lowest."""
    heap: list[tuple[Any, ...]] = []
    for room, offer in group.members.values():
        for at in sorted(offer.want.slots) if offer.wish.gpus <= 1 else [-1]:
            heap += bid(room, offer, at, best)
    heapq.heapify(heap)
    placed = 0
    while heap and (most is None or placed < most):
        key = heapq.heappop(heap)
        *_, host, at = key
        room, offer = group.members[host]
        fresh = bid(room, offer, at, best)
        if fresh == [key]:
            where = placement(room, offer, at, best)
            if where is not None:
                room.add(offer, where, replica=True)
                placed += 1
            fresh = bid(room, offer, at, best)
        for one in fresh:
            heapq.heappush(heap, one)
    return placed


def bid(room: Room, offer: Offer, at: int, best: int) -> list[tuple[Any, ...]]:
    """A card's (-1: a host's) bid for one more copy, the lowest wins; none where there is no room."""
    where = placement(room, offer, at, best)
    if where is None:
        return []
    here = max(room.copies[offer.wish.model, one] for one in where.slots)
    left = room.slots[where.slots[0]].free - where.each
    on_host = sum(room.copies[offer.wish.model, one] for one in range(len(room.slots)))
    return [(not room.gpus, where.level.rank, here, on_host, left, room.host.name, at)]


def placement(room: Room, offer: Offer, at: int, best: int) -> Placement | None:
    """Where one more copy would go on a card, or over several of the host's."""
    for level in allowed(offer.want.levels, best):
        if at < 0:
            free, whole = [one.free for one in room.slots], [one.whole for one in room.slots]
            found = spread(level, offer.want, tuple(room.slots), free, whole)
            if found:
                return found[0]
        elif level.need <= room.slots[at].free:
            most = MOST_ON_A_CARD if room.gpus else MOST_ON_A_CPU
            return Placement(level, (at,), level.need) if room.copies[offer.wish.model, at] < most else None
    return None


def allowed(levels: Sequence[Level], best: int) -> list[Level]:
    """The levels that are not better than ``best``, or the lowest."""
    return [one for one in levels if one.rank >= best] or [levels[-1]]
