"""The door to the agent programs: `python -m labwright_agents PROGRAM …`; a program is a module in programs/."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence

from labwright_agents import programs


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program that was named; return its exit status."""
    parser = argparse.ArgumentParser(prog="labwright_agents", description="Run one of the lab's agent programs.")
    choices = parser.add_subparsers(dest="program", required=True, metavar="PROGRAM")
    runs = {}
    for module in pkgutil.iter_modules(programs.__path__):
        program = importlib.import_module(f"{programs.__name__}.{module.name}")
        program.add_arguments(choices.add_parser(module.name, help=program.SUMMARY, description=program.SUMMARY))
        runs[module.name] = program.run
    options = parser.parse_args(argv)
    status: int = runs[options.program](options)
    return status


if __name__ == "__main__":
    sys.exit(main())
