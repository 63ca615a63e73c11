"""hostkit.package: what came with Labwright goes again, and nothing with it that others brought or need.

A made-up apt-get and dpkg, and rpm and dnf, keep packages in a file, and say what the real ones say. The real apt is
asked in the roles' tests (molecule git); dnf and rpm are not (docs/not-verified.md).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hostkit import package
from hostkit.result import Problem, Result
from unit.hostkit.look import look
from unit.programs import ROOT

# `needs`: by package what it cannot be without, of which one of several (a|b) is enough. `world`: what can be had.
PROGRAM = """#!{python}
import json, os, signal, sys
path = {state!r}
state = json.load(open(path))
there, left, needs = set(state["there"]), set(state["settings"]), state["needs"]
program, words = os.path.basename(sys.argv[0]), sys.argv[1:]
with open(path + ".calls", "a") as stream:
    stream.write(" ".join([program, *words]) + chr(10))

def save():
    for name, value in (("there", there), ("settings", left)):
        state[name] = sorted(value)
    with open(path, "w") as stream:
        json.dump(state, stream)

def lacks(name, among):
    return [one for one in needs.get(name, []) if not set(one.split("|")) & among]

def wanted(names):
    found = set()
    while names:
        name = names.pop()
        if name not in state["world"] + state["there"]:
            sys.exit("E: Unable to locate package " + name)
        if name not in there | found:
            found.add(name)
            names += [one.split("|")[0] for one in lacks(name, there | found)]
    return found

def taken(names):
    gone = set(names)
    while more := {{one for one in there - gone if lacks(one, there - gone)}}:
        gone |= more
    return gone

if program == "dpkg":
    print("amd64")
elif program == "dpkg-query":
    assert words[-1] == "${{Architecture}} ${{Package}} ${{db:Status-Status}}" + chr(10), words
    for name in sorted(there):
        print("all" if name == "theirs" else "amd64", name, "installed")
    for name in sorted(left - there):
        print("amd64", name, "config-files")
    print("i386 git installed")
    print("amd64 vanished not-installed")
elif program == "apt-get" and words[-1] == "update":
    state["world"] += state.pop("new", [])
    save()
elif program == "apt-get":
    if state.get("locked"):
        state["locked"] -= 1
        save()
        sys.exit("E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 77 (unattended-upgr)")
    verb = "install" if "install" in words else "purge"
    names = words[words.index(verb) + 1:]
    if verb == "install":
        assert "--no-remove" in words and "--no-install-recommends" in words
        steps, word = wanted(names), "Inst"
        done = there | steps
    else:
        assert "APT::Get::AutomaticRemove=false" in words
        steps, word = taken(names) & (there | left), "Purg"
        done = there - steps
    if "--simulate" in words:
        for name in sorted(steps):
            print(f"{{word}} {{name}} [1.0]")
        for name in sorted(steps & set(state.get("instead", []))):
            print(f"Inst {{state['instead'][name]}} (1.0)")
        print("Inst older [1.0] (1.1)" if verb == "install" else "", end=chr(10))
    elif state.get("broken"):
        sys.exit("E: " + state["broken"])
    else:
        there, left = done, left - steps if verb == "purge" else left
        save()
        if state.get("killed"):
            os.kill(os.getppid(), signal.SIGKILL)
elif program == "dnf":
    if "install" in words:
        there |= wanted(words[words.index("install") + 1:])
        save()
elif program == "rpm" and "--all" in words:
    print(chr(10).join(sorted(there)))
elif program == "rpm" and "--whatprovides" in words:
    print(words[-1] if words[-1] in there else "no package provides " + words[-1])
elif program == "rpm":
    names = [one for one in words if not one.startswith("--")]
    wrong = [(one, name) for name in sorted(there - set(names)) for one in lacks(name, there - set(names))]
    for one, name in wrong:
        print(f"\\t{{one}} >= 1.0 is needed by (installed) {{name}}-1.0-1.el9.x86_64", file=sys.stderr)
    if wrong:
        sys.exit("error: Failed dependencies")
    if "--test" not in words:
        there -= set(names)
        save()
"""
GIT = {"git": ["git-man", "libcurl"], "git-man": [], "libcurl": [], "gcc": ["cpp"]}
THEIRS = {**GIT, "git-lfs": ["git"], "theirs": ["gcc|clang"]}


class Host:
    """A host whose packages are made up."""

    def __init__(self, folder: Path, manager: tuple[str, ...]) -> None:
        self.folder = folder
        self.path = folder / "state.json"
        self.asked = folder / "state.json.calls"
        self.record = folder / "records/git/packages.json"
        self.has(there=["base", "older"], settings=[], needs=THEIRS, world=["cpp", "clang", *THEIRS])
        for name in manager:
            program = folder / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(PROGRAM.format(python=sys.executable, state=str(self.path)))
            program.chmod(0o755)

    def has(self, **more: Any) -> None:
        state = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.path.write_text(json.dumps({**state, **more}))

    @property
    def there(self) -> set[str]:
        return set(json.loads(self.path.read_text())["there"])

    def adds(self, *names: str) -> None:
        """Somebody else installs something."""
        self.has(there=sorted(self.there | set(names)))

    def loses(self, *names: str) -> None:
        """Somebody else removes something."""
        self.has(there=sorted(self.there - set(names)))

    def request(self, *names: str, **more: Any) -> dict[str, Any]:
        return {"names": list(names), "record": str(self.record.parent), **more}

    def install(self, *names: str, check: bool = False) -> Result:
        return package.run(self.request(*names), check)

    def remove(self, check: bool = False) -> Result:
        return package.run(self.request(state="absent"), check)

    def noted(self) -> list[str]:
        found: list[str] = json.loads(self.record.read_text())
        return found

    def renewed(self) -> bool:
        """Whether new lists were fetched."""
        return "apt-get -q -o Acquire::Retries=3 update" in self.asked.read_text().splitlines()


def made(folder: Path, monkeypatch: pytest.MonkeyPatch, *manager: str) -> Host:
    host = Host(folder, manager)
    monkeypatch.setenv("PATH", str(folder / "bin"))
    monkeypatch.setattr(package, "EVERY_S", 0.001)
    monkeypatch.setattr("platform.node", lambda: "host-1")
    return host


@pytest.fixture
def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return made(tmp_path, monkeypatch, "apt-get", "dpkg", "dpkg-query")


@pytest.fixture
def rhel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = made(tmp_path, monkeypatch, "dnf", "rpm")
    monkeypatch.setattr("shutil.which", lambda _name: None)
    return host


@pytest.fixture(params=["debian", "rhel"])
def host(request: pytest.FixtureRequest) -> Host:
    found: Host = request.getfixturevalue(request.param)
    return found


# --- there and gone again --------------------------------------------------------------------------------------------


def test_what_came_is_noted_and_goes_again(host: Host) -> None:
    done = host.install("git")
    assert done.changed
    assert done.after == "git\ngit-man\nlibcurl\n"
    assert host.noted() == ["git", "git-man", "libcurl"]
    assert not host.install("git").changed
    gone = host.remove()
    assert gone.changed
    assert gone.before == done.after
    assert not gone.warning
    assert host.there == {"base", "older"}
    assert not host.record.parent.exists()
    assert not host.remove().changed


def test_check_mode_tells_and_changes_nothing(debian: Host) -> None:
    for act in (partial(debian.install, "git"), debian.remove):
        there = look(debian.folder)
        told = act(check=True)
        debian.asked.unlink()
        assert look(debian.folder) == there
        assert told == act()
        debian.asked.unlink()


def test_what_was_there_before_is_nobodys_of_ours(host: Host) -> None:
    host.adds("git", "git-man", "libcurl")
    assert not host.install("git").changed
    assert not host.record.exists()
    assert not host.remove().changed
    assert "git" in host.there


def test_settings_that_are_left_go_too(debian: Host) -> None:
    debian.install("git")
    debian.loses("git")
    debian.has(settings=["git", "postfix"])
    debian.install("gcc")
    assert "git" in debian.noted()
    debian.remove()
    assert json.loads(debian.path.read_text())["settings"] == ["postfix"]


# --- what others need ------------------------------------------------------------------------------------------------


def test_what_a_package_of_somebody_else_needs_stays(host: Host) -> None:
    host.install("git", "gcc")
    host.adds("git-lfs")
    told, done = host.remove(check=True), host.remove()
    assert told == done
    assert host.there == {"base", "older", "git-lfs", "git", "git-man", "libcurl"}
    assert host.noted() == done.data["kept"] == ["git", "git-man", "libcurl"]
    assert done.before == "cpp\ngcc\n"
    assert done.warning == (
        "LW-PACKAGE-003: git, git-man, libcurl came with Labwright to host-1, and stay there: without them git-lfs "
        "could not stay, which somebody else installed. Leave it so; or remove what needs them, and run this again."
    )
    again = host.remove()
    assert not again.changed
    assert again.warning == done.warning
    host.loses("git-lfs")
    assert host.remove().changed
    assert host.there == {"base", "older"}
    assert not host.record.exists()


def test_of_two_of_which_one_is_enough_one_goes(debian: Host) -> None:
    debian.install("gcc", "clang")
    debian.adds("theirs")
    done = debian.remove()
    assert done.data["kept"] == ["cpp", "gcc"]
    assert debian.there == {"base", "older", "theirs", "cpp", "gcc"}


def test_what_apt_would_put_something_else_in_place_of_stays(debian: Host) -> None:
    debian.install("gcc")
    debian.has(instead={"gcc": "clang"})
    done = debian.remove()
    assert done.data["kept"] == ["cpp", "gcc"]
    assert "without them clang could not stay" in done.warning


def test_of_many_others_some_are_named(host: Host) -> None:
    host.install("git-man")
    names = [f"theirs-{letter}" for letter in "abcdefghijkl"]
    host.has(needs={name: ["git-man"] for name in names})
    host.adds(*names)
    assert "theirs-i, theirs-j, … could not stay" in host.remove().warning


def test_rpm_that_names_nobody_removes_nothing(rhel: Host) -> None:
    rhel.install("git")
    program = rhel.folder / "bin/rpm"
    text = program.read_text()
    program.write_text(text.replace('elif program == "rpm":\n', 'elif program == "rpm":\n    sys.exit("error: no")\n'))
    with pytest.raises(Problem, match=r"LW-PACKAGE-004: dnf cannot remove from host-1 .* It says: error: no\. Mend"):
        rhel.remove()
    assert rhel.noted() == ["git", "git-man", "libcurl"]


# --- the record ------------------------------------------------------------------------------------------------------


def test_the_record_grows_from_run_to_run(host: Host) -> None:
    host.install("git")
    host.loses("git", "git-man")
    host.install("git", "gcc")
    assert host.noted() == ["cpp", "gcc", "git", "git-man", "libcurl"]
    host.remove()
    assert host.there == {"base", "older"}


def test_what_is_gone_is_no_longer_ours(host: Host) -> None:
    host.install("git")
    host.loses("git", "git-man")
    host.install("gcc")
    assert host.noted() == ["cpp", "gcc", "libcurl"]


def test_what_somebody_installs_meanwhile_is_not_ours(debian: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh hosts upgrade themselves, and we wait for them."""
    install = package.Apt.install

    def wait(self: package.Apt, names: list[str]) -> None:
        debian.adds("linux-image")
        install(self, names)

    monkeypatch.setattr(package.Apt, "install", wait)
    debian.install("git")
    assert debian.noted() == ["git", "git-man", "libcurl"]


def test_a_run_that_is_killed_has_noted_what_came(debian: Host) -> None:
    debian.has(killed=True)
    request = debian.folder / "request.json"
    request.write_text(json.dumps(debian.request("git")))
    words = [sys.executable, "-B", "-m", "hostkit", "package", str(request)]
    own = {**os.environ, "PYTHONPATH": str(ROOT / "plugins/module_utils")}
    assert subprocess.run(words, env=own, check=False).returncode == -signal.SIGKILL
    assert "git" in debian.there
    assert debian.noted() == ["git", "git-man", "libcurl"]


def test_what_did_not_come_is_not_noted(debian: Host) -> None:
    debian.has(broken="Failed to fetch http://mirror.example/git.deb  404  Not Found.")
    words = (
        "LW-PACKAGE-002: apt cannot install git on host-1; expected that its sources have them, and that nothing has "
        "to be removed for them. It says: E: Failed to fetch http://mirror.example/git.deb 404 Not Found. Mend what it "
        "names; `apt-get update && apt-get install --simulate git` there says more."
    )
    with pytest.raises(Problem) as error:
        debian.install("git")
    assert str(error.value) == words
    assert not debian.record.parent.exists()
    debian.has(broken="")
    debian.install("gcc")
    debian.has(broken="dpkg was interrupted")
    with pytest.raises(Problem, match="LW-PACKAGE-002"):
        debian.install("git")
    assert debian.noted() == ["cpp", "gcc"]
    with pytest.raises(Problem, match=r"LW-PACKAGE-004: apt cannot remove from host-1 .* E: dpkg was interrupted\."):
        debian.remove()
    assert debian.noted() == ["cpp", "gcc"]


# --- apt -------------------------------------------------------------------------------------------------------------


def test_new_lists_are_fetched_where_the_old_ones_do_not_suffice(debian: Host) -> None:
    debian.has(world=[], new=["git", "git-man", "libcurl"])
    with pytest.raises(Problem, match="E: Unable to locate package git"):
        debian.install("git", check=True)
    assert not debian.renewed()
    debian.install("git")
    assert debian.renewed()
    assert debian.noted() == ["git", "git-man", "libcurl"]


def test_lists_that_suffice_are_not_fetched(debian: Host) -> None:
    debian.install("git")
    assert not debian.renewed()


def test_apts_lock_is_waited_for(debian: Host) -> None:
    debian.has(locked=3)
    debian.install("git")
    assert "git" in debian.there
