"""Programs of a host that say what a test wants, found before the real ones, and remember how they were called."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

SCRIPT = """#!{python}
import json, os, sys
folder = {folder!r}
with open(os.path.join(folder, {name!r} + ".calls"), "a") as stream:
    stream.write(json.dumps(sys.argv[1:]) + chr(10))
rules = json.load(open(os.path.join(folder, {name!r} + ".json")))
words = " ".join(sys.argv[1:])
rule = next(one for one in rules if one["when"] in words)
sys.stdout.write(rule["text"])
sys.stderr.write(rule["error"])
sys.exit(rule["status"])
"""


class Programs:
    """A folder in front of PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def says(self, name: str, text: str = "", when: str = "", status: int = 0, error: str = "") -> None:
        """What a program says where ``when`` is among its arguments; the last rule that was added is tried first."""
        path = self.folder / f"{name}.json"
        rules: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
        path.write_text(json.dumps([{"when": when, "text": text, "status": status, "error": error}, *rules]))
        script = self.folder / name
        script.write_text(SCRIPT.format(python=sys.executable, folder=str(self.folder), name=name))
        script.chmod(0o755)

    def calls(self, name: str) -> list[str]:
        """All calls, each as one text."""
        path = self.folder / f"{name}.calls"
        return [" ".join(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def journal(*rows: dict[str, Any]) -> str:
    """Entries as ``journalctl --output=json`` says them, the newest first."""
    plain = {"__REALTIME_TIMESTAMP": "1795406057000000", "PRIORITY": "6", "_SYSTEMD_UNIT": "labwright-api.service"}
    return "".join(json.dumps({**plain, **row}) + "\n" for row in rows)
