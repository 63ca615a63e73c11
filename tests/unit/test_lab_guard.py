"""The guard between a privileged container and the machine: what it takes away, and that no form of call gets past."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import oci_bounded, settings

ALL = [f"CAP_{name}" for name in oci_bounded.CAPABILITIES]
FULL = (1 << len(ALL)) - 1
ALLOWED = oci_bounded.permitted(FULL)
FORBIDDEN = {f"CAP_{name}" for name in oci_bounded.FORBIDDEN}
KINDS = ("bounding", "effective", "permitted", "inheritable", "ambient")


def process() -> dict[str, Any]:
    return {"args": ["/sbin/init"], "capabilities": {kind: list(ALL) for kind in KINDS}}


def container() -> dict[str, Any]:
    """A specification as podman writes it for a privileged container with systemd."""
    return {
        "process": process(),
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "rw"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["private", "rw"]},
        ],
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "cgroup"}],
            "devices": [
                {"path": "/dev/vda", "type": "b", "major": 254, "minor": 0},
                {"path": "/dev/rtc0", "type": "c", "major": 253, "minor": 0},
                {"path": "/dev/mem", "type": "c", "major": 1, "minor": 1},
                {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229},
                {"path": "/dev/null", "type": "c", "major": 1, "minor": 3},
            ],
        },
    }


def test_numbers_are_the_kernels() -> None:
    header = Path("/usr/include/linux/capability.h")
    if header.exists():
        defined = dict(re.findall(r"#define CAP_([A-Z_]+)\s+(\d+)\n", header.read_text()))
        known = {name: str(number) for number, name in enumerate(oci_bounded.CAPABILITIES)}
        assert known.items() <= defined.items()
    # Fixed points, for machines without the header.
    assert [oci_bounded.CAPABILITIES.index(name) for name in ("SYS_MODULE", "SYS_TIME", "SYSLOG")] == [16, 25, 34]
    assert len(oci_bounded.CAPABILITIES) == 41


@given(st.integers(min_value=0, max_value=(1 << 64) - 1))
def test_never_more_than_the_machine_has_and_never_a_forbidden_one(mask: int) -> None:
    allowed = oci_bounded.permitted(mask)
    assert not allowed & FORBIDDEN
    assert allowed == {name for bit, name in enumerate(ALL) if mask >> bit & 1} - FORBIDDEN


def test_every_set_of_capabilities_is_clipped() -> None:
    bound = oci_bounded.bound(container(), ALLOWED, [])
    for kind in KINDS:
        assert set(bound["process"]["capabilities"][kind]) == set(ALL) - FORBIDDEN


def test_a_process_without_capabilities_stays_so() -> None:
    assert oci_bounded.clip_process({"args": ["true"]}, ALLOWED) == {"args": ["true"]}


def test_sysctls_without_a_namespace_are_read_only(tmp_path: Path) -> None:
    for name in ("kernel", "vm", "fs", "net", "user"):
        (tmp_path / name).mkdir()
    paths = oci_bounded.read_only_paths(tmp_path)
    assert {"/proc/sys/kernel", "/proc/sys/vm", "/proc/sys/fs", "/proc/sys/user", "/proc/sysrq-trigger"} <= set(paths)
    assert "/proc/sys/net" not in paths


def test_read_only_paths_are_added_once_to_those_there() -> None:
    spec = container()
    spec["linux"]["readonlyPaths"] = ["/proc/bus", "/x"]
    bound = oci_bounded.bound(spec, ALLOWED, ["/proc/bus", "/proc/sys/vm"])
    assert bound["linux"]["readonlyPaths"] == ["/proc/bus", "/x", "/proc/sys/vm"]


def test_sysfs_is_read_only_and_the_containers_own_cgroups_are_not() -> None:
    mounts = {mount["destination"]: mount for mount in oci_bounded.bound(container(), ALLOWED, [])["mounts"]}
    assert mounts["/sys"]["options"] == ["nosuid", "ro"]
    assert "rw" in mounts["/sys/fs/cgroup"]["options"]


def test_only_devices_without_hardware_behind_them() -> None:
    devices = oci_bounded.bound(container(), ALLOWED, [])["linux"]["devices"]
    assert [device["path"] for device in devices] == ["/dev/fuse", "/dev/null"]


@pytest.mark.parametrize("source", ["/sys/fs/cgroup", "/sys/fs/cgroup/", "/sys/fs/cgroup/unified", "/sys", "/"])
@pytest.mark.parametrize("kind", [{"type": "bind"}, {"options": ["rbind"]}])
def test_a_writable_bind_of_the_machines_cgroups_is_refused(source: str, kind: dict[str, Any]) -> None:
    spec = container()
    spec["mounts"].append({"destination": "/mnt", "source": source, **kind})
    with pytest.raises(oci_bounded.Refused, match="writable"):
        oci_bounded.bound(spec, ALLOWED, [])


@pytest.mark.parametrize("namespace", [[], [{"type": "cgroup", "path": "/proc/1/ns/cgroup"}]])
def test_the_machines_cgroup_namespace_is_refused(namespace: list[dict[str, str]]) -> None:
    spec = container()
    spec["linux"]["namespaces"] = [{"type": "pid"}, *namespace]
    with pytest.raises(oci_bounded.Refused, match="namespace"):
        oci_bounded.bound(spec, ALLOWED, [])


def test_other_binds_and_read_only_ones_pass() -> None:
    spec = container()
    spec["mounts"] += [
        {"destination": "/etc/hosts", "type": "bind", "source": "/run/x/hosts", "options": ["bind"]},
        {"destination": "/cg", "type": "bind", "source": "/sys/fs/cgroup", "options": ["rbind", "ro"]},
    ]
    assert len(oci_bounded.bound(spec, ALLOWED, [])["mounts"]) == 5


def test_what_is_given_is_not_changed() -> None:
    spec = container()
    oci_bounded.bound(spec, ALLOWED, ["/proc/bus"])
    assert spec == container()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["create", "--bundle", "/b", "x"], ("create", ["--bundle", "/b", "x"])),
        (["--root", "/run/crun", "--log=/l", "--systemd-cgroup", "exec", "-d", "x"], ("exec", ["-d", "x"])),
        (["--cgroup-manager", "cgroupfs", "--root=/r", "start", "create"], ("start", ["create"])),
        (["--log", "create", "delete", "x"], ("delete", ["x"])),
        (["--version"], ("", [])),
        ([], ("", [])),
    ],
)
def test_the_subcommand_is_found_behind_global_options(words: list[str], expected: tuple[str, list[str]]) -> None:
    assert oci_bounded.subcommand(words) == expected


@pytest.mark.parametrize(
    "words",
    [
        ["--process", "/p"],
        ["--process=/p"],
        ["-p", "/p"],
        ["-p/p"],
        ["-d", "--pid-file", "/x", "--process", "/p", "id"],
    ],
)
def test_an_option_is_read_in_every_form(words: list[str]) -> None:
    assert oci_bounded.option(words, "--process", "-p") == "/p"


def test_an_absent_option_is_none() -> None:
    assert oci_bounded.option(["--pid-file", "/x", "--preserve-fds", "0"], "--process", "-p") is None


@pytest.mark.parametrize("command", ["create", "run"])
@pytest.mark.parametrize("form", [["--bundle", "{}"], ["--bundle={}"], ["-b", "{}"], ["-b{}"]])
def test_the_bundles_specification_is_rewritten(tmp_path: Path, command: str, form: list[str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(container()))
    words = ["--root", "/r", command, *[word.format(tmp_path) for word in form], "--pid-file", "/x", "name"]
    oci_bounded.guard(words, ALLOWED)
    written = json.loads((tmp_path / "config.json").read_text())
    assert not set(written["process"]["capabilities"]["effective"]) & FORBIDDEN
    assert "/proc/sysrq-trigger" in written["linux"]["readonlyPaths"]


def test_without_bundle_the_working_directory_is_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.json").write_text(json.dumps(container()))
    monkeypatch.chdir(tmp_path)
    oci_bounded.guard(["create", "--config=other.json", "name"], ALLOWED)
    assert "readonlyPaths" in json.loads((tmp_path / "other.json").read_text())["linux"]


@pytest.mark.parametrize("form", [["--process", "{}"], ["--process={}"], ["-p", "{}"]])
def test_the_process_of_an_exec_is_rewritten(tmp_path: Path, form: list[str]) -> None:
    file = tmp_path / "process.json"
    file.write_text(json.dumps(process()))
    oci_bounded.guard(["exec", "-d", *[word.format(file) for word in form], "name"], ALLOWED)
    assert set(json.loads(file.read_text())["capabilities"]["bounding"]) == set(ALL) - FORBIDDEN


@pytest.mark.parametrize("form", [["--cap", "CAP_SYS_TIME"], ["--cap=CAP_SYS_TIME"], ["-cCAP_SYS_TIME"]])
def test_an_exec_that_asks_for_a_capability_is_refused(form: list[str]) -> None:
    with pytest.raises(oci_bounded.Refused):
        oci_bounded.guard(["exec", *form, "name", "date"], ALLOWED)


def test_the_runtime_runs_only_what_the_guard_let_pass(tmp_path: Path) -> None:
    runtime = tmp_path / "crun"
    runtime.write_text('#!/bin/sh\necho "ran: $*"\n')
    script = tmp_path / "oci bounded"
    script.write_text(settings.runtime_script(sys.executable, str(runtime)))
    for file in (runtime, script):
        file.chmod(0o755)
    good = tmp_path / "good"
    bad = tmp_path / "bad"
    for folder in (good, bad):
        folder.mkdir()
    (good / "config.json").write_text(json.dumps(container()))
    refused = container()
    refused["mounts"].append({"destination": "/cg", "type": "bind", "source": "/sys/fs/cgroup"})
    (bad / "config.json").write_text(json.dumps(refused))

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(script), *words], capture_output=True, text=True, check=False)

    assert call("create", "--bundle", str(good), "a b").stdout == f"ran: create --bundle {good} a b\n"
    assert call("state", "x").stdout == "ran: state x\n"
    done = call("create", "--bundle", str(bad), "x")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("LW-LAB-021: the container is refused")
