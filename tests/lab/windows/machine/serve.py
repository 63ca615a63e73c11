"""The Linux side of a Wine machine: runs what its python.exe, conda.exe and others stand for (see shim.c).

`serve.py FOLDER` reads FOLDER/machine.json, listens on the loopback, and leaves port and token on drive C:. Only a
program that knows the token is served. What runs for a Windows process ends with it: terminated there, its
process group is killed here. Everything that runs is noted in FOLDER/machine.jsonl, without standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from lab.windows.machine import commands, settings
from lab.windows.machine.commands import Call, Command

LONGEST = 1 << 26  # of one message
FROM_A_SIGNAL = {signal.SIGINT: 0xC000013A, signal.SIGTERM: 0xC000013A, signal.SIGSEGV: 0xC0000005}
EVENTS = {b"interrupt": signal.SIGINT, b"break": signal.SIGTERM}


@dataclass
class Request:
    """What a Windows program hands over before it lets go of the rest."""

    token: str = ""
    pid: int = 0
    exe: str = ""
    folder: str = ""
    words: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)

    def take(self, kind: str, text: str) -> None:
        """One message of it."""
        if kind == "E":
            name, _, value = text.partition("=")
            self.variables[name] = value
        elif kind == "A":
            self.words.append(text)
        elif kind == "P":
            self.pid = int(text)
        else:
            setattr(self, {"T": "token", "X": "exe", "D": "folder"}[kind], text)


async def message(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """The next message; raises IncompleteReadError where the connection ended."""
    head = await reader.readexactly(5)
    size = int.from_bytes(head[1:], "big")
    if size > LONGEST:
        raise ValueError(f"a message of {size} bytes")
    return chr(head[0]), await reader.readexactly(size)


def framed(kind: str, data: bytes) -> bytes:
    """A message back."""
    return kind.encode() + len(data).to_bytes(4, "big") + data


class Served:
    """One Windows process, and what runs for it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, here: settings.Settings) -> None:
        """Reads nothing yet."""
        self.reader, self.writer, self.here = reader, writer, here
        self.input: asyncio.Queue[bytes] = asyncio.Queue()
        self.process: asyncio.subprocess.Process | None = None

    async def request(self, token: str) -> Request:
        """The request; PermissionError where the token is another's."""
        request = Request()
        while True:
            kind, data = await self.reader_message()
            if kind == "G":
                break
            request.take(kind, data.decode("utf-8", "replace"))
            if kind == "T" and not hmac.compare_digest(request.token, token):
                raise PermissionError("the token is not this machine's")
        if not request.token:
            raise PermissionError("there was no token")
        return request

    async def reader_message(self) -> tuple[str, bytes]:
        """One message."""
        return await message(self.reader)

    async def run(self, command: Command) -> int:
        """Start it, carry its streams, return its exit status as Windows would have it."""
        try:
            self.process = await asyncio.create_subprocess_exec(
                *command.argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=command.folder,
                env=command.variables,
                start_new_session=True,
                pass_fds=command.descriptors,
            )
        finally:
            command.close()
        feeding = asyncio.create_task(self.feed())
        streams = {"O": self.process.stdout, "R": self.process.stderr}
        carrying = [asyncio.create_task(self.carry(kind, stream)) for kind, stream in streams.items() if stream]
        # A child of its own may hold the streams open for ever, and Process.wait() waits for them too (CPython 3.11).
        while (status := self.process.returncode) is None:
            await asyncio.sleep(0.02)
        # What is on the way still arrives.
        _, late = await asyncio.wait(carrying, timeout=1)
        for task in (feeding, *late):
            task.cancel()
        return FROM_A_SIGNAL.get(signal.Signals(-status), 1) if status < 0 else status

    async def feed(self) -> None:
        """Standard input, to its end."""
        stream = self.process.stdin if self.process else None
        if stream is None:
            return
        with contextlib.suppress(ConnectionError):
            while data := await self.input.get():
                stream.write(data)
                await stream.drain()
        stream.close()

    async def carry(self, kind: str, stream: asyncio.StreamReader) -> None:
        """Output or error, as it comes."""
        while data := await stream.read(1 << 16):
            self.writer.write(framed(kind, data))
            await self.writer.drain()

    async def listen(self) -> None:
        """Input and console events, until the Windows process is gone."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ValueError):
            while True:
                kind, data = await self.reader_message()
                if kind == "I":
                    self.input.put_nowait(data)
                elif kind == "S" and data in EVENTS:
                    self.signal(EVENTS[data])

    def signal(self, number: int) -> None:
        """To the whole process group."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)


class Side:
    """The server: who is served, and the journal."""

    def __init__(self, here: settings.Settings) -> None:
        """`here` are the machine's settings."""
        self.here = here
        self.token = secrets.token_hex(24)
        self.served: set[Served] = set()
        self.groups: set[int] = set()
        self.journal = Path(here.folder) / "machine.jsonl"

    def note(self, **row: Any) -> None:
        """One line of the journal."""
        with self.journal.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"at": round(time.time(), 3), **row}) + "\n")

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one program from its first message to its exit status."""
        one = Served(reader, writer, self.here)
        self.served.add(one)
        try:
            await self.answer(one)
        except (asyncio.IncompleteReadError, ConnectionError, PermissionError, ValueError) as error:
            self.note(refused=str(error))
        finally:
            self.served.discard(one)
            one.signal(signal.SIGKILL)
            writer.close()

    async def answer(self, one: Served) -> None:
        """The request, the run, the exit status."""
        request = await one.request(self.token)
        listening = asyncio.create_task(one.listen())
        began = time.monotonic()
        row = {"pid": request.pid, "exe": request.exe, "argv": [word[:200] for word in request.words]}
        self.note(**row, cwd=request.folder)
        call = Call(request.pid, request.exe, request.folder, request.words, request.variables)
        try:
            command = await asyncio.to_thread(commands.command, call, self.here)
            # By this the target knows which Windows process, and so which service, it is that listens.
            command.variables["LABWRIGHT_WINDOWS_PID"] = str(request.pid)
        except commands.Refused as refused:
            one.writer.write(framed("R", f"{refused}\r\n".encode()) + framed("Q", str(refused.status).encode()))
            self.note(**row, refused=str(refused), rc=refused.status)
            await one.writer.drain()
            return
        running = asyncio.create_task(one.run(command))
        await asyncio.wait({running, listening}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():  # the Windows process is gone
            self.note(**row, kind=command.kind, ended="with its Windows process")
            one.signal(signal.SIGKILL)
            running.cancel()
            return
        status = running.result()
        listening.cancel()
        self.note(**row, kind=command.kind, rc=status, seconds=round(time.monotonic() - began, 3))
        one.process = None  # what it leaves behind on purpose lives on, as on Windows
        one.writer.write(framed("Q", str(status).encode()))
        with contextlib.suppress(ConnectionError):
            await one.writer.drain()


def announce(here: settings.Settings, port: int, token: str) -> None:
    """Leave port and token where the machine's programs look."""
    path = here.drive_c / "windows/labwright-machine.ini"
    part = path.with_suffix(".part")
    part.write_text(f"[machine]\nport={port}\ntoken={token}\n", encoding="ascii")
    part.chmod(0o600)
    part.replace(path)


async def serve(here: settings.Settings, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM."""
    side = Side(here)
    server = await asyncio.start_server(side.connected, "127.0.0.1", 0, limit=LONGEST)
    announce(here, server.sockets[0].getsockname()[1], side.token)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    ready()
    async with server:
        await ended.wait()
        for one in side.served:
            one.signal(signal.SIGKILL)


def main() -> int:
    """`serve.py FOLDER`."""
    folder = Path(sys.argv[1])
    here = settings.read(folder)

    def ready() -> None:
        (folder / "machine.pid").write_text(f"{os.getpid()}\n")

    asyncio.run(serve(here, ready))
    return 0


if __name__ == "__main__":
    sys.exit(main())
