"""How much memory a model needs, from its shape. A pure formula, in MiB; nothing is looked up by name.

weights + keys and values of the conversation + what one pass over the prompt needs + what CUDA itself takes. Against
the figures that ChatGLM2's authors publish for 2048 tokens (13.1 / 8.2 / 5.5 GiB for fp16 / int8 / int4; their README)
it is off by less than 2 %. ``RUNTIME_MIB`` is fitted to those three; all other numbers come from the model's config.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

BYTES = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "int8": 1.0, "int4": 0.5}
# From best to worst. fp16 and bf16 are one level: which of them is a matter of the card.
LEVELS = (("fp32",), ("bf16", "fp16"), ("int8",), ("int4",))
RUNTIME_MIB = {"cuda": 700, "cpu": 600}
MARGIN = 0.05  # of a GPU's memory stays free: fragments, and a desktop that draws a window
LEAST_MARGIN_MIB = 256
MIB = 1 << 20


def needed_mib(model: Mapping[str, Any], quantization: str, tokens: int, device: str) -> int:
    """Memory for one worker that serves ``model`` with conversations of ``tokens`` tokens, one at a time."""
    held = weights_mib(model, quantization, device) + cache_mib(model, quantization, tokens, device)
    return held + working_mib(model, quantization, tokens, device)


def weights_mib(model: Mapping[str, Any], quantization: str, device: str) -> int:
    """The weights; embeddings and the output layer keep their full width whatever the quantisation."""
    shrunk = int(model["shape"]["quantised_parameters"])
    full = int(model["parameters"]) - shrunk
    wide = width(quantization, device)
    return round((shrunk * BYTES[quantization] + full * wide) / MIB)


def cache_mib(model: Mapping[str, Any], quantization: str, tokens: int, device: str) -> int:
    """Keys and values of every layer for ``tokens`` tokens."""
    shape = model["shape"]
    values = 2 * int(shape["layers"]) * int(shape["kv_heads"]) * int(shape["head_size"]) * tokens
    return round(values * width(quantization, device) / MIB)


def working_mib(model: Mapping[str, Any], quantization: str, tokens: int, device: str) -> int:
    """One pass over the whole prompt: scores over the vocabulary (also as fp32), the widest layer, one matrix unpacked
    where the weights are packed; and the runtime."""
    shape = model["shape"]
    wide = width(quantization, device)
    feed_forward = int(shape["feed_forward"])
    scores = tokens * int(shape["vocabulary"]) * (wide + 4)
    widest = tokens * 2 * feed_forward * 2 * wide
    unpacked = 2 * feed_forward * int(shape["hidden"]) * wide if quantization in ("int8", "int4") else 0
    return round((scores + widest + unpacked) / MIB) + RUNTIME_MIB[device]


def conversation_mib(
    model: Mapping[str, Any], quantization: str, tokens: int, device: str, *, shared: bool = False
) -> int:
    """What one more conversation at the same time takes beside the first: its keys and values, and its pass unless all
    take one together."""
    passing = 0 if shared else working_mib(model, quantization, tokens, device) - RUNTIME_MIB[device]
    return cache_mib(model, quantization, tokens, device) + passing


def width(quantization: str, device: str) -> float:
    """Bytes of a number that is not packed: on the CPU FastChat computes in fp32."""
    if quantization in ("int8", "int4"):
        return 4.0 if device == "cpu" else 2.0
    return BYTES[quantization]


def files_mib(model: Mapping[str, Any], packed: bool = False) -> int:
    """The model's files, about: its weights as they were published, or the checkpoint packed to four bits."""
    if packed:
        return weights_mib(model, "int4", "cuda")
    return round(int(model["parameters"]) * BYTES[model["dtype"]] / MIB)


def share_of(each_mib: int, total_mib: int) -> float:
    """The share of a card's whole memory that ``each_mib`` is, rounded up to four digits: how vLLM is told its part."""
    return math.ceil(each_mib / total_mib * 10_000) / 10_000


def card_mib(need: int) -> int:
    """The memory of the smallest GPU of which that much may be given away."""
    return max(need + LEAST_MARGIN_MIB, math.ceil(need / (1 - MARGIN)))


def usable_mib(total: int, foreign: int) -> int:
    """What the plan may give away of a GPU."""
    return max(0, total - foreign - max(LEAST_MARGIN_MIB, round(total * MARGIN)))
