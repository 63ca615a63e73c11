"""Make and check the Conda lock: env/conda/environment.yml to conda-lock.yml, by conda-lock and the kit's real conda.

`env/locking/conda.py` locks anew, `--check` only reads. What is solved against is conda-forge (or a mirror of it), or
the records of env/catalog/conda.yml, which hold every package ever locked with its sums and where they were read. A
lock whose inputs are unchanged is solved against the records, so it stays the same byte for byte, whatever conda-forge
has since.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ENV = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ENV), str(ENV.parent / "plugins/module_utils")]

from bundle import alone  # noqa: E402
from hostkit.result import Problem as CatalogueProblem  # noqa: E402
from kit import conda_kit, tools  # noqa: E402
from kit.conda_archive import repodata  # noqa: E402
from kit.conda_itself import CONDARC  # noqa: E402
from kit.fetch import answers  # noqa: E402
from kit.files import digest_of, text_digest, write_whole  # noqa: E402
from kit.forge import CONDA_FORGE  # noqa: E402
from kit.problem import Problem  # noqa: E402
from labwright import catalog  # noqa: E402
from locking.matchspec import UnknownFormError, fits  # noqa: E402

Row = dict[str, Any]
INPUTS = ("environment.yml", "virtual-packages.yml")
PLATFORMS = ("linux-64", "win-64")
SUBDIRS = (*PLATFORMS, "noarch")
SERIES = "3.11"  # of the kit, whose conda solves; not of what is locked
AGAIN = "run `make lock`"
DIGEST_LINE = re.compile(r"^# inputs-sha256: ([0-9a-f]{64})$", re.MULTILINE)
SUM = re.compile(r"[0-9a-f]{64}")
FIELDS = (
    "name", "version", "build", "build_number", "subdir", "noarch", "url", "sha256", "md5", "size", "depends",
    "constrains", "sources",
)  # fmt: skip
RESOLVED = {"resolved": "conda-forge's own index, or a mirror of it, when env/locking/conda.py solved against it"}
HEAD = """# Made by env/locking/conda.py from environment.yml and virtual-packages.yml; not edited by hand.
# inputs-sha256: {digest}
# Where each sum was read: `sources` of the package in env/catalog/conda.yml.
# Install it without Labwright: conda-lock install --name NAME env/conda/conda-lock.yml
# yamllint disable rule:indentation
"""
CATALOGUE_HEAD = """# yamllint disable rule:line-length
# conda-forge packages whose sha256 is known, one line a package, as the channel's index has them: what conda-lock.yml
# is solved against where conda-forge is out of reach. Copied from public lock files by program, never typed, and never
# checked against conda-forge itself, unless `resolved` is among the sources: env/locking/conda.py adds these.
#   sources       where the sums were read, by the keys below
#   build_number  the number in the build string; `noarch` of the win-64 ca-certificates is that of its linux-64 sibling
"""
# conda asks for nothing but the channel; what it answers is kept beside, because the lock holds only a part of it.
CONDA = """#!/bin/bash
set -o pipefail
'{conda}' "$@" | tee "$0-$CONDA_SUBDIR.json"
"""


@dataclass(frozen=True)
class Solved:
    """What conda-lock wrote (with conda-forge's own addresses), and the index's records of it by address."""

    text: str
    records: dict[str, Row]


def inputs_digest(env: Path) -> str:
    """Return the sha256 over the files that the lock is made from."""
    return text_digest(*(part for name in INPUTS for part in (name, (env / "conda" / name).read_bytes())))


def written_digest(env: Path) -> str:
    """Return the digest in the lock's head; empty where there is none."""
    path = env / "conda/conda-lock.yml"
    found = DIGEST_LINE.search(path.read_text(encoding="utf-8")) if path.is_file() else None
    return found[1] if found else ""


def catalogue_text(content: Mapping[str, Any]) -> str:
    """Return env/catalog/conda.yml for this content, the same for the same content."""
    used = {key for row in content["packages"] for key in row["sources"]}
    rows = sorted(content["packages"], key=lambda row: row["url"])
    lines = [f"  {key}: {json.dumps(text)}" for key, text in content["sources"].items() if key in used]
    lines.append("packages:")
    for row in rows:
        kept = {key: row[key] for key in FIELDS if row.get(key) is not None}
        flow = yaml.safe_dump(kept, default_flow_style=True, sort_keys=False, width=1 << 20, allow_unicode=True)
        lines.append(f"  - {flow.strip()}")
    return CATALOGUE_HEAD + "sources:\n" + "\n".join(lines) + "\n"


def write_channel(records: Sequence[Row], folder: Path) -> None:
    """Write the indexes of a channel that holds these packages; the packages themselves are not needed to solve."""
    known = {
        f"{row['subdir']}/{row['url'].rsplit('/', 1)[1]}": {k: row[k] for k in row if k != "sources"} for row in records
    }
    for subdir in SUBDIRS:
        write_whole(folder / subdir / "repodata.json", repodata(subdir, known))


def real_conda(cache: Path) -> Path:
    """Return the kit's conda, installed once for this kit."""
    with alone(cache):
        part = conda_kit.conda_part("auto", SERIES, cache)
    installer = part.files[part.installer["path"]]
    prefix = cache / "kit" / f"base-{digest_of(installer)[:16]}"
    if not (prefix / "ready").is_file():
        shutil.rmtree(prefix, ignore_errors=True)
        done = subprocess.run(
            ["bash", str(installer), "-b", "-p", str(prefix)], check=False, capture_output=True, text=True
        )
        if done.returncode:
            raise Problem(
                f"LW-LOCK-029: the kit's conda could not be installed into {prefix}: {done.stderr.strip()[-500:]}"
            )
        (prefix / "ready").touch()
    return prefix / "bin/conda"


def solve(env: Path, cache: Path, channel: str) -> Solved:
    """Solve the environment with conda-lock against a channel's address, which must end in /conda-forge."""
    base = channel.rstrip("/")
    if not base.endswith("/conda-forge"):
        raise Problem(
            f"LW-LOCK-029: the mirror is {channel}; expected an address that ends in /conda-forge, because conda knows "
            "a channel by the last part of its address. Give the mirror such an address."
        )
    conda_lock = tools.venv(cache, env / "conda/tools.txt").with_name("conda-lock")
    conda = real_conda(cache)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in INPUTS:
            (folder / name).write_bytes((env / "conda" / name).read_bytes())
        # The kit's own settings are spelt out, because conda does not read them beside it when conda-lock calls.
        (folder / "condarc").write_text(
            f"{CONDARC}custom_channels:\n  conda-forge: {base.removesuffix('/conda-forge')}\n"
        )
        # conda-lock would fetch a table of Python's names for conda packages; nothing here comes from a Python index.
        (folder / "names.json").write_text("{}")
        (folder / "conda").write_text(CONDA.format(conda=conda))
        (folder / "conda").chmod(0o755)
        command = [
            str(conda_lock), "lock", "--conda", str(folder / "conda"), "--no-mamba", "--file", "environment.yml",
            "--virtual-package-spec", "virtual-packages.yml", "--lockfile", "conda-lock.yml",
            "--pypi_to_conda_lookup_file", (folder / "names.json").as_uri(),
        ]  # fmt: skip
        # What a person's own conda is set to must not change what everybody gets.
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("CONDA_", "MAMBA_"))}
        done = subprocess.run(
            command,
            cwd=folder,
            env=clean | {"CONDARC": str(folder / "condarc")},
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise Problem(f"LW-LOCK-029: conda-lock could not lock against {channel}: {_why(done.stderr, done.stdout)}")
        text = (folder / "conda-lock.yml").read_text(encoding="utf-8").replace(f"{base}/", CONDA_FORGE)
        records = {}
        for platform in PLATFORMS:
            answer = json.loads((folder / f"conda-{platform}.json").read_text(encoding="utf-8"))
            for found in answer["actions"]["FETCH"]:
                url = found["url"].replace(f"{base}/", CONDA_FORGE)
                records[url] = {key: found[key] for key in FIELDS if found.get(key) not in (None, [])} | {
                    "url": url, "subdir": url.rsplit("/", 2)[1], "depends": found["depends"]
                }  # fmt: skip
    return Solved(text[text.index("version: 1\n") :], records)


def _why(*outputs: str) -> str:
    lines = [line.strip() for text in outputs for line in text.splitlines() if line.strip()]
    told = [line for line in lines if re.match(r"- |\w*(Error|Exception)\b|Encountered|The following", line)]
    return " ".join((told or lines)[:12])[:1500]


def merged(content: Mapping[str, Any], solved: Solved, now: bool) -> dict[str, Any]:
    """Return the catalogue with what was solved; raise Problem where a sum contradicts the catalogue's.

    `now` says that the channel was conda-forge: then each package gets that as a source.
    """
    rows = {row["url"]: dict(row) for row in content["packages"]}
    for url, record in solved.records.items():
        known = rows.setdefault(url, record | {"sources": []})
        for kind in ("sha256", "md5"):
            if known[kind] != record[kind]:
                raise Problem(
                    f"LW-LOCK-026: {url}: {kind} {record[kind]} in the index, but env/catalog/conda.yml has "
                    f"{known[kind]}. One of them is wrong; find out which before anything is locked."
                )
        if now and "resolved" not in known["sources"]:
            known["sources"] = ["resolved", *known["sources"]]
    return {"sources": dict(content["sources"]) | RESOLVED, "packages": list(rows.values())}


def choose(env: Path, source: str, mirror: str) -> tuple[str, str]:
    """Return conda-forge's address, or "" for the records, and why."""
    address = mirror or CONDA_FORGE
    if source == "catalogue":
        return "", "asked for with --source catalogue"
    if source == "conda-forge":
        return address, "asked for with --source conda-forge"
    if written_digest(env) == inputs_digest(env):
        return "", "the inputs are unchanged; --source conda-forge takes what is new"
    if reason := answers(f"{address.rstrip('/')}/noarch/repodata.json", 5):
        return "", f"{address} does not answer: {reason}"
    return address, "it answers"


def lock(env: Path = ENV, source: str = "auto", mirror: str = "") -> list[str]:
    """Lock anew; return what to tell: against what and why, then for each package where its sum comes from."""
    path = env / "catalog/conda.yml"
    content = catalog.checked(env, "conda")
    channel, why = choose(env, source, mirror)
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch, "conda-forge")
        write_channel(content["packages"], here)
        solved = solve(env, tools.cache_folder(), channel or here.as_uri())
    content = merged(content, solved, bool(channel))
    write_whole(path, catalogue_text(content).encode())
    write_whole(env / "conda/conda-lock.yml", (HEAD.format(digest=inputs_digest(env)) + solved.text).encode())
    told = [f"env/conda/conda-lock.yml: solved against {channel or 'env/catalog/conda.yml'} ({why})."]
    rows = {row["url"]: row for row in content["packages"]}
    for package in yaml.safe_load(solved.text)["package"]:
        row = rows[package["url"]]
        known = "; ".join(content["sources"][key] for key in row["sources"] if key != "resolved")
        origin = "resolved now" if channel else f"catalogue: {known or RESOLVED['resolved']}"
        told.append(f"  {package['platform']} {row['name']} {row['version']} sha256:{row['sha256']} {origin}")
    return told


def faults(env: Path = ENV) -> list[str]:
    """Return a sentence for each fault of the committed lock; nothing is fetched or solved."""
    path = env / "conda/conda-lock.yml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        packages = [dict(package) for package in content["package"]]
        virtual = yaml.safe_load((env / "conda/virtual-packages.yml").read_text(encoding="utf-8"))["subdirs"]
        records = {row["url"]: row for row in catalog.checked(env, "conda")["packages"]}
        digest = inputs_digest(env)
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, CatalogueProblem) as error:
        return [f"LW-LOCK-023: env/conda cannot be read ({type(error).__name__}: {error}); {AGAIN}."]
    found = []
    if written_digest(env) != digest:
        found.append(f"LW-LOCK-024: conda-lock.yml was not made from {' and '.join(INPUTS)} as they are now; {AGAIN}.")
    found += [fault for package in packages for fault in _package_faults(package, records.get(package.get("url", "")))]
    for platform in PLATFORMS:
        rows = [records[p["url"]] for p in packages if p.get("platform") == platform and p.get("url") in records]
        if not rows:
            found.append(f"LW-LOCK-024: conda-lock.yml has nothing for {platform}; {AGAIN}.")
            continue
        found += [
            f"LW-LOCK-027: {platform}: {fault}; {AGAIN}."
            for fault in closure_faults(rows, virtual.get(platform, {}).get("packages", {}))
        ]
        found += _series_faults(env, platform, rows)
    return found


def _package_faults(package: Row, record: Row | None) -> Iterator[str]:
    name, version, url, platform = (str(package.get(key, "")) for key in ("name", "version", "url", "platform"))
    what = f"{platform} {name} {version}"
    form = re.compile(
        rf"{re.escape(CONDA_FORGE)}({re.escape(platform)}|noarch)/{re.escape(f'{name}-{version}')}-([^/-]+)\.conda"
    )
    sums = package.get("hash", {})
    if not form.fullmatch(url):
        expected = f"{CONDA_FORGE}{platform}/{name}-{version}-BUILD.conda"
        yield f"LW-LOCK-025: {what} is at {url or 'no address'}; expected {expected} (or noarch); {AGAIN}."
    if not SUM.fullmatch(str(sums.get("sha256", ""))):
        yield f"LW-LOCK-025: {what} has no sha256; {AGAIN}."
    if record is None:
        yield f"LW-LOCK-026: {what} is not in env/catalog/conda.yml, so nobody knows where its sum was read; {AGAIN}."
        return
    same = {"name": name, "version": version, "sha256": sums.get("sha256"), "md5": sums.get("md5")}
    for key, value in same.items():
        if record[key] != value:
            there = f"{record[key]} in env/catalog/conda.yml"
            yield f"LW-LOCK-026: {what}: {key} is {value} in conda-lock.yml, but {there}; {AGAIN}."
    if set(package.get("dependencies", {})) != {spec.split()[0] for spec in record["depends"]}:
        yield f"LW-LOCK-026: {what} depends on other packages than its record in env/catalog/conda.yml says; {AGAIN}."


def closure_faults(rows: Sequence[Row], virtual: Mapping[str, str]) -> Iterator[str]:
    """Yield what does not fit among a platform's packages: a dependency unmet, a constraint broken."""
    here = {row["name"]: (row["version"], row["build"]) for row in rows}
    here |= {name: (value.split()[0], value.partition(" ")[2] or "0") for name, value in virtual.items()}
    for row in rows:
        for key, verb in (("depends", "needs"), ("constrains", "admits only")):
            for spec in row.get(key, ()):
                name = spec.split()[0]
                if name not in here:
                    if key == "depends":
                        yield f"{row['name']} needs `{spec}`, and there is no {name}"
                    continue
                try:
                    if not fits(spec, name, *here[name]):
                        yield f"{row['name']} {verb} `{spec}`, but {name} is {' '.join(here[name])}"
                except UnknownFormError as error:
                    yield f"{row['name']} {verb} `{spec}`, a form ({error}) that env/locking/matchspec.py does not know"


def _series_faults(env: Path, platform: str, rows: Sequence[Row]) -> Iterator[str]:
    python = next((row["version"] for row in rows if row["name"] == "python"), "none")
    for path in [*sorted((env / "stacks").glob("*/stack.yml")), env / "agents/stack.yml"]:
        series = str(yaml.safe_load(path.read_text(encoding="utf-8"))["python"])
        if not python.startswith(f"{series}."):
            yield (
                f"LW-LOCK-028: {platform} has Python {python}, but env/{path.relative_to(env)} wants {series}; make "
                "env/conda/environment.yml and the stack agree."
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return the exit status (0 done or no fault, 1 a fault, 2 not made)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the lock is not right")
    parser.add_argument(
        "--source", choices=["auto", "conda-forge", "catalogue"], default="auto", help="what to solve against"
    )
    parser.add_argument("--mirror-conda-forge", default="", metavar="URL", help=f"instead of {CONDA_FORGE}")
    options = parser.parse_args(argv)
    if options.check:
        found = faults()
        print("\n".join(found) or "The Conda lock fits its inputs and env/catalog/conda.yml.")
        return 1 if found else 0
    try:
        print("\n".join(lock(ENV, options.source, options.mirror_conda_forge)))
    except (Problem, CatalogueProblem) as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
