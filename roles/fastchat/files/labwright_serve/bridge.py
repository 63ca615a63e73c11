"""A worker without a model: it passes requests on to another engine that speaks OpenAI's /v1/completions, such as vLLM.

So another engine stands behind the same controller, the same API and the same names.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from labwright_serve import worker
from labwright_serve.listening import Door, end, replace

log = logging.getLogger("labwright_serve")
# What /v1/completions calls as FastChat does. vLLM takes those that OpenAI does not have.
SAME = ("prompt", "temperature", "top_p", "presence_penalty", "frequency_penalty", "stop", "stop_token_ids", "echo")


def stay_with(url: str) -> None:
    """End when nothing listens at the engine's address any more.

    Started again, the bridge waits for the engine and registers when that answers; meanwhile nobody is sent to it.
    """
    place = urlsplit(url)
    while True:
        time.sleep(1)
        with contextlib.suppress(OSError):  # such as a timeout: it is busy
            try:
                socket.create_connection((str(place.hostname), int(place.port or 80)), 5).close()
            except ConnectionRefusedError:
                end(f"LW-SERVE-006: the engine at {url} is gone. The log of its own service says why.")


def make() -> Any:
    """The worker, once the engine lists its model; it may load for minutes, and is waited for."""
    parser = argparse.ArgumentParser(prog=sys.argv[0], allow_abbrev=False)
    for name in ("host", "port", "worker-address", "controller-address", "engine-url", "model-names", "conv-template"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--limit-worker-concurrency", type=int, default=64)
    parser.add_argument("--no-register", action="store_true")
    options = parser.parse_args()

    import requests
    from fastchat.constants import WORKER_API_TIMEOUT
    from fastchat.conversation import get_conv_template
    from fastchat.serve import base_model_worker as base

    def engine(path: str, payload: dict[str, Any] | None = None, limit_s: float = WORKER_API_TIMEOUT) -> Any:
        """The engine's answer; what it refuses is raised in its own words."""
        verb, url = ("POST" if payload else "GET"), options.engine_url + path
        stream = bool(payload and payload.get("stream"))
        answer = requests.request(verb, url, json=payload, stream=stream, timeout=(5, limit_s))
        if answer.status_code != 200:
            raise RuntimeError(f"the engine at {url} answered {answer.status_code}: {answer.text[:500]}")
        return answer

    def card() -> dict[str, Any]:
        while True:
            try:
                found: dict[str, Any] = engine("/v1/models", limit_s=5).json()["data"][0]
                return found
            except (RuntimeError, LookupError, requests.exceptions.RequestException) as error:
                # Also an engine that answers and lists no model yet.
                log.warning("Waiting for the engine: %s", worker.first_line(error))
            time.sleep(1)

    model = card()
    threading.Thread(target=stay_with, args=(options.engine_url,), daemon=True).start()

    class Bridge(base.BaseModelWorker):
        lacks = ("logprobs",)  # their shape is another

        def make_conv_template(self, conv_template: str, _: Any = None) -> Any:
            return get_conv_template(conv_template)

        def count_token(self, params: dict[str, Any]) -> dict[str, int]:
            try:
                said = engine("/tokenize", {"model": model["id"], "prompt": params["prompt"]}).json()
                return {"count": said["count"], "error_code": 0}
            except (RuntimeError, KeyError, requests.exceptions.RequestException):
                # No such route, or no engine: the generation then says what is wrong.
                return {"count": 0, "error_code": 0}

        def generate_stream_gate(self, params: dict[str, Any]) -> Iterator[bytes]:
            request = {name: params[name] for name in SAME if params.get(name) is not None}
            request |= {"model": model["id"], "max_tokens": params.get("max_new_tokens", 256), "stream": True}
            request["stream_options"] = {"include_usage": True}
            if (params.get("top_k") or -1) > 0:
                request["top_k"] = params["top_k"]
            piece: dict[str, Any] = {"text": "", "error_code": 0, "finish_reason": None}
            piece["usage"] = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
            with engine("/v1/completions", request) as answer:
                for line in answer.iter_lines():
                    event = line.decode().removeprefix("data:").strip()
                    if event in ("", "[DONE]"):
                        continue
                    said = json.loads(event)
                    if "error" in said:
                        raise RuntimeError(f"the engine at {options.engine_url} broke off: {said['error']}")
                    for choice in said.get("choices", ()):
                        piece["text"] += choice.get("text") or ""
                        piece["finish_reason"] = choice.get("finish_reason")
                    piece["usage"] = said.get("usage") or piece["usage"]
                    yield json.dumps(piece).encode() + b"\0"

        def get_embeddings(self, params: dict[str, Any]) -> dict[str, Any]:
            request = {"model": model["id"], "input": params["input"]}
            if params.get("encoding_format"):
                request["encoding_format"] = params["encoding_format"]
            said = engine("/v1/embeddings", request).json()
            return {
                "embedding": [one["embedding"] for one in said["data"]],
                "token_num": said["usage"]["prompt_tokens"],
            }

    made = Bridge(
        options.controller_address,
        options.worker_address,
        "bridge",
        "",
        options.model_names.split(","),
        options.limit_worker_concurrency,
        conv_template=options.conv_template,
    )
    made.context_len = model.get("max_model_len") or 1 << 20

    async def count_token(request: Any) -> Any:
        # FastChat counts on the event loop, where the engine must not be waited for.
        return base.JSONResponse(await asyncio.to_thread(made.count_token, await request.json()))

    replace(base.app, "/count_token", count_token)
    return made


def run(door: Door) -> None:
    """Run the worker that stands for the engine at --engine-url."""
    worker.run(door, make)
