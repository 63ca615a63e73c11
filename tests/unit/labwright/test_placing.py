"""labwright.placing: every wish before any quality, the order of the wishes, spreading, and what holds for any host."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labwright.placing import SPLIT_SHARE, Level, Placement, Slot, Want, place

# Ranks as in memory.LEVELS: fp32, 16 bits, int8, int4. Needs are small numbers that stay in proportion.
CHAT = (Level(1, 13), Level(2, 8), Level(3, 5))
SMALL = (Level(1, 4), Level(2, 3))
WIDE = (Level(1, 13, shared=12, each=1), Level(2, 8), Level(3, 5))


def want(levels: tuple[Level, ...], slots: int | Iterable[int], cards: int = 0) -> Want:
    """A want that may use these slots, or so many from the first."""
    return Want(levels, cards, frozenset(range(slots) if isinstance(slots, int) else slots))


def ranks(found: Sequence[Placement]) -> list[int]:
    return [one.level.rank for one in found]


def where(found: Sequence[Placement]) -> list[tuple[int, ...]]:
    return [one.slots for one in found]


def cards(*free: int, kind: str = "8.6") -> tuple[Slot, ...]:
    return tuple(Slot(one, kind) for one in free)


# --- all wishes first, then quality, in their order -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free", "wants", "levels"),
    [
        ((13,), [CHAT], [1]),
        ((12,), [CHAT], [2]),
        ((7,), [CHAT], [3]),
        ((4,), [CHAT], []),
        ((16,), [CHAT, CHAT], [2, 2]),  # not one at its best and none of the other
        ((15,), [CHAT, CHAT], [2, 3]),
        ((12,), [CHAT, CHAT], [3, 3]),
        ((9,), [CHAT, CHAT], [3]),  # while the second has no room, the first stays at its worst
        ((21,), [CHAT, CHAT], [1, 2]),  # the first of the list is the first to get better
        ((8,), [CHAT, SMALL], [3, 2]),
        ((9,), [CHAT, SMALL], [3, 2]),  # the second would fit better, and waits for the first
        ((8, 4), [CHAT, SMALL], [2, 2]),  # also on a card of its own
        ((11,), [CHAT, SMALL], [2, 2]),
        ((13, 8), [CHAT, CHAT], [1, 2]),
        ((8, 13), [CHAT, CHAT], [1, 2]),
        ((13, 13), [CHAT, CHAT], [1, 1]),
        ((13, 4), [CHAT, SMALL], [1, 1]),
        ((13, 3), [CHAT, SMALL], [1, 2]),
        ((17, 5), [CHAT, SMALL, CHAT], [2, 2, 2]),
        ((), [CHAT], []),
        ((99,), [], []),
    ],
)
def test_all_wishes_come_before_quality_and_the_first_before_the_others(
    free: tuple[int, ...], wants: list[tuple[Level, ...]], levels: list[int]
) -> None:
    assert ranks(place(tuple(want(one, len(free)) for one in wants), cards(*free))) == levels


@pytest.mark.parametrize(
    ("first", "second", "levels"), [(CHAT, SMALL, [2, 2]), (SMALL, CHAT, [2, 2])], ids=["chat first", "small first"]
)
def test_the_worst_level_gets_better_first(
    first: tuple[Level, ...], second: tuple[Level, ...], levels: list[int]
) -> None:
    assert ranks(place((want(first, 1), want(second, 1)), cards(11))) == levels


@pytest.mark.parametrize(("order", "levels"), [((0, 1), [1, 2]), ((1, 0), [1, 2])])
def test_who_stands_first_decides_who_gets_better(order: tuple[int, int], levels: list[int]) -> None:
    both = (Level(1, 10), Level(2, 6)), (Level(1, 11), Level(2, 6))
    first, second = (both[at] for at in order)
    assert ranks(place((want(first, 1), want(second, 1)), cards(17))) == levels


def test_a_wish_without_room_holds_back_those_after_it_and_none_before_it() -> None:
    assert ranks(place((want(SMALL, 1), want(CHAT, 1), want(SMALL, 1)), cards(7))) == [2]


def test_a_further_wish_that_finds_room_costs_the_first_no_quality() -> None:
    wants = (want(SMALL, 1), want((Level(1, 4),), 1))
    assert [ranks(place(wants, cards(free))) for free in (2, 3, 6, 7, 8)] == [[], [2], [2], [2, 1], [1, 1]]


def test_a_model_goes_into_the_tightest_room() -> None:
    assert where(place((want((Level(1, 5),), 3),), cards(9, 6, 5))) == [(2,)]


def test_a_large_model_finds_its_card_though_a_small_one_was_wished_first() -> None:
    assert where(place((want((Level(1, 4),), 2), want((Level(1, 9),), 2)), cards(9, 8))) == [(1,), (0,)]


def test_a_wish_goes_only_where_it_has_a_build() -> None:
    assert where(place((want(CHAT, [1]), want(CHAT, [0])), (Slot(13, "7.0"), Slot(5, "8.6")))) == [(1,), (0,)]
    assert place((want(CHAT, []),), cards(99)) == ()


# --- over several cards -----------------------------------------------------------------------------------------------


def test_one_card_is_taken_where_one_will_do() -> None:
    assert where(place((want(WIDE, 2),), cards(13, 13))) == [(0,)]


def test_a_model_is_spread_where_no_single_card_holds_it_as_well() -> None:
    assert place((want(WIDE, 2),), cards(10, 10)) == (Placement(WIDE[0], (0, 1), 7),)


def test_a_model_is_spread_over_as_few_as_hold_it() -> None:
    assert where(place((want(WIDE, 4),), cards(6, 10, 6, 10))) == [(1, 3)]
    assert where(place((want(WIDE, 3),), cards(6, 6, 6))) == [(0, 1, 2)]


def test_cards_of_a_spread_model_are_its_own() -> None:
    assert where(place((want(WIDE, 3), want(SMALL, 3)), cards(10, 10, 4))) == [(0, 1), (2,)]
    assert ranks(place((want(WIDE, 2), want(SMALL, 2)), cards(10, 10))) == [2, 2]


@pytest.mark.parametrize(
    "slots",
    [
        (Slot(10, "8.6"), Slot(10, "8.6", whole=False)),
        (Slot(10, "8.6"), Slot(10, "8.6", mig=True)),
        (Slot(10, "8.6"), Slot(10, "7.5")),
        (Slot(10, "8.6"), Slot(5, "8.6")),
        (Slot(10, "8.6"),),
    ],
    ids=["used", "mig", "kinds", "small", "alone"],
)
def test_a_model_is_spread_over_whole_untouched_cards_of_one_kind_only(slots: tuple[Slot, ...]) -> None:
    assert ranks(place((want(WIDE, len(slots)),), slots)) == [2]
    assert place((want(WIDE[:1], len(slots)),), slots) == ()


def test_of_two_kinds_the_one_that_holds_it_is_taken() -> None:
    slots = (Slot(6, "8.6"), Slot(10, "7.5"), Slot(6, "8.6"), Slot(10, "7.5"))
    assert where(place((want(WIDE[:1], 4),), slots)) == [(1, 3)]


def test_a_level_that_cannot_be_shared_is_not_spread() -> None:
    assert place((want(CHAT[:1], 2),), cards(12, 12)) == ()


@pytest.mark.parametrize(
    ("asked", "free", "slots"),
    [
        (1, (10, 10), []),
        (1, (10, 13), [(1,)]),
        (2, (13, 13), [(0, 1)]),
        (2, (10, 10, 10), [(0, 1)]),
        (3, (10, 10, 10), [(0, 1, 2)]),
        (3, (10, 10), []),
        (2, (6, 6, 6), []),
    ],
)
def test_as_many_cards_as_were_asked_for(asked: int, free: tuple[int, ...], slots: list[tuple[int, ...]]) -> None:
    assert where(place((want(WIDE[:1], len(free), asked),), cards(*free))) == slots


def test_a_spread_model_leaves_the_large_card_to_the_one_that_needs_it() -> None:
    wants = (want((Level(1, 12, shared=10, each=2),), 3, cards=2), want((Level(1, 11),), 3))
    assert where(place(wants, cards(12, 9, 9))) == [(1, 2), (0,)]


def test_a_mig_device_is_used_where_the_whole_cards_are_wanted_together() -> None:
    spread = want((Level(1, 8, shared=6, each=2),), 3, cards=2)
    slots = (Slot(9, "8.0"), Slot(9, "8.0", mig=True), Slot(9, "8.0"))
    assert where(place((spread, want((Level(1, 9),), 3)), slots)) == [(0, 2), (1,)]


@pytest.mark.parametrize("third", [6, 9])
def test_more_memory_on_one_card_takes_no_other_card_from_a_wish(third: int) -> None:
    wants = (want(WIDE[:1], 4), want((Level(1, 10),), 4))
    assert where(place(wants, cards(6, 6, third, 10))) == [(0, 1, 2), (3,)]


# --- any wishes on any host -------------------------------------------------------------------------------------------

KINDS = ("7.5", "8.6")


@st.composite
def levels_of(draw: st.DrawFn) -> tuple[Level, ...]:
    """One to three levels, the better the larger; those with 16 bits and more can be spread, or none can."""
    some = sorted(draw(st.sets(st.integers(0, 3), min_size=1, max_size=3)))
    needs = sorted(draw(st.sets(st.integers(1, 14), min_size=len(some), max_size=len(some))), reverse=True)
    shares = draw(st.booleans())
    found = []
    for rank, need in zip(some, needs, strict=True):
        each = draw(st.integers(0, need - 1))
        spread = shares and rank < 2
        found.append(Level(rank, need, need - each if spread else 0, each if spread else 0))
    return tuple(found)


@st.composite
def hosts(draw: st.DrawFn, spreading: bool = True) -> tuple[tuple[Want, ...], tuple[Slot, ...]]:
    """Up to three wishes and four slots. Cards of one kind have a build for a wish, or none of them has."""
    slot = st.builds(
        Slot,
        st.integers(0, 15),
        st.sampled_from(KINDS),
        st.sampled_from([True, True, False]),
        st.sampled_from([False, False, True]),
    )
    slots = tuple(draw(st.lists(slot, max_size=4)))
    wants = []
    for levels in draw(st.lists(levels_of(), min_size=1, max_size=3)):
        kinds = draw(st.sets(st.sampled_from(KINDS), min_size=1))
        own = frozenset(at for at, one in enumerate(slots) if one.kind in kinds)
        single = tuple(replace(one, shared=0, each=0) for one in levels)
        number = draw(st.sampled_from([0, 0, 1, 2, 3])) if spreading else draw(st.sampled_from([0, 1]))
        wants.append(Want(levels if spreading else single, number, own))
    return tuple(wants), slots


Case = tuple[tuple[Want, ...], tuple[Slot, ...]]
patient = settings(deadline=None, max_examples=200)


@patient
@given(hosts())
def test_no_slot_is_given_away_twice_and_every_placement_is_one_that_was_allowed(case: Case) -> None:
    wants, slots = case
    found = place(wants, slots)
    assert len(found) <= len(wants)
    taken = [0] * len(slots)
    users: Counter[int] = Counter(at for one in found for at in one.slots)
    for one, wish in zip(found, wants, strict=False):
        assert one.level in wish.levels
        assert set(one.slots) <= wish.slots
        assert len(set(one.slots)) == len(one.slots)
        assert len(one.slots) == wish.cards or not wish.cards
        for at in one.slots:
            taken[at] += one.each
        if len(one.slots) == 1:
            assert one.each == one.level.need
            continue
        assert one.each * len(one.slots) >= one.level.shared + one.level.each * len(one.slots)
        assert len({slots[at].kind for at in one.slots}) == 1
        for at in one.slots:
            assert slots[at].whole
            assert not slots[at].mig
            assert users[at] == 1
            assert one.each <= slots[at].free * SPLIT_SHARE
    assert all(held <= slot.free for held, slot in zip(taken, slots, strict=True))


@patient
@given(hosts(), st.data())
def test_more_memory_never_places_fewer_and_makes_no_wish_worse(case: Case, data: st.DataObject) -> None:
    wants, slots = case
    more = tuple(replace(one, free=one.free + data.draw(st.integers(0, 6))) for one in slots)
    before, after = place(wants, slots), place(wants, more)
    assert len(after) >= len(before)
    assert all(new <= old for new, old in zip(ranks(after), ranks(before), strict=False))


@patient
@given(hosts(), st.data())
def test_the_order_of_the_slots_does_not_matter(case: Case, data: st.DataObject) -> None:
    wants, slots = case
    order = data.draw(st.permutations(range(len(slots))))
    moved = tuple(replace(one, slots=frozenset(order.index(at) for at in one.slots)) for one in wants)
    assert ranks(place(moved, tuple(slots[at] for at in order))) == ranks(place(wants, slots))


@patient
@given(hosts())
def test_the_same_question_has_the_same_answer(case: Case) -> None:
    assert place.__wrapped__(*case) == place.__wrapped__(*case)


@patient
@given(hosts(spreading=False))
def test_without_spreading_it_is_as_good_as_trying_everything(case: Case) -> None:
    wants, slots = case
    found = place(wants, slots)

    def fits(levels: Sequence[Level]) -> bool:
        return any(
            all(
                sum(one.need for one, at in zip(levels, spots, strict=True) if at == slot) <= slots[slot].free
                for slot in set(spots)
            )
            for spots in itertools.product(*(sorted(one.slots) for one in wants[: len(levels)]))
        )

    if len(found) < len(wants):
        assert not fits([one.levels[-1] for one in wants[: len(found) + 1]])
        assert [one.level for one in found] == [one.levels[-1] for one in wants[: len(found)]]
        return
    chosen = [one.level for one in found]
    for number, wish in enumerate(wants[: len(found)]):
        for better in wish.levels[: wish.levels.index(chosen[number])]:
            if better.rank >= max(one.rank for one in chosen):
                assert not fits([*chosen[:number], better, *chosen[number + 1 :]])
