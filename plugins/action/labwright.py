"""Action `labwright`: the control node's own logic (``plugins/module_utils/labwright``) in a play. Connects to nothing.

* ``{do: check}``: every host's `lab_*` and role variables, before any host is touched. * ``{do: plan, facts: "{{
hardware_facts }}"}``: this host's plan. * ``{do: leftovers}``: what a removal needs to know, without a bundle or
facts. * ``{do: verdict, name: VARIABLE}``: all hosts' answers in one file; fails when one is
not good.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "module_utils"))
from hostkit.result import Problem
from labwright import catalog, plan, verdict, wishes

ROOT = Path(__file__).resolve().parents[2]


class ActionModule(ActionBase):
    """See the module's text."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Dispatch on ``do``; a problem becomes the task's message."""
        super().run(tmp, task_vars)
        jobs = {"check": self.check, "plan": self.plan, "leftovers": self.leftovers, "verdict": self.verdict}
        try:
            return jobs[self._task.args["do"]](dict(task_vars or {}))
        except Problem as problem:
            return {"failed": True, "changed": False, "code": problem.code, "msg": str(problem)}

    def variables(self, host: str, task_vars: dict[str, Any]) -> dict[str, Any]:
        """One host's inventory variables that concern us, templated."""
        raw = task_vars["hostvars"].raw_get(host) if hasattr(task_vars["hostvars"], "raw_get") else {}
        roles = wishes.role_variables(ROOT / "roles")
        ours = [key for key in raw if key.startswith(wishes.PREFIX) or key.split("_", 1)[0] in roles]
        names = [key for key in ours if key.startswith(wishes.PREFIX) and key not in wishes.INTERNAL]
        view: Mapping[str, Any] = task_vars["hostvars"][host]
        found = {key: raw[key] for key in ours} | {key: view[key] for key in names}
        if "ansible_host" in raw:
            found["ansible_host"] = view["ansible_host"]
        return found

    def check(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """All hosts' variables at once."""
        roles = wishes.role_variables(ROOT / "roles")
        hosts = [host for host in task_vars["groups"]["all"] if host != "localhost"]
        found = [one for host in hosts for one in wishes.problems(host, self.variables(host, task_vars), roles)]
        if found:
            lines = list(dict.fromkeys(str(one) for one in found))
            return {"failed": True, "changed": False, "code": found[0].code, "msg": "\n".join(lines)}
        fleet = self.fleet(task_vars)
        for folder in {self.bundle(host) for host in fleet}:
            plan.check_wishes(fleet, catalog.load(ROOT / "env", folder))
        return {"changed": False, "msg": f"{len(hosts)} hosts, no unknown or wrong variable"}

    def fleet(self, task_vars: dict[str, Any]) -> list[wishes.Host]:
        """Every host's wishes."""
        groups = task_vars["groups"]
        return [
            wishes.host_of(
                host,
                (name for name, members in groups.items() if host in members),
                self.variables(host, task_vars),
            )
            for host in groups["all"]
            if host != "localhost"
        ]

    def bundle(self, host: wishes.Host) -> Path | None:
        """The folder of the bundle that a host takes from; None where it fetches from the internet."""
        return Path(host.wishes["lab_bundle_dir"]) if host.wishes["lab_bundle_url"] else None

    def plan(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """This host's plan."""
        fleet = self.fleet(task_vars)
        own = next(host for host in fleet if host.name == task_vars["inventory_hostname"])
        made = plan.make(own.name, fleet, self._task.args["facts"], catalog.load(ROOT / "env", self.bundle(own)))
        return {
            "changed": False,
            "msg": [f"{row['choice']}: {row['value']}, because {row['because']}" for row in made.explain],
            **plan.as_variables(made),
        }

    def leftovers(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Where this host's things are."""
        name = task_vars["inventory_hostname"]
        return {"changed": False, **plan.leftovers(wishes.host_of(name, [], self.variables(name, task_vars)))}

    def verdict(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """The lab's verdict, written to ``path``."""
        name = self._task.args["name"]
        hosts = [host for host in task_vars["groups"]["all"] if host != "localhost"]
        view = task_vars["hostvars"]
        lab = next((str(found) for host in hosts if (found := view[host].get("lab_name"))), "lab")
        answers = {host: view[host].get(name) for host in hosts}
        whole = verdict.of(lab, answers)
        wished = next((str(found) for host in hosts if (found := view[host].get("lab_verdict"))), "")
        path = Path(wished or Path(os.environ.get("LABWRIGHT_CACHE", ROOT / ".cache")) / "verdict.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(verdict.as_json(whole), encoding="utf-8")
        return {"changed": False, "failed": not whole["ok"], "msg": verdict.as_lines(whole), "path": str(path)}
