"""Verb ``probe``: ask the running services real questions and say what they answered, or the true cause why not.

Request: ``checks``; ``wait_s`` (how long to go on asking, 0 asks once); ``strict`` (true: a check that fails is a
problem). A check is ``id``, ``kind`` and what the kind needs (see ``KINDS``); one with a ``url`` may have ``ca_file``
(the authority of its certificate; else the system's) and ``key_file`` (a file on this host). Answer (``data``):
``checks``, each ``id``, ``ok``, ``evidence``, ``latency_ms``, and when it failed ``cause`` (an id of ``hostkit.cures``)
and ``cure``. Services wait for each other with it (a unit's ExecStartPre and ExecStartPost), and verify asks with it.

Only questions without side effects are asked while something starts: a controller's ``/refresh_all_workers`` and the
API's ``GET /v1/models`` throw out any worker that does not answer at once (FastChat 0.2.36, measured: for up to 45
s).
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any, Callable

from hostkit import causes, exchange, facts, firewall, seen
from hostkit import place as files
from hostkit.causes import Fault
from hostkit.mask import mask
from hostkit.result import Problem, Result

EVERY_S = 0.5
WORKER_S = 5  # for a worker that is asked about itself
RENEW_DAYS = 14.0
OUR_UNITS = "labwright-"
WRONG_KEY = "not-a-key-of-this-lab"
# What a failed check means where its own words say no more.
OF_KIND = {"unit": "LW-PROBE-030", "firewall": "LW-PROBE-040", "agent": "LW-PROBE-036"}
# Behind which of these causes another program on the port may be; all that listens nowhere, or is ours, is not.
MAYBE_STRANGER = ("LW-PROBE-015", "LW-PROBE-017", "LW-PROBE-018", "LW-PROBE-019", "LW-PROBE-033")
# Words about the end of a program that do not say why it ended.
NO_REASON = ("LW-SERVICE-003", "LW-PROBE-002")


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
    done.update((check["id"], blamed(check, done[check["id"]])) for check in pending)
    checks = [done[check["id"]] for check in request["checks"]]
    lacked = [check for check in checks if not check["ok"]]
    if lacked and request.get("strict", True):
        waited = f" (asked for {request['wait_s']} s)" if request.get("wait_s") else ""
        raise Problem(
            "LW-PROBE-001", "; ".join(f"{one['id']}: {one['evidence']} ({one['cause']})" for one in lacked) + waited
        )
    return Result(message=f"{len(checks) - len(lacked)} of {len(checks)} checks passed", data={"checks": checks})


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
    """Ask one question; every way to fail becomes a cause and a sentence."""
    begun = time.monotonic()
    kind = KINDS[check["kind"]]
    found: dict[str, Any] = {"id": check["id"], "ok": True}
    try:
        found["evidence"] = kind(check)
    except Fault as fault:
        found |= failed(check, fault)
    except FileNotFoundError as error:
        found |= failed(check, Fault("LW-PROBE-039", f"{check['id']}: {error}"))
    except OSError as error:
        found |= failed(check, Fault("", f"{check['id']}: {error}"))
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        words = f"{place(check)} answered something else than was asked ({type(error).__name__}: {error})"
        found |= failed(check, Fault("", mask(words)))
    return {**found, "latency_ms": round((time.monotonic() - begun) * 1000, 1)}


def place(check: dict[str, Any]) -> str:
    """Whom a check asks."""
    return str(check.get("url") or (f"{check['host']}:{check['port']}" if "port" in check else check["id"]))


def failed(check: dict[str, Any], fault: Fault) -> dict[str, Any]:
    """A fault as part of the answer, with the cause that the kind of its check gives it."""
    cause = fault.cause or OF_KIND.get(check["kind"], causes.OTHER)
    if cause == "LW-PROBE-020" and check["kind"] in ("controller", "registered"):
        cause = "LW-PROBE-021"
    if cause == "LW-PROBE-020" and check["kind"] == "worker":
        cause = "LW-PROBE-011"
    return {"ok": False, "evidence": fault.evidence, "cause": cause, "cure": causes.cure(cause, check.get("unit", ""))}


def blamed(check: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """What was found, with the other program that has the port, where that is the cause. Looks at each process."""
    if (check["kind"] != "unit" and found["cause"] not in MAYBE_STRANGER) or not (stranger := holder(check)):
        return found
    evidence = f"{found['evidence']}; the port belongs to another program: {stranger}"
    return {**found, **failed(check, Fault("LW-PROBE-023", evidence))}


def holder(check: dict[str, Any], proc: Path = Path("/proc")) -> str:
    """Who listens at a check's address, when that is on this host and no unit of ours; "" where it cannot be told."""
    _parts, host, port = (
        exchange.address(check["url"]) if "url" in check else (None, check.get("host"), check.get("port"))
    )
    try:
        with socket.socket(socket.AF_INET6 if ":" in str(host) else socket.AF_INET) as one:
            one.bind((host, 0))  # only an address of this host can be bound
        rows = [row for row in facts.listening(proc) if row["port"] == port and row["unit"]]
    except (OSError, TypeError, ValueError):
        return ""
    for row in rows:
        if row["address"] in (host, "0.0.0.0", "::") and not row["unit"].startswith(OUR_UNITS):  # noqa: S104
            if not row["unit"].isdigit():
                return str(row["unit"])
            try:
                return f"{(proc / row['unit'] / 'comm').read_text(encoding='utf-8').strip()} (pid {row['unit']})"
            except OSError:
                return f"pid {row['unit']}"
    return ""


def lacking(wanted: list[str], found: list[str], cause: str = "LW-PROBE-010", more: str = "") -> None:
    """Raise the fault when something that was planned is not there."""
    gone = sorted(set(wanted) - set(found))
    if gone:
        words = f"not there: {', '.join(gone)}; there: {', '.join(sorted(found)) or 'nothing'}"
        raise Fault(cause, f"{words}{'; ' if more else ''}{more}")


def dead(check: dict[str, Any]) -> tuple[str, str]:
    """What each of the lab's workers says for itself: the cause and a sentence for those that do not answer."""
    worst, said = "", []
    for url in check.get("workers", []):
        try:
            exchange.ask({"url": url, "timeout_s": WORKER_S}, "/worker_get_status", post=True)
        except Fault as fault:
            gone = "LW-PROBE-011" if fault.cause == "LW-PROBE-020" else fault.cause
            worst = "LW-PROBE-011" if "LW-PROBE-011" in (worst, gone) else gone
            said.append(fault.evidence)
    return worst, "; ".join(said)


def connect(check: dict[str, Any]) -> str:
    """A TCP connection: a FastChat process that could not bind lives on without a socket."""
    exchange.dial({"url": f"http://{check['host']}:{check['port']}"}).close()
    return f"{check['host']}:{check['port']} accepts connections"


def unit(check: dict[str, Any]) -> str:
    """A systemd unit is active, with the number of times systemd had to restart it; else why, in its own words."""
    if files.windows():
        return seen.unit(check["unit"], last_words)
    fields = "ActiveState,SubState,NRestarts,Result,ExecMainStatus,LoadState"
    shown = subprocess.run(
        ["systemctl", "show", "-p", fields, check["unit"]], capture_output=True, text=True, check=False
    ).stdout
    state = dict(line.split("=", 1) for line in shown.split() if "=" in line)
    text = f"{check['unit']} is {state.get('ActiveState')}/{state.get('SubState')}, restarts {state.get('NRestarts')}"
    if state.get("ActiveState") == "active":
        return text
    if state.get("LoadState") == "not-found":
        raise Fault("LW-PROBE-039", f"{check['unit']} is not installed on this host")
    lines = journal(check["unit"])
    last = last_words(lines)
    text += f", result {state.get('Result')}, exit status {state.get('ExecMainStatus')}"
    cause = causes.of_words(last) or ("LW-PROBE-023" if "address already in use" in last.lower() else "")
    if state.get("Result") == "start-limit-hit" or (
        state.get("ActiveState") == "failed" and any("LW-SERVICE-003" in line for line in lines[-5:])
    ):
        text += f"; systemd gave up after {state.get('NRestarts')} starts"
        cause = "LW-PROBE-031"
    see = f"; see journalctl --namespace=labwright -u {check['unit']}"
    raise Fault(cause, text + (f"; last words: {last}" if last else "; it said nothing") + see)


def journal(name: str) -> list[str]:
    """The last lines of a unit in the lab's journal; nothing where there is none."""
    argv = ["journalctl", "--namespace=labwright", "-u", name, "-n", "200", "-o", "cat", "--no-pager"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.split("\n") if line.strip()]


def last_words(lines: list[str]) -> str:
    """The line that says best why a program ended: the last with an id of ours, or with an error; else the last."""
    telling = [line for line in lines if not any(one in line for one in NO_REASON)]
    for form in (r"LW-[A-Z]+-\d{3}", r"\w*(Error|Exception)\b|\berror\b|\bFATAL\b|\[emerg\]", r"."):
        for line in reversed(telling):
            if re.search(form, line):
                with_id = re.search(r"LW-[A-Z]+-\d{3}.*", line)
                text = with_id[0] if with_id else line
                return mask(text[:300].removesuffix('"}'))
    return ""


def certificate(check: dict[str, Any]) -> str:
    """The certificate at an address: verified, for how many days it is good, by whom it was made, for which names."""
    connection = exchange.dial({**check, "url": f"https://{check['host']}:{check['port']}"})
    try:
        secure: Any = connection.sock
        shown = secure.getpeercert()
    finally:
        connection.close()
    days = (ssl.cert_time_to_seconds(shown["notAfter"]) - time.time()) / 86400
    issuer = dict(pair for group in shown["issuer"] for pair in group)
    names = ", ".join(name for _kind, name in shown.get("subjectAltName", ()))
    text = f"good for {math.floor(days)} days, by {issuer.get('commonName', issuer)}, for {names}"
    if days < RENEW_DAYS:
        raise Fault("LW-PROBE-037", f"{place(check)}: {text}; expected at least {RENEW_DAYS:.0f} days")
    return text


def walls(check: dict[str, Any]) -> str:
    """The lab's firewall is what was written, and is loaded."""
    wrong = firewall.fault(Path(check["path"]))
    if wrong:
        raise Fault("LW-PROBE-040", wrong)
    return "the kernel has the lab's rules"


def refused(check: dict[str, Any]) -> str:
    """The door is closed: 401 without a key and with a wrong one, and nothing over plain HTTP."""
    path = "/v1/chat/completions"
    plain = {"Content-Type": "application/json"}
    for what, said in (
        ("without a key", plain),
        ("with a wrong key", {**plain, "Authorization": f"Bearer {WRONG_KEY}"}),
    ):
        status, _body = exchange.answer(check, path, b"{}", said)
        if status != 401:
            raise Fault("LW-PROBE-038", f"{check['url']} answered {status} {what}; expected 401")
    parts, host, port = exchange.address(check["url"])
    if parts.scheme == "https":
        at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            status, _body = exchange.answer({**check, "url": f"http://{at}"}, path, b"{}", plain)
        except Fault as fault:
            if fault.cause not in ("LW-PROBE-035", causes.OTHER):  # broken off, or TLS in the place of words
                raise
            status = 0
        if status and status != 400 and not 300 <= status < 400:
            raise Fault("LW-PROBE-038", f"{at} answered {status} over plain HTTP; expected it refused")
    return "refused without a key, with a wrong key" + (", over plain HTTP" if parts.scheme == "https" else "")


def page(check: dict[str, Any]) -> str:
    """The chat page: 401 without a login and with a wrong one; with the right one it is FastChat's, with its parts."""
    key = Path(check["key_file"]).read_text(encoding="utf-8").split("\n")[0].strip()
    for what, said in (
        ("without a login", {}),
        ("with a wrong login", login(check["user"], WRONG_KEY)),
        ("with a program's header", {"Authorization": f"Bearer {key}"}),
    ):
        status, _body = exchange.answer(check, "/", None, said)
        if status != 401:
            raise Fault("LW-PROBE-038", f"{check['url']} answered {status} {what}; expected 401")
    status, body = exchange.answer(check, "/config", None, login(check["user"], key))
    if status != 200:
        raise causes.of_answer(f"{check['url']}/config", status, body)
    parts = {str(one["type"]) for one in json.loads(body)["components"]}
    lacking(["chatbot", "dropdown", "textbox"], sorted(parts), "LW-PROBE-042")
    return f"refused without a login; {check['user']} gets the page"


def login(user: str, key: str) -> dict[str, str]:
    """What a browser says of somebody who logged in."""
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{key}'.encode()).decode()}"}


def controller(check: dict[str, Any]) -> str:
    """The controller knows a worker for each planned model; where not, the workers themselves are asked."""
    found = json.loads(exchange.ask(check, "/list_models", post=True))["models"]
    if set(check["models"]) - set(found):
        worst, said = dead(check)
        lacking(check["models"], found, worst or "LW-PROBE-010", said)
    return f"registered: {', '.join(sorted(found))}"


def registered(check: dict[str, Any]) -> str:
    """As many workers answer the controller as were planned: its `speed` is the sum over live workers, one each."""
    status = json.loads(exchange.ask(check, "/worker_get_status", post=True))
    if int(status["speed"]) < check["count"]:
        worst, said = dead(check)
        words = f"{status['speed']} of {check['count']} planned workers answer the controller"
        alive = "each answers at its own address, and is not registered (yet)" if check.get("workers") else ""
        raise Fault(worst or "LW-PROBE-010", "; ".join(part for part in (words, said or alive) if part))
    return f"{status['speed']} workers answer, {status['queue_length']} requests wait"


def worker(check: dict[str, Any]) -> str:
    """The worker itself answers with its model's names."""
    found = json.loads(exchange.ask(check, "/worker_get_status", post=True))["model_names"]
    lacking(check["models"], found, "LW-PROBE-013")
    return f"serves {', '.join(found)}"


def models(check: dict[str, Any]) -> str:
    """The API lists every planned model. Evicts a worker that is starting: ask only when all are up."""
    found = [one["id"] for one in json.loads(exchange.ask(check, "/v1/models"))["data"]]
    lacking(check["models"], found)
    return f"lists {', '.join(sorted(found))}"


def completion(check: dict[str, Any]) -> str:
    """A chat completion with words in it."""
    said = json.loads(exchange.ask(check, "/v1/chat/completions", question(check)))
    text = str(said["choices"][0]["message"]["content"] or "").strip()
    if not text:
        raise Fault("LW-PROBE-034", "the model answered nothing")
    return f"{check['model']} said {text[:120]!r}"


def stream(check: dict[str, Any]) -> str:
    """The same, streamed: more than one piece, and the end mark."""
    raw = exchange.ask(check, "/v1/chat/completions", {**question(check), "stream": True}).decode("utf-8")
    # Not splitlines(): a model may say U+2028, which is no end of a line here.
    pieces = [line[6:] for line in map(str.strip, raw.split("\n")) if line.startswith("data: ")]
    if not pieces or pieces[-1] != "[DONE]":
        raise Fault("LW-PROBE-035", f"the stream broke off after {len(pieces)} pieces: {raw[-200:]!r}")
    parts = [json.loads(piece) for piece in pieces[:-1]]
    for part in parts:
        if "error_code" in part:
            raise causes.of_answer(f"the stream of {check['url']}", 0, json.dumps(part).encode(), check["model"])
    text = "".join(str(part["choices"][0]["delta"].get("content") or "") for part in parts)
    if not text.strip():
        raise Fault("LW-PROBE-034", "the stream had no words in it")
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
    said = json.loads(exchange.ask(check, "/v1/embeddings", {"model": check["model"], "input": check["prompt"]}))
    vector = said["data"][0]["embedding"]
    if len(set(vector)) < 2 or not all(map(math.isfinite, vector)):
        raise Fault("LW-PROBE-034", f"the vector has {len(vector)} numbers, all alike or not finite")
    return f"{len(vector)} numbers"


def agent(check: dict[str, Any]) -> str:
    """An agent program asks the lab, runs the code that it got, and ends: its JSON says how."""
    env = {**os.environ, **check.get("environment", {})}
    limit = float(check.get("timeout_s", 300))
    try:
        done = subprocess.run(check["argv"], capture_output=True, text=True, timeout=limit, check=False, env=env)
    except subprocess.TimeoutExpired:
        raise Fault("LW-PROBE-027", f"the agent had not ended after {limit:.0f} s") from None
    try:
        said = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        words = mask((done.stderr or done.stdout)[-300:])
        raise Fault(causes.of_words(words) or "", f"the agent ended with {done.returncode}: {words}") from None
    words = said.get("output") or said.get("error") or ""
    text = f"{said.get('verdict')}: {str(words).strip()[:200]!r}"
    if said.get("sandbox"):
        text += f"; the code ran {said['sandbox']}"
    if done.returncode or said.get("verdict") != "answered":
        raise Fault(causes.of_words(text) or "", mask(text))
    return text


KINDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "connect": connect,
    "unit": unit,
    "firewall": walls,
    "certificate": certificate,
    "refused": refused,
    "page": page,
    "controller": controller,
    "registered": registered,
    "worker": worker,
    "models": models,
    "completion": completion,
    "stream": stream,
    "embeddings": embeddings,
    "agent": agent,
}
