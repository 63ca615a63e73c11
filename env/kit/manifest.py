"""The bundle's manifest: what it says, how it is checked, and how a folder is brought to what it says.

`manifest.json` is written last and taken away first, so an interrupted making leaves a folder without one, never one
that lies. `SHA256SUMS` holds the same sums for `sha256sum -c`; it covers every file but itself and the manifest (which
cannot hold its own sum), and the manifest covers SHA256SUMS.

`.labwright-bundle` says whose folder it is, before there is a manifest and after one was taken away. It belongs to no
bundle's files, so a copy of a bundle may lack it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kit.files import as_json, copy_whole, digests_of, files_under, write_whole
from kit.problem import Problem

FORMAT = 1
MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
MARK = ".labwright-bundle"
OWN = {MANIFEST, SUMS, MARK}
MARK_TEXT = "A bundle of Labwright's. Making it again removes what the bundle does not name: keep nothing else here.\n"
AGAIN = "make the bundle again with `ansible-playbook playbooks/bundle.yml`"


def sums_text(digests: Mapping[str, str]) -> str:
    """Return the text of SHA256SUMS."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))


def build(source: str, how: str, files: Mapping[str, Mapping[str, Any]], conda: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest. `conda` has `installer` (path, version, platform), `environment` (paths) and `series`; where
    Windows hosts are served too, `windows` with `installers` (path by name) and `environment`."""
    installer, windows = conda["installer"], conda.get("windows")
    found: dict[str, Any] = {
        "format": FORMAT,
        "source": source,
        "how": how,
        "files": {name: dict(files[name]) for name in sorted(files)},
        "installer": {**installer, "sha256": files[installer["path"]]["sha256"]},
        "conda": {"linux-64": {conda["series"]: list(conda["environment"])}},
    }
    if windows:
        found["conda"]["win-64"] = {conda["series"]: list(windows["environment"])}
        found["installers"] = {"win-64": dict(windows["installers"])}
    return found


def read(folder: Path) -> dict[str, Any]:
    """Return a bundle's manifest; raise Problem when there is none or it is not one."""
    path = folder / MANIFEST
    if not path.is_file():
        raise Problem(
            f"LW-BUNDLE-001: {folder} has no {MANIFEST}, so it is no bundle, or its making was interrupted; {AGAIN}."
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] == FORMAT and manifest["files"] and manifest["installer"]["path"]:
            return dict(manifest)
        what = f"it has the format {manifest['format']!r}, this program reads {FORMAT}"
    except (ValueError, KeyError, TypeError) as error:
        what = f"{type(error).__name__}: {error}"
    raise Problem(f"LW-BUNDLE-002: {path} is not a manifest ({what}); {AGAIN}.")


def faults(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Compare a folder with its manifest, byte for byte; return one sentence for each file that differs."""
    wanted, present = manifest["files"], set(files_under(folder)) - {MANIFEST, MARK}
    sentences = [
        f"LW-BUNDLE-004: {name}: the manifest names it, but it is not there; {AGAIN}."
        for name in wanted
        if name not in present
    ]
    sentences += [
        f"LW-BUNDLE-005: {name}: it is there, but the manifest does not name it; remove it, or {AGAIN}."
        for name in sorted(present - set(wanted))
    ]
    digests = digests_of(folder / name for name in sorted(present & set(wanted)))
    for path, digest in digests.items():
        name = path.relative_to(folder).as_posix()
        if digest != wanted[name]["sha256"]:
            sentences.append(
                f"LW-BUNDLE-003: {name}: sha256 {digest}, the manifest says {wanted[name]['sha256']}; {AGAIN}."
            )
    return sentences


def conda_faults(manifest: Mapping[str, Any]) -> list[str]:
    """Say what the manifest's own parts get wrong about each other."""
    named = [manifest["installer"]["path"]]
    named += [path for series in manifest["conda"].values() for paths in series.values() for path in paths]
    named += [path for paths in manifest.get("installers", {}).values() for path in paths.values()]
    return [
        f"LW-BUNDLE-006: {path}: an install list names it, but the manifest's files do not; {AGAIN}."
        for path in named
        if path not in manifest["files"]
    ]


def verify(folder: Path) -> dict[str, Any]:
    """Return the manifest of a whole and unchanged bundle; raise Problem with a sentence for each fault."""
    manifest = read(folder)
    if sentences := conda_faults(manifest) + faults(folder, manifest):
        raise Problem("\n".join(sentences))
    return manifest


def claim(folder: Path) -> None:
    """Mark a folder as a bundle's. Raise Problem, and leave it as it is, where it holds what no bundle put there."""
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    try:
        known = {name.split("/")[0] for name in read(folder)["files"]} | OWN
    except Problem:
        known = there if MARK in there else set()
    if foreign := sorted(there - known):
        named = foreign if len(foreign) < 6 else [*foreign[:5], "…"]
        raise Problem(
            f"LW-BUNDLE-008: {folder} holds {', '.join(named)}, which no manifest of a bundle names; nothing was "
            "touched. Making a bundle removes all else from its folder: expected one that is new, empty, or a bundle's "
            "alone. Set lab_bundle_dir (--out) to such a folder, or move what is named away."
        )
    if MARK not in there:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARK).write_text(MARK_TEXT, encoding="utf-8")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Claim a folder and hold it for one making, whichever checkout or user that is of; raise Problem for a second."""
    claim(folder)
    with (folder / MARK).open(encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Problem(
                f"LW-BUNDLE-010: {folder} is being made by another program; expected one at a time, and for each "
                "inventory a bundle of its own. Run it again when that has ended, or set another lab_bundle_dir "
                "(--out)."
            ) from None
        yield


def sync(folder: Path, files: Mapping[str, Path], digests: Mapping[str, str]) -> bool:
    """Make `folder` hold exactly these files (and what is not a bundle's files); say whether that changed it.

    `digests` are the sums that the sources were checked against. The manifest is removed before the first change.
    """
    claim(folder)
    present = set(files_under(folder)) - OWN
    have = digests_of(folder / name for name in sorted(present & set(files)))
    stale = [name for name in sorted(files) if have.get(folder / name) != digests[name]]
    extra = sorted(present - set(files))
    if not stale and not extra:
        return False
    (folder / MANIFEST).unlink(missing_ok=True)
    for name in stale:
        copy_whole(files[name], folder / name)
    for name in extra:
        (folder / name).unlink()
    for path in sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()
    return True


def seal(folder: Path, source: str, how: str, conda: Mapping[str, Any], expected: Mapping[str, str]) -> bool:
    """Hash every file as it lies in the folder, compare with what was expected, write SHA256SUMS and the manifest."""
    names = [name for name in files_under(folder) if name not in OWN]
    digests = {
        path.relative_to(folder).as_posix(): digest for path, digest in digests_of(folder / n for n in names).items()
    }
    wrong = sorted(name for name in digests.keys() | expected.keys() if digests.get(name) != expected.get(name))
    if wrong:
        (folder / MANIFEST).unlink(missing_ok=True)
        raise Problem(
            f"LW-BUNDLE-007: {', '.join(wrong)}: not what was meant to be written. Is the disk failing? {AGAIN}."
        )
    sums = sums_text(digests).encode()
    sums_path = folder / SUMS
    entries = {name: {"sha256": digests[name], "size": (folder / name).stat().st_size} for name in names}
    entries[SUMS] = {"sha256": hashlib.sha256(sums).hexdigest(), "size": len(sums)}
    text = as_json(build(source, how, entries, conda))
    manifest = folder / MANIFEST
    if manifest.is_file() and manifest.read_bytes() == text and sums_path.is_file() and sums_path.read_bytes() == sums:
        return False
    manifest.unlink(missing_ok=True)
    write_whole(sums_path, sums)
    write_whole(manifest, text)
    return True
