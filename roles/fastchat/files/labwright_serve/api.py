"""FastChat's OpenAI API, which says why it refuses, and never waits for ever."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from labwright_serve.asked import INVALID, USAGE, Asked, Fault, unfit
from labwright_serve.listening import Door, serve

log = logging.getLogger("labwright_serve")

# Seconds: for a connection, for an answer that needs no model, and for a controller that is being started again.
SMALL_S = 5
NO_MODEL, UNFIT, TOO_LONG, INTERNAL, TIMEOUT = 40301, 40302, 40303, 50001, 50006
# By FastChat's code, what its own words are put into. Below, `{}` is those words.
SENTENCES = {
    50002: "LW-API-003: the worker is out of GPU memory: {}. Send less at once, or have the model planned with a "
    "smaller quantization or on another GPU.",
    NO_MODEL: "LW-API-004: {}. Take one of these names.",
    INTERNAL: "LW-API-007: the worker failed while it generated: {}. Its log says more.",
    50004: "LW-API-007: the worker failed while it generated: {}. Its log says more.",
}
# HTTP status by id: whose fault it is. 400, as FastChat has it, for all others. OpenAI's clients try 500 and 503 again
# by themselves: a worker's fault may be gone by then, or another one answers.
STATUS = {
    "LW-API-001": 503,
    "LW-API-002": 503,
    "LW-API-003": 503,
    "LW-API-005": 503,
    "LW-API-007": 500,
    "LW-API-008": 503,
    "LW-API-010": 500,
}


def explain(code: int, words: str, high_traffic: str = "") -> str:
    """FastChat's words as a sentence with an id; codes that need none keep theirs."""
    if words.startswith("LW-API-"):
        return words
    if code in (INVALID, UNFIT):
        return unfit(words).sentence
    if code not in SENTENCES:
        return words
    if code == NO_MODEL and words.startswith("Only  allowed"):
        return f"LW-API-005: no worker is registered at the controller: {words}. Wait until a worker has started."
    cause = " ".join(words.replace(high_traffic, "").split()).removeprefix("(").removesuffix(")")
    return SENTENCES[code].format(cause or "it gave no reason")


def silent(url: str, model: str, limit_s: float) -> Fault:
    """The fault of a worker that took the request and says nothing."""
    return Fault(
        TIMEOUT,
        f"LW-API-008: the worker at {url}, which serves {model}, gave nothing for {limit_s:g} s: it has more requests "
        "than it can answer, or it hangs. Try again, or see its log.",
    )


def dead(url: str, model: str, error: object) -> Fault:
    """The fault of a worker that is not there, or is no more."""
    return Fault(
        TIMEOUT,
        f"LW-API-002: the worker at {url}, which serves {model}, does not answer or broke off ({error}). "
        "It is probably being started again; try again, or see its log.",
    )


def failed(error: Exception) -> Fault:
    """The fault of the API itself, at something that nobody foresaw."""
    return Fault(INTERNAL, f"LW-API-010: the API failed at this request: {error!r}. Its log has the traceback.")


def told(stream: Callable[..., AsyncGenerator[str]], kind: str) -> Callable[..., AsyncGenerator[str]]:
    """FastChat's events with what its pieces lack of OpenAI's: `object`, `created` and, on demand, the usage."""

    @functools.wraps(stream)
    async def events(*arguments: Any) -> AsyncGenerator[str]:
        same: dict[str, Any] = {"object": kind, "created": int(time.time())}
        async with contextlib.aclosing(stream(*arguments)) as made:
            async for event in made:
                if event.startswith("data: {"):
                    piece = json.loads(event.removeprefix("data: "))
                    if "choices" in piece:
                        same |= {"id": piece["id"], "model": piece["model"]}
                        event = sent(piece | same)
                elif usage := USAGE.get():  # empty where an answer failed
                    yield sent({**same, "choices": [], "usage": dict(usage)})
                yield event

    return events


def sent(piece: dict[str, Any]) -> str:
    """A piece as an event of a stream."""
    return f"data: {json.dumps(piece, ensure_ascii=False)}\n\n"


def mend(fastchat: Any) -> None:
    """Put our functions in the place of FastChat's; its routes look them up at each request."""
    import aiohttp
    from fastapi.exceptions import RequestValidationError
    from fastchat.constants import SERVER_ERROR_MSG, WORKER_API_TIMEOUT

    settings = fastchat.app_settings

    @contextlib.asynccontextmanager
    async def posted(url: str, payload: Any, limit_s: float) -> AsyncIterator[Any]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=SMALL_S, sock_read=limit_s)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.post(url, json=payload) as answer:
            if answer.status != 200:
                raise Fault(INTERNAL, f"LW-API-007: {url} answered {answer.status} {answer.reason}; see that log.")
            yield answer.content

    async def post(url: str, payload: Any, limit_s: float) -> bytes:
        async with posted(url, payload, limit_s) as content:
            body: bytes = await content.read()
            return body

    def fault_of(error: Exception, address: str, model: str, limit_s: float) -> Fault:
        if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError):
            return silent(address, model, limit_s)
        return dead(address, model, error)

    async def ask_controller(url: str, payload: Any) -> bytes:
        until = time.monotonic() + SMALL_S
        while True:
            try:
                return await post(url, payload, SMALL_S)
            except (aiohttp.ClientError, TimeoutError) as error:
                if time.monotonic() > until or isinstance(error, TimeoutError):
                    raise Fault(
                        INTERNAL,
                        f"LW-API-001: the controller at {settings.controller_address} does not answer ({error}). "
                        "See whether its service runs.",
                    ) from error
            # A controller that is being started again needs 1 to 2 s: nobody needs to notice.
            await asyncio.sleep(0.2)

    async def ask_worker(url: str, payload: Any, limit_s: float) -> bytes:
        address, model = url.rpartition("/")[0], payload.get("model", "?")
        try:
            return await post(url, payload, limit_s)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise fault_of(error, address, model, limit_s) from error

    async def fetch_remote(url: str, pload: Any = None, name: str | None = None) -> Any:
        # FastChat waits three hours, and takes the text of an HTTP 500 for the answer.
        if url.startswith(settings.controller_address + "/"):
            body = await ask_controller(url, pload)
        else:
            body = await ask_worker(url, pload, WORKER_API_TIMEOUT)
        if name is None:
            return body
        return json.loads(body)[name] if name else json.loads(body)

    async def get_worker_address(model_name: str) -> str:
        # The template is asked for each time: FastChat kept a worker's old one until the API was started again. The
        # same question shows that the worker lives; a dead one stays listed until its heartbeat is overdue.
        faults: dict[str, Fault] = {}
        while True:
            wanted = {"model": model_name, "without": list(faults)}
            url = await fetch_remote(settings.controller_address + "/get_worker_address", wanted, "address")
            if faults and (not url or url in faults):
                raise next(iter(faults.values()))
            if not url:
                models = await fetch_remote(settings.controller_address + "/list_models", None, "models")
                words = f"Only {'&&'.join(models)} allowed now, your model {model_name}"
                raise Fault(NO_MODEL, explain(NO_MODEL, words))
            try:
                body = await ask_worker(url + "/worker_get_conv_template", {"model": model_name}, SMALL_S)
            except Fault as fault:
                faults[url] = fault
                continue
            fastchat.conv_template_map[(url, model_name)] = json.loads(body)["conv"]
            return str(url)

    async def check_length(request: Any, prompt: str, max_tokens: int | None, worker_addr: str) -> tuple[int, None]:
        # FastChat's generate_stream keeps the last (context - max_new_tokens - 1) tokens of a prompt. Its own
        # check_length gives all that is left to the answer: each prompt without max_tokens lost its first token.
        asked = {"model": request.model, "prompt": prompt}
        context = await fetch_remote(worker_addr + "/model_details", asked, "context_length")
        count = await fetch_remote(worker_addr + "/count_token", asked, "count")
        room, most = context - count - 1, context - 2
        if room <= 0:
            raise Fault(
                TOO_LONG,
                f"LW-API-006: This model's maximum context length is {context} tokens. Expected at most {most} of "
                f"them in the request; it has {count}. Send less.",
            )
        return min(max_tokens or room, room), None

    async def pieces(payload: dict[str, Any], worker_addr: str) -> AsyncGenerator[dict[str, Any]]:
        # FastChat makes a client of httpx for each answer, which took 21 ms of the event loop (measured).
        rest = b""
        async with posted(worker_addr + "/worker_generate_stream", payload, WORKER_API_TIMEOUT) as content:
            async for some in content.iter_any():
                *whole, rest = (rest + some).split(b"\0")
                for one in filter(None, whole):
                    yield json.loads(one)

    async def generate_completion_stream(payload: dict[str, Any], worker_addr: str) -> AsyncIterator[dict[str, Any]]:
        # FastChat lets exceptions out in the middle of the answer, which the client sees as a broken chunk.
        piece: dict[str, Any] = {}
        try:
            async with contextlib.aclosing(pieces(payload, worker_addr)) as made:
                async for piece in made:
                    if piece["error_code"]:
                        code = piece["error_code"]
                        raise Fault(code, explain(code, piece["text"], SERVER_ERROR_MSG))
                    yield piece
            if not piece:
                raise Fault(INTERNAL, explain(INTERNAL, f"{worker_addr} gave no text"))
        except Fault as error:
            fault = error
        except (aiohttp.ClientError, TimeoutError) as error:
            fault = fault_of(error, worker_addr, payload["model"], WORKER_API_TIMEOUT)
        except Exception as error:
            log.exception("A stream failed")
            fault = failed(error)
        else:
            if (counts := USAGE.get()) is not None:
                # vLLM has more in it than numbers.
                counts.update({name: n for name, n in piece.get("usage", {}).items() if isinstance(n, int)})
            return
        # `error` is what OpenAI's own client looks for in a stream.
        words = {"message": fault.sentence, "code": fault.code}
        yield {"text": fault.sentence, "error_code": fault.code, "error": words}

    async def generate_completion(payload: dict[str, Any], worker_addr: str) -> Any:
        # As a stream: then a worker that is slow but writes is told apart from one that hangs.
        async for piece in generate_completion_stream(payload, worker_addr):
            last = piece
        return last

    def create_error_response(code: int, message: str) -> Any:
        sentence = explain(code, message, SERVER_ERROR_MSG)
        content = fastchat.ErrorResponse(message=sentence, code=code).dict()
        return fastchat.JSONResponse(content, status_code=STATUS.get(sentence[:10], 400))

    async def refuse(_: Any, fault: Fault) -> Any:
        return create_error_response(fault.code, fault.sentence)

    async def unforeseen(_: Any, error: Exception) -> Any:
        return await refuse(_, failed(error))

    async def unlike(_: Any, error: Any) -> Any:
        # FastChat's own has a page of text here.
        wrong = [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors()]
        return create_error_response(INVALID, "; ".join(dict.fromkeys(wrong))[:400])

    for function in (
        fetch_remote,
        get_worker_address,
        check_length,
        generate_completion_stream,
        generate_completion,
        create_error_response,
    ):
        setattr(fastchat, function.__name__, function)
    for name, kind in (
        ("chat_completion_stream_generator", "chat.completion.chunk"),
        ("generate_completion_stream_generator", "text_completion"),
    ):
        setattr(fastchat, name, told(getattr(fastchat, name), kind))
    fastchat.app.add_middleware(Asked, refuse=lambda fault: create_error_response(fault.code, fault.sentence))
    fastchat.app.add_exception_handler(RequestValidationError, unlike)
    fastchat.app.add_exception_handler(Fault, refuse)
    fastchat.app.add_exception_handler(Exception, unforeseen)


def run(door: Door) -> None:
    """Run the API server."""
    from fastchat.serve import openai_api_server as fastchat

    mend(fastchat)
    fastchat.create_openai_api_server()
    serve(door, fastchat.app)
