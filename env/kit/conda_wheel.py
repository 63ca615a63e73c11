"""Python wheels as Conda packages: `noarch: python` where a wheel is pure, else for linux-64."""

from __future__ import annotations

import configparser
import re
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from kit.conda_archive import Recipe

START_SCRIPT = """#!/usr/bin/env python
import sys

from {module} import {head}

if __name__ == "__main__":
    sys.exit({attribute}())
"""
PLATFORM = {"platform_system": "Linux", "sys_platform": "linux", "os_name": "posix", "platform_machine": "x86_64"}


class EntryPoints(configparser.ConfigParser):
    """An entry_points.txt; names of commands keep their case, which configparser would lower."""

    def optionxform(self, optionstr: str) -> str:
        """Return the name as it is."""
        return optionstr


def target_environment(series: str) -> dict[str, str]:
    """Return the marker environment of a Linux host with this CPython series ('3.11'), wherever this runs."""
    return PLATFORM | {
        "python_version": series,
        "python_full_version": f"{series}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "",
    }


def depends_of(metadata: Message, series: str, pure: bool) -> tuple[str, ...]:
    """Return conda's `depends` of a wheel: its python, and its requirements that hold on the target."""
    depends = [f"python >={series}" if pure else f"python {series}.*"]
    for line in metadata.get_all("Requires-Dist") or []:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(target_environment(series)):
            depends.append(f"{canonicalize_name(requirement.name)} {requirement.specifier}".strip())
    return tuple(depends)


def place_of(member: str, site: str, scripts: str) -> str | None:
    """Return where a member of a wheel goes in the package; None for what Conda has no place for (headers)."""
    match = re.match(r"[^/]+\.data/([^/]+)/(.*)", member)
    if match is None:
        return f"{site}/{member}"
    kind, rest = match.groups()
    folder = {"purelib": f"{site}/", "platlib": f"{site}/", "scripts": f"{scripts}/", "data": ""}.get(kind)
    return None if folder is None else folder + rest


def console_scripts(text: str) -> tuple[str, ...]:
    """Return the `name = module:function` lines of an entry_points.txt."""
    parser = EntryPoints(delimiters=("=",), strict=False, interpolation=None)
    parser.read_string(text)
    if not parser.has_section("console_scripts"):
        return ()
    return tuple(f"{name} = {target.split('[')[0].strip()}" for name, target in parser.items("console_scripts"))


def write_start_scripts(root: Path, entry_points: tuple[str, ...]) -> None:
    """A linux-64 package carries its own start scripts; for a noarch one conda makes them."""
    for entry in entry_points:
        name, target = (part.strip() for part in entry.split("=", 1))
        module, attribute = target.split(":")
        path = root / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(START_SCRIPT.format(module=module, attribute=attribute, head=attribute.split(".")[0]))
        path.chmod(0o755)


def lay_out_wheel(wheel: Path, root: Path, series: str) -> Recipe:
    """Fill `root` with the package made of a wheel; return its recipe."""
    pure = wheel.name.endswith("-none-any.whl")
    site = "site-packages" if pure else f"lib/python{series}/site-packages"
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        info = next(name for name in names if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)).rsplit("/", 1)[0]
        metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode("utf-8", "replace"))
        entries = f"{info}/entry_points.txt"
        entry_points = console_scripts(archive.read(entries).decode()) if entries in names else ()
        for name in names:
            place = place_of(name, site, "python-scripts" if pure else "bin")
            if place is None:
                continue
            path = root / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(name))
            if ".data/scripts/" in name or (archive.getinfo(name).external_attr >> 16) & 0o100:
                path.chmod(0o755)
    (root / site / info / "INSTALLER").write_text("conda\n")
    # As conda-forge's own packages do: what the record does not name, pip leaves behind when it replaces the package.
    with (root / site / info / "RECORD").open("a") as record:
        record.write(f"{info}/INSTALLER,,\n")
    if not pure:
        write_start_scripts(root, entry_points)
    return Recipe(
        str(canonicalize_name(metadata["Name"])),
        metadata["Version"],
        "pyhd_0" if pure else f"py{series.replace('.', '')}_0",
        depends_of(metadata, series, pure),
        noarch_python=pure,
        entry_points=entry_points,
    )
