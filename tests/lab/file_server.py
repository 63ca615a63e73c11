"""Serves one folder, read-only, over HTTP with ranges: ``file_server.py FOLDER ADDRESS PORT IDENTITY``.

The hosts of a lab take the bundle from it. ``/.labwright`` answers the identity given at start, by which the
caller knows that it speaks to the server it started.
"""

from __future__ import annotations

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

IDENTITY_PATH = "/.labwright"


def application(folder: str, identity: str) -> Starlette:
    """Return the application; only GET and HEAD are answered."""

    async def who(_: Request) -> PlainTextResponse:
        return PlainTextResponse(identity)

    return Starlette(routes=[Route(IDENTITY_PATH, who), Mount("/", StaticFiles(directory=folder))])


def main(folder: str, address: str, port: str, identity: str) -> None:
    """Serve until told to stop."""
    uvicorn.run(
        application(folder, identity), host=address, port=int(port), log_level="warning", access_log=False, workers=1
    )


if __name__ == "__main__":
    main(*sys.argv[1:5])
