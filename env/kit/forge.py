"""The Conda part of a bundle from its real home: the Miniforge installer and conda-forge packages, each by its sum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hostkit.result import Problem as CatalogueProblem
from kit.conda_archive import repodata
from kit.conda_kit import CondaPart
from kit.fetch import answers, fetch, mirrored
from kit.files import write_whole
from kit.problem import Problem
from labwright import catalog

# Well-known beginnings that a mirror stands for; the locks keep the full addresses.
CONDA_FORGE = "https://conda.anaconda.org/conda-forge/"
MINIFORGE = "https://github.com/conda-forge/miniforge/releases/download/"
HINT = " Without conda-forge, set lab_bundle_source: kit (--source kit)."
INDEX_KEYS = (
    "name",
    "version",
    "build",
    "build_number",
    "depends",
    "constrains",
    "noarch",
    "license",
    "sha256",
    "md5",
    "size",
)


@dataclass(frozen=True)
class Mirrors:
    """Addresses to use instead of the well-known ones; empty means the well-known one. Miniforge's is the folder of the
    installer; `{version}` in it stands for the release."""

    conda_forge: str = ""
    miniforge: str = ""

    def apply(self, url: str) -> str:
        """Return the address to fetch `url` from."""
        if self.miniforge and url.startswith(MINIFORGE):
            version, name = url.rsplit("/", 2)[1:]
            return f"{self.miniforge.replace('{version}', version).rstrip('/')}/{name}"
        return mirrored(url, CONDA_FORGE, self.conda_forge)


def read_lock(env: Path) -> list[dict[str, Any]]:
    """Return the locked packages for linux-64 in the order of installing; raise Problem where the lock is not right."""
    try:
        return catalog.conda_of(env)["linux-64"]
    except CatalogueProblem as problem:
        raise Problem(str(problem)) from problem


def read_installer(path: Path) -> dict[str, Any]:
    """Return the catalogue's Miniforge for linux-64."""
    entries = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else []
    if isinstance(entries, dict):
        entries = entries.get("installers", [])
    for entry in entries or []:
        if entry.get("name") == "miniforge3" and entry.get("platform") == "linux-64" and entry.get("sha256"):
            return dict(entry)
    raise Problem(f"LW-BUNDLE-011: {path} names no miniforge3 for linux-64 with a sha256.")


def unreachable(installer: Mapping[str, Any], packages: list[dict[str, Any]], mirrors: Mirrors, timeout: float) -> str:
    """Return "" when Miniforge and conda-forge both answer, else why not."""
    for url in (mirrors.apply(packages[0]["url"]), mirrors.apply(installer["url"])):
        if reason := answers(url, timeout):
            return f"{url.split('/')[2]} does not answer ({reason})"
    return ""


def conda_part(
    installer: Mapping[str, Any], packages: list[dict[str, Any]], mirrors: Mirrors, cache: Path
) -> CondaPart:
    """Fetch everything (what the cache has is checked, not fetched) and return the Conda part of a bundle."""
    name = str(installer["url"]).rsplit("/", 1)[1]
    target = cache / "conda-forge" / name
    files = {f"installers/{name}": fetch([mirrors.apply(installer["url"])], target, installer["sha256"], HINT)}
    packed, environment = channel(packages, "linux-64", mirrors, cache, HINT)
    facts = {"path": f"installers/{name}", "version": str(installer["version"]), "platform": "linux-64"}
    where = f" through {mirrors.conda_forge or mirrors.miniforge}" if mirrors != Mirrors() else ""
    how = f"The Miniforge installer {installer['version']} and {len(packages)} conda-forge packages{where}."
    return CondaPart("conda-forge", how, files | packed, facts, environment)


def channel(
    packages: list[dict[str, Any]], platform: str, mirrors: Mirrors, cache: Path, hint: str
) -> tuple[dict[str, Path], list[str]]:
    """Fetch a platform's packages; return the channel's files by path in the bundle, and the packages in order."""
    store, files, records = cache / "conda-forge", {}, {}
    for package in packages:
        path = f"{package['subdir']}/{package['url'].rsplit('/', 1)[1]}"
        files[f"channel/{path}"] = fetch([mirrors.apply(package["url"])], store / path, package["sha256"], hint)
        records[path] = {k: package[k] for k in INDEX_KEYS if package.get(k) is not None} | {
            "subdir": package["subdir"]
        }
    for subdir in (platform, "noarch"):
        target = store / f"index-{platform}" / subdir / "repodata.json"
        write_whole(target, repodata(subdir, records))
        files[f"channel/{subdir}/repodata.json"] = target
    return files, [f"channel/{path}" for path in records]
