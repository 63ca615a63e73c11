"""The environment, Windows' features, and programs that are installed."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from .. import store
from . import network, registry, services
from .commands import ERRORS, refuse_powershell
from .context import Context, Failed, Result, checksum, stand_in

LEVELS = {"machine": r"HKLM\System\CurrentControlSet\Control\Session Manager\Environment", "user": r"HKCU\Environment"}
ELEMENTS = re.compile(r'(\s*"[^"]+"\s*|[^;]+)(?:;|$)')
UNINSTALL = (
    r"HKLM\Software\Microsoft\Windows\CurrentVersion\Uninstall",
    r"HKLM\Software\WOW6432Node\Microsoft\Windows\CurrentVersion\Uninstall",
    r"HKCU\Software\Microsoft\Windows\CurrentVersion\Uninstall",
)
# What win_package has and this target does not do; asking for one fails.
LATER = (
    "username",
    "password",
    "creates_version",
    "log_path",
    "provider",
    "wait_for_children",
    "client_cert",
    "proxy_url",
)


@stand_in("ansible.windows.win_environment")
def win_environment(args: Result, context: Context) -> Result:
    """Set or remove environment variables."""
    if bool(args.get("variables")) == bool(args.get("name")) or (
        args.get("variables") and (args.get("value") or args.get("state"))
    ):
        raise Failed("name (with value and state) or variables are wanted, and not both")
    level = args["level"]
    wishes = args.get("variables") or {args["name"]: args.get("value")}
    result: Result = {"changed": False, "values": {}}
    before: dict[str, str] = {}
    after: dict[str, str] = {}
    there = {} if level == "process" else registry.values(context, LEVELS[level]) or {}
    for name, value in wishes.items():
        value = None if value is None else str(value)
        state = args.get("state") or ("present" if value else "absent")
        if args.get("state") == "present" and not value:
            raise Failed(
                "When state=present, value must be defined and not an empty string, if you wish to remove the envvar, "
                "set state=absent"
            )
        if state == "absent" and value:
            context.warnings.append(
                f"When removing environment variable '{name}' it should not have a value '{value}' set"
            )
            value = None
        row = there.get(name.lower())
        now = None if row is None else str(registry.decoded(row[1], row[2]))
        changed = now != value
        told = {"changed": changed, "before": now, "after": value}
        result["values"][name] = told
        result.update(before_value=now, value=value, changed=result["changed"] or changed)
        before |= {name: now} if now else {}
        after |= {name: value} if value else {}
        if changed and not context.check and level != "process":
            if value is None:
                registry.drop(context, LEVELS[level], name)
            else:
                # .NET writes a plain text, whatever it holds.
                registry.write(context, LEVELS[level], name, 1, registry.encoded(1, value))
    result["env_values"] = result["values"]
    if context.diff:
        result["diff"] = {"before": {level: before}, "after": {level: after}}
    return result


def plain(element: str) -> str:
    """Return an element of a path as it is compared."""
    return element.strip('"').strip("\\").lower()


def extended(there: list[str], wish: list[str]) -> list[str]:
    """Return a path with elements added at its end, in their order."""
    found, last = list(there), -1
    for element in wish:
        at = next((index for index, one in enumerate(found) if plain(one) == plain(element)), -1)
        if at == -1:
            found.append(element)
            last = len(found) - 1
        elif at < last:
            found.append(found.pop(at))
            last = len(found) - 1
        else:
            last = at
    return found


@stand_in("ansible.windows.win_path")
def win_path(args: Result, context: Context) -> Result:
    """Change a variable that is a list of folders."""
    key, name = LEVELS[args["scope"]], args["name"]
    row = (registry.values(context, key) or {}).get(name.lower())
    there = list(ELEMENTS.findall(str(registry.decoded(row[1], row[2])) if row else ""))
    gone = {plain(one) for one in args["elements"]}
    after = (
        extended(there, args["elements"])
        if args["state"] == "present"
        else [one for one in there if plain(one) not in gone]
    )
    value = ";".join(after)
    if after != there and not context.check:
        registry.write(context, key, name, 2, registry.encoded(2, value))
    return {"changed": after != there, "path_value": value}


@stand_in("ansible.windows.win_optional_feature")
def win_optional_feature(args: Result, context: Context) -> Result:
    """Switch features of Windows on or off; kept in the target's store."""
    wish = args["state"] == "present"
    with store.changing(context.machine.folder, check=context.check) as state:
        changed = False
        for name in args["name"]:
            found = store.entry(state["features"], name)
            if found is None:
                raise Failed(f"Failed to find feature '{name}'")
            changed |= state["features"][found] != wish
            state["features"][found] = wish
    return {"changed": changed, "reboot_required": changed and not context.check}


def installed(args: Result, context: Context) -> bool:
    """Return whether a package is there, by what the task says of it."""
    if args.get("creates_path"):
        return context.path(args["creates_path"]).exists()
    if args.get("creates_service"):
        return bool(services.listed(context, args["creates_service"]))
    product = args.get("product_id")
    return bool(product) and any(registry.values(context, rf"{key}\{product}") is not None for key in UNINSTALL)


def removal(args: Result, context: Context) -> str:
    """Return the command line by which a product says that it is removed."""
    for key in UNINSTALL:
        values = registry.values(context, rf"{key}\{args['product_id']}") or {}
        for name in ("quietuninstallstring", "uninstallstring"):
            if name in values:
                return str(registry.decoded(*values[name][1:]))
    raise Failed(f"Unable to find an uninstall string of {args['product_id']}")


@stand_in("ansible.windows.win_package")
def win_package(args: Result, context: Context) -> Result:
    """Install or remove a program by its installer (.exe)."""
    asks = [option for option in LATER if args.get(option) and args[option] != "auto"]
    if asks:
        raise Failed(
            f"This test target does not know {', '.join(asks)} of win_package; teach it, or leave the option out"
        )
    present = args["state"] == "present"
    if present and not args.get("path"):
        raise Failed("state is present but all of the following are missing: path")
    if not present and not args.get("path") and not args.get("product_id"):
        raise Failed("state is absent but any of the following are missing: path, product_id")
    if not any(args.get(one) for one in ("product_id", "creates_path", "creates_service")):
        raise Failed("Unable to find Product ID from the path; specify product_id, creates_path or creates_service")
    result: Result = {"changed": False, "rc": 0, "reboot_required": False}
    if installed(args, context) == present:
        return result
    result["changed"] = True
    with tempfile.TemporaryDirectory(dir=context.wine.drive_c / "windows" / "temp") as scratch:
        line = program(args, context, Path(scratch)) if args.get("path") else removal(args, context)
        extra = args.get("arguments")
        if extra:
            line += " " + (extra if isinstance(extra, str) else context.say(extra))
        if context.check:
            return result
        refuse_powershell(line)
        ended = context.run(line, folder=args.get("chdir") or "")
    if ended.error:
        raise Failed(f"Failed to run: '{line}': {ERRORS.get(ended.error, ended.error)}", **result)
    result["rc"] = ended.rc
    if ended.rc not in args["expected_return_code"]:
        raise Failed(
            f"unexpected rc from '{line}': see rc, stdout, and stderr for more details",
            **result,
            stdout=ended.stdout.decode("utf-8", "replace"),
            stderr=ended.stderr.decode("utf-8", "replace"),
        )
    return {**result, "reboot_required": ended.rc == 3010}


def program(args: Result, context: Context, scratch: Path) -> str:
    """Return the quoted path of the installer, fetched first where it is an address, checked where it has a sum."""
    path = args["path"]
    if re.match(r"https?://", path):
        place = scratch / (path.rpartition("/")[2] or "package.exe")
        try:
            network.fetch({**args, "url": path}, place)
        except OSError as error:
            raise Failed(f"Failed to download '{path}': {error}") from None
    else:
        place = context.path(path)
    if not place.is_file():
        raise Failed(f"the file at the path '{path}' does not exist")
    if place.suffix.lower() != ".exe":
        raise Failed(f"{path}: this test target installs by .exe only")
    wish, algorithm = args.get("checksum"), args.get("checksum_algorithm") or "sha1"
    found = checksum(place, algorithm)
    if wish and found != wish.lower():
        raise Failed(f"checksum mismatch of {path}: expected '{wish}', got '{found}'")
    return f'"{context.wine.windows(place)}"'
