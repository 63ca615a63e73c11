"""NSSM as the backend of the verb ``service`` on Windows: a definition, what the registry has, what nssm.exe is told.

Request: ``name``, ``state``; ``nssm`` (the program), ``etc`` and ``logs`` (folders; each service has its own in both);
``definition``: ``argv``, ``directory``, ``environment``, ``description``, ``after`` (services), ``stop`` and
``stopped`` (argv), ``stop_wait_s``, ``writable`` (folders), ``python`` and ``hostkit`` (what runs the verb ``pace``
before each start); ``files`` (name → text), ``config``, ``generation``, ``log_max``.

What differs is found by the registry, not by `nssm get`, whose words depend on the code page. NSSM starts a program
that ends again and again later and later, and would do so for ever; the verb ``pace``, which it runs before each start,
gives it up. The service runs as its virtual account (``NT SERVICE\\NAME``), which has no password.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import re
import subprocess
import time
from pathlib import Path
from typing import Any, Optional

from hostkit import access, place, probe, registry
from hostkit.result import Problem, Result

SERVICES = "SYSTEM\\CurrentControlSet\\Services"
EVENT_SOURCE = f"{SERVICES}\\Eventlog\\Application\\NSSM"  # nssm.exe writes itself down there, and never takes it back
NOTE = "running.json"
STARTS = "starts"  # what the verb pace keeps, in the folder of the service's log
RESTART_MS = 2000
THROTTLE_MS = 3000  # a program that ends sooner than this was not up
EVERY_S = 0.3
PATIENCE_S = 60.0
WORD_S = 120.0  # for nssm.exe, which waits itself for a service to stop
TAIL = 64 << 10
MOST_FILES = 200  # NSSM puts the log aside at each start
# What NSSM does not write down when it is wanted.
DEFAULTS: dict[str, Any] = {"AppThrottle": 1500, "AppRestartDelay": 0, "AppStopMethodConsole": 1500}
# What the service manager keeps of a service, and how `nssm set` calls it; the rest makes it another service.
OWN = ("DisplayName", "Description", "DependOnService")
CREATED = ("ImagePath", "ObjectName", "Type")
AUTO, OWN_PROCESS = 2, 16
VARIABLE = re.compile(r"%[^%]+%")
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def run(request: dict[str, Any], check: bool) -> Result:
    """Make the service as wanted, or remove it."""
    return (absent if request.get("state", "present") == "absent" else present)(request, check)


def present(request: dict[str, Any], check: bool) -> Result:
    """See that it is defined, starts at boot and runs as defined."""
    name = request["name"]
    folder = Path(request["etc"]) / name
    wanted = definition(request)
    there = defined(name)
    fresh = [key for key in {**wanted, **(there or {})} if key != "Start" and (there or {}).get(key) != wanted.get(key)]
    files = {folder / file: text for file, text in request["files"].items()}
    stale = [path for path, text in files.items() if text_of(path) != text]
    note = {"definition": digest(wanted, request), "config": request.get("config", "")}
    found = noted(folder)
    now = state(name)
    act = action(now, bool(fresh or stale) or found.get("definition") != note["definition"], found, note)
    enable = there is not None and there.get("Start") != AUTO
    hands = by_hand(request, there, fresh, stale, now) if found.get("definition") == note["definition"] else []
    result = Result(
        changed=bool(act or enable),
        message=f"{name}: {act or ('set to start at boot' if enable else 'as it was')}",
        before=shown(there or {}, fresh) + "".join(f"--- {path}\n{text_of(path)}" for path in stale if path.exists()),
        after=shown(wanted, fresh) + "".join(f"--- {path}\n{files[path]}" for path in stale),
        warning=f"LW-SERVICE-004: {name} on {platform.node()} was {', '.join(hands)} by hand; put right."
        if hands
        else "",
    )
    if act:
        result.after += f"{name}: {act}\n"
    if check:
        return result
    prune(Path(request["logs"]), request["log_max"])
    if not result.changed:
        return result
    if act != "waited for" and act:
        stop(name)
    for path in stale:
        place.write(path, files[path])
    define(request, wanted, there, fresh, enable)
    if act:
        come_up(request, act)
    place.write(folder / NOTE, json.dumps(note))
    return result


def definition(request: dict[str, Any]) -> dict[str, Any]:
    """What the registry shall have of a service: its own values, and NSSM's as ``Parameters\\…``."""
    one = request["definition"]
    name = request["name"]
    log = str(folder_of_log(request) / f"{name}.log")
    environment = {"RUNTIME_DIRECTORY": str(folder_of_log(request)), **one["environment"]}
    values: dict[str, Any] = {
        "ImagePath": f'"{request["nssm"]}"',
        "ObjectName": f"{access.SERVICE}{name}",
        "Type": OWN_PROCESS,
        "Start": AUTO,
        "DisplayName": name,
        "Description": one["description"],
        "Parameters\\Application": one["argv"][0],
        "Parameters\\AppParameters": subprocess.list2cmdline(one["argv"][1:]),
        "Parameters\\AppDirectory": one["directory"],
        "Parameters\\AppEnvironmentExtra": [f"{key}={value}" for key, value in sorted(environment.items())],
        "Parameters\\AppStdout": log,
        "Parameters\\AppStderr": log,
        "Parameters\\AppRotateFiles": 1,
        "Parameters\\AppRotateOnline": 1,
        "Parameters\\AppRotateBytes": size(request["log_max"]) // 20,
        "Parameters\\AppThrottle": THROTTLE_MS,
        "Parameters\\AppRestartDelay": RESTART_MS,
        "Parameters\\AppStopMethodConsole": int(one["stop_wait_s"]) * 1000,
        "Parameters\\AppRedirectHook": 1,
        "Parameters\\AppTimestampLog": 1,
        "Parameters\\AppExit\\": "Restart",
        "Parameters\\AppEvents\\Start\\Pre": subprocess.list2cmdline(
            [one["python"], "-I", one["hostkit"], "pace", str(Path(request["etc"]) / name / "pace.json")]
        ),
    }
    if one.get("after"):
        values["DependOnService"] = list(one["after"])
    for event, argv in (("Stop\\Pre", one.get("stop")), ("Exit\\Post", one.get("stopped"))):
        if argv:
            values[f"Parameters\\AppEvents\\{event}"] = subprocess.list2cmdline(argv)
    for key, value in values.items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and key != "Description" and VARIABLE.search(text):
                words = f"{name}: {key.rsplit(chr(92), 1)[-1]} has a name between two per cent signs"
                raise Problem("LW-SERVICE-007", f"{words}; NSSM would put a variable there. Expected the value itself.")
    return values


def defined(name: str) -> Optional[dict[str, Any]]:
    """The same of the registry; None where there is no such service."""
    own = registry.read(f"{SERVICES}\\{name}")
    if own is None or own.get("DeleteFlag"):
        return None
    found = {key: own[key] for key in ("Start", *CREATED, *OWN) if own.get(key) not in (None, "", [])}
    found.update(below(f"{SERVICES}\\{name}\\Parameters", "Parameters"))
    return found


def below(key: str, called: str) -> dict[str, Any]:
    """All values of a key and of those below it; what NSSM leaves out is put in."""
    values = registry.read(key)
    if values is None:
        return {}
    found = {f"{called}\\{name}": value for name, value in values.items()}
    if called == "Parameters":
        found = {**{f"{called}\\{name}": value for name, value in DEFAULTS.items()}, **found}
    for one in registry.keys(key):
        found.update(below(f"{key}\\{one}", f"{called}\\{one}"))
    return found


def define(
    request: dict[str, Any], wanted: dict[str, Any], there: Optional[dict[str, Any]], fresh: list[str], enable: bool
) -> None:
    """Write the definition down, by nssm.exe as far as it can."""
    name = request["name"]
    if there is not None and any(key in fresh for key in CREATED):
        stop(name)
        delete(name)
        there, fresh = None, list(wanted)
    if there is None:
        argv = [
            "sc.exe",
            "create",
            name,
            "binPath=",
            wanted["ImagePath"],
            "start=",
            "auto",
            "obj=",
            wanted["ObjectName"],
        ]
        told(argv, name, "create")
        # NSSM knows its services by this value, and sets nothing of one that lacks it.
        registry.write(f"{SERVICES}\\{name}\\Parameters", "Application", wanted["Parameters\\Application"])
        # NSSM itself may be ended by somebody: then Windows starts it again.
        told(["sc.exe", "failure", name, "reset=", "3600", "actions=", f"restart/{RESTART_MS}"], name, "failure")
    elif enable:
        told([request["nssm"], "set", name, "Start", "SERVICE_AUTO_START"], name, "set Start")
    for key in fresh:
        if key in CREATED or key == "Start":
            continue
        if key not in wanted:
            take_away(request, name, key)
            continue
        value = wanted[key]
        words = [str(one) for one in (value if isinstance(value, list) else [value])]
        head, _, last = key.replace("Parameters\\", "", 1).partition("\\")
        if head == "AppEvents":
            words = [last.replace("\\", "/"), *words]
        elif head == "AppExit":
            words = [last or "Default", *words]
        told([request["nssm"], "set", name, head, *words], name, f"set {head}")
    log = folder_of_log(request)
    log.mkdir(parents=True, exist_ok=True)
    # What services ask and log is nobody's to change: folders of ProgramData let every user add files.
    shut = {Path(request["etc"]): access.wanted(0o755), log.parent: access.wanted(0o755)}
    mine = access.wanted(0o755, wanted["ObjectName"], writes=True)
    for folder, rights in {**shut, **dict.fromkeys([log, *map(Path, request["definition"]["writable"])], mine)}.items():
        if folder.is_dir() and not access.fits(folder, rights):
            access.grant(folder, rights)


def take_away(request: dict[str, Any], name: str, key: str) -> None:
    """Remove what a person added, or what is no longer wanted."""
    if key in OWN:
        told([request["nssm"], "reset", name, key], name, f"reset {key}")
        return
    parent, _, value = key.rpartition("\\")
    if value in DEFAULTS and parent == "Parameters":
        told([request["nssm"], "reset", name, value], name, f"reset {value}")
        return
    registry.remove(f"{SERVICES}\\{name}\\{parent}", value)


def action(now: str, differs: bool, found: dict[str, str], note: dict[str, str]) -> str:
    """What must be done to the running program; nothing where it runs as wanted."""
    if now == "SERVICE_START_PENDING" and not differs:
        return "waited for"
    if now != "SERVICE_RUNNING":
        return "started"
    return "restarted" if differs or found["config"] != note["config"] else ""


def by_hand(
    request: dict[str, Any], there: Optional[dict[str, Any]], fresh: list[str], stale: list[Path], now: str
) -> list[str]:
    """What somebody did to a service that was as wanted."""
    if there is None:
        return ["deleted"]
    said = [f"edited ({key})" for key in fresh]
    said += [f"{'edited' if path.exists() else 'deleted'} ({path})" for path in stale]
    if there.get("Start") != AUTO:
        said.append("disabled")
    if now == "SERVICE_STOPPED" and not given_up(request):
        said.append("stopped")
    return said


def folder_of_log(request: dict[str, Any]) -> Path:
    """Where the service's log is."""
    return Path(request["logs"]) / str(request["name"])


def given_up(request: dict[str, Any]) -> bool:
    """Whether the verb pace, not a person, let it stay down."""
    return "LW-SERVICE-003" in " ".join(last_words(Path(request["logs"]), request["name"], 5))


def text_of(path: Path) -> Optional[str]:
    """A file's text; None where there is none."""
    return path.read_bytes().decode("utf-8", "replace") if path.is_file() else None


def shown(values: dict[str, Any], keys: list[str]) -> str:
    """Values as lines of the diff."""
    rows = ((key, values[key]) for key in keys if key in values)
    return "".join(f"{key}: {' | '.join(one) if isinstance(one, list) else one}\n" for key, one in rows)


def digest(wanted: dict[str, Any], request: dict[str, Any]) -> str:
    """One sum over all that restarts a service when it changes."""
    whole = [wanted, request["files"], request.get("generation", "")]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def noted(folder: Path) -> dict[str, str]:
    """What ran when a run last ended well."""
    try:
        return dict(json.loads((folder / NOTE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def size(text: str) -> int:
    """A size in bytes, written as on Linux (200M)."""
    return int(text[:-1]) * UNITS[text[-1].upper()] if text[-1:].upper() in UNITS else int(text)


def words_of(raw: bytes) -> str:
    """What nssm.exe printed: UTF-16 where it thinks that it has a console, else as the console's code page has it."""
    return raw.decode("utf-16-le" if b"\0" in raw[:4] else "utf-8", "replace").strip()


def told(argv: list[str], name: str, what: str) -> None:
    """Run nssm.exe or sc.exe, which has no reason to refuse."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=WORD_S)
    if done.returncode:
        said = words_of(done.stdout) + words_of(done.stderr) or str(done.returncode)
        raise Problem("LW-SERVICE-006", f"{name}: `{Path(argv[0]).name} {what}` was refused: {said}. Mend that.")


def program(name: str) -> str:
    """The nssm.exe that runs a service; "" where there is no such service."""
    return str((registry.read(f"{SERVICES}\\{name}") or {}).get("ImagePath", "")).strip('"')


def ask(name: str, verb: str) -> str:
    """What nssm.exe says of a service, its complaints too.

    Its status is not looked at: a start that takes its time is a failure to it.
    """
    argv = [program(name), verb, name]
    if not argv[0]:
        return ""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=WORD_S)
    except subprocess.TimeoutExpired as error:
        words = f"{name}: `nssm.exe {verb}` did not end within {WORD_S:g} s; expected it to say how the service is"
        raise Problem("LW-SERVICE-006", f"{words}. End the service's processes there, and run again.") from error
    return f"{words_of(done.stdout)} {words_of(done.stderr)}".strip()


def state(name: str) -> str:
    """What the service manager says: SERVICE_RUNNING, SERVICE_STOPPED, SERVICE_PAUSED …; "" where it knows nothing."""
    found = re.search(r"SERVICE_[A-Z_]+", ask(name, "status"))
    return found[0] if found else ""


def come_up(request: dict[str, Any], act: str) -> None:
    """Start it, and see that it answers."""
    name = request["name"]
    ready = json.loads(request["files"]["ready.json"])
    said = ""
    if act != "waited for":
        before = json.loads(request["files"].get("before.json", '{"checks": []}'))
        try:
            probe.run(before, False)
        except Problem as problem:
            raise Problem("LW-SERVICE-001", f"{name} was not started: {problem.message}") from problem
        (folder_of_log(request) / STARTS).unlink(missing_ok=True)  # earlier starts are no reason not to start this one
        said = ask(name, "start")  # of a service that Windows itself does not start: why
    deadline = time.monotonic() + PATIENCE_S + float(ready.get("wait_s", 0))
    why = ""
    while time.monotonic() < deadline:
        now = state(name)
        if now in ("SERVICE_PAUSED", "SERVICE_STOPPED"):
            paused = "ends right after each start, and NSSM waits longer before each next one (SERVICE_PAUSED)"
            why = paused if now == "SERVICE_PAUSED" else "was given up, or its program is not there (SERVICE_STOPPED)"
            break
        if now == "SERVICE_RUNNING":
            try:
                probe.run({**ready, "wait_s": 0}, False)
                return
            except Problem as problem:
                why = problem.message
        time.sleep(EVERY_S)
    words = f"{name} did not start; expected it to answer what stands in {Path(request['etc']) / name}\\ready.json"
    last = " | ".join(line[:400] for line in last_words(Path(request["logs"]), name, 12))
    see = f"See {folder_of_log(request)} there."
    told = f" `nssm.exe start` said: {said}" if said else ""
    raise Problem("LW-SERVICE-001", f"{words}. It {why or 'never ran'}.{told} Its last words: {last}. {see}")


def stop(name: str) -> None:
    """Stop it, after what it wants to be done before; wait until it has ended."""
    now = state(name)
    if now in ("", "SERVICE_STOPPED"):
        return
    there = below(f"{SERVICES}\\{name}\\Parameters", "Parameters")
    first = there.get("Parameters\\AppEvents\\Stop\\Pre")
    if first and now == "SERVICE_RUNNING":  # here, for NSSM gives its event no more than 20 s
        limit = int(there["Parameters\\AppStopMethodConsole"]) / 1000
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):  # its failure is not the service's
            subprocess.run(first, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=limit)
    deadline = time.monotonic() + 2 * PATIENCE_S
    while (now := state(name)) not in ("", "SERVICE_STOPPED"):
        if time.monotonic() > deadline:
            words = f"{name} does not stop ({now}); expected SERVICE_STOPPED"
            raise Problem(
                "LW-SERVICE-008", f"{words}. Nothing of it was changed. End its process there, and run again."
            )
        with contextlib.suppress(Problem):  # nssm.exe waits with the service; what comes of it is seen above
            ask(name, "stop")
        time.sleep(EVERY_S)


def delete(name: str) -> None:
    """Remove it from the service manager, and wait until it is gone."""
    told(["sc.exe", "delete", name], name, "delete")
    deadline = time.monotonic() + PATIENCE_S
    while registry.read(f"{SERVICES}\\{name}") is not None:
        if time.monotonic() > deadline:
            words = f"{name} is marked for deletion, and a program has it open; expected it gone"
            raise Problem("LW-SERVICE-009", f"{words}. Close services.msc and the like there, and run again.")
        time.sleep(EVERY_S)


def absent(request: dict[str, Any], check: bool) -> Result:
    """Stop it and remove everything of it. ``data.last``: no other service of the lab is left on this host."""
    name = request["name"]
    there = registry.read(f"{SERVICES}\\{name}") is not None
    folders = [path for path in (Path(request["etc"]) / name, folder_of_log(request)) if path.exists()]
    result = Result(
        changed=there or bool(folders),
        message=f"{name}: {'removed' if there or folders else 'not there'}",
        before="".join(f"{one}\n" for one in ([f"service {name}"] if there else []) + folders),
        data={"last": not [one for one in names() if one != name]},
    )
    if not result.changed or check:
        return result
    if there:
        if Path(program(name)).is_file():
            stop(name)
        delete(name)
        if result.data["last"] and (registry.read(EVENT_SOURCE) or {}).get("EventMessageFile") == request["nssm"]:
            registry.remove_key(EVENT_SOURCE)
    for folder in folders:
        place.discard(folder)
        if folder.parent.is_dir() and not any(folder.parent.iterdir()):
            folder.parent.rmdir()
    return result


def names() -> list[str]:
    """The lab's services on this host."""
    return sorted(name for name in registry.keys(SERVICES) if name.startswith("labwright-"))


def files_of_log(logs: Path, name: str) -> list[Path]:
    """A service's log, newest first: what is being written, then what was put aside, at a start and when full."""
    aside = sorted((logs / name).glob(f"{name}-*.log"), reverse=True)
    return [logs / name / f"{name}.log", *aside]


def last_words(logs: Path, name: str, lines: int) -> list[str]:
    """The end of its log."""
    found: list[str] = []
    for path in files_of_log(logs, name):
        if len(found) < lines:
            found = [*tail(path), *found]
    return found[-lines:]


def tail(path: Path) -> list[str]:
    """The last lines of a file, without gaps."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - TAIL))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()]


def prune(logs: Path, most: str) -> None:
    """Remove the oldest logs that were put aside, until all logs of the host fit, and are not too many.

    A service's account may remove its own alone, and nobody one that is open: what cannot be removed is passed over.
    """
    found = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in logs.glob("*/*.log"))
    total, left = sum(bytes_ for _when, bytes_, _path in found), len(found)
    for _when, bytes_, path in found:
        if total <= size(most) and left <= MOST_FILES:
            break
        if path.stem != path.parent.name:  # not the one that is being written
            with contextlib.suppress(PermissionError):
                path.unlink(missing_ok=True)
                total, left = total - bytes_, left - 1
