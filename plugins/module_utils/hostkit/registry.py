"""The registry of a Windows host, below HKEY_LOCAL_MACHINE: values of keys, as far as services need them."""

from __future__ import annotations

import importlib
from typing import Any, Optional

REG_SZ, REG_EXPAND_SZ = 1, 2


def winreg() -> Any:
    """Python's module, which is there on Windows only."""
    return importlib.import_module("winreg")


def read(key: str) -> Optional[dict[str, Any]]:
    """The values of a key; None where there is no such key."""
    api = winreg()
    try:
        with api.OpenKey(api.HKEY_LOCAL_MACHINE, key) as opened:
            _keys, values, _changed = api.QueryInfoKey(opened)
            return {name: value for name, value, _kind in (api.EnumValue(opened, at) for at in range(values))}
    except FileNotFoundError:
        return None


def keys(key: str) -> list[str]:
    """The names of the keys below a key."""
    api = winreg()
    try:
        with api.OpenKey(api.HKEY_LOCAL_MACHINE, key) as opened:
            found, _values, _changed = api.QueryInfoKey(opened)
            return [api.EnumKey(opened, at) for at in range(found)]
    except FileNotFoundError:
        return []


def write(key: str, name: str, text: str, kind: int = REG_EXPAND_SZ) -> None:
    """Set one value; the key is made where there is none."""
    api = winreg()
    with api.CreateKey(api.HKEY_LOCAL_MACHINE, key) as opened:
        api.SetValueEx(opened, name, 0, kind, text)


def remove(key: str, name: str) -> None:
    """Remove one value."""
    api = winreg()
    with api.OpenKey(api.HKEY_LOCAL_MACHINE, key, 0, api.KEY_SET_VALUE) as opened:
        api.DeleteValue(opened, name)


def remove_key(key: str) -> None:
    """Remove a key that has none below it."""
    api = winreg()
    api.DeleteKey(api.HKEY_LOCAL_MACHINE, key)
