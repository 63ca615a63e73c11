"""Verb ``tree``: a folder that holds exactly these text files, in one step instead of one task a file.

Request: ``path`` (the folder), ``files`` (name inside the folder → text), ``owner`` and ``group`` (names; "" leaves
them), ``mode`` and ``directory_mode`` (octal text), ``state``. Files that are not named are removed, for the folder
is ours, unless ``exact`` is false. With the state ``absent`` the folder goes; where ``files`` are named, only these,
and the folder if nothing else is in it. The texts of those in ``secret`` (names, or true for all) are in no answer.
With ``validate`` (``argv``, where ``{}`` stands for a folder with the new files, and ``user``) a program judges them
first: what it refuses is not put in place.

On Windows the folder gets the rights, and what is in it inherits them: all for SYSTEM and Administrators, reading for
everybody where the mode lets others read, and reading for ``owner``, a service's account. Without mode and owner they
are left.
"""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hostkit import access, place
from hostkit.result import Problem, Result


def run(request: dict[str, Any], check: bool) -> Result:
    """Make the folder as wanted, or remove it."""
    folder = Path(request["path"])
    if request.get("state", "present") == "absent":
        return absent(folder, request.get("files"), check)
    wanted = {str(name): str(text) for name, text in request["files"].items()}
    before = present(folder)
    stale = sorted(set(before) - set(wanted)) if request.get("exact", True) else []
    fresh = sorted(name for name, text in wanted.items() if before.get(name) != text)
    loose = [path for path in everything(folder, wanted) if path.exists() and not fits(path, request)]
    secret = set(wanted) | set(before) if request.get("secret") is True else set(request.get("secret") or [])
    result = Result(
        changed=bool(stale or fresh or loose) or not folder.is_dir(),
        message=f"{folder}: {len(fresh)} written, {len(stale)} removed, {len(loose)} permissions set",
        before="".join(shown(name, before[name], name in secret) for name in sorted({*stale, *fresh} & set(before))),
        after="".join(shown(name, wanted[name], name in secret, "new contents") for name in fresh),
    )
    if fresh and not check and request.get("validate"):
        validate(folder, wanted, request, secret)
    if result.changed and not check:
        for name in stale:
            place.discard(folder / name)
        if place.windows():  # before there is anything in it that others may not read
            folder.mkdir(parents=True, exist_ok=True)
            permit(folder, request)
        for name in fresh:
            write(folder / name, wanted[name], request)
        folder.mkdir(parents=True, exist_ok=True)
        for path in everything(folder, wanted):
            permit(path, request)
    return result


def absent(folder: Path, files: Iterable[str] | None, check: bool) -> Result:
    """Remove the folder, or of one that others use too the files that are named."""
    named = [folder] if files is None else [folder / name for name in files]
    gone = [path for path in named if path.exists() or place.is_link(path)]
    if not check:
        for path in gone:
            place.discard(path)
        if gone:
            place.leave(folder)
    return Result(changed=bool(gone), before="".join(f"{path}\n" for path in gone))


def rights(path: Path, request: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """The rights that a folder shall have on Windows; none for what inherits its folder's, or is left."""
    if path != Path(request.get("path", "")) or not {"mode", "directory_mode", "owner"} & set(request):
        return {}
    mode = int(str(request.get("directory_mode", request.get("mode", "0755"))), 8)
    return access.wanted(mode, str(request.get("owner") or ""))


def shown(name: str, text: str, secret: bool, instead: str = "contents") -> str:
    """One file in the diff."""
    return f"--- {name}\n" + (f"({instead}, not shown)\n" if secret else text)


def validate(folder: Path, wanted: dict[str, str], request: dict[str, Any], secret: set[str]) -> None:
    """Let a program judge the files before they are in place; it finds them beside the folder, as they will be."""
    beside = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        for name, text in wanted.items():
            write(beside / name, text, request)
        for path in everything(beside, wanted):
            permit(path, request)
        argv = [str(word).replace("{}", str(beside)) for word in request["validate"]["argv"]]
        user: dict[str, Any] = {"user": request["validate"]["user"]} if request["validate"].get("user") else {}
        if user:
            user.update(group=request.get("group") or None, extra_groups=[])
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False, timeout=60, **user)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "no words").replace(str(beside), str(folder))[-1500:]
        texts = "\n".join(wanted[name] for name in secret & set(wanted))
        said = re.sub(r"[^\s\"';{}]{16,}", lambda found: "***" if found[0] in texts else found[0], said)
        words = f"{argv[0]} refuses the new contents of {folder}, which are not put in place: {said}."
        raise Problem(
            "LW-TREE-001", f"{words} What was there before is still in use; mend what the texts are made from."
        )


def present(folder: Path) -> dict[str, str]:
    """Text of each file below ``folder``, by its name there; compiled Python is nobody's concern."""
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes().decode("utf-8", "replace") for path in files}


def everything(folder: Path, wanted: dict[str, str]) -> list[Path]:
    """The folder, its folders and its files."""
    files = [folder / name for name in sorted(wanted)]
    folders = {parent for path in files for parent in path.parents if folder in (parent, *parent.parents)}
    return [folder, *sorted(folders - {folder}), *files]


def write(path: Path, text: str, request: dict[str, Any]) -> None:
    """Replace one file in one step; it never has looser permissions than it will end with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.touch(mode=0o600)
    part.write_bytes(text.encode("utf-8"))
    permit(part, request)
    place.put(part, path)


def mode_of(path: Path, request: dict[str, Any]) -> int:
    """The permissions that ``path`` shall have."""
    return int(str(request.get("directory_mode", "0755") if path.is_dir() else request.get("mode", "0644")), 8)


def fits(path: Path, request: dict[str, Any]) -> bool:
    """True where owner, group and mode are as wanted."""
    if place.windows():
        wanted = rights(path, request)
        return not wanted or access.fits(path, wanted)
    same_owner = not request.get("owner") or path.owner() == request["owner"]
    same_group = not request.get("group") or path.group() == request["group"]
    return same_owner and same_group and stat.S_IMODE(path.stat().st_mode) == mode_of(path, request)


def permit(path: Path, request: dict[str, Any]) -> None:
    """Set owner, group and mode."""
    if place.windows():
        wanted = rights(path, request)
        if wanted and not access.fits(path, wanted):
            access.grant(path, wanted)
        return
    if request.get("owner"):
        shutil.chown(path, user=request["owner"])
    if request.get("group"):
        shutil.chown(path, group=request["group"])
    path.chmod(mode_of(path, request))
