"""What clients of OpenAI's API ask, made into what FastChat understands; what it would pass over is refused."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

# FastChat's code for a request that is not as it should be.
INVALID = 40001
# So many answers to one request: its prompts times `n`. LangChain sends 20 prompts at once.
ANSWERS = 32
# By the end of a route: parameters that FastChat leaves out without a word, and their values that ask for nothing.
NOT_HERE: dict[str, dict[str, tuple[Any, ...]]] = {
    "/chat/completions": {
        "tools": ([],),
        "tool_choice": ("none", "auto"),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "response_format": ({"type": "text"},),
        "logprobs": (False,),
        "top_logprobs": (0,),
        "logit_bias": ({},),
        "modalities": (["text"],),
        "audio": (),
        "prediction": (),
        "web_search_options": (),
    },
    "/completions": {"suffix": ("",), "best_of": (1,), "logit_bias": ({},), "use_beam_search": (False,)},
    "/embeddings": {"dimensions": ()},
}
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
# The tokens of a stream's answers, where its client wants to know; None where not.
USAGE: ContextVar[Counter[str] | None] = ContextVar("usage", default=None)


@dataclass
class Fault(Exception):
    """A refusal: FastChat's code, and a sentence with its id."""

    code: int
    sentence: str


def unfit(words: object) -> Fault:
    """The fault of a request that is not as OpenAI's API has it."""
    return Fault(INVALID, f"LW-API-012: the request cannot be taken: {words}. Send it as OpenAI's API has it.")


def not_here(what: str) -> Fault:
    """The fault of a wish that nobody here can fulfil."""
    return Fault(
        INVALID, f"LW-API-013: this lab does not have {what}, and would answer as if nobody had asked. Leave it out."
    )


def cleaned(path: str, body: bytes) -> dict[str, Any]:
    """The request as FastChat understands it."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise unfit(f"it is no JSON ({error})") from error
    if not isinstance(said, dict):
        raise unfit("it is no object")
    # FastChat takes null for a value, and fails.
    wish = {name: value for name, value in said.items() if value is not None}
    route = next((route for route in NOT_HERE if path.endswith(route)), "")
    for name, nothing in NOT_HERE.get(route, {}).items():
        if name in wish and wish.pop(name) not in nothing:
            raise not_here(name)
    if "max_completion_tokens" in wish:
        wish["max_tokens"] = wish.pop("max_completion_tokens")
    if isinstance(wish.get("messages"), list):
        wish["messages"] = conversation(wish["messages"])
    for name in ("prompt", "input"):
        if name in wish:
            wish[name] = texts(name, wish[name])
    few(wish.get("n", 1), len(wish["prompt"]) if "prompt" in wish else 1)
    return wish


def few(n: Any, prompts: int) -> None:
    """Refuse more answers than one request may have: FastChat begins with all of them at once."""
    try:
        answers = int(n) * prompts
    except (TypeError, ValueError, OverflowError):
        return  # FastChat says what is wrong with it
    if answers > ANSWERS:
        raise unfit(f"it asks for {answers} answers, n for each prompt; expected at most {ANSWERS}")


def texts(name: str, value: Any) -> list[str]:
    """The text or texts, as a list; for ids FastChat fetches OpenAI's tokenizer from the internet, with no time-out."""
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not found or not all(isinstance(one, str) for one in found):
        raise Fault(
            INVALID,
            f"LW-API-014: {name} is no text; expected one, or a list of some. Ids of tokens mean something to one "
            "tokenizer alone: have your program send the text (LangChain: check_embedding_ctx_length=False; lm-eval: "
            "tokenized_requests=False).",
        )
    return found


def conversation(messages: list[Any]) -> list[dict[str, str]]:
    """The messages with one for the system, which stands first: of several FastChat takes the last alone."""
    found = [message(one) for one in messages]
    system = [text for role, text in found if role == "system"]
    others = [(role, text) for role, text in found if role != "system"]
    first = [("system", "\n".join(system))] if system else []
    return [{"role": role, "content": text} for role, text in first + others]


def message(one: Any) -> tuple[str, str]:
    """The role and the text of a message; what else programs send along, such as a name, FastChat has no use for."""
    said = one if isinstance(one, dict) else {}
    role, content = ROLES.get(str(said.get("role"))), said.get("content")
    for name in ("tool_calls", "function_call", "audio"):
        if said.get(name):
            raise not_here(name)
    if isinstance(content, list):
        parts = [part if isinstance(part, dict) else {} for part in content]
        for kind in (str(part.get("type")) for part in parts):
            if kind != "text":
                raise not_here(f"content of the type {kind[:40]}")
        content = "\n".join(str(part.get("text", "")) for part in parts)
    if role is None or not isinstance(content, str):
        name, kind = str(said.get("role"))[:40], type(content).__name__
        raise Fault(
            INVALID,
            f"LW-API-009: a message has the role {name} and a content of the type {kind}. Expected the roles system, "
            "developer, user and assistant, each message with text.",
        )
    return role, content


def written(wish: dict[str, Any]) -> bytes:
    """The request's new body, without what Python alone takes for JSON: NaN, 1e999, half a character."""
    try:
        return json.dumps(wish, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise unfit(f"it is no JSON ({error})") from error


class Asked:
    """Stands before FastChat's routes: cleans each request, and ends what is done for a client that has gone.

    FastChat goes on with an answer that is no stream to its end, whoever waits: 20 requests that were given up after
    0.5 s, as openai's client does before it tries again, kept the next one waiting for 10.7 s (measured).
    """

    def __init__(self, app: Any, refuse: Callable[[Fault], Any]) -> None:
        """``refuse`` makes an answer of a fault."""
        self.app, self.refuse = app, refuse

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        body, more = bytearray(), True
        while more:
            part = await receive()
            body += part.get("body", b"")
            more = part.get("more_body", False)
        try:
            wish = cleaned(scope["path"], bytes(body))
            first = {"type": "http.request", "body": written(wish)}
        except Fault as fault:
            await self.refuse(fault)(scope, receive, send)
            return
        options = wish.get("stream_options")
        USAGE.set(Counter() if isinstance(options, dict) and options.get("include_usage") else None)
        await self.while_waited_for(scope, first, receive, send)

    async def while_waited_for(self, scope: Any, first: Any, receive: Any, send: Any) -> None:
        """Answer, for as long as the client is there."""
        unread, whole = [first], False
        gone = asyncio.ensure_future(receive())  # the client has nothing more to say, so this is its end

        async def hear() -> Any:
            return unread.pop() if unread else await asyncio.shield(gone)

        async def tell(words: Any) -> None:
            nonlocal whole
            whole = words["type"] == "http.response.body" and not words.get("more_body")
            await send(words)

        answer = asyncio.ensure_future(self.app(scope, hear, tell))
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not whole and not answer.done():
                answer.cancel()
            await asyncio.wait({answer})
        finally:
            answer.cancel()
            gone.cancel()
        if not answer.cancelled():
            answer.result()
