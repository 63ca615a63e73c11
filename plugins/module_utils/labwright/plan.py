"""The plan: what one host gets, chosen from wishes, facts and the catalogue. A pure function; nothing else chooses.

Each choice is explained (``explain``). Roles get finished requests: every path, address, port and checksum stands in
the plan, so a host can be done alone, without the others being in reach.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import quote

from hostkit.result import Problem
from labwright.catalog import Catalogue, Layer, Stack
from labwright.gpu import gpus
from labwright.wishes import Host

TORCH_INDEX = "https://download.pytorch.org/whl"
CONDA_FORGE = "https://conda.anaconda.org/conda-forge"
HUGGINGFACE = "https://huggingface.co"
FRONTEND, AGENTS = "frontend", "agents"
UNIT_PREFIX = "labwright-"


@dataclass
class Plan:
    """What one host gets. Requests (``installer``, ``environments``, ``models``) are in hostkit's shape."""

    host: str
    address: str
    duties: list[str] = field(default_factory=list)
    explain: list[dict[str, str]] = field(default_factory=list)
    store: str = ""
    conda: dict[str, Any] = field(default_factory=dict)
    environments: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: list[dict[str, Any]] = field(default_factory=list)
    workers: list[dict[str, Any]] = field(default_factory=list)
    controller: dict[str, Any] = field(default_factory=dict)
    controller_url: str = ""
    api: dict[str, Any] = field(default_factory=dict)
    api_url: str = ""
    endpoints: list[dict[str, str]] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)

    def because(self, choice: str, value: str, reason: str) -> None:
        """Note a choice with its reason."""
        self.explain.append({"choice": choice, "value": value, "because": reason})


def make(name: str, fleet: Sequence[Host], facts: dict[str, Any], catalogue: Catalogue) -> Plan:
    """The plan of the host ``name``; ``facts`` are this host's own (see hostkit's verb ``facts``)."""
    host = next(one for one in fleet if one.name == name)
    plan = Plan(host.name, host.address, store=str(host.wishes["lab_store"]))
    plan.duties = [duty for duty in ("controller", "worker", "api", "agent") if duty in duties(host)]
    topology(plan, host, fleet)
    if not plan.duties:
        plan.because("duties", "none", "the host is in none of the groups controller, workers, api, agents")
        return plan
    plan.conda = conda(host, catalogue)
    serve(plan, host, facts, catalogue)
    if "agent" in plan.duties:
        plan.environments["autogen"] = environment(host, catalogue, catalogue.stacks[AGENTS], "cpu", plan)
    check_ports(host, plan, facts)
    plan.checks = checks(plan, host, fleet)
    return plan


def duties(host: Host) -> set[str]:
    """What a host does, by its groups."""
    groups = {"controller": "controller", "workers": "worker", "api": "api", "agents": "agent"}
    return {duty for group, duty in groups.items() if group in host.groups}


def topology(plan: Plan, host: Host, fleet: Sequence[Host]) -> None:
    """Who talks to whom: one controller, the APIs, each host's workers with their ports."""
    controllers = [one for one in fleet if "controller" in one.groups]
    apis = [one for one in fleet if "api" in one.groups]
    if len(controllers) != 1:
        found = ", ".join(one.name for one in controllers) or "none"
        raise Problem(
            "LW-PLAN-001", f"the group controller holds {found}; expected exactly one host. Mend the inventory."
        )
    if not apis and any("agents" in one.groups for one in fleet):
        raise Problem("LW-PLAN-002", "there are agents and no API to ask; put a host into the group api.")
    control = controllers[0]
    plan.controller_url = f"http://{control.address}:{control.wishes['lab_controller_port']}"
    # An agent asks the API on its own host where there is one: one hop less, and it works when the network does not.
    nearest = host if "api" in host.groups else (apis[0] if apis else None)
    if nearest:
        plan.api_url = f"http://{nearest.address}:{nearest.wishes['lab_api_port']}/v1"
        plan.endpoints = [{"model": name, "base_url": plan.api_url} for name in served(fleet)]
    if plan.host == control.name:
        plan.controller = {"host": host.address, "port": int(host.wishes["lab_controller_port"])}
        plan.ports.append(plan.controller["port"])
    if "api" in host.groups:
        plan.api = {"host": host.address, "port": int(host.wishes["lab_api_port"])}
        plan.ports.append(plan.api["port"])


def wished_models(host: Host) -> list[dict[str, Any]]:
    """A worker's models, each ``name`` and ``aliases``."""
    if "workers" not in host.groups:
        return []
    found = [{"name": one} if isinstance(one, str) else dict(one) for one in host.wishes["lab_models"]]
    return [{"aliases": [], **one} for one in found]


def served(fleet: Sequence[Host]) -> list[str]:
    """Names of all models of the lab, in the order of the inventory, each once."""
    names = [name for host in fleet for one in wished_models(host) for name in (one["name"], *one["aliases"])]
    return list(dict.fromkeys(names))


def known_models(host: Host, catalogue: Catalogue) -> None:
    """Refuse a model that the catalogue does not know."""
    for one in wished_models(host):
        if one["name"] not in catalogue.models:
            known = ", ".join(sorted(catalogue.models))
            raise Problem(
                "LW-PLAN-003",
                f"{host.name}: no model {one['name']!r} in the catalogue; expected one of {known}. Set lab_models.",
            )


def check_wishes(fleet: Sequence[Host], catalogue: Catalogue) -> None:
    """What can be refused without asking any host: the topology, and models that nobody knows."""
    for host in fleet:
        topology(Plan(host.name, host.address), host, fleet)
        known_models(host, catalogue)


def serve(plan: Plan, host: Host, facts: dict[str, Any], catalogue: Catalogue) -> None:
    """The serving environment, the models and the workers."""
    known_models(host, catalogue)
    wished = wished_models(host)
    names = [name for one in wished for name in (one["name"], *one["aliases"])]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise Problem(
            "LW-PLAN-010",
            f"{host.name}: lab_models names {twice[0]} twice; expected each name and alias once on a host.",
        )
    if not wished:
        if {"controller", "api"} & set(plan.duties):
            plan.because("stack", FRONTEND, "the host serves no model: FastChat's controller and API need no torch")
            plan.environments["serving"] = environment(host, catalogue, catalogue.stacks[FRONTEND], "cpu", plan)
        return
    stacks = {str(catalogue.models[one["name"]]["stack"]) for one in wished}
    if len(stacks) > 1:
        raise Problem(
            "LW-PLAN-004",
            f"{host.name}: its models need different stacks ({', '.join(sorted(stacks))}); one host serves one stack. "
            f"Put the models on different hosts.",
        )
    stack = catalogue.stacks[stacks.pop()]
    plan.because("stack", stack.name, f"{', '.join(one['name'] for one in wished)}: {stack.why}")
    device, tag = device_of(host, facts, stack, plan)
    plan.environments["serving"] = environment(host, catalogue, stack, tag, plan)
    for index, one in enumerate(wished):
        entry = catalogue.models[one["name"]]
        request = model(host, entry, catalogue)
        plan.models.append(request)
        port = int(host.wishes["lab_worker_port"]) + index
        plan.ports.append(port)
        plan.workers.append(
            {
                "name": f"{UNIT_PREFIX}worker-{one['name']}",
                "model_path": request["path"],
                "model_names": [one["name"], *one["aliases"]],
                "conv_template": entry["conv_template"],
                "device": device,
                "host": host.address,
                "port": port,
                "url": f"http://{host.address}:{port}",
            }
        )


def device_of(host: Host, facts: dict[str, Any], stack: Stack, plan: Plan) -> tuple[str, str]:
    """What the models run on (FastChat's ``--device``) and the torch build's tag."""
    if host.wishes["lab_device"] == "cpu":
        plan.because("torch", "cpu", "lab_device is cpu")
        return "cpu", "cpu"
    found = gpus(host.name, facts.get("nvidia_smi"))
    if not found:
        plan.because("torch", "cpu", "the host has no nvidia-smi, so no NVIDIA driver")
        return "cpu", "cpu"
    tags = [tag for tag in stack.tags if tag != "cpu"]
    if not tags:
        first = found[0]
        raise Problem(
            "LW-PLAN-005",
            f"{host.name} has {len(found)} GPU ({first.name}, driver {first.driver_version}, compute capability "
            f"{first.compute_capability}), and the stack {stack.name} has locks for {', '.join(stack.tags)} only. "
            f"Set lab_device: cpu to serve on the CPU.",
        )
    raise Problem("LW-PLAN-006", f"{host.name}: no rule yet for choosing among {', '.join(tags)}.")


def environment(host: Host, catalogue: Catalogue, stack: Stack, tag: str, plan: Plan) -> dict[str, Any]:
    """hostkit's request for one environment, all layers in order; the prefix is named after the locks' digest."""
    layers = [conda_layer(host, catalogue, stack)]
    layers += [pip_layer(host, catalogue, layer, tag) for layer in stack.layers]
    digest = hashlib.sha256("".join(layer["digest"] for layer in layers).encode()).hexdigest()[:12]
    kind = f"{stack.name}-{tag}" if stack.tags else stack.name
    root = f"{host.wishes['lab_root']}/envs"
    plan.because("environment", f"{kind}-{digest}", "named after the digest of its locks")
    return {
        "prefix": f"{root}/{kind}-{digest}",
        "link": f"{root}/{stack.name}",
        "conda": f"{host.wishes['lab_root']}/conda/bin/conda",
        "store": host.wishes["lab_store"],
        "layers": layers,
    }


def upto(request: dict[str, Any], role: str) -> dict[str, Any]:
    """The layers that ``role`` answers for: its own and all before it. The last role turns the link."""
    names = [layer["name"] for layer in request["layers"]]
    if role not in names:
        return {}
    count = names.index(role) + 1
    link = request["link"] if count == len(names) else ""
    return {**request, "layers": request["layers"][:count], "link": link}


def in_bundle(host: Host, path: str) -> str:
    """Where the host reaches a file of the bundle."""
    return f"{str(host.wishes['lab_bundle_url']).rstrip('/')}/{quote(path)}"


def bundled(host: Host, catalogue: Catalogue, path: str) -> dict[str, Any]:
    """A file of the bundle in hostkit's shape."""
    if catalogue.manifest is None or path not in catalogue.manifest["files"]:
        raise Problem(
            "LW-PLAN-012", f"the bundle has no {path}; make it again with `ansible-playbook playbooks/bundle.yml`."
        )
    entry = catalogue.manifest["files"][path]
    return {
        "url": in_bundle(host, path),
        "sha256": entry["sha256"],
        "size": entry["size"],
        "name": path.rsplit("/", 1)[-1],
    }


def mirror(host: Host, key: str, usual: str) -> str:
    """A server's address: the inventory's mirror, or the usual one."""
    return str(host.wishes["lab_mirrors"].get(key, usual)).rstrip("/")


def conda(host: Host, catalogue: Catalogue) -> dict[str, Any]:
    """Conda's base: where, and the installer that makes it."""
    prefix = f"{host.wishes['lab_root']}/conda"
    if catalogue.manifest is not None:
        installer = bundled(host, catalogue, catalogue.manifest["installer"]["path"])
    else:
        row = next(one for one in catalogue.installers if (one["name"], one["platform"]) == ("miniforge3", "linux-64"))
        url = str(row["url"])
        if "installers" in host.wishes["lab_mirrors"]:
            url = f"{mirror(host, 'installers', '')}/{row['filename']}"
        installer = {"url": url, "sha256": row["sha256"], "size": row.get("size", 0), "name": row["filename"]}
    return {"prefix": prefix, "installer": {**installer, "unless": f"{prefix}/.labwright-installer"}}


def conda_layer(host: Host, catalogue: Catalogue, stack: Stack) -> dict[str, Any]:
    """The interpreter and native libraries."""
    if catalogue.manifest is not None:
        paths = catalogue.manifest["conda"]["linux-64"].get(stack.python, [])
        if not paths:
            raise Problem(
                "LW-PLAN-013", f"the bundle has no Python {stack.python}, which the stack {stack.name} needs."
            )
        files = [bundled(host, catalogue, path) for path in paths]
    else:
        base = mirror(host, "conda_forge", CONDA_FORGE)
        files = [
            {
                "url": f"{base}/{row['subdir']}/{filename}",
                "sha256": row["sha256"],
                "size": row.get("size", 0),
                "name": filename,
            }
            for row in catalogue.conda
            for filename in [str(row["url"]).rsplit("/", 1)[-1]]
        ]
    digest = hashlib.sha256("".join(file["sha256"] for file in files).encode()).hexdigest()
    return {"name": "conda", "digest": digest, "conda": files}


def pip_layer(host: Host, catalogue: Catalogue, layer: Layer, tag: str) -> dict[str, Any]:
    """Python packages of one role: from the bundle's wheels, or from an index."""
    request: dict[str, Any] = {"name": layer.role, "digest": layer.digest(), "requirements": layer.requirements}
    if catalogue.manifest is None:
        request["index"] = index_options(host, tag)
        return request
    request["wheels"] = []
    for pin, sums in layer.pins():
        path = next((catalogue.by_sum[one] for one in sums if one in catalogue.by_sum), None)
        if path is None:
            raise Problem(
                "LW-PLAN-014",
                f"the bundle has no wheel for {pin}; make it again with `ansible-playbook playbooks/bundle.yml`.",
            )
        request["wheels"].append(bundled(host, catalogue, path))
    return request


def index_options(host: Host, tag: str) -> list[str]:
    """pip's options for the indexes: the configured mirror, and PyTorch's index for its tagged builds."""
    python = ["--index-url", mirror(host, "python", "")] if "python" in host.wishes["lab_mirrors"] else []
    return [*python, "--extra-index-url", f"{mirror(host, 'torch', TORCH_INDEX)}/{tag}"]


def model(host: Host, entry: dict[str, Any], catalogue: Catalogue) -> dict[str, Any]:
    """hostkit's request for one model's files."""
    name = entry["name"]
    files = []
    for file in entry["files"]:
        path = f"models/{name}/{file['path']}"
        if catalogue.manifest is not None and path in catalogue.manifest["files"]:
            files.append({**bundled(host, catalogue, path), "path": file["path"]})
        elif "bundled" in entry or not file.get("sha256"):
            raise Problem(
                "LW-PLAN-007",
                f"{host.name}: {name}: {file['path']} comes with the bundle, and no bundle has it. Put the model "
                f"into the bundle (`ansible-playbook playbooks/bundle.yml`) and set lab_bundle_dir and lab_bundle_url.",
            )
        else:
            hub = mirror(host, "huggingface", HUGGINGFACE)
            url = f"{hub}/{entry['repository']}/resolve/{entry['revision']}/{file['path']}"
            files.append({"url": url, "sha256": file["sha256"], "size": file.get("size", 0), "path": file["path"]})
    return {"path": f"{host.wishes['lab_root']}/models/{name}", "store": host.wishes["lab_store"], "files": files}


def check_ports(host: Host, plan: Plan, facts: dict[str, Any]) -> None:
    """No two services of ours on one port, and nobody else's program on a port that we need."""
    twice = sorted({port for port in plan.ports if plan.ports.count(port) > 1})
    if twice:
        raise Problem("LW-PLAN-008", f"{host.name}: port {twice[0]} is planned twice; change lab_*_port on this host.")
    if max(plan.ports, default=0) > 65535:
        raise Problem(
            "LW-PLAN-011",
            f"{host.name}: its last worker would have the port {max(plan.ports)}; expected at most 65535. "
            f"Set a lower lab_worker_port.",
        )
    for socket in facts.get("listening", []):
        ours = str(socket["unit"]).startswith(UNIT_PREFIX)
        everywhere = ipaddress.ip_address(socket["address"]).is_unspecified
        if socket["port"] in plan.ports and not ours and (everywhere or socket["address"] == host.address):
            raise Problem(
                "LW-PLAN-009",
                f"{host.name}: port {socket['port']} is in use by {socket['unit'] or 'another program'}; "
                f"expected it free. Stop that program, or set another lab_*_port.",
            )


def checks(plan: Plan, host: Host, fleet: Sequence[Host]) -> list[dict[str, Any]]:
    """What verify asks on this host; ids are stable, a script may rely on them."""
    units = [f"{UNIT_PREFIX}{duty}" for duty in ("controller", "api") if duty in plan.duties]
    units += [worker["name"] for worker in plan.workers]
    found: list[dict[str, Any]] = [
        {"id": f"service.{unit}", "kind": "unit", "unit": f"{unit}.service"} for unit in units
    ]
    found += [
        {
            "id": f"worker.{worker['model_names'][0]}",
            "kind": "worker",
            "url": worker["url"],
            "models": worker["model_names"],
        }
        for worker in plan.workers
    ]
    names = served(fleet)
    if "controller" in plan.duties:
        found.append({"id": "controller.workers", "kind": "controller", "url": plan.controller_url, "models": names})
        count = sum(len(wished_models(one)) for one in fleet)
        found.append({"id": "controller.each_worker", "kind": "registered", "url": plan.controller_url, "count": count})
    if "api" in plan.duties and names:
        base = f"http://{host.address}:{host.wishes['lab_api_port']}"
        found.append({"id": "api.models", "kind": "models", "url": base, "models": names})
        for name in names:
            ask = {"url": base, "model": name, "prompt": "Hello"}
            found += [
                {"id": f"api.{kind}.{name}", "kind": kind, **ask} for kind in ("completion", "stream", "embeddings")
            ]
    if "agent" in plan.duties and names:
        argv = [
            f"{host.wishes['lab_root']}/bin/labwright-agent",
            "assistant",
            "--task",
            host.wishes["lab_task"],
            "--json",
        ]
        found.append({"id": "agent.answer", "kind": "agent", "argv": argv})
    return found


def leftovers(host: Host) -> dict[str, Any]:
    """Where the lab's things are on a host, for their removal: all that carries our stamp, whatever plan made it."""
    root = host.wishes["lab_root"]
    environments = {"state": "absent", "root": f"{root}/envs"}
    return {
        "root": root,
        "store": host.wishes["lab_store"],
        "conda": {"prefix": f"{root}/conda", "installer": {}},
        "environments": {"serving": {"torch": environments, "transformers": environments, "fastchat": environments}}
        | {"autogen": {"autogen": environments}},
        "models": [{"state": "absent", "path": f"{root}/models", "store": host.wishes["lab_store"], "files": []}],
        "workers": [],
        "folders": [root, host.wishes["lab_state"], "/etc/labwright"],
    }


def as_variables(plan: Plan) -> dict[str, Any]:
    """The plan as the wiring reads it: plain data, with each role's part of an environment cut out."""
    environments = {
        name: {role: upto(request, role) for role in (layer["name"] for layer in request["layers"])}
        for name, request in plan.environments.items()
    }
    return {**asdict(plan), "environments": environments, "whole": plan.environments}
