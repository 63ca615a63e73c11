"""What the lab is asked for: read whole, refused with a sentence, keyed by what it depends on."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import cli, hosts, image, lab, machine, prerequisites, settings
from lab.errors import LabError
from lab.processes import Podman
from lab.rootfs import trust_machine_cas as cas
from unit.programs import program

SUBNET = "10.84.1.0/24"
PEM = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"


def wish(*words: str, subnet: str = SUBNET, name: str = "trial") -> hosts.Lab:
    return hosts.parse_lab(name, subnet, words)


def test_a_host_has_a_name_an_address_and_perhaps_a_suite() -> None:
    assert hosts.parse_host("w1=10.84.1.2") == hosts.Host("w1", "10.84.1.2", "bookworm")
    assert hosts.parse_host("w1=10.84.1.2:trixie") == hosts.Host("w1", "10.84.1.2", "trixie")


def test_this_machine_has_the_first_address() -> None:
    assert wish("a=10.84.1.2").gateway == "10.84.1.1"


@pytest.mark.parametrize(
    ("code", "name", "subnet", "words"),
    [
        ("LW-LAB-040", "Trial", SUBNET, ["a=10.84.1.2"]),
        ("LW-LAB-040", "../x", SUBNET, ["a=10.84.1.2"]),
        ("LW-LAB-041", "t", SUBNET, []),
        ("LW-LAB-041", "t", SUBNET, ["a"]),
        ("LW-LAB-041", "t", SUBNET, ["a=10.84.1"]),
        ("LW-LAB-041", "t", SUBNET, ["a b=10.84.1.2"]),
        ("LW-LAB-041", "t", SUBNET, ["--privileged=10.84.1.2"]),
        ("LW-LAB-010", "t", SUBNET, ["a=10.84.1.2:sid"]),
        ("LW-LAB-042", "t", "10.84.1.1/24", ["a=10.84.1.2"]),
        ("LW-LAB-042", "t", "8.8.8.0/24", ["a=8.8.8.2"]),
        ("LW-LAB-042", "t", "10.84.1.0/30", ["a=10.84.1.2"]),
        ("LW-LAB-042", "t", "nonsense", ["a=10.84.1.2"]),
        ("LW-LAB-043", "t", SUBNET, ["a=10.84.1.1"]),
        ("LW-LAB-043", "t", SUBNET, ["a=10.84.1.255"]),
        ("LW-LAB-043", "t", SUBNET, ["a=10.84.2.2"]),
        ("LW-LAB-043", "t", SUBNET, ["a=10.84.1.2", "b=10.84.1.2"]),
        ("LW-LAB-043", "t", SUBNET, ["a=10.84.1.2", "a=10.84.1.3"]),
    ],
)
def test_a_wrong_wish_is_refused_before_anything_is_touched(
    code: str, name: str, subnet: str, words: list[str]
) -> None:
    with pytest.raises(LabError) as caught:
        hosts.parse_lab(name, subnet, words)
    assert caught.value.code == code
    assert str(caught.value).startswith(f"{code}: ")


def test_the_command_line_ends_with_2_and_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["up", "--lab", "t", "--subnet", "10.0.0.0/8x", "--host", "a=10.0.0.2"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("LW-LAB-042: ")
    assert len(shown.err.splitlines()) == 1


def test_the_plan_changes_with_the_wish_and_only_with_it() -> None:
    same = wish("a=10.84.1.2", "b=10.84.1.3")
    assert same.plan == wish("a=10.84.1.2", "b=10.84.1.3:bookworm").plan
    others = [wish("a=10.84.1.2"), wish("a=10.84.1.2", "b=10.84.1.4"), wish("a=10.84.1.2", "b=10.84.1.3:trixie")]
    assert len({same.plan, *[other.plan for other in others]}) == 4


def container(cache: str, plan: str) -> hosts.Container:
    return hosts.Container("trial-a", "a", "trial", plan, cache, running=True)


def test_hosts_of_another_checkout_or_wish_are_not_touched(tmp_path: Path) -> None:
    here = settings.Settings(tmp_path / "mine", tmp_path / "store", tmp_path / "run")
    mine, other, gone = str(here.cache), str(tmp_path / "other"), str(tmp_path / "gone")
    for folder in (mine, other):
        Path(folder).mkdir()
    lab = wish("a=10.84.1.2")
    hosts.refuse_foreign(here, lab, [container(mine, lab.plan)], {mine})
    for code, present, owners in (
        ("LW-LAB-044", [container(other, lab.plan)], {other}),
        ("LW-LAB-044", [container(mine, lab.plan)], {mine, other}),
        ("LW-LAB-044", [], {other}),
        ("LW-LAB-045", [container(mine, "another")], {mine}),
        ("LW-LAB-048", [container(gone, lab.plan)], {gone}),
        ("LW-LAB-048", [], {gone}),
    ):
        with pytest.raises(LabError, match=r"lab[.]py down --lab trial") as caught:
            hosts.refuse_foreign(here, lab, present, owners)
        assert caught.value.code == code
    assert hosts.is_removable(here, mine)
    assert hosts.is_removable(here, gone)
    assert not hosts.is_removable(here, other)


class Machine(Podman):
    """podman that holds one lab in memory, and writes down what it is told to remove."""

    def __init__(self, cache: str) -> None:
        self.cache = cache
        self.removed: list[str] = []

    def __call__(self, *arguments: str | Path, stdin: str | None = None, check: bool = True) -> str:
        words = [str(argument) for argument in arguments]
        if words[:1] == ["ps"] and "--quiet" in words:
            return "" if "trial-a" in self.removed else "0123456789ab\n"
        if words[:1] == ["ps"]:
            labels = {"lab": "trial", "host": "a", "plan": "x", "cache": self.cache}
            host = {
                "Names": ["trial-a"],
                "State": "running",
                "Labels": {f"labwright.{key}": value for key, value in labels.items()},
            }
            return json.dumps([] if "trial-a" in self.removed else [host])
        if words[:2] == ["network", "ls"]:
            subnets = [{"subnet": SUBNET, "gateway": "10.84.1.1"}]
            row: dict[str, object] = {"name": "trial", "network_interface": "no-such-link0", "subnets": subnets}
            return json.dumps([] if "trial" in self.removed else [{**row, "labels": {"labwright.cache": self.cache}}])
        assert "--force" in words
        self.removed.append(words[-1])
        return ""


def test_a_lab_of_another_checkout_goes_only_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = settings.Settings(tmp_path / "mine", tmp_path / "store", tmp_path / "run")
    there = settings.Settings(tmp_path / "other", tmp_path / "store", tmp_path / "run")
    addresses = tmp_path / "ipam.db"
    monkeypatch.setattr(machine, "ADDRESSES", addresses)
    for folder in (here.lab("trial"), there.lab("trial")):
        folder.mkdir(parents=True)
    addresses.touch()
    podman = Machine(str(there.cache))
    with pytest.raises(LabError, match=r"LW-LAB-049: .*lab.py down --lab trial --any-checkout"):
        hosts.down(here, podman, "trial")
    assert hosts.clean(here, podman) == {"labs": [], "images": [], "kept_for": [str(there.cache)]}
    assert podman.removed == []
    assert there.lab("trial").exists()
    assert addresses.exists()
    assert hosts.down(here, podman, "trial", any_checkout=True)
    assert podman.removed == ["trial-a", "trial"]
    assert not there.lab("trial").exists()
    assert not addresses.exists()
    assert not hosts.down(here, podman, "trial", any_checkout=True)


@pytest.mark.parametrize(
    ("said", "code"), [("address x is already allocated to y", "LW-LAB-039"), ("no space left", "LW-LAB-031")]
)
def test_an_address_that_podman_keeps_is_told(said: str, code: str, tmp_path: Path) -> None:
    class Refusing(Podman):
        def __call__(self, *arguments: str | Path, stdin: str | None = None, check: bool = True) -> str:
            raise LabError("LW-LAB-031", said)

    here = settings.Settings(tmp_path / "mine", tmp_path / "store", tmp_path / "run")
    lab = wish("a=10.84.1.2")
    with pytest.raises(LabError) as caught:
        hosts.start(here, Refusing(here), lab, lab.hosts[0], "image:x")
    assert caught.value.code == code


class Saying(Podman):
    """podman that answers everything with the same words."""

    def __init__(self, words: str) -> None:
        self.words = words

    def __call__(self, *arguments: str | Path, stdin: str | None = None, check: bool = True) -> str:
        return self.words


@pytest.mark.parametrize(
    ("networks", "routes", "said"),
    [
        ([{"name": "podman", "subnets": [{"subnet": "10.84.0.0/16"}]}], [], "podman's network podman"),
        ([], [{"dst": "default"}, {"dst": "10.84.1.128/25", "dev": "eth0"}], "through eth0"),
    ],
)
def test_a_subnet_that_the_machine_has_already_is_refused(
    networks: list[object], routes: list[object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "run", lambda _words: json.dumps(routes))
    with pytest.raises(LabError, match=rf"LW-LAB-046: the subnet {SUBNET} overlaps .*{said}"):
        hosts.refuse_overlap(Saying(json.dumps(networks)), wish("a=10.84.1.2"))


def test_a_host_that_does_not_come_up_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "BOOT_SECONDS", 0.1)
    with pytest.raises(LabError, match=r"LW-LAB-047: trial-a was not up .* systemd says 'maintenance'"):
        hosts.wait_until_booted(Saying("maintenance\n"), "trial-a", is_new=True)


def test_a_lab_of_a_checkout_that_is_no_more_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = settings.Settings(tmp_path / "mine", tmp_path / "store", tmp_path / "run")
    monkeypatch.setattr(machine, "ADDRESSES", tmp_path / "ipam.db")
    podman = Machine(str(tmp_path / "gone"))
    assert hosts.down(here, podman, "trial")
    assert podman.removed == ["trial-a", "trial"]


def test_a_host_is_started_by_the_guarded_runtime_and_knows_the_others(tmp_path: Path) -> None:
    here = settings.Settings(tmp_path, tmp_path / "store", tmp_path / "run")
    lab = wish("a=10.84.1.2", "b=10.84.1.3")
    words = hosts.run_command(here, lab, lab.hosts[0], "image:x")
    assert words[-2:] == ["image:x", "/sbin/init"]
    assert {"--systemd=always", "--privileged", "--restart=always", "--add-host=b:10.84.1.3"} <= set(words)
    assert "--cgroupns" not in " ".join(words)
    assert not [word for word in words if word.startswith("/sys")]
    text = settings.containers_conf(here, 20000, 30000)
    assert f'labwright = ["{here.runtime}"]' in text
    assert "nofile=20000:20000" in text


def test_known_hosts_names_each_host_by_name_and_address() -> None:
    lab = wish("a=10.84.1.2", "b=10.84.1.3")
    text = hosts.known_hosts(lab, {"a": "ssh-ed25519 AAAA", "b": "ssh-ed25519 BBBB"})
    assert text == "a,10.84.1.2 ssh-ed25519 AAAA\nb,10.84.1.3 ssh-ed25519 BBBB\n"


CONTENTS = st.dictionaries(st.text(max_size=8), st.binary(max_size=16), max_size=5)


@given(CONTENTS, CONTENTS)
def test_the_image_key_changes_with_any_input(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    assert (image.image_key(one) == image.image_key(other)) == (one == other)
    assert image.image_key(dict(reversed(one.items()))) == image.image_key(one)


def test_the_image_depends_on_recipe_suite_sources_and_week() -> None:
    day = datetime.date(2026, 12, 31)
    found = image.inputs("bookworm", ["deb x bookworm main"], day)
    assert {"finish.sh", "trust_machine_cas.py", "options", "suite", "sources", "week", "authorities"} <= set(found)
    keys = {
        image.image_key(found),
        image.image_key(image.inputs("trixie", ["deb x bookworm main"], day)),
        image.image_key(image.inputs("bookworm", ["deb y bookworm main"], day)),
        image.image_key(image.inputs("bookworm", ["deb x bookworm main"], day + datetime.timedelta(days=4))),
    }
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ((2026, 12, 31), "2026-W53"),
        ((2027, 1, 3), "2026-W53"),
        ((2027, 1, 4), "2027-W01"),
        ((2024, 12, 30), "2025-W01"),
    ],
)
def test_the_week_is_the_iso_week(day: tuple[int, int, int], expected: str) -> None:
    assert image.week(datetime.date(*day)) == expected


def test_sources_follow_the_machines_own() -> None:
    targets = """\
bookworm main http://mirror.example/debian/
bookworm-updates main http://mirror.example/debian/
bookworm-security main http://mirror.example/security/
bookworm-security main http://mirror.example/security/
bookworm contrib http://mirror.example/debian/
bookworm-backports main http://mirror.example/debian/
nodistro main https://other.example/node
"""
    assert image.source_lines(targets, "trixie") == [
        "deb http://mirror.example/debian/ trixie main",
        "deb http://mirror.example/debian/ trixie-updates main",
        "deb http://mirror.example/security/ trixie-security main",
    ]
    assert image.source_lines("noble main http://archive.example/ubuntu/\n", "bookworm") == []


def test_a_host_is_bare() -> None:
    assert not {"git", "curl", "wget", "python3-venv", "python3-pip"} & set(image.PACKAGES)
    assert {"systemd-sysv", "dbus", "libpam-systemd", "python3-apt", "sudo", "openssh-server"} <= set(image.PACKAGES)


def test_an_unknown_suite_is_refused(tmp_path: Path) -> None:
    assert cli.main(["image", "sid"]) == 2


def test_what_is_missing_is_named_with_the_command() -> None:
    needs = prerequisites.missing(lambda need: need.package not in ("podman", "openssh-client"))
    assert [need.thing for need in needs] == ["podman", "ssh", "ssh-keygen"]
    assert prerequisites.packages(needs) == ["openssh-client", "podman"]


def test_missing_programs_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "refuse_machine", lambda: None)
    monkeypatch.setattr(prerequisites, "missing", lambda **_: [prerequisites.Need("crun", "crun")])
    with pytest.raises(LabError, match="apt-get install -y --no-install-recommends crun") as caught:
        prerequisites.check(install=False)
    assert caught.value.code == "LW-LAB-003"


def test_only_linux_has_labs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(LabError, match="LW-LAB-001: this machine runs darwin"):
        prerequisites.check(install=True)


def test_an_older_python_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.hexversion", 0x030A0000)
    assert lab.main() == 2
    assert capsys.readouterr().err.startswith("LW-LAB-005: Python 3.11 or newer was expected")


@pytest.mark.parametrize(("apt", "said"), [(None, "it has no apt-get"), ("/usr/bin/apt-get", "still not found: none")])
def test_what_cannot_be_installed_is_told(apt: str | None, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(prerequisites, "refuse_machine", lambda: None)
    monkeypatch.setattr("shutil.which", lambda name, **_: apt if name == "apt-get" else None)
    monkeypatch.setattr(prerequisites, "run", lambda words, **_: asked.append(words[-1]))
    with pytest.raises(LabError, match=f"LW-LAB-004: .*{said}"):
        prerequisites.check(install=True, needs=[prerequisites.Need("none", "some-package")])
    assert asked == (["-qq", "some-package"] if apt else [])


def test_no_root_no_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(LabError, match="LW-LAB-002") as caught:
        prerequisites.check(install=True)
    assert "sudo" in str(caught.value)


def test_only_the_missing_authorities_are_added(tmp_path: Path) -> None:
    machine_text = PEM.format("QUFB\nQkJC") + PEM.format("Q0ND") + PEM.format("Q0ND")
    assert cas.missing(machine_text, PEM.format("QUFBQkJC")) == ["Q0ND"]
    assert cas.missing(machine_text, machine_text) == []
    assert cas.certificates(cas.pem("A" * 130)) == ["A" * 130]
    assert max(len(line) for line in cas.pem("A" * 130).splitlines()) == 64


def test_firewall_chains_are_taken_out_jumps_first() -> None:
    text = """\
*nat
:PREROUTING ACCEPT [0:0]
:NETAVARK-HOSTPORT-DNAT - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j NETAVARK-HOSTPORT-DNAT
-A PREROUTING -m comment --comment "not ours" -j ACCEPT
-A NETAVARK-HOSTPORT-DNAT -j ACCEPT
COMMIT
"""
    nat = ["iptables", "-w", "-t", "nat"]
    assert machine.has_chains(text)
    assert machine.removals("nat", text) == [
        [*nat, "-D", "PREROUTING", "-m", "addrtype", "--dst-type", "LOCAL", "-j", "NETAVARK-HOSTPORT-DNAT"],
        [*nat, "-F", "NETAVARK-HOSTPORT-DNAT"],
        [*nat, "-X", "NETAVARK-HOSTPORT-DNAT"],
    ]
    assert machine.removals("filter", ":FORWARD ACCEPT [0:0]\n") == []


def test_a_file_is_written_once(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "file"
    assert settings.write_if_changed(file, "x", 0o600)
    assert not settings.write_if_changed(file, "x", 0o600)
    assert settings.write_if_changed(file, "x", 0o644)
    assert settings.write_if_changed(file, "y")
    assert [entry.name for entry in file.parent.iterdir()] == ["file"]


def test_nothing_is_removed_with_a_mount_in_it(tmp_path: Path) -> None:
    line = "36 35 98:0 / {} rw,noatime master:1 - ext4 /dev/root rw"
    text = "\n".join(line.format(point) for point in ("/", "/a", "/a/b\\040c/dev", "/ab"))
    assert settings.mounts_below(Path("/a/b c"), text) == ["/a/b c/dev"]
    assert settings.mounts_below(Path("/a"), text) == ["/a", "/a/b c/dev"]
    assert settings.mounts_below(Path("/c"), text) == []


def test_a_folder_with_a_mount_in_it_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = settings.Settings(tmp_path, tmp_path / "store", tmp_path / "run")
    (here.folder / "dev").mkdir(parents=True)
    found: Callable[[Path, str], list[str]] = settings.mounts_below
    line = f"36 35 98:0 / {here.folder}/dev rw - devtmpfs dev rw"
    monkeypatch.setattr(settings, "mounts_below", lambda folder, _own: found(folder, line))
    with pytest.raises(
        LabError, match=rf"LW-LAB-012: {here.folder} is to be removed, and {here.folder}/dev is mounted"
    ):
        settings.remove_folder(here)
    assert (here.folder / "dev").is_dir()


def test_no_image_is_made_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = settings.Settings(tmp_path, tmp_path / "store", tmp_path / "run")
    here.folder.mkdir()
    usage = shutil.disk_usage(tmp_path)._replace(free=2**30)
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: usage)
    with pytest.raises(LabError, match=r"LW-LAB-011: .* has 1024 MiB free, and an image needs 3072"):
        image.build(here, Podman(here), "bookworm", [], "image:x")


def podman(folder: Path) -> tuple[int, str]:
    """The script `podman` on a machine whose cgroups are not one tree and that makes no mount namespace."""
    for name, line in {
        "stat": "echo tmpfs", "nsenter": "exit 1", "mountpoint": "exit 0", "mount": "exit 0",
        "unshare": "echo 'unshare: refused' >&2; exit 1", "podman": "exit 99",
    }.items():  # fmt: skip
        program(folder / "bin", name, line)
    own = {"PATH": f"{folder}/bin:/usr/bin:/bin", "LABWRIGHT_CACHE": str(folder), "LABWRIGHT_RUN": str(folder / "run")}
    words = [str(settings.HERE / "podman"), "ps"]
    done = subprocess.run(words, env={**os.environ, **own}, capture_output=True, text=True, check=False)
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_podman_says_what_it_lacks(tmp_path: Path) -> None:
    status, said = podman(tmp_path)
    assert (status, said.partition(" ")[0]) == (2, "LW-LAB-023:")
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab/containers.conf").touch()
    refused = "LW-LAB-024: no mount namespace with cgroup2 could be made: unshare: refused\n"
    assert podman(tmp_path) == (2, refused)


def test_the_cache_can_be_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LABWRIGHT_CACHE", str(tmp_path))
    assert settings.from_environment().folder == tmp_path / "lab"
    monkeypatch.delenv("LABWRIGHT_CACHE")
    assert settings.from_environment().cache == settings.HERE.parent.parent / ".cache"
