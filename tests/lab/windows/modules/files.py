"""Files and folders."""

from __future__ import annotations

import base64
import fnmatch
import os
import re
import shutil
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import sockets
from .context import Context, Failed, Result, checksum, stand_in

OWNER = r"BUILTIN\Administrators"
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
SIZES = {"b": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


def is_junction(path: Path) -> bool:
    """Return whether this is a link to a folder: a link in the prefix stands for a junction, Wine 8 knows none."""
    return path.is_symlink() and (path.is_dir() or not path.exists())


def link_target(path: Path, context: Context) -> str:
    """Return where a link leads, as Windows says it."""
    goal = Path(os.path.realpath(path))
    return context.wine.windows(goal) if goal.is_relative_to(context.wine.drive_c) else str(goal)


def described(path: Path, context: Context, *, algorithm: str | None, size: bool) -> Result:
    """Return what win_stat and win_find say of something that exists; ``algorithm`` None: no checksum."""
    junction, link = is_junction(path), path.is_symlink()
    folder = (path.is_dir() and not link) or junction
    about = path.lstat() if link else path.stat()
    read_only = not about.st_mode & 0o200
    attributes = [
        *(["ReadOnly"] if read_only else []),
        "Directory" if folder else "Archive",
        *(["ReparsePoint"] if link else []),
    ]
    result: Result = {
        "exists": True,
        "attributes": ", ".join(attributes),
        "isarchive": not folder,
        "isdir": folder,
        "ishidden": False,
        "isjunction": junction,
        "islnk": link and not junction,
        "isreadonly": read_only,
        "isreg": not folder and not link,
        "isshared": False,
        "nlink": 1,
        "hlnk_targets": [],
        "creationtime": about.st_ctime,
        "lastaccesstime": about.st_atime,
        "lastwritetime": about.st_mtime,
        "path": context.wine.windows(path),
        "filename": path.name,
        "owner": OWNER,
    }
    if link:
        result["lnk_source"] = result["lnk_target"] = link_target(path, context)
    if folder:
        if size:
            result["size"] = sum(
                one.stat().st_size for one in path.rglob("*") if one.is_file() and not one.is_symlink()
            )
        return result
    result["extension"] = path.suffix
    if size:
        result["size"] = about.st_size
    if algorithm and path.is_file():
        result["checksum"] = checksum(path, algorithm)
    return result


def refuse_running(path: Path, context: Context, what: str) -> None:
    """Windows neither removes nor overwrites a program that runs; Wine's file system would."""
    if path.is_symlink():
        return
    place = path.resolve()
    for one in sorted(sockets.held(context.wine.prefix, context.machine.helpers)):
        if one == place or place in one.parents:
            name = context.wine.windows(one)
            raise Failed(f"{what}: Access to the path '{name}' is denied. (A process runs from it.)")


def remove(path: Path) -> None:
    """Remove a file, a folder, or a link and not what it leads to."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    else:
        shutil.rmtree(path)


@stand_in("ansible.windows.win_stat")
def win_stat(args: Result, context: Context) -> Result:
    """Say what there is at a path."""
    path = context.path(args["path"])
    if args["follow"] and path.is_symlink():
        path = Path(os.path.realpath(path))
    if not os.path.lexists(path):
        return {"stat": {"exists": False}}
    algorithm = args["checksum_algorithm"] if args["get_checksum"] else None
    return {"stat": described(path, context, algorithm=algorithm, size=args["get_size"])}


@stand_in("ansible.windows.win_file")
def win_file(args: Result, context: Context) -> Result:
    """Make or remove a file or folder."""
    path, state, name = context.path(args["path"]), args.get("state"), args["path"]
    if path.is_dir() and args.get("_original_basename"):
        path, name = path / args["_original_basename"], name + "\\" + args["_original_basename"]
    exists = os.path.lexists(path)
    if state == "absent":
        if exists and not context.check:
            refuse_running(path, context, f"Failed to delete {name}")
            try:
                remove(path)
            except OSError as error:
                raise Failed(f"Failed to delete {name}: {error.strerror}") from None
        return {"changed": exists}
    if state == "touch":
        if not exists and not path.parent.is_dir():
            raise Failed(f"Could not find a part of the path '{name}'.")
        if not context.check:
            path.touch()
        return {"changed": True}
    if exists:
        if state == "directory" and not path.is_dir():
            raise Failed(f"path {name} is not a directory")
        if state == "file" and path.is_dir():
            raise Failed(f"path {name} is not a file")
        return {"changed": False}
    if state == "directory":
        if not context.check:
            try:
                path.mkdir(parents=True)
            except OSError:
                raise Failed(f"A part of the path '{name}' is a file.") from None
        return {"changed": True}
    raise Failed(f"path {name} will not be created")


def same(one: Path, other: Path) -> bool:
    """Return whether two files hold the same bytes."""
    return checksum(one, "sha256") == checksum(other, "sha256")


def copy_file(source: Path, target: Path, args: Result, context: Context, lines: list[str]) -> bool:
    """Copy one file where it differs; return whether it did."""
    name = context.wine.windows(target)
    if target.is_dir():
        raise Failed(f"cannot copy file from '{context.wine.windows(source)}' to '{name}': dest is already a folder")
    if target.is_file() and (not args.get("force", True) or same(source, target)):
        return False
    if target.parent.is_file():
        raise Failed(f"cannot copy file to '{name}': object at dest parent dir is not a folder")
    lines += [f"-{name}"] if target.is_file() else []
    lines += [f"+{name}"]
    if not context.check:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            refuse_running(target, context, f"cannot copy file to '{name}'")
            target.unlink()
        shutil.copyfile(source, target)
    return True


def copy_folder(source: Path, target: Path, args: Result, context: Context, lines: list[str]) -> bool:
    """Copy a folder's content where it differs; return whether it did."""
    changed = False
    if not target.is_dir():
        if target.exists():
            raise Failed(f"cannot copy folder to '{context.wine.windows(target)}': dest is already a file")
        changed = True
        lines.append(f"+{context.wine.windows(target)}\\")
        if not context.check:
            target.mkdir(parents=True)
    for one in sorted(source.iterdir()):
        copy = copy_folder if one.is_dir() else copy_file
        changed |= copy(one, target / one.name, args, context, lines)
    return changed


def copy_query(args: Result, context: Context) -> Result:
    """Say which of the files that the control node offers are to be sent."""
    dest, force = args["dest"], args.get("force", True)
    files = []
    for one in args.get("files") or []:
        path = context.path(dest + "\\" + one["dest"])
        if path.is_dir():
            path = path / Path(one["src"]).name
        if path.is_dir():
            raise Failed(
                f"cannot copy file to dest '{context.wine.windows(path)}': object at path is already a directory"
            )
        if not path.is_file() or (force and checksum(path) != one["checksum"]):
            files.append(one)
    folders = []
    for one in args.get("directories") or []:
        path = context.path(dest + "\\" + one["dest"])
        if path.is_file():
            raise Failed(f"cannot copy folder to dest '{context.wine.windows(path)}': object at path is already a file")
        if not path.is_dir():
            folders.append(one)
    return {"changed": False, "files": files, "directories": folders, "symlinks": []}


def copy_explode(args: Result, context: Context) -> Result:
    """Unpack what the control node sent as one archive with encoded names."""
    source, dest = context.path(args["src"]), context.path(args["dest"])
    if not source.is_file():
        raise Failed(f"Cannot expand src zip file: '{args['src']}' as it does not exist")
    with zipfile.ZipFile(source) as archive:
        for entry in archive.infolist():
            name = base64.b64decode(entry.filename.rstrip("/")).decode()
            target = dest.joinpath(*name.replace("\\", "/").split("/"))
            if context.check:
                continue
            if entry.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(entry))
    return {"changed": True}


def copy_remote(args: Result, context: Context) -> Result:
    """Copy on the machine itself."""
    src, dest = args["src"], args["dest"]
    source, target, lines = context.path(src), context.path(dest), list[str]()
    if not source.exists():
        raise Failed(f"Cannot copy src file: '{src}' as it does not exist")
    result: Result = {"src": src, "dest": dest}
    if source.is_dir():
        result["operation"] = "folder_copy"
        if not src.endswith(("/", "\\")):
            target = target / source.name
        changed = copy_folder(source, target, args, context, lines)
    else:
        result["operation"] = "file_copy"
        result["original_basename"] = source.name
        into = dest.endswith(("/", "\\")) or target.is_dir()
        target = target / source.name if into else target
        if not into and not target.parent.is_dir():
            raise Failed(f"Destination directory '{context.wine.windows(target.parent)}' does not exist")
        changed = copy_file(source, target, args, context, lines)
        result["checksum"] = checksum(source)
    measured = target if target.exists() else source
    files = [measured] if measured.is_file() else [one for one in measured.rglob("*") if one.is_file()]
    result.update(changed=changed, dest=context.wine.windows(target), size=sum(one.stat().st_size for one in files))
    return with_diff(result, context, lines)


def copy_single(args: Result, context: Context) -> Result:
    """Put the one file that the control node sent in its place."""
    src, dest = args["src"], args["dest"]
    source, target, lines = context.path(src), context.path(dest), list[str]()
    original = args.get("_original_basename")
    if dest.endswith(("/", "\\")) or target.is_dir():
        target = target / str(original)
    elif not target.parent.is_dir():
        raise Failed(f"Destination directory '{context.wine.windows(target.parent)}' does not exist")
    backup = None
    if args.get("backup") and target.is_file():
        backup = target.with_name(f"{target.name}.{time.strftime('%Y%m%d-%H%M%S')}.bak")
        if not context.check:
            shutil.copyfile(target, backup)
    changed = copy_file(source, target, {**args, "force": True}, context, lines)
    result: Result = {
        "changed": changed,
        "src": src,
        "dest": context.wine.windows(target),
        "checksum": checksum(source),
        "size": source.stat().st_size,
        "operation": "file_copy",
        "original_basename": original,
    }
    if backup:
        result["backup_file"] = context.wine.windows(backup)
    return with_diff(result, context, lines)


def with_diff(result: Result, context: Context, lines: list[str]) -> Result:
    """Add what `--diff` shows."""
    if context.diff:
        result["diff"] = {"prepared": "\n".join(lines)}
    return result


@stand_in("ansible.windows.win_copy")
def win_copy(args: Result, context: Context) -> Result:
    """Copy; the control node's half sends what is to be copied."""
    modes = {"query": copy_query, "explode": copy_explode, "remote": copy_remote, "single": copy_single}
    return modes[args.get("_copy_mode") or "single"](args, context)


@stand_in("ansible.windows.slurp")
def slurp(args: Result, context: Context) -> Result:
    """Return a file's content."""
    path = context.path(args["src"])
    if path.is_dir():
        raise Failed(f"Path {args['src']} is a directory")
    if not path.is_file():
        raise Failed(f"Path {args['src']} is not found")
    return {"changed": False, "content": base64.b64encode(path.read_bytes()).decode(), "encoding": "base64"}


def walked(folder: Path, args: Result, depth: int) -> Iterator[Path]:
    """Yield what lies in a folder, and below where asked; with the module's own fault (ansible.windows#839): each
    folder beside another counts as one level down, and below 1 there is no end."""
    below = depth
    for one in sorted(folder.iterdir(), key=lambda path: path.name.lower()):
        inner = one.is_dir() and (args["follow"] or not one.is_symlink())
        if inner and args["recurse"] and depth != 1:
            below -= 1
            yield from walked(one, args, below)
        yield one


def measured(text: str, units: dict[str, int], what: str) -> int:
    """Read a duration or size with its unit."""
    match = re.fullmatch(r"(-?\d+)([a-z])?", text.strip().lower())
    if match is None or (match[2] or next(iter(units))) not in units:
        raise Failed(f"failed to process {what}")
    return int(match[1]) * units[match[2] or next(iter(units))]


def matches(path: Path, args: Result, now: float) -> bool:
    """Return whether something is what win_find looks for."""
    about = path.lstat()
    if args["file_type"] != "any" and path.is_dir() != (args["file_type"] == "directory"):
        return False
    if args.get("age") is not None:
        wanted = measured(args["age"], SECONDS, "age")
        stamp = {"mtime": about.st_mtime, "ctime": about.st_ctime, "atime": about.st_atime}[args["age_stamp"]]
        if not (now - stamp >= wanted if wanted >= 0 else now - stamp <= -wanted):
            return False
    if args.get("size") is not None:
        wanted = measured(args["size"], SIZES, "size")
        if not (about.st_size >= wanted if wanted >= 0 else about.st_size <= -wanted):
            return False
    patterns = args.get("patterns")
    if not patterns:
        return True
    flags = 0 if args["case_sensitive"] else re.IGNORECASE
    sources = patterns if args["use_regex"] else [fnmatch.translate(one) for one in patterns]
    return any(re.search(one, path.name, flags if args["use_regex"] else re.IGNORECASE) for one in sources)


@stand_in("ansible.windows.win_find")
def win_find(args: Result, context: Context) -> Result:
    """Find files and folders."""
    found: dict[str, Any] = {}
    examined, now = 0, time.time()
    for name in args["paths"]:
        folder = context.path(name)
        if not folder.exists():
            context.warnings.append(f"Argument path '{name}' does not exist or is not accessible, skipping")
            continue
        if not folder.is_dir():
            context.warnings.append(f"Argument path '{name}' is a file not a directory, skipping")
            continue
        for path in walked(folder, args, args.get("depth") or 0):
            key = str(path).lower()
            if key in found:
                continue
            examined += 1
            if matches(path, args, now):
                algorithm = args["checksum_algorithm"] if args["get_checksum"] else None
                found[key] = described(path, context, algorithm=algorithm, size=not path.is_dir())
    empty = {
        "checksum": None,
        "extension": None,
        "lnk_source": None,
        "lnk_target": None,
        "sharename": None,
        "size": None,
    }
    files = [{**empty, **one} for one in found.values()]
    return {"changed": False, "examined": examined, "matched": len(files), "files": files}
