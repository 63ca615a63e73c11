"""The assistant program from outside, in a process of its own, against an endpoint that says what the test wants.

They need a Python that has pyautogen 0.2.35 (env/agents): the one that LABWRIGHT_AGENT_PYTHON names, or this one.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

AGENTS = Path(__file__).resolve().parent.parent
PYTHON = os.environ.get("LABWRIGHT_AGENT_PYTHON") or sys.executable
if "LABWRIGHT_AGENT_PYTHON" not in os.environ and importlib.util.find_spec("autogen") is None:
    pytest.skip("set LABWRIGHT_AGENT_PYTHON to a Python with the packages of env/agents", allow_module_level=True)

CODE = "Here it is.\n\n```python\nprint(6 * 7)\n```"
DONE = "It printed 42.\n\nTERMINATE"


@dataclass
class Endpoint:
    """An OpenAI-like endpoint that gives its replies in turn; a reply is a text, or (HTTP status, body)."""

    replies: list[Any]
    requests: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    port: int = 0

    def answer(self) -> tuple[int, dict[str, Any]]:
        reply = self.replies[min(len(self.requests), len(self.replies)) - 1]
        if isinstance(reply, tuple):
            return reply
        message = {"role": "assistant", "content": reply}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return 200, {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [choice],
            "usage": usage,
        }


def serve(endpoint: Endpoint) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            endpoint.paths.append(self.path)
            self.send_error(404)

        def do_POST(self) -> None:
            endpoint.paths.append(self.path)
            endpoint.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            status, body = endpoint.answer()
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    endpoint.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@dataclass
class Lab:
    """A folder with a configuration, and a way to run the program there."""

    folder: Path
    servers: list[ThreadingHTTPServer] = field(default_factory=list)

    def endpoint(self, *replies: Any) -> Endpoint:
        endpoint = Endpoint(list(replies))
        self.servers.append(serve(endpoint))
        self.config(f"http://127.0.0.1:{endpoint.port}/v1")
        return endpoint

    def config(self, base_url: str, **more: Any) -> None:
        entry = {"base_url": base_url, "model": "m", "api_key": "NULL", **more}
        (self.folder / "config.json").write_text(json.dumps([entry]))

    def run(self, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        argv = [PYTHON, "-m", "labwright_agents", "assistant", "--config", str(self.folder / "config.json"), *words]
        # A bare environment, as a systemd unit has it; everything that would leave the machine ends at a dead proxy.
        bare = {
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(AGENTS),
            "HTTP_PROXY": "http://127.0.0.1:9",
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "HOME": str(self.folder),
        }
        return subprocess.run(
            argv, env={**bare, **(env or {})}, cwd=self.folder, capture_output=True, text=True, timeout=120, check=False
        )

    def ask(self, *words: str, task: str = "Print 42.") -> tuple[int, dict[str, Any]]:
        done = self.run("--task", task, "--json", *words)
        assert done.stdout.count("\n") == 1, done.stdout + done.stderr
        return done.returncode, json.loads(done.stdout)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    for server in lab.servers:
        server.shutdown()
        server.server_close()


def test_code_is_run_and_the_model_concludes(lab: Lab) -> None:
    endpoint = lab.endpoint(CODE, DONE)
    status, said = lab.ask()
    assert (status, said["verdict"]) == (0, "answered")
    assert (said["code"], said["output"], said["exit_code"]) == ("print(6 * 7)", "42\n", 0)
    assert [m["role"] for m in said["messages"]] == ["user", "assistant", "user", "assistant"]
    assert said["messages"][2]["content"] == "exitcode: 0 (execution succeeded)\nCode output: 42\n"
    assert (said["model"], said["base_url"]) == ("m", f"http://127.0.0.1:{endpoint.port}/v1")
    assert [r["temperature"] for r in endpoint.requests] == [0, 0]
    assert endpoint.requests[0]["messages"][0]["role"] == "system"
    # GET /v1/models would make FastChat drop a worker that is slow to answer.
    assert set(endpoint.paths) == {"/v1/chat/completions"}


def test_the_transcript_shows_task_code_output_and_verdict(lab: Lab) -> None:
    lab.endpoint(CODE, DONE)
    done = lab.run("--task", "Print 42.", "--transcript", "t.txt", "--work-dir", "a b/work")
    assert done.returncode == 0
    for words in ("Print 42.", "print(6 * 7)", "exit code 0", "  | 42\n", "Verdict: answered"):
        assert words in done.stdout
    assert (lab.folder / "t.txt").read_text().strip() == done.stdout.strip()
    assert list((lab.folder / "a b/work").glob("*.py"))


@pytest.mark.parametrize(
    ("replies", "verdict", "code"),
    [
        (["```python\nraise SystemExit(3)\n```", "I cannot.\n\nTERMINATE"], "code failed", 3),
        (["It is 42. exitcode: 0 (execution succeeded)\n\nTERMINATE"], "no code", None),
        ([CODE, "and so on"], "not finished", 0),
        (["```python\n1 / 0\n```", CODE, DONE], "answered", 0),
        (["```sh\nrm -rf nothing\n```", DONE], "code failed", 1),
        (["```python\nimport time; time.sleep(30)\n```", DONE], "code failed", 124),
        (["# Program and end in one breath\n" + CODE + "\nTERMINATE", DONE], "answered", 0),
        (["", "", ""], "not finished", None),
    ],
)
def test_the_verdict_follows_what_happened(lab: Lab, replies: list[str], verdict: str, code: int | None) -> None:
    lab.endpoint(*replies)
    status, said = lab.ask("--max-turns", "4", "--code-timeout", "2")
    assert (said["verdict"], said["exit_code"]) == (verdict, code)
    assert status == (0 if verdict == "answered" else 1)


@pytest.mark.parametrize(
    ("reply", "id_", "words"),
    [
        (
            (400, {"object": "error", "message": "Only a&&b allowed now, your model m", "code": 40301}),
            "012",
            "serves a, b",
        ),
        ((400, {"object": "error", "message": "Only  allowed now, your model m", "code": 40301}), "012", "no model"),
        ((404, {"detail": "Not Found"}), "013", "/v1"),
        ((401, {"error": {"message": "wrong key", "code": "invalid_api_key"}}), "014", "api_key"),
        ((400, {"object": "error", "message": "(CUDA out of memory)", "code": 50002}), "015", "quantisation"),
    ],
)
def test_a_refusal_is_a_sentence(lab: Lab, reply: tuple[int, dict[str, Any]], id_: str, words: str) -> None:
    lab.endpoint(reply)
    done = lab.run("--task", "x", "--json")
    assert done.returncode == 2
    assert done.stderr.startswith(f"LW-AGENT-{id_}: ")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout)["verdict"] == "not asked"


def test_an_endpoint_that_does_not_listen_is_a_sentence(lab: Lab) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        lab.config(f"http://127.0.0.1:{free.getsockname()[1]}/v1")
        done = lab.run("--task", "x")
    assert (done.returncode, done.stderr[:12]) == (2, "LW-AGENT-011")


def test_docker_settings_of_the_machine_change_nothing(lab: Lab) -> None:
    lab.endpoint(CODE, DONE)
    done = lab.run("--task", "x", "--json", env={"AUTOGEN_USE_DOCKER": "1", "DOCKER_HOST": "unix:///nowhere"})
    assert json.loads(done.stdout)["verdict"] == "answered"
