"""Verb ``env``: a Conda prefix from its locks, layer by layer, every file's hash checked, the stamp written last.

Request: ``prefix``; ``link`` (a name for people that points at the prefix, or ""); ``conda`` (the executable);
``store``; ``layers``, in order, each ``name``, ``digest`` and either ``conda`` (a list of files in install order) or
``requirements`` (the lock's text) with ``wheels`` (files) or ``index`` (pip options for a mirror). A file is ``url``,
``sha256``, ``size``. With ``state: absent``, only ``root``: the folder of all environments; with ``state:
tidy`` also ``planned``: the requests for those that stay. Answer: ``made`` (id of this making), ``prefix``, ``todo``;
or ``gone``.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hostkit import fetch, login, place, stamped
from hostkit.result import Problem, Result
from hostkit.state import Decision, State, decide, drift_of, installed, new_id, pinned

WHAT = "environments"


def run(request: dict[str, Any], check: bool) -> Result:
    """Make or complete one environment, remove all of them, or those that are planned no longer."""
    wanted = request.get("state", "present")
    if wanted == "absent":
        return stamped.remove(Path(request["root"]), WHAT, check, links=True)
    if wanted == "tidy":
        return tidy(Path(request["root"]), request["planned"], check)
    prefix = Path(request["prefix"])
    decision = look(request)
    state = State.read(prefix)
    relink = bool(request.get("link")) and not points_at(Path(request["link"]), prefix)
    if not decision.todo and not relink:
        return Result(data={"made": state.made if state else "", "prefix": str(prefix), "todo": []})
    todo = [str(layer["name"]) for layer in decision.todo]
    result = Result(
        changed=True,
        message=f"{prefix.name}: {decision.reason}"
        if decision.reason
        else f"{prefix.name}: next {', '.join(todo) or 'link'}",
        before="" if decision.rebuild or state is None else describe(prefix, state.layers),
        after=describe(prefix, [(str(layer["name"]), str(layer["digest"])) for layer in request["layers"]]),
        data={"made": state.made if state else "pending", "prefix": str(prefix), "todo": todo},
    )
    if decision.rebuild:
        result.warning = f"{prefix} is made anew: {decision.reason}"
    if check:
        return result
    if decision.todo:
        result.data["made"] = make(request, prefix, decision)
    if relink:
        point(Path(request["link"]), prefix)
    return result


def look(request: dict[str, Any]) -> Decision:
    """What there is to do for this request; touches nothing."""
    prefix = Path(request["prefix"])
    state = State.read(prefix)
    return decide(state, prefix.exists(), drift(prefix, state, request["layers"]), request["layers"])


def drift(prefix: Path, state: State | None, layers: list[dict[str, Any]]) -> list[str]:
    """Differences between the locks and what is installed, as far as this request knows the locks.

    Only a request that names every whole layer can tell an added package from one of a later layer.
    """
    if state is None or state.in_progress:
        return []
    known = {str(layer["name"]): str(layer.get("requirements", "")) for layer in layers}
    wanted: dict[str, str] = {}
    for name, _digest in state.layers:
        wanted.update(pinned(known.get(name, "")))
    present = installed(prefix)
    if any(name not in known for name, _digest in state.layers):
        present = {name: version for name, version in present.items() if name in wanted}
    lines = drift_of(wanted, present, {"pip", "setuptools", "wheel", "packaging"})
    native = [file for layer in layers for file in layer.get("conda", [])]
    return conda_drift(prefix, native) + lines if native else lines


def conda_drift(prefix: Path, files: list[dict[str, Any]]) -> list[str]:
    """The same for what conda installed: it keeps a record under each package's full name."""
    wanted = {re.sub(r"(\.conda|\.tar\.bz2)$", "", fetch.name_of(file)) for file in files}
    present = {path.stem for path in (prefix / "conda-meta").glob("*.json")}
    lines = [f"conda's {name} is gone" for name in sorted(wanted - present)]
    return lines + [f"conda's {name} is in no lock" for name in sorted(present - wanted)]


def describe(prefix: Path, layers: list[tuple[str, str]]) -> str:
    """The lines of the diff."""
    return "".join(f"{prefix} {name} {digest[:12]}\n" for name, digest in layers)


def files_of(layer: dict[str, Any]) -> list[dict[str, Any]]:
    """The files that a layer takes from the bundle (none where pip asks an index)."""
    return [*layer.get("conda", []), *layer.get("wheels", [])]


def make(request: dict[str, Any], prefix: Path, decision: Decision) -> str:
    """Make the layers that are missing; return the id of this making. Where that fails, what was there is back."""
    try:
        made = fill(request, prefix, decision)
    except BaseException as error:
        if bring_back(prefix) and isinstance(error, Problem):
            raise Problem(error.code, f"{error.message.rstrip('.')}. {prefix} is again what it was before.") from error
        raise
    let_go(prefix)
    return made


def fill(request: dict[str, Any], prefix: Path, decision: Decision) -> str:
    """The layers that are missing, one after the other, each stamped when it is whole."""
    store = Path(request["store"])
    paths = {file["sha256"]: fetch.fetch(store, file) for layer in decision.todo for file in files_of(layer)}
    if decision.rebuild:
        set_aside(prefix)
    state = State.read(prefix) or State(made=new_id())
    for layer in decision.todo:
        state.in_progress = str(layer["name"])
        state.write(prefix)
        if "conda" in layer:
            conda_layer(request, prefix, [paths[file["sha256"]] for file in layer["conda"]])
        else:
            pip_layer(prefix, layer, [paths[file["sha256"]] for file in layer.get("wheels", [])])
        state.layers.append((str(layer["name"]), str(layer["digest"])))
        state.in_progress = ""
        state.write(prefix)
        # The interpreter's packages stay in the store: the host's next environment takes the same ones.
        fetch.discard(store, layer.get("wheels", []))
    return state.made


def old_of(prefix: Path) -> Path:
    """Where an environment waits while it is made anew: it runs under its own path alone, so it must come back."""
    return prefix.with_name(place.OLD + prefix.name)


def set_aside(prefix: Path) -> None:
    """Make room for the new one; an interrupted making is not worth keeping, and what it was to replace still waits."""
    let_go(prefix)
    state = State.read(prefix)
    if old_of(prefix).exists() or (state is not None and state.in_progress):
        place.discard(prefix)
    else:
        place.move(prefix, old_of(prefix))


def bring_back(prefix: Path) -> bool:
    """Put the old one back into its place, if one waits."""
    old = old_of(prefix)
    if not old.exists():
        return False
    if prefix.exists():
        place.discard(prefix)
    place.move(old, prefix)
    return True


def let_go(prefix: Path) -> None:
    """Remove the old one when the new one has all of its layers: later roles add theirs, and the last may fail."""
    old, new = old_of(prefix), State.read(prefix)
    if not old.exists() or new is None or new.in_progress:
        return
    had = State.read(old) or State()
    if {name for name, _digest in had.layers} <= {name for name, _digest in new.layers}:
        place.discard(old)


def conda_layer(request: dict[str, Any], prefix: Path, packages: list[Path]) -> None:
    """The interpreter and native libraries, from an explicit list: conda solves nothing and asks no channel."""
    with tempfile.TemporaryDirectory() as folder:
        explicit = Path(folder) / "explicit.txt"
        place.write(explicit, "@EXPLICIT\n" + "".join(path.as_uri() + "\n" for path in packages))
        # conda refuses a folder that is no environment; an empty `history` is what makes it one.
        history = prefix / "conda-meta" / "history"
        history.parent.mkdir(exist_ok=True)
        history.touch()
        # conda unpacks into a cache first, and believes for ever what an interrupted run left there (seen: a killed
        # conda, then CondaVerificationError at each next run). So the cache is the prefix's own and goes with it.
        cache = prefix / ".pkgs"
        argv = [request["conda"], "install", "-y", "-q", "--offline", "-p", str(prefix), "--file", str(explicit)]
        call(argv, "LW-ENV-001", CONDA_PKGS_DIRS=str(cache))
        place.remove_tree(cache, surely=False)


def pip_layer(prefix: Path, layer: dict[str, Any], wheels: list[Path]) -> None:
    """Python packages: exactly those of the lock, by their hashes, from the wheels at hand or from an index."""
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder) / "lock.txt"
        place.write(lock, layer["requirements"])
        source: list[str] = list(layer.get("index") or [])
        if wheels:
            links = Path(folder) / "wheels"
            links.mkdir()
            for wheel in wheels:
                link_or_copy(wheel, links / wheel.name)
            source = ["--no-index", "--find-links", str(links)]
        options = ["--no-deps", "--require-hashes", "--no-input", "--no-cache-dir", "--disable-pip-version-check", "-q"]
        argv = [str(python_of(prefix)), "-m", "pip", "install", *options, *source, "-r", str(lock)]
        try:
            call(argv, "LW-ENV-002", **({"NETRC": login.write_netrc(Path(folder))} if login.LOGINS else {}))
        except Problem as problem:
            for index in (one for one in source if "://" in one):
                if refuses(f"{index.rstrip('/')}/{next(iter(pinned(layer['requirements'])), 'pip')}/"):
                    raise Problem("LW-ENV-004", f"{problem.message}. {fetch.wants_login(index)}") from problem
            raise


def refuses(page: str) -> bool:
    """Whether a page of an index wants a login that it did not get: pip only says that it found nothing."""
    try:
        login.opened(page, fetch.TIMEOUT_S).close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        return getattr(error, "code", None) == 401
    return False


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link where the file system has them, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def python_of(prefix: Path) -> Path:
    """The interpreter of a Conda prefix."""
    return prefix / "python.exe" if sys.platform == "win32" else prefix / "bin" / "python"


def call(argv: list[str], code: str, **settings: str) -> None:
    """Run a command with an environment of ours and ``settings``; its own words go into the error."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("CONDA", "PIP_", "PYTHON"))}
    with tempfile.TemporaryDirectory() as home:  # conda notes each environment in its user's home, which is not ours
        env.update(PIP_CONFIG_FILE=os.devnull, PIP_ROOT_USER_ACTION="ignore", HOME=home, **login.trusted())
        if place.windows():
            env.update(USERPROFILE=home, PYTHONUTF8="1", PATH=path_of(Path(argv[0]), env.get("PATH", "")))
        done = subprocess.run(
            argv,
            env={**env, **settings},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    if done.returncode:
        said = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        telling = [line for line in said if "error" in line.lower()] or said[-4:]
        raise Problem(code, f"`{' '.join(argv[:4])} …` ended with {done.returncode}: {' | '.join(telling[:4])}")


def path_of(program: Path, others: str) -> str:
    """PATH for a program of a Conda prefix on Windows, where no shell was activated: it finds its DLLs by it."""
    prefix = program.parent.parent if program.parent.name.lower() == "scripts" else program.parent
    return os.pathsep.join([str(prefix), str(prefix / "Library" / "bin"), str(prefix / "Scripts"), others])


def points_at(link: Path, prefix: Path) -> bool:
    """True where ``link`` leads to ``prefix``."""
    return place.leads_to(link) == prefix


def point(link: Path, prefix: Path) -> None:
    """Turn the link; a link beside it leads to where it led before, which one can go back to."""
    if link.exists() and not place.is_link(link):
        raise Problem("LW-ENV-003", f"{link} is in the way: expected a link to an environment. Move it elsewhere.")
    led = place.leads_to(link)
    if led is not None and led != prefix and led.is_dir():
        place.link(before_of(link), led)
    place.link(link, prefix)


def before_of(link: Path) -> Path:
    """The link to what a link led to before."""
    return link.with_name(f"{link.name}.before")


def tidy(root: Path, planned: list[dict[str, Any]], check: bool) -> Result:
    """Remove the environments that are not planned any more, but for each link the one before."""
    rows = [(one, Path(one["prefix"]), Path(one["link"])) for one in planned]
    stamped.see_that_all_is_made([at for one, at, link in rows if look(one).todo or not points_at(link, at)])
    before = [led for led in (place.leads_to(before_of(link)) for _one, _at, link in rows) if led]
    return stamped.remove(root, WHAT, check, [*(at for _one, at, _link in rows), *before], links=True)
