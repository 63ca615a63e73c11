"""A Windows host as far as hostkit's Windows half asks one: its registry, its service manager, nssm.exe, sc.exe."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hostkit import access, nssm, place, registry

NAME = "labwright-toy"
KEY = f"{nssm.SERVICES}\\{NAME}"
EVENTS = "AppEvents"


class Windows:
    """What it has, and what it was told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys: dict[str, dict[str, Any]] = {nssm.SERVICES: {}}
        self.state = ""
        self.told: list[list[str]] = []
        self.comes_up = True
        self.cannot = ""
        self.stops = True
        self.goes = True
        self.refuses: tuple[str, ...] = ()
        self.hangs: tuple[str, ...] = ()

    # --- the registry ----------------------------------------------------------------------------------------------

    def read(self, key: str) -> dict[str, Any] | None:
        return dict(self.keys[key]) if key in self.keys else None

    def below(self, key: str) -> list[str]:
        return sorted({one[len(key) + 1 :].split("\\")[0] for one in self.keys if one.startswith(f"{key}\\")})

    def write(self, key: str, name: str, text: str, _kind: int = 0) -> None:
        parts = key.split("\\")
        for end in range(len(nssm.SERVICES.split("\\")), len(parts) + 1):
            self.keys.setdefault("\\".join(parts[:end]), {})
        self.keys[key][name] = text

    def remove(self, key: str, name: str) -> None:
        del self.keys[key][name]

    def remove_key(self, key: str) -> None:
        del self.keys[key]

    # --- programs --------------------------------------------------------------------------------------------------

    def run(self, argv: list[str] | str, **_options: Any) -> subprocess.CompletedProcess[bytes]:
        argv = argv.split(" ") if isinstance(argv, str) else argv
        program = argv[0].rpartition("\\")[2].rpartition("/")[2]
        self.told.append([program, *argv[1:]])
        if any(word in " ".join(argv) for word in self.hangs):
            raise subprocess.TimeoutExpired(argv, 1)
        if any(word in " ".join(argv) for word in self.refuses):
            return subprocess.CompletedProcess(argv, 5, b"", "no, never".encode("utf-16-le"))
        if program == "sc.exe":
            return self.manager(argv)
        if program == "nssm.exe":
            return self.nssm(argv)
        return subprocess.CompletedProcess(argv, 0, b"", b"")

    def manager(self, argv: list[str]) -> subprocess.CompletedProcess[bytes]:
        verb, name = argv[1:3]
        if verb == "create":
            options = dict(zip(argv[3::2], argv[4::2], strict=True))
            for value in ("ImagePath", "ObjectName"):
                self.write(f"{nssm.SERVICES}\\{name}", value, options["binPath=" if value == "ImagePath" else "obj="])
            self.keys[f"{nssm.SERVICES}\\{name}"] |= {"Type": 16, "Start": 2, "ErrorControl": 1, "DisplayName": name}
            self.state = "SERVICE_STOPPED"
        elif verb == "delete" and self.goes:
            self.keys = {
                key: found for key, found in self.keys.items() if not key.startswith(f"{nssm.SERVICES}\\{name}")
            }
            self.state = ""
        return subprocess.CompletedProcess(argv, 0, b"", b"")

    def nssm(self, argv: list[str]) -> subprocess.CompletedProcess[bytes]:
        verb, name = argv[1:3]
        key = f"{nssm.SERVICES}\\{name}"
        if verb == "status":
            return subprocess.CompletedProcess(argv, 0 if self.state else 3, self.state.encode("utf-16-le"), b"")
        if verb == "start" and self.cannot:
            return subprocess.CompletedProcess(argv, 1, b"", f"{name}: START: {self.cannot}".encode("utf-16-le"))
        if verb == "start":
            # As the real one: 1 for a start that takes its time, 0 for one that ends in a crash. Only `status` is true.
            self.state = "SERVICE_RUNNING" if self.comes_up else "SERVICE_PAUSED"
            return subprocess.CompletedProcess(argv, int(self.comes_up), b"", b"")
        if verb == "stop":
            self.state = "SERVICE_STOPPED" if self.stops else "SERVICE_STOP_PENDING"
        elif verb == "set":
            self.set(key, argv[3], argv[4:])
        elif verb == "reset":
            of = key if argv[3] in nssm.OWN else f"{key}\\Parameters"
            self.keys[of].pop(argv[3], None)
        return subprocess.CompletedProcess(argv, 0, b"", b"")

    def set(self, key: str, name: str, words: list[str]) -> None:
        if name == EVENTS:
            event, action = words[0].split("/")
            self.write(f"{key}\\Parameters\\{EVENTS}\\{event}", action, words[1])
        elif name == "AppExit":
            self.write(f"{key}\\Parameters\\AppExit", "", words[1])
        elif name == "Start":
            self.keys[key]["Start"] = {"SERVICE_AUTO_START": 2}[words[0]]
        else:
            of = key if name in nssm.OWN else f"{key}\\Parameters"
            many = name in ("AppEnvironmentExtra", "DependOnService")
            value: Any = words if many else int(words[0]) if words[0].isdigit() else words[0]
            self.write(of, name, value)

    def verbs(self) -> list[str]:
        """What the programs were told, in short; questions are left out."""
        return [f"{row[0]} {row[1]}" for row in self.told if row[1] != "status"]

    def said(self, verb: str) -> list[list[str]]:
        """The words of one verb, each time."""
        return [row[2:] for row in self.told if row[1] == verb]


def windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Windows:
    """Make hostkit see one."""
    one = Windows(tmp_path)
    monkeypatch.setattr(place, "windows", lambda: True)
    for name in ("read", "write", "remove", "remove_key"):
        monkeypatch.setattr(registry, name, getattr(one, name))
    monkeypatch.setattr(registry, "keys", one.below)
    fake = SimpleNamespace(**{**vars(subprocess), "run": one.run})
    monkeypatch.setattr(nssm, "subprocess", fake)
    monkeypatch.setattr(access, "fits", lambda _path, _rights: True)
    monkeypatch.setattr(nssm, "EVERY_S", 0.001)
    monkeypatch.setattr(nssm, "PATIENCE_S", 0.05)
    return one
