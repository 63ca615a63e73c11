"""Show conversations that were held: the latest in a list, or one of them as text, JSON lines or a page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from labwright_agents import trace
from labwright_agents.errors import AgentError
from labwright_agents.outcome import transcript
from labwright_agents.running import places, write
from labwright_agents.texts import visible

SUMMARY = "List the latest conversations, or show one of them."
LATEST = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which conversation, and where to."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="a conversation's name, or a .jsonl file")
    parser.add_argument(
        "--transcript",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="write it there: .jsonl, .html or text",
    )
    places(parser)


def run(options: argparse.Namespace) -> int:
    """Show; 0, or 2 with a sentence."""
    home = options.home or Path.cwd()
    found = {path.stem: path for path in sorted((home / "traces").glob("*.jsonl"))}
    try:
        if not options.name:
            for path in list(found.values())[-LATEST:]:
                print(line(path))
            return 0
        path = found.get(options.name, Path(options.name))
        if options.name not in found and not path.is_file():
            known = ", ".join(list(found)[-LATEST:]) or "none"
            raise AgentError("LW-AGENT-028", name=options.name, path=home / "traces", known=known)
        events = trace.read(path)
        for to in options.transcript:
            write(to, events, home)
        if not options.transcript:
            print(transcript(events))
    except AgentError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def line(path: Path) -> str:
    """One conversation in one line."""
    try:
        events = trace.read(path)
    except AgentError as error:
        return f"{path.stem}  {error}"
    start, end = events[0], events[-1]
    verdict = end["verdict"] if end["kind"] == "end" else "going on, or killed"
    task = " ".join(str(start.get("task", "")).split())
    return visible(f"{path.stem}  {start.get('program', '')!s:<10} {verdict:<12}  {task[:80]}")
