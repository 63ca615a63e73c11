"""What may be installed, read from ``env/`` and from the bundle's manifest. Reading only; nothing is chosen here."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hostkit.result import Problem

HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Layer:
    """One pip layer of a stack: the role that installs it and the text of its lock."""

    role: str
    requirements: str

    def pins(self) -> list[tuple[str, list[str]]]:
        """Each pinned package (``name==version``) with the sha256 sums that the lock admits."""
        joined = self.requirements.replace("\\\n", " ")
        lines = [line.strip() for line in joined.splitlines() if "==" in line and not line.lstrip().startswith("#")]
        return [(line.split()[0], HASH.findall(line)) for line in lines]

    def digest(self) -> str:
        """The lock's identity: comments do not count."""
        text = "\n".join(f"{pin} {' '.join(sorted(sums))}" for pin, sums in self.pins())
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Stack:
    """A set of versions that work together: its Python, its CUDA tag and its layers in order."""

    name: str
    python: str
    tags: tuple[str, ...]
    layers: tuple[Layer, ...]
    why: str = ""


@dataclass(frozen=True)
class Catalogue:
    """Everything that the plan may choose from."""

    stacks: dict[str, Stack]
    models: dict[str, dict[str, Any]]
    installers: list[dict[str, Any]]
    conda: list[dict[str, Any]]
    manifest: dict[str, Any] | None = None
    by_sum: dict[str, str] = field(default_factory=dict)


def load(env: Path, bundle: Path | None) -> Catalogue:
    """Read the catalogue below ``env``; with ``bundle``, the manifest of what it holds."""
    folders = [*sorted((env / "stacks").iterdir()), env / "agents"]
    stacks = [stack_of(folder) for folder in folders if (folder / "stack.yml").is_file()]
    manifest = manifest_of(bundle) if bundle else None
    return Catalogue(
        stacks={stack.name: stack for stack in stacks},
        models={entry["name"]: entry for entry in rows(env / "catalog" / "models.yml")},
        installers=rows(env / "catalog" / "installers.yml"),
        conda=rows(env / "stacks" / "chatglm2" / "conda-linux-64.yml"),
        manifest=manifest,
        by_sum={entry["sha256"]: path for path, entry in (manifest or {"files": {}})["files"].items()},
    )


def rows(path: Path) -> list[dict[str, Any]]:
    """A YAML file that is a list of objects, bare or under one key."""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    if isinstance(found, dict):
        found = next(value for value in found.values() if isinstance(value, list))
    return list(found)


def stack_of(folder: Path) -> Stack:
    """One stack folder."""
    raw = yaml.safe_load((folder / "stack.yml").read_text(encoding="utf-8"))
    layers = tuple(Layer(row["role"], (folder / row["lock"]).read_text(encoding="utf-8")) for row in raw["layers"])
    tags = tuple(str(row["tag"]) for row in raw["layers"] if "tag" in row)
    return Stack(str(raw["name"]), str(raw["python"]), tags, layers, str(raw.get("why", "")))


def manifest_of(bundle: Path) -> dict[str, Any]:
    """The bundle's manifest."""
    path = bundle / "manifest.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Problem(
            "LW-BUNDLE-001",
            f"no readable manifest at {path} ({error}). Make the bundle with `ansible-playbook playbooks/bundle.yml`, "
            f"or leave lab_bundle_url empty to let hosts fetch from the internet.",
        ) from error
    number = found.get("format") if isinstance(found, dict) else None
    if number != 1:
        raise Problem("LW-BUNDLE-002", f"{path} has format {number!r}; expected 1. Make it again with this version.")
    return dict(found)
