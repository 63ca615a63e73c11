"""labwright.memory: the formula against published figures, and what must hold for every model."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labwright import memory
from unit.labwright.made_up import real

MODELS = real().models
CHATGLM2 = MODELS["chatglm2-6b"]
DEMO = MODELS["labwright-demo"]
PUBLISHED = CHATGLM2["published_memory"]
BEST_TO_WORST = {"cuda": ("fp32", "bf16", "fp16", "int8", "int4"), "cpu": ("fp32", "int8")}

models = st.sampled_from(sorted(MODELS))
tokens = st.integers(1, 32768)
cases = st.sampled_from([(device, kind) for device, kinds in BEST_TO_WORST.items() for kind in kinds])


def test_the_published_figures_are_those_of_chatglm2() -> None:
    figures = {key: value for key, value in PUBLISHED.items() if key != "source"}
    assert figures == {"unit": "GiB", "tokens": 2048, "fp16": 13.1, "int8": 8.2, "int4": 5.5}


@pytest.mark.parametrize("quantization", ["fp16", "int8", "int4"])
def test_chatglm2_needs_what_its_authors_measured(quantization: str) -> None:
    found = memory.needed_mib(CHATGLM2, quantization, PUBLISHED["tokens"], "cuda") / 1024
    assert found == pytest.approx(PUBLISHED[quantization], rel=0.05)
    assert found == pytest.approx(PUBLISHED[quantization], rel=0.02), "the module says less than 2 %"


@pytest.mark.parametrize(("device", "most"), [("cpu", 700), ("cuda", 800)])
def test_the_demo_model_needs_little_more_than_its_runtime(device: str, most: int) -> None:
    assert memory.RUNTIME_MIB[device] < memory.needed_mib(DEMO, "fp32", 2048, device) < most
    assert memory.files_mib(DEMO) == 1


def test_the_files_are_as_large_as_their_index_says() -> None:
    assert memory.files_mib(CHATGLM2) == round(12487168064 / memory.MIB)


@given(models, cases, tokens, tokens)
def test_more_tokens_never_need_less(name: str, case: tuple[str, str], one: int, other: int) -> None:
    device, kind = case
    few, many = (memory.needed_mib(MODELS[name], kind, count, device) for count in sorted((one, other)))
    assert few <= many


@given(models, st.sampled_from(["cuda", "cpu"]), tokens)
def test_of_what_a_model_can_be_had_as_the_better_never_needs_less(name: str, device: str, count: int) -> None:
    offered = ("fp32", *MODELS[name]["quantizations"])
    needs = [memory.needed_mib(MODELS[name], kind, count, device) for kind in BEST_TO_WORST[device] if kind in offered]
    assert needs == sorted(needs, reverse=True)


@given(models, cases, tokens)
def test_the_need_is_the_sum_of_its_parts_and_more_than_the_runtime(
    name: str, case: tuple[str, str], count: int
) -> None:
    device, kind = case
    model: dict[str, Any] = MODELS[name]
    parts = (
        memory.weights_mib(model, kind, device),
        memory.cache_mib(model, kind, count, device),
        memory.working_mib(model, kind, count, device),
    )
    assert memory.needed_mib(model, kind, count, device) == sum(parts)
    assert min(parts) >= 0
    assert parts[2] >= memory.RUNTIME_MIB[device]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_fp16_and_bf16_are_one_level(name: str) -> None:
    assert ("bf16", "fp16") in memory.LEVELS
    assert memory.needed_mib(MODELS[name], "fp16", 2048, "cuda") == memory.needed_mib(
        MODELS[name], "bf16", 2048, "cuda"
    )


def test_every_level_has_its_width() -> None:
    assert [kind for level in memory.LEVELS for kind in level if kind not in memory.BYTES] == []
    widths = [max(memory.BYTES[kind] for kind in level) for level in memory.LEVELS]
    assert widths == sorted(widths, reverse=True)


# --- what may be given away -------------------------------------------------------------------------------------------

MIB = st.integers(0, 4 << 20)


@pytest.mark.parametrize(
    ("total", "foreign", "usable"),
    [
        (0, 0, 0),
        (256, 0, 0),
        (257, 0, 1),
        (5120, 0, 4864),
        (24576, 0, 23347),
        (24576, 4000, 19347),
        (24576, 24576, 0),
        (24576, 99999, 0),
    ],
)
def test_a_part_of_a_gpu_stays_free(total: int, foreign: int, usable: int) -> None:
    assert memory.usable_mib(total, foreign) == usable


@given(MIB, MIB)
def test_what_is_usable_leaves_the_margin_and_what_others_hold(total: int, foreign: int) -> None:
    usable = memory.usable_mib(total, foreign)
    margin = max(memory.LEAST_MARGIN_MIB, round(total * memory.MARGIN))
    assert 0 <= usable <= total
    assert usable == 0 or usable + foreign + margin == total


@given(MIB, MIB, MIB, st.integers(0, 1000))
def test_more_memory_or_less_held_by_others_is_never_less_usable(
    total: int, more: int, foreign: int, less: int
) -> None:
    assert memory.usable_mib(total, foreign) <= memory.usable_mib(total + more, foreign)
    assert memory.usable_mib(total, foreign) <= memory.usable_mib(total, max(0, foreign - less))
