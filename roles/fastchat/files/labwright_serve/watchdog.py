"""A process that hangs is killed and started again: by systemd, without its library, or by itself."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable


def notify(words: str) -> None:
    """Tell systemd; nothing happens where nobody listens."""
    name = os.environ.get("NOTIFY_SOCKET", "")
    if name:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(words.encode(), "\0" + name[1:] if name.startswith("@") else name)


def start(alive: Callable[[float], bool], end: Callable[[str], object]) -> None:
    """Ask `alive` every third of the time that is allowed, giving it as many seconds, and pass on only a yes.

    systemd kills a service that it does not hear from for WatchdogSec. Nobody does so on Windows: there the process
    ends itself after three times without a yes (LABWRIGHT_WATCHDOG_S), and NSSM starts it again. That fails where
    something holds Python's own lock for ever.
    """
    own = float(os.environ.get("LABWRIGHT_WATCHDOG_S", "0"))
    third = (own or int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6) / 3

    def watch() -> None:
        silent = 0
        while True:
            silent = 0 if alive(third) else silent + 1
            if not silent:
                notify("WATCHDOG=1")
            elif own and silent == 3:
                end(f"LW-SERVE-007: this process has answered nothing for {own:g} s or longer, and ends itself.")
            time.sleep(third)

    if third:
        threading.Thread(target=watch, daemon=True).start()
