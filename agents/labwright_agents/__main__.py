"""The door to the agent programs: `python -m labwright_agents PROGRAM …`; a program is a module in programs/."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from typing import Any

from labwright_agents import programs
from labwright_agents.running import common, conduct


def modules() -> dict[str, Any]:
    """Every program by its name."""
    names = sorted(module.name for module in pkgutil.iter_modules(programs.__path__))
    return {name: importlib.import_module(f"{programs.__name__}.{name}") for name in names}


def commands(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Give a parser a command for each program; return the programs."""
    choices = parser.add_subparsers(dest="program", required=True, metavar="PROGRAM")
    found = modules()
    for name, module in found.items():
        own = choices.add_parser(name, help=module.SUMMARY, description=module.SUMMARY)
        if not hasattr(module, "run"):
            common(own)
        module.add_arguments(own)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program that was named; return its exit status."""
    parser = argparse.ArgumentParser(prog="labwright-agent", description="Run one of the lab's agent programs.")
    found = commands(parser)
    options = parser.parse_args(argv)
    module = found[options.program]
    status: int = module.run(options) if hasattr(module, "run") else conduct(options.program, module, options)
    return status


if __name__ == "__main__":
    sys.exit(main())
