"""Render the pages of docs/reference that have their one source elsewhere: `python docs/render.py`.

inventory.md comes from the table of `lab_*` variables, problems.md from the plan's sentences.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
LOGIC = ROOT / "plugins/module_utils/labwright"
REFERENCE = ROOT / "docs/reference"
INVENTORY = """# What an inventory may wish for

Rendered from `plugins/module_utils/labwright/wishes.yml` by `docs/render.py`; not edited by hand. A `lab_*` variable
that is not in this table is refused, with the name that was probably meant. Set them for all hosts in
`group_vars/all/`, for one host in `host_vars/NAME.yml`.

| variable | default | may be | what it is |
|---|---|---|---|
"""
PROBLEMS = """# What the plan may say, by id / 规划可能给出的信息（按编号）

Rendered from `plugins/module_utils/labwright/words.yml` by `docs/render.py`; not edited by hand. Words in braces stand
for what was found. An id without a second sentence is a rule by which an option was rejected, not a problem.

"""


def kind(schema: dict[str, Any]) -> str:
    """What a value may be, in a few words."""
    if "anyOf" in schema:
        return " or ".join(kind(one) for one in schema["anyOf"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    words = str(schema.get("type", "see the table"))
    if "maximum" in schema:
        words += f" from {schema['minimum']} to {schema['maximum']}"
    if "properties" in schema:
        words += " with " + ", ".join(f"`{one}`" for one in schema["properties"])
    if "items" in schema:
        words += f" of {kind(schema['items'])}"
    return words


def inventory(table: dict[str, dict[str, Any]]) -> str:
    """The page of variables."""
    rows = []
    for name, row in table.items():
        default = f"`{json.dumps(row['default'], ensure_ascii=False)}`" if "default" in row else ""
        rows.append(f"| `{name}` | {default} | {kind(row['schema'])} | {' '.join(row['about'].split())} |\n")
    return INVENTORY + "".join(rows)


def problems(words: dict[str, dict[str, dict[str, str]]]) -> str:
    """The page of problems and rules."""
    parts = []
    for identifier, said in sorted(words.items()):
        if identifier.startswith("LW-"):
            lines = [" ".join(said[language].values()) for language in ("en", "zh")]
            parts.append(f"## {identifier}\n\n{lines[0]}\n\n{lines[1]}\n")
    return PROBLEMS + "\n".join(parts)


def pages() -> dict[Path, str]:
    """Every rendered page with its text."""
    wishes = yaml.safe_load((LOGIC / "wishes.yml").read_text(encoding="utf-8"))
    words = yaml.safe_load((LOGIC / "words.yml").read_text(encoding="utf-8"))
    return {REFERENCE / "inventory.md": inventory(wishes), REFERENCE / "problems.md": problems(words)}


def main() -> int:
    """Write the pages."""
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
