"""What every program shares: its command line, and how a conversation begins, ends, and is shown."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from labwright_agents import page, sandbox, trace
from labwright_agents.config import Lab, of_model, prepare_environment, read_config, read_lab
from labwright_agents.errors import AgentError
from labwright_agents.limits import Budget, Limits, Stop, ended_by_signals
from labwright_agents.outcome import as_json, transcript
from labwright_agents.texts import whole
from labwright_agents.trace import Event, Trace

TASKS = Path(__file__).resolve().parent / "tasks.json"
LIMITS = {
    "max_turns": ("turns", "N", "answers of the model at most"),
    "max_tokens": ("tokens", "N", "tokens of all requests and answers together"),
    "max_seconds": ("seconds", "SECONDS", "for the whole conversation"),
    "max_output": ("output", "N", "characters of one answer, and of what one run prints"),
    "code_timeout": ("code_seconds", "SECONDS", "for each run of code"),
    "request_timeout": ("request_seconds", "SECONDS", "for each answer"),
}


class Program(Protocol):
    """A module in programs/ that holds a conversation; one that does not (batch, show) has run(options) instead."""

    SUMMARY: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare what the program has beside the arguments of all."""

    def talk(self, conversation: Any, options: argparse.Namespace) -> None:
        """Hold the conversation."""

    def judge(self, conversation: Any) -> str:
        """Say what came of it, from the trace."""


def common(parser: argparse.ArgumentParser) -> None:
    """The arguments of every conversation."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--task", help="what the model is to do")
    what.add_argument("--example", metavar="ID", help="take the task from the demo's list")
    what.add_argument("--list", action="store_true", help="show the demo's tasks, which the demo's model has learnt")
    places(parser)
    parser.add_argument("--model", metavar="NAME", help="one of the configuration's models; the first by default")
    parser.add_argument(
        "--work-dir", type=Path, metavar="DIR", help="where the code runs; a folder of its own by default"
    )
    parser.add_argument(
        "--transcript",
        type=Path,
        metavar="FILE",
        action="append",
        default=[],
        help="write the conversation there, as JSON lines (.jsonl), as a page (.html), or as text; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the transcript")
    for option, (name, unit, about) in LIMITS.items():
        default = getattr(Limits, name)
        word = f"--{option.replace('_', '-')}"
        parser.add_argument(word, type=int, metavar=unit, default=default, help=f"{about} ({default})")


def places(parser: argparse.ArgumentParser) -> None:
    """Where the configuration is, and where traces and work folders stay."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="JSON list of endpoints: base_url, model, api_key")
    parser.add_argument("--home", type=Path, metavar="DIR", help="where traces and work stay; nowhere by default")


def limits_of(options: argparse.Namespace) -> Limits:
    """The limits of a command line."""
    for option in LIMITS:
        if getattr(options, option) < 1:
            word = f"--{option.replace('_', '-')}"
            raise AgentError("LW-AGENT-009", option=word, found=getattr(options, option), least=1)
    return Limits(**{name: getattr(options, option) for option, (name, _unit, _about) in LIMITS.items()})


def conduct(name: str, program: Program, options: argparse.Namespace) -> int:
    """Run a program: 0 answered, 1 another verdict, 2 the question could not be put."""
    tasks = examples(name)
    if options.list:
        print(listing(tasks, as_json=options.json), end="")
        return 0
    lab = Lab()
    try:
        if options.config:
            lab = read_lab(options.config)
        events = hold(name, program, options, lab)
    except AgentError as error:
        print(error.say(lab.language), file=sys.stderr)
        if options.json:
            print(json.dumps(not_asked(options.task or options.example, error), ensure_ascii=False))
        return 2
    if events[-1]["why"]:
        print(events[-1]["why"], file=sys.stderr)
    said = json.dumps(as_json(events), ensure_ascii=False) if options.json else transcript(events)
    print(said, flush=True)
    return 0 if events[-1]["verdict"] == "answered" else 1


def not_asked(task: str, error: AgentError) -> dict[str, Any]:
    """What `--json` prints of a question that could not be put."""
    return {"task": task, "verdict": "not asked", "error": str(error), "id": error.id}


def hold(name: str, program: Program, options: argparse.Namespace, lab: Lab) -> Sequence[Event]:
    """Hold one conversation and return its events."""
    example = find(examples(name), options.example) if options.task is None else None
    task = str(example["task"]) if example else whole(options.task)
    if not task.strip():
        raise AgentError("LW-AGENT-007")
    if options.config is None:
        raise AgentError("LW-AGENT-008")
    limits = limits_of(options)
    entries = of_model(read_config(options.config), options.model, options.config)
    settings = sandbox.read(options.config.parent / "sandbox.json")
    prepare_environment(entries, lab)
    from labwright_agents.conversation import Conversation, needs_autogen

    needs_autogen()
    this = trace.new_name()
    with tempfile.TemporaryDirectory(prefix="labwright-agent-") as scratch:
        home = options.home or Path(scratch)
        work_dir = options.work_dir or home / "work" / this
        for folder in (work_dir, home / "traces"):
            make_folder(folder)
        trace.prune(home)
        secrets = [str(entry["api_key"]) for entry in entries if entry["api_key"] not in ("", "NULL", "EMPTY")]
        events = Trace(home / "traces" / f"{this}.jsonl", this, secrets, limits.output)
        budget = Budget(limits)
        conversation = Conversation(task, entries, limits, events, settings, work_dir, budget, example)
        events.add(
            "start",
            program=name,
            task=task,
            model=entries[0]["model"],
            base_url=entries[0]["base_url"],
            sandbox=settings.words,
            limits=vars(limits),
        )
        try:
            with ended_by_signals(limits.seconds) as over:
                fault = talked(program, conversation, options, over)
                asked = fault is None or budget.answers > 0 or isinstance(fault, Stop)
                why = (fault.fault if isinstance(fault, Stop) else fault).say(lab.language) if fault else ""
                events.add(
                    "end",
                    verdict=program.judge(conversation) if asked else "not asked",
                    why=why,
                    seconds=round(budget.seconds, 3),
                    answers=budget.answers,
                    tokens=budget.tokens,
                    work_dir=str(work_dir),
                    **conversation.more,
                )
                for path in options.transcript:
                    write(path, events.events, options.home or Path.cwd())
        finally:
            events.close()
        if not asked and isinstance(fault, AgentError):
            raise fault
        return events.events


def talked(
    program: Program, conversation: Any, options: argparse.Namespace, over: Callable[[], None]
) -> AgentError | Stop | None:
    """Hold the conversation; return what ended it, if not itself. After it, signals no longer end anything."""
    try:
        with conversation.quiet():
            program.talk(conversation, options)
        over()
    except (AgentError, Stop) as fault:
        over()
        return fault
    except Exception as error:  # what nobody foresaw: the conversation has an end and a sentence all the same
        over()
        conversation.more["traceback"] = traceback.format_exception(error)
        return AgentError("LW-AGENT-039", error=f"{type(error).__name__}: {error}")
    return None


def known() -> dict[str, Any]:
    """What the demo's agents ask and the demo's model has learnt."""
    found: dict[str, Any] = json.loads(TASKS.read_text(encoding="utf-8"))
    return found


def examples(name: str) -> list[dict[str, Any]]:
    """The demo's tasks for a program."""
    return [one for one in known()["tasks"] if one.get("program", "assistant") == name]


def find(tasks: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """One of the demo's tasks."""
    for task in tasks:
        if task["id"] == name:
            return task
    raise AgentError("LW-AGENT-010", name=name, known=", ".join(str(task["id"]) for task in tasks) or "none")


def listing(tasks: Sequence[dict[str, Any]], *, as_json: bool) -> str:
    """The demo's tasks, for people or as JSON."""
    if as_json:
        names = ("id", "language", "task", "output", "tests", "cites")
        rows = [{name: task[name] for name in names if name in task} for task in tasks]
        return json.dumps(rows, ensure_ascii=False, indent=2) + "\n"
    return "".join(f"{task['id']:<15} {task['task']}\n" for task in tasks)


def make_folder(folder: Path) -> None:
    """Make a folder if it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AgentError("LW-AGENT-018", path=folder, error=error.strerror) from error


def write(path: Path, events: Sequence[Event], home: Path) -> None:
    """Write the conversation in the form that the file's name ends in."""
    forms = {".jsonl": lambda: "".join(map(trace.line, events)), ".html": lambda: page.of(events)}
    text = forms.get(path.suffix, lambda: transcript(events))()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise AgentError("LW-AGENT-019", path=path, error=error.strerror, home=home) from error
