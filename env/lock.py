"""Make the locks: from the small `.in` files beside them to packages, versions and hashes, without any index address.

`python env/lock.py [NAME...]` locks anew (all targets, or those named); `python env/lock.py --check` reads only, and
refuses a lock that does not fit its inputs. A stack is one closure, resolved once and then split by layer, so that
layers cannot disagree. Resolving needs `uv` and the machine's Python index; checking needs neither.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from packaging.tags import Tag
from packaging.utils import canonicalize_name, parse_wheel_filename

ENV = Path(__file__).resolve().parent
# The oldest C library among the supported systems is RHEL 8's, 2.28; torch's own wheels ask for the same.
GLIBC_MINOR = 28
CONTROL_PYTHONS = (11, 12, 13)
DIGEST_LINE = re.compile(r"^# inputs-sha256: ([0-9a-f]{64})$", re.MULTILINE)
ADDRESS = re.compile(r"https?://|file:|^\s*--?(i|index-url|extra-index-url|find-links|f)\b|\s@\s", re.MULTILINE)
HASH = re.compile(r"^sha256:[0-9a-f]{64}$")


class LockError(Exception):
    """Something a person can set right; its text starts with an id."""


@dataclass(frozen=True)
class Layer:
    """One lock file. `roots` are the packages whose needs it holds; empty means: whatever no other layer holds."""

    role: str
    lock: str
    roots: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """One closure. `python` is the CPython minor version of a host's stack, or None for the control node's range."""

    name: str
    folder: Path
    inputs: tuple[str, ...]
    layers: tuple[Layer, ...]
    overrides: str | None = None
    constraints: tuple[str, ...] = ()
    python: int | None = None
    no_deps: bool = False


@dataclass(frozen=True)
class Package:
    """One entry of a lock: canonical name, version, environment marker (may be empty), sha256 of its usable wheels."""

    name: str
    version: str
    marker: str = ""
    hashes: tuple[str, ...] = field(default=())

    def render(self) -> str:
        """Return the entry as pip reads it in hash mode."""
        marker = f" ; {self.marker}" if self.marker else ""
        return " \\\n    ".join([f"{self.name}=={self.version}{marker}", *(f"--hash=sha256:{h}" for h in self.hashes)])


def control_targets(env: Path) -> list[Target]:
    """Return the control node's locks; `develop` may not contradict the first."""
    folder = env / "control"
    return [
        Target("requirements", folder, ("requirements.in",), (Layer("control", "requirements.txt"),)),
        Target(
            "develop",
            folder,
            ("requirements.in", "develop.in"),
            (Layer("develop", "develop.txt"),),
            constraints=("requirements.txt",),
        ),
        Target(
            "conda-lock", env / "conda", ("tools.in",), (Layer("conda-lock", "tools.txt"),), overrides="overrides.in"
        ),
        Target("collections", folder, ("collections.in",), (Layer("collections", "collections.txt"),), no_deps=True),
    ]


def read_stack(path: Path) -> Target:
    """Read a `stack.yml` (name, python, inputs, overrides, layers); raise LockError when it lacks one of them."""
    stack = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        layers = tuple(Layer(x["role"], x["lock"], tuple(x.get("roots", ()))) for x in stack["layers"])
        minor = int(str(stack["python"]).removeprefix("3."))
        inputs, name = tuple(stack["inputs"]), str(stack["name"])
    except (KeyError, TypeError, ValueError) as error:
        raise LockError(
            f"LW-LOCK-001: {path} is not a stack: {error!r}. It needs name, python ('3.11'), inputs and layers "
            "(role, lock); copy the form of env/stacks/chatglm2/stack.yml."
        ) from error
    return Target(name, path.parent, inputs, layers, overrides=stack.get("overrides"), python=minor)


def all_targets(env: Path) -> list[Target]:
    """Return every closure of the repository, in the order in which they must be locked."""
    stacks = [*sorted((env / "stacks").glob("*/stack.yml")), env / "agents" / "stack.yml"]
    return control_targets(env) + [read_stack(path) for path in stacks]


def inputs_digest(target: Target) -> str:
    """Return the sha256 over names and contents of the files that a lock is made from."""
    digest = hashlib.sha256()
    for name in [*target.inputs, *([target.overrides] if target.overrides else [])]:
        path = target.folder / name
        if not path.is_file():
            raise LockError(f"LW-LOCK-002: {path} is missing, but the target {target.name} is locked from it.")
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _glibc_fits(platform: str) -> bool:
    if match := re.fullmatch(r"manylinux_2_(\d+)_x86_64", platform):
        return int(match[1]) <= GLIBC_MINOR
    return platform in {"any", "linux_x86_64", "manylinux1_x86_64", "manylinux2010_x86_64", "manylinux2014_x86_64"}


def _interpreter_fits(tag: Tag, minor: int) -> bool:
    if tag.abi == "none":
        return tag.interpreter in {"py3", f"cp3{minor}", f"py3{minor}"}
    match = re.fullmatch(r"cp3(\d+)", tag.interpreter)
    if match is None:
        return False
    return tag.abi == f"cp3{minor}" == tag.interpreter or (tag.abi == "abi3" and int(match[1]) <= minor)


def wheel_fits(filename: str, minors: Iterable[int], machines: Iterable[str] = ("x86_64",)) -> bool:
    """Say whether a wheel can be used on glibc Linux by one of these CPython 3.x on one of these machines."""
    tags = parse_wheel_filename(filename)[3]
    # aarch64 is judged by the same rules as x86_64, under its own name.
    return any(
        _interpreter_fits(tag, minor) and _glibc_fits(tag.platform.replace(machine, "x86_64"))
        for tag in tags
        for minor in minors
        for machine in machines
        if machine == "x86_64" or "x86_64" not in tag.platform
    )


def read_pylock(text: str, target: Target) -> list[Package]:
    """Turn uv's PEP 751 output into lock entries with the hashes of those wheels that the target's machines can use."""
    if target.python is None:
        minors: tuple[int, ...] = CONTROL_PYTHONS
        machines: tuple[str, ...] = ("x86_64", "aarch64")
    else:
        minors, machines = (target.python,), ("x86_64",)
    packages = []
    for entry in tomllib.loads(text).get("packages", []):
        hashes = sorted(
            wheel["hashes"]["sha256"]
            for wheel in entry.get("wheels", [])
            if wheel_fits(wheel.get("name") or _file_name(wheel), minors, machines)
        )
        if not hashes:
            raise LockError(
                f"LW-LOCK-003: no wheel of {entry['name']} {entry['version']} fits {target.name}, and locks hold "
                "wheels only. Choose another version in the .in file."
            )
        packages.append(Package(entry["name"], entry["version"], entry.get("marker", ""), tuple(hashes)))
    return packages


def _file_name(wheel: dict[str, str]) -> str:
    location = wheel.get("url") or wheel["path"]
    return location.rsplit("/", 1)[-1].replace("%2B", "+")


def pip_places(listing: str) -> list[str]:
    """Turn the output of `pip config list` into uv options, so that uv asks where the machine's pip asks.

    Extra indexes are left out on purpose: one that holds only some files of a version would give a lock that lacks
    the hashes of the others.
    """
    options: dict[str, list[str]] = {}
    for line in listing.splitlines():
        key, _, value = line.partition("=")
        option = {"index-url": "--default-index", "find-links": "--find-links"}.get(key.rpartition(".")[2])
        if option:
            options.setdefault(option, []).extend(value.strip("'\"").split())
    pairs = {(option, place): None for option, places in options.items() for place in places}
    return [word for pair in pairs for word in pair]


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise LockError("LW-LOCK-004: uv is not installed; it is in env/control/develop.txt, so run `make develop`.")
    return found


def compile_closure(target: Target, sources: Sequence[Path], constraints: Sequence[Path]) -> list[Package]:
    """Resolve the sources with uv and return the entries."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    where = ["--universal", "--python-version", f"3.{CONTROL_PYTHONS[0]}"]
    if target.python is not None:
        where = ["--python-version", f"3.{target.python}", "--python-platform", f"x86_64-manylinux_2_{GLIBC_MINOR}"]
    argv = [_uv(), "pip", "compile", *map(str, sources), *where, *pip_places(listing.stdout)]
    argv += [
        "--format",
        "pylock.toml",
        "--generate-hashes",
        "--no-header",
        "--no-annotate",
        "--only-binary",
        ":all:",
        "-q",
    ]
    argv += [word for path in constraints for word in ("--constraints", str(path))]
    if target.overrides:
        argv += ["--overrides", str(target.folder / target.overrides)]
    if target.no_deps:
        argv.append("--no-deps")
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LockError(f"LW-LOCK-005: uv could not resolve {target.name}:\n{done.stderr.strip()}")
    return read_pylock(done.stdout, target)


def split(target: Target, closure: Sequence[Package], needs: dict[str, set[str]]) -> dict[str, list[Package]]:
    """Share a closure out: a layer takes what its roots need and no earlier layer took; without roots, the rest."""
    left = {package.name: package for package in closure}
    shares: dict[str, list[Package]] = {}
    for layer in target.layers:
        wanted = needs[layer.lock] if layer.roots else set(left)
        shares[layer.lock] = [left.pop(name) for name in sorted(wanted & set(left))]
    if left:
        raise LockError(
            f"LW-LOCK-006: {', '.join(sorted(left))} of {target.name} belong to no layer; "
            "let the last layer of its stack.yml have no roots."
        )
    return shares


def render(target: Target, packages: Sequence[Package]) -> str:
    """Return a lock file's text."""
    sources = ", ".join([*target.inputs, *([target.overrides] if target.overrides else [])])
    head = f"# Made by env/lock.py from {sources}; not edited by hand.\n# inputs-sha256: {inputs_digest(target)}\n"
    return head + "".join(f"{package.render()}\n" for package in sorted(packages, key=lambda p: p.name))


def lock(target: Target) -> list[Path]:
    """Resolve a target and write its lock files; return them."""
    closure = compile_closure(
        target, [target.folder / name for name in target.inputs], [target.folder / name for name in target.constraints]
    )
    needs: dict[str, set[str]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        pins = Path(scratch, "closure.txt")
        pins.write_text("".join(f"{p.name}=={p.version}\n" for p in closure), encoding="utf-8")
        for layer in target.layers:
            if layer.roots:
                roots = Path(scratch, f"{layer.role}.in")
                roots.write_text("\n".join(layer.roots), encoding="utf-8")
                needs[layer.lock] = {p.name for p in compile_closure(target, [roots], [pins])}
    written = []
    for name, packages in split(target, closure, needs).items():
        path = target.folder / name
        path.write_text(render(target, packages), encoding="utf-8")
        written.append(path)
    return written


def read_lock(text: str) -> list[Package]:
    """Read a lock file's entries back."""
    packages = []
    for logical in re.sub(r"\\\n", " ", text).splitlines():
        words = logical.split("#", 1)[0].split()
        if not words:
            continue
        entry, *rest = words
        name, _, version = entry.partition("==")
        hashes = tuple(w.removeprefix("--hash=") for w in rest if w.startswith("--hash="))
        marker = " ".join(w for w in rest if not w.startswith("--hash=")).removeprefix(";").strip()
        packages.append(Package(canonicalize_name(name), version, marker, hashes))
    return packages


def check(target: Target) -> Iterator[str]:
    """Yield a sentence for each fault of a target's locks."""
    digest = inputs_digest(target)
    again = f"run `python env/lock.py {target.name}`."
    for layer in target.layers:
        path = target.folder / layer.lock
        where = f"{path.parent.name}/{path.name}"
        if not path.is_file():
            yield f"LW-LOCK-010: {where} does not exist; {again}"
            continue
        text = path.read_text(encoding="utf-8")
        found = DIGEST_LINE.search(text)
        if found is None or found[1] != digest:
            yield f"LW-LOCK-011: {where} was not made from {', '.join(target.inputs)} as they are now; {again}"
        if match := ADDRESS.search(text):
            yield f"LW-LOCK-012: {where} names a place ({match[0].strip()!r}), which is a setting of a machine; {again}"
    yield from (f"{fault}; {again}" for fault in _check_entries(target))


def _check_entries(target: Target) -> Iterator[str]:
    pinned = {p.name: p.version for name in target.constraints for p in _read_if_there(target.folder / name)}
    holder: dict[str, str] = {}
    for layer in target.layers:
        path = target.folder / layer.lock
        where = f"{path.parent.name}/{path.name}"
        for package in _read_if_there(path):
            if not package.version or not package.hashes or not all(map(HASH.match, package.hashes)):
                yield f"LW-LOCK-013: {where}: {package.name} has no version or no sha256"
            first = holder.setdefault(package.name, where)
            if first != where:
                yield f"LW-LOCK-014: {package.name} is in {first} and in {where}, but layers may not overlap"
            wanted = pinned.get(package.name, package.version)
            if wanted != package.version:
                yield f"LW-LOCK-015: {where} has {package.name} {package.version}, but the first lock has {wanted}"


def _read_if_there(path: Path) -> list[Package]:
    return read_lock(path.read_text(encoding="utf-8")) if path.is_file() else []


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return the exit status (0 done or no fault, 1 a fault, 2 wrong use)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="*", metavar="NAME", help="targets to lock or check; all of them by default")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a lock is not right")
    options = parser.parse_args(argv)
    try:
        targets = all_targets(ENV)
        unknown = set(options.names) - {t.name for t in targets}
        if unknown:
            known = ", ".join(t.name for t in targets)
            raise LockError(f"LW-LOCK-007: there is no target {', '.join(sorted(unknown))}; there are {known}.")
        chosen = [t for t in targets if not options.names or t.name in options.names]
        if options.check:
            faults = [fault for target in chosen for fault in check(target)]
            print("\n".join(faults) or f"{len(chosen)} lock targets fit their inputs.")
            return 1 if faults else 0
        for target in chosen:
            for path in lock(target):
                print(f"{path.relative_to(ENV.parent)}: {len(read_lock(path.read_text('utf-8')))} packages")
    except LockError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
