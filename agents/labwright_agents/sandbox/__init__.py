"""How the code of models runs: `read` gives the settings that the role wrote, `executor` what AutoGen runs it with."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from labwright_agents.errors import AgentError
from labwright_agents.outcome import LANGUAGES, Execution
from labwright_agents.sandbox.keeper import DEEPEST, MOST_FILES

KEEPER = "/run/labwright-sandbox.sock"
# The kind, as a report says it after "the code ran".
WORDS = {
    "docker": "in a Docker container of its own",
    "unit": "in a locked-down systemd unit of its own",
    "local": "without a sandbox, as the program's own user",
}
# AutoGen tells models that they may name the file of a code block so, in its first line.
NAMED = re.compile(r"(?:#|//)[ \t]*filename:[ \t]*([\w][\w./-]*)[ \t]*$", re.MULTILINE)
KEPT = "/(?:etc|home|opt|proc|root|run|srv|sys|var)/"  # of the host, and in a box not or not to be read
# What the box itself says of how the code ended; for the rest, what the code said of it, when it failed.
CAUSES = {"time": "LW-AGENT-061", "output": "LW-AGENT-062", "killed": "LW-AGENT-063", "disk": "LW-AGENT-064"}
SIGNS = {
    "LW-AGENT-063": "MemoryError|Cannot allocate memory|Out of memory",
    "LW-AGENT-064": "No space left on device|File too large",
    "LW-AGENT-065": "Resource temporarily unavailable|can't start new thread|Cannot fork",
    "LW-AGENT-066": "Network is unreachable|Address family not supported|failure in name resolution|service not known",
    "LW-AGENT-067": "Read-only file system|Permission denied|Operation not permitted|"
    rf"No such file or directory: '{KEPT}|{KEPT}\S*: No such file",
}


@dataclass(frozen=True)
class Settings:
    """Which sandbox, and how large it is; MiB, and processes."""

    kind: str = "local"
    memory_mib: int = 0
    processes: int = 0
    work_mib: int = 0
    seconds: int = 0

    @property
    def words(self) -> str:
        """The kind, as a report says it after "the code ran"."""
        return WORDS[self.kind]


def read(path: Path) -> Settings:
    """The settings in a file; without one, code runs as the user who starts the program."""
    if not path.exists():
        return Settings()
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        kind = said["kind"]
        if kind not in WORDS:
            raise ValueError(f"kind is {kind!r}, expected one of {', '.join(WORDS)}")
        names = () if kind == "local" else ("memory_mib", "processes", "work_mib", "seconds")
        return Settings(kind, *(int(said[name]) for name in names))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AgentError("LW-AGENT-050", path=path, error=error) from error


def executor(settings: Settings, work_dir: Path, timeout_s: int, on_run: Callable[[Execution], None]) -> Any:
    """What runs a message's code blocks in work_dir, for at most timeout_s, and tells `on_run` of each run."""
    if settings.kind == "local":
        return Local(work_dir, timeout_s, on_run)
    return Box(settings, work_dir, timeout_s, on_run)


class Box:
    """Runs each code block in a fresh box, which the keeper makes; the work folder goes there and back by value."""

    def __init__(
        self,
        settings: Settings,
        work_dir: Path,
        timeout_s: int,
        on_run: Callable[[Execution], None],
        keeper: str = KEEPER,
    ) -> None:
        """Run code with work_dir's files, each block for at most `timeout_s` seconds."""
        self._settings, self._work_dir, self._on_run, self._keeper = settings, work_dir, on_run, keeper
        self._seconds = min(timeout_s, settings.seconds)

    def execute_code_blocks(self, code_blocks: Sequence[Any]) -> Any:
        """Run a message's code blocks, and tell of each."""
        from autogen.coding.base import CommandLineCodeResult

        code, said = self.run_all(code_blocks)
        return CommandLineCodeResult(exit_code=code, output=said)

    def run_all(self, code_blocks: Sequence[Any]) -> tuple[int, str]:
        """Run one block after the other, up to the first that fails; its exit code, and what all said."""
        said, code = "", 0
        for number, block in enumerate(code_blocks):
            start = time.monotonic()
            code, output, cause = self.run(str(block.language).lower(), str(block.code), number)
            self._on_run(Execution(str(block.language), str(block.code), code, output, time.monotonic() - start, cause))
            said += output + (f"\n{cause}\n" if cause else "")  # the model should know it too
            if code:
                break
        return code, said

    def run(self, language: str, code: str, number: int = 0) -> tuple[int, str, str]:
        """Exit code, output, and the sentence that says what ended or stopped the code."""
        if language not in LANGUAGES:
            return 1, f"unknown language {language}; there are {', '.join(LANGUAGES)}\n", ""
        kind = LANGUAGES[language]
        script = named(code) or f"code{number or ''}.{'py' if kind == 'python' else 'sh'}"
        files = gathered(self._work_dir, self._settings.work_mib, {script: code.encode()})
        said = self._ask({"language": kind, "script": script, "seconds": self._seconds}, files)
        if "fault" in said:
            raise AgentError("LW-AGENT-069", error=said["fault"])
        status, output = int(said["exit_code"]), str(said["output"])
        cause = self.cause(said["cause"], status, output)
        if said["files"] is None:
            most = {"most": self._settings.work_mib, "files": MOST_FILES, "deep": DEEPEST}
            return status, output, f"{cause} {AgentError('LW-AGENT-071', **most)}".lstrip()
        brought(self._work_dir, files, {path: base64.b64decode(text) for path, text in said["files"].items()})
        return status, output, cause

    def cause(self, known: str, status: int, output: str) -> str:
        """The sentence for what the box noticed, or else for what the code ran into."""
        signs = [id_ for id_, sign in SIGNS.items() if re.search(sign, output[-4000:])] if status else []
        id_ = CAUSES.get(known) or next(iter(signs), "")
        if not id_:
            return ""
        settings = self._settings
        return str(
            AgentError(
                id_,
                seconds=self._seconds,
                memory=settings.memory_mib,
                processes=settings.processes,
                disk=settings.work_mib,
            )
        )

    def _ask(self, request: dict[str, Any], files: dict[str, bytes]) -> dict[str, Any]:
        packed = {path: base64.b64encode(data).decode() for path, data in files.items()}
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(self._keeper)
                line.sendall(json.dumps({**request, "files": packed}).encode() + b"\n")
                with line.makefile("rb") as answer:
                    said: dict[str, Any] = json.loads(answer.readline())
                    return said
        except (OSError, ValueError) as error:
            raise AgentError("LW-AGENT-060", path=self._keeper, error=error) from error

    def restart(self) -> None:
        """Do nothing: each run has a box of its own."""


def named(code: str) -> str:
    """The file that the first line of a code block names, if it is a plain name below the work folder."""
    match = NAMED.match(code.lstrip())
    parts = PurePosixPath(match[1]).parts if match else ()
    return "/".join(parts) if parts and not {"/", ".", ".."} & set(parts) else ""


def gathered(folder: Path, most_mib: int, files: dict[str, bytes]) -> dict[str, bytes]:
    """The plain files of a work folder, by their names in it, and `files` over them; no more than a box holds."""
    found, size = dict(files), sum(map(len, files.values()))
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        name = path.relative_to(folder)
        if name.as_posix() in files:
            continue
        try:
            size += path.stat().st_size
            if size > most_mib << 20 or len(found) >= MOST_FILES or len(name.parts) > DEEPEST:
                raise AgentError("LW-AGENT-068", path=folder, most=most_mib, files=MOST_FILES, deep=DEEPEST)
            found[name.as_posix()] = path.read_bytes()
        except OSError as error:
            raise AgentError("LW-AGENT-018", path=path, error=error.strerror) from error
    return found


def brought(folder: Path, before: dict[str, bytes], after: dict[str, bytes]) -> None:
    """Make a work folder what the code left of it."""
    for path in before.keys() - after.keys():
        (folder / path).unlink(missing_ok=True)
    for path, data in after.items():
        target = folder / path
        if before.get(path) == data and target.exists():
            continue
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        except OSError as error:
            raise AgentError("LW-AGENT-018", path=target, error=error.strerror) from error


class Local:
    """AutoGen's local executor, with a record of what really ran."""

    def __init__(self, work_dir: Path, timeout_s: int, on_run: Callable[[Execution], None]) -> None:
        """Run code in work_dir, each message's code for at most `timeout_s` seconds."""
        from autogen.coding import LocalCommandLineCodeExecutor

        # AutoGen runs `python` from PATH. There may be none (Debian has only python3), or another one.
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        self._inner = LocalCommandLineCodeExecutor(timeout=timeout_s, work_dir=work_dir)
        self._on_run = on_run

    def execute_code_blocks(self, code_blocks: Sequence[Any]) -> Any:
        """Run a message's code blocks and tell of it."""
        from autogen.coding.base import CommandLineCodeResult

        start = time.monotonic()
        try:
            result = self._inner.execute_code_blocks(list(code_blocks))
        except (ValueError, OSError, NotImplementedError) as error:
            # AutoGen raises for code that it refuses; the model should be told, as for any other failure.
            result = CommandLineCodeResult(exit_code=1, output=f"{error}\n")
        languages = ", ".join(dict.fromkeys(str(block.language) for block in code_blocks))
        code = "\n\n".join(str(block.code) for block in code_blocks)
        seconds = time.monotonic() - start
        self._on_run(Execution(languages, code, int(result.exit_code), str(result.output), seconds))
        return result

    def restart(self) -> None:
        """Do nothing: each run is a process of its own."""
