"""The base environment, staged by rattler from the kit's channel, as a Miniforge-like self-extracting installer."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import importlib
import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

from kit.conda_archive import EPOCH
from kit.conda_python import compile_library
from kit.files import as_json, files_under, write_whole

HEAD = Path(__file__).with_name("installer.sh")
# Stands for the prefix in the payload, so that the maker's folder leaves no trace.
STAND_IN = "/opt/labwright-conda-base-stand-in"
# The channel as the installed base names it; its folder on the maker's machine means nothing to a host.
CHANNEL_NAME = "/labwright-kit/channel"
# Conda keeps these about where a package was once unpacked; they are the maker's paths and times, and no use to a host.
FORGOTTEN = ("extracted_package_dir", "package_tarball_full_path", "link", "requested_spec", "requested_specs")


async def _solve_and_install(channel: Path, prefix: Path, specs: list[str]) -> None:
    # py-rattler lives only in the kit's own venv.
    rattler: Any = importlib.import_module("rattler")
    records = await rattler.solve(
        [rattler.Channel(channel.as_uri())],
        specs,
        platforms=["linux-64", "noarch"],
        virtual_packages=rattler.VirtualPackage.detect(),
    )
    await rattler.install(records, target_prefix=str(prefix), cache_dir=str(prefix) + ".cache", show_progress=False)


def impersonal(record: dict[str, Any]) -> dict[str, Any]:
    """Return a conda-meta record without the maker's paths, and without sums of files that hold the maker's prefix."""
    kept = {key: value for key, value in record.items() if key not in FORGOTTEN}
    for path in kept.get("paths_data", {}).get("paths", []):
        path.pop("sha256_in_prefix", None)
        if path.get("path_type") == "unix_python_entry_point":
            path.pop("sha256", None)
            path.pop("size_in_bytes", None)
    return kept


def stage(channel: Path, prefix: Path, specs: list[str], series: str) -> None:
    """Install the base environment into `prefix`, then take out of it what would differ from one making to the next."""
    asyncio.run(_solve_and_install(channel, prefix, specs))
    for record in (prefix / "conda-meta").glob("*.json"):
        content = json.loads(record.read_text(encoding="utf-8").replace(str(channel), CHANNEL_NAME))
        write_whole(record, as_json(impersonal(content)))
    (prefix / "conda-meta/history").write_text("")
    site = prefix / f"lib/python{series}/site-packages"
    for cache in list(site.rglob("__pycache__")):
        shutil.rmtree(cache)
    compile_library(prefix / f"bin/python{series}", site, prefix)


def rewritten(data: bytes, base: Path) -> bytes:
    """Return a text file with the staging folder's path replaced by the stand-in; anything else as it is."""
    return data if b"\0" in data else data.replace(str(base).encode(), STAND_IN.encode())


def pack(base: Path) -> bytes:
    """Return the base as a tar.gz which is the same for the same files; package cache and environments stay out.

    Its `.prefix-files` lists the files in which the installer puts the real prefix for the stand-in.
    """
    buffer, to_rewrite = io.BytesIO(), []
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:

        def add(name: str, data: bytes, mode: int) -> None:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.mode = len(data), EPOCH, mode
            archive.addfile(entry, io.BytesIO(data))

        for name in files_under(base):
            path = base / name
            if name.split("/")[0] in {"pkgs", "envs"}:
                continue
            if path.is_symlink():
                entry = tarfile.TarInfo(name)
                entry.type, entry.linkname, entry.mtime = tarfile.SYMTYPE, str(path.readlink()), EPOCH
                archive.addfile(entry)
                continue
            before = path.read_bytes()
            after = rewritten(before, base)
            if after != before:
                to_rewrite.append(name)
            add(name, after, 0o755 if path.stat().st_mode & 0o100 else 0o644)
        add(".prefix-files", "".join(f"{name}\n" for name in to_rewrite).encode(), 0o644)
    return gzip.compress(buffer.getvalue(), compresslevel=6, mtime=0)


def write_installer(base: Path, target: Path) -> None:
    """Write the installer of a staged base."""
    payload = pack(base)
    head = HEAD.read_text(encoding="utf-8").replace("@SUM@", hashlib.sha256(payload).hexdigest())
    write_whole(target, head.replace("@BASE@", STAND_IN).encode() + payload, 0o755)
