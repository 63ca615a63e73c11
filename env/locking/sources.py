"""What is locked: the control node's four sets, and the stacks, each for every torch build and platform."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from labwright import catalog
from locking.fitting import GLIBC_MINOR
from locking.problem import LockError

TORCH = "torch"
PLATFORMS = ("linux-64", "win-64")
AS_OF = re.compile(r"^# as-of: (\d{4}-\d{2}-\d{2})$", re.MULTILINE)


@dataclass(frozen=True)
class Layer:
    """One lock file of a closure. `roots` are the packages whose needs it holds; empty: whatever no other layer holds.

    A stack's files are named after role, torch build and platform; the control node's have a `lock` of their own.
    """

    role: str
    roots: tuple[str, ...] = ()
    lock: str = ""


@dataclass(frozen=True)
class Waiver:
    """A requirement that a package states and the lock does not meet: what stands in its place, and why."""

    package: str
    requirement: str
    instead: str
    reason: str


@dataclass(frozen=True)
class Source:
    """What one or several closures are made from. `python` is the stack's CPython minor version, or None for the
    control node's range; `builds` is torch's release by tag; `glibc` is the oldest C library 2.x that it is for."""

    name: str
    folder: Path
    inputs: tuple[str, ...]
    layers: tuple[Layer, ...]
    python: int | None = None
    platforms: tuple[str, ...] = ("",)
    builds: Mapping[str, str] = field(default_factory=dict)
    waivers: tuple[Waiver, ...] = ()
    constraints: tuple[str, ...] = ()
    no_deps: bool = False
    glibc: int = GLIBC_MINOR

    def closures(self) -> list[Closure]:
        """Each closure that this source asks for."""
        return [Closure(self, tag, platform) for platform in self.platforms for tag in self.builds or [""]]

    def digest(self) -> str:
        """The sha256 over everything that the locks depend on, the package index aside."""
        digest = hashlib.sha256()
        for name in self.inputs:
            content = self.text_of(name).encode()
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
        if self.python is not None:
            what = {
                "python": self.python,
                "platforms": self.platforms,
                "builds": dict(self.builds),
                "layers": [(layer.role, layer.roots) for layer in self.layers],
                "waivers": [(one.package, one.requirement, one.instead) for one in self.waivers],
                **({} if self.glibc == GLIBC_MINOR else {"glibc": self.glibc}),
            }
            digest.update(json.dumps(what, sort_keys=True).encode())
        return digest.hexdigest()

    def as_of(self) -> str:
        """The day after which nothing counts that was published: what makes the same sources give the same locks."""
        found = AS_OF.search(self.text_of(self.inputs[0]))
        if found is None:
            raise LockError(
                f"LW-LOCK-008: {self.folder / self.inputs[0]} has no line `# as-of: YYYY-MM-DD`. Add one: the newest "
                "releases of that day are locked, today and next year."
            )
        return found[1]

    def text_of(self, name: str) -> str:
        """An input's text."""
        path = self.folder / name
        if not path.is_file():
            raise LockError(f"LW-LOCK-002: {path} is missing, but {self.name} is locked from it.")
        return path.read_text(encoding="utf-8")


@dataclass(frozen=True)
class Closure:
    """A set of packages that is resolved once: a source for one torch build (tag, "" without torch) and one platform
    ("" for the control node's, which serve several)."""

    source: Source
    tag: str
    platform: str

    @property
    def name(self) -> str:
        """As people call it: chatglm2 cu118 win-64."""
        return " ".join(part for part in (self.source.name, self.tag, self.platform) if part)

    def tagged(self, layer: Layer) -> bool:
        """Whether this layer differs from build to build."""
        return TORCH in layer.roots

    def path(self, layer: Layer) -> Path:
        """The layer's lock file."""
        parts = [layer.role, self.tag if self.tagged(layer) else "", self.platform]
        return self.source.folder / (layer.lock or "-".join(part for part in parts if part) + ".txt")

    def pin(self) -> str:
        """The torch that it is for ("" without)."""
        return f"{TORCH}=={self.source.builds[self.tag]}" if self.tag else ""


def control_sources(env: Path) -> list[Source]:
    """The control node's locks; `develop` may not contradict the first."""
    folder = env / "control"
    first = "requirements.txt"
    not_windows = (Waiver("pyspnego", "sspilib", "sspilib; python_version < '3'", "For Windows only."),)
    return [
        Source("requirements", folder, ("requirements.in",), (Layer("control", lock=first),), waivers=not_windows),
        Source(
            "develop",
            folder,
            ("requirements.in", "develop.in"),
            (Layer("develop", lock="develop.txt"),),
            waivers=not_windows,
            constraints=(first,),
        ),
        Source("docs", folder, ("docs.in",), (Layer("docs", lock="docs.txt"),)),
        Source(
            "conda-lock",
            env / "conda",
            ("tools.in",),
            (Layer("conda-lock", lock="tools.txt"),),
            waivers=(Waiver("conda-lock", "xattr", "xattr; python_version < '3'", "For macOS only."),),
        ),
        Source(
            "collections", folder, ("collections.in",), (Layer("collections", lock="collections.txt"),), no_deps=True
        ),
    ]


def read_stack(path: Path) -> Source:
    """Read a `stack.yml`; raise LockError when it lacks what a lock needs."""
    stack = catalog.read(path)
    try:
        return Source(
            name=str(stack["name"]),
            folder=path.parent,
            inputs=("stack.in",),
            layers=tuple(Layer(row["role"], tuple(row.get("roots", ()))) for row in stack["layers"]),
            python=int(str(stack["python"]).removeprefix("3.")),
            platforms=tuple(stack["platforms"]),
            builds={str(tag): str(release) for tag, release in stack.get("builds", {}).items()},
            waivers=tuple(Waiver(**row) for row in stack.get("waivers", [])),
            glibc=int(str(stack.get("glibc", f"2.{GLIBC_MINOR}")).removeprefix("2.")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LockError(
            f"LW-LOCK-001: {path} is not a stack: {error!r}. It needs name, python ('3.11'), platforms and layers "
            "(role, roots); copy the form of env/stacks/chatglm2/stack.yml."
        ) from error


def all_sources(env: Path) -> list[Source]:
    """Everything that is locked, in the order in which it must be."""
    stacks = [*sorted((env / "stacks").glob("*/stack.yml")), env / "agents" / "stack.yml"]
    return control_sources(env) + [read_stack(path) for path in stacks]
