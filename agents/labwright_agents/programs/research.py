"""Answer from a folder of documents: passages are found in an index on disk, and the model answers from them alone.

Its answer must cite the passages that it rests on by their numbers; file and line (of a PDF, the page) are ours, so
they cannot be made up. It may ask for other passages by one line `SEARCH: words`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labwright_agents.conversation import Conversation
from labwright_agents.errors import AgentError
from labwright_agents.index import Index, Passage
from labwright_agents.outcome import END, messages_of
from labwright_agents.running import known

SUMMARY = "Answer a question from a folder of documents (text, Markdown, PDF), with file and line of each source."
SYSTEM = {
    "en": (
        "You answer questions from numbered passages, and from nothing else. Cite the passages that you "
        "rest on by their numbers in brackets, such as [1], and end with the word TERMINATE. When they "
        "do not hold the answer, send one line `SEARCH: other words`, or say that the documents do not "
        "tell."
    ),
    "zh": (
        "你只根据编号的段落回答问题。请用方括号里的编号注明依据，例如 [1]，并以 TERMINATE 结尾。"
        "如果段落里没有答案，请只发一行 `SEARCH: 其他词语`，或者说明文档里没有。"
    ),
}
FOUND = {"en": "{task}\n\nPassages:\n\n{passages}", "zh": "{task}\n\n段落：\n\n{passages}"}
NOTHING = {"en": "No passage holds these words.", "zh": "没有段落含有这些词语。"}
NUDGE = {
    "en": "Answer from the passages, cite them by number such as [1], and end with TERMINATE.",
    "zh": "请根据段落回答，用 [1] 这样的编号注明依据，并以 TERMINATE 结尾。",
}
SEARCH = re.compile(r"^\s*SEARCH:\s*(.+?)\s*$", re.MULTILINE)
CITED = re.compile(r"\[(\d+)\]")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which documents."""
    parser.add_argument(
        "--documents", type=Path, metavar="DIR", help="folder with text, Markdown and PDF files; an example has its own"
    )
    parser.add_argument("--index", type=Path, metavar="FILE", help="the index; below --home by default")
    parser.add_argument("--passages", type=int, default=4, metavar="N", help="found at a time (4)")


class Reader:
    """Finds passages for the model, and keeps which it was shown."""

    def __init__(self, index: Index, most: int, language: str) -> None:
        """Find at most `most` passages at a time."""
        self._index, self._most, self._language = index, most, language
        self.shown: list[Passage] = []

    def opening(self, task: str) -> str:
        """What the model is asked first; "" if no passage fits."""
        found = self._find(task)
        return found and FOUND[self._language].format(task=task, passages=found)

    def reply(self, message: str) -> str | None:
        """The passages that a message asks for; None if it asks for none."""
        asked = SEARCH.search(message)
        return (self._find(asked[1]) or NOTHING[self._language]) if asked else None

    def _find(self, question: str) -> str:
        fresh = [one for one in self._index.search(question, self._most) if one not in self.shown]
        first = len(self.shown) + 1
        self.shown += fresh
        return "\n\n".join(f"[{number}] {one.where}\n{one.text}" for number, one in enumerate(fresh, start=first))


def check(options: argparse.Namespace) -> None:
    """Raise AgentError for options that cannot be used, before a batch asks anything."""
    if options.passages < 1:
        raise AgentError("LW-AGENT-009", option="--passages", found=options.passages, least=1)
    if options.documents is None:
        raise AgentError("LW-AGENT-022", path="(none)", error="--documents is missing")


def talk(conversation: Conversation, options: argparse.Namespace) -> None:
    """Find passages, have the model answer from them, find more if it asks."""
    from autogen import Agent

    if options.documents or not conversation.example:
        check(options)
    folder = documents(conversation, options)
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    home = options.home if options.home and options.documents else conversation.work_dir
    index = Index(options.index or home / "index" / f"{name}.sqlite", folder, chosen=options.index is not None)
    finder = Reader(index, options.passages, conversation.language)

    def more(_agent: Any, messages: Any, **_others: Any) -> tuple[bool, str | None]:
        found = finder.reply(str(messages[-1]["content"] or ""))
        return found is not None, found

    try:
        conversation.more["skipped"] = index.skipped
        first = finder.opening(conversation.task)
        if not first:
            return
        assistant = conversation.model("assistant", SYSTEM)
        reader = conversation.person("reader", NUDGE[conversation.language])
        reader.register_reply([Agent, None], more, position=0)
        reader.initiate_chat(assistant, message=first, silent=True)
    finally:
        index.close()
        said = messages_of(conversation.trace.events)
        answer = said[-1].content if said and said[-1].role == "assistant" else ""
        conversation.more["sources"] = sources(finder.shown, answer)


def judge(conversation: Conversation) -> str:
    """Answered only if the model ended the conversation and cited a passage that it was shown."""
    if not conversation.more.get("sources"):
        return "nothing found"
    said = messages_of(conversation.trace.events)
    if not said or said[-1].role != "assistant" or END not in said[-1].content:
        return "not finished"
    return "answered" if any(one["cited"] for one in conversation.more["sources"]) else "no citation"


def documents(conversation: Conversation, options: argparse.Namespace) -> Path:
    """The folder that was given, or one with the example's own documents."""
    if options.documents is not None:
        return Path(options.documents).resolve()
    folder = conversation.work_dir.resolve() / "documents"
    lay_out(folder)
    return folder


def lay_out(folder: Path) -> None:
    """Write the documents of the demo's tasks into a folder."""
    folder.mkdir(exist_ok=True)
    for name, lines in known()["documents"].items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def sources(passages: Sequence[Passage], answer: str) -> list[dict[str, Any]]:
    """Every passage that was shown: its number, where it stands, its text, and whether the answer cites it."""
    cited = {int(number) for number in CITED.findall(answer)}
    return [
        {"number": number, "where": one.where, "cited": number in cited, "text": one.text}
        for number, one in enumerate(passages, start=1)
    ]
