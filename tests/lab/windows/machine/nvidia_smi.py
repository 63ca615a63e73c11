"""nvidia-smi.exe: says what a real one said on a real machine (tests/unit/labwright/recorded); invents nothing.

`nvidia_smi.py RECORDING WORDS…`. A recording is an .xml (`-q -x`), a .csv with a header (`--query-gpu=…`), or a .txt:
what it said, to whatever question. An .xml answers `--query-gpu` too, as far as it has the fields; one that it lacks is
"not a valid field", as old drivers say. Any other question fails, and says so.
"""

from __future__ import annotations

import csv
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path

PLACES = {
    "name": "product_name",
    "uuid": "uuid",
    "memory.total": "fb_memory_usage/total",
    "memory.used": "fb_memory_usage/used",
    "mig.mode.current": "mig_mode/current_mig",
    "ecc.mode.current": "ecc_mode/current_ecc",
    "compute_cap": "cuda_compute_capability",
    "driver_model.current": "driver_model/current_dm",
}


def rows(recording: Path) -> list[dict[str, str]]:
    """One row a card: field to value, with units."""
    if recording.suffix == ".csv":
        with recording.open(encoding="utf-8") as stream:
            table = csv.DictReader(stream, skipinitialspace=True)
            return [{re.sub(r" \[.*\]$", "", name): value for name, value in row.items()} for row in table]
    root = ElementTree.fromstring(recording.read_text(encoding="utf-8"))  # noqa: S314  a file of this repository
    found = []
    for index, gpu in enumerate(root.findall("gpu")):
        row = {"index": str(index), "driver_version": root.findtext("driver_version", "")}
        row |= {field: text for field, place in PLACES.items() if (text := gpu.findtext(place)) is not None}
        found.append(row)
    return found


def query(table: Sequence[Mapping[str, str]], fields: Sequence[str], units: bool) -> tuple[str, int]:
    """The answer to --query-gpu, without a header."""
    for field in fields:
        if any(not row.get(field) for row in table):
            return f'Field "{field}" is not a valid field to query.\n\n', 2
    shown = [[row[field] if units else re.sub(r" (MiB|%|W)$", "", row[field]) for field in fields] for row in table]
    return "".join(", ".join(row) + "\n" for row in shown), 0


def answer(recording: Path, words: Sequence[str]) -> tuple[str, int]:
    """Output and exit status for a question."""
    if recording.suffix == ".txt":
        return recording.read_text(encoding="utf-8"), 9
    asked = words[0].removeprefix("--query-gpu=") if words and words[0].startswith("--query-gpu=") else ""
    if asked and len(words) == 2 and words[1] in ("--format=csv,noheader", "--format=csv,noheader,nounits"):
        return query(rows(recording), asked.split(","), not words[1].endswith("nounits"))
    if list(words) == ["-q", "-x"] and recording.suffix == ".xml":
        return recording.read_text(encoding="utf-8"), 0
    if list(words) == ["-L"]:
        lines = [f"GPU {row['index']}: {row['name']} (UUID: {row['uuid']})\n" for row in rows(recording)]
        return "".join(lines), 0
    return f"nvidia-smi.exe: {recording.name} has no answer to {' '.join(words) or 'no words'}\n", 2


def main() -> int:
    """Print and end as it did."""
    text, status = answer(Path(sys.argv[1]), sys.argv[2:])
    sys.stdout.write(text.replace("\n", "\r\n"))
    return status


if __name__ == "__main__":
    sys.exit(main())
