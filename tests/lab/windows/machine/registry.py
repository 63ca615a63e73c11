"""winreg for what stands in for Windows Python: the registry of the Wine machine, through reach.exe."""

from __future__ import annotations

import subprocess
from types import ModuleType
from typing import Any

from lab.windows.machine import in_wine

_Popen, _PIPE = subprocess.Popen, subprocess.PIPE
ROOTS = {
    "HKEY_CLASSES_ROOT": 0x80000000,
    "HKEY_CURRENT_USER": 0x80000001,
    "HKEY_LOCAL_MACHINE": 0x80000002,
    "HKEY_USERS": 0x80000003,
}
KINDS = {
    "REG_NONE": 0,
    "REG_SZ": 1,
    "REG_EXPAND_SZ": 2,
    "REG_BINARY": 3,
    "REG_DWORD": 4,
    "REG_MULTI_SZ": 7,
    "REG_QWORD": 11,
}
RIGHTS = {
    "KEY_READ": 0x20019, "KEY_WRITE": 0x20006, "KEY_ALL_ACCESS": 0xF003F, "KEY_QUERY_VALUE": 1, "KEY_SET_VALUE": 2,
    "KEY_CREATE_SUB_KEY": 4, "KEY_ENUMERATE_SUB_KEYS": 8, "KEY_WOW64_64KEY": 0x100, "KEY_WOW64_32KEY": 0x200,
}  # fmt: skip
SENTENCES = {2: "The system cannot find the file specified", 5: "Access is denied", 259: "No more data is available"}


class Registry:
    """One reach.exe, started at the first question."""

    def __init__(self, prefix: str) -> None:
        """`prefix` is the Wine prefix."""
        self.prefix = prefix
        self.process: subprocess.Popen[bytes] | None = None

    def ask(self, *fields: str) -> str:
        """One question, its answer without the error number; raise OSError as winreg does."""
        if self.process is None:
            environment = in_wine.wine_environment(self.prefix)
            self.process = _Popen(in_wine.reach("registry"), stdin=_PIPE, stdout=_PIPE, env=environment, cwd="/")
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            raise OSError("reach.exe has no streams")
        stdin.write(("\x1f".join(fields) + "\n").encode())
        stdin.flush()
        said = stdout.readline().decode().rstrip("\r\n")
        number, _, rest = said.partition("\x1e" if fields[0] == "list" else "\x1f")
        if not number.isdigit():
            raise OSError(f"reach.exe said {said!r}")
        if int(number):
            raise OSError(2 if int(number) == 2 else 22, SENTENCES.get(int(number), f"error {number}"), fields[2])
        return rest


class Key:
    """An open key: its root and path."""

    def __init__(self, root: int, path: str) -> None:
        """Nothing is held open in Wine."""
        self.root, self.path = root, path

    def __enter__(self) -> Key:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def Close(self) -> None:  # noqa: N802
        """Nothing to close."""


def to_value(kind: int, data: bytes) -> Any:
    """A value as winreg gives it."""
    if kind in (1, 2):
        return data.decode("utf-16-le").partition("\0")[0]
    if kind in (4, 11):
        return int.from_bytes(data, "little") if data else None
    if kind == 7:
        return [one for one in data.decode("utf-16-le").split("\0") if one]
    return data or None


def to_data(kind: int, value: Any) -> bytes:
    """A value as the registry keeps it."""
    if kind in (1, 2):
        return (str(value or "") + "\0").encode("utf-16-le")
    if kind in (4, 11):
        return int(value or 0).to_bytes(4 if kind == 4 else 8, "little")
    if kind == 7:
        return ("".join(f"{one}\0" for one in value) + "\0").encode("utf-16-le")
    return bytes(value or b"")


def module(request: dict[str, Any]) -> ModuleType:
    """The module winreg of one machine."""
    found = ModuleType("winreg")
    registry = Registry(request["prefix"])
    vars(found).update(ROOTS | KINDS | RIGHTS)

    def place(key: Any, sub: str | None = None) -> tuple[str, str]:
        root, path = (key.root, key.path) if isinstance(key, Key) else (int(key), "")
        return f"{root:x}", "\\".join(filter(None, [path, sub or ""]))

    def opened(key: Any, sub: str | None = None, reserved: int = 0, access: int = 0) -> Key:
        root, path = place(key, sub)
        registry.ask("open", root, path)
        return Key(int(root, 16), path)

    def created(key: Any, sub: str | None, reserved: int = 0, access: int = 0) -> Key:
        root, path = place(key, sub)
        registry.ask("create", root, path)
        return Key(int(root, 16), path)

    def listed(key: Any) -> tuple[list[str], list[tuple[str, Any, int]]]:
        rows = [row.split("\x1f") for row in registry.ask("list", *place(key)).split("\x1e") if row]
        values = [(row[1], to_value(int(row[2]), bytes.fromhex(row[3])), int(row[2])) for row in rows if row[0] == "v"]
        return [row[1] for row in rows if row[0] == "k"], values

    def nth(rows: list[Any], index: int) -> Any:
        if index >= len(rows):
            raise OSError(22, SENTENCES[259])
        return rows[index]

    def get(key: Any, name: str | None) -> tuple[Any, int]:
        kind, _, data = registry.ask("get", *place(key), name or "").partition("\x1f")
        return to_value(int(kind), bytes.fromhex(data)), int(kind)

    def put(key: Any, name: str | None, reserved: int, kind: int, value: Any) -> None:
        registry.ask("set", *place(key), name or "", str(kind), to_data(kind, value).hex())

    found.OpenKey = found.OpenKeyEx = opened  # type: ignore[attr-defined]
    found.CreateKey = found.CreateKeyEx = created  # type: ignore[attr-defined]
    found.EnumKey = lambda key, index: nth(listed(key)[0], index)  # type: ignore[attr-defined]
    found.EnumValue = lambda key, index: nth(listed(key)[1], index)  # type: ignore[attr-defined]
    found.QueryInfoKey = lambda key: (len(listed(key)[0]), len(listed(key)[1]), 0)  # type: ignore[attr-defined]
    found.QueryValueEx = get  # type: ignore[attr-defined]
    found.SetValueEx = put  # type: ignore[attr-defined]
    found.DeleteKey = lambda key, sub: registry.ask("remove", *place(key, sub))  # type: ignore[attr-defined]
    found.DeleteKeyEx = lambda key, sub, *_: registry.ask("remove", *place(key, sub))  # type: ignore[attr-defined]
    found.DeleteValue = lambda key, name: registry.ask("unset", *place(key), name)  # type: ignore[attr-defined]
    found.CloseKey = lambda key: None  # type: ignore[attr-defined]
    found.HKEYType, found.error = Key, OSError  # type: ignore[attr-defined]
    return found


_LONG: dict[str, bool] = {}


def long_paths(request: dict[str, Any]) -> bool:
    """Whether the machine allows paths of 260 characters and more (LongPathsEnabled)."""
    prefix = request["prefix"]
    if prefix not in _LONG:
        winreg = module(request)
        try:
            key = winreg.OpenKey(ROOTS["HKEY_LOCAL_MACHINE"], r"SYSTEM\CurrentControlSet\Control\FileSystem")
            _LONG[prefix] = winreg.QueryValueEx(key, "LongPathsEnabled")[0] == 1
        except OSError:
            _LONG[prefix] = False
    return _LONG[prefix]
