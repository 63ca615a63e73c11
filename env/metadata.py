"""Make env/catalog/metadata.yml anew from env/catalog/metadata.in: what packages say of themselves, for env/pins.py.

`python env/metadata.py` asks the Python index that this machine's pip is set to. It reads the metadata inside each
wheel and nothing else of it, by ranges, as `pip install --use-feature=fast-deps` does: `pip install --report` would
fetch the wheels whole, and torch's have up to 900 MB. That is why it uses parts of pip that pip does not promise to
keep; it ran with pip 23.2.1.
"""

from __future__ import annotations

import argparse
import email
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

CATALOG = Path(__file__).resolve().parent / "catalog"
LIST, DATA = CATALOG / "metadata.in", CATALOG / "metadata.yml"
# Wheels of one version may differ in their metadata: the first of these Pythons that has one, on 64-bit Linux, speaks.
PYTHONS = ((3, 11), (3, 10), (3, 12), (3, 13), (3, 14))
PLATFORMS = (
    "manylinux1_x86_64",
    "manylinux2010_x86_64",
    "manylinux2014_x86_64",
    "manylinux_2_28_x86_64",
    "linux_x86_64",
)
EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")
HEAD = """\
# What packages say of themselves: requires_python and requires_dist, word for word as their wheels' METADATA has them.
# Made by env/metadata.py from metadata.in, by reading the metadata of wheels on the Python index; not edited by hand.
# Requirements of extras that metadata.in does not name are left out. The wheel that was read is the one for CPython
# 3.11 on 64-bit Linux, or for the next Python that has one. An empty requires_python admits all.
"""


class MetadataError(Exception):
    """Something a person can set right; its text starts with an id."""


@dataclass(frozen=True)
class Wanted:
    """A line of metadata.in; `versions` may hold the words `all` and `newest`."""

    name: str
    extras: frozenset[str]
    versions: tuple[str, ...]


def read_list(text: str) -> list[Wanted]:
    """Read metadata.in; raise MetadataError for a line that is none."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        try:
            head = Requirement(words[0])
        except InvalidRequirement as error:
            raise MetadataError(f"LW-METADATA-001: {LIST.name}, line {number}: {error}") from error
        if len(words) == 1:
            raise MetadataError(f"LW-METADATA-001: {LIST.name}, line {number}: {head.name} has no version, nor `all`.")
        found.append(Wanted(canonicalize_name(head.name), frozenset(head.extras), tuple(words[1:])))
    return found


def chosen(wanted: Wanted, there: Iterable[Version]) -> list[Version]:
    """The versions that a line means, of those that are there; raise MetadataError where one is missing."""
    final = sorted(one for one in there if not one.is_prerelease and one.local is None)
    if not final:
        raise MetadataError(f"LW-METADATA-002: the index has no wheel of {wanted.name}; mend {LIST.name}.")
    if "all" in wanted.versions:
        return final
    asked = {final[-1] if word == "newest" else Version(word) for word in wanted.versions}
    missing = sorted(asked - set(final))
    if missing:
        raise MetadataError(f"LW-METADATA-002: the index has no wheel of {wanted.name} {missing[0]}; mend {LIST.name}.")
    return sorted(asked)


def wanted_here(line: str, extras: frozenset[str]) -> bool:
    """Whether a requirement belongs to the package itself or to one of these extras."""
    names = {canonicalize_name(name) for name in EXTRA.findall(line)}
    return not names or bool(names & {canonicalize_name(name) for name in extras})


class Index:
    """The Python index of this machine, through pip."""

    def __init__(self) -> None:
        """Read pip's configuration."""
        from pip._internal.commands import create_command
        from pip._internal.models.target_python import TargetPython

        command: Any = create_command("install")
        options, _ = command.parse_args(["--only-binary=:all:", "--quiet"])
        self._context = command.main_context()
        self._context.__enter__()
        self._session = command.get_default_session(options)
        self._finders = [
            command._build_package_finder(
                options, self._session, TargetPython(list(PLATFORMS), python), ignore_requires_python=True
            )
            for python in PYTHONS
        ]

    def wheels(self, name: str) -> dict[Version, Any]:
        """Each version's nearest wheel, as pip's link."""
        found: dict[Version, Any] = {}
        for finder in self._finders:
            for one in finder.find_all_candidates(name):
                version = Version(str(one.version))
                # A wheel in a folder of this machine may be another build than the index has.
                if version not in found or (found[version].scheme == "file" and one.link.scheme != "file"):
                    found[version] = one.link
        return found

    def metadata(self, name: str, link: Any) -> tuple[str, list[str]]:
        """requires_python ("" for any) and requires_dist."""
        from pip._internal.metadata import FilesystemWheel, get_wheel_distribution
        from pip._internal.network.lazy_wheel import dist_from_wheel_url

        if link.scheme == "file":
            dist = get_wheel_distribution(FilesystemWheel(link.file_path), canonicalize_name(name))
        else:
            dist = dist_from_wheel_url(name, link.url_without_fragment, self._session)
        words = dist.metadata
        return str(words.get("Requires-Python") or ""), [str(one) for one in words.get_all("Requires-Dist") or []]

    def needs(self, name: str, url: str) -> tuple[str, list[str]]:
        """The same of the wheel at an address: as the index tells it, or else out of the wheel."""
        from pip._internal.models.link import Link

        answer = self._session.get(f"{url}.metadata")
        if answer.status_code != 200:
            return self.metadata(name, Link(url))
        words = email.message_from_bytes(answer.content)
        return str(words.get("Requires-Python") or ""), [str(one) for one in words.get_all("Requires-Dist") or []]

    def close(self) -> None:
        """Let pip go."""
        self._context.__exit__(None, None, None)


def gather(wanted: Sequence[Wanted], index: Index) -> dict[str, dict[str, dict[str, Any]]]:
    """Each package's versions with their requires_python and requires_dist, oldest first."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for one in sorted(wanted, key=lambda row: row.name):
        links = index.wheels(one.name)
        for version in chosen(one, links):
            python, needs = index.metadata(one.name, links[version])
            lines = [line for line in needs if wanted_here(line, one.extras)]
            entry = {"requires_python": python, "requires_dist": lines}
            found.setdefault(one.name, {})[str(version)] = entry
        print(f"{one.name}: {len(found[one.name])} versions", file=sys.stderr)
    return found


def render(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """The data file's text."""
    body = yaml.safe_dump({"packages": found}, sort_keys=False, width=1000, allow_unicode=True)
    return HEAD + re.sub(r"^( *)- ", r"\1  - ", body, flags=re.MULTILINE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return the exit status (0 written, 2 not)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.parse_args(argv)
    try:
        wanted = read_list(LIST.read_text(encoding="utf-8"))
        index = Index()
        try:
            found = gather(wanted, index)
        finally:
            index.close()
    except MetadataError as error:
        print(error, file=sys.stderr)
        return 2
    DATA.write_text(render(found), encoding="utf-8")
    print(f"{DATA.relative_to(CATALOG.parent.parent)}: {len(found)} packages, {sum(map(len, found.values()))} versions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
