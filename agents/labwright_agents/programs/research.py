"""Answer from a folder of documents: passages are found in an index on disk, and the model answers from them alone.

Its answer must cite the passages that it rests on by their numbers; file and line (of a PDF, the page) are ours, so
they cannot be made up. It may ask for other passages by one line `SEARCH: words`.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labwright_agents.conversation import Conversation
from labwright_agents.errors import AgentError
from labwright_agents.index import Index, Passage
from labwright_agents.outcome import END, messages_of

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
    parser.add_argument("--documents", type=Path, metavar="DIR", help="folder with text, Markdown and PDF files")
    parser.add_argument("--index", type=Path, metavar="FILE", help="the index; below --home by default")
    parser.add_argument("--passages", type=int, default=4, metavar="N", help="found at a time (4)")


def talk(conversation: Conversation, options: argparse.Namespace) -> None:
    """Find passages, have the model answer from them, find more if it asks."""
    from autogen import Agent

    if options.documents is None:
        raise AgentError("LW-AGENT-022", path="(none)", error="--documents is missing")
    if options.passages < 1:
        raise AgentError("LW-AGENT-009", option="--passages", found=options.passages, least=1)
    folder = options.documents.resolve()
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    home = options.home or conversation.work_dir
    index = Index(options.index or home / "index" / f"{name}.sqlite", folder)
    words = conversation.language
    shown: list[Passage] = []

    def find(question: str) -> str:
        fresh = [one for one in index.search(question, options.passages) if one not in shown]
        shown.extend(fresh)
        conversation.more["sources"] = sources(shown, "")
        return numbered(fresh, len(shown) - len(fresh) + 1)

    def more(_agent: Any, messages: Any, **_others: Any) -> tuple[bool, str | None]:
        asked = SEARCH.search(str(messages[-1]["content"] or ""))
        return (True, find(asked[1]) or NOTHING[words]) if asked else (False, None)

    try:
        conversation.more["skipped"] = index.skipped
        first = find(conversation.task)
        if not first:
            return
        assistant = conversation.model("assistant", SYSTEM)
        reader = conversation.person("reader", NUDGE[words])
        reader.register_reply([Agent, None], more, position=0)
        reader.initiate_chat(assistant, message=question(conversation.task, first, words), silent=True)
    finally:
        index.close()
        said = messages_of(conversation.trace.events)
        answer = said[-1].content if said and said[-1].role == "assistant" else ""
        conversation.more["sources"] = sources(shown, answer)


def judge(conversation: Conversation) -> str:
    """Answered only if the model ended the conversation and cited a passage that it was shown."""
    if not conversation.more.get("sources"):
        return "nothing found"
    said = messages_of(conversation.trace.events)
    if not said or said[-1].role != "assistant" or END not in said[-1].content:
        return "not finished"
    return "answered" if any(one["cited"] for one in conversation.more["sources"]) else "no citation"


def numbered(passages: Sequence[Passage], first: int) -> str:
    """Passages as the model is shown them."""
    return "\n\n".join(f"[{number}] {one.where}\n{one.text}" for number, one in enumerate(passages, start=first))


def question(task: str, passages: str, language: str) -> str:
    """What the model is asked first."""
    return FOUND[language].format(task=task, passages=passages)


def sources(passages: Sequence[Passage], answer: str) -> list[dict[str, Any]]:
    """Every passage that was shown: its number, where it stands, its text, and whether the answer cites it."""
    cited = {int(number) for number in CITED.findall(answer)}
    return [
        {"number": number, "where": one.where, "cited": number in cited, "text": one.text}
        for number, one in enumerate(passages, start=1)
    ]
