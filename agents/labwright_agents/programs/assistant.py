"""A program that gives one task to AutoGen's AssistantAgent and lets a UserProxyAgent run the code that it writes."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

from labwright_agents.config import read_config
from labwright_agents.errors import AgentError
from labwright_agents.outcome import Outcome, transcript

SUMMARY = "Give one task to the model, run the code that it writes, and show what came of it."
TASKS = Path(__file__).resolve().parent.parent / "tasks.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--task", help="what the model is to do")
    what.add_argument("--example", metavar="ID", help="take the task from the demo's list")
    what.add_argument("--list", action="store_true", help="show the demo's tasks, which the demo's model has learnt")
    parser.add_argument("--config", type=Path, metavar="FILE", help="JSON list of endpoints: base_url, model, api_key")
    parser.add_argument(
        "--work-dir", type=Path, metavar="DIR", help="where the code runs; a temporary folder by default"
    )
    parser.add_argument("--transcript", type=Path, metavar="FILE", help="write the readable transcript there, too")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the transcript")
    parser.add_argument("--max-turns", type=int, default=6, metavar="N", help="answers of the model at most (6)")
    parser.add_argument("--code-timeout", type=int, default=60, metavar="SECONDS", help="for each program (60)")
    parser.add_argument("--request-timeout", type=int, default=120, metavar="SECONDS", help="for each answer (120)")


def run(options: argparse.Namespace) -> int:
    """Run the program: 0 answered, 1 another verdict, 2 the question could not be put."""
    known = json.loads(TASKS.read_text(encoding="utf-8"))
    if options.list:
        print(listing(known["tasks"], as_json=options.json), end="")
        return 0
    try:
        outcome = ask(options, known)
        if options.transcript:
            write(options.transcript, transcript(outcome))
    except AgentError as error:
        print(error, file=sys.stderr)
        if options.json:
            print(json.dumps({"task": options.task or options.example, "verdict": "not asked", "error": str(error)}))
        return 2
    print(json.dumps(outcome.as_json(), ensure_ascii=False) if options.json else transcript(outcome), flush=True)
    return 0 if outcome.verdict == "answered" else 1


def ask(options: argparse.Namespace, known: dict[str, Any]) -> Outcome:
    """Put the task to the model."""
    task = options.task if options.task is not None else example(known["tasks"], options.example)
    if not task.strip():
        raise AgentError("LW-AGENT-007: the task is empty; say with --task what the model is to do.")
    if options.config is None:
        raise AgentError("LW-AGENT-008: --config is missing; give the JSON file with the endpoint.")
    for name in ("max_turns", "code_timeout", "request_timeout"):
        if getattr(options, name) < 1:
            raise AgentError(
                f"LW-AGENT-009: --{name.replace('_', '-')} is {getattr(options, name)}; at least 1 expected."
            )
    config = read_config(options.config)
    logging.disable(logging.WARNING)  # AutoGen's dependencies warn of packages that are not needed here.
    try:
        from labwright_agents.conversation import converse

        with tempfile.TemporaryDirectory(prefix="labwright-agent-") as scratch:
            work_dir = options.work_dir or Path(scratch)
            make_folder(work_dir)
            return converse(
                task,
                config,
                system=known["system"],
                work_dir=work_dir,
                max_turns=options.max_turns,
                code_timeout=options.code_timeout,
                request_timeout=options.request_timeout,
            )
    except ImportError as error:
        raise AgentError(
            f"LW-AGENT-020: {error}. This program needs pyautogen 0.2.35; run it with the Python of the agents' own "
            "environment."
        ) from error


def example(tasks: list[dict[str, Any]], name: str) -> str:
    """Return the text of one of the demo's tasks."""
    for task in tasks:
        if task["id"] == name:
            return str(task["task"])
    ids = ", ".join(task["id"] for task in tasks)
    raise AgentError(f"LW-AGENT-010: there is no example {name!r}; there are {ids}.")


def listing(tasks: list[dict[str, Any]], *, as_json: bool) -> str:
    """Return the demo's tasks, for people or as JSON (id, language, task, output)."""
    rows = [
        {"id": t["id"], "language": t["language"], "task": example(tasks, t["id"]), "output": t["output"]}
        for t in tasks
    ]
    if as_json:
        return json.dumps(rows, ensure_ascii=False, indent=2) + "\n"
    return "".join(f"{row['id']:<15} {row['task']}\n" for row in rows)


def make_folder(folder: Path) -> None:
    """Make the work folder if it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AgentError(f"LW-AGENT-018: the work folder {folder} cannot be made: {error.strerror}.") from error


def write(path: Path, text: str) -> None:
    """Write the transcript."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise AgentError(f"LW-AGENT-019: the transcript {path} cannot be written: {error.strerror}.") from error
