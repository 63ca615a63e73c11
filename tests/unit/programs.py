"""Scripts of sh that a test puts in the place of programs; and our own programs that no name imports, by their path."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def program(folder: Path, name: str, *lines: str) -> Path:
    """A program of this name that does this."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    path.chmod(0o755)
    return path


def loaded(path: str, name: str = "") -> ModuleType:
    """The module at a path below the repository, run anew; known to others by `name`, else by the file's."""
    spec = importlib.util.spec_from_file_location(name or Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
