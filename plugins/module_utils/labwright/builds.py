"""Which torch build for one worker: the newest that the stack admits, that exists as a wheel with a known sum, that has
code for the card's architecture, and that runs on the driver. Every other one keeps the rule that spoke against it.

A selector that looks at the driver alone sends a V100 to cu130, which has no code for it; one that looks at the card
alone sends a new card's owner to a driver error.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet

from labwright.catalog import Floor, Release, TorchTable
from labwright.hardware import version
from labwright.words import Finding, finding

CPU = "cpu"
# Rules that a written waiver may overrule. Without a wheel there is nothing to install: LW-TORCH-002 is not among them.
WAIVABLE = ("LW-TORCH-001", "LW-TORCH-003", "LW-TORCH-004")


@dataclass(frozen=True)
class Build:
    """One torch wheel: its release and CUDA tag."""

    torch: str
    tag: str
    torchvision: str = ""

    @property
    def label(self) -> str:
        """As pip writes it."""
        return f"{self.torch}+{self.tag}"


@dataclass(frozen=True)
class Rejected:
    """An option that was not taken, and the rule that spoke against it."""

    value: str
    why: Finding


@dataclass(frozen=True)
class Choice:
    """The build, or None with the ways out; ``waived`` are the rules that a waiver overruled."""

    build: Build | None
    because: Finding
    rejected: tuple[Rejected, ...] = ()
    waived: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question:
    """All that the choice depends on. ``capabilities`` are those of the cards that share the build; none: the CPU."""

    platform: str
    python: str
    admits: str
    driver: str = ""
    announced: str = ""
    capabilities: tuple[str, ...] = ()
    level: str = "compatible"
    waived: frozenset[str] = frozenset()
    locked: frozenset[str] = frozenset()  # builds that the stack has locks for on this platform


def choose(question: Question, table: TorchTable) -> Choice:
    """The build for a question, and why not the others: for each tag, its newest release that could have been."""
    options = [
        (Build(release.torch, tag, release.torchvision), against(release, tag, question, table))
        for release in table.releases
        for tag in release.tags
        if (tag == CPU) == (not question.capabilities)
    ]
    open_ = [(build, reasons) for build, reasons in options if all(waived(one, question) for one in reasons)]
    if not open_:
        return Choice(None, no_build(question, options, table), tuple(newest_by_tag(options, None)))
    best, overruled = max(open_, key=lambda one: rank(one[0], one[1], question, table))
    return Choice(
        best,
        because(best, question, table, overruled),
        tuple(newest_by_tag(options, best)),
        tuple(one.id for one in overruled),
    )


def against(release: Release, tag: str, question: Question, table: TorchTable) -> list[Finding]:
    """Every rule that speaks against a build, the least curable first."""
    label = f"{release.torch}+{tag}"
    found = []
    if release.torch not in SpecifierSet(question.admits):
        found.append(finding("LW-TORCH-001", build=label, admits=question.admits))
    if (release.torch, tag, question.platform, question.python) not in table.wheels:
        found.append(finding("LW-TORCH-002", build=label, platform=question.platform, python=question.python))
    if tag == CPU:
        return found
    sm = table.architectures[release.torch, tag]
    lacking = [one for one in question.capabilities if not covers(sm, one)]
    if lacking:
        found.append(finding("LW-TORCH-003", build=label, capability=lacking[0], has=sorted(sm)))
    floor = floor_of(tag, question.platform, table)
    if version(question.driver) < version(floor):
        found.append(finding("LW-TORCH-004", tag=tag, floor=floor, driver=question.driver))
    elif question.level == "strict" and toolkit(tag) > announced(question, table):
        says = ".".join(map(str, announced(question, table)))
        found.append(finding("LW-TORCH-005", tag=tag, cuda=spoken(tag), announced=says, driver=question.driver))
    return found


def waived(rule: Finding, question: Question) -> bool:
    """Whether a written waiver overrules a rule."""
    return question.level == "forced" and rule.id in question.waived and rule.id in WAIVABLE


def rank(build: Build, overruled: list[Finding], question: Question, table: TorchTable) -> tuple[object, ...]:
    """The larger, the better: nothing overruled; a lock is there; the newest torch; no need of minor version
    compatibility; the newest CUDA."""
    native = build.tag == CPU or toolkit(build.tag) <= announced(question, table)
    cuda = (0, 0) if build.tag == CPU else toolkit(build.tag)
    return (-len(overruled), build.label in question.locked, version(build.torch), native, cuda)


def newest_by_tag(options: list[tuple[Build, list[Finding]]], best: Build | None) -> list[Rejected]:
    """For each other tag the newest release that has a wheel, or else the newest, with the first rule against it."""
    found: dict[str, tuple[tuple[bool, tuple[int, ...]], Rejected]] = {}
    for build, reasons in options:
        if best and build.tag == best.tag:
            continue
        there = not any(one.id in ("LW-TORCH-001", "LW-TORCH-002") for one in reasons)
        why = reasons[0] if reasons else finding("LW-TORCH-006", build=build.label, best=best.label if best else "")
        key = (there, version(build.torch))
        if build.tag not in found or key > found[build.tag][0]:
            found[build.tag] = (key, Rejected(build.label, why))
    return [rejected for _tag, (_key, rejected) in sorted(found.items())]


def because(best: Build, question: Question, table: TorchTable, overruled: list[Finding]) -> Finding:
    """Why the chosen build."""
    locked = best.label in question.locked
    if overruled:
        return finding("WHY-TORCH-WAIVED", build=best.label, rules=list(overruled))
    if best.tag == CPU:
        return finding("WHY-TORCH-CPU", build=best.label, platform=question.platform, python=question.python)
    reason = "WHY-TORCH-NATIVE" if toolkit(best.tag) <= announced(question, table) else "WHY-TORCH-MINOR"
    return finding(
        reason,
        build=best.label,
        driver=question.driver,
        floor=floor_of(best.tag, question.platform, table),
        cuda=spoken(best.tag),
        announced=".".join(map(str, announced(question, table))) or "?",
        capability=list(question.capabilities),
        locked=finding("WHY-LOCKED" if locked else "WHY-NEWEST"),
    )


def no_build(question: Question, options: list[tuple[Build, list[Finding]]], table: TorchTable) -> Finding:
    """Nothing fits: the cheapest way out, which is a newer driver, another card, or the CPU."""
    cards = list(question.capabilities)
    if not cards:
        return finding("LW-TORCH-010", platform=question.platform, python=question.python, admits=question.admits)
    if any(all(one.id == "LW-TORCH-005" for one in reasons) for _build, reasons in options):
        return finding("LW-TORCH-008", driver=question.driver, capability=cards)
    curable = [build for build, reasons in options if reasons and all(one.id == "LW-TORCH-004" for one in reasons)]
    if curable:
        lowest = min((lowest_driver(one.tag, question, table) for one in curable), key=version)
        then = max(
            (one for one in curable if lowest_driver(one.tag, question, table) == lowest),
            key=lambda one: (one.label in question.locked, version(one.torch), toolkit(one.tag)),
        )
        return finding("LW-TORCH-007", driver=question.driver, floor=lowest, build=then.label, capability=cards)
    return finding("LW-TORCH-009", capability=cards, driver=question.driver, admits=question.admits)


def covers(sm: Collection[int], capability: str) -> bool:
    """Whether native code runs on a card: the same major architecture, its minor not above the card's."""
    major, minor = version(capability)
    return any(one // 10 == major and one % 10 <= minor for one in sm)


def toolkit(tag: str) -> tuple[int, ...]:
    """The CUDA version of a tag: cu118 is (11, 8), cu130 is (13, 0)."""
    return int(tag[2:-1]), int(tag[-1])


def spoken(tag: str) -> str:
    """The same as people write it: 11.8."""
    return ".".join(map(str, toolkit(tag)))


def floor_of(tag: str, platform: str, table: TorchTable) -> str:
    """The lowest driver for a tag, minor version compatibility included."""
    return driver_of(table.floors[toolkit(tag)[0]], platform)


def lowest_driver(tag: str, question: Question, table: TorchTable) -> str:
    """The lowest driver that would do at the question's level: where it is strict, one that announces the toolkit."""
    floor = floor_of(tag, question.platform, table)
    if question.level != "strict":
        return floor
    rows = [driver_of(row, question.platform) for row in table.announced if version(row.cuda) >= toolkit(tag)]
    return max(floor, min(rows, key=version, default=floor), key=version)


def driver_of(row: Floor, platform: str) -> str:
    """The row's driver. Where NVIDIA names none for Windows, the Linux one's branch counts: they are numbered alike."""
    return row.drivers[platform] or f"{str(row.drivers['linux-64']).split('.')[0]}.0"


def announced(question: Question, table: TorchTable) -> tuple[int, ...]:
    """The highest toolkit that the driver announces: as it says itself, or by the table; () for an older one."""
    if question.announced:
        return version(question.announced)
    driver = version(question.driver)
    return max(
        (version(row.cuda) for row in table.announced if driver >= version(driver_of(row, question.platform))),
        default=(),
    )


def newest_driver(platform: str, table: TorchTable) -> tuple[int, ...]:
    """The newest driver that the catalogue knows of, its branch only: (595,)."""
    return max((version(driver_of(row, platform))[:1] for row in table.announced), default=())
