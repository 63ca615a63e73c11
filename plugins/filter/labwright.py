"""Filters that roles use: shapes of text that a template cannot make safely by itself."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "module_utils"))
from labwright import windows

SAFE = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")


def systemd_argv(argv: Iterable[Any]) -> str:
    """One command line for a unit file: quoted, with systemd's specifiers (%) and variables ($) taken literally."""
    return " ".join(systemd_word(str(word)) for word in argv)


def systemd_word(word: str) -> str:
    """One word of a unit file, see systemd.service(5), COMMAND LINES."""
    literal = word.replace("%", "%%").replace("$", "$$")
    if SAFE.fullmatch(word):
        return literal
    escaped = literal.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def text_tree(folder: str, suffixes: Iterable[str]) -> dict[str, str]:
    """Text files below a folder of the control node, by their names there: what hostkit's verb ``tree`` writes."""
    root = Path(folder)
    wanted = [path for path in sorted(root.rglob("*")) if path.is_file() and path.suffix in set(suffixes)]
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in wanted}


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name → function."""
        return {"systemd_argv": systemd_argv, "text_tree": text_tree, "windows_facts": windows.facts}
