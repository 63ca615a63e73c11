"""Run scripted.py as Windows Python would: labwright_serve finds none of the modules and constants that Unix alone has.

A stand-in: there is no Windows Python on the machines that test this.
"""

from __future__ import annotations

import builtins
import runpy
import socket
import sys
from pathlib import Path
from typing import Any

GONE = ("pwd", "grp", "fcntl", "resource", "termios", "syslog")
REAL = builtins.__import__


def imported(name: str, globals: Any = None, *others: Any, **more: Any) -> Any:  # noqa: A002
    if name in GONE and str((globals or {}).get("__name__", "")).startswith("labwright_"):
        raise ModuleNotFoundError(f"No module named {name!r}")
    return REAL(name, globals, *others, **more)


class WithoutUnix:
    """The module socket, as labwright_serve sees it."""

    def __getattr__(self, name: str) -> Any:
        if name == "AF_UNIX":
            raise AttributeError(name)
        # The option of Windows that no Linux has; one that can be asked for stands for it.
        return getattr(socket, "SO_KEEPALIVE" if name == "SO_EXCLUSIVEADDRUSE" else name)


builtins.__import__ = imported
from labwright_serve import listening, watchdog  # noqa: E402

for module in (listening, watchdog):
    vars(module)["socket"] = WithoutUnix()
vars(listening)["Path"] = lambda path: Path("/nowhere" if str(path).startswith("/proc") else path)
if sys.argv[1] == "options":
    door = listening.bind(["--host", "127.0.0.1", "--port", "0"])
    print([door.socket.getsockopt(socket.SOL_SOCKET, one) for one in (socket.SO_REUSEADDR, socket.SO_KEEPALIVE)])
else:
    runpy.run_path(str(Path(__file__).with_name("scripted.py")), run_name="__main__")
