"""labwright.windows: the answers of Ansible's modules on Windows become the facts that hostkit gives on Linux.

The modules' answers have the shape that their sources at ansible.windows 3.3.0 and community.windows 3.1.0 write;
nvidia-smi's long answers are the recordings of `recorded/` that were made on Windows.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import yaml

from hostkit.facts import GPU_FIELDS
from labwright import hardware, plan, windows
from labwright.planned import HostPlan
from unit.labwright.made_up import host, on_windows, real
from unit.programs import ROOT

RECORDED = Path(__file__).with_name("recorded")
NOW = 1_790_000_000.0
PROGRAM = "nvidia-smi.exe"
OLD_PLACE = "C:\\Program Files\\NVIDIA Corporation\\NVSMI\\nvidia-smi.exe"
QUERY = f"--query-gpu={GPU_FIELDS}"
VARS = yaml.safe_load((ROOT / "roles/hardware/vars/main.yml").read_text())


def recorded(name: str) -> str:
    return (RECORDED / name).read_text(encoding="utf-8")


def ran(program: str, words: str, stdout: str, rc: int = 0) -> dict[str, Any]:
    """A result of win_command that ran something."""
    return {"item": [program, words], "rc": rc, "stdout": stdout, "stderr": "", "changed": False, "cmd": "…"}


def not_there(program: str, words: str, rc: int = 2) -> dict[str, Any]:
    """One of win_command that found no such program."""
    return {"item": [program, words], "rc": rc, "failed": False, "msg": f"Failed to run: '{program}': not found"}


def setup(**more: Any) -> dict[str, Any]:
    """The facts of a Windows 11."""
    return {
        "ansible_os_family": "Windows",
        "ansible_system": "Win32NT",
        "ansible_architecture": "64-Bit",
        "ansible_architecture2": "x86_64",
        "ansible_distribution": "Microsoft Windows 11 Pro",
        "ansible_distribution_version": "10.0.22631.0",
        "ansible_os_product_type": "workstation",
        "ansible_memtotal_mb": 65437,
        "ansible_processor_vcpus": 16,
        "ansible_date_time": {"iso8601": "2026-09-21T14:13:20Z"},
        "gather_subset": ["!all"],
        "module_setup": True,
        **more,
    }


def partition(letter: str | None, free: int, *access: str) -> dict[str, Any]:
    """A partition with one volume, as win_disk_facts tells it."""
    volume = {"size": 4 * free, "size_remaining": free, "type": "NTFS"}
    return {"drive_letter": letter, "access_paths": list(access) or None, "volumes": [volume]}


GIB = 1 << 30
DISKS: list[dict[str, Any]] = [
    {
        "number": 0,
        "partitions": [
            {"drive_letter": None, "access_paths": ["\\\\?\\Volume{1}\\"]},  # without a volume: the EFI partition
            partition("C", 100 * GIB, "C:\\", "\\\\?\\Volume{2}\\"),
        ],
    },
    {"number": 1, "partitions": [partition("\0", 900 * GIB, "C:\\labwright\\models\\", "\\\\?\\Volume{3}\\")]},
    {"number": 2},  # no partitions on it
]


def listens(port: int, name: str, user: str | None, address: str = "::", pid: int = 4) -> dict[str, Any]:
    """A row of win_listen_ports_facts."""
    return {"address": address, "port": port, "name": name, "user": user, "pid": pid, "protocol": "tcp", "stime": "x"}


def facts(**more: Any) -> dict[str, Any]:
    """The facts of a machine without a card."""
    answers = {
        "setup": setup(),
        "disks": DISKS,
        "ports": [],
        "stamps": [],
        "cards": [not_there(PROGRAM, QUERY), not_there(OLD_PLACE, QUERY, 3)],
        "details": [],
        "paths": ["C:\\labwright", "C:\\ProgramData\\labwright\\store"],
        "now": NOW,
    }
    return windows.facts({**answers, **more})


def seen(found: dict[str, Any]) -> tuple[hardware.Hardware, list[str]]:
    machine, wrong = hardware.seen(found, real().gpus)
    return machine, [one.id for one in wrong]


# --- the machine -----------------------------------------------------------------------------------------------------


def test_a_windows_11_without_a_card() -> None:
    found = facts()
    assert (found["system"], found["machine"], found["server"]) == ("Windows", "x86_64", False)
    assert (found["distribution"], found["version"]) == ("Microsoft Windows 11 Pro", "10.0.22631.0")
    assert (found["cpus"], found["memory_mib"], found["nvidia_smi"]) == (16, 65437, None)
    assert found["disk"] == {"C:\\labwright": 102_400, "C:\\ProgramData\\labwright\\store": 102_400}
    machine, wrong = seen(found)
    assert (machine.platform, machine.source, machine.gpus, machine.server, wrong) == ("win-64", "seen", (), False, [])


def test_the_facts_have_the_shape_that_hostkit_gives() -> None:
    text = (ROOT / "plugins/module_utils/hostkit/facts.py").read_text()
    for key in set(facts()) - {"server"}:
        assert f'"{key}": ' in text


@pytest.mark.parametrize(("kind", "server"), [("workstation", False), ("server", True), ("domain_controller", True)])
def test_a_server_is_told_from_a_workstation(kind: str, server: bool) -> None:
    assert seen(facts(setup=setup(ansible_os_product_type=kind)))[0].server is server


@pytest.mark.parametrize(
    ("there", "ahead"),
    [
        ("2026-09-21T14:06:47Z", -393.0),
        ("2026-09-21T14:13:20Z", 0.0),
        ("2026-09-21T15:13:20Z", 3600.0),
        ("", 0.0),
    ],
)
def test_the_clock_is_compared_in_utc(there: str, ahead: float) -> None:
    assert facts(setup=setup(ansible_date_time={"iso8601": there}))["clock_skew_s"] == ahead


def test_what_a_user_without_rights_is_not_told_is_not_known() -> None:
    bare = setup(ansible_distribution=None, ansible_os_name=None, ansible_memtotal_mb=None, ansible_date_time={})
    found = facts(setup=bare, disks=[])
    assert (found["distribution"], found["memory_mib"], found["clock_skew_s"], found["disk"]) == ("Windows", 0, 0.0, {})


@pytest.mark.parametrize("machine", ["arm64", "i386", None])
def test_another_processor_is_said(machine: str | None) -> None:
    assert facts(setup=setup(ansible_architecture2=machine))["machine"] == (machine or "")


@pytest.mark.parametrize(
    ("path", "mib"),
    [
        ("C:\\labwright", 102_400),
        ("c:\\LABWRIGHT", 102_400),
        ("C:\\labwright\\models\\big", 921_600),  # another volume is mounted there
        ("C:\\labwright\\models2", 102_400),
        ("D:\\lab", None),
    ],
)
def test_room_is_that_of_the_volume_that_a_path_is_on(path: str, mib: int | None) -> None:
    assert windows.free_mib(path, DISKS) == mib


def test_what_is_whole_is_a_folder_with_our_stamp() -> None:
    stamps = [{"path": f"C:\\labwright\\{one}\\.labwright.json"} for one in ("models\\demo", "envs\\current-cpu-01")]
    assert facts(stamps=stamps)["present"] == ["C:\\labwright\\envs\\current-cpu-01", "C:\\labwright\\models\\demo"]


# --- who listens -----------------------------------------------------------------------------------------------------


def test_a_service_of_ours_is_known_by_its_account_and_another_program_by_its_name() -> None:
    ports = [
        listens(21001, "python.exe", "NT SERVICE\\labwright-controller", "192.0.2.21"),
        listens(21002, "httpd.exe", "NT AUTHORITY\\SYSTEM", "::"),
        listens(5985, "System", None, "fe80::1%12"),
    ]
    found = facts(ports=ports)
    assert found["listening"] == [
        {"address": "192.0.2.21", "port": 21001, "unit": "labwright-controller"},
        {"address": "::", "port": 21002, "unit": "httpd.exe"},
        {"address": "fe80::1", "port": 5985, "unit": "System"},
    ]
    machine, _wrong = seen(found)
    others = plan.foreign(on_windows(host("win21", "workers")), machine)
    assert others == {21002: "httpd.exe"}


# --- cards -----------------------------------------------------------------------------------------------------------


def test_a_recorded_wddm_card_with_its_processes() -> None:
    line = "0, GPU-fbd55ed4-1eec-4423-0a47-ad594b4333e3, NVIDIA GeForce RTX 2080, 8192, 862, 516.59, 7.5, [N/A], [N/A]"
    details = [ran(PROGRAM, "-q -x", recorded("rtx-2080-windows.xml")), ran(PROGRAM, "-L", "")]
    found = facts(cards=[ran(PROGRAM, QUERY, line + "\r\n"), not_there(OLD_PLACE, QUERY, 3)], details=details)
    machine, wrong = seen(found)
    (gpu,) = machine.gpus
    assert wrong == []
    assert (machine.driver_version, machine.cuda_announced) == ("516.59", "11.7")
    assert (gpu.name, gpu.memory_mib, gpu.foreign_mib) == ("NVIDIA GeForce RTX 2080", 8192, 862)
    assert gpu.holders[0] == "SearchHost.exe (pid 25436)"


@pytest.mark.trap("wddm-memory")
def test_memory_that_a_service_of_ours_holds_is_not_foreign_though_wddm_does_not_say_how_much_it_is() -> None:
    line = "0, GPU-fbd55ed4-1eec-4423-0a47-ad594b4333e3, NVIDIA GeForce RTX 2080, 8192, 862, 516.59, 7.5, [N/A], [N/A]"
    details = [ran(PROGRAM, "-q -x", recorded("rtx-2080-windows.xml")), ran(PROGRAM, "-L", "")]
    ours = listens(21002, "python.exe", "nt service\\labwright-worker-demo", pid=25436)
    found = facts(cards=[ran(PROGRAM, QUERY, line)], details=details, ports=[ours])
    assert found["nvidia_smi"]["owners"] == {"25436": "labwright-worker-demo"}
    (gpu,) = seen(found)[0].gpus
    assert gpu.foreign_mib == 0
    assert not any("25436" in one for one in gpu.holders)


def test_the_recorded_query_of_a_card_on_windows() -> None:
    heads, row = [
        [cell.strip() for cell in line] for line in csv.reader(recorded("rtx-2080-super-windows.csv").splitlines())
    ][:2]
    said = dict(zip((head.partition(" [")[0] for head in heads), row, strict=True))
    line = ", ".join(said[field].removesuffix(" MiB") for field in GPU_FIELDS.split(","))
    machine, wrong = seen(facts(cards=[ran(PROGRAM, QUERY, line)], details=[ran(PROGRAM, "-q -x", "", 1)]))
    (gpu,) = machine.gpus
    assert (gpu.name, gpu.memory_mib, gpu.compute_capability) == ("NVIDIA GeForce RTX 2080 SUPER", 8192, "7.5")
    assert wrong == ["LW-GPU-012"], "the long answer failed, and that is said"


@pytest.mark.trap("nvidia-folder")
def test_an_old_driver_is_in_its_own_folder_and_knows_fewer_fields() -> None:
    complaint = 'Field "compute_cap" is not a valid field to query.\r\n'
    again = VARS["__hardware_queries"][1]
    line = "0, GPU-1a, Quadro P2000, 5120, 300, 452.39, [N/A], [N/A]"
    found = facts(
        cards=[
            not_there(PROGRAM, QUERY),
            ran(OLD_PLACE, QUERY, complaint, 2),
            not_there(PROGRAM, again),
            ran(OLD_PLACE, again, line),
        ],
        details=[ran(OLD_PLACE, "-q -x", "<nvidia_smi_log></nvidia_smi_log>"), ran(OLD_PLACE, "-L", "GPU 0: …")],
    )
    assert found["nvidia_smi"]["fields"] == [one for one in GPU_FIELDS.split(",") if one != "compute_cap"]
    machine, wrong = seen(found)
    assert (machine.gpus[0].compute_capability, machine.driver_version, wrong) == ("6.1", "452.39", [])


def test_a_query_that_was_not_asked_again_says_nothing() -> None:
    skipped = {"item": [PROGRAM, VARS["__hardware_queries"][1]], "skipped": True, "changed": False}
    assert facts(cards=[not_there(PROGRAM, QUERY), skipped])["nvidia_smi"] is None


@pytest.mark.parametrize("name", ["no-driver.txt", "version-mismatch.txt"])
def test_a_program_that_fails_is_a_finding_and_no_cpu_host(name: str) -> None:
    found = facts(cards=[ran(PROGRAM, QUERY, recorded(name), 9)])
    assert found["nvidia_smi"]["rc"] == 9
    machine, wrong = seen(found)
    assert machine.gpus == ()
    assert wrong in (["LW-GPU-002"], ["LW-GPU-003"])


def test_a_program_that_may_not_be_started_is_a_finding() -> None:
    denied = {"item": [PROGRAM, QUERY], "rc": 5, "msg": "Failed to run: 'nvidia-smi.exe': Access is denied"}
    machine, wrong = seen(facts(cards=[denied]))
    assert (machine.gpus, wrong) == ((), ["LW-GPU-001"])


def test_mig_on_a_server() -> None:
    xml = recorded("a100-sxm4-mig.xml")
    found = facts(
        setup=setup(ansible_os_product_type="server"),
        cards=[ran(PROGRAM, QUERY, "0, GPU-1a, A100, 40536, 30, 535.98, 8.0, Enabled, Enabled")],
        details=[ran(PROGRAM, "-q -x", xml), ran(PROGRAM, "-L", "GPU 0: A100 (UUID: GPU-1a)")],
    )
    assert found["nvidia_smi"]["details"] == xml
    assert found["nvidia_smi"]["list"].startswith("GPU 0")


def test_the_role_asks_what_hostkit_asks_and_then_less() -> None:
    first, *others = (query.removeprefix("--query-gpu=").split(",") for query in VARS["__hardware_queries"])
    assert first == GPU_FIELDS.split(",")
    assert others == [
        [one for one in first if one != "compute_cap"],
        [one for one in first if one not in ("compute_cap", "mig.mode.current")],
    ]


def test_such_a_host_has_no_problem_of_its_own() -> None:
    found = HostPlan("win21", "192.0.2.21")
    machine, wrong = hardware.seen(facts(), real().gpus)
    plan.check_machine(found, on_windows(host("win21", "workers")), machine, wrong)
    assert found.problems == []
