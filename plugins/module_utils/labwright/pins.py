"""Which pins contradict each other, by what the packages say of themselves, and the ways out. Reading only, offline.

Facts are data: ``env/catalog/metadata.yml`` (made by ``env/metadata.py``) holds the metadata of the packages concerned,
``env/catalog/known.yml`` the problems that metadata does not tell, and every sentence that has an id. Where a version
is open (no pin, a range, or brought in by another package), there is a contradiction only if *every* stored version is
caught.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml
from packaging.markers import Marker, UndefinedComparison
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

LANGUAGES = ("en", "zh")
PYTHONS = tuple(f"3.{minor}" for minor in range(8, 15))
FASTCHAT = "fschat"
FASTCHAT_EXTRAS = frozenset({"model_worker", "webui", "llm_judge", "train", "dev"})
CONTRADICTION, PROBLEM, NOTE = "contradiction", "problem", "note"
KINDS = (CONTRADICTION, PROBLEM, NOTE)

# What environment markers are told of a platform, in Conda's names for them.
PLATFORMS: dict[str, dict[str, str]] = {
    "linux-64": {
        "os_name": "posix",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
    },
    "win-64": {
        "os_name": "nt",
        "sys_platform": "win32",
        "platform_system": "Windows",
        "platform_machine": "AMD64",
    },
}

# Parts of sentences. Sentences of their own, with an id, are in known.yml.
PHRASES: dict[str, dict[str, str]] = {
    "exact": {"en": "{name} {version}", "zh": "{name} {version}"},
    "tree": {
        "en": "{name} {version} (a source tree, taken for the newest release)",
        "zh": "{name} {version}（源码目录，按最新发布版计）",
    },
    "unpinned": {"en": "{name} (unpinned, today {version})", "zh": "{name}（未锁定版本，目前为 {version}）"},
    "range": {"en": "{name}{spec} (today {version})", "zh": "{name}{spec}（目前为 {version}）"},
    "brought": {
        "en": "{name} (not named, {by} brings it, today {version})",
        "zh": "{name}（未列出，由 {by} 带入，目前为 {version}）",
    },
    "pinned": {"en": "{pin} (line {line})", "zh": "{pin}（第 {line} 行）"},
    "brought_pin": {"en": "{name} (not named, {by} brings it)", "zh": "{name}（未列出，由 {by} 带入）"},
    "run": {"en": "{first} to {last}", "zh": "{first} 至 {last}"},
    "satisfy_one": {"en": "{package} {versions} satisfies {who}.", "zh": "{package} {versions} 满足 {who} 的要求。"},
    "satisfy": {"en": "{package} {versions} satisfy {who}.", "zh": "{package} {versions} 满足 {who} 的要求。"},
    "satisfy_model": {
        "en": "For {model}: {package} {versions}.",
        "zh": "若运行 {model}，则为 {package} {versions}。",
    },
    "admit_one": {"en": "{package} {versions} admits {whom}.", "zh": "{package} {versions} 允许 {whom}。"},
    "admit": {"en": "{package} {versions} admit {whom}.", "zh": "{package} {versions} 允许 {whom}。"},
    "python": {"en": "{who} runs on Python {versions}.", "zh": "{who} 可在 Python {versions} 上运行。"},
    "series_one": {
        "en": "{package} {versions} runs on Python {python}.",
        "zh": "{package} {versions} 可在 Python {python} 上运行。",
    },
    "series": {
        "en": "{package} {versions} run on Python {python}.",
        "zh": "{package} {versions} 可在 Python {python} 上运行。",
    },
    "keep": {"en": "Keep one of {pins}.", "zh": "只保留其中之一：{pins}。"},
    "apart": {
        "en": "Put {who} and {whom} into environments of their own.",
        "zh": "把 {who} 与 {whom} 分别装进各自的环境。",
    },
    "none": {
        "en": "No version that is known here fits all the other pins; change one of those as well.",
        "zh": "已知版本中没有能同时满足其余锁定的版本；还需更改其他锁定。",
    },
    "unreadable": {"en": "it is no requirement", "zh": "它不是合法的依赖声明"},
    "other_file": {"en": "it names another file, which is not read", "zh": "它指向另一个文件，该文件不会被读取"},
    "which_package": {"en": "it does not say which package it is", "zh": "看不出它是哪个软件包"},
}


@dataclass(frozen=True)
class Phrase:
    """A part of a sentence with its values, said when the language is known."""

    key: str
    values: Mapping[str, Any]

    def say(self, language: str) -> str:
        """The words."""
        return PHRASES[self.key][language].format(**spoken(self.values, language))


def phrase(key: str, **values: Any) -> Phrase:
    """A phrase with its values."""
    return Phrase(key, values)


def counted(key: str, versions: Sequence[Any], **values: Any) -> Phrase:
    """A phrase on some versions, in the singular where it is one."""
    single = len(versions) == 1 and isinstance(versions[0], str)
    return phrase(f"{key}_one" if single else key, versions=versions, **values)


def spoken(values: Mapping[str, Any], language: str) -> dict[str, str]:
    """Values as words: phrases say themselves, lists are joined."""
    return {key: _words(value, language) for key, value in values.items()}


def _words(value: Any, language: str) -> str:
    if isinstance(value, Phrase):
        return value.say(language)
    if isinstance(value, (list, tuple)):
        return ("、" if language == "zh" else ", ").join(_words(one, language) for one in value)
    return str(value)


@dataclass(frozen=True)
class Pin:
    """One line of a requirements text.

    ``version`` is None unless the line pins one with ``==``. ``tree`` is a source tree of FastChat, ``closed`` a line
    of a lock (with hashes), so that nothing unnamed comes with it. A line that cannot be used has a ``fault`` and no
    name.
    """

    name: str
    extras: frozenset[str] = frozenset()
    specifier: str = ""
    version: str | None = None
    marker: str = ""
    line: int = 0
    text: str = ""
    tree: bool = False
    closed: bool = False
    fault: str = ""


@dataclass(frozen=True)
class Release:
    """What one version of a package says of itself, word for word."""

    requires_python: str = ""
    requires_dist: tuple[str, ...] = ()


@dataclass(frozen=True)
class Known:
    """An entry of known.yml: a problem with its conditions, or (``rule``) the sentence of a rule of this module.

    ``when`` holds alternatives, each a map of package to version specifier. Further conditions: packages that are
    ``absent``, versions ``untagged`` (without a local label such as +cu117), the model, the platform.
    """

    id: str
    kind: str
    message: Mapping[str, str]
    fix: Mapping[str, str]
    rule: str = ""
    when: tuple[Mapping[str, str], ...] = ()
    absent: tuple[str, ...] = ()
    untagged: tuple[str, ...] = ()
    with_model: str = ""
    platform: str = ""
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Metadata:
    """What is stored: releases by package and version (oldest first), and the known problems."""

    releases: Mapping[str, Mapping[Version, Release]]
    known: tuple[Known, ...] = ()

    def rule(self, name: str) -> Known:
        """The sentence of a rule."""
        return next(one for one in self.known if one.rule == name)


@dataclass(frozen=True)
class Contradiction:
    """A finding: its id, its kind (contradiction, problem or note), and what its sentences need."""

    id: str
    kind: str
    message: Mapping[str, str]
    fix: Mapping[str, str]
    values: Mapping[str, Any] = field(default_factory=dict)
    ways: tuple[Phrase, ...] = ()

    def ways_out(self, language: str = "en") -> list[str]:
        """Each way out as a sentence; none for a known problem, whose cure is its ``fix``."""
        return [one.say(language) for one in self.ways]

    def say(self, language: str = "en") -> dict[str, str]:
        """``id``, ``message`` (what was found, what was expected) and ``fix`` (what to do)."""
        values = spoken(self.values, language)
        values["ways"] = ("" if language == "zh" else " ").join(self.ways_out(language))
        said = {"message": self.message[language], "fix": self.fix[language]}
        texts = {key: text.format(**values).strip() for key, text in said.items()}
        if language == "zh":
            # A full-width bracket brings its own space.
            texts = {key: text.replace("） ", "）").replace(" （", "（") for key, text in texts.items()}
        return {"id": self.id, **texts}


def found(entry: Known, values: Mapping[str, Any], ways: Sequence[Phrase] = ()) -> Contradiction:
    """A finding of an entry of known.yml."""
    return Contradiction(entry.id, entry.kind, entry.message, entry.fix, values, tuple(ways))


# ---- Reading


def load(env: Path) -> Metadata:
    """Read what is stored below ``env``; raise OSError, yaml.YAMLError, KeyError or TypeError when it is not right."""
    stored = _data(env / "catalog/metadata.yml")["packages"]
    releases = {
        name: {
            Version(version): Release(str(row["requires_python"]), tuple(row["requires_dist"]))
            for version, row in sorted(rows.items(), key=lambda one: Version(one[0]))
        }
        for name, rows in stored.items()
    }
    return Metadata(releases, tuple(map(known_of, _data(env / "catalog/known.yml"))))


def _data(path: Path) -> Any:
    # The C loader, where it is there, is forty times as fast.
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)(path.read_text(encoding="utf-8")).get_single_data()


def known_of(row: Mapping[str, Any]) -> Known:
    """One entry of known.yml; ``when`` may be one map or a list of them."""
    when = row.get("when", [])
    return Known(
        row["id"],
        row.get("kind", PROBLEM),
        row["message"],
        row["fix"],
        rule=row.get("rule", ""),
        when=(when,) if isinstance(when, Mapping) else tuple(when),
        absent=tuple(row.get("absent", ())),
        untagged=tuple(row.get("untagged", ())),
        with_model=row.get("with_model", ""),
        platform=row.get("platform", ""),
        sources=tuple(row.get("sources", ())),
    )


def parse(text: str) -> list[Pin]:
    """Read a requirements text. A line that cannot be used becomes a pin with a ``fault``; nothing is raised."""
    return [pin for number, line in _logical(text) if (pin := _pin(line, number))]


def _logical(text: str) -> Iterator[tuple[int, str]]:
    """Lines without comments, continued ones joined, each with the number that it begins at."""
    begun, parts = 0, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        begun = begun if parts else number
        bare = re.sub(r"(^|\s)#.*$", "", line).rstrip()
        parts.append(bare.removesuffix("\\").strip())
        if not bare.endswith("\\"):
            yield begun, " ".join(filter(None, parts))
            parts = []
    if parts:
        yield begun, " ".join(filter(None, parts))


def _pin(line: str, number: int) -> Pin | None:
    """The pin of one logical line; None for an empty line and for options that pin nothing."""
    closed = "--hash" in line
    # Options of one requirement stand behind it.
    words = re.sub(r"\s--(hash|config-settings?|global-option)(=|\s+)\S+", "", f" {line}").strip()
    edited = re.match(r"(?:-e|--editable)(?:\s*=\s*|\s*)(.+)$", words)
    if edited:
        words = edited[1]
    elif re.match(r"-r|-c|--requirement|--constraint", words):
        return Pin("", line=number, text=line, fault="other_file")
    elif not words or words.startswith("-"):
        return None
    if edited or words[0] in "\"'":
        words = words.strip("\"'").strip()
    try:
        pin = _from_place(words) if edited or _is_place(words) else _from_requirement(words)
        admits(pin.specifier, Version("0"))  # packaging reads the numbers only now
    # A ValueError is each of them, and also a number of thousands of digits.
    except (ValueError, UndefinedComparison):
        return Pin("", line=number, text=line, fault="unreadable")
    return replace(pin, line=number, text=line, closed=closed)


def _is_place(words: str) -> bool:
    bare = re.split(r"[\[;@]", words, maxsplit=1)[0].strip()
    return bare.startswith((".", "~")) or bare.endswith(".whl") or "/" in bare or "\\" in bare


def _from_requirement(words: str) -> Pin:
    need = Requirement(words)
    if need.url:
        place = _from_place(need.url)
        tree = need.name.lower() in {FASTCHAT, "fastchat"}
        return replace(place, name=_name(need.name), extras=frozenset(need.extras), tree=tree, fault="")
    if need.marker:
        need.marker.evaluate({"extra": ""})
    only = list(need.specifier)
    exact = len(only) == 1 and only[0].operator == "==" and not only[0].version.endswith(".*")
    return Pin(
        _name(need.name),
        frozenset(need.extras),
        str(need.specifier),
        only[0].version if exact else None,
        str(need.marker or ""),
    )


def _from_place(words: str) -> Pin:
    """A path or an address, with extras in brackets: a wheel, or a source tree."""
    bare, _, fragment = words.partition("#")
    extras = re.search(r"\[([^\]]*)\]\s*$", bare) or re.search(r"egg=[^\[&]*\[([^\]]*)\]", fragment)
    wanted = frozenset(one.strip() for one in extras[1].split(",") if one.strip()) if extras else frozenset()
    egg = re.search(r"egg=([\w.-]+)", fragment)
    path = re.sub(r"\[[^\]]*\]\s*$", "", bare).rstrip("/\\")
    last = re.split(r"[/\\]", path)[-1]
    if last.endswith(".whl"):
        name, version, _, _ = parse_wheel_filename(last)
        return Pin(str(name), wanted, f"=={version}", str(version))
    name_of_tree = egg[1] if egg else re.sub(r"(\.git)?(@.*)?$", "", last)
    ours = name_of_tree.lower().startswith(("fastchat", FASTCHAT)) or name_of_tree in {"", ".", ".."}
    if ours or wanted & FASTCHAT_EXTRAS:
        return Pin(FASTCHAT, wanted, tree=True)
    return Pin(_name(egg[1]), wanted) if egg else Pin("", fault="which_package")


def _name(name: str) -> str:
    return str(canonicalize_name(name))


# ---- Versions and requirements


@cache
def need_of(line: str) -> Requirement:
    """A stored requirement, read once."""
    return Requirement(line)


@cache
def specifier(text: str) -> SpecifierSet:
    """A specifier, read once."""
    return SpecifierSet(text)


@cache
def admits(text: str, version: Version) -> bool:
    """Whether a specifier admits a version; a local label is no hindrance (2.0.0+cu117 satisfies ==2.0.0)."""
    return specifier(text).contains(version, prereleases=True)


def bound_of(text: str) -> Version | None:
    """The version that a clause names; None where === names something else."""
    try:
        return Version(text.removesuffix(".*"))
    except InvalidVersion:
        return None


@cache
def exclude(one: str, other: str) -> bool:
    """Whether no version at all satisfies both specifiers.

    The least version that satisfies both is a bound of one of them or lies right behind one, so those are tried.
    """
    both = [*specifier(one), *specifier(other)]
    bounds = [bound for part in both if (bound := bound_of(part.version))]
    behind = [
        Version(f"{bound.public}.0.0.0.1") for bound in bounds if not (bound.is_prerelease or bound.is_postrelease)
    ]
    return not any(admits(one, try_) and admits(other, try_) for try_ in (Version("0"), *bounds, *behind))


def needs(release: Release, extras: Iterable[str], environment: Mapping[str, str]) -> Iterator[Requirement]:
    """What a release needs there, with these extras."""
    for line in release.requires_dist:
        need = need_of(line)
        marker: Marker | None = need.marker
        if marker is None or any(marker.evaluate({**environment, "extra": one}) for one in ("", *extras)):
            yield need


def runs(release: Release, python: str) -> bool:
    """Whether a release runs on a Python; ``3.11`` means the last 3.11."""
    full = python if python.count(".") > 1 else f"{python}.99"
    return admits(release.requires_python, Version(full))


def ranges(chosen: Iterable[Version], stored: Sequence[Version]) -> list[Any]:
    """Versions as runs of neighbours among those stored, such as "4.31.0 to 4.33.3"."""
    picked, runs_ = set(chosen), list[list[Version]]()
    before = False
    for one in stored:
        if one in picked and before:
            runs_[-1].append(one)
        elif one in picked:
            runs_.append([one])
        before = one in picked
    return [str(run[0]) if len(run) == 1 else phrase("run", first=run[0], last=run[-1]) for run in runs_]


# ---- The scene


@dataclass(frozen=True)
class Scene:
    """The pins, each package once, on a platform and a Python.

    ``options`` are the stored versions that a package may have here (the one of its pin, or all that its specifier
    admits), newest last; ``today`` is the one that an installer would take now; ``by`` is who brings what is not named.
    """

    metadata: Metadata
    pins: dict[str, Pin]
    python: str
    platform: str
    model: str
    options: dict[str, list[Version]] = field(default_factory=dict)
    today: dict[str, Version] = field(default_factory=dict)
    extras: dict[str, set[str]] = field(default_factory=dict)
    by: dict[str, str] = field(default_factory=dict)
    _needs: dict[tuple[str, Version, frozenset[str]], list[Requirement]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What markers are told."""
        full = self.python if self.python.count(".") > 1 else f"{self.python}.0"
        short = ".".join(self.python.split(".")[:2])
        rest = {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
        return {**PLATFORMS[self.platform], **rest, "python_version": short, "python_full_version": full}

    def release(self, name: str, version: Version) -> Release | None:
        """What is stored of a version, whatever its local label."""
        return self.metadata.releases.get(name, {}).get(Version(version.public))

    def needs(self, name: str, version: Version) -> list[Requirement]:
        """What a version needs here; nothing where nothing is stored."""
        extras = frozenset(self.extras.get(name, ()))
        key = (name, version, extras)
        if key not in self._needs:
            release = self.release(name, version)
            self._needs[key] = list(needs(release, extras, self.environment)) if release else []
        return self._needs[key]

    def on(self, name: str, version: Version, other: str) -> list[Requirement]:
        """Its requirements on one other package."""
        return [need for need in self.needs(name, version) if _name(need.name) == other]

    def describe(self, name: str) -> Phrase:
        """A package as it stands in the text, with the version that is meant."""
        pin, version = self.pins.get(name), self.today.get(name, "?")
        if pin is None:
            return phrase("brought", name=name, by=self.by.get(name, "?"), version=version)
        if pin.tree:
            return phrase("tree", name=name, version=version)
        if pin.version is not None:
            return phrase("exact", name=name, version=pin.version)
        key = "range" if pin.specifier else "unpinned"
        return phrase(key, name=name, spec=pin.specifier, version=version)

    def where(self, name: str) -> Phrase:
        """A package's pin with its line."""
        pin = self.pins.get(name)
        if pin is None:
            return phrase("brought_pin", name=name, by=self.by.get(name, "?"))
        words = f"{name}{pin.specifier}" if pin.specifier else self.describe(name)
        return phrase("pinned", pin=words, line=pin.line) if pin.line else phrase("exact", name=words, version="")

    def brief(self, name: str) -> Phrase:
        """A package with the version that is meant, without how it came here."""
        pin = self.pins.get(name)
        version = pin.version if pin and pin.version else self.today.get(name)
        return phrase("exact", name=name, version=version) if version else self.where(name)


def scene(pins: Sequence[Pin], metadata: Metadata, python: str, platform: str, model: str) -> Scene:
    """Settle which version each package has: first the pinned ones, then the open ones, then what those bring."""
    it = Scene(metadata, {pin.name: pin for pin in pins}, python, platform, model)
    for pin in pins:
        it.extras[pin.name] = set(pin.extras)
        stored = list(metadata.releases.get(pin.name, {}))
        if pin.tree and stored:
            it.options[pin.name] = stored[-1:]
        elif pin.version is not None:
            it.options[pin.name] = [Version(pin.version)]
        elif some := [one for one in stored if admits(pin.specifier, one)]:
            it.options[pin.name] = some
    closed = bool(pins) and all(pin.closed for pin in pins)
    settled = [name for name, some in it.options.items() if len(some) == 1]
    waiting = [name for name in it.options if name not in settled]
    for name in settled:
        it.today[name] = it.options[name][0]
    queue = settled + waiting
    for name in queue:
        if name not in it.today:
            it.today[name] = settle(it, name)
        for need in it.needs(name, it.today[name]) if not closed else []:
            other = _name(need.name)
            it.extras.setdefault(other, set()).update(need.extras)
            if other not in it.pins and other not in it.by and other in metadata.releases:
                it.by[other] = name
                stored = list(metadata.releases[other])
                it.options[other] = [one for one in stored if admits(str(need.specifier), one)] or stored
                queue.append(other)
            elif other not in it.pins:
                it.by.setdefault(other, name)
    return it


def settle(it: Scene, name: str) -> Version:
    """The newest stored version that goes with all that is settled and named; failing that, the newest that may be."""
    asked = [need.specifier for other, version in it.today.items() for need in it.on(other, version, name)]
    for version in reversed(it.options[name]):
        if not all(admits(str(one), version) for one in asked):
            continue
        if _runs(it, name, version) and not any(_against(it, need) for need in it.needs(name, version)):
            return version
    wanted = [one for one in it.options[name] if all(admits(str(spec), one) for spec in asked)]
    return (wanted or it.options[name])[-1]


def _runs(it: Scene, name: str, version: Version) -> bool:
    release = it.release(name, version)
    return release is None or runs(release, it.python)


def _against(it: Scene, need: Requirement) -> bool:
    """Whether a requirement is against what is pinned or settled."""
    other = _name(need.name)
    if other in it.today:
        return not admits(str(need.specifier), it.today[other])
    pin = it.pins.get(other)
    return pin is not None and exclude(str(need.specifier), pin.specifier)


# ---- Finding


def find(
    pins: Sequence[Pin],
    metadata: Metadata,
    python: str = "3.11",
    platform: str = "linux-64",
    *,
    model: str = "",
) -> list[Contradiction]:
    """All that is wrong with the pins; contradictions first, then known problems, then notes.

    ``platform`` is a key of PLATFORMS; ``model``, where given, is the model that is to run there.
    """
    marks = Scene(metadata, {}, python, platform, model).environment
    here = [pin for pin in pins if pin.name and (not pin.marker or Marker(pin.marker).evaluate({**marks, "extra": ""}))]
    faults = [
        found(metadata.rule("line"), {"line": pin.line, "text": pin.text, "reason": phrase(pin.fault)})
        for pin in pins
        if pin.fault
    ]
    merged, twice = merge(here, metadata)
    it = scene(merged, metadata, python, platform, model)
    rules = (pairs, pythons, thirds, problems, unknown)
    all_ = [*faults, *twice, *(one for rule in rules for one in rule(it))]
    return sorted(all_, key=lambda one: KINDS.index(one.kind))


def merge(pins: Iterable[Pin], metadata: Metadata) -> tuple[list[Pin], list[Contradiction]]:
    """Each package once, its lines put together; and the lines that exclude each other, of which the first counts."""
    kept: dict[str, Pin] = {}
    twice = []
    for pin in pins:
        first = kept.get(pin.name)
        if first is None:
            kept[pin.name] = pin
        elif exclude(first.specifier, pin.specifier):
            both = [phrase("pinned", pin=f"{one.name}{one.specifier}", line=one.line) for one in (first, pin)]
            ways = [phrase("keep", pins=both)]
            twice.append(found(metadata.rule("twice"), {"name": pin.name, "one": both[0], "other": both[1]}, ways))
        else:
            exact = first if first.version or not pin.version else pin
            spec = exact.specifier if exact.version else ",".join(filter(None, (first.specifier, pin.specifier)))
            kept[pin.name] = replace(
                exact,
                extras=first.extras | pin.extras,
                specifier=spec,
                tree=(first.tree or pin.tree) and not exact.version,
            )
    return list(kept.values()), twice


def pairs(it: Scene) -> Iterator[Contradiction]:
    """Packages that need another version of a package than the text pins."""
    for name, some in it.options.items():
        for whom, pin in it.pins.items():
            wanted = str(_meant(it, whom) or pin.specifier)
            caught = [[need for need in it.on(name, one, whom) if exclude(str(need.specifier), wanted)] for one in some]
            if name == whom or not caught or not all(caught):
                continue
            newest = caught[some.index(it.today[name])]
            values = {
                "who": it.describe(name),
                "requirement": f"{whom}{newest[0].specifier}",
                "whom": it.where(whom),
            }
            yield found(it.metadata.rule("requirement"), values, ways_of_pair(it, name, whom))


def _meant(it: Scene, name: str) -> str:
    """The specifier of a source tree, which the text does not give."""
    return f"=={it.today[name]}" if it.pins[name].tree and name in it.today else ""


def ways_of_pair(it: Scene, who: str, whom: str) -> list[Phrase]:
    """Which stored versions of the one and of the other would go together with everything else."""
    ways = []
    stored = list(it.metadata.releases.get(whom, {}))
    fitting = [one for one in stored if fits(it, whom, one)]
    if fitting:
        ways.append(counted("satisfy", ranges(fitting, stored), package=whom, who=it.brief(who)))
        for model in sorted({one.with_model for one in it.metadata.known} - {"", it.model}):
            narrower = [one for one in fitting if not troubles(replace(it, model=model), whom, one)]
            if narrower and narrower != fitting:
                versions = ranges(narrower, stored)
                ways.append(phrase("satisfy_model", model=model, package=whom, versions=versions))
    mine = list(it.metadata.releases.get(who, {}))
    # A release that does not name the package says nothing on whether it works with it.
    others = [one for one in mine if it.on(who, one, whom) and fits(it, who, one)]
    if others and who in it.pins:
        ways.append(counted("admit", ranges(others, mine), package=who, whom=it.brief(whom)))
    return ways or [phrase("none")]


def fits(it: Scene, name: str, version: Version) -> bool:
    """Whether a version would go together with all that is named or brought in, and bring no known problem."""
    for other, some in it.options.items():
        if other != name and not any(_admitted(it, other, one, name, version) for one in some):
            return False
    for need in it.needs(name, version):
        pin = it.pins.get(_name(need.name))
        if pin is not None and exclude(str(need.specifier), _meant(it, pin.name) or pin.specifier):
            return False
    return _runs(it, name, version) and not troubles(it, name, version)


def _admitted(it: Scene, other: str, one: Version, name: str, version: Version) -> bool:
    return all(admits(str(need.specifier), version) for need in it.on(other, one, name))


def troubles(it: Scene, name: str, version: Version) -> bool:
    """Whether a known problem names this version of the package, with the others as they are.

    An absent package is no trouble of a version: it can be added.
    """
    changed = replace(it, today={**it.today, name: version})
    return any(name in when for one, when in matching(changed) if one.kind != NOTE and not one.absent)


def pythons(it: Scene) -> Iterator[Contradiction]:
    """Packages that do not run on this Python."""
    for name, some in it.options.items():
        newest = it.today[name]
        release = it.release(name, newest)
        if release is None or any(_runs(it, name, one) for one in some):
            continue
        stored = it.metadata.releases[name]
        who = it.describe(name)
        own = [one for one in PYTHONS if runs(release, one)]
        suits = [one for one in stored if runs(stored[one], it.python)]
        ways = []
        if own:
            ways.append(
                phrase("python", who=it.brief(name), versions=ranges(map(Version, own), list(map(Version, PYTHONS))))
            )
        if suits:
            ways.append(counted("series", ranges(suits, list(stored)), package=name, python=it.python))
        values = {"who": who, "requirement": release.requires_python, "python": it.python}
        yield found(it.metadata.rule("python"), values, ways or [phrase("none")])


def thirds(it: Scene) -> Iterator[Contradiction]:
    """Two packages whose needs of a third one, which has no pinned version, exclude each other."""
    named = [name for name in it.options if name in it.pins]
    for who, whom in combinations(named, 2):
        clashes = [_clash(it, (who, one), (whom, other)) for one in it.options[who] for other in it.options[whom]]
        if not clashes or not all(clashes):
            continue
        clash = _clash(it, (who, it.today[who]), (whom, it.today[whom]))
        if clash is None:
            continue
        third, one_need, other_need = clash
        values = {
            "who": it.describe(who),
            "whom": it.describe(whom),
            "third": third,
            "one": f"{third}{one_need}",
            "other": f"{third}{other_need}",
        }
        yield found(it.metadata.rule("third"), values, ways_of_third(it, who, whom, third))


def _clash(it: Scene, one: tuple[str, Version], other: tuple[str, Version]) -> tuple[str, str, str] | None:
    """The first open package on which two versions do not agree, with both specifiers."""
    mine = it.needs(*one)
    for need in it.needs(*other):
        third = _name(need.name)
        pin = it.pins.get(third)
        if pin is not None and (pin.version is not None or pin.tree):
            continue
        for own in mine:
            if _name(own.name) == third and exclude(str(own.specifier), str(need.specifier)):
                return third, str(own.specifier), str(need.specifier)
    return None


def ways_of_third(it: Scene, who: str, whom: str, third: str) -> list[Phrase]:
    """Versions of either that agree with the other; else, or as well, two environments."""
    ways = []
    for moved, kept in ((who, whom), (whom, who)):
        stored = list(it.metadata.releases.get(moved, {}))
        # A release that does not need the third package may lack what it is needed for.
        asking = [one for one in stored if it.on(moved, one, third) and fits(it, moved, one)]
        agreed = [one for one in asking if _clash(it, (moved, one), (kept, it.today[kept])) is None]
        if agreed:
            ways.append(counted("satisfy", ranges(agreed, stored), package=moved, who=it.brief(kept)))
    return [*ways, phrase("apart", who=who, whom=whom)]


def matching(it: Scene) -> Iterator[tuple[Known, Mapping[str, str]]]:
    """The known problems whose conditions hold, each with the alternative that does."""
    for one in it.metadata.known:
        if one.rule or one.with_model not in ("", it.model) or one.platform not in ("", it.platform):
            continue
        present = set(it.pins) | set(it.by)
        if present & set(one.absent) or any(it.today[name].local for name in one.untagged if name in it.today):
            continue
        for when in one.when:
            if all(name in it.today and admits(spec, it.today[name]) for name, spec in when.items()):
                yield one, when
                break


def problems(it: Scene) -> Iterator[Contradiction]:
    """Problems that metadata does not tell."""
    for one, when in matching(it):
        values = {name.replace("-", "_"): it.describe(name) for name in when}
        first = it.describe(next(iter(when)))
        yield found(one, {"package": first, "model": it.model, **values})


def unknown(it: Scene) -> Iterator[Contradiction]:
    """A note on named packages, or versions, of which nothing is stored."""
    names = []
    for name, pin in it.pins.items():
        version = it.today.get(name)
        if version is None or it.release(name, version) is None:
            names.append(f"{name} {pin.version}" if pin.version and name in it.metadata.releases else name)
    if names:
        yield found(it.metadata.rule("unknown"), {"names": names, "count": len(names)})
