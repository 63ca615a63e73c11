"""How the code of models runs: `read` gives the settings that the role wrote, `executor` what AutoGen runs it with."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labwright_agents.errors import AgentError
from labwright_agents.outcome import Execution

# Either runs code as the program itself runs; with `unit` the role has locked the program up in a transient unit.
WORDS = {
    "unit": "in the agent's own locked-down systemd unit",
    "local": "without a sandbox, as the program's own user",
}


@dataclass(frozen=True)
class Settings:
    """Which sandbox, and what it needs."""

    kind: str = "local"

    @property
    def words(self) -> str:
        """The kind, as a report says it after "the code ran"."""
        return WORDS[self.kind]


def read(path: Path) -> Settings:
    """The settings in a file; without one, code runs as the user who starts the program."""
    if not path.exists():
        return Settings()
    try:
        kind = json.loads(path.read_text(encoding="utf-8"))["kind"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AgentError("LW-AGENT-050", path=path, error=error) from error
    if kind not in WORDS:
        raise AgentError("LW-AGENT-050", path=path, error=f"kind is {kind!r}, expected one of {', '.join(WORDS)}")
    return Settings(kind)


def executor(settings: Settings, work_dir: Path, timeout_s: int, on_run: Callable[[Execution], None]) -> object:
    """What runs a message's code blocks in work_dir, for at most timeout_s, and tells `on_run` of each run."""
    return {"local": Local, "unit": Local}[settings.kind](work_dir, timeout_s, on_run)


class Local:
    """AutoGen's local executor, with a record of what really ran."""

    def __init__(self, work_dir: Path, timeout_s: int, on_run: Callable[[Execution], None]) -> None:
        """Run code in work_dir, each message's code for at most `timeout_s` seconds."""
        from autogen.coding import LocalCommandLineCodeExecutor

        # AutoGen runs `python` from PATH. There may be none (Debian has only python3), or another one.
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        self._inner = LocalCommandLineCodeExecutor(timeout=timeout_s, work_dir=work_dir)
        self._on_run = on_run

    @property
    def code_extractor(self) -> Any:
        """What finds code blocks in a message."""
        return self._inner.code_extractor

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
