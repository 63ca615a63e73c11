"""Services, through the service control manager."""

from __future__ import annotations

import fnmatch
import time
from typing import Any

from . import registry
from .context import Context, Failed, Result, stand_in

STATES = {
    1: "stopped",
    2: "start_pending",
    3: "stop_pending",
    4: "started",
    5: "continue_pending",
    6: "pause_pending",
    7: "paused",
}
STARTS = {0: "boot", 1: "system", 2: "auto", 3: "manual", 4: "disabled"}
ERRORS = {0: "ignore", 1: "normal", 2: "severe", 3: "critical"}
CONTROLS = {
    1: "stop",
    2: "pause_continue",
    4: "shutdown",
    8: "param_change",
    16: "netbind_change",
    32: "hardware_profile_change",
    64: "power_event",
    128: "session_change",
    256: "pre_shutdown",
}
ACTIONS = {0: "none", 1: "restart", 2: "reboot", 3: "run_command"}
KEY = r"HKLM\System\CurrentControlSet\Services"
WAIT_SECONDS = 30
# What win_service has and this target does not set; asking for one fails.
LATER = (
    "failure_actions",
    "failure_actions_on_non_crash_failure",
    "failure_command",
    "failure_reboot_msg",
    "failure_reset_period_sec",
    "load_order_group",
    "pre_shutdown_timeout_ms",
    "required_privileges",
    "service_type",
    "sid_info",
)
SYSTEM = ("localsystem", "nt authority\\system", "system", ".\\localsystem", "s-1-5-18")


def listed(context: Context, name: str = "") -> list[dict[str, Any]]:
    """Return what the service control manager says of one service or of all."""
    answer = context.wine.hand("service", "list", *([name] if name else []))
    return list(answer.get("services", []))


def asked(context: Context, *words: str) -> int:
    """Ask the service control manager; return Windows' error code."""
    return int(context.wine.hand("service", *words)["error"])


def told(context: Context, one: dict[str, Any]) -> Result:
    """Return a service as win_service_info tells it; dependencies are the registry's, which Wine does not read."""
    values = registry.values(context, rf"{KEY}\{one['name']}") or {}
    after = values.get("dependonservice")
    delayed = values.get("delayedautostart")
    start = STARTS.get(one.get("start", 3), "manual")
    if start == "auto" and delayed and int.from_bytes(delayed[2], "little"):
        start = "delayed"
    return {
        "checkpoint": one["checkpoint"],
        "controls_accepted": [name for bit, name in CONTROLS.items() if one["accepts"] & bit],
        "dependencies": registry.decoded(*after[1:]) if after else [],
        "dependency_of": [],
        "description": one.get("description") or None,
        "desktop_interact": bool(one["type"] & 0x100),
        "display_name": one["display_name"],
        "error_control": ERRORS.get(one.get("error_control", 1), "normal"),
        "failure_actions": [],
        "failure_actions_on_non_crash_failure": False,
        "failure_command": None,
        "failure_reboot_msg": None,
        "failure_reset_period_sec": 0,
        "launch_protection": "none",
        "load_order_group": one.get("load_order_group", ""),
        "name": one["name"],
        "path": one.get("path", ""),
        "pre_shutdown_timeout_ms": 10000,
        "preferred_node": None,
        "process_id": one["process_id"],
        "required_privileges": [],
        "service_exit_code": one["service_exit_code"],
        "service_flags": [],
        "service_type": "win32_share_process" if one["type"] & 0x20 else "win32_own_process",
        "sid_info": "none",
        "start_mode": start,
        "state": STATES[one["state"]],
        "triggers": [],
        "username": account(values, one),
        "wait_hint_ms": one["wait_hint"],
        "win32_exit_code": one["win32_exit_code"],
    }


def account(values: dict[str, tuple[str, int, bytes]], one: dict[str, Any]) -> str:
    """Return a service's account as Windows spells it."""
    there = values.get("objectname")
    name = str(registry.decoded(*there[1:])) if there else one.get("username") or "LocalSystem"
    return "NT AUTHORITY\\SYSTEM" if name.lower() in SYSTEM else name


@stand_in("ansible.windows.win_service_info")
def win_service_info(args: Result, context: Context) -> Result:
    """Tell about services: of a name or displayed name, or of all whose names fit a wildcard."""
    name = str(args.get("name") or "*").lower()
    found = [
        told(context, one)
        for one in listed(context)
        if fnmatch.fnmatchcase(one["name"].lower(), name) or one["display_name"].lower() == name
    ]
    return {"changed": False, "exists": bool(found), "services": found}


def until(context: Context, name: str, state: int) -> bool:
    """Wait until a service is in a state; return whether it got there."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        found = listed(context, name)
        if found and found[0]["state"] == state:
            return True
        if state == 4 and found and found[0]["state"] in (1, 7):
            return False
        time.sleep(0.2)
    return False


def stop(context: Context, name: str) -> None:
    """Stop a service and wait for it."""
    error = asked(context, "stop", name)
    if error not in (0, 1062) or not until(context, name, 1):
        raise Failed(
            f"Failed to stop service '{name}' (Windows says {error}); it did not stop in {WAIT_SECONDS} seconds"
        )


def start(context: Context, name: str) -> None:
    """Start a service and wait for it."""
    error = asked(context, "start", name)
    if error not in (0, 1056) or not until(context, name, 4):
        state = STATES[listed(context, name)[0]["state"]] if listed(context, name) else "absent"
        raise Failed(f"Cannot start service '{name}' on computer '.' (Windows says {error}); it is {state}")


def settings(args: Result, context: Context, now: Result) -> list[tuple[str, str, Any, Any]]:
    """Return what differs: the option, the hand's word, what is and what shall be."""
    fields = {"start_mode": "start", "display_name": "display", "description": "description", "path": "path"}
    found = []
    for option, word in fields.items():
        wish = args.get(option)
        if option == "path" and wish is not None:
            wish = context.expanded(wish)
        if wish is not None and (now[option] or "") != wish:
            found.append((option, word, now[option], wish))
    wish = args.get("dependencies")
    if wish is not None:
        old = now["dependencies"]
        ways = {
            "set": wish,
            "add": old + [one for one in wish if one not in old],
            "remove": [one for one in old if one not in wish],
        }
        if sorted(ways[args["dependency_action"]]) != sorted(old):
            found.append(("dependencies", "", old, ways[args["dependency_action"]]))
    wish = args.get("username")
    if wish is not None and (wish.lower() not in SYSTEM or now["username"] != "NT AUTHORITY\\SYSTEM"):
        wish = wish.removeprefix(".\\")
        if wish.lower() != now["username"].lower().removeprefix(".\\"):
            found.append(("username", "", now["username"], wish))
    return found


def apply(context: Context, name: str, option: str, word: str, wish: Any) -> None:
    """Change one setting of a service."""
    if word:
        error = asked(context, "set", name, word, wish)
        if error:
            raise Failed(f"Failed to set {option} of service '{name}': Windows says {error}")
    elif option == "dependencies":
        registry.write(context, rf"{KEY}\{name}", "DependOnService", 7, registry.encoded(7, wish))
    else:
        registry.write(context, rf"{KEY}\{name}", "ObjectName", 1, registry.encoded(1, wish))


@stand_in("ansible.windows.win_service")
def win_service(args: Result, context: Context) -> Result:
    """Make, change, start, stop or remove a service."""
    asks = [option for option in LATER if args.get(option) is not None]
    if asks:
        raise Failed(f"This test target does not set {', '.join(asks)} of a service; teach it, or leave the option out")
    if args.get("password") and not args.get("username"):
        raise Failed("missing parameter(s) required by 'password': username")
    name, state = args["name"], args.get("state")
    found = listed(context, name)
    if state == "absent":
        if found and not context.check:
            if found[0]["state"] != 1:
                stop(context, found[0]["name"])
            error = asked(context, "delete", found[0]["name"])
            if error not in (0, 1072):
                raise Failed(f"Failed to delete service '{name}': Windows says {error}")
        return {
            "changed": bool(found),
            "exists": False,
            **diff(context, [("state", "", "present", "absent")] if found else []),
        }
    changes: list[tuple[str, str, Any, Any]] = []
    if not found:
        if not args.get("path"):
            raise Failed(f"Service '{name}' is not installed, need to set 'path' to create a new service")
        changes.append(("state", "", "absent", "present"))
        if context.check:
            return {"changed": True, "exists": False, **diff(context, changes)}
        error = asked(context, "create", name, context.expanded(args["path"]))
        if error:
            raise Failed(f"Failed to create service '{name}': Windows says {error}")
        found = listed(context, name)
    now = told(context, found[0])
    name = now["name"]
    for change in settings(args, context, now):
        changes.append(change)
        if not context.check:
            apply(context, name, change[0], change[1], change[3])
    changes += moved(context, name, now["state"], state)
    after = told(context, listed(context, name)[0])
    return {
        "changed": bool(changes),
        "exists": True,
        **{
            key: after[key]
            for key in (
                "name",
                "display_name",
                "description",
                "path",
                "start_mode",
                "state",
                "username",
                "dependencies",
            )
        },
        **diff(context, changes),
    }


def moved(context: Context, name: str, now: str, wish: str | None) -> list[tuple[str, str, Any, Any]]:
    """Bring a service into a state; return what changed."""
    if wish in (None, now) or (wish == "stopped" and now == "stopped"):
        return []
    if not context.check:
        if wish in ("stopped", "restarted") and now != "stopped":
            stop(context, name)
        if wish == "started" and now == "paused":
            if asked(context, "continue", name) or not until(context, name, 4):
                raise Failed(f"Cannot resume service '{name}' on computer '.'")
        elif wish in ("started", "restarted"):
            start(context, name)
        if wish == "paused" and (asked(context, "pause", name) or not until(context, name, 7)):
            raise Failed(f"Cannot pause service '{name}': it does not take that")
    return [("state", "", now, wish)]


def diff(context: Context, changes: list[tuple[str, str, Any, Any]]) -> Result:
    """Return what `--diff` shows."""
    if not context.diff:
        return {}
    return {
        "diff": {
            "before": {option: was for option, _, was, _ in changes},
            "after": {option: will for option, _, _, will in changes},
        }
    }
