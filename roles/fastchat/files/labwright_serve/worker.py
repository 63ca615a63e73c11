"""FastChat's worker, which registers only after it has answered a token, and which no failed request halts."""

from __future__ import annotations

import asyncio
import collections
import functools
import json
import logging
import re
import shutil
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from labwright_serve import watchdog
from labwright_serve.asked import not_here
from labwright_serve.listening import Door, end, replace, serve

log = logging.getLogger("labwright_serve")
OUT_OF_MEMORY = 50002
INTERNAL = 50001
# After such an error each later call of this process fails too. A lack of memory passes; cuBLAS may mean just that.
BROKEN = re.compile(r"CUDA error: (?!out of memory|CUBLAS)")
# What FastChat's own engine leaves out without a word.
LACKS = ("presence_penalty", "frequency_penalty")
# Colder, probabilities of 16 bits overflow; it is the same to the answer.
COLDEST = 0.01


def make() -> Any:
    """FastChat's own worker with the model that its options name; this takes seconds to minutes."""
    from fastchat.serve.model_worker import create_model_worker

    return create_model_worker()[1]


def out_of_memory(error: BaseException) -> bool:
    """Whether it says so: torch has several classes for it."""
    return isinstance(error, MemoryError) or "out of memory" in str(error) or "OutOfMemory" in type(error).__name__


def more_room() -> str:
    """How to get more memory, and which programs have the GPU's."""
    holders = ""
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-compute-apps=pid,process_name,used_memory", "--format=csv,noheader"]
        held = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False).stdout.split("\n")
        holders = f" GPU memory is held by: {'; '.join(filter(None, held)) or 'no other program'}."
    return f"Ask for a smaller quantization, plan another GPU, or stop what holds its memory.{holders}"


def load(make: Callable[[], Any]) -> Any:
    """The worker, or the end with the reason why there is none."""
    path = sys.argv[sys.argv.index("--model-path") + 1] if "--model-path" in sys.argv[:-1] else "FastChat's default"
    # Without this transformers takes a path that is not there for a name on its hub, and complains about that name.
    if Path(path).is_absolute() and not (Path(path) / "config.json").is_file():
        end(f"LW-SERVE-005: there is no model in {path}: it has no config.json. Run the provisioning again.")
    try:
        return make()
    except Exception as error:
        traceback.print_exc(file=sys.__stderr__)
        if out_of_memory(error):
            end(f"LW-SERVE-004: out of memory while loading {path}: {first_line(error)}. {more_room()}")
        end(
            f"LW-SERVE-005: the model in {path} cannot be loaded: {type(error).__name__}: {first_line(error)}. "
            "The traceback stands above; a file may be missing or damaged: run the provisioning again."
        )


def first_line(error: object) -> str:
    """The first line of what an error says, without its full stop."""
    return (str(error).strip().splitlines() or ["no reason given"])[0].rstrip(".")


def look_at(error: object) -> None:
    """End this process, when its client has been told, after an error from which it does not come back.

    Such a worker failed in no time, so it had the shortest queue, and got everybody's requests.
    """
    if BROKEN.match(str(error)):
        sentence = (
            f"LW-SERVE-008: the GPU fails this process for good: {first_line(error)}. It ends, to be started anew. "
            "When that comes again and again, the kernel's log may say more (Xid), or the request before it."
        )
        threading.Timer(1, end, [sentence]).start()


def failure(error: Exception) -> dict[str, Any]:
    """FastChat's answer for a request that failed."""
    log.exception("A request failed")
    look_at(error)
    return {
        "text": f"{type(error).__name__}: {first_line(error)}",
        "error_code": OUT_OF_MEMORY if out_of_memory(error) else INTERNAL,
    }


def mend(base: Any, worker: Any) -> None:
    """Let no exception out of the worker.

    FastChat frees a request's place (5 of them) only when it went well, or failed with one of three exceptions: after
    five others, such as a KeyError in a tokenizer, the worker answered nobody any more (measured). A client that goes
    away in the middle of a stream does not lose the place (measured).
    """
    stream, embed = worker.generate_stream_gate, worker.get_embeddings

    def generate_stream_gate(params: dict[str, Any]) -> Iterator[bytes]:
        for name in getattr(worker, "lacks", LACKS):
            if params.get(name):
                fault = not_here(name)
                yield json.dumps({"text": fault.sentence, "error_code": fault.code}).encode() + b"\0"
                return
        try:
            cold = float(params.get("temperature", 1)) < COLDEST
            yield from stream(params | {"temperature": 0.0} if cold else params)
        except Exception as error:
            yield json.dumps(failure(error)).encode() + b"\0"

    def generate_gate(params: dict[str, Any]) -> Any:
        (last,) = collections.deque(generate_stream_gate(params), maxlen=1)
        return json.loads(last[:-1])

    def get_embeddings(params: dict[str, Any]) -> Any:
        try:
            said = embed(params)
            # FastChat has put its own words before the error's, in brackets.
            look_at(said["text"].partition("(")[2] if said.get("error_code") else "")
            return said
        except Exception as error:
            return failure(error)

    async def release() -> None:
        base.release_worker_semaphore()

    def after_stream() -> Any:
        # FastChat's runs in a thread, and an asyncio.Semaphore may be touched on its event loop only.
        tasks = base.BackgroundTasks()
        tasks.add_task(release)
        return tasks

    async def api_get_embeddings(request: Any) -> Any:
        # FastChat's computes on the event loop: nobody else was answered meanwhile, nor the watchdog.
        params = await request.json()
        await base.acquire_worker_semaphore()
        try:
            return base.JSONResponse(await asyncio.to_thread(worker.get_embeddings, params))
        finally:
            base.release_worker_semaphore()

    traced(worker)
    worker.generate_stream_gate, worker.generate_gate = generate_stream_gate, generate_gate
    worker.get_embeddings = get_embeddings
    base.create_background_tasks = after_stream
    replace(base.app, "/worker_get_embeddings", api_get_embeddings)
    # Registering has no time-out in FastChat: with a controller that hangs, or a cut network, it never came back.
    base.requests = SimpleNamespace(
        post=functools.partial(base.requests.post, timeout=5), exceptions=base.requests.exceptions
    )


def traced(worker: Any) -> None:
    """Log where a generation failed: FastChat catches a RuntimeError and passes on only its text."""
    function = getattr(worker, "generate_stream_func", None)

    def generate_stream_func(*args: Any, **options: Any) -> Iterator[Any]:
        try:
            yield from function(*args, **options)  # type: ignore[misc]
        except Exception as error:
            log.exception("A generation failed")
            look_at(error)
            raise

    if function:
        worker.generate_stream_func = generate_stream_func


def first_token(door: Door) -> None:
    """Ask this worker over HTTP for a token, or end with the reason why none came."""
    import requests

    host, port = door.address
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/worker_generate"
    params = {"model": "", "prompt": "Hello", "temperature": 0, "max_new_tokens": 1, "echo": False}
    try:
        answer = requests.post(url, json=params, timeout=600, proxies={"http": ""}).json()
    except requests.exceptions.RequestException as error:
        answer = {"error_code": INTERNAL, "text": str(error)}
    code = answer.get("error_code")
    if code == OUT_OF_MEMORY:
        end(f"LW-SERVE-002: the worker gave no token: out of GPU memory ({OUT_OF_MEMORY}). {more_room()}")
    if code != 0:
        words = " ".join(str(answer.get("text")).split())
        end(f"LW-SERVE-002: the worker gave no token: {words} ({code}). The reason stands above in this log.")


def announce(worker: Any, door: Door, model_names: list[str], interval_s: float) -> None:
    """Show that the model answers, then register, and send heartbeats for ever, whatever becomes of the controller.

    FastChat registers before it listens, and ends when the controller is away: after 20.6 s of loading (measured).
    """
    first_token(door)
    worker.model_names = model_names
    watchdog.notify("READY=1")
    tell = worker.register_to_controller
    while True:
        try:
            tell()
            tell, pause_s = worker.send_heart_beat, interval_s
        except Exception as error:
            pause_s = 1.0
            log.error("The controller at %s: %s", worker.controller_addr, first_line(error))
        time.sleep(pause_s)


def run(door: Door, making: Callable[[], Any] | None = None) -> None:
    """Run the worker; it has no model name before its first token, so that nobody takes it for ready."""
    sys.argv.append("--no-register")
    worker = load(making or make)
    from fastchat.serve import base_model_worker as base

    mend(base, worker)
    model_names, worker.model_names = worker.model_names, []
    task = (worker, door, model_names, base.WORKER_HEART_BEAT_INTERVAL)
    serve(door, base.app, threading.Thread(target=announce, args=task, daemon=True).start)
