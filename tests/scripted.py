"""An endpoint that says what a test wants, and a folder from which the programs are run in processes of their own.

They need a Python that has the packages of env/agents: the one that LABWRIGHT_AGENT_PYTHON names, or this one.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

AGENTS = Path(__file__).resolve().parents[1] / "agents"
PYTHON = os.environ.get("LABWRIGHT_AGENT_PYTHON") or sys.executable
MISSING = "LABWRIGHT_AGENT_PYTHON" not in os.environ and importlib.util.find_spec("autogen") is None
KEY = "lw-0123456789abcdefghijklmnop"

CODE = "Here it is.\n\n```python\nprint(6 * 7)\n```"
DONE = "It printed 42.\n\nTERMINATE"

PAGE = AGENTS.parent / "docs/agents.md"
# The program of the recipe of 2023; its arguments add to each entry of the configuration, and to the user's settings.
RECIPE = """
import json, os, sys
from autogen import AssistantAgent, UserProxyAgent, config_list_from_json
more = json.loads(sys.argv[1])
models = [{**one, **more} for one in config_list_from_json("OAI_CONFIG_LIST")]
assistant = AssistantAgent("assistant", llm_config={"config_list": models, "cache_seed": None})
user = UserProxyAgent("user", human_input_mode="NEVER", max_consecutive_auto_reply=1, **json.loads(sys.argv[2]))
user.initiate_chat(assistant, message="Print 42.")
"""


@dataclass
class Endpoint:
    """An OpenAI-like endpoint that gives its replies in turn, the last one for ever; a reply is a text, (HTTP status,
    body), or what makes one of those from a request."""

    replies: list[Any]
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        """The address for the configuration."""
        return f"http://127.0.0.1:{self.port}/v1"

    def answer(self, number: int, request: dict[str, Any]) -> tuple[int, Any]:
        """HTTP status and body, which is bytes or JSON."""
        reply = self.replies[min(number, len(self.replies) - 1)]
        reply = reply(request) if callable(reply) else reply
        if isinstance(reply, tuple):
            return reply
        message = {"role": "assistant", "content": reply}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42}
        head = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
        return 200, {**head, "choices": [choice], "usage": usage}


def serve(endpoint: Endpoint) -> ThreadingHTTPServer:
    """Serve on a port of its own until the server is shut down."""
    one_at_a_time = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            endpoint.paths.append(self.path)
            self.send_error(404)

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with one_at_a_time:
                number = len(endpoint.requests)
                endpoint.paths.append(self.path)
                endpoint.headers.append(dict(self.headers.items()))
                endpoint.requests.append(request)
            status, body = endpoint.answer(number, request)
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *words: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 64

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that was killed is no fault of the server's."""

    server = Server(("127.0.0.1", 0), Handler)
    endpoint.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@dataclass
class Lab:
    """A folder with a configuration, and a way to run programs there."""

    folder: Path
    servers: list[ThreadingHTTPServer] = field(default_factory=list)

    @property
    def config_file(self) -> Path:
        """The configuration, under the name that the role gives it."""
        return self.folder / "OAI_CONFIG_LIST"

    def endpoint(self, *replies: Any) -> Endpoint:
        """One more endpoint, which is then the configured one."""
        endpoint = Endpoint(list(replies))
        self.servers.append(serve(endpoint))
        self.config({"base_url": endpoint.url})
        return endpoint

    def config(self, *entries: dict[str, Any], **lab: Any) -> None:
        """Write the configuration as the role does, and lab.json beside it."""
        whole = [{"model": "m", "api_key": KEY, "max_retries": 2, "timeout": 20, **entry} for entry in entries]
        self.config_file.write_text(json.dumps(whole), encoding="utf-8")
        (self.folder / "lab.json").write_text(json.dumps({"at_once": 4, **lab}), encoding="utf-8")

    def command(self, program: str, *words: str) -> list[str]:
        """The command line of a program."""
        places = ["--config", str(self.config_file), "--home", str(self.folder / "home")]
        return [PYTHON, "-m", "labwright_agents", program, *places, *words]

    def environment(self, **more: str) -> dict[str, str]:
        """A bare environment, as a systemd unit has it; all that would leave the machine ends at a dead proxy."""
        dead = "http://127.0.0.1:9"
        bare = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(AGENTS), "HOME": str(self.folder), "PYTHONUTF8": "1"}
        return {**bare, "HTTP_PROXY": dead, "HTTPS_PROXY": dead, "PYTHONDONTWRITEBYTECODE": "1", **more}

    def run(self, program: str, *words: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        """Run a program to its end."""
        return subprocess.run(
            self.command(program, *words),
            env=self.environment(**env),
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def start(self, program: str, *words: str) -> subprocess.Popen[str]:
        """Begin to run a program, in a process group of its own."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            self.command(program, *words),
            env=self.environment(),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            text=True,
            start_new_session=True,
        )

    def ask(self, program: str, *words: str, task: str = "Print 42.", stdin: str = "") -> tuple[int, dict[str, Any]]:
        """Run a conversation; exit status and what `--json` printed."""
        done = self.run(program, f"--task={task}", "--json", *words, stdin=stdin)
        assert done.stdout.count("\n") == 1, done.stdout + done.stderr
        return done.returncode, json.loads(done.stdout)

    def traces(self) -> list[list[dict[str, Any]]]:
        """The events of every conversation that was held here, the oldest first."""
        paths = sorted((self.folder / "home/traces").glob("*.jsonl"))
        return [[json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] for path in paths]


def slowly(seconds: float, reply: str) -> Callable[[dict[str, Any]], str]:
    """A reply that takes its time."""

    def answer(_request: dict[str, Any]) -> str:
        time.sleep(seconds)
        return reply

    return answer


def told(request: dict[str, Any]) -> str:
    """The last thing that the model was told."""
    return str(request["messages"][-1]["content"])


def by_turn(*replies: str) -> Callable[[dict[str, Any]], str]:
    """Replies by how often the model has answered in this conversation already: for several conversations at once."""

    def reply(request: dict[str, Any]) -> str:
        answers = len([one for one in request["messages"] if one["role"] == "assistant"])
        return replies[min(answers, len(replies) - 1)]

    return reply


def scripts() -> dict[str, str]:
    """The scripts of docs/agents.md, to the letter: one for each client, and `export`, which comes before each."""
    part = PAGE.read_text(encoding="utf-8").partition("## Your own scripts")[2].partition("\n## ")[0]
    return dict(
        zip(
            ("export", "autogen", "openai", "curl"),
            re.findall(r"```(?:python|sh)\n(.*?)```", part, re.DOTALL),
            strict=True,
        )
    )
