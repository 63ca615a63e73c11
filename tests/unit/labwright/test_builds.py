"""labwright.builds: the torch build for a driver and a card, at the known thresholds and for any of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from labwright import builds
from labwright.builds import Build, Choice, Question
from labwright.hardware import version
from unit.labwright.made_up import TABLE, ids, real

LINUX, WINDOWS = "linux-64", "win-64"
REAL = real().torch
CHATGLM2 = real().stacks["chatglm2"]


def ask(driver: str, capability: str, platform: str = LINUX, **more: object) -> Question:
    """What the plan asks for ChatGLM2 on one kind of card."""
    settled = {"python": CHATGLM2.python, "admits": CHATGLM2.torch, **more}
    return Question(platform, driver=driver, capabilities=(capability,) if capability else (), **settled)  # type: ignore[arg-type]


def choose(driver: str, capability: str, platform: str = LINUX, **more: object) -> Choice:
    return builds.choose(ask(driver, capability, platform, **more), REAL)


def label(choice: Choice) -> str:
    return choice.build.label if choice.build else choice.because.id


# --- known thresholds ------------------------------------------------------------------------------------------------

T4, RTX_5090 = "7.5", "12.0"


@pytest.mark.parametrize(
    ("platform", "driver", "t4", "rtx_5090"),
    [
        # CUDA 11: 450.80.02 and 452.39
        (LINUX, "450.80.01", "LW-TORCH-007", "LW-TORCH-007"),
        (LINUX, "450.80.02", "2.7.1+cu118", "LW-TORCH-007"),
        (LINUX, "450.80.03", "2.7.1+cu118", "LW-TORCH-007"),
        (WINDOWS, "452.38", "LW-TORCH-007", "LW-TORCH-007"),
        (WINDOWS, "452.39", "2.7.1+cu118", "LW-TORCH-007"),
        (WINDOWS, "452.40", "2.7.1+cu118", "LW-TORCH-007"),
        # CUDA 12: 525.60.13 and 528.33
        (LINUX, "525.60.12", "2.7.1+cu118", "LW-TORCH-007"),
        (LINUX, "525.60.13", "2.12.1+cu126", "2.11.0+cu128"),
        (LINUX, "525.60.14", "2.12.1+cu126", "2.11.0+cu128"),
        (WINDOWS, "528.32", "2.7.1+cu118", "LW-TORCH-007"),
        (WINDOWS, "528.33", "2.12.1+cu126", "2.11.0+cu128"),
        (WINDOWS, "528.34", "2.12.1+cu126", "2.11.0+cu128"),
        # CUDA 13: 580.65.06 and 580.0
        (LINUX, "580.65.05", "2.12.1+cu126", "2.11.0+cu128"),
        (LINUX, "580.65.06", "2.13.0+cu130", "2.13.0+cu130"),
        (LINUX, "580.65.07", "2.13.0+cu130", "2.13.0+cu130"),
        (WINDOWS, "579.99", "2.12.1+cu126", "2.11.0+cu128"),
        (WINDOWS, "580.0", "2.12.1+cu130", "2.12.1+cu130"),
        (WINDOWS, "580.1", "2.12.1+cu130", "2.12.1+cu130"),
        # A part with fewer digits is not less: 99 < 100, 9 < 60
        (LINUX, "525.9.99", "2.7.1+cu118", "LW-TORCH-007"),
        (LINUX, "525.100.1", "2.12.1+cu126", "2.11.0+cu128"),
        (WINDOWS, "1000.1", "2.12.1+cu130", "2.12.1+cu130"),
    ],
)
def test_each_major_of_cuda_begins_exactly_at_its_driver(platform: str, driver: str, t4: str, rtx_5090: str) -> None:
    assert label(choose(driver, T4, platform)) == t4
    assert label(choose(driver, RTX_5090, platform)) == rtx_5090


@pytest.mark.parametrize(
    ("card", "capability", "driver", "level", "expected"),
    [
        ("V100", "7.0", "580.65.06", "compatible", "2.12.1+cu126"),
        ("V100", "7.0", "595.45.04", "strict", "2.12.1+cu126"),
        ("K80", "3.7", "470.57.02", "compatible", "2.7.1+cu118"),
        ("GTX 1080 Ti", "6.1", "580.65.06", "compatible", "2.12.1+cu126"),
        ("RTX 5090", "12.0", "570.26", "compatible", "2.11.0+cu128"),
        ("RTX 5090", "12.0", "570.26", "strict", "2.11.0+cu128"),
        ("RTX 5090", "12.0", "595.45.04", "compatible", "2.13.0+cu130"),
        ("RTX 3060", "8.6", "535.104.05", "compatible", "2.12.1+cu126"),
        ("RTX 3060", "8.6", "535.104.05", "strict", "2.7.1+cu118"),
        ("RTX 4090", "8.9", "550.54.14", "strict", "2.7.1+cu118"),
        ("H100", "9.0", "525.60.13", "compatible", "2.12.1+cu126"),
        ("B300", "10.3", "580.65.06", "compatible", "2.13.0+cu130"),
    ],
)
def test_known_cards_on_known_drivers(card: str, capability: str, driver: str, level: str, expected: str) -> None:
    assert label(choose(driver, capability, level=level)) == expected


def test_a_v100_never_gets_a_build_that_dropped_it() -> None:
    choice = choose("580.65.06", "7.0")
    against = {row.value: row.why for row in choice.rejected}
    assert against["2.13.0+cu130"].id == "LW-TORCH-003"
    assert against["2.11.0+cu128"].id == "LW-TORCH-003"
    assert choice.build is not None
    cu13 = [one for one in admissible(ask("580.65.06", "7.0")) if one.tag.startswith("cu13")]
    late = [one for one in admissible(ask("580.65.06", "7.0")) if one.tag == "cu128" and version(one.torch) >= (2, 11)]
    assert (cu13, late) == ([], [])


def test_strict_takes_no_build_whose_cuda_the_driver_does_not_announce() -> None:
    choice = choose("535.104.05", "8.6", level="strict")
    assert choice.build is not None
    assert builds.toolkit(choice.build.tag) <= (12, 2)
    against = {row.value: row.why for row in choice.rejected}
    assert against["2.12.1+cu126"].sentence() == (
        "cu126 is CUDA 12.6, the driver 535.104.05 announces 12.2, and lab_level is strict."
    )


def test_what_the_driver_itself_announces_counts_before_the_table() -> None:
    assert label(choose("535.104.05", "8.6", level="strict", announced="12.6")) == "2.12.1+cu126"
    assert label(choose("580.65.06", "8.6", level="strict", announced="12.6")) == "2.12.1+cu126"


def test_minor_version_compatibility_is_said_where_the_choice_lives_on_it() -> None:
    assert choose("535.104.05", "8.6").because.id == "WHY-TORCH-MINOR"
    assert choose("560.28.03", "8.6").because.id == "WHY-TORCH-NATIVE"


def test_a_driver_too_old_for_every_build_is_told_the_cheapest_way_out() -> None:
    choice = choose("440.33", T4)
    assert choice.build is None
    assert choice.because.say() == {
        "id": "LW-TORCH-007",
        "message": "No torch build runs on driver 440.33 for compute capability 7.5.",
        "fix": "Install driver 450.80.02 or newer; then torch 2.7.1+cu118 runs. Or set lab_device: cpu.",
    }
    (cu118,) = [row for row in choice.rejected if row.value.endswith("+cu118")]
    assert cu118.why.id == "LW-TORCH-004"
    assert cu118.why.sentence() == "cu118 needs driver ≥ 450.80.02, found 440.33."
    assert cu118.why.values == {"tag": "cu118", "floor": "450.80.02", "driver": "440.33"}


def test_every_tag_but_the_chosen_one_says_why_it_was_not_taken() -> None:
    choice = choose("535.104.05", "8.6")
    tags = {tag for release in REAL.releases for tag in release.tags if tag not in ("cpu", "cu126")}
    assert {row.value.split("+")[1] for row in choice.rejected} == tags
    assert all(row.why.id.startswith("LW-TORCH-") and row.why.sentence() for row in choice.rejected)


def test_a_waiver_overrules_only_the_rule_that_it_names() -> None:
    waived = frozenset({"LW-TORCH-004"})
    choice = choose("440.33", T4, level="forced", waived=waived)
    assert choice.build is not None
    assert choice.waived == ("LW-TORCH-004",)
    assert label(choose("440.33", T4, level="compatible", waived=waived)) == "LW-TORCH-007"
    assert label(choose("440.33", T4, level="forced", waived=frozenset({"LW-TORCH-003"}))) == "LW-TORCH-007"
    assert choose("535.104.05", T4, level="forced", waived=waived).waived == (), (
        "a build without need of it comes first"
    )


def test_a_waiver_of_the_architecture_lets_a_card_without_code_through() -> None:
    assert label(choose("580.65.06", "3.0")) == "LW-TORCH-009"
    assert choose("580.65.06", "3.0", level="forced", waived=frozenset({"LW-TORCH-003"})).waived == ("LW-TORCH-003",)


def test_no_waiver_makes_a_wheel() -> None:
    question = replace(ask("580.65.06", T4, level="forced"), python="3.9", waived=frozenset({"LW-TORCH-002"}))
    assert builds.choose(question, REAL).build is None


def test_a_build_with_a_lock_comes_before_a_newer_one() -> None:
    assert label(choose("", "")) == "2.13.0+cpu"
    locked = choose("580.65.06", T4, locked=frozenset({"2.6.0+cu126"}))
    assert label(locked) == "2.6.0+cu126"
    assert label(choose("580.65.06", T4, locked=frozenset({"9.9.9+cu126"}))) == "2.13.0+cu130"


def test_cards_that_share_a_build_must_all_have_code_in_it() -> None:
    question = replace(ask("580.65.06", "7.0"), capabilities=("7.0", "8.6"))
    assert label(builds.choose(question, REAL)) == "2.12.1+cu126"
    assert label(builds.choose(replace(question, capabilities=("3.7", "12.0")), REAL)) == "LW-TORCH-009"


# --- every rule ------------------------------------------------------------------------------------------------------


def rejected(choice: Choice) -> set[str]:
    return {row.why.id for row in choice.rejected}


@pytest.mark.parametrize(
    ("question", "rule"),
    [
        (ask("580.65.06", T4, admits=">=2.10"), "LW-TORCH-001"),
        (ask("580.65.06", T4), "LW-TORCH-002"),
        (ask("580.65.06", "7.0"), "LW-TORCH-003"),
        (ask("535.104.05", T4), "LW-TORCH-004"),
        (ask("535.104.05", T4, level="strict"), "LW-TORCH-005"),
        (ask("580.65.06", T4), "LW-TORCH-006"),
    ],
)
def test_each_rule_speaks_against_some_build(question: Question, rule: str) -> None:
    choice = builds.choose(question, REAL)
    assert choice.build is not None
    assert rule in rejected(choice)


@pytest.mark.parametrize(
    ("question", "rule"),
    [
        (ask("440.33", T4), "LW-TORCH-007"),
        (ask("460.27.03", "3.7", level="strict"), "LW-TORCH-008"),
        (ask("525.60.13", "12.0", level="strict"), "LW-TORCH-008"),  # cu128 runs there, as lab_level compatible
        (ask("580.65.06", "3.5"), "LW-TORCH-009"),
        (ask("580.65.06", "3.7", admits=">=2.8"), "LW-TORCH-009"),
        (ask("", "", python="3.9"), "LW-TORCH-010"),
        (ask("", "", admits=">=99"), "LW-TORCH-010"),
    ],
)
def test_where_nothing_fits_the_reason_names_the_cause_and_the_way_out(question: Question, rule: str) -> None:
    choice = builds.choose(question, REAL)
    assert (choice.build, choice.because.id) == (None, rule)
    assert choice.because.say()["fix"]
    assert choice.rejected
    assert ids(row.why for row in choice.rejected)


def test_a_windows_driver_without_a_row_of_its_own_is_read_from_the_branch_of_the_linux_one() -> None:
    assert builds.announced(ask("570.65", T4, WINDOWS), TABLE) == (12, 8)
    assert builds.announced(ask("569.99", T4, WINDOWS), TABLE) == (12, 6)
    assert builds.announced(ask("400.1", T4, WINDOWS), TABLE) == ()


@pytest.mark.parametrize(
    ("sm", "capability", "expected"),
    [
        ({86}, "8.9", True),
        ({86}, "8.0", False),
        ({60}, "6.1", True),
        ({90}, "10.0", False),
        ({100}, "10.3", True),
        ({100}, "12.0", False),
        ({120}, "12.1", True),
        ({37}, "3.5", False),
        (set(), "8.6", False),
    ],
)
def test_native_code_runs_on_its_own_architecture_from_its_minor_on(
    sm: set[int], capability: str, expected: bool
) -> None:
    assert builds.covers(sm, capability) is expected


@pytest.mark.parametrize(("tag", "cuda"), [("cu118", (11, 8)), ("cu126", (12, 6)), ("cu130", (13, 0))])
def test_a_tag_is_a_cuda_version(tag: str, cuda: tuple[int, int]) -> None:
    assert builds.toolkit(tag) == cuda
    assert builds.spoken(tag) == ".".join(map(str, cuda))


# --- any driver, any card --------------------------------------------------------------------------------------------

platforms = st.sampled_from([LINUX, WINDOWS])
pythons = st.sampled_from(["3.9", "3.10", "3.11", "3.12", "3.13", "3.14"])
capabilities = st.sampled_from(
    [
        *("3.0", "3.5", "3.7", "5.0", "5.2", "6.0", "6.1", "7.0", "7.5", "8.0"),
        *("8.6", "8.7", "8.9", "9.0", "10.0", "10.3", "11.0", "12.0", "12.1", "13.0"),
    ]
)
branches = st.sampled_from([390, 418, 440, 450, 452, 460, 470, 510, 520, 525, 528, 535, 550, 560, 570, 580, 595, 610])
drivers = st.builds(
    "{}.{}.{:02}".format, branches | st.integers(300, 700), st.integers(0, 120), st.integers(0, 99)
) | st.sampled_from(
    sorted(
        {str(driver) for row in (*REAL.floors.values(), *REAL.announced) for driver in row.drivers.values() if driver}
    )
)
levels = st.sampled_from(["strict", "compatible", "forced"])
questions = st.builds(
    Question,
    platform=platforms,
    python=pythons,
    admits=st.sampled_from([">=2.0", ">=2.4", "<2.8", "==2.7.1", ">=2.0,<2.13"]),
    driver=drivers,
    capabilities=st.lists(capabilities, max_size=3, unique=True).map(lambda found: tuple(sorted(found))),
    level=levels,
)


def admissible(question: Question) -> set[Build]:
    """Every build that no rule speaks against."""
    return {
        Build(release.torch, tag, release.torchvision)
        for release in REAL.releases
        for tag in release.tags
        if (tag == "cpu") == (not question.capabilities) and not builds.against(release, tag, question, REAL)
    }


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.filter_too_much])
@given(question=questions)
def test_a_build_is_held_by_the_catalogue_has_code_for_every_card_and_runs_on_the_driver(question: Question) -> None:
    build = builds.choose(question, REAL).build
    assume(build is not None)
    assert build is not None
    assert (build.torch, build.tag, question.platform, question.python) in REAL.wheels
    assert (build.tag == "cpu") == (not question.capabilities), "the CPU build is for hosts without cards alone"
    if build.tag != "cpu":
        sm = REAL.architectures[build.torch, build.tag]
        majors = [tuple(map(int, one.split("."))) for one in question.capabilities]
        assert all(any(one // 10 == major and one % 10 <= minor for one in sm) for major, minor in majors)
        floor = REAL.floors[int(build.tag[2:4])].drivers[question.platform]
        assert floor is not None
        assert version(question.driver) >= version(floor)


@settings(deadline=None, max_examples=300)
@given(question=questions)
def test_the_choice_is_one_that_no_rule_speaks_against_and_there_is_one_where_there_can_be(question: Question) -> None:
    choice = builds.choose(question, REAL)
    options = admissible(question)
    assert (choice.build in options) if choice.build else not options
    assert choice == builds.choose(question, REAL)


@settings(deadline=None, max_examples=300)
@given(question=questions, newer=drivers)
def test_a_newer_driver_never_loses_an_option(question: Question, newer: str) -> None:
    older, newer = sorted((question.driver, newer), key=version)
    before, after = admissible(replace(question, driver=older)), admissible(replace(question, driver=newer))
    assert before <= after


@settings(deadline=None, max_examples=300)
@given(question=questions, newer=drivers)
def test_a_newer_driver_never_gets_an_older_torch(question: Question, newer: str) -> None:
    older, newer = sorted((question.driver, newer), key=version)
    before = builds.choose(replace(question, driver=older), REAL).build
    after = builds.choose(replace(question, driver=newer), REAL).build
    if before:
        assert after is not None
        assert version(after.torch) >= version(before.torch)


@settings(deadline=None, max_examples=200)
@given(question=questions)
def test_strict_admits_no_more_than_compatible(question: Question) -> None:
    assert admissible(replace(question, level="strict")) <= admissible(replace(question, level="compatible"))
    assert admissible(replace(question, level="forced")) == admissible(replace(question, level="compatible"))


@settings(deadline=None, max_examples=200)
@given(question=questions)
def test_every_rejection_has_an_id_and_words_in_both_languages(question: Question) -> None:
    choice = builds.choose(question, REAL)
    for one in (choice.because, *(row.why for row in choice.rejected)):
        for language in ("en", "zh"):
            words = one.sentence(language)
            assert words
            assert "{" not in words
