"""What the tests of Windows do with a target: switch it on and off, run programs on it, look at files and registry."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.windows.machine import in_wine
from lab.windows.machine.drive import Drive

ROOT = Path(__file__).resolve().parents[2]
VALUES = """
import json, sys, winreg
try:
    key = winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, sys.argv[1])
    rows = [winreg.EnumValue(key, index) for index in range(winreg.QueryInfoKey(key)[1])]
except FileNotFoundError:
    rows = []
print(json.dumps({row[0].lower(): str(row[1]) for row in rows}))
"""
PYTHON = r"C:\labwright\conda\python.exe"


@dataclass(frozen=True)
class Ended:
    """How a program ended: eight bits of its exit status, which is all that Linux passes on, and its words."""

    status: int
    out: bytes
    err: bytes


class Machine:
    """One target."""

    def __init__(self, name: str, http: int, https: int, address: str = "127.0.0.1") -> None:
        """Nothing happens yet."""
        self.name, self.http, self.https, self.address = name, http, https, address
        self.told: dict[str, Any] = {}

    def call(self, verb: str, *words: str) -> dict[str, Any]:
        """target.py, and its answer."""
        argv = [sys.executable, str(ROOT / "tests/lab/windows/target.py"), verb, "--name", self.name, *words]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def up(self, gpu: str = "") -> None:
        """Switch it on."""
        words = ["--address", self.address, "--http", str(self.http), "--https", str(self.https)]
        self.told = self.call("up", *words, *(["--gpu", gpu] if gpu else []))

    def wipe(self) -> None:
        """Take it away."""
        self.call("wipe")

    @property
    def prefix(self) -> str:
        """Wine's folder."""
        return str(Path(self.told["drive_c"]).parent)

    def file(self, path: str) -> Path:
        """The Linux path of a file on drive C:."""
        return Path(Drive(self.prefix).linux(path))

    def start(
        self, line: str, variables: Mapping[str, str] | None = None, folder: str = "C:\\"
    ) -> subprocess.Popen[bytes]:
        """Start a program with exactly this command line."""
        found = {"SYSTEMROOT": r"C:\windows", "PATH": r"C:\windows\system32;C:\windows", "TEMP": r"C:\windows\temp"}
        block = [f"{name}={value}" for name, value in sorted({**found, **(variables or {})}.items())]
        request = self.file(rf"C:\windows\temp\run-{time.monotonic_ns()}")
        request.write_bytes("\0".join([line, folder, *block, "", ""]).encode("utf-16-le"))
        argv = in_wine.reach("run", rf"C:\windows\temp\{request.name}")
        environment = in_wine.wine_environment(self.prefix)
        pipe = subprocess.PIPE
        return subprocess.Popen(argv, env=environment, cwd="/", stdin=pipe, stdout=pipe, stderr=pipe)

    def run(self, line: str, stdin: bytes = b"", folder: str = "C:\\", **variables: str) -> Ended:
        """Run a program to its end."""
        process = self.start(line, variables, folder)
        out, err = process.communicate(stdin, timeout=300)
        return Ended(process.returncode, out, err)

    def python(self, code: str, *words: str, stdin: bytes = b"", **variables: str) -> Ended:
        """Run a program text in the base's Python."""
        return self.run(subprocess.list2cmdline([PYTHON, "-c", code, *words]), stdin, **variables)

    def key(self, key: str) -> dict[str, str]:
        """The values of a registry key of HKLM, by their names in small letters; empty where there is none."""
        found: dict[str, str] = json.loads(self.python(VALUES, key).out)
        return found

    def journal(self) -> list[dict[str, Any]]:
        """What ran on the Linux side."""
        lines = (Path(self.told["folder"]) / "machine.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]


def wait_until(true: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something that a program does by itself."""
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit, "it did not come to pass"
        time.sleep(0.05)
