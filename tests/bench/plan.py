"""How long the plan takes for a large fleet, and how much memory: `make bench`. Prints numbers and judges none of them.

Each fleet has four GPUs a host, of ten kinds with ten drivers on both platforms, with hosts' own models and those of
the fleet. Nothing is drawn by chance. Each size is measured in a process of its own, so that its peak memory is its
own, and the catalogue is read before the clock starts. `plan.py 1000 --profile` says where the time goes.
"""

from __future__ import annotations

import cProfile
import json
import os
import pstats
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "plugins" / "module_utils"))

from labwright import catalog, hardware, plan, report  # noqa: E402
from labwright.catalog import Catalogue  # noqa: E402
from labwright.wishes import Host, host_of  # noqa: E402

WINDOWS = {"lab_root": "C:\\labwright", "lab_state": "C:\\labwright-state", "lab_store": "C:\\labwright-store"}
SIZES = (1_000, 10_000)
GPUS = 4
# name, MiB, compute capability, driver on Linux, driver on Windows
KINDS = (
    ("Tesla K80", 11441, "3.7", "470.57.02", "471.11"),
    ("GeForce GTX 1080 Ti", 11264, "6.1", "535.104.05", "536.25"),
    ("Tesla V100-SXM2-16GB", 16160, "7.0", "580.65.06", "580.88"),
    ("Tesla T4", 15360, "7.5", "525.60.13", "528.33"),
    ("A100-SXM4-80GB", 81920, "8.0", "550.54.14", "551.61"),
    ("GeForce RTX 3060", 12288, "8.6", "560.28.03", "560.76"),
    ("GeForce RTX 3090", 24576, "8.6", "450.80.02", "452.39"),
    ("GeForce RTX 4090", 24564, "8.9", "570.26", "570.65"),
    ("H100 80GB HBM3", 81559, "9.0", "590.44.01", "591.44"),
    ("GeForce RTX 5090", 32607, "12.0", "595.45.04", "595.45"),
)


def wishes_of(size: int) -> tuple[list[dict[str, Any]], ...]:
    """What hosts are asked for in turn; the fleet's own model is wanted once for every second host."""
    shared = {"name": "labwright-demo", "replicas": size // 2}
    return (
        [{"name": "chatglm2-6b"}, shared],
        [{"name": "chatglm2-6b", "replicas": "fit"}],
        [{"name": "chatglm2-6b", "quantization": "int8"}, {"name": "chatglm2-6b"}, {"name": "labwright-demo"}],
        [{"name": "chatglm2-6b", "context": 8192}, {"name": "labwright-demo", "aliases": ["gpt-4"]}],
        [{"name": "chatglm2-6b", "gpus": 2, "quantization": "fp16"}],
        [shared, {"name": "chatglm2-6b", "quantization": "int4"}],
    )


def fleet_of(size: int, catalogue: Catalogue) -> tuple[list[Host], dict[str, Any]]:
    """The hosts and what each of them is."""
    hosts, asked, lists = [], {}, wishes_of(size)
    for number in range(size):
        windows = number % 7 == 3
        kinds = [KINDS[(number + (at if number % 5 == 0 else 0)) % len(KINDS)] for at in range(GPUS)]
        driver = kinds[0][4 if windows else 3]
        given = {
            "platform": "win-64" if windows else "linux-64",
            "driver_version": driver,
            "memory_mib": 262_144,
            "gpus": [{"name": row[0], "memory_mib": row[1], "compute_capability": row[2]} for row in kinds],
        }
        name = f"n{number:05}"
        groups = ["workers", *(["controller", "api"] if number == 0 else ["windows"] if windows else [])]
        address = f"10.{number // 65536}.{number // 256 % 256}.{number % 256}"
        wishes = {"ansible_host": address, "lab_models": lists[number % len(lists)], "hardware_given": given}
        wishes |= WINDOWS if windows else {}
        hosts.append(host_of(name, groups, wishes))
        asked[name] = hardware.given(given, name, catalogue.gpus)
    return hosts, asked


def measure(size: int, profile: bool) -> dict[str, Any]:
    """Plan one fleet in this process."""
    catalogue = catalog.load(ROOT / "env", None)
    hosts, asked = fleet_of(size, catalogue)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    watch = cProfile.Profile()
    start = time.perf_counter()
    if profile:
        watch.enable()
    made = plan.make(hosts, asked, catalogue)
    chosen = time.perf_counter()
    written = report.as_json(made)
    text = report.dump(written)
    dumped = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if profile:
        watch.disable()
        pstats.Stats(watch, stream=sys.stderr).sort_stats("cumulative").print_stats(35)
        pstats.Stats(watch, stream=sys.stderr).sort_stats("tottime").print_stats(25)
    spoken = time.perf_counter()
    report.as_text(written)
    again = time.perf_counter()
    plan.make(hosts, asked, catalogue, json.loads(text))
    after = time.perf_counter()
    return {
        "hosts": size,
        "workers": made.workers,
        "choose_s": chosen - start,
        "json_s": dumped - chosen,
        "table_s": again - spoken,
        "again_s": after - again,
        "json_mib": len(text.encode()) / 2**20,
        "input_mib": before / 1024,
        "peak_mib": peak / 1024,
    }


def main() -> None:
    """Both sizes, one after the other, and what ten times the hosts cost."""
    if len(sys.argv) > 1:
        print(json.dumps(measure(int(sys.argv[1]), "--profile" in sys.argv)))
        return
    rows = []
    for size in SIZES:
        done = subprocess.run([sys.executable, __file__, str(size)], check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout))
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {GPUS} GPUs a host")
    print("  hosts  workers  choose s  JSON s  table s  again s  JSON MiB  input MiB  peak MiB")
    for row in rows:
        print(
            f"{row['hosts']:7}{row['workers']:9}{row['choose_s']:10.2f}{row['json_s']:8.2f}{row['table_s']:9.2f}{row['again_s']:9.2f}"
            f"{row['json_mib']:10.1f}{row['input_mib']:11.0f}{row['peak_mib']:10.0f}"
        )
    small, large = (row["choose_s"] + row["json_s"] for row in rows)
    print(f"{SIZES[1] / SIZES[0]:.0f} times the hosts take {large / small:.1f} times as long")


if __name__ == "__main__":
    main()
