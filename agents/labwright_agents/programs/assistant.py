"""One task, one assistant: the model writes programs, they run, and it says what came of it (the recipe of 2023)."""

from __future__ import annotations

import argparse

from labwright_agents.conversation import Conversation
from labwright_agents.outcome import executions_of, messages_of
from labwright_agents.outcome import judge as judged

SUMMARY = "Give one task to the model, run the code that it writes, and show what came of it."
# The demo's model has learnt this text, for tasks in Chinese too; other models answer in the language of the task.
SYSTEM = (
    "You solve tasks by writing Python. Send one complete program in a ```python block; it is run as "
    "it stands and its output is sent back to you, so print what matters. When it has run without an "
    "error, say in a sentence what it did and end with the word TERMINATE. When it failed and you "
    "cannot put it right, say so and end with TERMINATE."
)
# Said when the model neither writes code nor ends.
NUDGE = {
    "en": "Write a program for the task, or end with TERMINATE if everything is done.",
    "zh": "请为任务写一个程序；如果都已完成，请以 TERMINATE 结尾。",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing of its own."""


def talk(conversation: Conversation, _options: argparse.Namespace) -> None:
    """Two agents: one asks the model, the other runs its code and tells what came of it."""
    assistant = conversation.model("assistant", {"en": SYSTEM, "zh": SYSTEM})
    user = conversation.person("user_proxy", NUDGE[conversation.language], runs_code=True)
    user.initiate_chat(assistant, message=conversation.task, silent=True)


def judge(conversation: Conversation) -> str:
    """Answered only if code ran, its last run exited 0, and the model ended the conversation."""
    events = conversation.trace.events
    return judged(messages_of(events), executions_of(events))
