"""What may be installed, read from ``env/`` and from the bundle's manifest. Reading only; nothing is chosen here."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from hostkit.result import Problem

NO_LAST = 1 << 16  # a driver branch that is far off
FASTCHAT = "fastchat"  # the engine that is meant where none is named
ENTRIES = re.compile(r"^# entries-sha256: ([0-9a-f]{64})$", re.MULTILINE)
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Layer:
    """One pip layer of a stack: the role that installs it and the text of its lock."""

    role: str
    requirements: str

    @cached_property
    def pins(self) -> list[tuple[str, list[str]]]:
        """Each pinned package (``name==version``) with the sha256 sums that the lock admits."""
        joined = self.requirements.replace("\\\n", " ")
        lines = [line.strip() for line in joined.splitlines() if "==" in line and not line.lstrip().startswith("#")]
        return [(line.split()[0], HASH.findall(line)) for line in lines]

    @cached_property
    def digest(self) -> str:
        """The lock's identity: comments do not count."""
        text = "\n".join(f"{pin} {' '.join(sorted(sums))}" for pin, sums in self.pins)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Lock:
    """A layer's lock with what it is for: "" means any tag, any platform."""

    layer: Layer
    tag: str = ""
    platform: str = ""


@dataclass(frozen=True)
class Stack:
    """A set of versions that work together. ``torch`` is what it admits, as a version specifier, and ``transformers``
    its one version; both are "" where no model is served with it. ``glibc`` is the oldest C library that it runs on,
    "" where that is no question."""

    name: str
    python: str
    locks: tuple[Lock, ...] = ()
    why: str = ""
    torch: str = ""
    transformers: str = ""
    engine: str = FASTCHAT
    glibc: str = ""

    def layers(self, tag: str, platform: str) -> list[Layer]:
        """The layers for one build and platform, in order; empty where a lock is missing."""
        roles = list(dict.fromkeys(lock.layer.role for lock in self.locks))
        fits = [one for one in self.locks if one.tag in ("", tag) and one.platform in ("", platform)]
        found = {one.layer.role: one.layer for one in fits}
        return [found[role] for role in roles] if len(found) == len(roles) else []

    @cached_property
    def locked(self) -> frozenset[tuple[str, str]]:
        """(platform, torch build) for which every layer has a lock, such as ("linux-64", "2.13.0+cpu")."""
        found = set()
        for lock in self.locks:
            for pin, _sums in lock.layer.pins:
                name, _, version = pin.partition("==")
                if name == "torch" and self.layers(lock.tag, lock.platform):
                    found.add((lock.platform, version if "+" in version else f"{version}+{lock.tag}"))
        return frozenset(found)


@dataclass(frozen=True)
class Engine:
    """A program that serves models. ``capability`` is the lowest compute capability ("": the torch build decides),
    ``models`` says of models whether it has them and why (None: all, as the catalogue says), and ``conversations`` is
    the most at a time in one worker. ``server``: it stands behind a bridge, on a port of its own; ``shared``: all
    conversations take one pass; ``reserves``: it takes a share of its cards at its start; ``heads``: over several
    cards, their number divides the attention heads."""

    name: str
    platforms: tuple[str, ...] = ("linux-64", "win-64")
    devices: tuple[str, ...] = ("cpu", "cuda")
    quantizations: tuple[str, ...] = ("fp32", "bf16", "fp16", "int8", "int4")
    capability: str = ""
    models: Mapping[str, Mapping[str, Any]] | None = None
    conversations: int = 5
    server: bool = False
    shared: bool = False
    reserves: bool = False
    heads: bool = False
    packages: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def has(self, model: str) -> bool:
        """Whether it has a model of the catalogue."""
        return self.models is None or bool(self.models.get(model, {}).get("runs"))


@dataclass(frozen=True)
class Gpus:
    """Compute capability by product name, for drivers that do not tell it; and the names that come only on a board with
    an ARM processor."""

    names: Mapping[str, str] = field(default_factory=dict)  # lower-case base name -> "8.6"
    arm: frozenset[str] = frozenset()

    def base(self, product: str) -> str:
        """The longest known name that the product's name starts with, at a word's end; "" where none does."""
        name = product.lower().removeprefix("nvidia ").strip()
        fits = [one for one in self.names if name.startswith(one) and name[len(one) : len(one) + 1] in ("", " ", "-")]
        return max(fits, key=len, default="")

    def capability(self, product: str) -> str:
        """Its compute capability; "" where no name fits."""
        return self.names.get(self.base(product), "")


@dataclass(frozen=True)
class Floor:
    """The lowest driver for something, by platform; None: NVIDIA names none."""

    cuda: str
    drivers: Mapping[str, str | None]


@dataclass(frozen=True)
class Release:
    """One torch release with the CUDA tags it was built for."""

    torch: str
    torchvision: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class TorchTable:
    """torch releases, the architectures in their builds, drivers, and the wheels whose sum is known."""

    floors: Mapping[int, Floor] = field(default_factory=dict)
    announced: tuple[Floor, ...] = ()
    releases: tuple[Release, ...] = ()
    architectures: Mapping[tuple[str, str], frozenset[int]] = field(default_factory=dict)  # (release, tag) -> {75, …}
    wheels: frozenset[tuple[str, str, str, str]] = frozenset()  # (release, tag, platform, python)
    disk_mib: Mapping[str, int] = field(default_factory=lambda: {"cpu": 0, "cuda": 0})  # of an environment
    branches: tuple[tuple[tuple[int, ...], tuple[int, ...], int, int], ...] = ()  # capabilities, driver branches

    def branch(self, capability: str) -> tuple[int, int] | None:
        """The first and the last driver branch that drive a card, as far as it is known."""
        own = tuple(map(int, capability.split(".")))
        return next((row[2:] for row in self.branches if row[0] <= own <= row[1]), None)


@dataclass(frozen=True)
class Catalogue:
    """Everything that the plan may choose from."""

    stacks: dict[str, Stack]
    models: dict[str, dict[str, Any]]
    installers: list[dict[str, Any]]
    conda: Mapping[str, list[dict[str, Any]]]  # platform -> the interpreter's packages, in the order of installing
    manifest: dict[str, Any] | None = None
    by_sum: dict[str, str] = field(default_factory=dict)
    torch: TorchTable = field(default_factory=TorchTable)
    gpus: Gpus = field(default_factory=Gpus)
    mirrors: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # by profile, as in lab_mirrors
    engines: Mapping[str, Engine] = field(default_factory=lambda: {FASTCHAT: Engine(FASTCHAT)})

    @property
    def serving(self) -> list[Stack]:
        """The stacks that models are served with."""
        return [one for one in self.stacks.values() if one.transformers]


def load(env: Path, bundle: Path | None) -> Catalogue:
    """Read the catalogue below ``env``; with ``bundle``, the manifest of what it holds."""
    folders = [*sorted((env / "stacks").iterdir()), env / "agents"]
    stacks = [stack_of(folder) for folder in folders if (folder / "stack.yml").is_file()]
    manifest = manifest_of(bundle) if bundle else None
    profiles = checked(env, "mirrors")
    return Catalogue(
        stacks={stack.name: stack for stack in stacks},
        models={entry["name"]: entry for entry in checked(env, "models")},
        installers=checked(env, "installers"),
        conda=conda_of(env),
        manifest=manifest,
        by_sum={entry["sha256"]: path for path, entry in (manifest or {"files": {}})["files"].items()},
        torch=torch_of(checked(env, "torch"), checked(env, "wheels")),
        gpus=gpus_of(checked(env, "gpus")),
        mirrors={row["name"]: {key: one["address"] for key, one in row["mirrors"].items()} for row in profiles},
        engines={one.name: one for one in (engine_of(env, path) for path in sorted((env / "engines").glob("*.yml")))},
    )


def read(path: Path) -> Any:
    """A YAML file; with libyaml where PyYAML has it, for the long ones."""
    try:
        text = path.read_text(encoding="utf-8")
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - it is a safe one
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Problem(
            "LW-CAT-001", f"{path} cannot be read ({error}); expected YAML. Restore it from the repository."
        ) from error


def checked(env: Path, name: str) -> Any:
    """One file of the catalogue, as its JSON schema wants it."""
    return fitting(env, env / "catalog" / f"{name}.yml", name)


def fitting(env: Path, path: Path, name: str) -> Any:
    """A file as the JSON schema ``name`` wants it."""
    found = read(path)
    schema = json.loads((env / "catalog" / "schema" / f"{name}.schema.json").read_text(encoding="utf-8"))
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(found))
    if error is not None:
        where = "/".join(str(part) for part in error.absolute_path) or "its top"
        raise Problem(
            "LW-CAT-002",
            f"env/{path.relative_to(env)}, at {where}: {error.message[:300]}. Mend the entry; "
            f"env/catalog/schema/{name}.schema.json says what is expected.",
        )
    return found


def engine_of(env: Path, path: Path) -> Engine:
    """One engine."""
    raw = fitting(env, path, "engine")
    return Engine(
        name=raw["name"],
        platforms=tuple(raw["platforms"]),
        devices=tuple(raw["devices"]),
        quantizations=tuple(raw["quantizations"]),
        capability=raw.get("compute_capability", ""),
        models=raw.get("models"),
        conversations=raw["conversations"],
        server=raw["server"],
        shared=raw["passes"] == "shared",
        reserves=raw["memory"] == "share",
        heads=raw["cards"] == "heads",
        packages=raw.get("packages", {}),
    )


def torch_of(table: dict[str, Any], wheels: dict[str, Any]) -> TorchTable:
    """The torch table, with the architectures of each build spelt out; a build without them is a hole."""
    releases = tuple(
        Release(str(row["torch"]), str(row["torchvision"] or ""), tuple(row["tags"])) for row in table["releases"]
    )
    architectures = {}
    for release in releases:
        for tag in release.tags:
            if tag == "cpu":
                continue
            row = next((one for one in table["architectures"] if one["tag"] == tag and within(release, one)), None)
            if row is None:
                raise Problem(
                    "LW-CAT-003",
                    f"env/catalog/torch.yml: no architectures for torch {release.torch}+{tag}; expected a row that "
                    f"covers it. Add one with its source, or take {tag} from that release's tags.",
                )
            architectures[release.torch, tag] = frozenset(row["sm"])
    floors = {int(row["cuda"]): floor_of(row) for row in table["minor_version_compatibility"]}
    for tag in {tag for release in releases for tag in release.tags if tag != "cpu"}:
        if int(tag[2:-1]) not in floors:
            raise Problem(
                "LW-CAT-003",
                f"env/catalog/torch.yml: no lowest driver for CUDA {tag[2:-1]}, which {tag} needs; expected a row in "
                f"minor_version_compatibility. Add one with its source.",
            )
    return TorchTable(
        floors=floors,
        announced=tuple(floor_of(row) for row in table["announced"]),
        releases=releases,
        architectures=architectures,
        wheels=frozenset(
            (str(row["version"]), row["tag"], row["platform"], str(row["python"]))
            for row in wheels["wheels"]
            if row["name"] == "torch"
        ),
        branches=tuple(
            (numbers(row["capability"][0]), numbers(row["capability"][1]), row["first"] or 0, row["last"] or NO_LAST)
            for row in table["driver_branches"]
        ),
        disk_mib={kind: int(row["mib"]) for kind, row in table["disk_mib"].items()},
    )


def numbers(text: str) -> tuple[int, ...]:
    """ "8.6" as (8, 6)."""
    return tuple(map(int, str(text).split(".")))


def within(release: Release, row: Mapping[str, Any]) -> bool:
    """Whether a release lies in a row's range of minor releases."""
    first, last = (tuple(map(int, str(one).split("."))) for one in row["torch"])
    return first <= tuple(map(int, release.torch.split(".")[:2])) <= last


def floor_of(row: Mapping[str, Any]) -> Floor:
    """One row of lowest drivers."""
    return Floor(str(row["cuda"]), {platform: row.get(platform) for platform in ("linux-64", "win-64")})


def gpus_of(table: dict[str, Any]) -> Gpus:
    """The names in lower case."""
    rows = [(name.lower(), row) for row in table["gpus"] for name in row["names"]]
    return Gpus(
        {name: str(row["compute_capability"]) for name, row in rows},
        frozenset(name for name, row in rows if "processor" in row),
    )


def conda_of(env: Path) -> dict[str, list[dict[str, Any]]]:
    """Each platform's locked conda packages as the catalogue has them, each after what it depends on."""
    path, records = env / "conda" / "conda-lock.yml", {row["url"]: row for row in checked(env, "conda")["packages"]}
    found: dict[str, dict[str, dict[str, Any]]] = {}
    try:
        locked = [(one["platform"], one["url"], one["hash"]["sha256"]) for one in read(path)["package"]]
    except (KeyError, TypeError) as error:
        raise Problem("LW-CAT-004", f"{path} is not what conda-lock writes ({error!r}). Run `make lock`.") from error
    for platform, url, digest in locked:
        row = records.get(url)
        if row is None or row["sha256"] != digest:
            raise Problem(
                "LW-CAT-004",
                f"{path}: {url} with sha256 {digest}; expected the sum in env/catalog/conda.yml "
                f"({row['sha256'] if row else 'it has none'}). Run `make lock`.",
            )
        found.setdefault(platform, {})[row["name"]] = row
    return {
        platform: [rows[name] for name in in_order({one: [s.split()[0] for s in rows[one]["depends"]] for one in rows})]
        for platform, rows in found.items()
    }


def in_order(packages: Mapping[str, Sequence[str]]) -> list[str]:
    """Package names so that each stands after what it depends on; names that are no packages are left out."""
    done: list[str] = []
    waiting = dict(packages)
    while waiting:
        free = sorted(n for n, needs in waiting.items() if not any(x in waiting and x != n for x in needs))
        # A circle (pip and setuptools of old) is broken at its first name; an explicit installation does not mind.
        for name in free or sorted(waiting)[:1]:
            done.append(name)
            del waiting[name]
    return done


def stack_of(folder: Path) -> Stack:
    """One stack folder."""
    raw = read(folder / "stack.yml")
    return Stack(
        name=str(raw["name"]),
        python=str(raw["python"]),
        locks=tuple(locks_of(folder, raw)),
        why=str(raw.get("why", "")),
        torch=str(raw.get("torch", "")),
        transformers=str(raw.get("transformers", "")),
        engine=str(raw.get("engine", FASTCHAT)),
        glibc=str(raw.get("glibc", "")),
    )


def locks_of(folder: Path, raw: Mapping[str, Any]) -> Iterator[Lock]:
    """The locks that are there, named after role, torch build and platform; the layer with torch has one a build."""
    for platform in raw["platforms"]:
        for row in raw["layers"]:
            for tag in raw["builds"] if "torch" in row.get("roots", ()) else [""]:
                path = folder / ("-".join(part for part in (row["role"], tag, platform) if part) + ".txt")
                if path.is_file():
                    yield Lock(Layer(row["role"], lock_of(path)), tag, platform)


def lock_of(path: Path) -> str:
    """A lock's text; one that was changed since it was made is refused."""
    text = path.read_text(encoding="utf-8")
    if not unchanged(text):
        raise Problem(
            "LW-CAT-005",
            f"{path} is not as it was locked: its entries do not have the sum in its head. Restore it from the "
            "repository, or make it anew with `make lock`.",
        )
    return text


def unchanged(lock: str) -> bool:
    """Whether a lock's entries have the sum that its head says."""
    found = ENTRIES.search(lock)
    return found is not None and found[1] == entries_digest(lock)


def entries_digest(lock: str) -> str:
    """The sha256 over a lock's entries, comments aside: it tells a lock that was made from one that was changed."""
    lines = [line for line in lock.splitlines() if line and not line.startswith("#")]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def manifest_of(bundle: Path) -> dict[str, Any]:
    """The bundle's manifest."""
    path = bundle / "manifest.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Problem(
            "LW-BUNDLE-001",
            f"no readable manifest at {path} ({error}). Make the bundle with `ansible-playbook playbooks/bundle.yml`, "
            f"set lab_bundle_dir to where it lies, or leave lab_bundle_url empty to let hosts fetch from the internet.",
        ) from error
    number = found.get("format") if isinstance(found, dict) else None
    if number != 1:
        raise Problem("LW-BUNDLE-002", f"{path} has format {number!r}; expected 1. Make it again with this version.")
    return dict(found)
