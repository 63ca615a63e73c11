"""Running a lab: what is asked of its hosts, and what their answers amount to. Pure; the last plan is taken as written.

* status: what runs where, as a table and as JSON
* restart: who is restarted in which order, so that a model is always served
* logs: what is collected, as files and as a summary
"""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from hostkit.result import Problem
from labwright import paths, report
from labwright.delivery import engine_unit

PREFIX = "labwright-"


def system(entry: Mapping[str, Any]) -> paths.System:
    """The system of a host, by its part of the plan."""
    return paths.of(str(entry.get("platform", "")))


def units(entry: Mapping[str, Any], firewall: bool = False) -> list[str]:
    """The services that a host shall have by the plan, in the order of their start."""
    # Windows has its own firewall, which is no service of ours.
    ours = firewall and system(entry) is paths.SYSTEMS[paths.LINUX]
    closed = ours and (entry.get("controller") or entry.get("api") or entry["workers"])
    found = [f"{PREFIX}firewall"] if closed else []
    found += [f"{PREFIX}{duty}" for duty in ("controller", "api", "web") if entry.get(duty)]
    found += [f"{PREFIX}gateway"] if entry.get("gateway") else []
    for row in entry["workers"]:
        found += [engine_unit(row["name"])] if row.get("engine_url") else []
        found.append(row["name"])
    return found


def address(entry: Mapping[str, Any], worker: Mapping[str, Any]) -> str:
    """What the controller knows a worker by."""
    return str(worker.get("url") or f"http://{entry['address']}:{worker['port']}")


def knobs(given: Mapping[str, Any], table: Mapping[str, tuple[Any, ...]], problem: str) -> dict[str, Any]:
    """The knobs with their defaults. Of each the table has its default, then what it may be: words, or two bounds."""
    first = next(iter(table)).split("_", 1)[0]
    for key in sorted(set(given) - set(table)):
        for meant in difflib.get_close_matches(key, table, n=1, cutoff=0.8):
            raise Problem(problem, f"there is no {key}; expected one of {', '.join(table)}. Set {meant}.")
    found = {}
    for name, (default, *may) in table.items():
        value = given.get(name, default)
        text = str(value).strip()
        if isinstance(default, bool):
            good, expected = text.lower() in ("true", "false"), "true or false"
            value = text.lower() == "true"
        elif isinstance(default, int):
            good = text.isascii() and text.isdigit() and len(text) < 10 and may[0] <= int(text) <= may[1]
            expected = f"a whole number from {may[0]} to {may[1]}"
            value = int(text) if good else value
        else:
            good, expected, value = not may or text in may, " or ".join(may), text
        if not good:
            words = f"{name} is {text[:60]!r}; expected {expected}"
            raise Problem(problem, f"{words}. Set it with -e {name}={str(default).lower() or first}.")
        found[name] = value
    return found


# --- status -----------------------------------------------------------------------------------------------------------

STATES = {  # systemd's word: ours, in capitals where somebody should look
    "active": "running",
    "reloading": "running",
    "activating": "STARTING",
    "deactivating": "STOPPING",
    "failed": "GAVE UP",
    "inactive": "DOWN",
    "not there": "NOT THERE",
}
# The second word, where it says more. A pace that is slept before a start is systemd's start-pre: restarts tell that.
SUBS = {
    "exited": "done",  # the firewall: its rules are loaded
    "auto-restart": "RESTARTING",
    "auto-restart-queued": "RESTARTING",
    "SERVICE_PAUSED": "RESTARTING",  # NSSM waits before the next start
}
HEADS = ("host", "service", "state", "since (UTC)", "for", "restarts", "PID", "RSS MiB", "cgroup MiB", "CPU s")
WORKERS = ("host", "worker", "serves", "device", "GPU MiB", "queue", "controller")


def status_request(entry: Mapping[str, Any], firewall: bool) -> dict[str, Any]:
    """hostkit's request for one host; ``firewall`` says whether the lab has one."""
    workers = {row["name"]: {"url": address(entry, row), "models": row["model_names"]} for row in entry["workers"]}
    return {"units": units(entry, firewall), "workers": workers, "controller": entry["controller_url"]}


def status(
    lab: str, at: str, written: Mapping[str, Any], answers: Mapping[str, Mapping[str, Any] | None]
) -> dict[str, Any]:
    """All that was seen; ``answers`` has each host's result of hostkit's verb ``status``, None where not asked."""
    hosts = {}
    for name, answer in answers.items():
        entry = written["hosts"].get(name)
        row: dict[str, Any] = {"answers": bool(answer and "data" in answer), "said": said(entry, answer)}
        row["at"] = answer["data"]["at"] if answer and "data" in answer else ""
        row["units"] = answer["data"]["units"] if answer and "data" in answer else {}
        for worker in entry["workers"] if entry else ():
            if worker["name"] in row["units"]:
                device = f"{worker['device']} {', '.join(str(gpu['index']) for gpu in worker['gpus'])}".strip()
                row["units"][worker["name"]] |= {"models": worker["model_names"], "device": device}
        hosts[name] = row
    return {"format": 1, "lab": lab, "at": at, "hosts": hosts}


def said(entry: Mapping[str, Any] | None, answer: Mapping[str, Any] | None) -> str:
    """Why a host has no rows, in a few words; "" where it has some."""
    if answer is None:
        return "on paper only, not asked" if entry else "not in the last plan, not asked"
    if answer.get("unreachable"):
        return f"UNREACHABLE: {first_line(answer.get('msg'))}"
    if "data" not in answer:
        return f"NO ANSWER: {first_line(answer.get('msg'))}"
    return "" if answer["data"]["units"] else "nothing of the lab is planned or runs here"


def first_line(words: Any) -> str:
    """The first line of what somebody said, not too long."""
    return (str(words or "no words").strip().splitlines() or ["no words"])[0][:160]


def state(row: Mapping[str, Any]) -> str:
    """A service's state in a word or two."""
    found = SUBS.get(row["sub"]) or STATES.get(row["active"], f"{row['active']} ({row['sub']})".upper())
    found = "RESTARTING" if found == "STARTING" and row["restarts"] else found
    return found if row["planned"] or found.isupper() else f"{found}, NOT PLANNED"


def ago(seconds: int | None) -> str:
    """A time in its largest unit."""
    if seconds is None:
        return "-"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def cell(value: Any) -> str:
    """A value that may not be known."""
    return "-" if value is None or value == "" else f"{value:.0f}" if isinstance(value, float) else str(value)


def status_table(whole: Mapping[str, Any]) -> str:
    """For people: the services, the model workers, hosts that did not answer, the last errors."""
    rows, workers, silent, errors = [], [], [], []
    for host, one in whole["hosts"].items():
        silent += [f"{host}: {one['said']}"] if one["said"] else []
        for name, row in one["units"].items():
            short = name.removeprefix(PREFIX)
            numbers = (row["restarts"], row["pid"], row["rss_mib"], row["memory_mib"], row["cpu_s"])
            since = row["since"][:16].replace("T", " ")
            rows.append((host, short, state(row), cell(since), ago(row["for_s"]), *map(cell, numbers)))
            if "models" in row:
                workers.append((host, short.removeprefix("worker-"), *worker_cells(row)))
            if row["last_error"]:
                errors.append(f"{host} {short}, {row['last_error']['at']}: {first_line(row['last_error']['text'])}")
    wrong = sum(any(char.isupper() for char in row[2]) for row in rows) + sum(row[6] != "knows it" for row in workers)
    looked = f"{len(rows)} services on {len(whole['hosts'])} hosts"
    parts = [
        report.table(rows, HEADS) if rows else "",
        report.table(workers, WORKERS) if workers else "",
        report.block("Hosts without an answer", silent),
        report.block("Last error of each service", errors),
        f"{looked}; all is as planned." if not wrong and not silent else f"{looked}; look at what stands in capitals.",
    ]
    return "\n\n".join(part for part in parts if part)


def worker_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What a worker serves, on what, and what its controller says."""
    words = {True: "knows it", False: "DOES NOT KNOW IT", None: "-"}
    serves = ", ".join(row["serves"]) or f"NOTHING ({', '.join(row['models'])})"
    controller = words[row["registered"]] if row["registered"] is not None else "NO ANSWER"
    return serves, row["device"], cell(row["gpu_mib"]), cell(row["queue"]), controller


# --- restart ----------------------------------------------------------------------------------------------------------

RESTART: dict[str, tuple[Any, ...]] = {
    "restart_what": ("workers", "workers", "all"),
    "restart_model": ("",),
    "restart_host": ("",),
    "restart_even_last": (False,),
    "restart_wait_s": (900, 10, 7200),
}


def restart_wish(given: Mapping[str, Any], written: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs, within their bounds and about what there is."""
    found = knobs(given, RESTART, "LW-RESTART-003")
    models = dict.fromkeys(row["model"] for one in written["hosts"].values() for row in one["workers"])
    for name, known in (("restart_model", models), ("restart_host", written["hosts"])):
        if found[name] and found[name] not in known:
            words = f"{name} is {found[name]!r}; expected one of {', '.join(known) or 'none: nothing is planned'}"
            raise Problem("LW-RESTART-003", f"{words}. Leave it out to restart each.")
    return found


def restarts(written: Mapping[str, Any], host: str, wish: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The model workers of one host that are to be restarted, one after the other, each with the ``others`` that serve
    its model. One host follows the other, so no two workers of the lab are out at once.
    """
    entry = written["hosts"].get(host)
    if not entry or wish["restart_host"] not in ("", host):
        return []
    found = []
    for worker in entry["workers"]:
        # An engine's end is its bridge's: that comes back with it, and registers.
        name = engine_unit(worker["name"]) if worker.get("engine_url") else worker["name"]
        if wish["restart_model"] in ("", worker["model"]):
            found.append(
                {
                    "name": f"{worker['name']} on {host}",
                    "model": worker["model"],
                    "others": others(written, host, worker),
                    "last_too": wish["restart_even_last"],
                    "request": {
                        "unit": f"{name}{system(entry).unit}",
                        "controller": entry["controller_url"],
                        "worker": address(entry, worker),
                        "models": worker["model_names"],
                        "wait_s": wish["restart_wait_s"],
                    },
                }
            )
    return found


def others(written: Mapping[str, Any], host: str, worker: Mapping[str, Any]) -> dict[str, Any]:
    """hostkit's request to find another worker of the model, ``from`` the controller's host, which reaches all."""
    control = next((name for name, one in written["hosts"].items() if one.get("controller")), host)
    rows = [
        {"url": address(one, row), "models": row["model_names"]}
        for name, one in written["hosts"].items()
        for row in one["workers"]
        if row["model"] == worker["model"] and (name, row["name"]) != (host, worker["name"])
    ]
    return {"from": control, "controller": written["hosts"][control]["controller_url"], "workers": rows}


def restart_rest(written: Mapping[str, Any], host: str, wish: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is not a model worker, of one host: only with ``restart_what=all``, and never for one model alone."""
    entry = written["hosts"].get(host)
    whole = wish["restart_what"] == "all" and not wish["restart_model"]
    if not entry or not whole or wish["restart_host"] not in ("", host):
        return []
    workers = {row["name"] for row in entry["workers"]}
    return [
        {
            "unit": f"{name}{system(entry).unit}",
            "controller": entry["controller_url"],
            "wait_s": wish["restart_wait_s"],
            "workers_back": name == f"{PREFIX}controller",
        }
        for name in units(entry)
        if name not in workers
    ]


def last(name: str, model: str, seen: Mapping[str, str]) -> str:
    """The sentence for a worker that is left out."""
    words = "; ".join(f"{url}: {one}" for url, one in seen.items()) or "the plan has no other"
    return (
        f"LW-RESTART-001: {name} was left out: it is the last that serves {model} ({words}). Restart it when another "
        "serves, or with -e restart_even_last=true, and nobody is answered meanwhile."
    )


# --- logs -------------------------------------------------------------------------------------------------------------

LOGS: dict[str, tuple[Any, ...]] = {
    "logs_since": ("2 hours ago",),
    "logs_lines": (20000, 1, 200_000),
    "logs_kib": (8192, 64, 65536),
}
LOG_HEADS = ("host", "service", "lines", "errors", "last error (UTC)")


def logs_request(given: Mapping[str, Any]) -> dict[str, Any]:
    """hostkit's request, the same for each host."""
    found = knobs(given, LOGS, "LW-LOGS-003")
    return {"since": found["logs_since"], "lines": found["logs_lines"], "bytes": found["logs_kib"] << 10}


def logs_table(answers: Mapping[str, Mapping[str, Any] | None]) -> str:
    """A row for each service; below, each kind of error with its count, the last errors, hosts without an answer."""
    rows, silent, ends = [], [], []
    kinds: dict[str, Counter[str]] = {}
    for host, answer in answers.items():
        if not answer or "data" not in answer:
            words = "UNREACHABLE" if answer and answer.get("unreachable") else "NO ANSWER"
            silent.append(f"{host}: {words}: {first_line(answer.get('msg') if answer else 'not asked')}")
            continue
        if answer["data"]["cut"]:
            silent.append(f"{host}: {answer['data']['cut']}")
        for name, one in answer["data"]["units"].items():
            short = name.removeprefix(PREFIX)
            at = one["last_error"].get("at", "-").replace("T", " ").rstrip("Z")
            rows.append((host, short, str(one["lines"]), str(sum(one["kinds"].values())), at))
            for kind, count in one["kinds"].items():
                kinds.setdefault(kind, Counter())[f"{host} {short}"] += count
            if one["last_error"]:
                ends.append(f"{host} {short}: {first_line(one['last_error']['text'])}")
    most = sorted(kinds.items(), key=lambda row: (-row[1].total(), row[0]))
    counted = [
        f"{total} x {kind}: {', '.join(f'{where} {count}' for where, count in found.most_common(4))}"
        for kind, found in most
        for total in [found.total()]
    ]
    parts = [
        report.table(rows, LOG_HEADS) if rows else "No service of the lab has said anything.",
        report.block("Errors by kind", counted),
        report.block("Last error of each service", ends),
        report.block("Not all is here", silent),
    ]
    return "\n\n".join(part for part in parts if part)


def secrets(found: Any, inside: str = "") -> list[str]:
    """All texts within values that are secret as a whole; the user of a login is none."""
    if isinstance(found, Mapping):
        return [text for key, one in found.items() for text in secrets(one, str(key))]
    if isinstance(found, (list, tuple)):
        return [text for one in found for text in secrets(one, inside)]
    text = str(found).strip()
    return [text] if text and inside != "user" else []


def as_json(whole: Mapping[str, Any]) -> str:
    """The text of status.json, a line for each host."""
    head = json.dumps({key: value for key, value in whole.items() if key != "hosts"}, ensure_ascii=False, indent=1)
    rows = ",\n".join(f"  {report.text(name)}: {report.text(one)}" for name, one in whole["hosts"].items())
    return f'{head[:-2]},\n "hosts": {{\n{rows}\n }}\n}}\n'
