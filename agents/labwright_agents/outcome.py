"""What came of a conversation: its messages, the code that really ran, the verdict, and how it is shown to people."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["answered", "code failed", "no code", "not finished"]
END = "TERMINATE"
CODE_BLOCK = re.compile(r"```[ \t]*(\w+)?[ \t]*\r?\n(.*?)\r?\n[ \t]*```", re.DOTALL)


@dataclass(frozen=True)
class Message:
    """One message; `role` is `user` for the side that runs the code and `assistant` for the model."""

    role: str
    name: str
    content: str


@dataclass(frozen=True)
class Execution:
    """One run of the code blocks of a message, as the executor saw it, not as anybody tells it."""

    language: str
    code: str
    exit_code: int
    output: str


@dataclass(frozen=True)
class Outcome:
    """A whole conversation with its verdict; `seconds` is its length, the model's and the code's time together."""

    task: str
    messages: tuple[Message, ...]
    executions: tuple[Execution, ...]
    seconds: float
    model: str
    base_url: str

    @property
    def verdict(self) -> Verdict:
        """Judge by what happened: see `judge`."""
        return judge(self.messages, self.executions)

    def as_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints; code, output and exit_code are those of the last run."""
        last = self.executions[-1] if self.executions else None
        return {
            "task": self.task,
            "messages": [asdict(message) for message in self.messages],
            "executions": [asdict(execution) for execution in self.executions],
            "code": last.code if last else None,
            "output": last.output if last else None,
            "exit_code": last.exit_code if last else None,
            "verdict": self.verdict,
            "seconds": round(self.seconds, 3),
            "model": self.model,
            "base_url": self.base_url,
        }


def is_end(content: str | None) -> bool:
    """Say whether a message ends the conversation.

    A message with code does not, even when it says so: small models like to write the program and the end in one
    breath, and then nothing would have run.
    """
    text = (content or "").rstrip().rstrip(".*`\"'。")
    return text.endswith(END) and not CODE_BLOCK.search(content or "")


def judge(messages: Sequence[Message], executions: Sequence[Execution]) -> Verdict:
    """Return the verdict: answered only if code ran, its last run exited 0, and the model ended the conversation."""
    if not messages or messages[-1].role != "assistant" or not is_end(messages[-1].content):
        return "not finished"
    if not executions:
        return "no code"
    return "answered" if executions[-1].exit_code == 0 else "code failed"


def transcript(outcome: Outcome) -> str:
    """Return the conversation for people: the task, the code that the model wrote, its output, the verdict."""
    parts = [f"Task\n{_inset(outcome.task)}"]
    runs = iter(outcome.executions)
    for message in outcome.messages[1:]:
        if message.role == "assistant":
            parts.append(f"{message.name} ({outcome.model})\n{_inset(message.content)}")
        elif message.content.startswith("exitcode:") and (run := next(runs, None)) is not None:
            parts.append(f"The code ran, exit code {run.exit_code}, and printed\n{_inset(run.output)}")
        else:
            parts.append(f"{message.name}\n{_inset(message.content)}")
    parts.append(f"Verdict: {outcome.verdict}, in {outcome.seconds:.1f} s, by {outcome.model} at {outcome.base_url}\n")
    return "\n\n".join(parts)


def _inset(text: str) -> str:
    return textwrap.indent(text.strip("\n") or "(nothing)", "  | ", lambda _: True)
