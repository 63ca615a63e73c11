"""Hold the two-agent conversation of AutoGen 0.2: the model writes code, this process runs it, the model concludes.

The code of the model runs on this machine, as this user, in the work folder, with a time limit. Whoever starts this
process is its sandbox (the lab starts it in a systemd unit with few rights). AutoGen's own choice of a sandbox is not
used: it asks for Docker by default, and takes the mere presence of /.dockerenv for a sandbox.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from labwright_agents.errors import AgentError, endpoint_sentence
from labwright_agents.outcome import Execution, Message, Outcome, is_end

USER, ASSISTANT = "user_proxy", "assistant"
# Said when the model neither writes code nor ends. An empty message, AutoGen's default, breaks FastChat's templates.
NUDGE = "Write a program for the task, or end with TERMINATE if everything is done."


class RecordingExecutor:
    """AutoGen's local executor, with a record of what really ran."""

    def __init__(self, work_dir: Path, timeout: int) -> None:
        """Run code in work_dir, each message's code for at most `timeout` seconds."""
        from autogen.coding import LocalCommandLineCodeExecutor

        self._inner = LocalCommandLineCodeExecutor(timeout=timeout, work_dir=work_dir)
        self.executions: list[Execution] = []

    @property
    def code_extractor(self) -> Any:
        """Return what finds code blocks in a message."""
        return self._inner.code_extractor

    def execute_code_blocks(self, code_blocks: Sequence[Any]) -> Any:
        """Run a message's code blocks and remember them with their result."""
        from autogen.coding.base import CommandLineCodeResult

        try:
            result = self._inner.execute_code_blocks(list(code_blocks))
        except (ValueError, OSError, NotImplementedError) as error:
            # AutoGen raises for code that it refuses; the model should be told, as for any other failure.
            result = CommandLineCodeResult(exit_code=1, output=f"{error}\n")
        languages = ", ".join(dict.fromkeys(str(block.language) for block in code_blocks))
        code = "\n\n".join(str(block.code) for block in code_blocks)
        self.executions.append(Execution(languages, code, int(result.exit_code), str(result.output)))
        return result

    def restart(self) -> None:
        """Do nothing: each run is a process of its own."""


def prepare_environment(base_urls: Sequence[str]) -> None:
    """Set what AutoGen, the OpenAI client and the executed code read from the environment of this process."""
    # AutoGen runs `python` from PATH. There may be none (Debian has only python3), or another one.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    os.environ["AUTOGEN_USE_DOCKER"] = "False"
    # The lab's endpoint is never behind the site's proxy.
    hosts = [urlsplit(url).hostname or "" for url in base_urls]
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name, ""), *hosts]))


def converse(
    task: str,
    config: list[dict[str, Any]],
    *,
    system: str,
    work_dir: Path,
    max_turns: int,
    code_timeout: int,
    request_timeout: int,
) -> Outcome:
    """Ask the model to solve a task; raise AgentError when the endpoint does not play its part."""
    prepare_environment([entry["base_url"] for entry in config])
    # A part of FLAML that AutoGen does not use asks to be installed.
    warnings.filterwarnings("ignore", message="flaml.automl is not available")
    import openai
    from autogen import AssistantAgent, UserProxyAgent

    first = config[0]
    llm_config = {
        # A price silences AutoGen's warning that it does not know what this model costs.
        "config_list": [{"price": [0, 0], **entry} for entry in config],
        "temperature": 0,
        "cache_seed": None,
        "timeout": request_timeout,
    }
    executor = RecordingExecutor(work_dir, code_timeout)
    assistant = AssistantAgent(
        ASSISTANT,
        system_message=system,
        llm_config=llm_config,
        code_execution_config=False,
        max_consecutive_auto_reply=max_turns,
    )
    user = UserProxyAgent(
        USER,
        human_input_mode="NEVER",
        is_termination_msg=lambda message: is_end(message.get("content")),
        max_consecutive_auto_reply=max_turns,
        default_auto_reply=NUDGE,
        code_execution_config={"executor": executor},
        llm_config=False,
    )
    start = time.monotonic()
    try:
        # AutoGen prints as it goes, even when silent; the transcript is ours.
        with contextlib.redirect_stdout(io.StringIO()):
            user.initiate_chat(assistant, message=task, max_turns=max_turns, silent=True)
    except openai.APIStatusError as error:
        words = _words(error)
        raise AgentError(endpoint_sentence(error.status_code, words, first["base_url"], first["model"])) from error
    except openai.APIConnectionError as error:
        reason = str(error.__cause__ or error).rstrip(".")
        raise AgentError(endpoint_sentence(None, reason, first["base_url"], first["model"])) from error
    except openai.OpenAIError as error:
        raise AgentError(endpoint_sentence(0, str(error), first["base_url"], first["model"])) from error
    seconds = time.monotonic() - start
    messages = tuple(_message(item) for item in user.chat_messages[assistant])
    return Outcome(task, messages, tuple(executor.executions), seconds, first["model"], first["base_url"])


def _message(item: dict[str, Any]) -> Message:
    # AutoGen keeps roles from the view of one agent; names say who spoke.
    name = str(item.get("name") or (USER if item["role"] == "assistant" else ASSISTANT))
    return Message("user" if name == USER else "assistant", name, str(item.get("content") or ""))


def _words(error: Any) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    code = f" (code {body['code']})" if body.get("code") else ""
    said = body.get("message") or error.response.text or error.message
    return f"{str(said).strip()[:500]}{code}"
