"""The verdict: all hosts' answers in one JSON object with stable check ids, and the sentence that follows from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def of(lab: str, answers: Mapping[str, Any]) -> dict[str, Any]:
    """Put the answers together; a host that gave none fails with ``host.answers``.

    ``answers`` maps each host of the inventory to the result of hostkit's verb ``probe`` (None where it never ran).
    """
    checks = [{"host": host, **check} for host, answer in answers.items() for check in checks_of(answer)]
    failed = [check for check in checks if not check["ok"]]
    return {
        "format": 1,
        "lab": lab,
        "ok": bool(checks) and not failed,
        "passed": len(checks) - len(failed),
        "failed": len(failed),
        "checks": checks,
    }


def checks_of(answer: Any) -> list[dict[str, Any]]:
    """One host's checks."""
    data = answer.get("data") if isinstance(answer, Mapping) else None
    if isinstance(data, Mapping) and "checks" in data:
        return [dict(check) for check in data["checks"]]
    words = str(answer.get("msg", "")) if isinstance(answer, Mapping) else ""
    evidence = words or "the host was not reached, or its run ended before it could be asked"
    return [{"id": "host.answers", "ok": False, "evidence": evidence, "latency_ms": 0.0}]


def as_json(whole: Mapping[str, Any]) -> str:
    """The text of the verdict's file."""
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def as_table(whole: Mapping[str, Any]) -> str:
    """Each check in one line, in columns."""
    rows = [("ok" if one["ok"] else "LACKING", one["host"], one["id"], one["evidence"]) for one in whole["checks"]]
    widths = [max((len(row[at]) for row in rows), default=0) for at in range(3)]
    return "\n".join("  ".join([*(row[at].ljust(widths[at]) for at in range(3)), row[3]]) for row in rows)


def as_lines(whole: Mapping[str, Any]) -> list[str]:
    """The verdict for people, one line a check."""
    lines = []
    for check in whole["checks"]:
        mark = "ok  " if check["ok"] else "FAIL"
        lines.append(f"{mark} {check['host']} {check['id']}: {check['evidence']} ({check['latency_ms']:.0f} ms)")
    word = "answers" if whole["ok"] else "does NOT answer as planned"
    return [*lines, f"The lab {whole['lab']} {word}: {whole['passed']} checks passed, {whole['failed']} failed."]
