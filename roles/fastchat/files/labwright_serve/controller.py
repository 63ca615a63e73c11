"""FastChat's controller, which keeps its workers through its own restart, a jump of the clock and a busy moment."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

from labwright_serve import watchdog
from labwright_serve.listening import Door, replace, serve


def adopt(controller: Any, urls: list[str]) -> None:
    """Register each planned worker that answers with a model.

    By heartbeats alone, a controller that was started again had no worker for up to 45 s (measured: 40.0 s).
    """
    import requests

    def ask(url: str) -> Any:
        try:
            return requests.post(f"{url}/worker_get_status", timeout=2).json()
        except requests.exceptions.RequestException:
            return {}

    with ThreadPoolExecutor(16) as asking:
        for url, status in zip(urls, asking.map(ask, urls), strict=True):
            if status.get("model_names"):
                controller.register_worker(url, True, status, False)


async def forget(controller: Any, period_s: float) -> None:
    """Forget workers whose heartbeat is overdue.

    FastChat looks once per expiry, so the dead were listed for up to twice that (measured: 138.7 s of 90-180), and does
    so in a thread that is no daemon, and that ends for ever when a worker registers at that moment.
    """
    while True:
        await asyncio.sleep(period_s / 10)
        controller.remove_stale_workers_by_expiration()


def dispatch(fastchat: Any) -> None:
    """Let a client that found a worker dead name it in `without`, and get another; FastChat's choice stays its own."""
    from fastapi.responses import JSONResponse

    async def get_worker_address(request: Any) -> Any:
        data, infos = await request.json(), fastchat.controller.worker_info
        hidden = {url: infos.pop(url) for url in data.get("without", ()) if url in infos}
        address = fastchat.controller.get_worker_address(data["model"])
        infos.update(hidden)
        return JSONResponse({"address": address})

    replace(fastchat.app, "/get_worker_address", get_worker_address)


def run(door: Door) -> None:
    """Run the controller; `--workers URL,URL` names the planned workers."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--workers", default="")
    options, sys.argv[1:] = parser.parse_known_args(sys.argv[1:])
    from fastchat.serve import controller as fastchat

    # With the time of day, a jump of the clock by more than the expiry evicted every worker at FastChat's next look
    # (measured: 1.8 s after the jump, and after the last heartbeat).
    fastchat.time = SimpleNamespace(time=time.monotonic)
    fastchat.heart_beat_controller = lambda _: None
    # Each GET /v1/models of the API asks for this, and a worker that was busy or starting was evicted for 45.0 s.
    fastchat.Controller.refresh_all_workers = lambda _: None
    dispatch(fastchat)
    _, fastchat.controller = fastchat.create_controller()
    adopt(fastchat.controller, [url for url in options.workers.split(",") if url])
    tasks: list[asyncio.Task[None]] = []

    def ready() -> None:
        period_s = fastchat.CONTROLLER_HEART_BEAT_EXPIRATION
        tasks.append(asyncio.get_running_loop().create_task(forget(fastchat.controller, period_s)))
        watchdog.notify("READY=1")

    serve(door, fastchat.app, ready)
