"""Arguments of modules, checked against the documentation that ansible-doc gives."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ..errors import LabError
from ..settings import write_if_changed

ROOT = Path(__file__).resolve().parents[3]
# Options that ansible's own half of a module adds, and no documentation names.
INNER: dict[str, tuple[str, ...]] = {
    "ansible.windows.win_copy": (
        "_copy_mode",
        "_original_basename",
        "files",
        "directories",
        "symlinks",
        "src",
        "dest",
        "force",
    ),
    "ansible.windows.win_file": ("_original_basename",),
    "ansible.windows.async_status": ("_async_dir",),
    "ansible.windows.setup": ("_measure_subset",),
}
FREE_FORM = "_raw_params"
Specification = dict[str, dict[str, Any]]


class OptionError(Exception):
    """Arguments that a module does not take; its text says why."""


def specification(options: Mapping[str, Mapping[str, Any]]) -> Specification:
    """Turn documented options into an argument specification."""
    found: Specification = {}
    for name, told in options.items():
        choices = told.get("choices")
        kind = told.get("type", "str")
        fields = {
            # Types that only Windows' modules know are read as they come.
            "type": kind if kind in ("str", "bool", "int", "float", "list", "dict", "path", "raw") else "raw",
            "elements": told.get("elements"),
            "choices": list(choices) if choices else None,
            "default": told.get("default"),
            "required": told.get("required"),
            "aliases": told.get("aliases"),
            "options": specification(told["suboptions"]) if told.get("suboptions") else None,
        }
        if kind == "str" and name == "arguments":
            # win_nssm and win_package take a list here too.
            fields["type"] = "raw"
        # A path of Windows must not be made one of this machine.
        if fields["type"] == "path":
            fields["type"] = "str"
        if fields["elements"] == "path":
            fields["elements"] = "str"
        found[name] = {
            key: value for key, value in fields.items() if value not in (None, [], False) or key == "default"
        }
        if found[name].get("default", 0) is None:
            del found[name]["default"]
    return found


def digest(names: Iterable[str]) -> str:
    """Return what the documentation depends on: the collections' own lists of files with their sums, and the names."""
    whole = hashlib.sha256("\n".join(sorted(names)).encode())
    for path in sorted((ROOT / ".venv/collections/ansible_collections").glob("*/windows/FILES.json")):
        whole.update(path.read_bytes())
    return whole.hexdigest()[:24]


def documented(names: Iterable[str], cache: Path) -> dict[str, Specification]:
    """Return the specifications of modules, read once for each version of the collections; raise LW-LAB-105."""
    names = sorted(names)
    path = cache / f"options-{digest(names)}.json"
    if not path.exists():
        doc = Path(sys.executable).with_name("ansible-doc")
        done = subprocess.run(
            [doc, "-j", "-t", "module", *names], cwd=ROOT, capture_output=True, text=True, check=False
        )
        try:
            told = json.loads(done.stdout)
            found = {name: specification(told[name]["doc"].get("options") or {}) for name in names}
        except (ValueError, KeyError) as error:
            raise LabError(
                "LW-LAB-105",
                f"ansible-doc does not tell the options of the modules ({error!r}): {done.stderr.strip()[-300:]}; run "
                "`make develop`, and start the target with .venv/bin/python",
            ) from None
        write_if_changed(path, json.dumps(found))
    return dict(json.loads(path.read_text()))


def validated(name: str, given: Mapping[str, Any], options: Specification) -> dict[str, Any]:
    """Return a module's arguments with defaults and types; raise OptionError where it would not take them."""
    arguments = {key: value for key, value in given.items() if not key.startswith("_ansible")}
    inner = INNER.get(name, ())
    if name == "ansible.windows.win_copy" and arguments.get("_copy_mode"):
        # The control node's half speaks here, with the task's own options among its words.
        unknown = sorted(set(arguments) - set(options) - set(inner))
        if unknown:
            raise OptionError(f"Unsupported parameters: {', '.join(unknown)}")
        return arguments
    aside = {key: arguments.pop(key) for key in (*inner, FREE_FORM) if key in arguments and key not in options}
    if FREE_FORM in aside and not any(key in options for key in (FREE_FORM, "free_form", "cmd")):
        raise OptionError(f"{name} takes no free form, and was given: {str(aside[FREE_FORM])[:100]}")
    rules = {key: {**rule, "required": False} if key == "free_form" else rule for key, rule in options.items()}
    checked = ArgumentSpecValidator(rules).validate(arguments)
    if checked.error_messages:
        what = "Unsupported parameters: " if checked.unsupported_parameters else ""
        raise OptionError(what + "; ".join(checked.error_messages))
    return {**dict.fromkeys(options), **checked.validated_parameters, **aside}
