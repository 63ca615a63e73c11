"""labwright.gpu: GPUs out of nvidia-smi's words, and nvidia-smi's failures never taken for a host without one."""

from __future__ import annotations

from typing import Any

import pytest

from hostkit.facts import GPU_FIELDS
from hostkit.result import Problem
from labwright.gpu import Gpu, gpus

TWO = (
    "0, GPU-1a, NVIDIA GeForce RTX 3090, 24576, 12, 535.183.01, 8.6, [N/A], [N/A]\n"
    "1, GPU-2b, NVIDIA H200, 143771, 0, 570.86.15, 9.0, Disabled, Enabled\n"
)


def smi(stdout: str = "", rc: int = 0, stderr: str = "") -> dict[str, Any]:
    return {"rc": rc, "stdout": stdout, "stderr": stderr}


def test_each_line_is_a_gpu() -> None:
    assert gpus("h", smi(TWO)) == [
        Gpu("GPU-1a", "NVIDIA GeForce RTX 3090", 24576, "535.183.01", "8.6"),
        Gpu("GPU-2b", "NVIDIA H200", 143771, "570.86.15", "9.0"),
    ]


def test_the_fields_are_those_that_facts_asks_for() -> None:
    asked = GPU_FIELDS.split(",")[:7]
    assert asked == ["index", "uuid", "name", "memory.total", "memory.used", "driver_version", "compute_cap"]
    assert all(len(line.split(", ")) == len(GPU_FIELDS.split(",")) for line in TWO.splitlines())


def test_memory_that_the_driver_does_not_say_is_zero() -> None:
    found = gpus("h", smi("0, GPU-1, NVIDIA GB10, [N/A], [N/A], 580.95.05, 12.1, [N/A], [N/A]\n"))
    assert [one.memory_mib for one in found] == [0]


def test_no_program_is_a_host_without_gpus() -> None:
    assert gpus("h", None) == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (smi(rc=18, stderr="Failed to initialize NVML: Driver/library version mismatch\n"), "version mismatch"),
        (smi("No devices were found\n", rc=6), "ended with 6: No devices were found"),
        (smi(rc=-1), "ended with -1: no words"),
        (smi("No devices were found\n"), "named no GPU (No devices were found)"),
        (smi(""), "named no GPU (no words)"),
    ],
)
def test_a_broken_driver_is_a_problem_with_a_way_out(answer: dict[str, Any], words: str) -> None:
    with pytest.raises(Problem, match="LW-GPU-001: h: nvidia-smi") as found:
        gpus("h", answer)
    assert words in found.value.message
    assert "lab_device: cpu" in found.value.message
