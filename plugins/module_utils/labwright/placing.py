"""Which model goes onto which GPU of a host, and how well: all wishes first, then quality, in the order of the wishes.

From "every model at its smallest" the wishes are improved one step at a time, the first wish first, the worst level
first. That makes one chain of states of ever more memory, and the plan takes the last state that fits. So more memory
never makes a model worse, and a later wish is never dropped to make an earlier one prettier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

NODES = 4_000  # of the search for one state; more models and cards than that on one host: not found counts as no room
# FastChat fills a card of several to this share by itself; the rest is for what it does not count.
SPLIT_SHARE = 0.85


@dataclass(frozen=True)
class Slot:
    """A card, a MIG device, or the host's memory: what of it may be given away, in MiB."""

    free: int
    kind: str = ""  # cards of one kind are alike to every wish
    whole: bool = True  # nothing of ours on it yet
    mig: bool = False


@dataclass(frozen=True)
class Level:
    """One quality of one wish: its place in ``memory.LEVELS`` (0 best), its need on one card, and, where it can be
    spread over several, what is shared and what each card needs besides. MiB."""

    rank: int
    need: int
    shared: int = 0
    each: int = 0


@dataclass(frozen=True)
class Want:
    """A model: its levels, best first; how many cards (0: as few as do); the slots that have a build for it; and what
    the number of cards must divide (0: it may be any)."""

    levels: tuple[Level, ...]
    cards: int
    slots: frozenset[int]
    divides: int = 0


@dataclass(frozen=True)
class Placement:
    """One wish, placed: its level and its slots. ``each`` is what it takes of every one of them, in MiB."""

    level: Level
    slots: tuple[int, ...]
    each: int


@lru_cache(maxsize=4096)
def place(wants: tuple[Want, ...], slots: tuple[Slot, ...]) -> tuple[Placement, ...]:
    """A placement for each wish, or for as many from the front as there is room for."""
    for count in range(len(wants), 0, -1):
        # Where one has no room at all, the others are placed at their worst: quality is for when all are there.
        states = chain(wants) if count == len(wants) else chain(wants[:count])[:1]
        for state in reversed(states):
            found = pack([want.levels[at] for want, at in zip(wants, state, strict=False)], wants[:count], slots)
            if found:
                return found
    return ()


def chain(wants: Sequence[Want]) -> list[tuple[int, ...]]:
    """States from all worst to all best; each state is an index into each wish's levels."""
    state = [len(want.levels) - 1 for want in wants]
    found = [tuple(state)]
    for rank in range(max((want.levels[-1].rank for want in wants), default=0), -1, -1):
        for number, want in enumerate(wants):
            while state[number] > 0 and want.levels[state[number] - 1].rank >= rank:
                state[number] -= 1
                found.append(tuple(state))
    return found


def pack(levels: Sequence[Level], wants: Sequence[Want], slots: tuple[Slot, ...]) -> tuple[Placement, ...]:
    """All levels on the slots, or nothing. Exact up to ``NODES`` tries; large ones first, into the tightest room."""
    order = sorted(range(len(levels)), key=lambda one: (-levels[one].need, one))
    placed: dict[int, Placement] = {}
    free = [slot.free for slot in slots]
    whole = [slot.whole for slot in slots]
    nodes = 0

    def put(depth: int) -> bool:
        nonlocal nodes
        nodes += 1
        if depth == len(order):
            return True
        if nodes > NODES:
            return False
        one = order[depth]
        for choice in choices(levels[one], wants[one], slots, free, whole):
            before = [(at, free[at], whole[at]) for at in choice.slots]
            for at in choice.slots:
                free[at], whole[at] = (free[at] - choice.each if len(choice.slots) == 1 else 0), False
            placed[one] = choice
            if put(depth + 1):
                return True
            for at, room, untouched in before:
                free[at], whole[at] = room, untouched
        return False

    return tuple(placed[one] for one in range(len(levels))) if put(0) else ()


def choices(
    level: Level, want: Want, slots: tuple[Slot, ...], free: Sequence[int], whole: Sequence[bool]
) -> list[Placement]:
    """Where a wish could go: on one card, the tightest first; or spread over cards that it then has for itself."""
    found = []
    if want.cards in (0, 1):
        seen = set()
        for at in sorted(want.slots, key=lambda one: (free[one], one)):
            alike = (free[at], whole[at], slots[at].kind, slots[at].mig)
            if level.need <= free[at] and alike not in seen:
                seen.add(alike)
                found.append(Placement(level, (at,), level.need))
    if want.cards != 1 and level.shared:
        found += spread(level, want, slots, free, whole)
    return found


def spread(
    level: Level, want: Want, slots: tuple[Slot, ...], free: Sequence[int], whole: Sequence[bool]
) -> list[Placement]:
    """Over the fewest untouched cards of one kind that hold it together, the tightest first."""
    cards = [at for at in sorted(want.slots, key=lambda one: (free[one], one)) if whole[at] and not slots[at].mig]
    found = []
    for kind in dict.fromkeys(slots[at].kind for at in cards):
        alike = [at for at in cards if slots[at].kind == kind]
        for count in [want.cards] if want.cards else range(2, len(alike) + 1):
            if want.divides % count:
                continue
            each = -(-level.shared // count) + level.each
            # The smallest card of a set decides, so a set is a run of neighbours in size.
            runs = [alike[start : start + count] for start in range(len(alike) - count + 1)]
            found += [
                Placement(level, tuple(sorted(run)), each) for run in runs if int(free[run[0]] * SPLIT_SHARE) >= each
            ]
    return sorted(found, key=lambda one: (len(one.slots), sum(free[at] for at in one.slots)))
