"""The modules that this target understands: one function each. Importing a file registers its functions."""

from __future__ import annotations

from . import accounts, commands, facts, files, network, nssm, registry, services, system
from .context import STAND_INS, Context, Failed, Machine, Result

__all__ = [
    "STAND_INS",
    "Context",
    "Failed",
    "Machine",
    "Result",
    "accounts",
    "commands",
    "facts",
    "files",
    "network",
    "nssm",
    "registry",
    "services",
    "system",
]
