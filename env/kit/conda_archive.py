"""Write `.conda` packages that are the same, byte for byte, for the same files.

The format: a zip, not compressed, of `metadata.json`, `pkg-NAME.tar.zst` (the files) and `info-NAME.tar.zst` (what
conda must know: https://docs.conda.io/projects/conda/en/stable/dev-guide/specs/package-spec.html). The zstd compressor
is given in, because Python has none of its own before 3.14.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kit.files import digest_of

# Archives carry this time instead of today's: 2023-11-14, as ZIP and as Unix time.
EPOCH = 1_700_000_000
ZIP_DATE = (2023, 11, 14, 0, 0, 0)
# Replaced by the prefix at installation. Long, as conda's own, so that nobody meets it by accident.
PLACEHOLDER = "/opt/anaconda1anaconda2anaconda3" + "_p" * 40
Compress = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Recipe:
    """What a package says about itself. `prefix_files`: file → the path in it that conda replaces by the prefix."""

    name: str
    version: str
    build: str
    depends: tuple[str, ...] = ()
    noarch_python: bool = False
    entry_points: tuple[str, ...] = ()
    prefix_files: Mapping[str, str] = field(default_factory=dict)
    platform: str = "linux-64"  # of a package that is not noarch

    @property
    def stem(self) -> str:
        """The file name without `.conda`."""
        return f"{self.name}-{self.version}-{self.build}"

    @property
    def subdir(self) -> str:
        """The folder of the channel; conda refuses a package that says another one inside."""
        return "noarch" if self.noarch_python else self.platform


def _tar(members: Mapping[str, Path | bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(members):
            source = members[name]
            entry = tarfile.TarInfo(name)
            entry.mtime, entry.mode, entry.uname, entry.gname = EPOCH, 0o644, "root", "root"
            if isinstance(source, bytes):
                entry.size = len(source)
                archive.addfile(entry, io.BytesIO(source))
            elif source.is_symlink():
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, str(source.readlink()), 0o777
                archive.addfile(entry)
            else:
                data = source.read_bytes()
                # Only "may be run" is kept of the mode: the umask of the maker is no part of the package.
                entry.size, entry.mode = len(data), 0o755 if source.stat().st_mode & 0o100 else 0o644
                archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _path_entry(root: Path, name: str, recipe: Recipe) -> dict[str, Any]:
    path = root / name
    if path.is_symlink():
        inside = path.is_file()
        return {
            "_path": name,
            "path_type": "softlink",
            "sha256": digest_of(path) if inside else hashlib.sha256(b"").hexdigest(),
            "size_in_bytes": path.stat().st_size if inside else 0,
        }
    entry = {"_path": name, "path_type": "hardlink", "sha256": digest_of(path), "size_in_bytes": path.stat().st_size}
    if name in recipe.prefix_files:
        entry |= {"prefix_placeholder": recipe.prefix_files[name], "file_mode": "text"}
    return entry


def index_of(recipe: Recipe) -> dict[str, Any]:
    """Return info/index.json: what a solver sees."""
    index: dict[str, Any] = {
        "name": recipe.name,
        "version": recipe.version,
        "build": recipe.build,
        "build_number": 0,
        "depends": list(recipe.depends),
        "subdir": recipe.subdir,
        "timestamp": EPOCH * 1000,
    }
    if recipe.noarch_python:
        return index | {"noarch": "python"}
    return index | {"arch": "x86_64", "platform": recipe.platform.split("-")[0]}


def _info_members(root: Path, names: Sequence[str], recipe: Recipe) -> dict[str, Path | bytes]:
    paths = [_path_entry(root, name, recipe) for name in names]
    info: dict[str, Path | bytes] = {
        "info/index.json": json.dumps(index_of(recipe), indent=1).encode(),
        "info/about.json": b"{}",
        "info/files": ("\n".join(names) + "\n").encode(),
        "info/paths.json": json.dumps({"paths": paths, "paths_version": 1}, indent=1).encode(),
    }
    if recipe.prefix_files:
        lines = [f'"{old}" text "{name}"\n' for name, old in sorted(recipe.prefix_files.items())]
        info["info/has_prefix"] = "".join(lines).encode()
    if recipe.noarch_python:
        link = {"noarch": {"type": "python", "entry_points": list(recipe.entry_points)}, "package_metadata_version": 1}
        info["info/link.json"] = json.dumps(link).encode()
    return info


def write_conda(channel: Path, root: Path, recipe: Recipe, compress: Compress) -> tuple[str, dict[str, Any]]:
    """Make one package of the files under `root`; return its path in the channel and its repodata record."""
    names = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_symlink() or p.is_file())
    target = channel / recipe.subdir / f"{recipe.stem}.conda"
    target.parent.mkdir(parents=True, exist_ok=True)
    members = {
        "metadata.json": b'{"conda_pkg_format_version": 2}',
        f"pkg-{recipe.stem}.tar.zst": compress(_tar({name: root / name for name in names})),
        f"info-{recipe.stem}.tar.zst": compress(_tar(_info_members(root, names, recipe))),
    }
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, ZIP_DATE), data)
    record = index_of(recipe) | {
        "md5": digest_of(target, "md5"),
        "sha256": digest_of(target),
        "size": target.stat().st_size,
    }
    return f"{recipe.subdir}/{target.name}", record


def repodata(subdir: str, records: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Return the repodata.json of one subdir from the records of the whole channel, keyed by path."""
    here = {path.split("/", 1)[1]: dict(record) for path, record in records.items() if path.startswith(f"{subdir}/")}
    document = {
        "info": {"subdir": subdir},
        "packages": {},
        "packages.conda": here,
        "removed": [],
        "repodata_version": 1,
    }
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()
