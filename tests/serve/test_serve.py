"""labwright_serve from outside: real processes of real FastChat, with a scripted worker in the place of a model.

They need a Python that has FastChat 0.2.36 (the lock of env/stacks/frontend is enough): LABWRIGHT_FASTCHAT_PYTHON;
those of the page one with the lock of env/stacks/web: LABWRIGHT_PAGE_PYTHON.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

import page_client

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parents[1] / "roles/fastchat/files"
PYTHON = os.environ.get("LABWRIGHT_FASTCHAT_PYTHON", "")
PAGE_PYTHON = os.environ.get("LABWRIGHT_PAGE_PYTHON", "")
if not PYTHON:
    pytest.skip("set LABWRIGHT_FASTCHAT_PYTHON to a Python with FastChat 0.2.36", allow_module_level=True)


ID = re.compile(r"LW-[A-Z]+-\d{3}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ask(url: str, payload: Any = None, method: str = "POST", timeout: float = 20) -> tuple[int, Any]:
    """The HTTP status and what was said; status 0 when nobody answers."""
    _, _, address, path = url.split("/", 3)
    connection = http.client.HTTPConnection(address, timeout=timeout)
    try:
        body = None if method == "GET" else json.dumps(payload or {})
        connection.request(method, f"/{path}", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        words = answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return 0, repr(error)
    finally:
        connection.close()
    try:
        return answer.status, json.loads(words)
    except ValueError:
        return answer.status, words


def until(true: Callable[[], Any], limit_s: float = 20) -> Any:
    end = time.monotonic() + limit_s
    while True:
        found = true()
        if found or time.monotonic() > end:
            assert found, f"not so within {limit_s} s"
            return found
        time.sleep(0.05)


@dataclass
class Process:
    handle: subprocess.Popen[bytes]
    url: str
    log: Path

    def end(self, number: int = signal.SIGKILL) -> int:
        self.handle.send_signal(number)
        return self.handle.wait(20)


@dataclass
class Lab:
    folder: Path
    controller_url: str = ""
    script: str = "scripted.py"
    processes: list[Process] = field(default_factory=list)

    def start(self, program: str, *options: str, port: int = 0, host: str = "127.0.0.1", **extra: Any) -> Process:
        port = port or free_port()
        # Of the page nothing is scripted.
        run = [PAGE_PYTHON, "-m", "labwright_serve"] if program == "page" else [PYTHON, str(HERE / self.script)]
        argv = [*run, program, "--host", host, "--port", str(port), *options]
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(PACKAGE),
            "FASTCHAT_WORKER_HEART_BEAT_INTERVAL": "30",
            **extra,
        }
        log = self.folder / f"{len(self.processes)}-{program}.log"
        with log.open("wb") as file:
            handle = subprocess.Popen(argv, env=environment, cwd=self.folder, stdout=file, stderr=file)
        self.processes.append(Process(handle, f"http://127.0.0.1:{port}", log))
        return self.processes[-1]

    def controller(self, *options: str, port: int = 0, **extra: Any) -> Process:
        process = self.start("controller", *options, port=port, **extra)
        self.controller_url = process.url
        until(lambda: ask(process.url + "/test_connection", method="GET")[0] == 200)
        return process

    def api(self, **extra: Any) -> Process:
        process = self.start("api", "--controller-address", self.controller_url, **extra)
        until(lambda: ask(process.url + "/docs", method="GET")[0] == 200)
        return process

    def worker(self, *options: str, port: int = 0, name: str = "m", wait: bool = True, **extra: Any) -> Process:
        port = port or free_port()
        addresses = ["--worker-address", f"http://127.0.0.1:{port}", "--controller-address", self.controller_url]
        process = self.start("worker", *addresses, "--model-names", name, *options, port=port, **extra)
        if wait:
            until(lambda: name in self.models())
            until(lambda: f"'model_names': ['{name}']" in str(ask(process.url + "/worker_get_status")[1]))
        return process

    def models(self) -> Any:
        status, said = ask(self.controller_url + "/list_models")
        return said["models"] if status == 200 else []

    def refused(self, program: str, *options: str, **more: Any) -> str:
        """What a process says that must end by itself."""
        process = self.start(program, *options, **more)
        assert process.handle.wait(20) == 1
        return process.log.read_text().strip().splitlines()[-1]


@pytest.fixture
def lab(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Lab]:
    lab = Lab(tmp_path, script=getattr(request, "param", "scripted.py"))
    yield lab
    for process in lab.processes:
        if process.handle.poll() is None:
            process.handle.kill()
            process.handle.wait(20)


def chat(api: Process, words: str = "hi", model: str = "m", timeout: float = 20, **more: Any) -> tuple[int, Any]:
    request = {"model": model, "messages": [{"role": "user", "content": words}], **more}
    return ask(api.url + "/v1/chat/completions", request, timeout=timeout)


def pieces(said: str) -> list[Any]:
    """What a stream's events hold; its end must be there."""
    *events, last = re.findall(r"^data: (.*)$", said, re.MULTILINE)
    assert last == "[DONE]"
    return [json.loads(event) for event in events]


def test_each_id_is_brought_about_here() -> None:
    said = {one for file in PACKAGE.rglob("*.py") for one in ID.findall(file.read_text())}
    assert said == set(ID.findall(Path(__file__).read_text()))


# --- starting -------------------------------------------------------------------------------------------------------


def test_a_taken_port_is_named_with_who_has_it_and_nothing_stays_alive(lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = lab.refused("controller", port=port)
    assert said.startswith(f"LW-SERVE-001: cannot listen on 127.0.0.1:{port}: Address already in use; process")
    assert f"process {os.getpid()} (" in said


def test_an_address_of_another_host_is_refused_without_a_zombie(lab: Lab) -> None:
    said = lab.refused("worker", host="192.0.2.1")
    assert "LW-SERVE-001" in said
    assert "assign requested address" in said


@pytest.mark.parametrize("options", [("--ssl",), ("--host", "localhost"), ("--host", "")])
def test_a_name_for_an_address_is_refused(lab: Lab, options: tuple[str, ...]) -> None:
    assert "LW-SERVE-003" in lab.refused("api", *options)


def test_an_unknown_program_is_refused(lab: Lab) -> None:
    assert "LW-SERVE-003: expected one of controller, worker, bridge, api" in lab.refused("web")


@pytest.mark.parametrize(
    ("fail", "words"),
    [
        (
            "memory",
            "LW-SERVE-004: out of memory while loading .*: CUDA out of memory. Tried to .* GiB. Ask for a smaller",
        ),
        (
            "broken",
            "LW-SERVE-005: .* cannot be loaded: ValueError: Unrecognized model in it. The traceback stands above",
        ),
        ("first-memory", "LW-SERVE-002: the worker gave no token: out of GPU memory .50002.. Ask for a smaller quant"),
        ("first", "LW-SERVE-002: the worker gave no token: .*no kernel image"),
    ],
)
def test_a_worker_that_cannot_work_says_why_and_never_registers(lab: Lab, fail: str, words: str) -> None:
    lab.controller()
    worker = lab.worker("--fail", fail, wait=False)
    assert worker.handle.wait(20) == 1
    assert re.search(words, worker.log.read_text().splitlines()[-1])
    assert lab.models() == []
    assert "Register a new worker" not in lab.processes[0].log.read_text()


def test_a_model_folder_without_a_model_is_named_before_anything_is_loaded(lab: Lab) -> None:
    said = lab.refused("worker", "--model-path", str(lab.folder))
    assert said.startswith(f"LW-SERVE-005: there is no model in {lab.folder}: it has no config.json.")


# --- controller and workers -----------------------------------------------------------------------------------------


def test_a_worker_waits_for_its_controller_and_is_there_when_that_comes(lab: Lab) -> None:
    port = free_port()
    lab.controller_url = f"http://127.0.0.1:{port}"
    worker = lab.worker(wait=False)
    until(lambda: "does not" in worker.log.read_text() or "refused" in worker.log.read_text())
    lab.controller(port=port)
    until(lambda: lab.models() == ["m"], 3)


def test_a_controller_that_was_killed_knows_its_workers_from_its_first_answer_on(lab: Lab) -> None:
    first = lab.controller()
    worker = lab.worker()
    first.end()
    port = int(first.url.rsplit(":", 1)[1])
    dead = f"http://127.0.0.1:{free_port()}"
    lab.start("controller", "--workers", f"{dead},{worker.url}", port=port)
    said = until(lambda: ask(first.url + "/list_models")[1] if ask(first.url + "/list_models")[0] else None)
    assert said == {"models": ["m"]}


def test_listing_models_evicts_nobody_and_the_overdue_are_forgotten_soon(lab: Lab) -> None:
    lab.controller(FASTCHAT_CONTROLLER_HEART_BEAT_EXPIRATION="3")
    api = lab.api()
    status = {"model_names": ["away"], "speed": 1, "queue_length": 0}
    dead = {"worker_name": "http://127.0.0.1:9", "check_heart_beat": True, "worker_status": status}
    ask(lab.controller_url + "/register_worker", dead)
    began = time.monotonic()
    assert ask(api.url + "/v1/models", method="GET")[1]["data"][0]["id"] == "away"
    assert lab.models() == ["away"]
    until(lambda: lab.models() == [])
    assert 2 < time.monotonic() - began < 4.5


def test_a_jump_of_the_clock_evicts_nobody(lab: Lab) -> None:
    jump = lab.folder / "jump"
    lab.controller(FASTCHAT_CONTROLLER_HEART_BEAT_EXPIRATION="5", CLOCK_JUMPS_WHEN=str(jump))
    lab.worker(FASTCHAT_WORKER_HEART_BEAT_INTERVAL="1")
    jump.touch()
    for _ in range(20):
        assert lab.models() == ["m"]
        time.sleep(0.1)


def test_heartbeats_survive_a_controller_that_is_away(lab: Lab) -> None:
    controller = lab.controller()
    lab.worker(FASTCHAT_WORKER_HEART_BEAT_INTERVAL="1")
    controller.end()
    time.sleep(2)
    lab.controller(port=int(controller.url.rsplit(":", 1)[1]))
    until(lambda: lab.models() == ["m"], 10)


# --- the worker's places --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["worker_generate", "worker_generate_stream", "worker_get_embeddings"])
def test_requests_that_fail_do_not_bring_the_worker_to_a_halt(lab: Lab, route: str) -> None:
    lab.controller()
    worker = lab.worker()
    for _ in range(7):
        status, said = ask(f"{worker.url}/{route}", {"prompt": "[key]", "input": ["[key]"]}, timeout=5)
        said = said if isinstance(said, dict) else json.loads(said.rstrip("\0"))
        assert (status, said["error_code"], said["text"]) == (200, 50001, "KeyError: 'nobody catches this'")
    assert ask(worker.url + "/worker_get_status")[1]["queue_length"] == 0
    assert "nobody catches this" in worker.log.read_text()


def test_clients_that_go_away_in_the_middle_lose_no_place(lab: Lab) -> None:
    lab.controller()
    worker = lab.worker()
    for _ in range(7):
        with socket.create_connection(("127.0.0.1", int(worker.url.rsplit(":", 1)[1]))) as client:
            body = b'{"prompt": "[slow]"}'
            head = f"POST /worker_generate_stream HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            client.sendall(head + body)
            assert b"200" in client.recv(100)
    until(lambda: ask(worker.url + "/worker_get_status")[1]["queue_length"] == 0, 5)


def test_embeddings_do_not_keep_others_waiting(lab: Lab) -> None:
    lab.controller()
    worker = lab.worker()
    slow = threading.Thread(target=ask, args=(worker.url + "/worker_get_embeddings", {"input": ["[slow]"]}))
    slow.start()
    time.sleep(0.3)
    began = time.monotonic()
    assert ask(worker.url + "/worker_get_status")[1]["queue_length"] == 1
    assert time.monotonic() - began < 1
    slow.join()


# --- what the API says ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Process]]:
    lab = Lab(tmp_path_factory.mktemp("served"))
    lab.controller()
    lab.worker()
    yield lab, lab.api()
    for process in lab.processes:
        process.handle.kill()
        process.handle.wait(20)


@pytest.mark.parametrize("stream", [False, True])
def test_what_went_well_is_as_fastchat_has_it(served: tuple[Lab, Process], stream: bool) -> None:
    status, said = chat(served[1], "hi there", stream=stream)
    text = (
        "".join(one["choices"][0]["delta"].get("content", "") for one in pieces(said))
        if stream
        else said["choices"][0]["message"]["content"]
    )
    assert status == 200
    assert text.startswith("so ")
    assert "hi there" in text


def test_completions_and_embeddings_work(served: tuple[Lab, Process]) -> None:
    status, said = ask(served[1].url + "/v1/completions", {"model": "m", "prompt": "one two"})
    assert (status, said["choices"][0]["text"].split()[-2:]) == (200, ["one", "two"])
    status, said = ask(served[1].url + "/v1/embeddings", {"model": "m", "input": "one"})
    assert (status, said["data"][0]["embedding"]) == (200, [1.0])


def arrived(api: Process, words: str = "[params]", **more: Any) -> Any:
    """What the worker is asked for a chat."""
    status, said = chat(api, words, **more)
    assert status == 200, said
    return json.loads(said["choices"][0]["message"]["content"].removeprefix("so"))


@pytest.mark.parametrize("words", ["[params]", "[params] " + "a " * 100])
@pytest.mark.parametrize("wish", [{}, {"max_tokens": 5}, {"max_tokens": 100_000}, {"max_tokens": None}])
def test_the_whole_prompt_is_read(served: tuple[Lab, Process], words: str, wish: dict[str, Any]) -> None:
    params = arrived(served[1], words, **wish)
    ids = list(range(len(params["prompt"].split())))
    # As FastChat's generate_stream does it (serve/inference.py), with the scripted worker's context.
    max_src_len = 200 - params["max_new_tokens"] - 1
    assert ids[-max_src_len:] == ids
    assert params["max_new_tokens"] == (5 if wish.get("max_tokens") == 5 else 200 - len(ids) - 1)


def test_a_prompt_that_leaves_no_room_is_refused(served: tuple[Lab, Process]) -> None:
    request = {"model": "m", "prompt": "a " * 198}
    assert ask(served[1].url + "/v1/completions", request)[0] == 200
    status, said = ask(served[1].url + "/v1/completions", request | {"prompt": "a " * 199})
    assert (status, said["code"], said["message"][:10]) == (400, 40303, "LW-API-006")


@pytest.mark.parametrize(
    ("words", "model", "status", "code", "sentence"),
    [
        ("[oom]", "m", 503, 50002, "LW-API-003: the worker is out of GPU memory: "),
        ("hi", "x", 400, 40301, "LW-API-004: Only m allowed now, your model x."),
        ("a " * 300, "m", 400, 40303, "LW-API-006: This model's maximum context length is 200 tokens."),
        ("[internal]", "m", 500, 50001, "LW-API-007: the worker failed while it generated: .*probability tensor"),
        ("[key]", "m", 500, 50001, "LW-API-007: the worker failed while it generated: KeyError: 'nobody"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_refusals_say_their_cause(
    served: tuple[Lab, Process], words: str, model: str, status: int, code: int, sentence: str, stream: bool
) -> None:
    got, said = chat(served[1], words, model=model, stream=stream)
    if stream and isinstance(said, str):
        error = pieces(said)[-1]
        assert got == 200
        assert re.match(sentence, error["text"])
        assert error["error_code"] == error["error"]["code"] == code
        assert error["error"]["message"] == error["text"]
    else:
        assert (got, said["object"], said["code"]) == (status, "error", code)
        assert re.match(sentence, said["message"])
    assert "HIGH TRAFFIC" not in str(said)


def say(api: Process, route: str, body: str, timeout: float = 20) -> tuple[int, str]:
    """The status and the message of a request that is written down as it is."""
    connection = http.client.HTTPConnection(api.url.removeprefix("http://"), timeout=timeout)
    with closing(connection):
        connection.request("POST", f"/v1/{route}", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        words = answer.read().decode()
    return answer.status, words if words.startswith("data: ") else json.loads(words).get("message", words)


HI = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


@pytest.mark.parametrize(
    "wish",
    [
        {"tools": [TOOL]},
        {"tools": [], "tool_choice": "required"},
        {"functions": [TOOL["function"]]},
        {"function_call": {"name": "f"}},
        {"response_format": {"type": "json_object"}},
        {"logprobs": True},
        {"top_logprobs": 2},
        {"logit_bias": {"5": 1}},
        {"modalities": ["text", "audio"]},
        {"audio": {"voice": "x"}},
        {"prediction": {"type": "content", "content": "x"}},
        {"web_search_options": {}},
        {"presence_penalty": 0.5},
        {"frequency_penalty": 0.5},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]},
        {"messages": [*HI, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]},
    ],
)
def test_what_this_lab_does_not_have_is_refused(served: tuple[Lab, Process], wish: dict[str, Any]) -> None:
    status, said = chat(served[1], **wish)
    assert (status, said["code"], said["message"][:11]) == (400, 40001, "LW-API-013:")


def test_the_page_of_parameters_names_all_that_are_refused() -> None:
    table = re.search(r"^NOT_HERE.*?^}", (PACKAGE / "labwright_serve/asked.py").read_text(), re.DOTALL | re.MULTILINE)
    assert table
    names = re.findall(r'"(\w+)": \(', table[0])
    assert len(names) == 17
    for page in ("docs/agents.md", "docs/zh/agents.md"):
        words = (HERE.parents[1] / page).read_text(encoding="utf-8")
        assert [name for name in names if f"`{name}`" not in words] == []


@pytest.mark.parametrize(
    ("route", "wish"),
    [
        ("completions", {"suffix": "x"}),
        ("completions", {"best_of": 2}),
        ("completions", {"logit_bias": {"5": 1}}),
        ("completions", {"use_beam_search": True}),
        ("embeddings", {"dimensions": 5}),
    ],
)
def test_nor_have_other_routes_what_they_do_not_have(served: tuple[Lab, Process], route: str, wish: Any) -> None:
    status, said = ask(f"{served[1].url}/v1/{route}", {"model": "m", "prompt": "a", "input": "a", **wish})
    assert (status, said["message"][:11]) == (400, "LW-API-013:")


def test_what_asks_for_nothing_is_no_wish(served: tuple[Lab, Process]) -> None:
    nothing: dict[str, Any] = {
        "tools": [],
        "tool_choice": "auto",
        "functions": [],
        "function_call": "none",
        "logprobs": False,
        "top_logprobs": 0,
        "logit_bias": {},
        "modalities": ["text"],
        "response_format": {"type": "text"},
        **dict.fromkeys(("n", "temperature", "top_p", "top_k", "stop", "stream", "max_tokens", "audio", "seed")),
    }
    assert arrived(served[1], **nothing) == arrived(served[1])
    assert arrived(served[1], seed=7, user="anna", metadata={"a": "b"}, store=True) == arrived(served[1])
    request = {"model": "m", "prompt": "hi", "max_tokens": None, "n": None, "best_of": 1, "suffix": ""}
    assert ask(served[1].url + "/v1/completions", request)[0] == 200


@pytest.mark.parametrize(
    ("wish", "name", "value"),
    [
        ({"max_tokens": 7}, "max_new_tokens", 7),
        ({"max_completion_tokens": 7}, "max_new_tokens", 7),
        ({"temperature": 0.5}, "temperature", 0.5),
        ({"temperature": 0.00002}, "temperature", 0.0),
        ({"top_p": 0.5}, "top_p", 0.5),
        ({"top_k": 5}, "top_k", 5),
        ({"stop": ["x"]}, "stop", ["x", "###"]),
        ({"stop": "x"}, "stop", ["x", "###"]),
    ],
)
def test_what_counts_reaches_the_worker(served: tuple[Lab, Process], wish: Any, name: str, value: Any) -> None:
    found = arrived(served[1], **wish)[name]
    assert (sorted(found) if name == "stop" else found) == (sorted(value) if name == "stop" else value)


def test_echo_and_logprobs_of_completions_reach_the_worker(served: tuple[Lab, Process]) -> None:
    request = {"model": "m", "prompt": "[params]", "echo": True, "logprobs": 1}
    params = json.loads(ask(served[1].url + "/v1/completions", request)[1]["choices"][0]["text"].removeprefix("so"))
    assert (params["echo"], params["logprobs"]) == (True, 1)


def test_the_format_of_embeddings_reaches_the_worker(served: tuple[Lab, Process]) -> None:
    request = {"model": "m", "input": "[params]", "encoding_format": "base64"}
    said = ask(served[1].url + "/v1/embeddings", request)[1]
    assert said["data"][0]["embedding"]["encoding_format"] == "base64"


def test_as_many_answers_as_were_asked_for(served: tuple[Lab, Process]) -> None:
    assert len(chat(served[1], n=3)[1]["choices"]) == 3
    request = {"model": "m", "prompt": ["a", "b"], "n": 2}
    assert len(ask(served[1].url + "/v1/completions", request)[1]["choices"]) == 4
    assert len(ask(served[1].url + "/v1/embeddings", {"model": "m", "input": ["a"] * 9})[1]["data"]) == 9


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}], "one\ntwo"),
        ([{"role": "system", "content": [{"type": "text", "text": "be"}]}, *HI], "be\n### Human: hi"),
        ([{"role": "developer", "content": "be"}, *HI], "be\n### Human: hi"),
        (
            [{"role": "system", "content": "be"}, *HI, {"role": "system", "content": "brief"}],
            "be\nbrief\n### Human: hi",
        ),
        (
            [
                *HI,
                {"role": "assistant", "content": [{"type": "text", "text": "ho"}], "refusal": None, "audio": None},
                *HI,
            ],
            "Human: hi\n### Assistant: ho\n### Human: hi",
        ),
        ([{"role": "user", "content": "hi", "name": "anna"}], "Human: hi"),
    ],
)
def test_messages_in_all_of_openai_s_forms(served: tuple[Lab, Process], messages: Any, words: str) -> None:
    status, said = chat(served[1], messages=messages)
    assert status == 200, said
    assert words in said["choices"][0]["message"]["content"]
    assert "type" not in said["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    "messages", [[{"role": "tool", "content": "hi"}], [{"role": "user", "content": None}], ["hi"], [{"content": "hi"}]]
)
def test_what_is_no_message_is_a_sentence(served: tuple[Lab, Process], messages: Any) -> None:
    status, said = chat(served[1], messages=messages)
    assert (status, said["code"], said["message"][:11]) == (400, 40001, "LW-API-009:")


@pytest.mark.parametrize("stream", ["false", "true"])
@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ('"temperature": NaN', "it is no JSON"),
        ('"temperature": 1e999', "it is no JSON"),
        ('"user": "\\ud800"', "it is no JSON"),
        ('"x": ' + "[" * 100_000, "it is no JSON"),
        ('"n": 33', "it asks for 33 answers"),
        ('"n": "1500"', "it asks for 1500 answers"),
        ('"n": []', "n: value is not a valid integer"),
        ('"n": 0', "0 is less than the minimum of 1 - 'n'"),
        ('"temperature": 3', "3.0 is greater than the maximum of 2 - 'temperature'"),
        ('"messages": {"a": 1}', "messages: str type expected"),
    ],
)
def test_what_cannot_be_taken_is_a_sentence(served: tuple[Lab, Process], wish: str, words: str, stream: str) -> None:
    hi = '"messages": [{"role": "user", "content": "hi"}]'
    status, said = say(served[1], "chat/completions", f'{{"model": "m", {hi}, "stream": {stream}, {wish}}}')
    assert (status, said[:38]) == (400, "LW-API-012: the request cannot be take")
    assert words in said
    assert len(said) < 600


def test_what_is_no_object_is_a_sentence(served: tuple[Lab, Process]) -> None:
    assert say(served[1], "chat/completions", "[]")[1].startswith(
        "LW-API-012: the request cannot be taken: it is no obj"
    )
    status, said = say(served[1], "completions", json.dumps({"model": "m", "prompt": ["a"] * 11, "n": 3}))
    assert (status, "it asks for 33 answers" in said) == (400, True)


@pytest.mark.parametrize("route", ["embeddings", "completions", "engines/m/embeddings"])
@pytest.mark.parametrize("value", [[1, 2], [[1, 2]], [], "", {"a": 1}, ["a", 1]])
def test_ids_of_tokens_are_refused_at_once(served: tuple[Lab, Process], route: str, value: Any) -> None:
    status, said = say(served[1], route, json.dumps({"model": "m", "input": value, "prompt": value}), timeout=5)
    if value == "":
        assert status == 200
    else:
        assert (status, said[:11]) == (400, "LW-API-014:")


def test_sixteen_answers_take_no_time_of_others(served: tuple[Lab, Process]) -> None:
    many = threading.Thread(target=chat, args=(served[1], "[slow]"), kwargs={"n": 16, "timeout": 60})
    many.start()
    assert ask(served[1].url + "/v1/models", method="GET", timeout=5)[0] == 200
    many.join()


def test_a_stream_s_pieces_have_what_openai_s_have(served: tuple[Lab, Process]) -> None:
    for route, kind in (("chat/completions", "chat.completion.chunk"), ("completions", "text_completion")):
        request = {"model": "m", "messages": HI, "prompt": "hi", "stream": True}
        found = pieces(ask(f"{served[1].url}/v1/{route}", request)[1])
        assert {one["object"] for one in found} == {kind}
        assert len({(one["id"], one["created"], one["model"]) for one in found}) == 1
        assert abs(found[0]["created"] - time.time()) < 60
        assert not any("usage" in one for one in found)
        request["stream_options"] = {"include_usage": True}
        *_, last = pieces(ask(f"{served[1].url}/v1/{route}", request)[1])
        assert (last["choices"], last["usage"]["total_tokens"], last["object"]) == ([], 2, kind)
    said = chat(served[1], "[key]", stream=True, stream_options={"include_usage": True})[1]
    assert "LW-API-007" in pieces(said)[-1]["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_is_computed_for_clients_that_have_gone(lab: Lab, stream: bool) -> None:
    lab.controller()
    worker, api = lab.worker(), lab.api()
    for _ in range(12):
        with socket.create_connection(("127.0.0.1", int(api.url.rsplit(":", 1)[1]))) as client:
            request = {"model": "m", "messages": [{"role": "user", "content": "[slow]"}], "stream": stream}
            body = json.dumps(request).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            client.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
            time.sleep(0.3)

    def queue() -> int:
        return int(ask(worker.url + "/worker_get_status")[1]["queue_length"])

    # Each would take 3 s, five at once: more than 7 s.
    until(lambda: queue() == 0, 3)
    assert chat(api)[0] == 200
    assert "Traceback" not in api.log.read_text() + worker.log.read_text()


@pytest.mark.parametrize("stream", [False, True])
def test_what_nobody_foresaw_is_a_sentence(lab: Lab, stream: bool) -> None:
    controller = lab.controller()
    api = lab.api()
    # A worker that answers what no worker would.
    with ThreadingHTTPServer(("127.0.0.1", 0), Nonsense) as worker:
        threading.Thread(target=worker.serve_forever, daemon=True).start()
        row: dict[str, Any] = {"worker_name": f"http://127.0.0.1:{worker.server_port}", "check_heart_beat": True}
        row["worker_status"] = {"model_names": ["m"], "speed": 1, "queue_length": 0}
        ask(controller.url + "/register_worker", row)
        status, said = chat(api, stream=stream)
        worker.shutdown()
    if stream:
        assert (status, "LW-API-010" in pieces(said)[-1]["error"]["message"]) == (200, True)
    else:
        assert (status, said["code"], said["message"][:10]) == (500, 50001, "LW-API-010")
    assert "Traceback" in api.log.read_text()


@pytest.mark.parametrize("route", ["chat/completions", "embeddings"])
def test_a_worker_whose_gpu_fails_for_good_ends(lab: Lab, route: str) -> None:
    lab.controller()
    worker, api = lab.worker(), lab.api()
    request = {"model": "m", "messages": [{"role": "user", "content": "[gpu]"}], "input": "[gpu]"}
    status, said = ask(f"{api.url}/v1/{route}", request)
    assert (status, said["message"][:10]) == (500, "LW-API-007")
    assert "CUDA error: " in said["message"]
    assert worker.handle.wait(5) == 1
    last = worker.log.read_text().strip().splitlines()[-1]
    assert re.match(
        "LW-SERVE-008: the GPU fails this process for good: CUDA error: (device-side|an illegal).*anew", last
    )


def test_a_worker_that_breaks_off_is_named(lab: Lab) -> None:
    lab.controller()
    api = lab.api()
    for stream in (False, True):
        worker = lab.worker()
        status, said = chat(api, "[die]", stream=stream)
        message = pieces(said)[-1]["error"]["message"] if stream else said["message"]
        assert status == (200 if stream else 503)
        assert message.startswith(f"LW-API-002: the worker at {worker.url}, which serves m, does not answer or broke")
        status, said = chat(api, stream=stream)
        assert (status, said["message"][:10]) == (503, "LW-API-002")
        port = int(worker.url.rsplit(":", 1)[1])
        assert lab.worker(port=port).end() == -signal.SIGKILL


def test_no_worker_and_no_controller_are_told_apart(lab: Lab) -> None:
    controller = lab.controller()
    api = lab.api()
    status, said = chat(api)
    assert (status, said["code"]) == (503, 40301)
    assert said["message"].startswith("LW-API-005: no worker is registered at the controller: Only  allowed now, your ")
    controller.end()
    began = time.monotonic()
    status, said = chat(api)
    assert status == 503
    assert said["message"].startswith(f"LW-API-001: the controller at {controller.url} does not answer")
    assert ask(api.url + "/v1/models", method="GET")[1]["message"][:10] == "LW-API-001"
    assert time.monotonic() - began < 15


def test_a_request_waits_for_a_controller_that_is_started_again(lab: Lab) -> None:
    controller = lab.controller()
    worker = lab.worker()
    api = lab.api()
    controller.end()
    lab.start("controller", "--workers", worker.url, port=int(controller.url.rsplit(":", 1)[1]))
    assert chat(api)[0] == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_worker_that_hangs_holds_nobody(lab: Lab, stream: bool) -> None:
    lab.controller()
    api = lab.api(FASTCHAT_WORKER_API_TIMEOUT="1")
    worker = lab.worker()
    # It writes for 3 s, each piece within the limit: slow is not hung.
    assert chat(api, "[slow]", stream=stream)[0] == 200
    status, said = chat(api, "[hang]", stream=stream)
    message = pieces(said)[-1]["text"] if stream else said["message"]
    assert message.startswith(f"LW-API-008: the worker at {worker.url}, which serves m, gave nothing for 1 s")
    assert status == (200 if stream else 503)
    worker.handle.send_signal(signal.SIGSTOP)
    status, said = chat(api, stream=stream)
    assert (status, said["code"]) == (503, 50006)
    assert "gave nothing for 5 s" in said["message"]


def test_the_other_worker_answers_when_one_is_killed(lab: Lab) -> None:
    lab.controller()
    one, two = lab.worker(), lab.worker()
    api = lab.api()
    assert len({chat(api)[1]["choices"][0]["message"]["content"].split()[1] for _ in range(4)}) == 2
    # The dead one looks idle for as long as its last heartbeat is remembered.
    ask(lab.controller_url + "/receive_heart_beat", {"worker_name": two.url, "queue_length": 1000})
    one.end()
    for _ in range(10):
        status, said = chat(api)
        assert (status, said["choices"][0]["message"]["content"].split()[1]) == (200, str(two.handle.pid))


def test_a_workers_new_template_is_used_at_once(lab: Lab) -> None:
    lab.controller()
    api = lab.api()
    worker = lab.worker()
    assert "### Assistant:" in chat(api)[1]["choices"][0]["message"]["content"]
    worker.end()
    lab.worker("--conv-template", "chatglm2", port=int(worker.url.rsplit(":", 1)[1]))
    assert "答：" in chat(api)[1]["choices"][0]["message"]["content"]


# --- another engine -------------------------------------------------------------------------------------------------


class Engine(BaseHTTPRequestHandler):
    """In the form of vLLM's OpenAI server: the words of the prompt come back, one by one."""

    asked: ClassVar[list[Any]] = []

    def say(self, said: Any, status: int = 200) -> None:
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.say({"object": "list", "data": [{"id": "at-the-engine", "max_model_len": 64}]})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, request))
        words = str(request.get("prompt")).split()
        if request["model"] != "at-the-engine":
            self.say({"error": {"message": "no such model"}}, 404)
        elif self.path == "/tokenize":
            self.say({"count": len(words), "max_model_len": 64, "tokens": []})
        elif self.path == "/v1/embeddings":
            self.say({"data": [{"embedding": [2.0]} for _ in request["input"]], "usage": {"prompt_tokens": 5}})
        elif "[refuse]" in words:
            self.say({"message": "this engine will not"}, 400)
        else:
            last = [{"choices": [{"text": "", "finish_reason": "stop"}]}]
            counts = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "prompt_tokens_details": None}
            usage = [{"choices": [], "usage": counts}]
            events = [{"choices": [{"text": f"{word} ", "finish_reason": None}]} for word in words] + last + usage
            self.say(b"".join(b"data: %s\n\n" % json.dumps(one).encode() for one in events) + b"data: [DONE]\n\n")

    def log_message(self, *words: object) -> None:
        pass


class Empty(Engine):
    """An engine that lists no model yet."""

    def do_GET(self) -> None:
        self.say({"data": []})


class Nonsense(Engine):
    """In the place of a worker: right until it shall generate."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        said: dict[str, Any] = {"/model_details": {"context_length": 100}, "/count_token": {"count": 1}}
        empty = dict.fromkeys(("name", "system_template", "system_message", "sep", "sep2", "stop_str"), "")
        template = {"roles": ["a", "b"], "messages": [], "offset": 0, "sep_style": 1, "stop_token_ids": [], **empty}
        said["/worker_get_conv_template"] = {"conv": template}
        self.say(said.get(self.path, b"nonsense\0"))


def test_another_engine_stands_behind_the_same_names(lab: Lab) -> None:
    lab.controller()
    api = lab.api()
    port, engine_port = free_port(), free_port()
    engine_url, url = f"http://127.0.0.1:{engine_port}", f"http://127.0.0.1:{port}"
    options = ["--engine-url", engine_url, "--worker-address", url, "--controller-address", lab.controller_url]
    bridge = lab.start("bridge", *options, "--model-names", "m,alias", "--conv-template", "zero_shot", port=port)
    until(lambda: "Waiting for the engine" in bridge.log.read_text())
    assert lab.models() == []
    with ThreadingHTTPServer(("127.0.0.1", engine_port), Empty) as engine:
        threading.Thread(target=engine.serve_forever, daemon=True).start()
        until(lambda: "Waiting for the engine: list index out of range" in bridge.log.read_text())
        engine.shutdown()
    with ThreadingHTTPServer(("127.0.0.1", engine_port), Engine) as engine:
        threading.Thread(target=engine.serve_forever, daemon=True).start()
        until(lambda: sorted(lab.models()) == ["alias", "m"])
        status, said = chat(api, "hi there", model="alias", top_k=7)
        assert (status, said["choices"][0]["finish_reason"], said["usage"]["total_tokens"]) == (200, "stop", 7)
        assert "hi there" in said["choices"][0]["message"]["content"]
        path, request = engine.RequestHandlerClass.asked[-1]  # type: ignore[attr-defined]
        assert (path, request["top_k"], request["model"]) == ("/v1/completions", 7, "at-the-engine")
        assert request["max_tokens"] == 64 - len(request["prompt"].split()) - 1
        _, said = chat(api, "hi there", stream=True)
        assert "hi there" in "".join(one["choices"][0]["delta"].get("content", "") for one in pieces(said))
        assert ask(api.url + "/v1/embeddings", {"model": "m", "input": "x"})[1]["data"][0]["embedding"] == [2.0]
        assert chat(api, "a " * 80)[1]["code"] == 40303
        assert re.match("LW-API-007: .* answered 400: .*this engine will not", chat(api, "[refuse]")[1]["message"])
        _, said = chat(api, "hi there", stream=True, n=2, stream_options={"include_usage": True})
        assert pieces(said)[-1]["usage"]["total_tokens"] == 14
        assert chat(api, presence_penalty=0.5)[0] == 200
        assert engine.RequestHandlerClass.asked[-1][1]["presence_penalty"] == 0.5  # type: ignore[attr-defined]
        request = {"model": "m", "prompt": "a", "logprobs": 1}
        assert ask(api.url + "/v1/completions", request)[1]["message"][:11] == "LW-API-013:"
        engine.shutdown()
    until(lambda: "LW-SERVE-006: the engine at" in bridge.log.read_text())
    until(lambda: bridge.handle.poll() is not None)
    status, said = chat(api, "hi")
    assert status == 503, "it is as dead as any worker that is dead"


# --- systemd --------------------------------------------------------------------------------------------------------


@contextmanager
def systemd(folder: Path) -> Iterator[tuple[socket.socket, dict[str, Any]]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(folder / "notify"))
        ear.settimeout(10)
        yield ear, {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "900000"}


def heard(ear: socket.socket, wanted: str, limit_s: float) -> bool:
    end = time.monotonic() + limit_s
    while (left := end - time.monotonic()) > 0:
        ear.settimeout(left)
        try:
            if ear.recv(100).decode() == wanted:
                return True
        except TimeoutError:
            pass
    return False


def quiet(ear: socket.socket, worker: Process) -> bool:
    heard(ear, "", 1)
    return not heard(ear, "WATCHDOG=1", 2)


def test_the_watchdog_is_fed_by_answers_only(lab: Lab) -> None:
    with systemd(lab.folder) as (ear, environment):
        lab.controller()
        worker = lab.worker(wait=False, **environment)
        assert heard(ear, "READY=1", 20)
        assert heard(ear, "WATCHDOG=1", 2)
        assert "labwright-alive" not in worker.log.read_text()
        worker.handle.send_signal(signal.SIGSTOP)
        assert quiet(ear, worker)
        worker.handle.send_signal(signal.SIGCONT)
        assert heard(ear, "WATCHDOG=1", 2)
        # An event loop that stands still, in a process that runs.
        assert ask(worker.url + "/count_token", {"prompt": "[block]"}, timeout=1)[0] == 0
        assert quiet(ear, worker)


@pytest.mark.parametrize("program", ["controller", "api"])
def test_the_others_say_ready_too(lab: Lab, program: str) -> None:
    with systemd(lab.folder) as (ear, environment):
        lab.start(program, **environment)
        assert heard(ear, "READY=1", 20)
        assert heard(ear, "WATCHDOG=1", 2)


def test_sigterm_lets_requests_finish_and_leaves_no_thread_behind(lab: Lab) -> None:
    controller = lab.controller()
    worker = lab.worker()
    api = lab.api()
    got: list[tuple[int, Any]] = []
    client = threading.Thread(target=lambda: got.append(chat(api, "[slow]")))
    client.start()
    time.sleep(1)
    began = time.monotonic()
    assert worker.end(signal.SIGTERM) == 0
    assert time.monotonic() - began < 5
    client.join()
    assert got[0][0] == 200
    assert (api.end(signal.SIGTERM), controller.end(signal.SIGTERM)) == (0, 0)


def test_sigterm_does_not_wait_for_a_generation_whose_client_has_gone(lab: Lab) -> None:
    lab.controller()
    worker = lab.worker()
    assert ask(worker.url + "/worker_generate", {"prompt": "[hang]"}, timeout=0.5)[0] == 0
    began = time.monotonic()
    assert worker.end(signal.SIGTERM) == 0
    assert time.monotonic() - began < 5


# --- the page ---------------------------------------------------------------------------------------------------------

with_page = pytest.mark.skipif(not PAGE_PYTHON, reason="set LABWRIGHT_PAGE_PYTHON to a Python with the lock of web")


def browser(page: Process) -> page_client.Ask:
    """Requests to the page, as a browser has them."""

    def call(method: str, path: str, body: bytes | None) -> Iterator[bytes]:
        connection = http.client.HTTPConnection(page.url.removeprefix("http://"), timeout=30)
        with closing(connection):
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            assert answer.status == 200, (answer.status, answer.read())
            yield from answer

    return call


def open_page(lab: Lab, api_url: str, **extra: Any) -> Process:
    page = lab.start("page", "--api-url", f"{api_url}/v1", **extra)
    until(lambda: ask(page.url + "/config", method="GET")[0] == 200, 60)
    return page


@pytest.fixture(scope="module")
def paged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Process]]:
    lab = Lab(tmp_path_factory.mktemp("page"))
    lab.controller()
    lab.worker("--conv-template", "vicuna_v1.1", name="m,alias", wait=False)
    until(lambda: {"m", "alias"} <= set(lab.models()))
    yield lab, open_page(lab, lab.api().url)
    for process in lab.processes:
        process.end()


@with_page
def test_a_person_chooses_a_model_and_gets_an_answer_as_it_grows(paged: tuple[Lab, Process]) -> None:
    page = browser(paged[1])
    assert page_client.models(page) == ["alias", "m"]
    words, pieces = page_client.chat(page, "alias", "hi [slow] there")
    assert words.startswith("so ")
    assert "hi [slow] there" in words
    assert pieces > 5


@with_page
def test_the_prompt_is_made_by_the_worker_s_own_template(paged: tuple[Lab, Process]) -> None:
    words, _pieces = page_client.chat(browser(paged[1]), "m", "hi")
    # Vicuna's; FastChat's page guesses one with examples in it from the model's name.
    assert "USER: hi ASSISTANT:" in words
    assert "###" not in words


@with_page
def test_a_conversation_goes_on(paged: tuple[Lab, Process]) -> None:
    page, session = browser(paged[1]), "aconversation"
    adds, answers = page_client.function(page, "add_text"), page_client.function(page, "bot_response")
    for words in ("first", "second"):
        page_client.event(page, adds, session, None, "m", words, None)
        found = page_client.event(page, answers, session, None, 0.0, 1.0, 64)
    asked, said = (found[-1][1] or found[-2][1])[-1]
    assert asked == "second"
    assert re.search(r"USER: first ASSISTANT: so .*USER: second ASSISTANT:", said, re.DOTALL)
    assert "▌" not in said


@with_page
def test_an_empty_message_is_none(paged: tuple[Lab, Process]) -> None:
    page = browser(paged[1])
    assert page_client.event(page, page_client.function(page, "add_text"), "empty", None, "m", "", None)


@with_page
@pytest.mark.parametrize(
    ("model", "words", "said"),
    [
        ("nobody", "hi", "LW-API-004"),
        ("m", "[oom]", "LW-API-003"),
        ("m", "[internal]", "LW-API-007"),
        ("m", "[key]", "LW-API-007"),
    ],
)
def test_the_page_says_what_the_api_says(paged: tuple[Lab, Process], model: str, words: str, said: str) -> None:
    assert said in page_client.chat(browser(paged[1]), model, words)[0]


@with_page
def test_nothing_that_people_write_is_kept(paged: tuple[Lab, Process]) -> None:
    lab, page = paged
    before = set(lab.folder.rglob("*"))
    page_client.chat(browser(page), "m", "a-secret-of-mine")
    assert "a-secret-of-mine" not in page.log.read_text()
    assert set(lab.folder.rglob("*")) == before


@with_page
def test_the_page_is_there_before_the_api_and_says_that_it_is_away(lab: Lab) -> None:
    with systemd(lab.folder) as (ear, environment):
        process = lab.start("page", "--api-url", f"http://127.0.0.1:{free_port()}/v1", **environment)
        assert heard(ear, "READY=1", 60)
        assert heard(ear, "WATCHDOG=1", 2)
    page = browser(process)
    assert page_client.models(page) == []
    assert "LW-API-011" in page_client.chat(page, "m", "hi")[0]


@with_page
def test_the_page_shows_nothing_that_has_no_meaning_here(paged: tuple[Lab, Process]) -> None:
    parts = json.loads(b"".join(browser(paged[1])("GET", "/config", None)))["components"]
    shown = [row["props"] for row in parts if row["props"].get("visible", True)]
    words = {str(row.get("value") or row.get("label")) for row in shown}
    assert not [one for one in words if any(other in one for other in ("Upvote", "Flag", "descriptions of"))]
    assert any("Regenerate" in one for one in words)


@with_page
def test_the_page_s_queue_has_an_end(lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        page = open_page(lab, f"http://127.0.0.1:{silent.getsockname()[1]}")
        adds, answers = (page_client.function(browser(page), name) for name in ("add_text", "bot_response"))

        def join(session: str) -> int:
            wish = {"data": [None, 0.0, 1.0, 64], "fn_index": answers, "session_hash": session}
            return ask(page.url + "/queue/join", wish)[0]

        for number in range(16):
            page_client.event(browser(page), adds, f"asks{number}", None, "m", "hi", None)
            assert join(f"asks{number}") == 200
        joined = [join("waits") for _ in range(217)]
    assert set(joined[:180]) == {200}
    assert joined[-1] == 503


@with_page
def test_the_page_ends_when_told_though_somebody_has_it_open(lab: Lab) -> None:
    page = open_page(lab, f"http://127.0.0.1:{free_port()}")
    with socket.create_connection(("127.0.0.1", int(page.url.rpartition(":")[2])), 5) as tab:
        tab.sendall(b"GET /heartbeat/abc1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert tab.recv(12) == b"HTTP/1.1 200"
        assert page.end(signal.SIGTERM) == 0


# --- as Windows Python would (windows.py: its lacks, not its own event loop and console) ----------------------------

AS_WINDOWS = pytest.mark.parametrize("lab", ["windows.py"], indirect=True)


@AS_WINDOWS
def test_all_of_it_runs_without_what_unix_alone_has_and_ends_at_ctrl_c(lab: Lab) -> None:
    controller = lab.controller()
    worker, api = lab.worker(), lab.api()
    status, said = chat(api, "hello")
    assert (status, said["model"]) == (200, "m")
    # NSSM's way to ask a program to end.
    assert [one.end(signal.SIGINT) for one in (api, worker, controller)] == [0, 0, 0]


@AS_WINDOWS
def test_a_taken_port_is_a_sentence_where_nobody_says_who_has_it(lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        said = lab.refused("controller", port=other.getsockname()[1])
    assert "LW-SERVE-001" in said
    assert "; another program has the port. Expected" in said


@AS_WINDOWS
def test_on_windows_nobody_else_can_have_the_port_too(lab: Lab) -> None:
    process = lab.start("options")
    assert process.handle.wait(20) == 0
    assert process.log.read_text().strip() == "[0, 1]"


@AS_WINDOWS
def test_where_nobody_watches_a_process_that_hangs_ends_itself(lab: Lab) -> None:
    lab.controller()
    worker = lab.worker(LABWRIGHT_WATCHDOG_S="1.5")
    assert ask(worker.url + "/count_token", {"prompt": "[block]"}, timeout=1)[0] == 0
    assert worker.handle.wait(20) == 1
    assert worker.log.read_text().strip().splitlines()[-1].startswith("LW-SERVE-007: this process has answered nothing")
