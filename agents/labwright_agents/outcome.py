"""What came of a conversation: its messages, the code that really ran, the verdict, and how it is shown to people."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from labwright_agents.texts import visible
from labwright_agents.trace import Event

Verdict = Literal["answered", "code failed", "no code", "not finished", "nothing found", "no citation"]
END = "TERMINATE"
CODE_BLOCK = re.compile(r"```[ \t]*([^\s`]*)[^\n`]*\n(.*?)\r?\n[ \t]*```", re.DOTALL)
# What runs, by the name that stands at a block; whatever else stands in one is text.
LANGUAGES = {"python": "python", "py": "python", "python3": "python", "sh": "sh", "bash": "sh", "shell": "sh"}
CHINESE = re.compile(r"[\u3400-\u9fff]")


@dataclass(frozen=True)
class Message:
    """One message; `role` is `assistant` for a model and `user` for anyone else."""

    role: str
    name: str
    content: str


@dataclass(frozen=True)
class Execution:
    """One run of the code blocks of a message, as the executor saw it, not as anybody tells it.

    `cause` is a sentence with an id when the sandbox ended the code; "" when it ended by itself.
    """

    language: str
    code: str
    exit_code: int
    output: str
    seconds: float = 0.0
    cause: str = ""


def language_of(text: str) -> str:
    """The language that a task is in: zh with any Chinese character, else en."""
    return "zh" if CHINESE.search(text) else "en"


def is_end(content: str | None) -> bool:
    """Say whether a message ends the conversation.

    A message with code does not, even when it says so: small models like to write the program and the end in one
    breath, and then nothing would have run.
    """
    text = (content or "").rstrip().rstrip(".*`\"'。")
    return text.endswith(END) and not code_in(content or "")


def code_in(content: str) -> list[tuple[str, str]]:
    """What runs of a message: language and code of each block that says so; if none does, of those without a name that
    are Python and do something. Results and examples stand in blocks too."""
    found = [(name.lower(), code) for name, code in CODE_BLOCK.findall(content)]
    named = [("python" if LANGUAGES[name] == "python" else name, code) for name, code in found if name in LANGUAGES]
    return named or [("python", code) for name, code in found if not name and does_something(code)]


def does_something(code: str) -> bool:
    """Whether a text is Python that is more than names and numbers."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError):
        return False
    return any(not isinstance(one, ast.Expr) for one in tree.body) or any(
        isinstance(one, ast.Call) for one in ast.walk(tree)
    )


def judge(messages: Sequence[Message], executions: Sequence[Execution]) -> Verdict:
    """The verdict: answered only if code ran, its last run exited 0, and the model ended the conversation."""
    if not messages or messages[-1].role != "assistant" or not is_end(messages[-1].content):
        return "not finished"
    if not executions:
        return "no code"
    return "answered" if executions[-1].exit_code == 0 else "code failed"


def messages_of(events: Sequence[Event]) -> list[Message]:
    """What was said, by whom."""
    roles = {"answer": "assistant", "message": "user"}
    return [Message(roles[one["kind"]], one["who"], one["content"]) for one in events if one["kind"] in roles]


def executions_of(events: Sequence[Event]) -> list[Execution]:
    """What ran."""
    names = ("language", "code", "exit_code", "output", "seconds", "cause")
    return [Execution(*(one[name] for name in names)) for one in events if one["kind"] == "run"]


def as_json(events: Sequence[Event]) -> dict[str, Any]:
    """The object that `--json` prints; code, output and exit_code are those of the last run."""
    start, end = events[0], events[-1]
    runs = executions_of(events)
    last = runs[-1] if runs else None
    names = ("language", "code", "exit_code", "output", "seconds", "cause")
    found = {name: start[name] for name in ("conversation", "program", "task", "model", "base_url", "sandbox")}
    return found | {
        "base_url": answered_at(events),
        "messages": [vars(one) for one in messages_of(events)],
        "executions": [{name: getattr(one, name) for name in names} for one in runs],
        "code": last.code if last else None,
        "output": last.output if last else None,
        "exit_code": last.exit_code if last else None,
        **{name: end[name] for name in end if name not in ("at", "conversation", "kind")},
    }


def answered_at(events: Sequence[Event]) -> str:
    """The endpoint that answered last; while none did, the one that is asked first."""
    return str(next(one["base_url"] for one in reversed(events) if "base_url" in one))


def is_result(event: Event, run: Event | None) -> bool:
    """Whether a message only repeats the run before it, as AutoGen does for the model's sake."""
    return event["kind"] == "message" and run is not None and event["content"].startswith("exitcode:")


def transcript(events: Sequence[Event]) -> str:
    """The conversation for people: the task, what the model wrote, the output of its code, the verdict."""
    start, end = events[0], events[-1]
    parts = [f"Task\n{_inset(start['task'])}"]
    run = None
    for one in events[1:]:
        if one["kind"] == "answer":
            parts.append(f"{one['who']} ({start['model']})\n{_inset(one['content'])}")
        elif one["kind"] == "run":
            run = one
            why = f"\n{one['cause']}" if one["cause"] else ""
            parts.append(
                f"The code ran {start['sandbox']}, exit code {one['exit_code']}, and printed\n"
                f"{_inset(one['output'])}{why}"
            )
        elif one["kind"] == "message" and not is_result(one, run) and one["content"] != start["task"]:
            parts.append(f"{one['who']}\n{_inset(one['content'])}")
    if end["kind"] == "end":
        parts += [end["why"]] if end["why"] else []
        marks = {True: " (cited)", False: ""}
        parts += ["\n".join(f"[{one['number']}] {one['where']}{marks[one['cited']]}" for one in end.get("sources", []))]
        parts += ["\n".join(f"Left out: {one}" for one in end.get("skipped", []))]
        parts.append(
            f"Verdict: {end['verdict']}, in {end['seconds']:.1f} s, with {end['tokens']} tokens, "
            f"by {start['model']} at {answered_at(events)}; code that it writes runs {start['sandbox']}\n"
        )
    return visible("\n\n".join(filter(None, parts)))


def _inset(text: str) -> str:
    return textwrap.indent(text.strip("\n") or "(nothing)", "  | ", lambda _: True)
