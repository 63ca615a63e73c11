"""Verb ``probe``: ask the running services real questions and say what they answered, or the true cause why not.

Request: ``checks``; ``wait_s`` (how long to go on asking, 0 asks once); ``strict`` (true: a check that fails is a
problem). A check is ``id``, ``kind`` and what the kind needs (see ``KINDS``). Answer (``data``): ``checks``, each
``id``, ``ok``, ``evidence``, ``latency_ms``. Services wait for each other with it (a unit's ExecStartPre and
ExecStartPost), and verify asks with it.

Only questions without side effects are asked while something starts: a controller's ``/refresh_all_workers`` and the
API's ``GET /v1/models`` throw out any worker that does not answer at once (FastChat 0.2.36, measured: for up to 45
s).
"""

from __future__ import annotations

import http.client
import json
import math
import os
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Callable

from hostkit import firewall
from hostkit.result import Problem, Result

EVERY_S = 0.5
HTTP_TIMEOUT_S = 60
# FastChat answers with these codes (fastchat/constants.py, ErrorCode); its words hide the cause.
CAUSES = {
    40301: "the model name differs from what the workers serve",
    40303: "the prompt is longer than the model's context",
    50001: "the worker could not be reached by the API (FastChat calls it high traffic)",
    50002: "the worker ran out of GPU memory (FastChat calls it high traffic)",
    50004: "the worker failed while it generated; its log has the traceback",
}


class UnexpectedAnswerError(Exception):
    """A check's answer that is not the expected one, as a sentence."""


def run(request: dict[str, Any], _check: bool) -> Result:
    """Ask every check until all pass or the time is up."""
    deadline = time.monotonic() + float(request.get("wait_s", 0))
    pending = list(request["checks"])
    done: dict[str, dict[str, Any]] = {}
    while True:
        for check in pending:
            done[check["id"]] = ask(check)
        pending = [check for check in pending if not done[check["id"]]["ok"]]
        if not pending or time.monotonic() >= deadline:
            break
        still_running()
        time.sleep(EVERY_S)
    checks = [done[check["id"]] for check in request["checks"]]
    failed = [check for check in checks if not check["ok"]]
    if failed and request.get("strict", True):
        waited = f" (asked for {request['wait_s']} s)" if request.get("wait_s") else ""
        raise Problem("LW-PROBE-001", "; ".join(f"{one['id']}: {one['evidence']}" for one in failed) + waited)
    return Result(message=f"{len(checks) - len(failed)} of {len(checks)} checks passed", data={"checks": checks})


def still_running() -> None:
    """As a unit's ExecStartPost: give up when the program itself has ended (systemd would wait for us all the time)."""
    main = int(os.environ.get("MAINPID") or 0)
    try:
        if main:
            os.kill(main, 0)  # not by /proc, where the unit's sandbox hides it
    except PermissionError:
        return
    except ProcessLookupError:
        words = "the program ended while it was starting; its last words stand in the journal."
        raise Problem("LW-PROBE-002", words) from None


def ask(check: dict[str, Any]) -> dict[str, Any]:
    """Ask one question; every way to fail becomes a sentence."""
    begun = time.monotonic()
    kind = KINDS[check["kind"]]
    where = str(check.get("url") or (f"{check['host']}:{check['port']}" if "port" in check else check["id"]))
    try:
        evidence, good = kind(check), True
    except UnexpectedAnswerError as no:
        evidence, good = str(no), False
    except urllib.error.HTTPError as error:
        evidence, good = f"{error.url} answered {error.code}: {cause(body_of(error))}", False
    except http.client.HTTPException as error:
        evidence, good = f"{where} broke off in the middle of its answer ({type(error).__name__}: {error})", False
    except (OSError, ValueError) as error:
        evidence, good = unreachable(where, error), False
    except (LookupError, TypeError, AttributeError) as error:
        words = f"{where} answered something else than was asked ({type(error).__name__}: {error})"
        evidence, good = f"{words}; is another program there?", False
    latency = round((time.monotonic() - begun) * 1000, 1)
    return {"id": check["id"], "ok": good, "evidence": evidence, "latency_ms": latency}


def body_of(error: urllib.error.HTTPError) -> bytes:
    """The words of an HTTP error, as far as they came."""
    try:
        return error.read()
    except (OSError, http.client.HTTPException):
        return b"(its answer broke off)"


def unreachable(where: str, error: Exception) -> str:
    """Why nothing came back, in words that name the cure."""
    reason = getattr(error, "reason", error)
    if isinstance(reason, ConnectionRefusedError):
        return f"nothing listens at {where}; is its service up?"
    if isinstance(reason, socket.gaierror):
        return f"the name in {where} is not known here; set lab_address on that host"
    if isinstance(reason, (socket.timeout, TimeoutError)):
        return f"{where} did not answer in time; is it busy, or is a firewall between?"
    return f"{where}: {reason}"


def cause(body: bytes) -> str:
    """FastChat's error, with what its code really means."""
    try:
        said = json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")[:200]
    if not isinstance(said, dict):
        return str(said)[:200]
    code = said.get("code", said.get("error_code"))
    real = CAUSES.get(code) if isinstance(code, int) else None
    return f"{said.get('message', said)}" + (f" ({code}: {real})" if real else "")


def exchange(check: dict[str, Any], path: str, body: dict[str, Any] | None = None, post: bool = False) -> bytes:
    """One HTTP exchange."""
    data = json.dumps(body).encode() if body is not None else (b"" if post else None)
    call = urllib.request.Request(check["url"] + path, data=data, headers=headers(check))
    timeout = float(check.get("timeout_s", HTTP_TIMEOUT_S))
    with urllib.request.urlopen(call, timeout=timeout, context=trust(check)) as answer:
        content: bytes = answer.read()
    return content


def trust(check: dict[str, Any]) -> ssl.SSLContext | None:
    """Whose certificates count: the file that the check names, else the system's."""
    return ssl.create_default_context(cafile=check["ca_file"]) if check.get("ca_file") else None


def headers(check: dict[str, Any]) -> dict[str, str]:
    """What every question says beside itself; the key comes from a file on this host, never from the request."""
    found = {"Content-Type": "application/json"}
    if check.get("key_file"):
        found["Authorization"] = "Bearer " + Path(check["key_file"]).read_text(encoding="utf-8").strip()
    return found


def lacking(wanted: list[str], found: list[str]) -> None:
    """Raise the sentence when something that was planned is not there."""
    gone = sorted(set(wanted) - set(found))
    if gone:
        raise UnexpectedAnswerError(f"not there: {', '.join(gone)}; there: {', '.join(sorted(found)) or 'nothing'}")


def connect(check: dict[str, Any]) -> str:
    """A TCP connection: a FastChat process that could not bind lives on without a socket."""
    with socket.create_connection((check["host"], check["port"]), timeout=5):
        return f"{check['host']}:{check['port']} accepts connections"


def unit(check: dict[str, Any]) -> str:
    """A systemd unit is active, with the number of times systemd had to restart it."""
    argv = ["systemctl", "show", "-p", "ActiveState,SubState,NRestarts,Result", check["unit"]]
    shown = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    state = dict(line.split("=", 1) for line in shown.split() if "=" in line)
    text = f"{check['unit']} is {state.get('ActiveState')}/{state.get('SubState')}, restarts {state.get('NRestarts')}"
    if state.get("ActiveState") != "active":
        raise UnexpectedAnswerError(
            f"{text}, result {state.get('Result')}; see journalctl --namespace=labwright -u {check['unit']}"
        )
    return text


def walls(check: dict[str, Any]) -> str:
    """The lab's firewall is what was written, and is loaded."""
    wrong = firewall.fault(Path(check["path"]))
    if wrong:
        raise UnexpectedAnswerError(f"{wrong}; run site.yml, or playbooks/services.yml, to load it again")
    return "the kernel has the lab's rules"


def controller(check: dict[str, Any]) -> str:
    """The controller knows a worker for each planned model."""
    found = json.loads(exchange(check, "/list_models", post=True))["models"]
    lacking(check["models"], found)
    return f"registered: {', '.join(sorted(found))}"


def registered(check: dict[str, Any]) -> str:
    """As many workers answer the controller as were planned: its `speed` is the sum over live workers, one each."""
    status = json.loads(exchange(check, "/worker_get_status", post=True))
    if int(status["speed"]) < check["count"]:
        raise UnexpectedAnswerError(f"{status['speed']} of {check['count']} planned workers answer the controller")
    return f"{status['speed']} workers answer, {status['queue_length']} requests wait"


def worker(check: dict[str, Any]) -> str:
    """The worker itself answers with its model's names."""
    found = json.loads(exchange(check, "/worker_get_status", post=True))["model_names"]
    lacking(check["models"], found)
    return f"serves {', '.join(found)}"


def models(check: dict[str, Any]) -> str:
    """The API lists every planned model. Evicts a worker that is starting: ask only when all are up."""
    found = [one["id"] for one in json.loads(exchange(check, "/v1/models"))["data"]]
    lacking(check["models"], found)
    return f"lists {', '.join(sorted(found))}"


def completion(check: dict[str, Any]) -> str:
    """A chat completion with words in it."""
    said = json.loads(exchange(check, "/v1/chat/completions", question(check)))
    text = str(said["choices"][0]["message"]["content"] or "").strip()
    if not text:
        raise UnexpectedAnswerError("the model answered nothing")
    return f"{check['model']} said {text[:120]!r}"


def stream(check: dict[str, Any]) -> str:
    """The same, streamed: more than one piece, and the end mark."""
    raw = exchange(check, "/v1/chat/completions", {**question(check), "stream": True}).decode("utf-8")
    # Not splitlines(): a model may say U+2028, which is no end of a line here.
    pieces = [line[6:] for line in map(str.strip, raw.split("\n")) if line.startswith("data: ")]
    if not pieces or pieces[-1] != "[DONE]":
        raise UnexpectedAnswerError(f"the stream broke off after {len(pieces)} pieces: {raw[-200:]!r}")
    parts = [json.loads(piece) for piece in pieces[:-1]]
    for part in parts:
        if "error_code" in part:
            raise UnexpectedAnswerError(cause(json.dumps(part).encode()))
    text = "".join(str(part["choices"][0]["delta"].get("content") or "") for part in parts)
    if not text.strip():
        raise UnexpectedAnswerError("the stream had no words in it")
    return f"{len(parts)} pieces, {text[:120]!r}"


def question(check: dict[str, Any]) -> dict[str, Any]:
    """A chat request that a model answers the same each time."""
    message = {"role": "user", "content": check["prompt"]}
    return {
        "model": check["model"],
        "messages": [message],
        "temperature": 0,
        "max_tokens": int(check.get("max_tokens", 64)),
    }


def embeddings(check: dict[str, Any]) -> str:
    """A vector of numbers that are not all alike."""
    said = json.loads(exchange(check, "/v1/embeddings", {"model": check["model"], "input": check["prompt"]}))
    vector = said["data"][0]["embedding"]
    if len(set(vector)) < 2 or not all(map(math.isfinite, vector)):
        raise UnexpectedAnswerError(f"the vector has {len(vector)} numbers, all alike or not finite")
    return f"{len(vector)} numbers"


def agent(check: dict[str, Any]) -> str:
    """An agent program asks the lab, runs the code that it got, and ends: its JSON says how."""
    env = {**os.environ, **check.get("environment", {})}
    limit = float(check.get("timeout_s", 300))
    try:
        done = subprocess.run(check["argv"], capture_output=True, text=True, timeout=limit, check=False, env=env)
    except subprocess.TimeoutExpired:
        raise UnexpectedAnswerError(f"the agent had not ended after {limit:.0f} s") from None
    try:
        said = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise UnexpectedAnswerError(
            f"the agent ended with {done.returncode}: {(done.stderr or done.stdout)[-300:]}"
        ) from None
    words = said.get("output") or said.get("error") or ""
    text = f"{said.get('verdict')}: {str(words).strip()[:200]!r}"
    if done.returncode or said.get("verdict") != "answered":
        raise UnexpectedAnswerError(text)
    return text


KINDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "connect": connect,
    "unit": unit,
    "firewall": walls,
    "controller": controller,
    "registered": registered,
    "worker": worker,
    "models": models,
    "completion": completion,
    "stream": stream,
    "embeddings": embeddings,
    "agent": agent,
}
