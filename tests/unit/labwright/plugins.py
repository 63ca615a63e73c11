"""Load a plugin by its file, as Ansible does: plugins are no packages."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[3]


def plugin(kind: str, name: str) -> ModuleType:
    """The module of ``plugins/KIND/NAME.py``."""
    spec = importlib.util.spec_from_file_location(f"{kind}_{name}", ROOT / "plugins" / kind / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
