"""The commands that the documents show, and a checkout in which they run as they are written."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
KNOWN = ROOT / "tests/unit/commands.yml"
PAGES = ("*.md", "agents/*.md", "docs/**/*.md", "roles/*/README.md", "tests/lab/**/*.md")
BLOCK = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
SHELLS = {"sh", "bash", "shell", "console", "powershell"}


def pages() -> list[Path]:
    """Every page that people read."""
    return sorted({path for pattern in PAGES for path in ROOT.glob(pattern)})


def blocks(page: Path) -> list[tuple[str, str]]:
    """The language and the text of each block of code."""
    return [(found[2], found[3]) for found in BLOCK.finditer(page.read_text(encoding="utf-8"))]


def commands() -> dict[str, list[str]]:
    """Each command in a block of a shell, without its comment, with the pages that show it."""
    found: dict[str, list[str]] = {}
    for page in pages():
        for language, text in blocks(page):
            if language in SHELLS:
                for line in re.sub(r"\\\n\s*", "", text).splitlines():
                    if command := re.sub(r"(^|\s+)#\s.*$", "", line).strip():
                        found.setdefault(command, []).append(page.relative_to(ROOT).as_posix())
    return found


def known() -> dict[str, dict[str, list[str]]]:
    """What is known of commands: `as_written` and `like`, by the test that runs them, and `not_run`, by the reason."""
    rows: dict[str, dict[str, list[str]]] = yaml.safe_load(KNOWN.read_text(encoding="utf-8"))
    return rows


def as_written(test: str) -> list[str]:
    """The commands that a test, by its name, runs as they are written."""
    return [one for where, rows in known()["as_written"].items() if where.endswith(f"::{test}") for one in rows]


def checkout(folder: Path) -> Path:
    """A folder that looks like a checkout whose `lab` is an empty folder of its own, for an inventory."""
    for top in ROOT.iterdir():
        if top.name not in ("lab", "inventories", "build", ".git", ".secrets", ".cache"):
            (folder / top.name).symlink_to(top)
    (folder / "inventories/lab").mkdir(parents=True)
    (folder / "lab").symlink_to("inventories/lab")
    return folder


def run(folder: Path, command: str, timeout: int = 600, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command there, as a person in whose shell the virtual environment is active."""
    path = f"{ROOT}/.venv/bin:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "ANSIBLE_CONFIG": str(folder / "ansible.cfg"), **more}
    shell = ["bash", "-euo", "pipefail", "-c", command]
    return subprocess.run(
        shell,
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
