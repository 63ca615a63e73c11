"""labwright.hardware: what nvidia-smi says becomes GPUs or a finding, never a host without one.

The long answers (-q -x), lists (-L) and failures are recordings; `recorded/sources.yml` says where each was read. Of
few machines the one query was recorded too, so query lines are composed: from the values of the same machine's
recording, and the compute capability from env/catalog/gpus.yml. The list of the A100's MIG devices is composed as its
source tells. Cards of which there is no recording at all are composed from published values and stand under PUBLISHED.
"""

from __future__ import annotations

import csv
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostkit.facts import GPU_FIELDS
from labwright import hardware
from labwright.hardware import Gpu, Hardware
from labwright.words import Finding
from unit.labwright.made_up import ids, real

RECORDED = Path(__file__).with_name("recorded")
KNOWN = real().gpus
FIELDS = GPU_FIELDS.split(",")
OLD_FIELDS = [one for one in FIELDS if one != "compute_cap"]  # of drivers before R510
OURS = "labwright-worker-x.service"


def recorded(name: str) -> str:
    return (RECORDED / name).read_text(encoding="utf-8")


def answer(stdout: str, fields: Sequence[str] = FIELDS, rc: int = 0, stderr: str = "", **more: Any) -> dict[str, Any]:
    """What hostkit's verb facts gives."""
    said = {"rc": rc, "stdout": stdout, "stderr": stderr, "fields": list(fields)}
    return {**said, "details": "", "list": "", "owners": {}, **more}


def failed(stdout: str, rc: int) -> dict[str, Any]:
    """The same of a program that fails: there is nothing more to ask it."""
    return {"rc": rc, "stdout": stdout, "stderr": "", "fields": list(FIELDS)}


def seen(said: Mapping[str, Any] | None, system: str = "Linux") -> tuple[Hardware, list[Finding]]:
    return hardware.seen({"system": system, "nvidia_smi": said}, KNOWN)


def line(fields: Sequence[str] = FIELDS, **cells: str) -> str:
    """A line of the query; a Tesla T4 unless told otherwise. A dot of a field's name is written as two underscores."""
    settled = {
        "index": "0",
        "uuid": "GPU-1a",
        "name": "Tesla T4",
        "memory.total": "15360",
        "memory.used": "0",
        "driver_version": "535.104.05",
        "compute_cap": "7.5",
        "mig.mode.current": "[N/A]",
        "ecc.mode.current": "Enabled",
    } | {key.replace("__", "."): value for key, value in cells.items()}
    return ", ".join(settled[one] for one in fields) + "\n"


def from_xml(name: str, driver: str = "") -> dict[str, Any]:
    """The whole answer of a machine of which -q -x was recorded; ``driver`` for a recording without one."""
    text = recorded(name)
    log = ElementTree.fromstring(text)  # noqa: S314
    driver = driver or log.findtext("driver_version") or ""
    fields = FIELDS if int(driver.split(".")[0]) >= 510 else OLD_FIELDS
    lines = ""
    for index, gpu in enumerate(log.findall("gpu")):
        product = gpu.findtext("product_name") or ""
        lines += line(
            fields,
            index=str(index),
            uuid=gpu.findtext("uuid") or "",
            name=product,
            memory__total=(gpu.findtext("fb_memory_usage/total") or "").removesuffix(" MiB"),
            memory__used=(gpu.findtext("fb_memory_usage/used") or "").removesuffix(" MiB"),
            driver_version=driver,
            compute_cap=KNOWN.capability(product),
            mig__mode__current=na(gpu.findtext("mig_mode/current_mig")),
            ecc__mode__current=na(gpu.findtext("ecc_mode/current_ecc")),
        )
    return answer(lines, fields, details=text)


def na(text: str | None) -> str:
    """The query writes in brackets what the long answer says plainly."""
    return "[N/A]" if text in (None, "N/A") else str(text)


def from_csv(name: str) -> dict[str, Any]:
    """The whole answer of a machine of which the query was recorded, with more columns and with units."""
    head, *rows = csv.reader(recorded(name).splitlines(), skipinitialspace=True)
    columns = [one.split(" [")[0] for one in head]
    return answer(
        "".join(
            ", ".join(dict(zip(columns, row, strict=True))[one].removesuffix(" MiB") for one in FIELDS) + "\n"
            for row in rows
        )
    )


# --- machines that were recorded -------------------------------------------------------------------------------------

XML = {
    "tesla-t4.xml": (
        "515.105.01",
        "11.7",
        [
            Gpu(
                0,
                "GPU-d37e67a5-91dd-3774-a5cb-99096249601a",
                "Tesla T4",
                15360,
                "7.5",
                1032,
                ecc="Enabled",
                holders=("Xorg (pid 675, 22 MiB)", "python (pid 5762, 1005 MiB)"),
                minor=0,
            )
        ],
    ),
    "tesla-p100.xml": (
        "510.47.03",
        "11.6",
        [
            Gpu(
                0,
                "GPU-d3da8716-eaab-75db-efc1-60e88e1cd55e",
                "Tesla P100-PCIE-16GB",
                16384,
                "6.0",
                0,
                ecc="Enabled",
                minor=0,
            )
        ],
    ),
    "rtx-2070-two.xml": (
        "590.44.01",
        "13.1",
        [
            Gpu(
                at,
                f"GPU-12345678-aaaa-bbbb-cccc-0123456789{end}",
                "NVIDIA GeForce RTX 2070",
                8192,
                "7.5",
                1,
                ecc="[N/A]",
                minor=at,
            )
            for at, end in enumerate(("ab", "cd"))
        ],
    ),
    "rtx-2080-windows.xml": (
        "516.59",
        "11.7",
        [
            Gpu(
                0,
                "GPU-fbd55ed4-1eec-4423-0a47-ad594b4333e3",
                "NVIDIA GeForce RTX 2080",
                8192,
                "7.5",
                862,
                ecc="[N/A]",
                holders=("SearchHost.exe (pid 25436)", "? (pid 25520)", "msedgewebview2.exe (pid 30212)"),
            )
        ],
    ),
    "rtx-4000-sff-ada.xml": (
        "595.84",
        "13.2",
        [
            Gpu(
                index=0,
                uuid="GPU-37037c3f-65c8-ec4d-24a9-420204ad8026",
                name="NVIDIA RTX 4000 SFF Ada Generation",
                memory_mib=20475,
                compute_capability="8.9",
                foreign_mib=3534,
                ecc="Disabled",
                holders=(
                    "cosmic-comp (pid 1842, 410 MiB)",
                    "code (pid 3190, 451 MiB)",
                    "python (pid 4937, 160 MiB)",
                    "chromium (pid 34626, 183 MiB)",
                ),
                minor=0,
            )
        ],
    ),
    "rtx-pro-6000-blackwell-maxq.xml": (
        "590.44.01",
        "13.1",
        [
            Gpu(
                index=0,
                uuid="GPU-12345678-aaaa-bbbb-cccc-0123456789ab",
                name="NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
                memory_mib=97887,
                compute_capability="12.0",
                foreign_mib=65720,
                ecc="Disabled",
                holders=("llama-server (pid 116860, 65710 MiB)",),
                minor=0,
            )
        ],
    ),
}


@pytest.mark.parametrize("name", XML)
def test_a_recorded_machine(name: str) -> None:
    driver, announced, gpus = XML[name]
    found, wrong = seen(from_xml(name))
    assert (found.driver_version, found.cuda_announced, list(found.gpus), wrong) == (driver, announced, gpus, [])
    assert (found.platform, found.source) == ("linux-64", "seen")


def test_a_shortened_recording_on_a_driver_that_does_not_know_compute_capabilities() -> None:
    found, wrong = seen(from_xml("gtx-1070-ti.xml", driver="440.100"))
    uuid = "GPU-f9ba66fc-a7f5-94c5-da19-019ef2f9c665"
    assert found.gpus == (Gpu(0, uuid, "GeForce GTX 1070 Ti", 4096, "6.1", 42, ecc="[N/A]"),)
    assert (found.cuda_announced, wrong) == ("", [])


@pytest.mark.parametrize(
    ("name", "owners", "foreign"),
    [
        ("tesla-t4.xml", {"675": "gdm.service", "5762": ""}, 1032),
        ("tesla-t4.xml", {"675": "", "5762": OURS}, 27),
        ("tesla-t4.xml", {"675": OURS, "5762": OURS}, 5),
        ("rtx-4000-sff-ada.xml", {"4937": OURS}, 3374),
        ("rtx-pro-6000-blackwell-maxq.xml", {"116860": OURS}, 10),
        ("rtx-pro-6000-blackwell-maxq.xml", {"116860": "not-labwright-worker.service"}, 65720),
        ("rtx-2080-windows.xml", {"25436": ""}, 862),
        ("rtx-2080-windows.xml", {"25436": OURS}, 0),  # WDDM does not say how much of it is ours
        ("tesla-p100.xml", {"1": OURS}, 0),
    ],
)
def test_memory_of_our_own_services_is_not_foreign(name: str, owners: dict[str, str], foreign: int) -> None:
    found, wrong = seen({**from_xml(name), "owners": owners})
    assert ([one.foreign_mib for one in found.gpus], wrong) == ([foreign], [])
    ours = [pid for pid, unit in owners.items() if unit == OURS]
    assert found.gpus[0].holders == tuple(
        one for one in XML[name][2][0].holders if not any(f"(pid {pid}" in one for pid in ours)
    )


def test_each_card_has_its_own_processes() -> None:
    process = "<process_info><pid>123</pid><used_memory>3000 MiB</used_memory></process_info>"
    details = "<nvidia_smi_log>" + "".join(
        f"<gpu><uuid>GPU-{one}</uuid><processes>{held}</processes></gpu>" for one, held in (("a", process), ("b", ""))
    )
    rows = "".join(line(index=str(at), uuid=f"GPU-{one}", memory__used="3100") for at, one in enumerate("ab"))
    found, wrong = seen(answer(rows, details=details + "</nvidia_smi_log>", owners={"123": OURS}))
    assert ([one.foreign_mib for one in found.gpus], wrong) == ([100, 3100], [])


@pytest.mark.parametrize(
    ("used", "foreign"), [("[N/A]", 0), ("[Not Supported]", 0), ("", 0), ("100", 100), ("99999999999", 15360)]
)
def test_foreign_memory_is_at_most_what_the_card_has(used: str, foreign: int) -> None:
    found, wrong = seen(answer(line(memory__used=used)))
    assert ([one.foreign_mib for one in found.gpus], wrong) == ([foreign], [])


@pytest.mark.parametrize(
    ("name", "driver", "gpu"),
    [
        (
            "rtx-2080-super-windows.csv",
            "610.62",
            Gpu(0, "", "NVIDIA GeForce RTX 2080 SUPER", 8192, "7.5", 797, ecc="[N/A]"),
        ),
    ],
)
def test_a_recorded_query(name: str, driver: str, gpu: Gpu) -> None:
    found, wrong = seen(from_csv(name), "Windows")
    assert [replace(one, uuid="") for one in found.gpus] == [gpu]
    assert (found.platform, found.driver_version, wrong) == ("win-64", driver, [])


# Recorded as the table only: file, product name, driver, memory, capability. Identifiers, and modes that the table does
# not show, are made up.
TABLES = [
    ("gtx-960.txt", "NVIDIA GeForce GTX 960", "580.82.09", 2048, "5.2"),
    ("titan-v.txt", "NVIDIA TITAN V", "515.65.01", 12288, "7.0"),
    ("rtx-3070-wsl.txt", "NVIDIA GeForce RTX 3070", "531.68", 8192, "8.6"),
    ("tesla-k20m.txt", "Tesla K20m", "361.93.02", 4743, "3.5"),
]
# Cards of which no recording was found, from published values; nothing of these lines was seen on a machine.
PUBLISHED = [
    ("Tesla K80", "470.256.02", 11441, "3.7"),
    ("Tesla M40", "535.104.05", 11443, "5.2"),
    ("Tesla V100-SXM2-32GB", "525.105.17", 32768, "7.0"),
    ("NVIDIA A10G", "535.104.05", 23028, "8.6"),
    ("NVIDIA H200", "570.86.15", 143771, "9.0"),
    ("NVIDIA B200", "610.43.02", 183359, "10.0"),
    ("NVIDIA GeForce RTX 5090", "610.57.04", 32607, "12.0"),
]
CARDS = [(name, driver, memory, capability) for _file, name, driver, memory, capability in TABLES] + PUBLISHED


def one_card(name: str, driver: str, memory: int, capability: str) -> dict[str, Any]:
    """The answer of a host with this card; without the field compute_cap where the driver is too old for it."""
    fields = FIELDS if int(driver.split(".")[0]) >= 510 else OLD_FIELDS
    cells = {"name": name, "driver_version": driver, "memory__total": str(memory), "compute_cap": capability}
    return answer(line(fields, **cells), fields)


@pytest.mark.parametrize(("file", "name", "driver", "memory", "_capability"), TABLES)
def test_what_is_composed_from_a_recorded_table_stands_in_it(
    file: str, name: str, driver: str, memory: int, _capability: str
) -> None:
    assert all(one in recorded(file) for one in (name, driver, f"{memory}MiB"))


@pytest.mark.parametrize(("name", "driver", "memory", "capability"), CARDS)
def test_a_card_of_each_generation(name: str, driver: str, memory: int, capability: str) -> None:
    found, wrong = seen(one_card(name, driver, memory, capability))
    assert found.gpus == (Gpu(0, "GPU-1a", name, memory, capability, ecc="Enabled"),)
    assert (found.driver_version, wrong) == (driver, [])


@pytest.mark.parametrize(("name", "_driver", "_memory", "capability"), CARDS)
def test_the_table_knows_what_a_driver_does_not_say(name: str, _driver: str, _memory: int, capability: str) -> None:
    found, wrong = seen(answer(line(name=name, compute_cap="[N/A]")))
    assert ([one.compute_capability for one in found.gpus], wrong) == ([capability], [])


def test_several_cards_keep_their_order_and_numbers() -> None:
    rows = "".join(line(index=str(at), uuid=f"GPU-{at}", name="NVIDIA H200", compute_cap="9.0") for at in range(8))
    found, wrong = seen(answer(rows))
    assert [(one.index, one.uuid) for one in found.gpus] == [(at, f"GPU-{at}") for at in range(8)]
    assert wrong == []


def test_lines_may_end_as_on_windows_and_be_empty() -> None:
    found, wrong = seen(answer(line().replace("\n", "\r\n") + "\r\n"), "Windows")
    assert ([one.uuid for one in found.gpus], wrong) == (["GPU-1a"], [])


def test_no_program_is_a_host_without_gpus() -> None:
    found, wrong = seen(None)
    assert (found, wrong) == (Hardware("linux-64", "seen"), [])


def test_what_else_a_host_says() -> None:
    facts = {
        "system": "Linux",
        "cpus": 8,
        "memory_mib": 32000,
        "disk": {"/opt": 9},
        "nvidia_smi": None,
        "listening": [{"port": 1}],
        "present": ["/opt/envs/x"],
        "systemd": False,
        "clock_skew_s": -3.5,
    }
    assert hardware.seen(facts, KNOWN) == (
        Hardware(
            platform="linux-64",
            source="seen",
            cpus=8,
            memory_mib=32000,
            disk_mib={"/opt": 9},
            listening=({"port": 1},),
            present=frozenset({"/opt/envs/x"}),
            systemd=False,
            clock_skew_s=-3.5,
        ),
        [],
    )


# --- MIG -------------------------------------------------------------------------------------------------------------

A100 = "GPU-513536b6-7d19-9063-b049-1e69664bb298"
A100_LIST = f"GPU 0: NVIDIA A100-SXM4-80GB (UUID: {A100})\n" + "".join(
    f"  MIG 1g.20gb     Device  {at}: (UUID: MIG-{at})\n" for at in range(4)
)
LIST = recorded("h100-mig-eight.list")  # it has two of the cards


def h100s(devices: Sequence[str]) -> str:
    """The long answer to the list of H100s, with these MIG devices (number and memory) on each."""
    held = "".join(
        f"<mig_device><index>{index}</index><fb_memory_usage><total>{memory}</total></fb_memory_usage></mig_device>"
        for index, _, memory in (one.partition(":") for one in devices)
    )
    cards = re.findall(r"UUID: (GPU-[^)]+)", LIST)
    return (
        "<nvidia_smi_log><cuda_version>13.1</cuda_version>"
        + "".join(f"<gpu><uuid>{one}</uuid><mig_devices>{held}</mig_devices></gpu>" for one in cards)
        + "</nvidia_smi_log>"
    )


def h100_rows(mode: str = "Enabled") -> str:
    """The query to the list of H100s: the recorded line of such a card, with the list's identifiers."""
    recorded_line = from_csv("h100-mig.csv")["stdout"]
    cards = re.findall(r"UUID: (GPU-[^)]+)", LIST)
    return "".join(
        re.sub(r"^0, GPU-[^,]+", f"{at}, {uuid}", recorded_line).replace("Enabled, Enabled", f"{mode}, Enabled")
        for at, uuid in enumerate(cards)
    )


def test_mig_devices_stand_for_the_card() -> None:
    found, wrong = seen({**from_xml("a100-sxm4-mig.xml"), "list": A100_LIST})
    name = "NVIDIA A100-SXM4-80GB MIG 1g.20gb"
    expected = [Gpu(0, f"MIG-{at}", name, 19968, "8.0", mig=True, ecc="Enabled", minor=1) for at in range(4)]
    assert list(found.gpus) == expected
    assert (found.driver_version, found.cuda_announced, wrong) == ("535.54.03", "12.2", [])


def test_mig_devices_of_several_cards() -> None:
    found, wrong = seen(answer(h100_rows(), details=h100s([f"{at}:9984 MiB" for at in range(7)]), list=LIST))
    assert [one.uuid for one in found.gpus] == re.findall(r"UUID: (MIG-[^)]+)", LIST)
    assert {(one.index, one.memory_mib, one.mig) for one in found.gpus} == {(0, 9984, True), (1, 9984, True)}
    assert (found.cuda_announced, wrong) == ("13.1", [])


def test_a_card_with_mig_off_is_whole() -> None:
    found, wrong = seen(answer(h100_rows("Disabled"), details=h100s([])))
    assert [(one.memory_mib, one.mig, one.compute_capability) for one in found.gpus] == [(81559, False, "9.0")] * 2
    assert wrong == []


@pytest.mark.parametrize(
    ("listing", "details"),
    [
        ("", h100s([])),
        (LIST, h100s([])),
        ("", h100s(["0:9984 MiB"])),
        (LIST, h100s([f"{at}:N/A" for at in range(7)])),
        (LIST, ""),
        (LIST[: LIST.index("  MIG")], h100s(["0:9984 MiB"])),
    ],
)
def test_mig_without_devices_is_a_finding_for_each_card(listing: str, details: str) -> None:
    found, wrong = seen(answer(h100_rows(), details=details, list=listing))
    assert found.gpus == ()
    assert ids(wrong) == ["LW-GPU-010"] * 2
    assert [one.values["index"] for one in wrong] == [0, 1]
    assert "-mig 0" in wrong[0].say()["fix"]


@pytest.mark.parametrize("index", ["N/A", "", "1.5", "-"])
def test_a_mig_device_without_a_number_is_no_traceback(index: str) -> None:
    found, wrong = seen(answer(h100_rows(), details=h100s([f"{index}:9984 MiB", "1:9984 MiB"]), list=LIST))
    assert found.gpus or wrong


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rc", "rule", "cure"),
    [
        ("version-mismatch.txt", 18, "LW-GPU-002", "Restart"),
        ("version-mismatch-old.txt", 18, "LW-GPU-002", "Restart"),
        ("no-driver.txt", 9, "LW-GPU-003", "Install the driver"),
        ("no-devices.txt", 6, "LW-GPU-004", "seated and powered"),
        ("no-devices.txt", 0, "LW-GPU-004", "seated and powered"),
        ("gpu-lost.txt", 15, "LW-GPU-005", "Restart"),
        ("gpu-lost.txt", 0, "LW-GPU-005", "power and temperature"),
        ("field-not-valid.txt", 2, "LW-GPU-001", "Mend the driver"),
    ],
)
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_recorded_failure_has_its_rule_and_its_cure(name: str, rc: int, rule: str, cure: str, stream: str) -> None:
    found, wrong = seen({**failed("", rc), stream: recorded(name)})
    assert (found.gpus, ids(wrong)) == ((), [rule])
    assert cure in wrong[0].say()["fix"]
    assert recorded(name).strip().splitlines()[-1] in wrong[0].say()["message"]


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        (failed("", 127), "LW-GPU-001"),
        (failed("", -1), "LW-GPU-001"),
        ({**failed("", -1), "stderr": "Command '['nvidia-smi']' timed out after 60 seconds"}, "LW-GPU-001"),
        (failed(line(), 1), "LW-GPU-001"),
        (answer(""), "LW-GPU-004"),
        (answer("\n\n"), "LW-GPU-004"),
    ],
)
def test_a_program_that_fails_is_no_cpu_host(said: dict[str, Any], rule: str) -> None:
    found, wrong = seen(said)
    assert (found.gpus, ids(wrong)) == ((), [rule])
    assert "lab_device: cpu" in wrong[0].say()["fix"]


# --- torn answers ----------------------------------------------------------------------------------------------------

ALONE = {
    **{name: from_xml(name) for name, (_driver, _announced, gpus) in XML.items() if len(gpus) == 1},
    "a100-sxm4-mig.xml": {**from_xml("a100-sxm4-mig.xml"), "list": A100_LIST},
    "gtx-1070-ti.xml": from_xml("gtx-1070-ti.xml", driver="440.100"),
    "rtx-2080-super-windows.csv": from_csv("rtx-2080-super-windows.csv"),
    **{one[0]: one_card(*one) for one in CARDS},
}


@pytest.mark.parametrize("name", ALONE)
def test_a_query_cut_anywhere_gives_the_same_gpus_or_a_finding(name: str) -> None:
    said = ALONE[name]
    whole, _none = seen(said)
    for end in range(len(said["stdout"])):
        found, wrong = seen({**said, "stdout": said["stdout"][:end]})
        if found.gpus:
            assert [replace(one, ecc="") for one in found.gpus] == [replace(one, ecc="") for one in whole.gpus]
            assert all(old.ecc.startswith(new.ecc) for old, new in zip(whole.gpus, found.gpus, strict=True))
            assert (found.driver_version, wrong) == (whole.driver_version, [])
        else:
            assert ids(wrong) in (["LW-GPU-004"], ["LW-GPU-006"]), said["stdout"][:end]


def test_a_torn_line_is_quoted_with_its_number() -> None:
    _found, wrong = seen(answer(line() + line(index="1", uuid="GPU-2b")[:19]))
    assert wrong[0].id == "LW-GPU-006"
    assert wrong[0].values == {"number": 2, "found": 3, "expected": 9, "said": "1, GPU-2b, Tesla T4"}


def test_a_card_that_only_the_long_answer_names_was_torn_off_the_query() -> None:
    said = from_xml("rtx-2070-two.xml")
    first, _second = said["stdout"].splitlines(keepends=True)
    _found, wrong = seen({**said, "stdout": first})
    assert wrong != []


TEARABLE = {**ALONE, "rtx-2070-two.xml": from_xml("rtx-2070-two.xml")}


@settings(deadline=None)
@given(st.sampled_from(sorted(TEARABLE)), st.data())
def test_a_query_with_a_hole_is_never_silently_a_cpu_host(name: str, data: st.DataObject) -> None:
    said = TEARABLE[name]
    text = said["stdout"]
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    found, wrong = seen({**said, "stdout": text[:start] + text[end:]})
    assert found.gpus or wrong


def queried(found: Hardware) -> list[Gpu]:
    """The cards without what the long answer adds."""
    return [replace(one, foreign_mib=0, holders=(), minor=None) for one in found.gpus]


@pytest.mark.parametrize("name", ["tesla-t4.xml", "rtx-2080-windows.xml"])
def test_a_long_answer_cut_anywhere_costs_only_what_it_adds_and_says_so(name: str) -> None:
    said = {**from_xml(name), "owners": {"5762": OURS}}
    whole, _none = seen(said)
    silent = []
    for end in range(1, len(said["details"])):
        found, wrong = seen({**said, "details": said["details"][:end]})
        assert queried(found) == queried(whole)
        if found != whole and ids(wrong) != ["LW-GPU-012"]:
            silent.append(said["details"][:end])
    assert silent[:3] == []


def test_a_long_answer_with_entities_is_not_read() -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'
    said = answer(line(), details=f"<nvidia_smi_log>{bomb}<cuda_version>&b;</cuda_version></nvidia_smi_log>")
    found, wrong = seen(said)
    assert ([one.uuid for one in found.gpus], found.cuda_announced) == (["GPU-1a"], "")
    assert set(ids(wrong)) <= {"LW-GPU-012"}


def test_entities_declared_before_the_answer_are_not_known_in_it() -> None:
    said = answer(line(), details='<!DOCTYPE x [<!ENTITY a "13.0">]><nvidia_smi_log>&a;</nvidia_smi_log>')
    found, _wrong = seen(said)
    assert ([one.uuid for one in found.gpus], found.cuda_announced) == (["GPU-1a"], "")


# --- values that cannot be -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("memory.total", one) for one in ("-1", "0", "4194305", "99999999999999", "many", "1e5", "15 GiB")],
        *[("memory.used", one) for one in ("-1", "some", "1.5")],
        *[("compute_cap", one) for one in ("-8.6", "8", "8.", "999.9", "eight", "8.6.1")],
        *[("driver_version", one) for one in ("-535.1", "535", "99999.1", "[N/A]", "", "new", "535.104.05-beta")],
        *[("uuid", one) for one in ("", "[N/A]", "1a", "MIG-1a")],
    ],
)
def test_a_value_that_cannot_be_is_named(field: str, value: str) -> None:
    found, wrong = seen(answer(line(**{field.replace(".", "__"): value})))
    assert (found.gpus, ids(wrong)) == ((), ["LW-GPU-007"])
    assert (wrong[0].values["field"], wrong[0].values["found"]) == (field, value)
    assert "hardware_given" in wrong[0].say()["fix"]


@pytest.mark.parametrize(
    "value", ["-1", "", "x", "1.0", "²", "9" * 5000], ids=["negative", "empty", "letter", "dot", "power", "long"]
)
def test_a_number_of_a_card_that_is_none_is_a_finding(value: str) -> None:
    found, wrong = seen(answer(line(index=value)))
    assert (found.gpus, ids(wrong)) == ((), ["LW-GPU-007"])


@pytest.mark.parametrize("field", ["memory__total", "memory__used"])
def test_a_number_of_thousands_of_digits_is_a_finding(field: str) -> None:
    found, wrong = seen(answer(line(**{field: "9" * 5000})))
    assert (found.gpus, ids(wrong)) == ((), ["LW-GPU-007"])


def test_a_process_with_thousands_of_digits_of_memory_is_no_traceback() -> None:
    process = f"<process_info><pid>1</pid><used_memory>{'9' * 5000} MiB</used_memory></process_info>"
    details = f"<nvidia_smi_log><gpu><uuid>GPU-1a</uuid><processes>{process}</processes></gpu></nvidia_smi_log>"
    found, _wrong = seen(answer(line(), details=details))
    assert [one.uuid for one in found.gpus] == ["GPU-1a"]


def test_one_bad_card_does_not_hide_the_others() -> None:
    found, wrong = seen(answer(line(memory__total="-1") + line(index="1", uuid="GPU-2b")))
    assert ([one.uuid for one in found.gpus], ids(wrong)) == (["GPU-2b"], ["LW-GPU-007"])


@pytest.mark.parametrize("fields", [FIELDS, OLD_FIELDS])
def test_an_unknown_card_without_a_capability(fields: list[str]) -> None:
    found, wrong = seen(answer(line(fields, name="Matrox Mystique", compute_cap="[N/A]"), fields))
    assert (found.gpus, ids(wrong)) == ((), ["LW-GPU-008"])
    assert "compute_capability" in wrong[0].say()["fix"]


def test_an_unknown_card_that_says_its_capability_is_taken() -> None:
    found, wrong = seen(answer(line(name="NVIDIA R300", compute_cap="13.0")))
    assert ([one.compute_capability for one in found.gpus], wrong) == (["13.0"], [])


@pytest.mark.parametrize("memory", ["[N/A]", "N/A", "[Not Supported]", "[Unknown Error]", ""])
def test_a_card_that_does_not_say_its_memory(memory: str) -> None:
    cells = {"name": "NVIDIA GB10", "driver_version": "580.95.05", "compute_cap": "12.1"}
    found, wrong = seen(answer(line(memory__total=memory, memory__used=memory, **cells)))
    assert (found.gpus, ids(wrong)) == ((), ["LW-GPU-011"])
    assert "hardware_given" in wrong[0].say()["fix"]


# --- anything at all -------------------------------------------------------------------------------------------------

PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF), max_size=12)
CELLS = st.tuples(
    st.sampled_from(["0", "1"]) | PRINTABLE,
    st.just("GPU-1a") | PRINTABLE.map("GPU-{}".format),
    PRINTABLE,
    *[st.sampled_from(["15360", "[N/A]"]) | st.integers().map(str) | PRINTABLE] * 2,
    st.just("535.104.05") | PRINTABLE,
    st.sampled_from(["7.5", "[N/A]"]) | PRINTABLE,
    st.sampled_from(["Enabled", "[N/A]"]) | PRINTABLE,
    PRINTABLE,
)
VALUE = PRINTABLE | st.integers().map(str) | st.integers().map("{} MiB".format)


@settings(deadline=None)
@given(st.text(), st.text(), st.sampled_from([0, 0, 0, 9, -1]))
def test_any_words_are_gpus_or_a_finding(stdout: str, stderr: str, rc: int) -> None:
    found, wrong = seen(answer(stdout, stderr=stderr, rc=rc))
    assert found.gpus or wrong
    assert all(one.say("zh")["message"] and one.say("en")["message"] for one in wrong)


@settings(deadline=None)
@given(st.lists(CELLS, min_size=1, max_size=3))
def test_any_cells_are_gpus_or_a_finding(rows: list[tuple[str, ...]]) -> None:
    found, wrong = seen(answer("\n".join(", ".join(row) for row in rows), list=LIST))
    assert found.gpus or wrong
    assert all(one.memory_mib > 0 and 0 <= one.foreign_mib <= one.memory_mib for one in found.gpus)


@settings(deadline=None)
@given(st.text(), st.text())
def test_any_long_answer_leaves_the_query_as_it_is(details: str, listing: str) -> None:
    for text in (details, f"<nvidia_smi_log>{details}", f"<nvidia_smi_log>{details}</nvidia_smi_log>"):
        found, _wrong = seen(answer(line(), details=text, list=listing))
        assert [one.uuid for one in found.gpus] == ["GPU-1a"]


@settings(deadline=None)
@given(VALUE, VALUE, VALUE, VALUE, VALUE)
def test_any_values_in_the_long_answer_are_gpus_or_a_finding(
    cuda: str, index: str, total: str, pid: str, used: str
) -> None:
    cuda, index, total, pid, used = (escape(one) for one in (cuda, index, total, pid, used))
    details = (
        f"<nvidia_smi_log><cuda_version>{cuda}</cuda_version><gpu><uuid>{A100}</uuid><mig_devices><mig_device>"
        f"<index>{index}</index><fb_memory_usage><total>{total}</total></fb_memory_usage></mig_device></mig_devices>"
        f"<processes><process_info><pid>{pid}</pid><used_memory>{used}</used_memory></process_info></processes>"
        "</gpu></nvidia_smi_log>"
    )
    for mode in ("Enabled", "Disabled"):
        rows = line(uuid=A100, mig__mode__current=mode)
        found, wrong = seen(answer(rows, details=details, list=A100_LIST, owners={pid: OURS}))
        assert found.gpus or wrong


# --- hardware that is described --------------------------------------------------------------------------------------

T4 = {"name": "Tesla T4", "memory_mib": 15360}


def described(**wish: Any) -> tuple[Hardware, list[Finding]]:
    return hardware.given(wish, "w1", KNOWN)


def test_a_described_host() -> None:
    found, wrong = described(
        platform="win-64",
        driver_version="580.65.06",
        cpus=8,
        memory_mib=32000,
        disk_free_mib=90000,
        gpus=[T4, {"name": "Some card", "memory_mib": 1000, "compute_capability": "9.9", "uuid": "GPU-2"}],
    )
    gpus = (Gpu(0, "GPU-given-w1-0", "Tesla T4", 15360, "7.5"), Gpu(1, "GPU-2", "Some card", 1000, "9.9"))
    assert found == Hardware("win-64", "given", "580.65.06", "", gpus, 8, 32000, {"": 90000})
    assert wrong == []


def test_a_host_described_with_nothing_is_a_linux_host_without_gpus() -> None:
    assert described() == (Hardware("linux-64", "given"), [])


@pytest.mark.parametrize(
    ("wish", "rules", "left"),
    [
        ({"gpus": [T4]}, ["LW-GPU-009"], []),
        ({"gpus": [{"name": "Some card", "memory_mib": 1}], "driver_version": "580.65.06"}, ["LW-GPU-008"], []),
        ({"gpus": [{"name": "Some card", "memory_mib": 1}, T4], "driver_version": "580.65.06"}, ["LW-GPU-008"], [1]),
        ({"gpus": [{"name": "Some card", "memory_mib": 1}, T4]}, ["LW-GPU-008", "LW-GPU-009"], []),
    ],
)
def test_a_description_that_is_not_enough(wish: dict[str, Any], rules: list[str], left: list[int]) -> None:
    found, wrong = described(**wish)
    assert (ids(wrong), [one.index for one in found.gpus]) == (rules, left)


@pytest.mark.parametrize(
    ("text", "parts"),
    [("535.104.05", (535, 104, 5)), ("12.10", (12, 10)), ("", ()), ("CUDA 12.2 (R535)", (12, 2, 535))],
)
def test_a_version_is_its_numbers(text: str, parts: tuple[int, ...]) -> None:
    assert hardware.version(text) == parts


@pytest.mark.parametrize(
    ("name", "arm"),
    [
        ("NVIDIA GH200 480GB", True),
        ("NVIDIA GB10", True),
        ("GB200", True),
        ("NVIDIA GB300", True),
        ("NVIDIA H200", False),
        ("NVIDIA B200", False),
        ("NVIDIA GB100", False),
    ],
)
def test_a_card_that_comes_only_with_an_arm_processor_is_refused_once(name: str, arm: bool) -> None:
    rows = [{"name": name, "memory_mib": 98304, "compute_capability": "9.0"}] * 2
    found, wrong = hardware.given({"driver_version": "580.65.06", "gpus": rows}, "h", KNOWN)
    assert (ids(wrong), len(found.gpus)) == (["LW-GPU-017"] if arm else [], 2)


def test_a_mig_device_on_paper_is_no_whole_card() -> None:
    rows = [{"name": "NVIDIA A100-SXM4-40GB MIG 2g.10gb", "memory_mib": 9856, "uuid": f"MIG-{at}"} for at in (1, 2)]
    found, wrong = hardware.given({"driver_version": "580.65.06", "gpus": rows}, "h", KNOWN)
    assert ([one.mig for one in found.gpus], wrong) == ([True, True], [])


def test_one_uuid_for_two_cards_on_paper_is_a_finding() -> None:
    rows = [{"name": "NVIDIA A100", "memory_mib": 40960, "uuid": "GPU-x"}] * 2
    _found, wrong = hardware.given({"driver_version": "580.65.06", "gpus": rows}, "h", KNOWN)
    assert ids(wrong) == ["LW-GPU-016"]
