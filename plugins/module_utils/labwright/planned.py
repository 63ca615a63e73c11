"""What a plan is made of: the lab, its hosts, their model workers, and the reason of each choice."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from labwright.builds import Build, Rejected
from labwright.catalog import FASTCHAT
from labwright.hardware import Gpu, Hardware
from labwright.words import Finding

NEW = 1 << 30  # the order of a worker that was in no plan before


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
    order: int = NEW  # among the host's workers in the last plan
    concurrency: int = 1  # conversations at a time
    name: str = ""
    engine: str = FASTCHAT
    engine_port: int = 0  # of an engine that is a server of its own
    share: float = 0.0  # of each card's memory, for an engine that takes it at its start
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
    docker: bool = False  # Docker Desktop, on Windows
    # Where its services listen (host, port), and the addresses that others know them by.
    controller: dict[str, Any] = field(default_factory=dict)
    controller_url: str = ""
    workers_listen: str = ""
    api: dict[str, Any] = field(default_factory=dict)
    web: dict[str, Any] = field(default_factory=dict)
    gateway: dict[str, Any] = field(default_factory=dict)
    page: dict[str, Any] = field(default_factory=dict)  # where the gateway shows what ``web`` has
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
    placed: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # replicas by host, for the next plan
    controller: str = ""
    apis: list[str] = field(default_factory=list)

    @property
    def met(self) -> bool:
        """Whether every wish is met."""
        return not self.problems and not any(one.problems or one.kept.get("problems") for one in self.hosts.values())

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
    def capacity(self) -> int:
        """How many conversations all workers hold at a time."""
        new = sum(worker.concurrency for one in self.hosts.values() for worker in one.workers)
        kept = [worker for one in self.hosts.values() for worker in one.kept.get("workers", ())]
        return new + sum(int(worker.get("concurrency", 1)) for worker in kept)

    @cached_property
    def workers(self) -> int:
        """How many workers the lab will have."""
        return sum(len(one.workers) + len(one.kept.get("workers", ())) for one in self.hosts.values())
