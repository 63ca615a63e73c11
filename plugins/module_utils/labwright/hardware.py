"""What a host is: from the answer of hostkit's verb ``facts``, or from the inventory's ``hardware_given``.

nvidia-smi's words are read here and nowhere else. No program is a CPU host; a program that fails, a torn line or an
absurd number is a finding, never silently a CPU host.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from labwright import paths
from labwright.catalog import Gpus
from labwright.words import Finding, finding

UNIT_PREFIX = "labwright-"
NA = re.compile(r"^\[?(N/A|Not Supported|Unknown Error|Insufficient Permissions)\]?$|^$", re.IGNORECASE)
NUMBER = re.compile(r"^[0-9]{1,4}$")
DRIVER = re.compile(r"^[0-9]{2,4}(\.[0-9]{1,4}){1,2}$")
CAPABILITY = re.compile(r"^[0-9]{1,2}\.[0-9]$")
MOST_GPU_MIB = 4 << 20  # 4 TiB: more than any card; a larger number is a torn or foreign output
MIG_LINE = re.compile(r"^\s+MIG (?P<profile>\S+)\s+Device\s+(?P<index>\d+): \(UUID: (?P<uuid>MIG-[^)]+)\)")
# What nvidia-smi says when it cannot work, and the rule that names the cure. The first that fits counts.
FAILURES = (
    (re.compile(r"version mismatch", re.IGNORECASE), "LW-GPU-002"),
    (re.compile(r"couldn't communicate with the NVIDIA driver", re.IGNORECASE), "LW-GPU-003"),
    (re.compile(r"No devices were found", re.IGNORECASE), "LW-GPU-004"),
    (re.compile(r"GPU is lost|Unable to determine the device handle", re.IGNORECASE), "LW-GPU-005"),
)


@dataclass(frozen=True)
class Gpu:
    """One place where a model can run: a card, or a MIG device of one. Memory in MiB."""

    index: int
    uuid: str
    name: str
    memory_mib: int
    compute_capability: str
    foreign_mib: int = 0  # held by programs that are not the lab's
    mig: bool = False
    ecc: str = ""
    holders: tuple[str, ...] = ()  # other programs that hold memory: "python (pid 5762, 1005 MiB)"
    minor: int | None = None  # the N of /dev/nvidiaN; None where nvidia-smi does not say


@dataclass(frozen=True)
class Hardware:
    """A host as the plan sees it; 0 and empty mean "not known". ``source`` is `seen` or `given`."""

    platform: str
    source: str
    driver_version: str = ""
    cuda_announced: str = ""
    gpus: tuple[Gpu, ...] = ()
    cpus: int = 0
    memory_mib: int = 0
    disk_mib: Mapping[str, int] = field(default_factory=dict)
    listening: tuple[Mapping[str, Any], ...] = ()
    present: frozenset[str] = frozenset()
    systemd: bool = True
    distribution: str = ""  # ID of os-release; "" where it is not known
    clock_skew_s: float = 0.0
    glibc: str = ""
    server: bool = False  # Windows Server, which Docker Desktop does not run on
    nginx_confined: bool = False  # by SELinux


def version(text: str) -> tuple[int, ...]:
    """A dotted version for comparing: "535.104.05" is (535, 104, 5)."""
    return tuple(int(part) for part in re.findall(r"\d+", text))


def given(
    wish: Mapping[str, Any], host: str, known: Gpus, platform: str = paths.LINUX
) -> tuple[Hardware, list[Finding]]:
    """Hardware that is not asked: ``hardware_given`` of the inventory, already checked against its schema; its platform
    is the one of its group, unless it says another."""
    found: list[Finding] = []
    gpus = []
    for index, row in enumerate(wish.get("gpus", [])):
        if known.base(row["name"]) in known.arm:
            arm = finding("LW-GPU-017", name=row["name"])
            found += [arm] if arm not in found else []
        capability = str(row.get("compute_capability") or known.capability(row["name"]))
        if not capability:
            found.append(finding("LW-GPU-008", name=row["name"]))
            continue
        uuid = str(row.get("uuid") or f"GPU-given-{host}-{index}")
        mig = uuid.startswith("MIG-") or " MIG " in row["name"]
        gpus.append(Gpu(index, uuid, row["name"], int(row["memory_mib"]), capability, mig=mig))
    driver = str(wish.get("driver_version", ""))
    uuids = [gpu.uuid for gpu in gpus]
    found += [finding("LW-GPU-016", uuid=uuid) for uuid in sorted(set(uuids)) if uuids.count(uuid) > 1]
    if gpus and not driver:
        found.append(finding("LW-GPU-009"))
        gpus = []
    disk = {"": int(wish["disk_free_mib"])} if "disk_free_mib" in wish else {}
    return (
        Hardware(
            platform=wish.get("platform", platform),
            source="given",
            driver_version=driver,
            gpus=tuple(gpus),
            cpus=int(wish.get("cpus", 0)),
            memory_mib=int(wish.get("memory_mib", 0)),
            disk_mib=disk,
        ),
        found,
    )


def seen(facts: Mapping[str, Any], known: Gpus) -> tuple[Hardware, list[Finding]]:
    """Hardware that was asked; ``facts`` as hostkit's verb ``facts`` gives them."""
    driver, announced, gpus, found = nvidia(facts.get("nvidia_smi"), known)
    return (
        Hardware(
            platform=paths.WINDOWS if facts.get("system") == "Windows" else paths.LINUX,
            source="seen",
            driver_version=driver,
            cuda_announced=announced,
            gpus=tuple(gpus),
            cpus=int(facts.get("cpus", 0)),
            memory_mib=int(facts.get("memory_mib", 0)),
            disk_mib=dict(facts.get("disk", {})),
            listening=tuple(facts.get("listening", ())),
            present=frozenset(facts.get("present", ())),
            systemd=bool(facts.get("systemd", True)),
            distribution=str(facts.get("distribution", "")),
            clock_skew_s=float(facts.get("clock_skew_s", 0.0)),
            glibc=str(facts.get("glibc", "")),
            server=bool(facts.get("server", False)),
            nginx_confined=bool(facts.get("nginx_confined", False)),
        ),
        found,
    )


def nvidia(answer: Mapping[str, Any] | None, known: Gpus) -> tuple[str, str, list[Gpu], list[Finding]]:
    """Driver version, highest CUDA it announces, GPUs, and what is wrong."""
    if answer is None:
        return "", "", [], []
    words = f"{answer['stdout']}\n{answer['stderr']}".strip()
    rule = next((one for pattern, one in FAILURES if pattern.search(words)), None)
    if rule or answer["rc"] != 0:
        said = words.splitlines()[-1] if words else ""
        return "", "", [], [finding(rule or "LW-GPU-001", status=answer["rc"], said=said)]
    rows, found = read_query(answer)
    if found or not rows:
        return "", "", [], found or [finding("LW-GPU-004", status=0, said=words)]
    details, torn = read_details(str(answer.get("details", "")))
    owners = answer.get("owners", {})
    lost = set(details) - {row["uuid"] for row in rows}
    if lost:
        said = ", ".join(sorted(lost))[:80]
        found.append(finding("LW-GPU-006", number=len(rows) + 1, found=0, expected=len(answer["fields"]), said=said))
    gpus: list[Gpu] = []
    for row in rows:
        detail = details.get(row["uuid"])
        gpu, wrong = card(row, detail, owners, known)
        found += wrong
        if gpu is None:
            continue
        if row["mig.mode.current"].lower() != "enabled":
            gpus.append(gpu)
            continue
        devices, unsized = mig_devices(gpu, detail, str(answer.get("list", "")))
        gpus += devices
        found += unsized if devices else [finding("LW-GPU-010", name=gpu.name, index=gpu.index)]
    announced = next(iter(details.values())).announced if details else ""
    return rows[0]["driver_version"], announced, gpus, found + torn


def read_query(answer: Mapping[str, Any]) -> tuple[list[dict[str, str]], list[Finding]]:
    """The rows of the one query, by field name; a line with another number of fields is a torn output."""
    fields = list(answer["fields"])
    rows = []
    for number, line in enumerate(answer["stdout"].splitlines(), start=1):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != len(fields):
            return [], [finding("LW-GPU-006", number=number, found=len(cells), expected=len(fields), said=line[:80])]
        row = {"compute_cap": "", "mig.mode.current": "", "ecc.mode.current": "", "memory.used": "0"}
        rows.append({**row, **dict(zip(fields, cells, strict=True))})
    for row in rows:
        if not DRIVER.match(row["driver_version"]):
            return [], [finding("LW-GPU-007", field="driver_version", found=row["driver_version"], name=row["name"])]
        if not row["uuid"].startswith("GPU-") or not NUMBER.match(row["index"]):
            return [], [finding("LW-GPU-007", field="uuid", found=row["uuid"], name=row["name"])]
    return rows, []


@dataclass(frozen=True)
class Detail:
    """What ``nvidia-smi -q -x`` says of one card beyond the query. ``processes`` are (pid, program, MiB or None)."""

    announced: str
    processes: tuple[tuple[str, str, int | None], ...]
    mig_memory: tuple[tuple[int, int], ...]  # (MIG device index, MiB)
    minor: int | None = None


def read_details(text: str) -> tuple[dict[str, Detail], list[Finding]]:
    """Details by UUID. They add to the query and never replace it: a torn text costs only what it would have added."""
    start = text.find("<nvidia_smi_log")
    if start < 0 or "<!ENTITY" in text:
        return {}, [finding("LW-GPU-012", said=text[:80].strip())] if text.strip() else []
    try:
        log = ElementTree.fromstring(text[start:])  # noqa: S314 - no entity is declared in it, as the line above sees to
    except ElementTree.ParseError as error:
        return {}, [finding("LW-GPU-012", said=str(error))]
    announced = (log.findtext("cuda_version") or "").strip()
    announced = announced if re.match(r"^\d+\.\d+$", announced) else ""
    found = {}
    for gpu in log.findall("gpu"):
        processes = tuple(
            (
                (one.findtext("pid") or "").strip(),
                (one.findtext("process_name") or "").strip(),
                mib(one.findtext("used_memory") or ""),
            )
            for one in gpu.findall("processes/process_info")
        )
        devices = tuple(
            (int(number), mib(one.findtext("fb_memory_usage/total") or "") or 0)
            for one in gpu.findall("mig_devices/mig_device")
            if NUMBER.match(number := (one.findtext("index") or "").strip())
        )
        file = (gpu.findtext("minor_number") or "").strip()
        minor = int(file) if NUMBER.match(file) else None
        found[(gpu.findtext("uuid") or "").strip()] = Detail(announced, processes, devices, minor)
    return found, []


def mib(text: str) -> int | None:
    """ "1024 MiB" as a number; None where nvidia-smi does not say."""
    digits = re.match(r"^\s*([0-9]{1,15})(\s*MiB)?\s*$", text)
    return int(digits[1]) if digits else None


def card(
    row: Mapping[str, str], detail: Detail | None, owners: Mapping[str, str], known: Gpus
) -> tuple[Gpu | None, list[Finding]]:
    """One card of the query."""
    name = row["name"]
    memory = mib(row["memory.total"])
    if memory is None and NA.match(row["memory.total"]):
        return None, [finding("LW-GPU-011", name=name, index=row["index"])]
    if memory is None or not 0 < memory <= MOST_GPU_MIB:
        return None, [finding("LW-GPU-007", field="memory.total", found=row["memory.total"], name=name)]
    used = mib(row["memory.used"])
    if used is None and not NA.match(row["memory.used"]):
        return None, [finding("LW-GPU-007", field="memory.used", found=row["memory.used"], name=name)]
    capability = row["compute_cap"]
    if NA.match(capability):  # drivers before R510 do not know the field
        capability = known.capability(name)
        if not capability:
            return None, [finding("LW-GPU-008", name=name)]
    if not CAPABILITY.match(capability):
        return None, [finding("LW-GPU-007", field="compute_cap", found=capability, name=name)]
    ours = own_memory(detail, owners)
    return (
        Gpu(
            index=int(row["index"]),
            uuid=row["uuid"],
            name=name,
            memory_mib=memory,
            compute_capability=capability,
            foreign_mib=0 if ours is None else max(0, min(used or 0, memory) - ours),
            ecc=row["ecc.mode.current"],
            holders=holders(detail, owners),
            minor=detail.minor if detail else None,
        ),
        [],
    )


def holders(detail: Detail | None, owners: Mapping[str, str]) -> tuple[str, ...]:
    """The programs that are not the lab's and hold memory of a card."""
    found = []
    for pid, program, memory in detail.processes if detail else ():
        if not str(owners.get(pid, "")).startswith(UNIT_PREFIX):
            name = re.split(r"[/\\]", program)[-1] or "?"
            found.append(f"{name} (pid {pid})" if memory is None else f"{name} (pid {pid}, {memory} MiB)")
    return tuple(found)


def own_memory(detail: Detail | None, owners: Mapping[str, str]) -> int | None:
    """MiB that the lab's own services hold; None where they hold some and nobody says how much (Windows' WDDM)."""
    total = 0
    for pid, _program, memory in detail.processes if detail else ():
        if str(owners.get(pid, "")).startswith(UNIT_PREFIX):
            if memory is None:
                return None
            total += memory
    return total


def mig_devices(whole: Gpu, detail: Detail | None, listing: str) -> tuple[list[Gpu], list[Finding]]:
    """The MIG devices of a card: CUDA sees these and not the card. UUIDs from `-L`, memory from `-q -x`."""
    memory = dict(detail.mig_memory) if detail else {}
    found = []
    unsized = []
    current = ""
    for line in listing.splitlines():
        top = re.match(r"^GPU \d+: .*\(UUID: (GPU-[^)]+)\)", line)
        if top:
            current = top[1]
        device = MIG_LINE.match(line)
        if not device or current != whole.uuid:
            continue
        if not memory.get(int(device["index"])):
            unsized.append(finding("LW-GPU-011", name=f"{whole.name} MIG {device['profile']}", index=device["index"]))
        else:
            found.append(
                Gpu(
                    index=whole.index,
                    uuid=device["uuid"],
                    name=f"{whole.name} MIG {device['profile']}",
                    memory_mib=memory[int(device["index"])],
                    compute_capability=whole.compute_capability,
                    mig=True,
                    ecc=whole.ecc,
                    minor=whole.minor,
                )
            )
    return found, unsized
