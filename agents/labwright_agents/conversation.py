"""What a program needs for a conversation by AutoGen 0.2: agents that ask the model, and hands that run its code.

Every answer and every run goes through here, so that each is counted against the limits and written into the trace,
whatever AutoGen makes of it. AutoGen's own choice of a sandbox is not used: it asks for Docker by default, and takes
the mere presence of /.dockerenv for a sandbox.
"""

from __future__ import annotations

import contextlib
import io
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labwright_agents import sandbox
from labwright_agents.errors import AgentError, endpoint_fault
from labwright_agents.limits import Budget, Limits, cut
from labwright_agents.outcome import Execution, code_in, is_end, language_of
from labwright_agents.texts import whole
from labwright_agents.trace import Trace

COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
ENDLESS = 10**6  # AutoGen's own limits are not used: ours say why


@dataclass
class Conversation:
    """One conversation: what is asked, of whom, and what may be used up. `more` is what a program adds to it."""

    task: str
    entries: list[dict[str, Any]]
    limits: Limits
    trace: Trace
    settings: sandbox.Settings
    work_dir: Path
    budget: Budget
    example: dict[str, Any] | None = None
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def language(self) -> str:
        """The language of the task: en or zh."""
        return language_of(self.task)

    def model(self, name: str, system: dict[str, str]) -> Any:
        """An agent that asks the model; its system message by language."""
        from autogen import AssistantAgent

        llm_config = {
            # A price silences AutoGen's warning that it does not know what this model costs.
            "config_list": [{"price": [0, 0], "timeout": self.limits.request_seconds, **one} for one in self.entries],
            "temperature": 0,
            "cache_seed": None,
        }
        agent = AssistantAgent(
            name,
            system_message=system[self.language],
            llm_config=llm_config,
            code_execution_config=False,
            max_consecutive_auto_reply=ENDLESS,
        )
        agent.client = Asked(agent.client, name, self)
        return agent

    def person(self, name: str, reply: str, *, runs_code: bool = False) -> Any:
        """An agent without a model: it runs the code that it is sent, or else says `reply`."""
        from autogen import UserProxyAgent

        agent = UserProxyAgent(
            name,
            human_input_mode="NEVER",
            is_termination_msg=lambda message: is_end(message.get("content")),
            max_consecutive_auto_reply=ENDLESS,
            # An empty message, AutoGen's default, breaks FastChat's templates.
            default_auto_reply=reply,
            code_execution_config={"executor": Hands(self)} if runs_code else False,
            llm_config=False,
        )

        def note(message: Any, **_others: Any) -> Any:
            said = message if isinstance(message, str) else str(message.get("content") or "")
            self.trace.add("message", who=name, content=said)
            return message

        agent.register_hook("process_message_before_send", note)
        return agent

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Turn what the endpoint answers instead of words into AgentError, and keep what AutoGen prints to itself."""
        import openai

        try:
            with contextlib.redirect_stdout(io.StringIO()):
                yield
        except openai.APIStatusError as error:
            raise self._fault(error.status_code, _words(error), error) from error
        except openai.APIConnectionError as error:
            raise self._fault(None, str(error.__cause__ or error).rstrip("."), error) from error
        except openai.APIError as error:  # Asked's, or openai's for what it cannot read
            raise AgentError("LW-AGENT-038", base_url=self._asked(error), words=error.message) from error
        except openai.OpenAIError as error:
            raise self._fault(0, str(error), error) from error
        except TimeoutError as error:  # AutoGen's own, for openai's
            raise self._fault(None, f"no answer within {self.limits.request_seconds} s", error.__cause__) from error

    def _fault(self, status: int | None, words: str, error: Any) -> AgentError:
        return endpoint_fault(status, words, self._asked(error), self.entries[0]["model"])

    def _asked(self, error: Any) -> str:
        """Which of the endpoints an error is of."""
        url = str(getattr(getattr(error, "request", None), "url", ""))
        known = [str(one["base_url"]) for one in self.entries]
        return next((one for one in known if url.startswith(one)), known[0])


class Asked:
    """The client of one agent: AutoGen's, with each answer counted and traced."""

    def __init__(self, inner: Any, who: str, conversation: Conversation) -> None:
        """Stand before AutoGen's own client, and between it and each endpoint."""
        self._inner, self._who, self._conversation = inner, who, conversation
        for client, entry in zip(inner._clients, conversation.entries, strict=True):
            client.create = judged(client.create, entry["base_url"])

    def __getattr__(self, name: str) -> Any:
        """Whatever else AutoGen wants of its client."""
        return getattr(self._inner, name)

    def create(self, **config: Any) -> Any:
        """Ask the model, within the limits."""
        budget, trace = self._conversation.budget, self._conversation.trace
        budget.check()
        config["messages"] = alternate(config["messages"])
        start = time.monotonic()
        response = self._inner.create(**config)
        said = response.choices[0].message.content
        usage = response.usage
        # An endpoint that does not count is counted by its letters, so that the limit holds.
        asked = usage.prompt_tokens if usage else sum(len(one["content"]) for one in config["messages"]) // 4
        given = usage.completion_tokens if usage else len(said) // 4
        trace.add(
            "answer",
            who=self._who,
            base_url=self._conversation.entries[response.config_id]["base_url"],
            content=said,
            prompt_tokens=asked,
            completion_tokens=given,
            seconds=round(time.monotonic() - start, 3),
        )
        budget.answered(self._who, said, asked + given)
        return response


def judged(create: Callable[[dict[str, Any]], Any], base_url: str) -> Callable[[dict[str, Any]], Any]:
    """A client's `create` whose result is an answer of a model, or else openai.APIError, after which AutoGen asks the
    next endpoint: AutoGen itself takes apart what it gets without a look."""
    import httpx
    import openai

    def ask(request: dict[str, Any]) -> Any:
        asked = httpx.Request("POST", base_url)
        try:
            response = create(request)
        except ValueError as error:
            raise openai.APIError(f"it is no JSON ({error})", asked, body=None) from error
        choices: Any = getattr(response, "choices", None)
        message: Any = getattr(choices[0], "message", None) if isinstance(choices, list) and choices else None
        if not isinstance(getattr(message, "content", 0), str | None):
            raise openai.APIError(f"no choice with a message in {str(response)[:200]}", asked, body=None)
        del choices[1:]
        # Nobody was offered a tool, so a call of one says nothing.
        message.content, message.tool_calls, message.function_call = whole(message.content or ""), None, None
        if not all(isinstance(getattr(response.usage, name, None), int) for name in COUNTS):
            response.usage = None
        return response

    return ask


class Hands:
    """The sandbox's executor, with what runs traced and its output cut to the limit."""

    def __init__(self, conversation: Conversation) -> None:
        """Run code in the conversation's folder."""
        self._conversation = conversation
        self._shown: tuple[str, str] | None = None
        limits = conversation.limits
        self._inner: Any = sandbox.executor(
            conversation.settings, conversation.work_dir, min(limits.code_seconds, limits.seconds), self._note
        )

    @property
    def code_extractor(self) -> Any:
        """What finds code blocks in a message: this."""
        return self

    def extract_code_blocks(self, message: Any) -> list[Any]:
        """The code blocks of a message that run."""
        from autogen.coding import CodeBlock

        return [CodeBlock(language=language, code=code) for language, code in code_in(str(message or ""))]

    def execute_code_blocks(self, code_blocks: Sequence[Any]) -> Any:
        """Run a message's code blocks."""
        result = self._inner.execute_code_blocks(list(code_blocks))
        result.output = cut(result.output, self._conversation.limits.output)
        return result

    def run(self, code: str, shown: str, hidden: str) -> tuple[int, str]:
        """Run a Python program of ours; return exit code and output. The trace has `shown` in its place, and its output
        without `hidden`."""
        from autogen.coding import CodeBlock

        self._shown = shown, hidden
        try:
            result = self.execute_code_blocks([CodeBlock(language="python", code=code)])
        finally:
            self._shown = None
        return int(result.exit_code), str(result.output)

    def restart(self) -> None:
        """Do nothing: each run is a process of its own."""

    def _note(self, run: Execution) -> None:
        shown, hidden = self._shown or (run.code, "")
        self._conversation.trace.add(
            "run",
            language=run.language,
            code=shown,
            exit_code=run.exit_code,
            output=run.output.replace(hidden + "\n", "") if hidden else run.output,
            seconds=round(run.seconds, 3),
            cause=run.cause,
        )


def alternate(messages: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """The messages with neighbours of one role as one: many models know only turns of two, and a group has more."""
    found: list[dict[str, str]] = []
    for one in messages:
        role, content = str(one["role"]), str(one.get("content") or "")
        if found and found[-1]["role"] == role:
            found[-1] = {"role": role, "content": f"{found[-1]['content']}\n\n{content}"}
        else:
            found.append({"role": role, "content": content})
    return found


def executed(code: int, output: str) -> str:
    """What AutoGen says to the model when code has run."""
    return f"exitcode: {code} ({'execution succeeded' if code == 0 else 'execution failed'})\nCode output: {output}"


def needs_autogen() -> None:
    """Raise AgentError where AutoGen is not installed."""
    logging.disable(logging.WARNING)  # AutoGen's dependencies warn of packages that are not needed here,
    warnings.filterwarnings("ignore", message="flaml.automl is not available")  # as of a part of FLAML.
    try:
        import autogen  # noqa: F401
    except ImportError as error:
        raise AgentError("LW-AGENT-020", error=error) from error


def _words(error: Any) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    code = f" (code {body['code']})" if body.get("code") else ""
    said = body.get("message") or error.response.text or error.message
    return f"{str(said).strip()[:500]}{code}"
