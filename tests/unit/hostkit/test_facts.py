"""hostkit.facts: what a host says of itself, read from recorded files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hostkit import facts

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
    found = facts.nvidia_smi()
    assert found is not None
    assert found["rc"] == 0
    assert found["stdout"].split() == [f"--query-gpu={facts.GPU_FIELDS}", "--format=csv,noheader,nounits"]


def test_nvidia_smi_that_fails_is_no_host_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(tmp_path, "#!/bin/sh\necho 'Driver/library version mismatch' >&2\nexit 18\n", monkeypatch)
    assert facts.nvidia_smi() == {"rc": 18, "stdout": "", "stderr": "Driver/library version mismatch\n"}


def test_nvidia_smi_that_cannot_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(tmp_path, "#!/no/such/interpreter\n", monkeypatch)
    found = facts.nvidia_smi()
    assert found is not None
    assert found["rc"] == -1
    assert "No such file" in found["stderr"]


def test_no_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert facts.nvidia_smi() is None


def test_the_whole_answer_is_plain_data_about_this_machine(tmp_path: Path) -> None:
    data = facts.run({"paths": [str(tmp_path / "new")]}, False).data
    assert json.loads(json.dumps(data)) == data
    assert set(data) == {
        *("system", "machine", "distribution", "version", "python", "cpus", "memory_mib", "disk", "listening"),
        "nvidia_smi",
    }
    assert data["cpus"] >= 1
    assert list(data["disk"]) == [str(tmp_path / "new")]
