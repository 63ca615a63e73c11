"""Render docs/reference/inventory.md from the table of `lab_*` variables: `python docs/render.py`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "plugins/module_utils/labwright/wishes.yml"
PAGE = ROOT / "docs/reference/inventory.md"
HEAD = """# What an inventory may wish for

Rendered from `plugins/module_utils/labwright/wishes.yml` by `docs/render.py`; not edited by hand. A `lab_*` variable
that is not in this table is refused, with the name that was probably meant. Set them for all hosts in
`group_vars/all/`, for one host in `host_vars/NAME.yml`.

| variable | default | may be | what it is |
|---|---|---|---|
"""


def kind(schema: dict[str, Any]) -> str:
    """What a value may be, in a few words."""
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    words = str(schema.get("type", "see the table"))
    if "maximum" in schema:
        words += f" from {schema['minimum']} to {schema['maximum']}"
    if "properties" in schema:
        words += " with " + ", ".join(f"`{one}`" for one in schema["properties"])
    return words


def page(table: dict[str, dict[str, Any]]) -> str:
    """The page's text."""
    rows = []
    for name, row in table.items():
        default = f"`{json.dumps(row['default'], ensure_ascii=False)}`" if "default" in row else ""
        rows.append(f"| `{name}` | {default} | {kind(row['schema'])} | {row['about']} |\n")
    return HEAD + "".join(rows)


def main() -> int:
    """Write the page."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(yaml.safe_load(TABLE.read_text(encoding="utf-8"))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
