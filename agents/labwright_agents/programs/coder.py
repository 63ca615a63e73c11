"""A writer, a critic and an executor as a group: the writer's program is run against the tests that came with the task.

The order is ours and costs no question to the model: after the writer the executor; after tests that failed the critic,
then the writer again; after tests that passed, nobody.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labwright_agents import harness
from labwright_agents.conversation import ENDLESS, Conversation, Hands, executed
from labwright_agents.errors import AgentError
from labwright_agents.outcome import CODE_BLOCK, LANGUAGES
from labwright_agents.texts import decoded

SUMMARY = "Have a program written until it passes the tests that it was given."
WRITER = {
    "en": (
        "You write a Python program for a task. It becomes the module `solution`, and tests are run "
        "against it. Send all of it in one ```python block. When tests fail you are told which, and a "
        "critic says why: then send the whole program anew."
    ),
    "zh": (
        "你为任务编写 Python 程序。它会成为模块 `solution`，并接受测试。请把整个程序放在一个 ```python 代码块里。"
        "测试失败时会告诉你是哪些，评审会说明原因：那时请重新给出整个程序。"
    ),
}
CRITIC = {
    "en": (
        "You review a Python program that failed its tests. Say in a sentence or two what is wrong with it. "
        "Write no code."
    ),
    "zh": "你评审一个没有通过测试的 Python 程序。用一两句话说明哪里不对。不要写代码。",
}
OPENING = {"en": "{task}\n\nThe tests:\n\n```python\n{tests}\n```", "zh": "{task}\n\n测试：\n\n```python\n{tests}\n```"}
NUDGE = {"en": "Send the whole program in one ```python block.", "zh": "请把整个程序放在一个 ```python 代码块里。"}
HARNESS = Path(harness.__file__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the program is tested with."""
    parser.add_argument(
        "--tests", metavar="FILE", help="Python file that imports from `solution` and asserts; - for standard input"
    )


def check(options: argparse.Namespace) -> None:
    """Raise AgentError for tests that cannot be used, before a batch asks anything."""
    if options.tests == "-":
        raise AgentError("LW-AGENT-021", path="-", error="a batch has no standard input")
    read_tests(options.tests)


def talk(conversation: Conversation, options: argparse.Namespace) -> None:
    """Let the group work until the tests pass."""
    from autogen import Agent, GroupChat, GroupChatManager

    example = conversation.example if options.tests is None else None
    tests = "\n".join(example["tests"]) if example else read_tests(options.tests)
    writer, critic = conversation.model("writer", WRITER), conversation.model("critic", CRITIC)
    executor = conversation.person("executor", NUDGE[conversation.language])
    hands = Hands(conversation)
    turn = {executor: writer, writer: executor, critic: writer}

    def test(_agent: Any, messages: Any, **_others: Any) -> tuple[bool, str | None]:
        program = code_of(str(messages[-1]["content"] or ""))
        if not program:
            return False, None  # then the nudge is said
        passed, said = attempt(hands.run, program, tests)
        turn[executor] = None if passed else critic
        conversation.more["passed"] = passed
        return True, executed(0 if passed else 1, said)

    def next_speaker(last: Any, _chat: Any) -> Any:
        following, turn[executor] = turn[last], writer
        return following

    executor.register_reply([Agent, None], test, position=0)
    group = GroupChat([writer, critic, executor], messages=[], max_round=ENDLESS, speaker_selection_method=next_speaker)
    manager = GroupChatManager(group, llm_config=False)
    executor.initiate_chat(manager, message=opening(conversation.task, tests, conversation.language), silent=True)


def judge(conversation: Conversation) -> str:
    """Answered only if the tests passed."""
    return "answered" if conversation.more.get("passed") else "not finished"


def opening(task: str, tests: str, language: str) -> str:
    """What the group is told first."""
    return OPENING[language].format(task=task, tests=tests.strip("\n"))


def code_of(message: str) -> str:
    """The Python code of a message, all blocks together."""
    found = CODE_BLOCK.findall(message)
    return "\n\n".join(code for name, code in found if not name or LANGUAGES.get(name.lower()) == "python")


def attempt(run: Callable[..., tuple[int, str]], program: str, tests: str) -> tuple[bool, str]:
    """Have the tests run against a program (Hands.run); return whether all passed, and what they said."""
    word = secrets.token_hex(16)
    call = f"\n\nsys.exit(main({program!r}, {tests!r}, {word!r}) != 0)\n"
    code, output = run(HARNESS.read_text(encoding="utf-8") + call, shown=program, hidden=word)
    said, found, after = output.partition(word)
    return code == 0 and bool(found) and not after.strip(), said


def read_tests(path: str | None) -> str:
    """The tests that were given; raise AgentError for a file that could not fail a program."""
    name = path or "(none)"
    try:
        text = decoded(sys.stdin.buffer.read() if path == "-" else Path(name).read_bytes())
        good = harness.tests_something(text)
    except (OSError, ValueError, SyntaxError) as error:
        raise AgentError("LW-AGENT-021", path=name, error=getattr(error, "strerror", None) or error) from error
    if not good:
        raise AgentError("LW-AGENT-021", path=name, error="it tests nothing")
    return text
