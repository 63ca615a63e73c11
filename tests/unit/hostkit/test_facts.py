"""hostkit.facts: what a host says of itself, read from recorded files."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hostkit import facts
from hostkit.state import STAMP

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
TCP = HEAD + (
    "   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 101 1 0 100 0 0 10 0\n"
    "   1: 0A1B530A:2537 00000000:0000 0A 00000000:00000000 00:00000000 00000000   998        0 102 1 0 100 0 0 10 0\n"
    "   2: 0100007F:0CEA 00000000:0000 0A 00000000:00000000 00:00000000 00000000   110        0 103 1 0 100 0 0 10 0\n"
    "   3: 0A1B530A:2537 011B530A:C350 01 00000000:00000000 00:00000000 00000000   998        0 104 1 0 20 4 30 10 -1\n"
)
TCP6 = HEAD + (
    "   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000"
    " 00:00000000 00000000     0        0 105 1 0 100 0 0 10 0\n"
    "   1: 00000000000000000000000001000000:0CEA 00000000000000000000000000000000:0000 0A 00000000:00000000"
    " 00:00000000 00000000     0        0 106 1 0 100 0 0 10 0\n"
    "   2: 0000000000000000FFFF00000100007F:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000"
    " 00:00000000 00000000     0        0 107 1 0 100 0 0 10 0\n"
)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(TCP)
    (tmp_path / "net" / "tcp6").write_text(TCP6)
    process(tmp_path, 41, "0::/system.slice/ssh.service", 101, 105)
    process(tmp_path, 42, "0::/system.slice/labwright-api.service", 102)
    process(tmp_path, 43, "0::/user.slice/user-0.slice/session-1.scope", 103)
    (tmp_path / "44").mkdir()  # ended meanwhile
    return tmp_path


def process(proc: Path, number: int, cgroup: str, *inodes: int) -> None:
    fd = proc / str(number) / "fd"
    fd.mkdir(parents=True)
    (fd / "0").symlink_to("/dev/null")
    for index, inode in enumerate(inodes, 1):
        (fd / str(index)).symlink_to(f"socket:[{inode}]")
    (proc / str(number) / "cgroup").write_text(cgroup + "\n")


def test_listening_sockets_with_their_units(proc: Path) -> None:
    found = {(one["address"], one["port"]): one["unit"] for one in facts.listening(proc)}
    assert found == {
        ("0.0.0.0", 22): "ssh.service",  # noqa: S104
        ("10.83.27.10", 9527): "labwright-api.service",
        ("127.0.0.1", 3306): "43",
        ("::", 22): "ssh.service",
        ("::1", 3306): "",
        ("::ffff:127.0.0.1", 8080): "",
    }


def test_a_process_that_closes_files_meanwhile_is_still_told(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (proc / "42" / "fd" / "0").unlink()
    (proc / "42" / "fd" / "0").touch()  # reading it as a link fails, as it does for a file that was just closed
    assert facts.owners_of({"102"}, proc) == {"102": "labwright-api.service"}


def test_a_system_without_proc_listens_nowhere(tmp_path: Path) -> None:
    assert facts.listening(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\n# x\nID=debian\n',
            {"ID": "debian", "VERSION_ID": "12"},
        ),
        ("ID=fedora\nVERSION_ID=40\n", {"ID": "fedora", "VERSION_ID": "40"}),
        ("", {}),
    ],
)
def test_os_release(tmp_path: Path, text: str, expected: dict[str, str]) -> None:
    (tmp_path / "os-release").write_text(text)
    found = facts.os_release(tmp_path / "os-release")
    assert {key: value for key, value in found.items() if key in ("ID", "VERSION_ID")} == expected


def test_no_os_release(tmp_path: Path) -> None:
    assert facts.os_release(tmp_path / "none") == {}


def test_free_space_is_that_of_the_nearest_folder_there(tmp_path: Path) -> None:
    assert abs(facts.free_mib(tmp_path / "not" / "yet") - facts.free_mib(tmp_path)) < 1024


def smi(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "nvidia-smi"
    program.write_text(text)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_nvidia_smi_is_asked_for_the_fields_that_the_plan_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi(tmp_path, '#!/bin/sh\necho "$@"\n', monkeypatch)
    found = facts.nvidia_smi(tmp_path)
    assert found is not None
    assert found["rc"] == 0
    assert found["stdout"].split() == [f"--query-gpu={facts.GPU_FIELDS}", "--format=csv,noheader,nounits"]
    assert found["fields"] == facts.GPU_FIELDS.split(",")


def test_nvidia_smi_that_fails_is_no_host_without_a_gpu_and_is_asked_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi(tmp_path, "#!/bin/sh\necho 'Driver/library version mismatch' >&2\nexit 18\n", monkeypatch)
    assert facts.nvidia_smi(tmp_path) == {
        "rc": 18,
        "stdout": "",
        "stderr": "Driver/library version mismatch\n",
        "fields": facts.GPU_FIELDS.split(","),
    }


def test_nvidia_smi_that_cannot_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(tmp_path, "#!/no/such/interpreter\n", monkeypatch)
    found = facts.nvidia_smi(tmp_path)
    assert found is not None
    assert found["rc"] == -1
    assert "No such file" in found["stderr"]


def test_no_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert facts.nvidia_smi(tmp_path) is None


# A stand-in that notes what it was asked. It refuses the fields it does not know, as nvidia-smi does (recorded: on
# standard output, status 2), and says what lies in the files beside it.
ASKED = r"""#!/bin/sh
here=$(dirname "$0")
echo "$*" >> "$here/asked"
case "$1" in
  --query-gpu=*)
    for field in $(cat "$here/unknown"); do
      case "$1," in *[=,]$field,*)
        printf 'Field "%s" is not a valid field to query.\n\n' "$field"
        exit 2 ;;
      esac
    done
    echo "0, GPU-1a" ;;
  -q) cat "$here/details" ;;
  -L) echo "GPU 0: a card (UUID: GPU-1a)" ;;
esac
"""


def asked(folder: Path, monkeypatch: pytest.MonkeyPatch, details: str = "", unknown: str = "") -> dict[str, Any]:
    """The answer of the stand-in, with ``calls``: what it was asked."""
    (folder / "details").write_text(details)
    (folder / "unknown").write_text(unknown)
    smi(folder, ASKED, monkeypatch)
    found = facts.nvidia_smi(folder / "proc")
    assert found is not None
    return {**found, "calls": (folder / "asked").read_text().splitlines()}


def test_a_field_that_an_old_driver_does_not_know_is_asked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = asked(tmp_path, monkeypatch, unknown="compute_cap")
    less = [one for one in facts.GPU_FIELDS.split(",") if one != "compute_cap"]
    first, second, third = found.pop("calls")
    assert first == f"--query-gpu={facts.GPU_FIELDS} --format=csv,noheader,nounits"
    assert second == f"--query-gpu={','.join(less)} --format=csv,noheader,nounits"
    assert third == "-q -x"
    assert found == {
        "rc": 0,
        "stdout": "0, GPU-1a\n",
        "stderr": "",
        "fields": less,
        "details": "status 0: ",
        "list": "",
        "owners": {},
    }


def test_several_unknown_fields_are_each_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = asked(tmp_path, monkeypatch, unknown="mig.mode.current compute_cap")
    assert found["fields"] == [
        one for one in facts.GPU_FIELDS.split(",") if one not in ("mig.mode.current", "compute_cap")
    ]
    assert (found["rc"], len(found["calls"])) == (0, 4)


def test_a_program_that_knows_no_field_is_asked_no_more_than_there_are_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = asked(tmp_path, monkeypatch, unknown=facts.GPU_FIELDS.replace(",", " "))
    assert len(found["calls"]) <= len(facts.GPU_FIELDS.split(",")) + 2


def test_a_refusal_of_what_was_not_asked_ends_the_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(tmp_path, "#!/bin/sh\necho 'Field \"pstate\" is not a valid field to query.'\nexit 2\n", monkeypatch)
    found = facts.nvidia_smi(tmp_path)
    assert found is not None
    assert (found["rc"], found["fields"]) == (2, facts.GPU_FIELDS.split(","))


@pytest.mark.parametrize(
    ("details", "listed"),
    [
        ("<nvidia_smi_log><mig_devices>None</mig_devices></nvidia_smi_log>", False),
        ("<nvidia_smi_log><mig_devices><mig_device></mig_device></mig_devices></nvidia_smi_log>", True),
        ("", False),
    ],
)
def test_cards_are_listed_only_where_there_are_mig_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, details: str, listed: bool
) -> None:
    found = asked(tmp_path, monkeypatch, details)
    assert found["details"] == (details or "status 0: ")
    assert found["list"] == ("GPU 0: a card (UUID: GPU-1a)\n" if listed else "")
    assert ("-L" in found["calls"]) == listed


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/labwright-worker-demo.service", "labwright-worker-demo.service"),
        ("12:cpu:/system.slice/gdm.service\n1:name=systemd:/system.slice/gdm.service", "gdm.service"),
        ("0::/user.slice/user-0.slice/session-1.scope", ""),
        (None, ""),
    ],
)
def test_each_process_on_a_gpu_has_its_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cgroup: str | None, unit: str
) -> None:
    if cgroup is not None:
        process(tmp_path / "proc", 41, cgroup)
    details = "<process_info><pid>41</pid></process_info><process_info><pid>41</pid></process_info><pid>N/A</pid>"
    assert asked(tmp_path, monkeypatch, details)["owners"] == {"41": unit}


def test_a_program_that_does_not_end_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(argv: list[str], **settings: Any) -> None:
        raise subprocess.TimeoutExpired(argv, settings["timeout"])

    smi(tmp_path, "#!/bin/sh\n", monkeypatch)
    monkeypatch.setattr(subprocess, "run", run)
    found = facts.nvidia_smi(tmp_path)
    assert found is not None
    assert (found["rc"], found["stdout"]) == (-1, "")
    assert "timed out after 60 seconds" in found["stderr"]


def test_a_long_answer_that_does_not_end_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.run

    def run(argv: list[str], **settings: Any) -> subprocess.CompletedProcess[str]:
        if "-q" in argv:
            raise subprocess.TimeoutExpired(argv, settings["timeout"])
        return real(argv, **settings)

    monkeypatch.setattr(subprocess, "run", run)
    found = asked(tmp_path, monkeypatch, "<pid>41</pid>")
    assert (found["rc"], found["stdout"]) == (0, "0, GPU-1a\n")
    assert found["details"].startswith("status -1: ")
    assert (found["list"], found["owners"]) == ("", {})


def test_words_that_are_no_text_are_still_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(tmp_path, "#!/bin/sh\nprintf '\\377\\376 0'\n", monkeypatch)
    found = facts.nvidia_smi(tmp_path)
    assert found is not None
    assert (found["rc"], found["stdout"]) == (0, "�� 0")


# --- what of ours is there, the clock, systemd ------------------------------------------------------------------------


def test_environments_and_models_with_a_stamp_are_present(tmp_path: Path) -> None:
    for name in ("root/models/demo", "root/envs/chatglm2", "store/models/demo", "root/other/thing", "root/models/a/b"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / STAMP).touch()
    (tmp_path / "root" / "envs" / "begun").mkdir()
    places = [tmp_path / "store", tmp_path / "root", tmp_path / "nowhere"]
    found = [str(Path(one).relative_to(tmp_path)) for one in facts.present(places)]
    assert found == ["root/envs/chatglm2", "root/models/demo", "store/models/demo"]


def test_nothing_is_present_where_nothing_was_asked() -> None:
    assert facts.present([]) == []


@pytest.mark.parametrize(
    ("request_", "skew"), [({"now": 1000.0}, 100.0), ({"now": 1100.26}, -0.3), ({"now": 1100}, 0.0), ({}, 0.0)]
)
def test_the_clock_is_compared_with_the_control_nodes(
    monkeypatch: pytest.MonkeyPatch, request_: dict[str, Any], skew: float
) -> None:
    monkeypatch.setattr(facts, "time", SimpleNamespace(time=lambda: 1100.0))
    assert facts.run(request_, False).data["clock_skew_s"] == skew


@pytest.mark.parametrize("there", [True, False])
def test_systemd_runs_where_its_folder_is(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    is_dir = Path.is_dir
    monkeypatch.setattr(Path, "is_dir", lambda path: there if str(path) == "/run/systemd/system" else is_dir(path))
    assert facts.run({}, False).data["systemd"] is there


@pytest.mark.parametrize(
    ("enforce", "module", "confined"),
    [
        ("1", "", True),
        ("1", "targeted/active/modules/400/permissive_httpd_t", False),
        ("1", "targeted/active/modules/400/permissive_sshd_t", True),
        ("0", "", False),
        ("", "", False),
    ],
)
def test_nginx_is_confined_where_selinux_enforces_and_its_domain_is_not_permissive(
    tmp_path: Path, enforce: str, module: str, confined: bool
) -> None:
    if enforce:
        (tmp_path / "sys/fs/selinux").mkdir(parents=True)
        (tmp_path / "sys/fs/selinux/enforce").write_text(enforce)
    (tmp_path / "var/lib/selinux" / module).mkdir(parents=True)
    assert facts.nginx_confined(tmp_path) is confined


def test_the_whole_answer_is_plain_data_about_this_machine(tmp_path: Path) -> None:
    data = facts.run({"paths": [str(tmp_path / "new")]}, False).data
    assert json.loads(json.dumps(data)) == data
    assert set(data) == {
        *("system", "machine", "distribution", "version", "python", "glibc", "cpus", "memory_mib", "disk", "listening"),
        *("present", "systemd", "nginx_confined", "clock_skew_s", "nvidia_smi"),
    }
    assert data["cpus"] >= 1
    assert list(data["disk"]) == [str(tmp_path / "new")]
    assert data["present"] == []
