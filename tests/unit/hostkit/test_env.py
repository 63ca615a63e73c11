"""hostkit.env with a conda and a pip that do what is asked at once, and fail when a test says so."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hostkit import env, place
from hostkit.result import Problem
from hostkit.state import STAMP, State
from unit.hostkit.look import look, package
from unit.hostkit.loopback import Loopback, Reply

# Writes its arguments and the list of packages into the log, then makes an interpreter, as conda would.
CONDA = """#!/bin/sh
echo "conda $*" >> {box}/log
[ -e {box}/conda-fails ] && {{ echo "CondaError: the disk is \\377 full" >&2; echo more; exit 1; }}
while [ $# -gt 0 ]; do case "$1" in -p) prefix=$2;; --file) cat "$2" >> {box}/explicit;; esac; shift; done
info=$prefix/lib/python3.11/site-packages/pip-24.0.dist-info
mkdir -p "$prefix/bin" "$info" && touch "$info/METADATA"
cp {box}/pip "$prefix/bin/python"
for name in $(sed -n 's,.*/\\([^/]*\\)\\.conda$,\\1,p' {box}/explicit); do
  touch "$prefix/conda-meta/$name.json"
done
"""
# Writes its arguments, its settings and the wheels it sees into the log, then installs what the lock names.
PIP = """#!/bin/sh
echo "pip $*" >> {box}/log
env | grep -e ^PIP -e ^PYTHON -e ^CONDA | sort > {box}/settings
env | grep ^SSL | sort > {box}/trusted
[ -e {box}/pip-fails ] && {{ echo "first words"; echo "ERROR: no matching distribution" >&2; exit 1; }}
while [ $# -gt 0 ]; do case "$1" in -r) lock=$2;; --find-links) ls "$2" >> {box}/wheels;; esac; shift; done
site=$(dirname "$0")/../lib/python3.11/site-packages
for dist in $(sed -n 's/^\\([a-z]*\\)==\\([0-9.]*\\).*/\\1-\\2/p' "$lock"); do
  mkdir -p "$site/$dist.dist-info" && touch "$site/$dist.dist-info/METADATA"
done
"""


@dataclass
class Box:
    """A folder for one environment and the tools that make it."""

    folder: Path
    server: Loopback

    @property
    def prefix(self) -> Path:
        return self.folder / "root" / "envs" / "chatglm2-cpu-1"

    @property
    def link(self) -> Path:
        return self.folder / "root" / "envs" / "chatglm2"

    def request(self, *names: str, link: bool = True) -> dict[str, Any]:
        """The first layers, up to the last of ``names``."""
        layers = [
            {"name": "conda", "digest": "1" * 64, "conda": [self.file("python.conda"), self.file("pip.conda")]},
            self.pip_layer("torch", "torch==2.0", "numpy==1.26"),
            self.pip_layer("fastchat", "fschat==0.2"),
        ]
        count = 1 + max((index for index, layer in enumerate(layers) if layer["name"] in names), default=2)
        return {
            "prefix": str(self.prefix),
            "link": str(self.link) if link else "",
            "conda": str(self.folder / "conda"),
            "store": str(self.folder / "store"),
            "layers": layers[:count],
        }

    def pip_layer(self, name: str, *pins: str) -> dict[str, Any]:
        wheels = [self.file(f"{pin.replace('==', '-')}-py3-none-any.whl") for pin in pins]
        lock = "".join(
            f"{pin} \\\n    --hash=sha256:{wheel['sha256']}\n" for pin, wheel in zip(pins, wheels, strict=True)
        )
        digest = hashlib.sha256(lock.encode()).hexdigest()
        return {"name": name, "digest": digest, "requirements": lock, "wheels": wheels}

    def file(self, name: str) -> dict[str, Any]:
        return self.server.file(name, name.encode())

    def log(self) -> list[str]:
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []

    def text(self, name: str) -> list[str]:
        return (self.folder / name).read_text().splitlines()

    def fails(self, what: str, yes: bool = True) -> None:
        mark = self.folder / f"{what}-fails"
        mark.touch() if yes else mark.unlink()


@pytest.fixture
def box(tmp_path: Path, server: Loopback) -> Box:
    for name, text in {"conda": CONDA, "pip": PIP}.items():
        (tmp_path / name).write_text(text.format(box=tmp_path))
        (tmp_path / name).chmod(0o755)
    return Box(tmp_path, server)


def test_layers_are_made_in_order_and_the_stamp_says_so(box: Box) -> None:
    request = box.request()
    result = env.run(request, False)
    assert [line.split()[0] for line in box.log()] == ["conda", "pip", "pip"]
    state = State.read(box.prefix)
    assert state is not None
    assert state.layers == [(layer["name"], layer["digest"]) for layer in request["layers"]]
    assert state.in_progress == ""
    assert result.changed
    assert result.data == {"made": state.made, "prefix": str(box.prefix), "todo": ["conda", "torch", "fastchat"]}
    assert (result.before, len(result.after.splitlines())) == ("", 3)
    assert box.link.resolve() == box.prefix
    kept = [path.suffix for path in (box.folder / "store").rglob("*") if path.is_file()]
    assert set(kept) == {".conda"}, "only the interpreter, for the next environment"


def test_conda_gets_an_explicit_list_of_verified_files_and_no_network(box: Box) -> None:
    env.run(box.request("conda"), False)
    head, *files = box.text("explicit")
    assert head == "@EXPLICIT"
    assert [file.rsplit("/", 1)[1] for file in files] == ["python.conda", "pip.conda"]
    assert all(file.startswith((box.folder / "store").as_uri()) for file in files)
    assert "--offline" in box.log()[0]


def test_pip_gets_hashes_and_only_the_wheels_of_the_lock(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_INDEX_URL", "PYTHONPATH", "CONDA_PREFIX"):
        monkeypatch.setenv(name, "/elsewhere")
    env.run(box.request("torch"), False)
    line = box.log()[1].split()
    assert {"--no-index", "--no-deps", "--require-hashes", "--no-cache-dir"} <= set(line)
    assert box.text("wheels") == ["numpy-1.26-py3-none-any.whl", "torch-2.0-py3-none-any.whl"]
    assert box.text("settings") == ["PIP_CONFIG_FILE=/dev/null", "PIP_ROOT_USER_ACTION=ignore"]


@pytest.mark.parametrize(
    ("file", "folder", "windows", "told"),
    [
        ("/a.pem", "", False, ["SSL_CERT_FILE=/a.pem"]),
        ("", "/certs", False, ["SSL_CERT_DIR=/certs"]),
        ("/a.pem", "/certs", True, []),
    ],
)
def test_pip_trusts_whom_the_system_trusts(
    box: Box, monkeypatch: pytest.MonkeyPatch, file: str, folder: str, windows: bool, told: list[str]
) -> None:
    """A mirror whose certificate is of the site's own authority; Windows' Python has that from Windows."""
    env.run(box.request("conda"), False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    real = ssl.get_default_verify_paths()
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: real._replace(cafile=file, capath=folder))
    monkeypatch.setattr(place, "windows", lambda: windows)
    env.run(box.request("torch", link=False), False)
    assert box.text("trusted") == told


def test_without_wheels_pip_asks_the_index_of_the_plan(box: Box) -> None:
    request = box.request("torch")
    request["layers"][1].update(wheels=[], index=["--index-url", "https://mirror.example.org/simple"])
    env.run(request, False)
    assert " --index-url https://mirror.example.org/simple " in box.log()[1]
    assert "--no-index" not in box.log()[1]


def test_the_second_run_does_nothing_and_asks_nobody(box: Box) -> None:
    first = env.run(box.request(), False)
    log, asked, there = box.log(), len(box.server.asked), look(box.folder)
    second = env.run(box.request(), False)
    assert not second.changed
    assert second.data == {**first.data, "todo": []}
    assert (box.log(), len(box.server.asked), look(box.folder)) == (log, asked, there)


def test_a_later_layer_is_added_to_what_is_there(box: Box) -> None:
    first = env.run(box.request("torch", link=False), False)
    assert not box.link.is_symlink()
    second = env.run(box.request("fastchat"), False)
    assert second.data["todo"] == ["fastchat"]
    assert second.data["made"] == first.data["made"]
    assert len(box.log()) == 3


def test_a_role_that_needs_fewer_layers_is_content_with_more(box: Box) -> None:
    env.run(box.request(), False)
    assert not env.run(box.request("torch", link=False), False).changed


def fresh(_box: Box) -> None: ...


def half_made(box: Box) -> None:
    box.fails("pip")
    with pytest.raises(Problem):
        env.run(box.request(), False)
    box.fails("pip", yes=False)


def drifted(box: Box) -> None:
    env.run(box.request(), False)
    (box.prefix / "lib/python3.11/site-packages/numpy-1.26.dist-info").rename(box.folder / "away")


def drifted_below(box: Box) -> None:
    env.run(box.request(), False)
    (box.prefix / "conda-meta/python.json").rename(box.prefix / "conda-meta/python-other.json")


def unlinked(box: Box) -> None:
    env.run(box.request(), False)
    box.link.unlink()


@pytest.mark.parametrize("before", [fresh, half_made, drifted, drifted_below, unlinked])
def test_check_mode_tells_the_truth_and_changes_nothing(box: Box, before: Callable[[Box], None]) -> None:
    before(box)
    there = look(box.folder)
    told = env.run(box.request(), True)
    assert look(box.folder) == there
    done = env.run(box.request(), False)
    assert told.changed
    assert (told.message, told.before, told.after) == (done.message, done.before, done.after)
    assert told.data["todo"] == done.data["todo"]


def test_conda_that_fails_is_quoted_and_its_work_is_not_trusted(box: Box) -> None:
    box.fails("conda")
    with pytest.raises(
        Problem, match=r"LW-ENV-001: `.*/conda install .*` ended with 1: CondaError: the disk is . full$"
    ):
        env.run(box.request(), False)
    state = State.read(box.prefix)
    assert state is not None
    assert (state.layers, state.in_progress) == ([], "conda")
    (box.prefix / "left-over").touch()
    box.fails("conda", yes=False)
    again = env.run(box.request(), False)
    assert "interrupted" in again.message
    assert not (box.prefix / "left-over").exists()
    assert again.data["todo"] == ["conda", "torch", "fastchat"]


def test_pip_that_fails_keeps_its_mark_and_is_started_over(box: Box) -> None:
    first = env.run(box.request("conda", link=False), False)
    box.fails("pip")
    with pytest.raises(Problem, match=r"LW-ENV-002: .* ended with 1: ERROR: no matching distribution$"):
        env.run(box.request(), False)
    state = State.read(box.prefix)
    assert state is not None
    assert ([name for name, _digest in state.layers], state.in_progress) == (["conda"], "torch")
    assert not box.link.is_symlink()
    box.fails("pip", yes=False)
    again = env.run(box.request(), False)
    assert [line.split()[0] for line in box.log()] == ["conda", "pip", "conda", "pip", "pip"]
    assert again.data["made"] != first.data["made"]


def test_what_somebody_changed_is_made_anew(box: Box) -> None:
    drifted(box)
    assert "somebody changed it: numpy 1.26 is gone" in env.run(box.request(), False).message
    assert not env.run(box.request(), False).changed


def test_what_somebody_added_is_seen_by_the_role_that_knows_all_layers(box: Box) -> None:
    env.run(box.request(), False)
    package(box.prefix, "notebook-7")
    assert not env.run(box.request("torch", link=False), True).changed
    assert "notebook 7 is in no lock" in env.run(box.request(), True).message


def test_the_old_environment_stays_until_the_new_files_are_there(box: Box) -> None:
    drifted(box)
    request = box.request()
    box.server.answers.update(dict.fromkeys(box.server.answers, Reply(b"", 404)))
    there = look(box.prefix)
    with pytest.raises(Problem, match="LW-FETCH-001"):
        env.run(request, False)
    assert look(box.prefix) == there


@pytest.mark.parametrize("who", ["conda", "pip"])
def test_the_old_environment_is_back_when_the_new_one_cannot_be_made(box: Box, who: str) -> None:
    drifted(box)
    there = look(box.prefix.parent)
    box.fails(who)
    with pytest.raises(Problem, match=rf"LW-ENV-00[12]: .* {box.prefix} is again what it was before\.$"):
        env.run(box.request(), False)
    assert look(box.prefix.parent) == there
    box.fails(who, yes=False)
    assert env.run(box.request(), False).changed
    assert {path.name for path in box.prefix.parent.iterdir()} == {box.prefix.name, box.link.name}
    assert not env.run(box.request(), False).changed


def test_the_old_environment_waits_until_the_last_role_has_added_its_layer(box: Box) -> None:
    drifted(box)
    there = look(box.prefix)
    assert "is gone" in env.run(box.request("torch", link=False), False).warning
    box.fails("pip")
    with pytest.raises(Problem, match="LW-ENV-002"):
        env.run(box.request(), False)
    assert look(box.prefix) == there
    box.fails("pip", yes=False)
    env.run(box.request("torch", link=False), False)
    env.run(box.request(), False)
    assert {path.name for path in box.prefix.parent.iterdir()} == {box.prefix.name, box.link.name}


@pytest.mark.parametrize("moment", ["set aside", "half made"])
def test_the_old_environment_survives_a_run_that_was_killed(
    box: Box, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    drifted(box)
    there = look(box.prefix)
    with monkeypatch.context() as power:
        power.setattr(env, "bring_back", lambda _prefix: False)
        power.setattr(*((State, "write", died) if moment == "set aside" else (env, "pip_layer", died)))
        with pytest.raises(KeyboardInterrupt):
            env.run(box.request(), False)
    assert look(box.prefix) != there
    box.fails("pip")
    with pytest.raises(Problem, match="is again what it was before"):
        env.run(box.request(), False)
    assert look(box.prefix) == there
    assert {path.name for path in box.prefix.parent.iterdir()} == {box.prefix.name, box.link.name}


def died(*_arguments: object) -> None:
    raise KeyboardInterrupt


def test_of_two_old_environments_the_newer_one_waits(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    drifted(box)
    with monkeypatch.context() as power:
        power.setattr(env, "let_go", lambda _prefix: None)
        env.run(box.request(), False)
    drifted_below(box)
    there = look(box.prefix)
    box.fails("pip")
    with pytest.raises(Problem, match="is again what it was before"):
        env.run(box.request(), False)
    assert look(box.prefix) == there


def test_a_link_to_another_environment_is_turned_without_making_anything(box: Box) -> None:
    made = env.run(box.request(), False).data["made"]
    box.link.unlink()
    box.link.symlink_to(box.prefix.parent / "older")
    log = box.log()
    result = env.run(box.request(), False)
    assert (result.changed, result.data["made"], box.log()) == (True, made, log)
    assert box.link.readlink() == box.prefix


def test_a_folder_where_the_link_should_be_is_left_alone(box: Box) -> None:
    (box.link / "theirs").mkdir(parents=True)
    with pytest.raises(Problem, match="LW-ENV-003"):
        env.run(box.request(), False)
    assert (box.link / "theirs").is_dir()


def of_another_time(box: Box, name: str, pin: str) -> dict[str, Any]:
    """The request for the same kind of environment by other locks, made."""
    request = box.request("torch")
    request["prefix"] = str(box.prefix.with_name(name))
    request["layers"][1] = box.pip_layer("torch", pin)
    env.run(request, False)
    return request


def test_back_to_the_version_before_without_making_or_fetching_anything(box: Box) -> None:
    old = of_another_time(box, "chatglm2-cpu-1", "torch==2.0")
    new = of_another_time(box, "chatglm2-cpu-2", "torch==2.1")
    assert env.points_at(box.link, Path(new["prefix"]))
    log, asked, there = box.log(), len(box.server.asked), look(Path(old["prefix"]))
    back = env.run(old, False)
    assert (back.changed, back.data["todo"]) == (True, [])
    assert (box.log(), len(box.server.asked), look(Path(old["prefix"]))) == (log, asked, there)
    assert env.points_at(box.link, Path(old["prefix"]))
    assert not env.run(old, False).changed


def test_of_three_generations_the_oldest_goes(box: Box) -> None:
    root = box.prefix.parent
    for number in (0, 1):
        of_another_time(box, f"chatglm2-cpu-{number}", f"torch==2.{number}")
    now = of_another_time(box, "chatglm2-cpu-2", "torch==2.2")
    other = {**box.request("torch"), "prefix": str(root / "frontend-1"), "link": str(root / "frontend")}
    env.run(other, False)
    (root / "theirs").mkdir()
    (root / "their-link").symlink_to(root / "theirs")
    (root / f"{place.GONE}older").mkdir()
    tidy = {"state": "tidy", "root": str(root), "planned": [now]}
    there = look(root)
    told = env.run(tidy, True)
    assert look(root) == there
    gone = ["chatglm2-cpu-0", "frontend-1", "frontend", f"{place.GONE}older"]
    assert told.data == {"gone": [str(root / name) for name in gone]}
    assert told == env.run(tidy, False)
    left = ["chatglm2", "chatglm2-cpu-1", "chatglm2-cpu-2", "chatglm2.before", "their-link", "theirs"]
    assert sorted(path.name for path in root.iterdir()) == left
    assert not env.run(tidy, False).changed
    assert not env.run(now, False).changed


@pytest.mark.parametrize("why", ["not made", "not whole", "not linked"])
def test_nothing_goes_before_the_plan_is_made(box: Box, why: str) -> None:
    of_another_time(box, "chatglm2-cpu-0", "torch==2.0")
    now = of_another_time(box, "chatglm2-cpu-1", "torch==2.1")
    if why == "not made":
        now["prefix"] += "2"
    elif why == "not whole":
        now["layers"] += [box.pip_layer("fastchat", "fschat==0.2")]
    else:
        place.link(box.link, box.prefix.with_name("chatglm2-cpu-0"))
    there = look(box.prefix.parent)
    with pytest.raises(
        Problem, match=r"LW-HOSTKIT-013: \S+/chatglm2-cpu-12? is not there as planned; .* Run site\.yml"
    ):
        env.run({"state": "tidy", "root": str(box.prefix.parent), "planned": [now]}, False)
    assert look(box.prefix.parent) == there


def test_removal_takes_a_link_to_what_somebody_removed(box: Box) -> None:
    of_another_time(box, "chatglm2-cpu-0", "torch==2.0")
    of_another_time(box, "chatglm2-cpu-1", "torch==2.1")
    place.discard(box.prefix.with_name("chatglm2-cpu-0"))
    assert env.run({"state": "absent", "root": str(box.prefix.parent)}, False).changed
    assert not box.prefix.parent.exists()


def test_removal_takes_what_carries_our_stamp_and_the_links_to_it(box: Box) -> None:
    env.run(box.request(), False)
    root = box.prefix.parent
    (root / "theirs").mkdir()
    (root / "their-link").symlink_to(root / "theirs")
    request = {"state": "absent", "root": str(root)}
    there = look(root)
    told = env.run(request, True)
    assert look(root) == there
    done = env.run(request, False)
    assert told == done
    assert done.changed
    assert sorted(path.name for path in root.iterdir()) == ["their-link", "theirs"]
    assert not env.run(request, False).changed


def test_removal_takes_an_old_environment_that_waits(box: Box) -> None:
    drifted(box)
    env.run(box.request("torch", link=False), False)
    assert any(path.name.startswith(place.OLD) for path in box.prefix.parent.iterdir())
    assert env.run({"state": "absent", "root": str(box.prefix.parent)}, False).changed
    assert not box.prefix.parent.exists()


def test_removal_takes_the_root_when_nothing_is_left(box: Box) -> None:
    env.run(box.request(), False)
    request = {"state": "absent", "root": str(box.prefix.parent)}
    assert env.run(request, False).changed
    assert not box.prefix.parent.exists()
    assert not env.run(request, False).changed


def test_a_folder_without_our_stamp_is_not_ours(box: Box) -> None:
    env.run(box.request(), False)
    (box.prefix / STAMP).unlink()
    assert not env.run({"state": "absent", "root": str(box.prefix.parent)}, False).changed
    assert box.prefix.is_dir()


def test_an_environment_that_somebody_changed_is_made_anew_with_a_warning_that_says_what(box: Box) -> None:
    env.run(box.request(), False)
    stray = box.prefix / "lib/python3.11/site-packages/stray-1.0.dist-info"
    stray.mkdir(parents=True)
    (stray / "METADATA").touch()
    result = env.run(box.request(), False)
    assert result.changed
    assert "stray 1.0 is in no lock" in result.warning
    assert not stray.exists()
