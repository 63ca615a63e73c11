"""Verb ``service``: one program that runs for good. Says and does only what differs from the definition.

Request: ``state``, ``name``, ``unit`` and ``farewell`` (texts of the two units), ``files`` (name → text, in the
service's folder), ``config`` (a digest: when only this differs the service is reloaded, where ``reload`` is true).

What runs is compared with what is wanted by a note that is written when the service is up (``running.json``): a run
that was cut off between writing and restarting is made good by the next one. What a person did to the service by hand
(stopped, disabled, masked, edited, deleted, drop-ins) is put right and said, LW-SERVICE-004.

That is systemd; on Windows the same is done by NSSM, with another request: ``hostkit.nssm``.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from pathlib import Path
from typing import Any

from hostkit import nssm, place, probe, systemd, tree
from hostkit.result import Problem, Result

FOLDER = Path("/etc/labwright")
NOTE = "running.json"


def run(request: dict[str, Any], check: bool) -> Result:
    """Make the service as wanted, or remove it."""
    if place.windows():
        return nssm.run(request, check)
    return (absent if request.get("state", "present") == "absent" else present)(request, check)


def present(request: dict[str, Any], check: bool) -> Result:
    """See that it is defined, starts at boot and runs as defined."""
    name = request["name"]
    wanted = texts(request)
    before = {path: text_of(path) for path in wanted}
    fresh = [path for path in wanted if before[path] != wanted[path]]
    note = {"definition": digest(wanted), "config": request.get("config", "")}
    found = noted(name)
    shown = systemd.state(name)
    others = systemd.by_hand(name)
    act = action(request, shown, bool(fresh or others) or found.get("definition") != note["definition"], found)
    enable = shown.get("UnitFileState") != "enabled"
    reread = bool(fresh or others) or shown.get("NeedDaemonReload") == "yes"
    hands = by_hand(shown, fresh, others) if found.get("definition") == note["definition"] else []
    result = Result(
        changed=bool(act or enable or reread),
        message=f"{name}: {act or ('set to start at boot' if enable else 'read again' if reread else 'as it was')}",
        before="".join(f"--- {path}\n{before[path]}" for path in fresh if before[path] is not None),
        after="".join(f"--- {path}\n{wanted[path]}" for path in fresh) + (f"{name}: {act}\n" if act else ""),
        warning=f"LW-SERVICE-004: {name} on {platform.node()} was {', '.join(hands)} by hand; put right."
        if hands
        else "",
    )
    if not result.changed or check:
        return result
    for path in others:
        systemd.remove(path)
    for path in fresh:
        tree.write(path, wanted[path], {})
    if reread:
        told("daemon-reload")
    if enable:
        told("enable", f"{name}.service")
    if act:
        carry_out(act, request)
    tree.write(FOLDER / name / NOTE, json.dumps(note), {})
    return result


def texts(request: dict[str, Any]) -> dict[Path, str]:
    """Every file of the service with its text."""
    name = request["name"]
    units = {systemd.unit(name): request["unit"], systemd.farewell(name): request["farewell"]}
    return {**units, **{FOLDER / name / file: text for file, text in request["files"].items()}}


def text_of(path: Path) -> str | None:
    """A file's text; None where no plain file of ours is there (a mask is a link)."""
    if path.is_symlink() or not path.is_file() or not tree.fits(path, {}):
        return None
    return path.read_bytes().decode("utf-8", "replace")


def digest(wanted: dict[Path, str]) -> str:
    """One sum over all files."""
    return hashlib.sha256(json.dumps({str(path): text for path, text in wanted.items()}).encode()).hexdigest()


def noted(name: str) -> dict[str, str]:
    """What ran when a run last ended well."""
    try:
        return dict(json.loads((FOLDER / name / NOTE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def action(request: dict[str, Any], shown: dict[str, str], differs: bool, found: dict[str, str]) -> str:
    """What must be done to the running program; nothing where it runs as wanted."""
    if shown.get("ActiveState") == "activating" and shown.get("NRestarts") == "0" and not differs:
        return "waited for"
    if shown.get("ActiveState") not in ("active", "reloading"):
        return "started"
    if differs:
        return "restarted"
    if found["config"] != request.get("config", ""):
        return "reloaded" if request.get("reload") else "restarted"
    return ""


def by_hand(shown: dict[str, str], fresh: list[Path], others: list[Path]) -> list[str]:
    """What somebody did to a service that was as wanted."""
    said = [f"{done_to(path)} ({path})" for path in fresh] + [f"overridden ({path})" for path in others]
    if shown.get("UnitFileState") == "disabled":
        said.append("disabled")
    if shown.get("ActiveState") == "inactive":
        said.append("stopped")
    return said


def done_to(path: Path) -> str:
    """What somebody did to a file of ours."""
    if path.is_symlink():
        return "masked"
    return "edited" if path.exists() else "deleted"


def told(*words: str) -> None:
    """Tell systemd something that it has no reason to refuse."""
    done = systemd.control(*words)
    if done.returncode:
        raise Problem("LW-SERVICE-006", f"`systemctl {' '.join(words)}` was refused: {done.stderr.strip()}. Mend that.")


def carry_out(act: str, request: dict[str, Any]) -> None:
    """Start, restart or reload, and see that it came up."""
    name = request["name"]
    unit = f"{name}.service"
    if act == "reloaded":
        done = systemd.control("reload", unit)
        if done.returncode:
            raise Problem("LW-SERVICE-005", f"{name} refused its new configuration: {systemd.last_words(name)}")
        probe.run(json.loads(request["files"]["ready.json"]), False)
        return
    if act != "waited for":
        # Begin anew: whatever came before, the count of starts among it, is no reason not to start what is defined now.
        systemd.control("stop", unit)
        systemd.control("reset-failed", unit)
    if systemd.control("start", unit).returncode:
        words = f"{name} did not start; expected it to answer what stands in {FOLDER / name}/ready.json"
        see = f"See `journalctl --namespace=labwright -u {name}` there."
        raise Problem("LW-SERVICE-001", f"{words}. Its last words: {systemd.last_words(name)}. {see}")


def absent(request: dict[str, Any], check: bool) -> Result:
    """Stop it and remove everything of it. ``data.last``: no other service of the lab is left on this host."""
    name = request["name"]
    units = [path for path in (systemd.unit(name), systemd.farewell(name)) if path.is_symlink() or path.exists()]
    gone = [*units, *systemd.by_hand(name), *systemd.links(name)]
    folder = FOLDER / name
    if folder.is_dir():
        gone.append(folder)
    there = bool(gone) or systemd.state(name).get("ActiveState") not in ("inactive", None)
    result = Result(changed=there, message=f"{name}: {'removed' if there else 'not there'}")
    result.before = "".join(f"{path}\n" for path in gone)
    result.data = {"last": not systemd.others(name)}
    if not there or check:
        return result
    systemd.control("stop", f"{name}.service")
    for path in gone:
        systemd.remove(path)
    if FOLDER.is_dir() and not any(FOLDER.iterdir()):
        shutil.rmtree(FOLDER)
    systemd.control("daemon-reload")
    systemd.control("reset-failed", f"{name}.service", f"gave-up-{name}.service")
    return result
