"""Stands in for icacls.exe, which Wine has not got: `icacls.py RIGHTS.JSON WORDS…` keeps who may do what, by paths.

Knows the switches that hostkit uses: /reset, /inheritance:r, /grant:r *SID:(OI)(CI)(RIGHT), /save FILE. What stands in
RIGHTS.JSON is enforced by nothing.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

RIGHTS = {"F": "FA", "RX": "0x1200a9", "M": "0x1301bf"}
SHORT = {"S-1-5-18": "SY", "S-1-5-32-544": "BA", "S-1-5-32-545": "BU"}
GRANT = re.compile(r"^\*(S-[0-9-]+):((?:\(OI\)\(CI\))?)\(([A-Z]+)\)$")


def main(words: list[str]) -> int:
    """Do it; 0, 2 where there is no such file, 87 for what it does not know."""
    store, drive, path, *rest = words
    known: dict[str, str] = json.loads(Path(store).read_text(encoding="utf-8")) if Path(store).exists() else {}
    where = Path(drive, *path[3:].replace("\\", "/").split("/"))
    if not where.exists():
        print(f"{path}: The system cannot find the file specified.", file=sys.stderr)
        return 2
    key = path.rstrip("\\").lower()
    if rest == ["/reset"]:
        known.pop(key, None)
    elif rest[:2] == ["/inheritance:r", "/grant:r"] and all(map(GRANT.match, rest[2:])):
        entries = (GRANT.match(one) for one in rest[2:])
        known[key] = "D:PAI" + "".join(
            f"(A;{one[2].replace('(', '').replace(')', '')};{RIGHTS[one[3]]};;;{SHORT.get(one[1], one[1])})"
            for one in entries
            if one
        )
    elif rest[:1] == ["/save"] and len(rest) == 2:
        target = Path(drive, *rest[1][3:].replace("\\", "/").split("/"))
        text = known.get(key, "D:AI(A;OICIID;FA;;;BA)(A;OICIID;FA;;;SY)(A;OICIID;0x1200a9;;;BU)")
        target.write_bytes(f"{where.name}\r\n{text}\r\n".encode("utf-16-le"))
        return 0
    else:
        print(f"Invalid parameter {rest[:1]}", file=sys.stderr)
        return 87
    new = Path(f"{store}.{os.getpid()}")  # in one step: another icacls may read it now
    new.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    new.replace(store)
    print(f"processed file: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
