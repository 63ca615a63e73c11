"""What keeps a conversation from running away: limits on answers, tokens, time and output, and signals that end it."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from labwright_agents.errors import AgentError

SAME = 3  # the same answer of the same agent so many times is a model that gets no further


class Stop(BaseException):
    """The end of a conversation from outside. Not an Exception: the openai client would take that for a failed try."""

    def __init__(self, id_: str, **values: Any) -> None:
        """Say why, in words.json's words."""
        self.fault = AgentError(id_, **values)
        super().__init__(str(self.fault))


@dataclass(frozen=True)
class Limits:
    """The most of one conversation; `output` is characters of one answer or of one run's output."""

    turns: int = 12
    tokens: int = 100_000
    seconds: int = 600
    output: int = 20_000
    code_seconds: int = 60
    request_seconds: int = 120


class Budget:
    """What a conversation has used of its limits."""

    def __init__(self, limits: Limits) -> None:
        """Begin now."""
        self.limits = limits
        self.answers = self.tokens = 0
        self.start = time.monotonic()
        self._said: Counter[tuple[str, str]] = Counter()

    @property
    def seconds(self) -> float:
        """How long it has lasted."""
        return time.monotonic() - self.start

    def check(self) -> None:
        """Raise Stop where nothing more may begin."""
        if self.answers >= self.limits.turns:
            raise Stop("LW-AGENT-031", turns=self.limits.turns)
        if self.tokens >= self.limits.tokens:
            raise Stop("LW-AGENT-032", used=self.tokens, most=self.limits.tokens)
        if self.seconds >= self.limits.seconds:
            raise Stop("LW-AGENT-033", seconds=self.limits.seconds)

    def answered(self, who: str, said: str, tokens: int) -> None:
        """Count an answer of the model; raise Stop when it shows that the model gets no further."""
        self.answers += 1
        self.tokens += tokens
        self._said[who, said.strip()] += 1
        if len(said) > self.limits.output:
            raise Stop("LW-AGENT-037", found=len(said), most=self.limits.output)
        if self._said[who, said.strip()] >= SAME:
            raise Stop("LW-AGENT-035", times=SAME)


def cut(text: str, most: int) -> str:
    """A text of at most about `most` characters: its beginning and its end, with what is left out named between."""
    if len(text) <= most:
        return text
    head, tail = most * 2 // 3, most // 3
    return f"{text[:head]}\n[… {len(text) - head - tail} characters left out …]\n{text[len(text) - tail :]}"


@contextmanager
def ended_by_signals(seconds: int) -> Iterator[Callable[[], None]]:
    """Turn SIGINT, SIGTERM and the end of the time into Stop, in the main thread; a second signal changes nothing.

    Yield what is called when the conversation is over: from then on signals wait until it is written down.
    """

    def stop(number: int, _frame: object) -> None:
        ignore()
        raise Stop("LW-AGENT-034", signal=signal.Signals(number).name)

    def late(_number: int, _frame: object) -> None:
        ignore()
        raise Stop("LW-AGENT-033", seconds=seconds)

    handlers: dict[int, Callable[[int, object], None]] = {signal.SIGINT: stop, signal.SIGTERM: stop}
    timer = None
    if hasattr(signal, "SIGALRM"):
        handlers[signal.SIGALRM] = late
    else:  # Windows has no alarm; there the next line of Python ends it, after what it waits for
        handlers[signal.SIGBREAK] = late  # type: ignore[attr-defined]
        timer = threading.Timer(seconds, signal.raise_signal, [signal.SIGBREAK])  # type: ignore[attr-defined]
        timer.daemon = True

    def ignore() -> None:
        for number in handlers:
            signal.signal(number, signal.SIG_IGN)

    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    if timer:
        timer.start()
    else:
        signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield ignore
    finally:
        if timer:
            timer.cancel()
        else:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
