"""Collect what hosts need (Conda, wheels, models) into one folder with a manifest of sha256 sums, and check it.

`env/bundle.py make --out DIR` brings DIR up to date and prints whether that changed it. `env/bundle.py verify DIR` only
reads. Conda comes from conda-forge or from the kit (env/kit), in the same format; the manifest says from which.
Passwords of mirrors come from the netrc file that pip reads too ($NETRC, else ~/.netrc), never from the command line.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

ENV = Path(__file__).resolve().parent
ROOT = ENV.parent
sys.path.insert(0, str(ROOT / "plugins/module_utils"))

from hostkit import login  # noqa: E402
from kit import conda_kit, fetch, forge, locks, manifest, models, tools, wheels, windows  # noqa: E402
from kit.conda_kit import CondaPart  # noqa: E402
from kit.files import digests_of, write_whole  # noqa: E402
from kit.problem import Problem  # noqa: E402

SERIES = "3.11"


def default_locks(
    env: Path,
    tags: Sequence[str],
    stacks: Sequence[str] = (),
    engines: Sequence[str] = (),
    also: Sequence[str] = (),
    platform: str = tools.LINUX,
) -> list[Path]:
    """The Python locks for a platform's hosts: of the stacks named, or of all but the optional ones (but those in
    `also`), and of the agents. Stacks of other engines than FastChat's own worker are taken where the engine is among
    `engines` and runs there.

    Of the layers that are locked for several torch builds, those of `tags` are taken; a stack without any of them has
    nothing to serve with here, and is left out.
    """
    folders = [path.parent for path in (*sorted(env.glob("stacks/*/stack.yml")), env / "agents/stack.yml")]
    if unknown := set(engines) - {path.stem for path in env.glob("engines/*.yml")}:
        raise Problem(
            f"LW-BUNDLE-027: there is no engine {', '.join(sorted(unknown))} in env/engines. Mend lab_bundle_engines "
            "(--engine)."
        )
    if unknown := {*stacks, *also} - {folder.name for folder in folders}:
        known = ", ".join(folder.name for folder in folders)
        raise Problem(
            f"LW-BUNDLE-024: there is no stack {', '.join(sorted(unknown))}; there are {known}. Mend --stack."
        )
    found: list[Path] = []
    seen: set[str] = set()
    built = False
    for folder in folders:
        stack = yaml.safe_load((folder / "stack.yml").read_text(encoding="utf-8"))
        engine = stack.get("engine", "")
        unasked = stack.get("optional") or (engine and engine not in engines)
        if folder.name not in also and (folder.name not in stacks if stacks else unasked):
            continue
        if platform not in stack.get("platforms", [tools.LINUX]):
            continue
        builds = {f"torch-{tag}-{platform}.txt": tag for tag in stack.get("builds", {})}
        there = sorted(folder.glob(f"*-{platform}.txt"))
        wanted = {builds[path.name] for path in there if path.name in builds} & set(tags)
        seen |= wanted
        built |= bool(builds)
        if engine in engines and not wanted:
            has = ", ".join(builds[path.name] for path in there if path.name in builds)
            raise Problem(
                f"LW-BUNDLE-026: the engine {engine} is locked for {has} on {platform}, and the bundle is made for "
                f"{', '.join(tags)}. Add one of those to lab_bundle_tags (--tag)."
            )
        if wanted or not builds:
            found += [path for path in there if path.name not in builds or builds[path.name] in wanted]
    lacking = [tag for tag in tags if tag not in seen]
    if built and lacking:
        raise Problem(
            f"LW-BUNDLE-025: no stack that is taken has a lock for the torch build {', '.join(lacking)} on {platform}; "
            "docs/reference/locks.md lists what there is. Mend lab_bundle_tags (--tag)."
        )
    return found


def previous_source(folder: Path) -> str:
    """Return the source of the bundle that is there; empty where there is none."""
    try:
        return str(manifest.read(folder)["source"])
    except Problem:
        return ""


def conda_part(options: argparse.Namespace, cache: Path) -> CondaPart:
    """Return the Conda part from the source asked for; `auto` tries conda-forge unless the bundle has the kit's."""
    if options.source == "kit":
        return conda_kit.conda_part(options.python, SERIES, cache, options.debian_mirror)
    installer = forge.read_installer(ENV / "catalog/installers.yml")
    packages = forge.read_lock(ENV)
    mirrors = forge.Mirrors(options.mirror_conda_forge, options.mirror_miniforge)
    if options.source == "conda-forge":
        return forge.conda_part(installer, packages, mirrors, cache)
    # A bundle keeps its source: one slow answer of the network must not change every host's Conda.
    before = previous_source(options.out)
    reason = "the bundle that is there was made by it" if before == "kit" else ""
    if not reason and before != "conda-forge":
        reason = forge.unreachable(installer, packages, mirrors, options.timeout)
    if not reason:
        return forge.conda_part(installer, packages, mirrors, cache)
    print(f"Conda from the kit: {reason}. (--source conda-forge insists.)", file=sys.stderr)
    return conda_kit.conda_part(options.python, SERIES, cache, options.debian_mirror)


@contextmanager
def alone(cache: Path) -> Iterator[None]:
    """Hold the cache for one making at a time; a second one waits."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "bundle.lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Another making uses {cache}; this one waits for its end.", file=sys.stderr)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def make(options: argparse.Namespace) -> int:
    """Bring the bundle up to date; print source, how and changed."""
    cache = tools.cache_folder()
    login.use(fetch.logins())
    if options.python_index:
        os.environ["PIP_INDEX_URL"] = options.python_index  # for every pip that is run from here
    with alone(cache), manifest.held(options.out):
        result = made(options, cache)
    if options.json:
        print(json.dumps(result, sort_keys=True))
    else:
        print(f"source={result['source']} ({result['how']})")
        print(f"files={result['files']}\nchanged={str(result['changed']).lower()}")
    return 0


def made(options: argparse.Namespace, cache: Path) -> dict[str, object]:
    """Bring the bundle up to date; return what it is now and whether that changed it."""
    out: Path = options.out
    platforms = [tools.LINUX, *([tools.WINDOWS] if tools.WINDOWS in options.platform or options.windows else [])]
    part = conda_part(options, cache)
    conda: dict[str, Any] = {"installer": part.installer, "environment": part.environment, "series": SERIES}
    sources = dict(part.files)
    other = None
    if tools.WINDOWS in platforms:
        mirrors = forge.Mirrors(options.mirror_conda_forge, options.mirror_miniforge)
        other = windows.part(ENV, options.windows, options.installer, mirrors, cache)
        sources = together(sources, other.files, cache)
        conda["windows"] = {"installers": other.installers, "environment": other.environment}
    found: dict[str, tuple[Path, str]] = {}
    for platform in platforms:
        named = [path.resolve() for path in options.lock if (tools.WINDOWS in path.name) == (platform == tools.WINDOWS)]
        also = options.also if platform == tools.LINUX else []  # what is optional stands behind the API, so on Linux
        wanted = (options.tag or ["cpu"], options.stack, options.engine, also, platform)
        lock_files = named if options.lock else default_locks(ENV, *wanted)
        sources |= {f"recipes/{_recipe_name(path)}": path for path in lock_files}
        pins = locks.read_locks(lock_files, SERIES, platform)
        index = options.torch_index or wheels.TORCH_INDEX
        found |= wheels.collect(pins, out / "wheels", cache, SERIES, index, platform)
    digests = _digests(sources)
    catalogue = models.read_catalogue(ENV / "catalog/models.yml")
    hubs = {models.HUGGING_FACE: options.mirror_huggingface, models.MODELSCOPE: options.mirror_modelscope}
    found |= models.collect(catalogue, options.model, ROOT, cache, hubs)
    for name, (path, digest) in found.items():
        sources[name], digests[name] = path, digest
    how = f"{part.how} {other.how}" if other else part.how
    changed = manifest.sync(out, sources, digests)
    changed = manifest.seal(out, part.source, how, conda, digests) or changed
    return {"changed": changed, "folder": str(out), "source": part.source, "how": how, "files": len(digests) + 1}


def together(linux: Mapping[str, Path], win: Mapping[str, Path], cache: Path) -> dict[str, Path]:
    """Files of both parts. What is for both systems (channel/noarch) has one index, and one file under each name."""
    shared = {name for name in linux.keys() & win.keys() if linux[name].read_bytes() != win[name].read_bytes()}
    found = {**linux, **win}
    for name in sorted(shared):
        if not name.endswith("/repodata.json"):
            raise Problem(
                f"LW-BUNDLE-056: {name} is one file for Linux and another for Windows. Make both of one origin: leave "
                "--windows out, or fill its folder with files from where Conda for Linux comes from."
            )
        one, other = (json.loads(part[name].read_text(encoding="utf-8")) for part in (linux, win))
        one["packages.conda"] |= other["packages.conda"]
        found[name] = cache / "index-both" / name
        write_whole(found[name], (json.dumps(one, indent=1, sort_keys=True) + "\n").encode())
    return found


def _recipe_name(lock: Path) -> str:
    return lock.relative_to(ENV).as_posix() if lock.is_relative_to(ENV) else f"other/{lock.name}"


def _digests(sources: dict[str, Path]) -> dict[str, str]:
    digests = digests_of(sources.values())
    return {name: digests[path] for name, path in sources.items()}


def verify(options: argparse.Namespace) -> int:
    """Check every file of a bundle against its manifest."""
    found = manifest.verify(options.folder)
    print(f"{options.folder}: {len(found['files'])} files are as the manifest says (source: {found['source']}).")
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    top = argparse.ArgumentParser(prog="bundle.py", description=__doc__)
    verbs = top.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("make", help="make a bundle, or bring one up to date")
    one.add_argument("--out", type=Path, required=True, help="the bundle's folder")
    one.add_argument("--source", choices=["auto", "conda-forge", "kit"], default="auto", help="where Conda comes from")
    one.add_argument(
        "--python", default="auto", help="kit: a plain CPython 3.11 (executable or prefix), auto, or build"
    )
    one.add_argument(
        "--lock", type=Path, action="append", default=[], help="a requirements file with hashes; repeatable"
    )
    one.add_argument(
        "--tag", action="append", default=[], help="a torch build to take, such as cu126; repeatable; default: cpu"
    )
    one.add_argument(
        "--stack", action="append", default=[], help="a stack to take; repeatable; default: all but optional ones"
    )
    one.add_argument("--also", action="append", default=[], help="an optional stack to take beside those; repeatable")
    one.add_argument(
        "--platform", choices=[tools.LINUX, tools.WINDOWS], action="append", default=[],
        help="whose hosts to serve; Linux's always; repeatable",
    )  # fmt: skip
    one.add_argument(
        "--windows",
        type=Path,
        metavar="FOLDER",
        help="take Windows' installers and conda packages from here (windows.json)",
    )
    one.add_argument(
        "--installer", choices=[windows.DOCKER], action="append", default=[], help="a further installer for Windows"
    )
    one.add_argument("--engine", action="append", default=[], help="an engine beside FastChat's own; repeatable")
    one.add_argument(
        "--model",
        action="append",
        default=[],
        help="a hub model of the catalogue (or its NAME-int4) to fetch too; repeatable",
    )
    one.add_argument("--mirror-conda-forge", default="", metavar="URL", help=f"instead of {forge.CONDA_FORGE}")
    one.add_argument("--mirror-huggingface", default="", metavar="URL", help=f"instead of {models.HUGGING_FACE}")
    one.add_argument("--mirror-modelscope", default="", metavar="URL", help=f"instead of {models.MODELSCOPE}")
    one.add_argument(
        "--mirror-miniforge", default="", metavar="URL", help="the folder that has Miniforge's installer ({version})"
    )
    one.add_argument("--python-index", default="", metavar="URL", help="instead of pip's own")
    one.add_argument("--torch-index", default="", metavar="URL", help=f"instead of {wheels.TORCH_INDEX}")
    one.add_argument("--debian-mirror", default="", metavar="URL", help="for --python build; default: apt's own")
    one.add_argument("--timeout", type=float, default=5, help="seconds to wait for conda-forge's first answer (auto)")
    one.add_argument("--json", action="store_true", help="print the result as one JSON line")
    one.set_defaults(run=make)
    two = verbs.add_parser("verify", help="compare a bundle with its manifest, byte for byte")
    two.add_argument("folder", type=Path)
    two.set_defaults(run=verify)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 when all is well, 1 with a sentence on standard error when not."""
    options = parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except Problem as problem:
        print(login.hide(str(problem)), file=sys.stderr)
    except OSError as error:
        print(
            f"LW-BUNDLE-009: {error}. Expected a disk with room, files that this user may read and write, and no link "
            "that leads nowhere. Mend what is named, and run it again.",
            file=sys.stderr,
        )
    return 1


if __name__ == "__main__":
    sys.exit(main())
