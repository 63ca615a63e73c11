"""Ten thousand requests through the demo lab, with the memory of each of its processes before and after: `make soak`.

After `make demo`. Drives playbooks/loadtest.yml with `load_requests`, and asks systemd on each host, before and after,
for each unit labwright-*: resident memory of all its processes, restarts, since when it runs. A unit that was
restarted, a request that failed or was cut off, and less than what was asked for end with status 1; memory is shown,
not judged.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
# One line a unit: name, restarts, when it started (monotonic), resident KiB of all its processes.
LOOK = r"""
systemctl list-units --plain --no-legend --state=active --type=service 'labwright-*' | while read -r unit rest; do
  group=$(systemctl show -P ControlGroup "$unit")
  pids=$(cat "/sys/fs/cgroup$group/cgroup.procs" 2>/dev/null || systemctl show -P MainPID "$unit")
  sum=0
  for pid in $pids; do
    one=$(awk '/^VmRSS:/ {print $2}' "/proc/$pid/status" 2>/dev/null)
    sum=$((sum + ${one:-0}))
  done
  began=$(systemctl show -P ExecMainStartTimestampMonotonic "$unit")
  echo "SOAK $unit $(systemctl show -P NRestarts "$unit") $began $sum"
done
"""
Seen = dict[tuple[str, str], tuple[int, int, int]]


def ansible(program: str, *arguments: str) -> str:
    """What a program of Ansible's printed; the end, where it failed."""
    settings = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    done = subprocess.run(
        [str(BIN / program), *arguments], env={**os.environ, **settings}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{program} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-2000:]}")
    return done.stdout


def parsed(text: str) -> Seen:
    """Host and unit: restarts, start, KiB; from what an ad-hoc call prints for people."""
    found: Seen = {}
    host = ""
    for line in text.splitlines():
        if head := re.match(r"(\S+) \| \w+ \| rc=\d+ >>", line):
            host = head[1]
        elif line.startswith("SOAK "):
            _mark, unit, restarts, began, memory = line.split()
            found[host, unit.removesuffix(".service")] = (int(restarts), int(began), int(memory))
    return found


def look(inventory: str) -> Seen:
    """All units of the lab, now."""
    return parsed(ansible("ansible", "all", "-i", inventory, "-b", "-m", "ansible.builtin.shell", "-a", LOOK))


def table(before: Seen, after: Seen) -> list[str]:
    """A row for each unit: memory before and after in MiB, what it grew by, restarts meanwhile."""
    lines = [f"{'host':<12} {'unit':<44} {'before':>9} {'after':>9} {'grown':>8}  restarts"]
    for key in sorted(before | after):
        first, last = before.get(key), after.get(key)
        if first is None or last is None:
            lines.append(f"{key[0]:<12} {key[1]:<44} {'was not there before' if first is None else 'is gone'}")
            continue
        grown = (last[2] - first[2]) / 1024
        again = restarted(first, last)
        memory = f"{first[2] / 1024:>7.1f} M {last[2] / 1024:>7.1f} M {grown:>+6.1f} M"
        lines.append(f"{key[0]:<12} {key[1]:<44} {memory}  {again}")
    return lines


def restarted(first: tuple[int, int, int], last: tuple[int, int, int]) -> int:
    """How often; one started by hand counts once."""
    return max(last[0] - first[0], int(last[1] != first[1]))


def steady(before: Seen, after: Seen) -> bool:
    """Whether each unit that ran still runs, as the same process, and no other came."""
    return set(before) == set(after) and not any(restarted(before[key], after[key]) for key in before)


def complete(runs: list[dict[str, Any]], wanted: int) -> bool:
    """Whether each model answered all that it was to be asked."""
    return bool(runs) and all(one["answered"] == wanted and not one["failed"] for one in runs)


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--inventory", default=str(ROOT / "inventories/demo"))
    parser.add_argument("--requests", type=int, default=10_000, help="for each model of the plan")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument(
        "--report", type=Path, default=ROOT / "build/report/load.json", help="where the load test writes"
    )
    options = parser.parse_args(argv)
    before = look(options.inventory)
    if not before:
        sys.exit("There is no unit labwright-* on any host; expected a lab that runs. Run `make demo`.")
    begun = time.monotonic()
    knobs = {"requests": options.requests, "clients": options.clients, "max_tokens": options.tokens}
    given = [part for name, value in knobs.items() for part in ("-e", f"load_{name}={value}")]
    print(ansible("ansible-playbook", "-i", options.inventory, str(ROOT / "playbooks/loadtest.yml"), *given))
    took = time.monotonic() - begun
    after = look(options.inventory)
    runs = json.loads(options.report.read_text(encoding="utf-8"))["runs"]
    for one in runs:
        counts = (
            f"{one['answered']} of {options.requests} answered, {one['failed']} failed, {one['unfinished']} unfinished"
        )
        print(f"{one['model']}: {counts}, {one['requests_per_s']:.2f} a second")
    print(
        "\n".join(table(before, after)),
        f"\nin {took:.0f} s, {options.clients} clients; resident memory of all processes of a unit",
    )
    return 0 if steady(before, after) and complete(runs, options.requests) else 1


if __name__ == "__main__":
    sys.exit(main())
