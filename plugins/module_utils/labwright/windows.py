"""What a Windows host is: the answers of Ansible's modules there, in the shape of hostkit's verb ``facts``.

A fresh Windows host has no Python, so nothing of ours is asked there before the plan is made. ``answers`` has

* ``setup``: the facts of `ansible.windows.setup` (subsets distribution, platform, date_time, memory, processor)
* ``disks``, ``ports``: `ansible_disks` of `win_disk_facts`, `tcp_listen` of `win_listen_ports_facts`
* ``stamps``: the files that `win_find` found: one in each environment and model that is whole
* ``cards``, ``details``: results of `win_command` that ran nvidia-smi, each with its ``item``: the program, the words
* ``paths``, ``now``: as in a request for the verb
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import PureWindowsPath
from typing import Any

ACCOUNT = "NT SERVICE\\"  # each service of ours runs under an account of its own name
NOT_THERE = (2, 3)  # of Windows: no such file, no such folder


def facts(answers: Mapping[str, Any]) -> dict[str, Any]:
    """The facts; what a module did not say is 0 or empty, which means "not known"."""
    setup = {key.removeprefix("ansible_"): value for key, value in answers["setup"].items()}
    listening = list(sockets(answers["ports"]))
    return {
        "system": "Windows" if setup.get("os_family") == "Windows" else str(setup.get("system", "")),
        "machine": str(setup.get("architecture2") or ""),
        "distribution": str(setup.get("distribution") or setup.get("os_name") or "Windows"),
        "version": str(setup.get("distribution_version") or "0"),
        "server": str(setup.get("os_product_type", "workstation")) != "workstation",
        "python": "",
        "glibc": "",
        "cpus": int(setup.get("processor_vcpus") or 0),
        "memory_mib": int(setup.get("memtotal_mb") or 0),
        "disk": {path: free for path in answers["paths"] if (free := free_mib(path, answers["disks"])) is not None},
        "present": sorted(str(PureWindowsPath(row["path"]).parent) for row in answers["stamps"]),
        "listening": [{key: row[key] for key in ("address", "port", "unit")} for row in listening],
        "systemd": False,
        "clock_skew_s": skew(setup.get("date_time", {}), float(answers["now"])),
        "nvidia_smi": nvidia_smi(answers["cards"], answers["details"], listening),
    }


def sockets(ports: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    """Who listens where: the service by its account, or the program's name where it is none of ours."""
    for row in ports:
        user = str(row.get("user") or "")
        own = user.upper().startswith(ACCOUNT)
        unit = user[len(ACCOUNT) :] if own else str(row.get("name") or "")
        # An address of one network card has the card's number behind it.
        address = str(row["address"]).partition("%")[0]
        yield {"address": address, "port": int(row["port"]), "unit": unit, "pid": str(row.get("pid", "")), "own": own}


def free_mib(path: str, disks: Iterable[Mapping[str, Any]]) -> int | None:
    """Free space where ``path`` is, or would be, in MiB: of the volume with the longest way to it; None where there is
    none that says."""
    place = PureWindowsPath(path)
    found: tuple[int, int] | None = None
    for disk in disks:
        for part in disk.get("partitions") or ():
            letter = str(part.get("drive_letter") or "").strip("\0 ")
            roots = [*(part.get("access_paths") or ()), *([f"{letter}:\\"] if letter else [])]
            depths = [len(PureWindowsPath(one).parts) for one in roots if place.is_relative_to(PureWindowsPath(one))]
            for volume in part.get("volumes") or ():
                if depths and (found is None or max(depths) > found[0]):
                    found = max(depths), int(volume["size_remaining"]) >> 20
    return found[1] if found else None


def skew(date_time: Mapping[str, Any], now: float) -> float:
    """Seconds that the host's clock is ahead."""
    try:
        there = datetime.strptime(str(date_time["iso8601"]), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except (KeyError, ValueError):
        return 0.0
    return round(there.timestamp() - now, 1)


def nvidia_smi(
    cards: Iterable[Mapping[str, Any]], details: Iterable[Mapping[str, Any]], listening: Iterable[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """nvidia-smi's words as they are; None where there is no such program. Of several answers to the query, whose
    fields a driver before R510 does not all know, the first without that complaint counts."""
    ran = [row for row in cards if not missing(row)]
    if not ran:
        return None
    row = next((one for one in ran if not unknown(one)), ran[-1])
    program, query = row["item"]
    answer: dict[str, Any] = {**said(row), "fields": query.removeprefix("--query-gpu=").split(",")}
    if answer["rc"] == 0:
        longer = {one["item"][1]: said(one) for one in details if one["item"][0] == program}
        long = longer.get("-q -x", {"rc": -1, "stdout": "", "stderr": "not asked"})
        answer["details"] = long["stdout"] or f"status {long['rc']}: {long['stderr']}"
        answer["list"] = longer.get("-L", {"stdout": ""})["stdout"]
        # A service's process that holds a card is the one that listens; Windows says whose it is there.
        answer["owners"] = {one["pid"]: one["unit"] for one in listening if one["own"] and one["pid"]}
    return answer


def missing(row: Mapping[str, Any]) -> bool:
    """Whether a program was not asked, or could not be found: `win_command` has no output then, and Windows' number of
    the reason as its status."""
    return "stdout" not in row and (row.get("skipped", False) or row.get("rc") in NOT_THERE)


def unknown(row: Mapping[str, Any]) -> bool:
    """Whether a driver does not know a field of the query."""
    return "is not a valid field" in f"{row.get('stdout', '')}{row.get('stderr', '')}"


def said(row: Mapping[str, Any]) -> dict[str, Any]:
    """Status and words of a program; -1 where it could not be started."""
    if "stdout" not in row:
        return {"rc": -1, "stdout": "", "stderr": str(row.get("msg", ""))}
    return {"rc": int(row["rc"]), "stdout": str(row["stdout"]), "stderr": str(row.get("stderr", ""))}
