"""The modules that this target understands: one function each, with real effects in Wine."""

from __future__ import annotations

from . import commands, facts, files, network, registry, services
from .context import STAND_INS, Context, Failed, Machine, Result

__all__ = [
    "STAND_INS",
    "Context",
    "Failed",
    "Machine",
    "Result",
    "commands",
    "facts",
    "files",
    "network",
    "registry",
    "services",
]
