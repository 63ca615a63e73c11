"""Action `labwright`: the control node's own logic (``plugins/module_utils/labwright``) in a play. Connects to nothing.

| do | what it does |
|---|---|
| check | every host's variables, before any host is asked |
| plan | the whole lab's plan, from the `hardware_facts` of the hosts that were asked; prints it, writes it |
| met | fails when a wish is not met; with `of: lab`, only one of the lab as a whole |
| read | this host's part of the plan, spelt out for the roles; with `asking`, whatever problems it has |
| leftovers | what a removal needs to know, without a plan |
| verdict | all hosts' answers (the variable `name`) in one file; fails when one is not good |
| load | a request for hostkit's verb `load` for each model, from the plan and the knobs `load_*` |
| loaded | what was `measured` where these were `asked`, as a table and in files; fails when a model gave no answer |
| running | a request for hostkit's verb `status` for this host, from the last plan; none where it is on paper only |
| status | all answers to that (the variable `name`) as a table and in a file |
| restarts | this host's model `workers` to restart, and the `rest`, from the last plan and the knobs `restart_*` |
| left_out | says that the worker `name` is not restarted, as no other serves its `model` (`seen`: what others said) |
| logs | a request for hostkit's verb `logs`, from the knobs `logs_*` |
| logged | all answers to that (the variable `name`) as files and a table, what the lab knows to be secret masked |
| bundle | brings the bundle up to date with env/bundle.py, as the inventory's first host wishes |
| needs | what this host, or localhost for the bundle, needs of the mirrors: a request for hostkit's verb `mirrors` |
| mirrors | all answers to that (the variable `name`) as a table; fails when something is lacking |
| trusted | fails where the host trusts (`there`) another authority than the lab's, which all clients then trust too |
| secrets | certificates and keys that this host needs by its duties, made or renewed on the control node; never shown |
| keys | every name that has a key for the API, where it is used and since when; no key |
| asked | what an agent is asked: the variable `task` letter for letter, not as a template |
| rotate, retire | a new key for `name` beside the old one; only the new one |
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "module_utils"))
from hostkit import login
from hostkit.mask import hide
from hostkit.result import Problem
from labwright import (
    authority,
    catalog,
    delivery,
    doors,
    hardware,
    inventory,
    keys,
    load,
    mirrors,
    needs,
    operate,
    paths,
    plan,
    report,
    verdict,
    wishes,
)
from labwright.authority import Pair
from labwright.planned import Fleet
from labwright.safe import Safe, opened
from labwright.words import LANGUAGES, Finding, Refused, finding

ROOT = Path(__file__).resolve().parents[2]
WIRING = ROOT / "inventories" / "lab" / "group_vars"
MAKER = ROOT / "env" / "bundle.py"


class ActionModule(ActionBase):
    """See the module's text."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Dispatch on ``do``; a problem becomes the task's message."""
        super().run(tmp, task_vars)
        jobs = {
            "check": self.check,
            "plan": self.choose,
            "met": self.met,
            "read": self.read,
            "leftovers": self.leftovers,
            "verdict": self.verdict,
            "load": self.load,
            "loaded": self.loaded,
            "running": self.running,
            "status": self.status,
            "restarts": self.restarts,
            "left_out": self.left_out,
            "logs": self.logs,
            "logged": self.logged,
            "bundle": self.bring,
            "needs": self.needs,
            "mirrors": self.mirrors,
            "trusted": self.trusted,
            "secrets": self.secrets,
            "keys": self.keys,
            "rotate": self.rotate,
            "retire": self.retire,
            "asked": self.asked,
        }
        do = self._task.args.get("do")
        if do not in jobs:
            words = f"LW-CONTROL-010: labwright has no job {do!r}; expected one of {', '.join(jobs)}. Mend the task."
            return {"failed": True, "changed": False, "code": "LW-CONTROL-010", "msg": words}
        try:
            return jobs[do](dict(task_vars or {}))
        except Refused as refused:
            own = (task_vars or {}).get("lab_language")
            words = refused.cause.sentence(str(own) if own in LANGUAGES else "en")
            return {"failed": True, "changed": False, "code": refused.code, "msg": f"{refused.code}: {words}"}
        except Problem as problem:
            return {"failed": True, "changed": False, "code": problem.code, "msg": str(problem)}

    def variables(self, host: str, task_vars: dict[str, Any]) -> dict[str, Any]:
        """One host's inventory variables that concern us, templated."""
        raw = task_vars["hostvars"].raw_get(host) if hasattr(task_vars["hostvars"], "raw_get") else {}
        roles = wishes.role_variables(ROOT / "roles")
        known = wishes.table()
        ours = [key for key in raw if key.startswith((wishes.PREFIX, "hardware")) or key.split("_", 1)[0] in roles]
        names = [key for key in ours if (key in known or key.startswith(wishes.PREFIX)) and key not in wishes.INTERNAL]
        view: Mapping[str, Any] = task_vars["hostvars"][host]
        found = {key: raw[key] for key in ours} | {key: view[key] for key in names}
        if "ansible_host" in raw:
            found["ansible_host"] = view["ansible_host"]
        return found

    def check(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """All hosts' variables at once, and all that contradicts before any host is asked."""
        roles = wishes.role_variables(ROOT / "roles")
        hosts = [host for host in task_vars["groups"]["all"] if host != "localhost"]
        given = {host: self.variables(host, task_vars) for host in hosts}
        found: list[Problem] = [one for host in hosts for one in wishes.problems(host, given[host], roles)]
        found += [one for host in hosts for one in keys.problems(host, given[host].get("lab_api_keys"))]
        if "localhost" in task_vars["groups"]["all"]:
            found.append(Refused(finding("LW-PLAN-033")))
        lines = list(dict.fromkeys(str(one) for one in found))
        if not found:
            fleet = self.fleet(task_vars, given)
            language = str(fleet[0].wishes["lab_language"]) if fleet else "en"
            loaded = catalog.load(ROOT / "env", None)
            whole, by_host = inventory.check(fleet, loaded)
            wiring = {group: catalog.read(WIRING / group / "wiring.yml") for group in ("all", paths.GROUP)}
            whole += inventory.differing(given) + inventory.unwired(fleet, given, wiring)
            wanted = {name for host in fleet for name in inventory.named(host, loaded)}
            for host in fleet:
                by_host[host.name] += inventory.check_endpoints(given[host.name].get("autogen_endpoints"), wanted)
            named = [(report.TEXTS[language]["lab"], one) for one in whole]
            named += [(host, one) for host, wrong in by_host.items() for one in wrong]
            lines = [f"{one.id}: {host}: {one.sentence(language)}" for host, one in named]
        if lines:
            return {"failed": True, "changed": False, "code": lines[0].split(":")[0], "msg": "\n".join(lines)}
        return {"changed": False, "msg": f"{len(hosts)} hosts, no unknown or wrong variable"}

    def fleet(
        self, task_vars: dict[str, Any], given: Mapping[str, Mapping[str, Any]] | None = None
    ) -> list[wishes.Host]:
        """Every host's wishes."""
        by_host: dict[str, list[str]] = {}
        for name, members in task_vars["groups"].items():
            for host in members:
                by_host.setdefault(host, []).append(name)
        return [
            wishes.host_of(host, by_host[host], given[host] if given else self.variables(host, task_vars))
            for host in task_vars["groups"]["all"]
            if host != "localhost"
        ]

    def host(self, name: str, task_vars: dict[str, Any]) -> wishes.Host:
        """One host's wishes, without a look at the others."""
        return wishes.host_of(name, task_vars.get("group_names", []), self.variables(name, task_vars))

    def bundle(self, host: wishes.Host) -> Path | None:
        """The folder of the bundle that a host takes from; None where it fetches from the internet."""
        return bundle_folder(host) if host.wishes["lab_bundle_url"] else None

    def folder(self, host: wishes.Host) -> Path:
        """Where the plan is written."""
        return Path(host.wishes.get("lab_plan_dir") or ROOT / "build" / "plan")

    def choose(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """The whole lab's plan, printed and written."""
        fleet = self.fleet(task_vars)
        catalogue = catalog.load(ROOT / "env", None)
        folder = self.folder(fleet[0])
        last, warnings = before(folder, str(fleet[0].wishes["lab_name"]))
        asked = {}
        for host in fleet:
            limited = host.name not in task_vars["ansible_play_hosts_all"]
            if limited and host.name in last.get("hosts", {}):
                continue
            facts = task_vars["hostvars"][host.name].get("hardware_facts")
            if "hardware_given" in host.wishes:
                asked[host.name] = hardware.given(
                    host.wishes["hardware_given"], host.name, catalogue.gpus, host.platform
                )
            elif facts and not limited:
                asked[host.name] = hardware.seen(facts, catalogue.gpus)
        silent = set(task_vars["ansible_play_hosts_all"]) - set(asked)
        lab = plan.make(fleet, asked, catalogue, last, silent)
        written = report.as_json(lab)
        self.add_gaps(lab, written, fleet)
        Display().display(report.as_text(written))
        write(folder, written)
        said = [f"{one.id}: {one.sentence(lab.language)}" for one in warnings]
        return {"changed": False, "msg": f"{folder}/plan.json", "met": written["met"], "warnings": said}

    def add_gaps(self, lab: Fleet, written: dict[str, Any], fleet: list[wishes.Host]) -> None:
        """What cannot be brought to a host is its problem; where the host is only on paper, it is a note."""
        catalogues: dict[Path | None, catalog.Catalogue] = {}
        known: dict[str, list[Finding]] = {}
        for host in fleet:
            entry = written["hosts"][host.name]
            if lab.hosts[host.name].kept or not entry["platform"]:
                continue
            folder = self.bundle(host)
            wanted = [[row["stack"], row["torch"], row["model"], row["quantization"]] for row in entry["workers"]]
            wished = [host.wishes[one] for one in ("lab_mirrors", "lab_bundle_source", "anaconda_distribution")]
            key = json.dumps([str(folder), entry["platform"], entry["duties"], wished, wanted])
            if key not in known:
                try:
                    if folder not in catalogues:
                        catalogues[folder] = catalog.load(ROOT / "env", folder)
                    known[key] = delivery.gaps(host, entry, written, catalogues[folder])
                except Problem as problem:
                    known[key] = [finding("LW-PLAN-030", said=str(problem))]
            kind = "notes" if entry["source"] == "given" else "problems"
            entry[kind] += [one.say(lab.language) for one in known[key]]
        written["met"] = lab.met and not any(one["problems"] for one in written["hosts"].values())

    def met(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Whether every wish is met, by the plan as it was written."""
        folder = self.folder(self.host(task_vars["inventory_hostname"], task_vars))
        written, _warnings = before(folder)
        if not written:
            raise Refused(finding("LW-PLAN-029", path=f"{folder}/plan.json"))
        limited = set(task_vars["ansible_play_hosts_all"]) if self._task.args.get("of") != "lab" else set()
        found = list(written["problems"])
        found += [row for host, one in written["hosts"].items() if host in limited for row in one["problems"]]
        ids = list(dict.fromkeys(row["id"] for row in found))
        said = finding("LW-PLAN-034", ids=ids).sentence(written["language"])
        return {
            "changed": False,
            "failed": bool(found),
            "msg": f"LW-PLAN-034: {said}" if found else "every wish is met",
        }

    def read(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """This host's part of the plan, spelt out; its problems end the run for this host."""
        name = task_vars["inventory_hostname"]
        host = self.host(name, task_vars)
        found = self.part(host)
        entry = found["host"]
        if entry["source"] == "given":
            entry["problems"].append(finding("LW-PLAN-020").say(found["language"]))
        if entry["problems"] and not (self._task.args.get("asking") and entry["source"] == "seen"):
            lines = [f"{row['id']}: {name}: {row['message']} {row['fix']}".strip() for row in entry["problems"]]
            return {"failed": True, "changed": False, "code": lines[0].split(":")[0], "msg": "\n".join(lines)}
        catalogue = catalog.load(ROOT / "env", self.bundle(host))
        return {"changed": False, **delivery.spell_out(host, entry, found, catalogue)}

    def part(self, host: wishes.Host) -> dict[str, Any]:
        """One host's part of the plan, as it was written."""
        path = file_of(self.folder(host), host.name)
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            found["host"]["duties"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Refused(finding("LW-PLAN-029", path=str(path))) from error
        return found

    def leftovers(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Where this host's things are."""
        return {"changed": False, **delivery.leftovers(self.host(task_vars["inventory_hostname"], task_vars))}

    def verdict(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """The lab's verdict, written to ``path``."""
        name = self._task.args["name"]
        hosts = [host for host in task_vars["groups"]["all"] if host != "localhost"]
        view = task_vars["hostvars"]
        lab = next((str(found) for host in hosts if (found := view[host].get("lab_name"))), "lab")
        answers = {host: view[host].get(name) for host in hosts}
        own = next((str(found) for host in hosts if (found := view[host].get("lab_language"))), "en")
        language = own if own in LANGUAGES else "en"
        whole = verdict.of(lab, answers, language)
        wished = next((str(found) for host in hosts if (found := view[host].get("lab_verdict"))), "")
        path = Path(wished or Path(os.environ.get("LABWRIGHT_CACHE", ROOT / ".cache")) / "verdict.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(verdict.as_json(whole), encoding="utf-8")
        lines = verdict.as_lines(whole, language)
        Display().display("\n".join(lines))
        return {"changed": False, "failed": not whole["ok"], "msg": lines[-1], "path": str(path)}

    def load(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """What the API is asked: everything is checked before the first request."""
        given = {key: self._templar.template(task_vars[key]) for key in task_vars if key.startswith("load_")}
        wish = load.wishes(given)
        name = task_vars["inventory_hostname"]
        folder = self.folder(self.first(task_vars))
        written, _warnings = before(folder)
        if not written:
            raise Refused(finding("LW-PLAN-029", path=f"{folder}/plan.json"))
        if written["hosts"].get(name, {}).get("source") == "given":
            raise Refused(finding("LW-PLAN-020"))
        return {"changed": False, "requests": load.requests(written, name, wish)}

    def loaded(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """The figures, printed, and in the folder ``report`` beside the plan's."""
        host = self.first(task_vars)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        arguments = self._task.args
        whole = load.of(str(host.wishes["lab_name"]), now, arguments["asked"], arguments["measured"])
        Display().display(load.as_table(whole))
        folder = self.folder(host).parent / "report"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            put(folder / "load.json", load.as_json(whole))
            put(folder / "load.svg", load.as_svg(whole))
        except OSError as error:
            words = f"the figures cannot be written to {folder} ({error}); expected a folder that you may write"
            raise Problem("LW-LOAD-006", f"{words}. It lies beside lab_plan_dir: set that to one.") from error
        load.nobody_answered(whole)
        return {"changed": False, "msg": f"{folder}/load.json, {folder}/load.svg"}

    def last_plan(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """The whole lab's plan as it was written."""
        folder = self.folder(self.first(task_vars))
        written, _warnings = before(folder)
        if not written:
            raise Refused(finding("LW-PLAN-029", path=f"{folder}/plan.json"))
        return written

    def knobs(self, prefix: str, task_vars: dict[str, Any]) -> dict[str, Any]:
        """What was set with ``-e``, and all else that begins alike."""
        return {key: self._templar.template(task_vars[key]) for key in task_vars if key.startswith(prefix)}

    def running(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """What to look at on this host."""
        name = task_vars["inventory_hostname"]
        entry = self.last_plan(task_vars)["hosts"].get(name)
        if not entry or entry["source"] == "given":
            return {"changed": False, "msg": "not asked"}
        firewall = bool(self.host(name, task_vars).wishes.get("lab_firewall"))
        return {"changed": False, "request": operate.status_request(entry, firewall)}

    def answers(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """What each host of the play answered; None where it was not asked."""
        view, name = task_vars["hostvars"], self._task.args["name"]
        found = {host: view[host].get(name) for host in task_vars["ansible_play_hosts_all"]}
        return {host: None if not one or one.get("skipped") else one for host, one in found.items()}

    def status(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """What was seen, printed, and in the folder ``report`` beside the plan's. A look judges nobody."""
        host, written = self.first(task_vars), self.last_plan(task_vars)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        whole = operate.status(str(host.wishes["lab_name"]), now, written, self.answers(task_vars))
        known = self.known(task_vars)
        Display().display(hide(operate.status_table(whole), known))
        folder = self.folder(host).parent / "report"
        store({folder / "status.json": hide(operate.as_json(whole), known)}, "LW-STATUS-002")
        return {"changed": False, "msg": f"{folder}/status.json"}

    def restarts(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """What to restart on this host."""
        written = self.last_plan(task_vars)
        wish = operate.restart_wish(self.knobs("restart_", task_vars), written)
        name = task_vars["inventory_hostname"]
        return {
            "changed": False,
            "workers": operate.restarts(written, name, wish),
            "rest": operate.restart_rest(written, name, wish),
        }

    def left_out(self, _task_vars: dict[str, Any]) -> dict[str, Any]:
        """The sentence for a worker that is not restarted."""
        arguments = self._task.args
        return {"changed": False, "warnings": [operate.last(arguments["name"], arguments["model"], arguments["seen"])]}

    def logs(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """What to collect."""
        return {"changed": False, "request": operate.logs_request(self.knobs("logs_", task_vars))}

    def logged(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """The logs, each service's in a file of its own that only this user can read."""
        folder = self.folder(self.first(task_vars)).parent / "report" / "logs"
        known, files = self.known(task_vars), {}
        answers = self.answers(task_vars)
        for host, answer in answers.items():
            for unit, one in (answer or {}).get("data", {}).get("units", {}).items():
                files[folder / quote(host, safe="") / f"{quote(unit, safe='')}.log"] = hide(one["text"], known)
        store(files, "LW-LOGS-004", fresh=folder)
        Display().display(hide(operate.logs_table(answers), known))
        return {"changed": False, "msg": f"{len(files)} files in {folder}"}

    def known(self, task_vars: dict[str, Any]) -> list[str]:
        """Values that the lab knows to be secret: those of the inventory, and the keys that Labwright made."""
        found: list[Any] = []
        secret = [key for key, row in wishes.table().items() if "secret" in row]
        for host in (host for host in task_vars["groups"]["all"] if host != "localhost"):
            given = self.variables(host, task_vars)
            found += [given[key] for key in secret if key in given]
        host = self.first(task_vars)
        for path in (self.safe(host) / "keys").glob("*"):
            try:
                found.append(path.read_text(encoding="utf-8").split())
            except (OSError, ValueError) as error:
                words = f"{path} cannot be read ({error}); expected a key there, to mask it"
                raise Problem("LW-LOGS-005", f"{words}. Run this as the user who provisions the lab.") from error
        return operate.secrets(found)

    def first(self, task_vars: dict[str, Any]) -> wishes.Host:
        """The wishes that count for what is done here: the inventory's first host's, as localhost is none of them."""
        name = next((host for host in task_vars["groups"]["all"] if host != "localhost"), "localhost")
        given = self.variables(name, task_vars)
        if wrong := wishes.problems(name, given, {}):
            raise wrong[0]
        return wishes.host_of(name, [], given)

    def bring(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """The bundle. Logins of mirrors reach its maker in a private file, never on a command line."""
        if self._task.check_mode:
            return {"skipped": True, "changed": False, "msg": "a bundle is not made in check mode"}
        host = self.first(task_vars)
        profiles = catalog.load(ROOT / "env", None).mirrors
        argv = [sys.executable, str(MAKER), "make", "--json", *bundle_options(host, profiles)]
        argv += [f"--also={name}" for name in self.optional(task_vars)]
        argv += windows_options(self.fleet(task_vars))
        given = task_vars["hostvars"][host.name].get("lab_mirror_credentials") or {}
        login.use({str(one): {key: str(row[key]) for key in ("user", "password")} for one, row in given.items()})
        with tempfile.TemporaryDirectory() as folder:
            private = {"NETRC": login.write_netrc(Path(folder))} if login.LOGINS else {}
            done = subprocess.run(argv, env={**os.environ, **private}, capture_output=True, text=True, check=False)
        said = login.hide(done.stderr.strip())
        login.use({})
        if done.returncode:
            found = re.search(r"\bLW-[A-Z]+-[0-9]{3}\b", said)
            words = f"LW-CONTROL-011: env/bundle.py ended with {done.returncode}: {said[-500:]}. Please report it."
            code, words = (found[0], said) if found else ("LW-CONTROL-011", words)
            return {"failed": True, "changed": False, "code": code, "msg": words}
        made = json.loads(done.stdout)
        return {"changed": made["changed"], "msg": made["how"], "folder": made["folder"]}

    def optional(self, task_vars: dict[str, Any]) -> list[str]:
        """Optional stacks that some host needs, so that the bundle takes them."""
        return [inventory.WEB] if task_vars["groups"].get(inventory.WEB) else []

    def needs(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """What is needed of the mirrors, from here or from one host."""
        name = task_vars["inventory_hostname"]
        catalogue = catalog.load(ROOT / "env", None)
        if name == "localhost":
            windows = bool(task_vars["groups"].get(paths.GROUP))
            found = needs.of_bundle(self.first(task_vars), catalogue, self.optional(task_vars), windows)
        else:
            found = needs.of_host(self.host(name, task_vars), catalogue)
        return {"changed": False, "request": {"mirrors": found, "timeout_s": float(self._task.args["timeout_s"])}}

    def mirrors(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """The table, and whether anything is lacking."""
        view = task_vars["hostvars"]
        answers = {host: view[host].get(self._task.args["name"]) for host in ["localhost", *task_vars["groups"]["all"]]}
        asked = {host: one for host, one in answers.items() if one and not one.get("skipped")}
        whole = verdict.of("", asked)
        Display().display(verdict.as_table(whole))
        said = f"{whole['passed']} answers are good, {whole['failed']} are not"
        return {"changed": False, "failed": bool(whole["failed"]), "msg": said}

    def safe(self, host: wishes.Host) -> Path:
        """The folder of the lab's secrets."""
        return Path(host.wishes.get("lab_secrets_dir") or ROOT / ".secrets" / str(host.wishes["lab_name"]))

    def trusted(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Whether the authority of this host is the lab's; the site's own may be any."""
        host = self.host(task_vars["inventory_hostname"], task_vars)
        if not host.wishes.get("lab_certificate"):
            with opened(self.safe(host), check=True) as safe:
                authority.still_trusted(safe, str(self._task.args["there"]).encode())
        return {"changed": False, "msg": "as before"}

    def secrets(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """What one host needs, by its duties; it works without the other hosts.

        What goes well is hidden (like no_log), what goes wrong has no secret in it and is shown.
        """
        name = task_vars["inventory_hostname"]
        host = self.host(name, task_vars)
        duties = set(self.part(host)["host"]["duties"])
        if not duties & {"api", "agent"}:
            return {"changed": False, "msg": "this host needs no secrets"}
        own = self.own_certificate(host)
        now = datetime.now(UTC)
        with opened(self.safe(host), bool(self._task.check_mode)) as safe:
            allowed = keys.accepted(safe, self.given_keys(host.name, task_vars), self.agents(task_vars))
            found, warnings = ({"authority": own[1]}, own[2]) if own else self.authority(safe, host, now)
            if "api" in duties:
                pair = own[0] if own else self.server(safe, host, now)
                found |= {"certificate": pair.certificate.decode(), "key": pair.key.decode()}
                people = keys.people(allowed, self.agents(task_vars))
                found |= {"accepted": allowed, "people": people, "operator": allowed[keys.OPERATOR][0]}
            mine = keys.agent(name)
            if "agent" in duties:
                found["agent"] = allowed[mine][0]
                fresh = f"keys/{mine}" in safe.put_here
                if fresh and not set(task_vars["groups"].get("api", [])) & set(task_vars["ansible_play_hosts_all"]):
                    warnings.append(finding("LW-KEYS-006", name=mine))
        made = sorted(safe.put_here)
        if made and not safe.check:
            Display().display(f"made in {safe.folder}: {', '.join(made)}")
        language = str(host.wishes["lab_language"])
        said = [f"{one.id}: {one.sentence(language)}" for one in warnings]
        return {"changed": bool(made), "warnings": said, **found, "_ansible_no_log": True}

    def authority(self, safe: Safe, host: wishes.Host, now: datetime) -> tuple[dict[str, Any], list[Finding]]:
        """The certificate that clients of the lab trust."""
        pair, warnings = authority.authority(safe, str(host.wishes["lab_name"]), now)
        return {"authority": pair.certificate.decode()}, warnings

    def server(self, safe: Safe, host: wishes.Host, now: datetime) -> Pair:
        """This host's certificate by the lab's authority."""
        names = authority.names_of(host.address, host.name, host.wishes["lab_api_names"])
        issuer, _warnings = authority.authority(safe, str(host.wishes["lab_name"]), now)
        return authority.server(safe, issuer, host.name, quote(host.name, safe=""), names, now)

    def own_certificate(self, host: wishes.Host) -> tuple[Pair, str, list[Finding]] | None:
        """The site's own certificate with its authority, checked; None where the lab makes its own."""
        given = host.wishes.get("lab_certificate")
        if not given:
            return None
        read = {}
        for key, path in given.items():
            try:
                read[key] = Path(path).read_bytes()
            except OSError as error:
                raise Refused(finding("LW-TLS-001", path=path, why=error.strerror or str(error))) from error
        pair = Pair(read["certificate"], read["key"])
        names = list(dict.fromkeys([host.address, *host.wishes["lab_api_names"]]))
        warnings = authority.check_own(pair, read["authority"], given, names, datetime.now(UTC))
        return pair, read["authority"].decode(), warnings

    def given_keys(self, host: str, task_vars: dict[str, Any]) -> dict[str, Any]:
        """People's keys."""
        found: dict[str, Any] = self.variables(host, task_vars).get("lab_api_keys") or {}
        return found

    def agents(self, task_vars: dict[str, Any]) -> list[str]:
        """Hosts with agents, of the whole inventory, in the play or not."""
        return sorted(task_vars["groups"].get("agents", []))

    def keys(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """The names that have a key, printed."""
        host = self.first(task_vars)
        with opened(self.safe(host), check=True) as safe:
            rows = keys.rows(safe, self.given_keys(host.name, task_vars), self.agents(task_vars))
        Display().display(keys.as_table(rows))
        return {
            "changed": False,
            "msg": f"{len(rows)} names have a key; those that Labwright makes are in {safe.folder}/keys",
        }

    def rotate(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """A new key beside the old one."""
        return self.turn(task_vars, keys.rotate)

    def retire(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """The old key's end."""
        return self.turn(task_vars, keys.retire)

    def asked(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """A task in a person's own words."""
        return {"changed": False, "task": str(task_vars.get("task", self._task.args.get("otherwise")))}

    def turn(self, task_vars: dict[str, Any], step: Callable[..., bool]) -> dict[str, Any]:
        """One step of a rotation, which all hosts that accept or use keys go through."""
        host = self.first(task_vars)
        name = str(self._task.args["name"])
        concerned = {*task_vars["groups"].get("api", []), *self.agents(task_vars)}
        if missing := sorted(concerned - set(task_vars["ansible_play_hosts_all"])):
            raise Refused(finding("LW-KEYS-007", name=name, hosts=missing))
        with opened(self.safe(host), bool(self._task.check_mode)) as safe:
            changed = step(safe, name, self.given_keys(host.name, task_vars), self.agents(task_vars))
        return {"changed": changed, "msg": f"the keys of {name}"}


def bundle_folder(host: wishes.Host) -> Path:
    """Where the bundle is made, and read."""
    return Path(host.wishes["lab_bundle_dir"] or ROOT / ".cache" / "bundle").resolve()


def bundle_options(host: wishes.Host, profiles: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What env/bundle.py is told: nothing in it is secret."""
    found = mirrors.resolve(host.wishes["lab_mirrors"], profiles)
    options = {
        "out": str(bundle_folder(host)),
        "source": host.wishes["lab_bundle_source"],
        "python": host.wishes["lab_bundle_python"],
        "mirror-conda-forge": found.get("conda_forge", ""),
        "mirror-miniforge": found.get("installers", ""),
        "mirror-huggingface": found.get("huggingface", ""),
        "mirror-modelscope": found.get("modelscope", ""),
        "python-index": found.get("python", ""),
        "torch-index": found.get("torch", ""),
        "debian-mirror": found.get("debian", ""),
    }
    tags = [f"--tag={tag}" for tag in host.wishes["lab_bundle_tags"]]
    models = [f"--model={name}" for name in host.wishes["lab_bundle_models"]]
    engines = [f"--engine={name}" for name in host.wishes["lab_bundle_engines"]]
    return [*(f"--{name}={value}" for name, value in options.items()), *tags, *engines, *models]


def windows_options(fleet: Iterable[wishes.Host]) -> list[str]:
    """What env/bundle.py is told where there are Windows hosts; Docker Desktop, which is large, only where wished."""
    hosts = [host for host in fleet if host.platform == paths.WINDOWS]
    docker = any("agents" in host.groups and host.wishes["lab_docker_desktop"] for host in hosts)
    found = [f"--platform={paths.WINDOWS}"] if hosts else []
    return [*found, *([f"--installer={delivery.INSTALLERS['docker_desktop'][0]}"] if docker else [])]


def before(folder: Path, lab: str = "") -> tuple[dict[str, Any], list[Finding]]:
    """The last plan as it was written; nothing, with a warning, where there is one that cannot be used."""
    path = folder / "plan.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError) as error:
        return {}, [finding("LW-PLAN-032", path=str(path), why=str(error))]
    if not report.sound(found):
        return {}, [finding("LW-PLAN-032", path=str(path), why="not a plan of this version")]
    if lab and found["lab"] != lab:
        return {}, [finding("LW-PLAN-032", path=str(path), why=f"lab_name {found['lab']}")]
    return dict(found), []


def write(folder: Path, written: Mapping[str, Any]) -> None:
    """The plan as one file, and each host's part with what it must know of the lab, each put in place whole."""
    shared = {
        key: written[key] for key in ("format", "lab", "language", "served", "workers", "capacity", "worker_urls")
    }
    rules = doors.of(written["hosts"])
    try:
        (folder / "hosts").mkdir(parents=True, exist_ok=True)
        for name, entry in written["hosts"].items():
            part = {**shared, "doors": rules[name], "host": entry}
            put(file_of(folder, name), json.dumps(part, ensure_ascii=False, indent=1))
        for stale in (folder / "hosts").glob("*.json"):
            if unquote(stale.stem) not in written["hosts"]:
                stale.unlink()
        put(folder / "plan.json", report.dump(written))
    except OSError as error:
        raise Refused(finding("LW-PLAN-028", path=str(folder), why=str(error))) from error


def file_of(folder: Path, host: str) -> Path:
    """One host's part of the plan."""
    return folder / "hosts" / f"{quote(host, safe='')}.json"


def store(files: Mapping[Path, str], problem: str, fresh: Path | None = None) -> None:
    """Files for this user alone, instead of all that was in the folder ``fresh``."""
    try:
        if fresh and fresh.exists():
            shutil.rmtree(fresh)
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            put(path, text, 0o600)
    except OSError as error:
        words = f"{error.filename or fresh} cannot be written ({error.strerror}); expected a folder that you may write"
        raise Problem(problem, f"{words}. It lies beside lab_plan_dir: set that to one.") from error


def put(path: Path, text: str, mode: int = 0o666) -> None:
    """A file that is there whole or not at all."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as stream:
        stream.write(text)
    beside.replace(path)
