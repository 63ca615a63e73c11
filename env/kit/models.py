"""Collect model files: those kept in the repository always, those of a hub only when named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kit.fetch import fetch, mirrored
from kit.files import digest_of
from kit.problem import Problem

HUGGING_FACE = "https://huggingface.co/"
MODELSCOPE = "https://www.modelscope.cn/"
NONE: Mapping[str, str] = {}
Found = dict[str, tuple[Path, str]]


def read_catalogue(path: Path) -> list[dict[str, Any]]:
    """Return the catalogue's entries; none where the file is not there."""
    if not path.is_file():
        return []
    entries = yaml.safe_load(path.read_text(encoding="utf-8")) or []
    if isinstance(entries, dict):
        entries = entries.get("models", [])
    return [dict(entry) for entry in entries]


def checkpoints(entries: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Return all that can be named: models, and their packed variants (`NAME-int4`), each a repository of its own.

    Nobody said where else than at the hub a variant is.
    """
    for entry in entries:
        yield entry
        for kind, packed in entry.get("variants", {}).items():
            form = f"{HUGGING_FACE}{packed['repository']}/resolve/{{revision}}/{{path}}"
            yield {**packed, "name": f"{entry['name']}-{kind}", "sources": [{"files_url": form}]}


def from_repository(entry: dict[str, Any], root: Path) -> Found:
    """Return the files of a model that the repository carries, each checked by its sum."""
    found: Found = {}
    for file in entry["files"]:
        source = root / entry["bundled"] / file["path"]
        digest = digest_of(source) if source.is_file() else "none (it is missing)"
        if digest != file["sha256"]:
            raise Problem(
                f"LW-BUNDLE-040: {entry['bundled']}/{file['path']}: sha256 {digest}, env/catalog/models.yml says "
                f"{file['sha256']}. Restore the file with git, or train the model anew and write the new sum there."
            )
        found[f"models/{entry['name']}/{file['path']}"] = (source, digest)
    return found


def addresses(entry: dict[str, Any], file: dict[str, Any], mirrors: Mapping[str, str] = NONE) -> list[str]:
    """Return the addresses of a hub model's file: its own `url`, else each source's `files_url` with the path in it.

    A file without a known sum may only come from a source that pins the revision. `mirrors` maps a hub to the address
    that stands for it; those that have one come first.
    """
    if "url" in file:
        return [str(file["url"])]
    forms = [str(s["files_url"]) for s in entry.get("sources", []) if isinstance(s, dict) and "files_url" in s]
    usable = [form for form in forms if file.get("sha256") or "{revision}" in form]
    filled = [form.format(path=file["path"], revision=entry.get("revision", "main")) for form in usable]
    filled.sort(key=lambda url: not any(url.startswith(hub) for hub, mirror in mirrors.items() if mirror))
    for hub, mirror in mirrors.items():
        filled = [mirrored(url, hub, mirror) for url in filled]
    return filled


def from_hub(entry: dict[str, Any], cache: Path, mirrors: Mapping[str, str]) -> Found:
    """Return the files of a hub model, fetched into the cache and checked by the sums that the catalogue has."""
    found: Found = {}
    for file in entry.get("files", []):
        target = cache / "models" / str(entry["name"]) / str(file["path"])
        # Without a known sum the file counts as it stands at the pinned revision; the manifest gets its own sum.
        known = {"size": file.get("size", 0), "git_sha1": file.get("git_sha1", "")}
        path = fetch(addresses(entry, file, mirrors), target, file.get("sha256", ""), **known)
        found[f"models/{entry['name']}/{file['path']}"] = (path, file.get("sha256") or digest_of(path))
    return found


def collect(
    entries: Iterable[dict[str, Any]],
    named: Sequence[str],
    root: Path,
    cache: Path,
    mirrors: Mapping[str, str] = NONE,
) -> Found:
    """Return bundle path → (file, sha256): every model of the repository, and the hub models that were named."""
    entries = list(checkpoints(entries))
    known = [str(entry["name"]) for entry in entries]
    if unknown := sorted(set(named) - set(known)):
        raise Problem(
            f"LW-BUNDLE-042: no model is called {', '.join(unknown)}; "
            f"env/catalog/models.yml has {', '.join(known) or 'none'}."
        )
    found: Found = {}
    for entry in entries:
        if entry.get("bundled"):
            found |= from_repository(entry, root)
        elif entry["name"] in named:
            found |= from_hub(entry, cache, mirrors)
    return found
