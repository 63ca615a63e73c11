"""What the machine says of itself."""

from __future__ import annotations

import datetime
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import sockets
from ..wine import BUILD
from . import services
from .context import Context, Failed, Result, stand_in

GROUPS = {
    "min": ("date_time", "distribution", "dns", "env", "local", "platform", "powershell_version", "user"),
    "network": ("all_ipv4_addresses", "all_ipv6_addresses", "interfaces", "windows_domain", "winrm"),
    "hardware": ("bios", "memory", "processor", "uptime", "virtual"),
    "external": ("facter",),
}
ALL = {one for group in GROUPS.values() for one in group}
VERSION = f"10.0.{BUILD}.0"


def meminfo() -> dict[str, int]:
    """Return this machine's memory in MiB."""
    text = Path("/proc/meminfo").read_text()
    return {name: int(number) // 1024 for name, number in re.findall(r"(\w+):\s+(\d+) kB", text)}


def host_name(context: Context) -> str:
    """Return the machine's name as Windows writes it: fifteen letters at most."""
    return re.sub(r"[^A-Z0-9-]", "-", context.machine.name.upper())[:15]


def date_time(_: Context) -> Result:
    now = datetime.datetime.now().astimezone()
    utc = now.astimezone(datetime.UTC)
    return {
        "ansible_date_time": {
            "date": f"{now:%Y-%m-%d}",
            "day": f"{now:%d}",
            "hour": f"{now:%H}",
            "minute": f"{now:%M}",
            "month": f"{now:%m}",
            "second": f"{now:%S}",
            "time": f"{now:%H:%M:%S}",
            "year": f"{now:%Y}",
            "weekday": f"{now:%A}",
            "weekday_number": f"{now:%w}",
            "weeknumber": f"{now:%V}",
            "epoch": str(int(now.timestamp())),
            "epoch_int": int(now.timestamp()),
            "iso8601": f"{utc:%Y-%m-%dT%H:%M:%SZ}",
            "iso8601_micro": f"{utc:%Y-%m-%dT%H:%M:%S.%fZ}",
            "iso8601_basic": f"{now:%Y%m%dT%H%M%S%f}",
            "iso8601_basic_short": f"{now:%Y%m%dT%H%M%S}",
            "tz": "UTC",
            "tz_offset": f"{now:%z}",
        }
    }


def distribution(context: Context) -> Result:
    server = context.machine.is_server
    return {
        "ansible_distribution": context.machine.caption,
        "ansible_distribution_version": VERSION,
        "ansible_distribution_major_version": "10",
        "ansible_os_family": "Windows",
        "ansible_os_name": context.machine.caption,
        "ansible_os_product_type": "server" if server else "workstation",
        "ansible_os_installation_type": "Server" if server else "Client",
        "ansible_os_install_date": None,
    }


def env(context: Context) -> Result:
    said = context.run(["cmd.exe", "/c", "set"]).stdout.decode("utf-8", "replace")
    pairs = (line.partition("=") for line in said.splitlines() if "=" in line)
    return {"ansible_env": {name: value.rstrip("\\") for name, _, value in pairs if not name.startswith("WINE")}}


def platform(context: Context) -> Result:
    name = host_name(context)
    return {
        "ansible_architecture": "64-bit",
        "ansible_architecture2": "x86_64",
        "ansible_domain": "",
        "ansible_fqdn": name,
        "ansible_hostname": name,
        "ansible_kernel": VERSION,
        "ansible_machine_id": None,
        "ansible_netbios_name": name,
        "ansible_nodename": name,
        "ansible_owner_contact": "",
        "ansible_owner_name": "",
        "ansible_reboot_pending": False,
        "ansible_system": "Win32NT",
        "ansible_system_description": "",
        "ansible_system_vendor": "Labwright test target on Wine",
    }


def user(context: Context) -> Result:
    return {
        "ansible_user_dir": context.environ().get("userprofile", ""),
        "ansible_user_gecos": "",
        "ansible_user_id": context.machine.user,
        "ansible_user_sid": "S-1-5-21-0-0-0-500",
    }


def memory(_: Context) -> Result:
    found = meminfo()
    return {
        "ansible_memtotal_mb": found["MemTotal"],
        "ansible_memfree_mb": found["MemAvailable"],
        "ansible_swaptotal_mb": 0,
        "ansible_pagefiletotal_mb": found["SwapTotal"],
        "ansible_pagefilefree_mb": found["SwapFree"],
    }


def processor(_: Context) -> Result:
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    vendor = re.search(r"^vendor_id\s*:\s*(.+)$", text, re.MULTILINE)
    count = os.cpu_count() or 1
    words = [vendor[1] if vendor else "unknown", model[1] if model else "unknown"]
    return {
        "ansible_processor": [word for number in range(count) for word in (str(number), *words)],
        "ansible_processor_cores": count,
        "ansible_processor_count": 1,
        "ansible_processor_threads_per_core": 1,
        "ansible_processor_vcpus": count,
    }


def uptime(context: Context) -> Result:
    seconds = time.time() - context.machine.booted
    booted = datetime.datetime.fromtimestamp(context.machine.booted, datetime.UTC)
    return {"ansible_lastboot": f"{booted:%Y-%m-%d %H:%M:%SZ}", "ansible_uptime_seconds": round(seconds)}


def bios(context: Context) -> Result:
    return {
        "ansible_bios_date": "01/01/2024",
        "ansible_bios_version": "Wine",
        "ansible_product_name": "Labwright test target",
        "ansible_product_serial": context.machine.name,
        "ansible_product_uuid": str(uuid.uuid5(uuid.NAMESPACE_DNS, context.machine.name)).upper(),
    }


def interfaces(context: Context) -> Result:
    return {
        "ansible_interfaces": [
            {
                "connection_name": "Ethernet",
                "default_gateway": None,
                "dns_domain": None,
                "interface_index": 1,
                "interface_name": "Labwright test target",
                "ipv4": {"address": context.machine.address, "prefix": "24"},
                "ipv6": None,
                "macaddress": "00:00:00:00:00:00",
                "mtu": 1500,
                "speed": 1000,
            }
        ]
    }


def addresses(context: Context) -> Result:
    return {"ansible_ip_addresses": [] if context.machine.address == "127.0.0.1" else [context.machine.address]}


def windows_domain(context: Context) -> Result:
    role = "Stand-alone server" if context.machine.is_server else "Stand-alone workstation"
    return {
        "ansible_windows_domain": "WORKGROUP",
        "ansible_windows_domain_member": False,
        "ansible_windows_domain_role": role,
    }


SUBSETS: dict[str, Callable[[Context], Result]] = {
    "all_ipv4_addresses": addresses,
    "all_ipv6_addresses": addresses,
    "bios": bios,
    "date_time": date_time,
    "distribution": distribution,
    "env": env,
    "interfaces": interfaces,
    "memory": memory,
    "platform": platform,
    "powershell_version": lambda _: {"ansible_powershell_version": 5},
    "processor": processor,
    "uptime": uptime,
    "user": user,
    "virtual": lambda _: {"ansible_virtualization_role": "NA", "ansible_virtualization_type": "NA"},
    "windows_domain": windows_domain,
}


def subsets(wish: list[str], warn: Callable[[str], None]) -> set[str]:
    """Return the subsets that a `gather_subset` means, by the module's own rules."""
    groups = {name: set(members) for name, members in GROUPS.items()} | {"all": set(ALL)}
    chosen: set[str] = set()
    excluded: set[str] = set()
    for word in wish:
        name = word.removeprefix("!")
        members = groups.get(name, {name} if name in ALL else set())
        if word.startswith("!"):
            excluded |= ALL - groups["min"] if name == "all" else members
        elif members:
            chosen |= members
        else:
            warn(f"invalid value {name} specified in gather_subset")
    return (ALL - excluded) | chosen


@stand_in("ansible.windows.setup")
def setup(args: Result, context: Context) -> Result:
    """Gather facts."""
    wish = args.get("gather_subset") or ["all"]
    wish = wish if isinstance(wish, list) else [one.strip() for one in str(wish).split(",")]
    facts: dict[str, Any] = {"gather_subset": wish, "module_setup": True}
    for name in sorted(subsets(wish, context.warnings.append)):
        if name in SUBSETS:
            facts.update(SUBSETS[name](context))
    return {"changed": False, "ansible_facts": facts}


@stand_in("community.windows.win_disk_facts")
def win_disk_facts(args: Result, context: Context) -> Result:
    """Tell about the disk that holds drive C:; sizes are those of the file system that it lies on."""
    usage, wish = shutil.disk_usage(context.wine.drive_c), args["filter"]
    name, volume_path = "Labwright test target", "\\\\?\\Volume{00000000-0000-0000-0000-000000000001}\\"
    volume = {
        "allocation_unit_size": 4096,
        "drive_type": "Fixed",
        "health_status": "Healthy",
        "label": "",
        "object_id": "",
        "path": volume_path,
        "size": usage.total,
        "size_remaining": usage.free,
        "type": "NTFS",
    }
    partition: Result = {
        "access_paths": ["C:\\", volume_path],
        "drive_letter": "C",
        "gpt_type": "{ebd0a0a2-b9e5-4433-87c0-68b6b72699c7}",
        "guid": None,
        "hidden": False,
        "no_default_driveletter": False,
        "number": 1,
        "offset": 1048576,
        "shadow_copy": False,
        "size": usage.total,
        "transition_state": 1,
        "type": "Basic",
    }
    disk: Result = {
        "bootable": True,
        "bus_type": "NVMe",
        "clustered": False,
        "firmware_version": None,
        "friendly_name": name,
        "guid": None,
        "location": None,
        "manufacturer": None,
        "model": name,
        "number": 0,
        "operational_status": "Online",
        "partition_count": 1,
        "partition_style": "GPT",
        "path": None,
        "read_only": False,
        "sector_size": 512,
        "serial_number": None,
        "size": usage.total,
        "system_disk": True,
        "unique_id": None,
    }
    if "volumes" in wish:
        partition["volumes"] = [volume]
    if {"partitions", "volumes"} & set(wish):
        disk["partitions"] = [partition]
    return {"changed": False, "ansible_facts": {"ansible_disks": [disk]}}


def owner(pid: int, running: dict[int, dict[str, Any]], owners: dict[int, str]) -> str | None:
    """Return the account that a process runs as: its service's, or none where no service started it."""
    seen: set[int] = set()
    while pid in running and pid not in seen:
        if pid in owners:
            return owners[pid]
        seen.add(pid)
        pid = running[pid]["parent"]
    return None


@stand_in("ansible.windows.win_listen_ports_facts")
def win_listen_ports_facts(args: Result, context: Context) -> Result:
    """Tell what listens: this target's own processes, and its WinRM."""
    if args["tcp_filter"] != ["Listen"]:
        raise Failed("tcp_filter: this test target knows Listen only")
    found = sockets.listening(
        context.wine.prefix, context.machine.helpers, context.machine.ports, context.machine.booted
    )
    rows: dict[str, list[Result]] = {"tcp": [], "udp": []}
    running = {one["pid"]: one for one in context.wine.hand("process", "list")["processes"]}
    owners = {one["process_id"]: services.told(context, one)["username"] for one in services.listed(context)}
    for one in found:
        windows = running.get(one.behind)
        rows[one.protocol].append(
            {
                "address": one.address,
                "name": windows["name"] if windows else one.name,
                "pid": one.behind if windows else one.pid,
                "port": one.port,
                "protocol": one.protocol,
                "stime": datetime.datetime.fromtimestamp(one.since).strftime(args["date_uformat"]),
                "user": owner(one.behind, running, owners),
            }
        )
    return {"changed": False, "ansible_facts": {"tcp_listen": rows["tcp"], "udp_listen": rows["udp"]}}
