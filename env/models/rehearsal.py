"""What the agent programs ask of a model that knows the demo's tasks, and what it answers, word for word.

Made by the programs' own code from agents/labwright_agents/tasks.json: tests really run against each attempt, passages
are found in a real index. agents/tests/test_rehearsal.py has the programs themselves ask, and finds no other word.
Standard library and labwright_agents only.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labwright_agents.conversation import alternate, executed
from labwright_agents.index import Index
from labwright_agents.outcome import END
from labwright_agents.programs import assistant, coder, research

PASSAGES = 4  # that research finds at a time


@dataclass(frozen=True)
class Question:
    """What a model is asked (messages are user, assistant, user, …), and the answer that it has learnt."""

    system: str
    messages: tuple[str, ...]
    answer: str


def program(attempt: dict[str, Any]) -> str:
    """An answer with a program: a sentence and a block of code."""
    code = "\n".join(attempt["code"])
    return f"{attempt['lead']}\n\n```python\n{code}\n```"


def closing(sentence: str) -> str:
    """An answer that ends a conversation."""
    return f"{sentence}\n\n{END}"


def run(code: str, **_for_the_trace: str) -> tuple[int, str]:
    """Run Python as the sandbox would, in a folder that goes again; return exit code and output."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60, check=False
        )
    return done.returncode, done.stdout + done.stderr


def of_assistant(task: dict[str, Any]) -> Iterator[Question]:
    """The task, and what came of its program."""
    ran = executed(*run("\n".join(task["code"])))
    yield Question(assistant.SYSTEM, (task["task"],), program(task))
    yield Question(assistant.SYSTEM, (task["task"], program(task), ran), closing(task["conclusion"]))


def of_coder(task: dict[str, Any]) -> Iterator[Question]:
    """The writer's and the critic's turns until the tests pass."""
    language, tests = task["language"], "\n".join(task["tests"])
    systems = {"writer": coder.WRITER[language], "critic": coder.CRITIC[language]}
    talk = [("executor", coder.opening(task["task"], tests, language))]

    def answers(who: str, said: str) -> Question:
        """Ask an agent, in whose eyes its own words are the model's and all others' the user's."""
        seen = [{"role": "assistant" if one == who else "user", "content": words} for one, words in talk]
        talk.append((who, said))
        return Question(systems[who], tuple(one["content"] for one in alternate(seen)), said)

    for attempt in task["attempts"]:
        yield answers("writer", program(attempt))
        passed, output = coder.attempt(run, coder.code_of(program(attempt)), tests)
        if not passed:
            talk.append(("executor", executed(1, output)))
            yield answers("critic", attempt["critic"])


def of_research(task: dict[str, Any]) -> Iterator[Question]:
    """The task with passages, and the passages that the model then asks for."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "documents"
        research.lay_out(folder)
        index = Index(Path(scratch) / "index.sqlite", folder)
        reader = research.Reader(index, PASSAGES, task["language"])
        said = [reader.opening(task["task"])]
        for answer in task["answers"]:
            last = answer is task["answers"][-1]
            yield Question(research.SYSTEM[task["language"]], tuple(said), closing(answer) if last else answer)
            said += [answer, str(reader.reply(answer))]
        index.close()


REHEARSALS: dict[str, Callable[[dict[str, Any]], Iterator[Question]]] = {
    "assistant": of_assistant,
    "coder": of_coder,
    "research": of_research,
}


def rehearse(tasks: Sequence[dict[str, Any]]) -> list[Question]:
    """Every question of the tasks."""
    return [one for task in tasks for one in REHEARSALS[task.get("program", "assistant")](task)]
