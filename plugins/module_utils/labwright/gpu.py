"""GPUs of a host, from the one ``nvidia-smi`` query that hostkit's verb ``facts`` makes (its ``GPU_FIELDS``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hostkit.result import Problem


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU; memory in MiB, 0 where the driver does not say (it shares the host's memory)."""

    uuid: str
    name: str
    memory_mib: int
    driver_version: str
    compute_capability: str


def gpus(host: str, answer: dict[str, Any] | None) -> list[Gpu]:
    """Parse the query: no program is a CPU host; one that fails is a problem, never a CPU host."""
    if answer is None:
        return []
    if answer["rc"] != 0:
        said = (answer["stderr"] or answer["stdout"]).strip().splitlines()
        raise Problem(
            "LW-GPU-001",
            f"{host}: nvidia-smi ended with {answer['rc']}: {said[-1] if said else 'no words'}; expected GPUs. "
            f"Mend the driver (a reboot cures a version mismatch after an upgrade), or set lab_device: cpu.",
        )
    found = []
    for line in answer["stdout"].splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) >= 7:
            _index, uuid, name, memory, _used, driver, capability = cells[:7]
            found.append(Gpu(uuid, name, int(memory) if memory.isdigit() else 0, driver, capability))
    if not found:
        raise Problem(
            "LW-GPU-001",
            f"{host}: nvidia-smi named no GPU ({answer['stdout'].strip() or 'no words'}); expected at least one. "
            f"Mend the driver or the machine, or set lab_device: cpu.",
        )
    return found
