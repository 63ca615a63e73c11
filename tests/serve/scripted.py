"""Run labwright_serve with a scripted worker in the place of a model; words in brackets in a prompt say what happens.

Needs FastChat, so it runs with the Python that LABWRIGHT_FASTCHAT_PYTHON names.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labwright_serve import __main__, worker

REAL_TIME = time.time


def piece(text: str, code: int = 0) -> bytes:
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return json.dumps({"text": text, "error_code": code, "usage": usage, "finish_reason": None}).encode() + b"\0"


def make() -> Any:
    """The scripted worker; --fail says how its making, or its first token, fails."""
    parser = argparse.ArgumentParser()
    for name in ("host", "port", "worker-address", "controller-address", "model-names", "model-path", "conv-template"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--fail", default="")
    parser.add_argument("--no-register", action="store_true")
    options = parser.parse_args()
    assert options.no_register
    if options.fail == "memory":
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore.")
    if options.fail == "broken":
        raise ValueError("Unrecognized model in it.")

    from fastchat.conversation import get_conv_template
    from fastchat.serve.base_model_worker import BaseModelWorker

    class Scripted(BaseModelWorker):
        def make_conv_template(self, conv_template: Any = None, model_path: Any = None) -> Any:
            return get_conv_template(conv_template or "zero_shot")

        def count_token(self, params: dict[str, Any]) -> dict[str, int]:
            if "[block]" in params["prompt"]:
                time.sleep(600)
            return {"count": len(params["prompt"].split()), "error_code": 0}

        def generate_stream_gate(self, params: dict[str, Any]) -> Iterator[bytes]:
            prompt = params["prompt"]
            if prompt == "Hello" and options.fail.startswith("first"):
                yield piece("**NETWORK ERROR**\n\n(no kernel image)", 50002 if "memory" in options.fail else 50001)
                return
            if "[gpu]" in prompt:
                raise RuntimeError(
                    "CUDA error: device-side assert triggered\nCUDA kernel errors might be reported later."
                )
            if "[oom]" in prompt:
                yield piece("**NETWORK ERROR**", 50002)
            if "[internal]" in prompt:
                yield piece("**NETWORK ERROR**\n\n(probability tensor contains nan)", 50001)
            if "[key]" in prompt:
                raise KeyError("nobody catches this")
            if "[hang]" in prompt:
                time.sleep(600)
            yield piece("so")
            if "[die]" in prompt:
                time.sleep(0.2)
                os._exit(9)
            for number in range(30 if "[slow]" in prompt else 0):
                time.sleep(0.1)
                yield piece("so" + " so" * number)
            # What arrives, where it is asked for: which parameters count is seen here.
            yield piece(json.dumps(params) if "[params]" in prompt else f"so {os.getpid()} got {prompt}")

        def generate_gate(self, params: dict[str, Any]) -> Any:
            for one in self.generate_stream_gate(params):
                last = one
            return json.loads(last[:-1])

        def get_embeddings(self, params: dict[str, Any]) -> Any:
            if "[key]" in params["input"]:
                raise KeyError("nobody catches this")
            if "[gpu]" in params["input"]:
                # As FastChat's own has it.
                return {
                    "text": "**NETWORK ERROR**\n\n(CUDA error: an illegal memory access\nMore.)",
                    "error_code": 50001,
                }
            if "[params]" in params["input"]:
                return {"embedding": [params], "token_num": 1}
            if "[slow]" in params["input"]:
                time.sleep(2)
            return {"embedding": [[1.0]] * len(params["input"]), "token_num": 1}

    scripted = Scripted(
        options.controller_address,
        options.worker_address,
        "scripted",
        options.model_path,
        options.model_names.split(","),
        5,
        conv_template=options.conv_template,
    )
    scripted.context_len = 200
    return scripted


if __name__ == "__main__":
    jump = os.environ.get("CLOCK_JUMPS_WHEN", "")
    if jump:
        time.time = lambda: REAL_TIME() + 86400 * Path(jump).exists()
    worker.make = make
    __main__.main(sys.argv[1:])
