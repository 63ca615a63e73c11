"""Pictures of what Labwright prints, from text that its own code has made: SVG for light and for dark."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import yaml

from labwright import hardware, plan, report, verdict
from labwright.catalog import Catalogue
from labwright.wishes import host_of

WIDE, HIGH, EDGE = 7.25, 18, 16  # of a character, of a line, around all; pixels at a font size of 12
STYLE = """text { font: 12px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace }
text { fill: #1f2328; white-space: pre }
.back { fill: #f6f8fa; stroke: #d0d7de }
.good { fill: #1a7f37 } .bad { fill: #b42318 } .head { font-weight: bold }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .back { fill: #161b22; stroke: #30363d } .good { fill: #3fb950 } .bad { fill: #ff7b72 }
}"""


def plan_on_paper(page: Path, wiring: Path, catalogue: Catalogue, language: str) -> list[str]:
    """The table of the plan for the inventory that a page shows: its first block of YAML. `wiring` is that of
    Windows hosts."""
    windows = yaml.safe_load(wiring.read_text(encoding="utf-8"))
    found = re.search(r"^```yaml\n(all:.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    if found is None:
        raise SystemExit(f"{page} shows no inventory; the picture of the plan is made from it.")
    inventory: dict[str, Any] = yaml.safe_load(found[1])["all"]
    groups = {
        host: [name for name, group in inventory["children"].items() if host in group["hosts"]]
        for host in inventory["hosts"]
    }
    fleet = [
        host_of(
            name,
            groups[name],
            inventory["vars"] | {"lab_language": language} | (windows if "windows" in groups[name] else {}) | own,
        )
        for name, own in inventory["hosts"].items()
    ]
    asked = {
        one.name: hardware.given(one.wishes["hardware_given"], one.name, catalogue.gpus, one.platform) for one in fleet
    }
    written = report.as_json(plan.make(fleet, asked, catalogue))
    if not written["met"]:
        raise SystemExit(f"the inventory that {page} shows cannot be had:\n{report.as_text(written)}")
    lines = report.as_text(written).splitlines()
    return [*lines[: lines.index("")], "", lines[-1]]


def recorded_verdict(path: Path) -> list[str]:
    """What verify printed, from the file that it wrote."""
    return verdict.as_lines(json.loads(path.read_text(encoding="utf-8")))


def translated(picture: Path, words: dict[str, str]) -> str:
    """A drawn picture in other words; each of its texts that has any must be known."""

    def other(found: re.Match[str]) -> str:
        return f"{found[1]}{escape(words[found[2]]) if found[2] in words else found[2]}</text>"

    text = re.sub(r"(<text[^>]*>)([^<]+)</text>", other, picture.read_text(encoding="utf-8"))
    return text.replace("<style>", "<!-- Rendered by docs/render.py; not edited by hand. -->\n<style>", 1)


def kind(lines: list[str], at: int) -> str:
    """How a line is drawn."""
    if lines[at].startswith("FAIL"):
        return "bad"
    if lines[at].startswith("ok "):
        return "good"
    return "head" if (at + 1 < len(lines) and lines[at + 1].startswith("---")) or at == len(lines) - 1 > 0 else ""


def terminal(lines: list[str]) -> str:
    """The lines as a picture."""
    wide = round(max(map(report.width, lines)) * WIDE + 2 * EDGE)
    high = len(lines) * HIGH + 2 * EDGE
    rows = []
    for at, line in enumerate(lines):
        marked = f' class="{kind(lines, at)}"' if kind(lines, at) else ""
        rows.append(
            f'<text x="{EDGE}" y="{EDGE + at * HIGH + 13}" xml:space="preserve"{marked}>{escape(line)}</text>\n'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" '
        f'viewBox="0 0 {wide} {high}" role="img">\n'
        f"<!-- Rendered by docs/render.py; not edited by hand. -->\n<style>\n{STYLE}\n</style>\n"
        f'<rect class="back" x="0.5" y="0.5" width="{wide - 1}" height="{high - 1}" rx="8"/>\n{"".join(rows)}</svg>\n'
    )
