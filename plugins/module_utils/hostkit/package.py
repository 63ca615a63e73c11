"""Verb ``package``: packages of the distribution, and a record of what came with them, so that this goes again.

Request: ``names``, ``record`` (the folder of packages.json, a list of names) and ``state``. What is to come is noted
before it is installed: a run that is killed leaves no package of which nobody knows. What did not come is taken out
again. The record grows from run to run.

With the state ``absent`` goes what the record names, but for what packages of others need: that stays, in the record
too, and is told. For an installation nothing is removed either.

apt says beforehand what it would do. dnf does, but not in words for programs: there only the packages that were asked
for are noted first, and rpm removes, which takes nothing along.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Union

from hostkit import place
from hostkit.result import Problem, Result

WAIT_S = 600.0  # fresh hosts upgrade themselves at first, and hold apt's lock for minutes
EVERY_S = 2.0
LOCKED = "Could not get lock"
SHOWN = 10  # names of others


class Refused(Exception):
    """A program did not do what it was told; its own words."""


def run(request: dict[str, Any], check: bool) -> Result:
    """Install what is not there, or remove what came with it."""
    manager = Apt() if shutil.which("apt-get") else Rpm()
    record, names = Path(request["record"]) / "packages.json", request["names"]
    gone = request.get("state", "present") == "absent"
    try:
        return absent(manager, record, check) if gone else present(manager, names, record, check)
    except Refused as error:
        if gone:
            words = f"{manager.name} cannot remove from {platform.node()} what came with Labwright; expected it to"
            fix = "Mend what it names, and run again."
            raise Problem("LW-PACKAGE-004", f"{words}. It says: {error} {fix}") from error
        words = f"{manager.name} cannot install {', '.join(names)} on {platform.node()}; expected that its sources have"
        words = f"{words} them, and that nothing has to be removed for them. It says: {error} Mend what it names"
        raise Problem("LW-PACKAGE-002", f"{words}; `{manager.more} {' '.join(names)}` there says more.") from error


def present(manager: Manager, names: Iterable[str], record: Path, check: bool) -> Result:
    """Install what is not there; with new lists only where the old ones do not suffice."""
    before = manager.there()
    lacking = sorted(set(names) - before)
    if not lacking:
        return Result()
    coming: set[str] = set()
    if check:
        coming = manager.coming(lacking) - before
        return Result(changed=bool(coming), after=lines(coming))
    ours = noted(record)
    try:
        for last in (False, True):
            try:
                coming |= manager.coming(lacking) - before
                note(record, ours | coming)
                manager.install(lacking)
                break
            except Refused:
                if last:
                    raise
                manager.renew()
    finally:
        now = manager.there()
        came = (coming if manager.exact else now - before) & now
        note(record, ours & manager.left() | came)
    return Result(changed=bool(came), after=lines(came))


def absent(manager: Manager, record: Path, check: bool) -> Result:
    """Remove what the record names, but for what others need."""
    if not record.exists():
        return Result()
    known = noted(record)
    ours = known & manager.left()
    kept = manager.kept(ours)
    going = ours - set(kept)
    if not check:
        try:
            if going:
                manager.remove(sorted(going))
        finally:
            note(record, known & manager.left())
    others = sorted(set[str]().union(*kept.values()))
    warning = stays(", ".join(sorted(kept)), ", ".join(others[:SHOWN] + ["…"] * (len(others) > SHOWN))) if kept else ""
    return Result(changed=known != set(kept), before=lines(going), warning=warning, data={"kept": sorted(kept)})


def stays(ours: str, others: str) -> str:
    """Why packages of ours are still there."""
    words = f"LW-PACKAGE-003: {ours} came with Labwright to {platform.node()}, and stay there: without them {others}"
    fix = "Leave it so; or remove what needs them, and run this again."
    return f"{words} could not stay, which somebody else installed. {fix}"


def lines(names: Iterable[str]) -> str:
    """Names, one a line."""
    return "".join(f"{name}\n" for name in sorted(names))


# --- the record ------------------------------------------------------------------------------------------------------


def noted(record: Path) -> set[str]:
    """What came with Labwright."""
    return set(json.loads(record.read_text(encoding="utf-8"))) if record.exists() else set()


def note(record: Path, names: set[str]) -> None:
    """Keep the record; none of nothing."""
    if names:
        place.write(record, json.dumps(sorted(names), indent=4) + "\n")
    elif record.exists():
        place.discard(record)
        place.leave(record.parent)


# --- programs --------------------------------------------------------------------------------------------------------


def ask(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run a program that asks nobody anything; while another one has apt's lock, again and again."""
    own = {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive", "DEBIAN_PRIORITY": "critical"}
    own["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin"  # a login over SSH may lack them
    options: dict[str, Any] = {"encoding": "utf-8", "errors": "replace", "stdin": subprocess.DEVNULL}
    until = time.monotonic() + WAIT_S
    while True:
        done = subprocess.run(argv, capture_output=True, check=False, env={**os.environ, **own}, **options)
        if done.returncode == 0 or LOCKED not in done.stderr or time.monotonic() > until:
            return done
        time.sleep(EVERY_S)


def told(*argv: str) -> str:
    """What a program prints; where it fails, that is a refusal."""
    done = ask(*argv)
    if done.returncode:
        raise Refused(last_words(done))
    return done.stdout


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    """What a program said when it failed, as one sentence."""
    return " ".join((done.stderr.strip() or done.stdout.strip() or "no words").split())[-800:].rstrip(".") + "."


class Apt:
    """Debian's and Ubuntu's."""

    name = "apt"
    more = "apt-get update && apt-get install --simulate"
    exact = True  # what is coming, and nothing else, comes
    step = re.compile(r"^(Inst|Remv|Purg) (\S+)", re.MULTILINE)
    # Settings that somebody changed stay; what was left unused long ago is somebody's, too.
    options = ("-q", "-y", "-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold")
    installing = (*options, "--no-install-recommends", "--no-remove", "install")
    removing = (*options, "-o", "APT::Get::AutomaticRemove=false", "purge")

    def statuses(self) -> list[tuple[str, str]]:
        """Each package of the host's own architecture that dpkg knows, with its status."""
        native = told("dpkg", "--print-architecture").strip()
        shown = told("dpkg-query", "--show", "--showformat", "${Architecture} ${Package} ${db:Status-Status}\n")
        return [(name, status) for kind, name, status in map(str.split, shown.splitlines()) if kind in (native, "all")]

    def there(self) -> set[str]:
        """What is installed, however far."""
        return {name for name, status in self.statuses() if status not in ("not-installed", "config-files")}

    def left(self) -> set[str]:
        """What is installed, or has left settings."""
        return {name for name, status in self.statuses() if status != "not-installed"}

    def renew(self) -> None:
        """Fetch new lists, as far as their sources answer: those that do may suffice."""
        ask("apt-get", "-q", "-o", "Acquire::Retries=3", "update")

    def coming(self, names: Iterable[str]) -> set[str]:
        """What would be installed, or made newer."""
        return {name for _, name in self.step.findall(told("apt-get", "--simulate", *self.installing, *names))}

    def install(self, names: Iterable[str]) -> None:
        """Install them."""
        told("apt-get", *self.installing, *names)

    def others(self, names: Iterable[str], ours: set[str]) -> set[str]:
        """What is not ours and would go with them; or, where nothing would, what would come in their place."""
        steps = self.step.findall(told("apt-get", "--simulate", *self.removing, *names))
        return {name for word, name in steps if word != "Inst"} - ours or {name for _, name in steps} - ours

    def kept(self, ours: set[str]) -> dict[str, set[str]]:
        """Of ours what others need, and these: asked at once, and where that is not well, one after the other."""
        kept: dict[str, set[str]] = {}
        going: list[str] = []
        for name in sorted(ours) if ours and self.others(ours, ours) else []:
            others = self.others([*going, name], ours)
            if others:
                kept[name] = others
            else:
                going.append(name)
        return kept

    def remove(self, names: Iterable[str]) -> None:
        """Remove them with their settings."""
        told("apt-get", *self.removing, *names)


class Rpm:
    """Those of RHEL and its kin: dnf brings, and rpm removes."""

    name = "dnf"
    more = "dnf install --assumeno"
    exact = False
    needed = re.compile(r"^\s*(\S+).* is needed by \(installed\) (\S+)-[^-]+-[^-]+$", re.MULTILINE)

    def there(self) -> set[str]:
        """What is installed."""
        return set(told("rpm", "--query", "--all", "--queryformat", "%{NAME}\n").split())

    left = there

    def renew(self) -> None:
        """Fetch new lists."""
        ask("dnf", "-q", "--refresh", "makecache")

    def coming(self, names: Iterable[str]) -> set[str]:
        """What would be installed, without what it needs."""
        return set(names)

    def install(self, names: Iterable[str]) -> None:
        """Install them."""
        told("dnf", "-y", "install", *names)

    def kept(self, ours: set[str]) -> dict[str, set[str]]:
        """Of ours what others need, and these: what rpm says is needed stays, until it would let the rest go."""
        kept: dict[str, set[str]] = {}
        while set(kept) != ours:
            done = ask("rpm", "--erase", "--test", *sorted(ours - set(kept)))
            if done.returncode == 0:
                break
            before = len(kept)
            for what, other in self.needed.findall(done.stderr):
                holders = ask("rpm", "--query", "--whatprovides", "--queryformat", "%{NAME}\n", what).stdout.split()
                for name in set(holders) & ours:
                    kept.setdefault(name, set()).update({other} - ours)
            if len(kept) == before:
                raise Refused(last_words(done))
        return kept

    def remove(self, names: Iterable[str]) -> None:
        """Remove them."""
        told("rpm", "--erase", *names)


Manager = Union[Apt, Rpm]
