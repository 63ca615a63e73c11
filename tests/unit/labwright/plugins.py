"""Load a plugin by its file, as Ansible does: plugins are no packages."""

from __future__ import annotations

from types import ModuleType

from unit.programs import loaded


def plugin(kind: str, name: str) -> ModuleType:
    """The module of ``plugins/KIND/NAME.py``."""
    return loaded(f"plugins/{kind}/{name}.py", f"{kind}_{name}")
