"""What every module stand-in works with."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..wine import Ended, PathError, Wine, command_line

Result = dict[str, Any]
HIVES = re.compile(r"^(HKLM|HKCU|HKCR|HKU|HKCC):\\(.*)$", re.IGNORECASE)


class Failed(Exception):
    """A module fails: the message, and what else its result holds."""

    def __init__(self, message: str, **more: Any) -> None:
        """``more`` goes into the result."""
        super().__init__(message)
        self.result: Result = {**more, "failed": True, "msg": message}


@dataclass(frozen=True)
class Machine:
    """What a stand-in may know of the target beside Wine."""

    name: str
    address: str
    user: str
    folder: Path
    ports: tuple[int, ...] = ()
    caption: str = "Microsoft Windows 11 Pro"
    booted: float = 0.0
    # Processes of this target that are not Wine's, with what they started.
    helpers: tuple[int, ...] = ()

    @property
    def is_server(self) -> bool:
        """Whether this is an edition for servers."""
        return "Server" in self.caption


@dataclass
class Context:
    """One call of a module: the machine, and how the module was called."""

    wine: Wine
    machine: Machine
    check: bool = False
    diff: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    warnings: list[str] = field(default_factory=list)
    variables: dict[str, str] | None = None

    def path(self, windows: str) -> Path:
        """Return where a path lies, with its %variables% filled in; raise Failed where it can lie nowhere."""
        try:
            return self.wine.path(self.expanded(windows))
        except PathError as error:
            raise Failed(f"{error}.") from None

    def expanded(self, text: str) -> str:
        """Fill in %variables%, as a module's options of type `path` are."""
        if "%" not in text:
            return text
        return re.sub(r"%([^%]+)%", lambda found: self.environ().get(found[1].lower(), found[0]), text)

    def environ(self) -> dict[str, str]:
        """Return the environment of a program now, by names in small letters."""
        if self.variables is None:
            said = self.run(["cmd.exe", "/c", "set"]).stdout.decode("utf-8", "replace")
            pairs = (line.partition("=") for line in said.splitlines() if "=" in line)
            self.variables = {name.lower(): value for name, _, value in pairs}
        return self.variables

    def run(
        self,
        line: str | Sequence[str],
        *,
        folder: str = "",
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
    ) -> Ended:
        """Run a program in Wine."""
        return self.wine.run(line, folder=folder, stdin=stdin, environment={**self.environment, **(environment or {})})

    def key(self, path: str) -> str:
        """Turn PowerShell's name of a registry key (HKLM:\\...) into the hand's."""
        match = HIVES.match(path)
        if match is None:
            raise Failed(f"path: {path} is not a valid powershell path, see module documentation for examples.")
        return f"{match[1].upper()}\\{match[2]}".rstrip("\\")

    def say(self, line: str | Sequence[str]) -> str:
        """Return a command line as text."""
        return line if isinstance(line, str) else command_line(line)


StandIn = Callable[[Result, Context], Result]
STAND_INS: dict[str, StandIn] = {}


def stand_in(*names: str) -> Callable[[StandIn], StandIn]:
    """Register a function as the stand-in of modules."""

    def register(function: StandIn) -> StandIn:
        STAND_INS.update(dict.fromkeys(names, function))
        return function

    return register


def checksum(path: Path, algorithm: str = "sha1") -> str:
    """Return a file's checksum."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
