"""Whether a conda package fits a conda dependency: version order, version specs and build globs, as conda defines them.

Covers the forms that conda-forge's packages of an interpreter use (`name`, `name version`, `name version build`); any
other form is refused rather than guessed. The solver that makes the lock is conda's own; this checks the lock offline.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from itertools import zip_longest

Atom = tuple[int, float, str]
Key = list[list[Atom]]
PLAIN = re.compile(r"[0-9a-z._+!-]+")
CLAUSE = re.compile(r"(>=|<=|==|!=|=|>|<)?(.+?)(\.?\*)?")
JOINED = re.compile(r"((?:==)?[^=<>!|,]+)=([^=]+)")  # ==1.2=build, as conda-forge writes some constraints
ZERO: Atom = (1, 0, "")


class UnknownFormError(ValueError):
    """A dependency in a form that is not covered here."""


def _atom(text: str) -> Atom:
    # Words stand below numbers; `dev` below all words, `post` above all numbers.
    if text == "post":
        return (1, float("inf"), "")
    return (1, int(text), "") if text.isdigit() else (0, 0, text.replace("dev", "DEV"))


def _parts(text: str) -> Key:
    words = [re.findall(r"\d+|\D+", part) for part in re.split(r"[._-]", text)]
    # A part that starts with a word has an unwritten 0 before it.
    return [[*([] if part[:1] and part[0].isdigit() else [ZERO]), *map(_atom, part)] for part in words]


def version_key(version: str) -> tuple[Key, Key]:
    """Return a version as conda compares it: epoch and parts, and what follows `+`."""
    text = version.strip().lower()
    if not PLAIN.fullmatch(text):
        raise UnknownFormError(version)
    epoch, _, rest = text.rpartition("!")
    release, _, local = rest.partition("+")
    return _parts(epoch or "0") + _parts(release), _parts(local) if local else []


def _compare(one: Key, two: Key) -> int:
    empty: list[Atom] = []
    for left, right in zip_longest(one, two, fillvalue=empty):
        for a, b in zip_longest(left, right, fillvalue=ZERO):
            if a != b:
                return 1 if a > b else -1
    return 0


def compare(one: str, two: str) -> int:
    """Return -1, 0 or 1 as the first version is below, equal to or above the second."""
    (a, local_a), (b, local_b) = version_key(one), version_key(two)
    return _compare(a, b) or _compare(local_a, local_b)


def _starts(version: str, prefix: str) -> bool:
    have, (want, local) = version_key(version)[0], version_key(prefix)
    if local:
        raise UnknownFormError(f"{prefix}*")
    *parts, (*atoms, last) = want
    part = have[len(parts)] if len(have) > len(parts) else []
    atom = part[len(atoms)] if len(part) > len(atoms) else ZERO
    # The last word may go on: 1.0a* stands for 1.0alpha2 too.
    same = atom[:2] == last[:2] and (atom[2].startswith(last[2]) if last[0] == 0 else True)
    return same and not _compare(have[: len(parts)], parts) and not _compare([part[: len(atoms)]], [atoms])


def _clause(version: str, clause: str) -> bool:
    match = CLAUSE.fullmatch(clause)
    if clause == "*":
        return True
    if match is None:
        raise UnknownFormError(clause)
    sign, wanted, star = match.groups()
    if star or sign == "=":
        if sign not in (None, "=", "==", "!="):
            raise UnknownFormError(clause)
        return _starts(version, wanted) != (sign == "!=")
    order = compare(version, wanted)
    return {
        ">=": order >= 0, "<=": order <= 0, ">": order > 0, "<": order < 0, "!=": order != 0,
    }.get(sign, order == 0)  # fmt: skip


def fits(spec: str, name: str, version: str, build: str) -> bool:
    """Say whether a package fits a dependency; raise UnknownFormError for a form that is not covered."""
    words = spec.split()
    if not 1 <= len(words) <= 3 or re.search(r"[\[\]()^$]", spec):
        raise UnknownFormError(spec)
    wanted, versions, builds = [*words, "*", "*"][:3]
    if len(words) == 2 and (joined := JOINED.fullmatch(versions)):
        versions, builds = joined.groups()
    if wanted != name:
        return False
    any_of = [all(_clause(version, clause) for clause in part.split(",")) for part in versions.split("|")]
    return any(any_of) and fnmatchcase(build, builds)
