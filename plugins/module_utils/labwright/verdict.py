"""The verdict: all hosts' answers in one JSON object with stable check ids, and the sentence that follows from it.

A check that failed has its cause and its cure; one that failed only because another thing is down says of which.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hostkit import causes
from hostkit.cures import CURES

SILENT = "LW-PROBE-041"  # a host that gave no answer
# What a thing needs, directly. A check is about one of them: see ``thing``.
NEEDS: dict[str, tuple[str, ...]] = {
    "host": (),
    "firewall": ("host",),
    "controller": ("host", "firewall"),
    "worker": ("host", "firewall", "controller"),  # that starts; one that runs stays
    "registration": ("worker", "controller"),
    "api": ("host", "controller"),
    "gateway": ("host",),
    "web": ("host",),
    "page": ("gateway", "web"),
    "answer": ("gateway", "api", "registration"),
    "agent": ("answer",),
}
# What each cause is about, whatever check found it; all others are about what the check asked.
ABOUT = {
    SILENT: "host",
    "LW-PROBE-010": "registration",
    "LW-PROBE-011": "worker",
    "LW-PROBE-021": "controller",
    "LW-PROBE-022": "controller",
    "LW-PROBE-026": "api",
    "LW-PROBE-040": "firewall",
    "LW-PROBE-042": "web",
}
OF_UNIT = {f"labwright-{name}": name for name in ("controller", "api", "web", "gateway")}
OF_KIND = {"worker": "worker", "controller": "registration", "api": "answer", "agent": "agent", "firewall": "firewall"}
OF_KIND |= {"page": "page"}
OF_PORT = {"worker": "worker", "controller": "controller", "api": "gateway", "page": "gateway"}
STOLEN = "LW-PROBE-023"
NO_WAY = "LW-PROBE-028"
# These are of one model; of all others that many answers have, one is enough.
OF_MODEL = (
    "LW-PROBE-012",
    "LW-PROBE-013",
    "LW-PROBE-024",
    "LW-PROBE-027",
    "LW-PROBE-032",
    "LW-PROBE-034",
    "LW-PROBE-035",
)
# These may come of something else that is down. All others are causes of their own: a wrong key, a certificate, …
FOLLOWING = (
    *("LW-PROBE-010", "LW-PROBE-011", "LW-PROBE-013", "LW-PROBE-020", "LW-PROBE-021", "LW-PROBE-022", "LW-PROBE-026"),
    *("LW-PROBE-027", "LW-PROBE-028", "LW-PROBE-030", "LW-PROBE-031", "LW-PROBE-032", "LW-PROBE-033", "LW-PROBE-035"),
    "LW-PROBE-036",
    "LW-PROBE-042",
)


def of(lab: str, answers: Mapping[str, Any], language: str = "en") -> dict[str, Any]:
    """Put the answers together; a host that gave none fails with ``host.answers``.

    ``answers`` maps each host of the inventory to the result of hostkit's verb ``probe`` (None where it never ran).
    A failed check gets ``follows``: the host and id of the check that explains it, or "". ``root`` is the most likely
    cause: host and id of the check that explains the most, or "".
    """
    checks = [{"host": host, **check} for host, answer in answers.items() for check in checks_of(answer)]
    failed = [check for check in checks if not check["ok"]]
    why = follows(failed)
    for check, other in zip(failed, why, strict=True):
        check["follows"] = named(failed[other]) if other is not None else ""
        if language != "en" and check.get("cause") in CURES:
            check["cure"] = causes.cure(check["cause"], unit_of(check), language)
    return {
        "format": 1,
        "lab": lab,
        "ok": bool(checks) and not failed,
        "passed": len(checks) - len(failed),
        "failed": len(failed),
        "root": named(failed[most]) if (most := root(why)) is not None else "",
        "checks": checks,
    }


def checks_of(answer: Any) -> list[dict[str, Any]]:
    """One host's checks."""
    data = answer.get("data") if isinstance(answer, Mapping) else None
    if isinstance(data, Mapping) and "checks" in data:
        return [dict(check) for check in data["checks"]]
    words = str(answer.get("msg", "")) if isinstance(answer, Mapping) else ""
    evidence = words or "the host was not reached, or its run ended before it could be asked"
    silence = {"id": "host.answers", "ok": False, "evidence": evidence, "latency_ms": 0.0}
    return [{**silence, "cause": SILENT, "cure": causes.cure(SILENT)}]


def named(check: Mapping[str, Any]) -> str:
    """A check of a host, as people and programs find it."""
    return f"{check['host']} {check['id']}"


def unit_of(check: Mapping[str, Any]) -> str:
    """The unit that a check of the kind ``unit`` asked for, as its host calls it."""
    kind, rest = split(check)
    return str(check.get("unit") or f"{rest}.service") if kind == "service" else ""


def thing(check: Mapping[str, Any]) -> str:
    """What a failed check says to be wrong."""
    kind, rest = split(check)
    if kind == "service":
        return OF_UNIT.get(rest, "worker")
    if check.get("cause") == STOLEN:
        return OF_PORT.get(kind, kind)
    return ABOUT.get(str(check.get("cause")), OF_KIND.get(kind, kind))


def split(check: Mapping[str, Any]) -> tuple[str, str]:
    """The two parts of a check's id: what is asked, and of which unit, worker or model."""
    kind, _, rest = str(check["id"]).partition(".")
    return kind, rest


def needed(name: str) -> set[str]:
    """All that a thing needs, directly or not."""
    direct = NEEDS.get(name, ())
    return set(direct).union(*(needed(one) for one in direct))


def follows(failed: Sequence[Mapping[str, Any]]) -> list[int | None]:
    """For each failed check the one that explains it, as its place in ``failed``; None for a cause of its own.

    A unit that is down explains what else is wrong with that thing: of workers, only with the same one. A thing that
    is down explains what needs it, and a cause of its own explains the same cause of the same thing.
    """
    order = sorted(range(len(failed)), key=lambda at: (len(needed(thing(failed[at]))), strength(failed[at]), at))
    found: list[int | None] = [None] * len(failed)
    roots: list[int] = []
    for at in order:
        found[at] = next((one for one in roots if explains(failed[one], failed[at])), None)
        if found[at] is None:
            roots.append(at)
    return found


def strength(check: Mapping[str, Any]) -> int:
    """Of several checks of one thing, which says best what is wrong: a stolen port, the unit, itself, others of it."""
    if check.get("cause") == STOLEN:
        return 0
    kind, _rest = split(check)
    return 1 if kind == "service" else 2 if OF_KIND.get(kind) == thing(check) else 3


def explains(root: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether one failure is reason enough for another."""
    what, of_other = thing(root), thing(other)
    if what == of_other == "answer":
        same_model = split(root)[1].partition(".")[2] == split(other)[1].partition(".")[2]
        return root.get("cause") == other.get("cause") and (other.get("cause") not in OF_MODEL or same_model)
    if other.get("cause") not in FOLLOWING:
        return False
    if what == of_other:
        return what != "host" and (not itself(other) or itself(root) == itself(other))
    if what not in needed(of_other):
        return False
    if what == "firewall":
        return bool(other.get("cause") == NO_WAY)
    # What runs on another host is down on its own; what it was told over the network may be of this one.
    return what != "host" or split(other)[0] not in ("service", "worker") or root["host"] == other["host"]


def itself(check: Mapping[str, Any]) -> tuple[str, str] | None:
    """Host and name of the worker that a check asks; None where it asks something that there is once."""
    kind, rest = split(check)
    if thing(check) != "worker" or kind not in ("service", "worker"):
        return None
    return str(check["host"]), rest.removeprefix("labwright-worker-")


def root(why: Sequence[int | None]) -> int | None:
    """The cause that explains the most; of equals, the first."""
    own = [at for at, other in enumerate(why) if other is None]
    return max(own, key=lambda at: why.count(at)) if own else None


def as_json(whole: Mapping[str, Any]) -> str:
    """The text of the verdict's file."""
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def as_table(whole: Mapping[str, Any]) -> str:
    """Each check in one line, in columns."""
    rows = [("ok" if one["ok"] else "LACKING", one["host"], one["id"], one["evidence"]) for one in whole["checks"]]
    widths = [max((len(row[at]) for row in rows), default=0) for at in range(3)]
    return "\n".join("  ".join([*(row[at].ljust(widths[at]) for at in range(3)), row[3]]) for row in rows)


def as_lines(whole: Mapping[str, Any], language: str = "en") -> list[str]:
    """The verdict for people, one line a check: what is good, then causes with their cures, then what comes of them."""
    lines = []
    for check in sorted(whole["checks"], key=lambda one: (not one["ok"], bool(one.get("follows")))):
        text = f"{named(check)}: {check['evidence']} ({check['latency_ms']:.0f} ms)"
        if check["ok"]:
            lines.append(f"ok   {text}")
        elif check.get("follows"):
            lines.append(f"FAIL {text} (comes of {check['follows']})")
        else:
            lines.append(f"FAIL {text}" + (f" → {check['cause']}: {check['cure']}" if check.get("cause") else ""))
    word = "answers" if whole["ok"] else "does NOT answer as planned"
    lines.append(f"The lab {whole['lab']} {word}: {whole['passed']} checks passed, {whole['failed']} failed.")
    for check in whole["checks"]:
        if not check["ok"] and named(check) == whole["root"] and check.get("cause") in CURES:
            meaning = CURES[check["cause"]][language][0]
            lines.append(f"Most likely cause: {named(check)}: {meaning} ({check['cause']}) {check['cure']}")
    return lines
