"""The registry."""

from __future__ import annotations

import re
import struct
from typing import Any

from .context import Context, Failed, Result, stand_in

TYPES = {"none": 0, "string": 1, "expandstring": 2, "binary": 3, "dword": 4, "multistring": 7, "qword": 11}
KINDS = {0: "None", 1: "String", 2: "ExpandString", 3: "Binary", 4: "DWord", 7: "MultiString", 11: "QWord"}
NAMES = {
    0: "REG_NONE",
    1: "REG_SZ",
    2: "REG_EXPAND_SZ",
    3: "REG_BINARY",
    4: "REG_DWORD",
    7: "REG_MULTI_SZ",
    11: "REG_QWORD",
}


def decoded(kind: int, data: bytes) -> Any:
    """Return a value as Python has it."""
    if kind in (1, 2):
        return data.decode("utf-16-le", "replace").split("\0")[0]
    if kind == 7:
        return [one for one in data.decode("utf-16-le", "replace").split("\0") if one]
    if kind in (4, 11):
        return int.from_bytes(data, "little")
    return list(data)


def encoded(kind: int, value: Any) -> bytes:
    """Return a value as the registry has it."""
    if kind in (1, 2):
        return (str(value) + "\0").encode("utf-16-le")
    if kind == 7:
        return ("".join(f"{one}\0" for one in value) + "\0").encode("utf-16-le")
    if kind == 4:
        return struct.pack("<I", value)
    if kind == 11:
        return struct.pack("<Q", value)
    return bytes(value)


def values(context: Context, key: str) -> dict[str, tuple[str, int, bytes]] | None:
    """Return a key's values by their names in small letters (name, type, data), or None where there is no key."""
    answer = context.wine.hand("registry", "read", key)
    if not answer["exists"]:
        return None
    return {one["name"].lower(): (one["name"], one["type"], bytes.fromhex(one["hex"])) for one in answer["values"]}


def write(context: Context, key: str, name: str, kind: int, data: bytes) -> None:
    """Write a value; its key is made."""
    error = context.wine.hand("registry", "write", key, name, str(kind), data.hex())["error"]
    if error:
        raise Failed(f"failed to write registry property '{name}' at {key}: Windows says {error}")


def drop(context: Context, key: str, *name: str) -> None:
    """Remove a value, or a key with all below it."""
    error = context.wine.hand("registry", "drop", key, *name)["error"]
    if error:
        raise Failed(f"failed to delete registry {'property' if name else 'key'} at {key}: Windows says {error}")


def binary(data: Any) -> list[int]:
    """Read binary data as the module does: bytes, or the text of an export (hex:be,ef)."""
    if data is None:
        return []
    if isinstance(data, list):
        return [int(one) for one in data]
    if isinstance(data, int):
        if data > 255:
            raise Failed(f"cannot convert binary data '{data}' to byte array")
        return [data]
    text = re.sub(r"[^a-f0-9,]", "", str(data).lower().removeprefix("hex:"))
    return [int(one, 16) for one in (text.split(",") if "," in text else re.findall("..?", text)) if one]


def wished(kind: int, data: Any) -> Any:
    """Turn an option `data` into a value."""
    if kind in (0, 3):
        return binary(data)
    if kind in (4, 11):
        try:
            number = int(data or 0)
        except ValueError:
            raise Failed(f"data '{data}' is no number, and the type wants one") from None
        if number >= 1 << (32 if kind == 4 else 64):
            raise Failed(
                f"data cannot be larger than 0x{'f' * (8 if kind == 4 else 16)} when type is {KINDS[kind].lower()}"
            )
        return number % (1 << (32 if kind == 4 else 64))
    if kind == 7:
        return [] if data is None else [str(one) for one in data] if isinstance(data, list) else [str(data)]
    return "" if data is None else str(data)


def shown(kind: int, value: Any) -> Any:
    """Return a value as a diff shows it."""
    if kind in (0, 3):
        value = [f"0x{one:02x}" for one in value]
    elif kind in (4, 11):
        value = f"0x{value:0{8 if kind == 4 else 16}x}"
    return {"type": KINDS[kind], "value": value}


@stand_in("ansible.windows.win_regedit")
def win_regedit(args: Result, context: Context) -> Result:
    """Change the registry."""
    if args.get("hive"):
        raise Failed("hive: this test target loads no hives from files")
    path, name, kind = args["path"], args.get("name") or "", TYPES[args["type"]]
    if not name and kind != 1:
        context.warnings.append("the data type when name is not specified can only be 'string'")
        kind = 1
    key = context.key(path)
    there = values(context, key)
    result: Result = {"changed": False, "data_changed": False, "data_type_changed": False}
    old = None if there is None else there.get(name.lower())
    if args["state"] == "absent":
        return absent(args, context, there is not None, old, result)
    new = wished(kind, args.get("data"))
    nothing = not name and args.get("data") is None
    if there is not None and (nothing or (old and (old[1], decoded(*old[1:])) == (kind, new))):
        return result
    result["changed"] = True
    if old:
        result["data_type_changed"] = old[1] != kind
        result["data_changed"] = decoded(*old[1:]) != new
    if context.diff:
        before = {} if old is None else {name: shown(old[1], decoded(*old[1:]))}
        result["diff"] = {
            "before": {path: before} if there is not None else "",
            "after": {path: {name: shown(kind, new)}},
        }
    if not context.check:
        if nothing:
            error = context.wine.hand("registry", "write", key)["error"]
            if error:
                raise Failed(f"failed to create registry key at {path}: Windows says {error}")
        else:
            write(context, key, name, kind, encoded(kind, new))
    return result


def absent(args: Result, context: Context, exists: bool, old: tuple[str, int, bytes] | None, result: Result) -> Result:
    """Remove a key or a value."""
    path, name = args["path"], args.get("name") or ""
    whole = args["delete_key"] and not name
    if not exists or (not whole and old is None):
        return result
    result["changed"] = True
    if context.diff:
        before = {} if old is None or whole else {name: shown(old[1], decoded(*old[1:]))}
        result["diff"] = {"before": {path: before}, "after": {} if whole else {path: {}}}
    if not context.check:
        drop(context, context.key(path), *([] if whole else [name]))
    return result


def told(context: Context, kind: int, data: bytes) -> Result:
    """Return a value as win_reg_stat tells it."""
    value = raw = decoded(kind, data)
    if kind == 2:
        value = context.expanded(value)
    if kind in (0, 3):
        raw = [f"0x{one:02x}" for one in value]
    return {"type": NAMES.get(kind, f"Unknown - {kind}"), "value": value, "raw_value": raw}


@stand_in("ansible.windows.win_reg_stat")
def win_reg_stat(args: Result, context: Context) -> Result:
    """Tell what the registry holds."""
    answer = context.wine.hand("registry", "read", context.key(args["path"]))
    if not answer["exists"]:
        return {"changed": False, "exists": False}
    found = {one["name"]: told(context, one["type"], bytes.fromhex(one["hex"])) for one in answer["values"]}
    if args.get("name") is None:
        return {"changed": False, "exists": True, "properties": found, "sub_keys": answer["keys"]}
    one = next((value for name, value in found.items() if name.lower() == args["name"].lower()), None)
    return {"changed": False, "exists": one is not None, **(one or {})}
