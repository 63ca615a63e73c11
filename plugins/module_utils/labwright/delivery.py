"""How the planned things reach one host: every path, address and checksum, spelt out as requests for hostkit.

Works from one host's part of the plan as it was written (``build/plan/hosts/NAME.json``), so a host can be done alone,
without the others being in reach. Chooses nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from labwright import doors, mirrors, paths
from labwright.catalog import FASTCHAT, Catalogue, Layer, Stack
from labwright.hardware import UNIT_PREFIX
from labwright.inventory import AGENTS, FRONTEND, WEB
from labwright.keys import OPERATOR
from labwright.wishes import Host
from labwright.words import Finding, Refused, finding

TORCH_INDEX = "https://download.pytorch.org/whl"
CONDA_FORGE = "https://conda.anaconda.org/conda-forge"
HUGGINGFACE = "https://huggingface.co"
MODELSCOPE = "https://www.modelscope.cn"
# What a worker is given until it answers: seconds to start in, and to read its model at so many bytes a second, from a
# hard disk that others use too, or from NFS. Assumed, not measured.
READY_S, SLOWEST = 300, 50_000_000
# Without these CUDA finds no card, whichever it is.
CUDA_DEVICES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")
AUTHORITY = ("ca.crt",)  # below the folder of the lab's configuration
OPERATOR_KEY = ("keys", "operator")
MINIFORGE = "miniforge"  # the only base that a bundle has
# What a Windows host is brought beside Conda: the catalogue's name for it, and the folder of the role's record.
INSTALLERS = {
    "git": ("git-for-windows", "git"),
    "vc_redist": ("vc-redist-2015-2022-x64", "vc_redist"),
    "docker_desktop": ("docker-desktop", "docker"),
}


def spell_out(host: Host, entry: Mapping[str, Any], lab: Mapping[str, Any], catalogue: Catalogue) -> dict[str, Any]:
    """What the roles read: one host's plan with its requests. Raises ``Refused`` for the first thing that it lacks."""
    serving, agents = [], {}
    workers = []
    for worker in entry["workers"]:
        request = environment(host, catalogue, worker["stack"], worker["torch"])
        serving += [request] if request not in serving else []
        row = {**worker, "python": host.system.python(request["prefix"])} | served(host, worker, catalogue)
        workers.append({**row, "environment": {**host.system.environment(request["prefix"]), **row["environment"]}})
    frontend: dict[str, Any] = {}
    # An engine that is a server of its own is spoken to by a bridge, which needs FastChat and no model.
    if {"controller", "api"} & set(entry["duties"]) or any(worker["engine_url"] for worker in entry["workers"]):
        frontend = environment(host, catalogue, FRONTEND, None)
        serving.append(frontend)
    page: dict[str, Any] = {}
    if "web" in entry["duties"]:
        page = environment(host, catalogue, WEB, None)
        serving.append(page)
    if "agent" in entry["duties"]:
        agents = environment(host, catalogue, AGENTS, None)
    everything = serving + ([agents] if agents else [])
    asked = checks(host, {**entry, "workers": workers}, lab, agents.get("prefix", ""))
    models = {row["model_path"]: model(host, row["model"], row["quantization"], catalogue) for row in workers}
    return {
        **entry,
        "system": host.system.name,
        "store": host.wishes["lab_store"],
        "conda": conda(host, catalogue) if entry["duties"] else {},
        "installers": installers(host, entry, catalogue),
        "tools": tools(host, catalogue) if entry["duties"] else [],
        "docker": entry.get("docker", entry.get("sandbox") == "docker"),
        "environments": {
            **{role: parts(serving, role) for role in ("torch", "transformers", "fastchat")},
            "autogen": next(iter(parts([agents], "autogen")), {}) if agents else {},
        },
        "whole": everything,
        "models": list(models.values()),
        "registry_mirrors": [one] if (one := mirror(host, catalogue, "docker", "")) else [],
        "workers": [{**row, "ready_wait_s": ready_wait_s(models[row["model_path"]])} for row in workers],
        "frontend": host.system.python(frontend["prefix"]) if frontend else "",
        "frontend_environment": host.system.environment(frontend["prefix"]) if frontend else {},
        "agents_environment": host.system.environment(agents["prefix"]) if agents else {},
        "page_python": host.system.python(page["prefix"]) if page else "",
        "packages": packages(entry, catalogue),
        "worker_urls": lab["worker_urls"],
        "authority": host.system.join(host.system.etc, *AUTHORITY) if {"api", "agent"} & set(entry["duties"]) else "",
        "agents": {"at_once": lab.get("capacity", 1), "language": lab.get("language", "en")},
        "checks": asked,
        "firewall": doors.request(lab["doors"], host),
        "waits_for": [one for one in asked if one["kind"] in ("worker", "controller", "registered", "models")],
    }


def gaps(host: Host, entry: Mapping[str, Any], lab: Mapping[str, Any], catalogue: Catalogue) -> list[Finding]:
    """What stands between the plan and its host: each part that cannot be brought, with the first thing it lacks."""
    found = []
    for part in parted(entry):
        try:
            spell_out(host, part, {**lab, "doors": doors.NONE}, catalogue)
        except Refused as refused:
            if refused.cause not in found:
                found.append(refused.cause)
    return found


def parted(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The plan cut into pieces that can be brought or not on their own: each worker, and the rest."""
    rest = {**entry, "workers": []}
    return [rest, *({**entry, "duties": [], "workers": [worker]} for worker in entry["workers"])]


def served(host: Host, worker: Mapping[str, Any], catalogue: Catalogue) -> dict[str, Any]:
    """Where a worker finds its model, and what FastChat must be told about it."""
    entry = catalogue.models[worker["model"]]
    folder = worker["model"] + ("-int4" if worker["quantization"] == "int4" else "")
    return {
        "model_path": host.below("lab_root", "models", folder),
        "conv_template": entry["conv_template"],
        "options": options(worker) if worker["engine"] == FASTCHAT else [],
        "devices": devices(worker),
        "environment": {"CUDA_VISIBLE_DEVICES": ",".join(gpu["uuid"] for gpu in worker["gpus"])}
        if worker["gpus"]
        else {},
    }


def ready_wait_s(model: Mapping[str, Any]) -> int:
    """Seconds until a worker with these files must answer."""
    return READY_S + sum(int(file["size"]) for file in model["files"]) // SLOWEST


def options(worker: Mapping[str, Any]) -> list[str]:
    """What FastChat's model_worker is told beside the model: FastChat computes in fp32 on the CPU, unasked."""
    found = ["--limit-worker-concurrency", str(worker["concurrency"])]
    found += ["--load-8bit"] if worker["quantization"] == "int8" else []
    if worker["device"] == "cuda":
        kinds = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
        found += ["--dtype", kinds[worker["quantization"]]] if worker["quantization"] in kinds else []
        if len(worker["gpus"]) > 1:
            most = f"{worker['memory_each_mib']}MiB"
            found += ["--num-gpus", str(len(worker["gpus"])), "--max-gpu-memory", most]
    return found


def devices(worker: Mapping[str, Any]) -> list[str]:
    """The device files that CUDA opens for the worker's own cards; none on the CPU."""
    own = [path for gpu in worker["gpus"] for path in gpu["devices"]]
    return list(dict.fromkeys([*own, *CUDA_DEVICES])) if own else []


def environment(host: Host, catalogue: Catalogue, name: str, torch: Mapping[str, str] | None) -> dict[str, Any]:
    """hostkit's request for one environment, all layers in order; the prefix is named after the locks' digest."""
    stack = catalogue.stacks[name]
    tag = torch["tag"] if torch else ""
    platform = host.platform
    layers = stack.layers(tag, platform)
    if (torch and (platform, f"{torch['version']}+{tag}") not in stack.locked) or not layers:
        have = sorted(label for one, label in stack.locked if one == platform)
        build = f"{torch['version']}+{tag}" if torch else "-"
        raise Refused(finding("LW-PLAN-005", stack=name, build=build, have=have or ["-"]))
    for layer in layers if platform == paths.WINDOWS and tag not in ("", "cpu") else ():
        # PyTorch's wheels on the package index are those for CUDA on Linux, and those for the CPU on Windows.
        for pin, _sums in layer.pins:
            if pin.startswith("torch==") and not pin.endswith(f"+{tag}"):
                raise Refused(finding("LW-PLAN-046", stack=name, build=f"{pin}+{tag}", pin=pin))
    made = [conda_layer(host, catalogue, stack), *(pip_layer(host, catalogue, layer, tag) for layer in layers)]
    digest = hashlib.sha256("".join(layer["digest"] for layer in made).encode()).hexdigest()[:12]
    kind = f"{name}-{tag}" if tag else name
    prefix = host.below("lab_root", "envs", f"{kind}-{digest}")
    return {
        "prefix": prefix,
        "python": host.system.python(prefix),
        "link": host.below("lab_root", "envs", kind),
        "conda": host.system.conda(host.below("lab_root", "conda")),
        "store": host.wishes["lab_store"],
        "layers": made,
    }


def parts(requests: list[dict[str, Any]], role: str) -> list[dict[str, Any]]:
    """The layers that ``role`` answers for, of every environment that has them: its own and all before it. Only the
    last role of an environment turns the link."""
    found = []
    for request in requests:
        names = [layer["name"] for layer in request["layers"]]
        if role in names:
            count = names.index(role) + 1
            link = request["link"] if count == len(names) else ""
            found.append({**request, "layers": request["layers"][:count], "link": link})
    return found


def in_bundle(host: Host, path: str) -> str:
    """Where the host reaches a file of the bundle."""
    return f"{str(host.wishes['lab_bundle_url']).rstrip('/')}/{quote(path)}"


def bundled(host: Host, catalogue: Catalogue, path: str, wanted: str = "") -> dict[str, Any]:
    """A file of the bundle in hostkit's shape; refused where it is not the one with the sum ``wanted``."""
    if catalogue.manifest is None or path not in catalogue.manifest["files"]:
        raise Refused(finding("LW-PLAN-012", path=path))
    entry = catalogue.manifest["files"][path]
    if wanted not in ("", entry["sha256"]):
        raise Refused(finding("LW-PLAN-057", path=path, found=entry["sha256"], wanted=wanted))
    return {
        "url": in_bundle(host, path),
        "sha256": entry["sha256"],
        "size": entry["size"],
        "name": path.rsplit("/", 1)[-1],
    }


def known(host: Host, catalogue: Catalogue) -> bool:
    """Whether the catalogue has the sums of the bundle's Conda and installers. What the kit makes has others each time;
    so have stand-ins for what Windows installs, which only the inventory can allow."""
    wish = host.wishes["lab_bundle_source"]
    if host.platform == paths.WINDOWS:
        return bool(wish != "kit")
    return "conda-forge" in (wish, (catalogue.manifest or {}).get("source"))


def mirror(host: Host, catalogue: Catalogue, key: str, usual: str) -> str:
    """A server's address: the inventory's mirror, or the usual one."""
    return mirrors.resolve(host.wishes["lab_mirrors"], catalogue.mirrors).get(key, usual)


def conda(host: Host, catalogue: Catalogue) -> dict[str, Any]:
    """Conda's base: where, and the installer that makes it. ``first``: on Windows it brings the Python that all that
    follows on the host runs with, the fetching of other files among it."""
    prefix = host.below("lab_root", "conda")
    windows = host.platform == paths.WINDOWS
    wish = host.wishes["anaconda_distribution"]
    if catalogue.manifest is not None and wish != MINIFORGE:
        raise Refused(finding("LW-PLAN-058", wish=wish))
    installer = installer_of(host, catalogue, f"{wish}3")
    unless = host.system.join(prefix, ".labwright-installer")
    return {"prefix": prefix, "installer": {**installer, "unless": unless}, "first": windows}


def installer_of(host: Host, catalogue: Catalogue, name: str) -> dict[str, Any]:
    """An installer, by its name in the catalogue: from the bundle, or from its home."""
    row = next(one for one in catalogue.installers if (one["name"], one["platform"]) == (name, host.platform))
    if catalogue.manifest is not None:
        held = {paths.LINUX: {"miniforge3": catalogue.manifest["installer"]["path"]}}
        path = {**held, **catalogue.manifest.get("installers", {})}.get(host.platform, {}).get(name)
        if path is None:
            raise Refused(finding("LW-PLAN-042", name=name, platform=host.platform))
        wanted = row["members"][0]["sha256"] if "members" in row else row["sha256"]
        return bundled(host, catalogue, path, wanted if known(host, catalogue) else "")
    url = str(row["url"])
    if name == "miniforge3":  # the only one that mirrors are known to have
        folder = mirror(host, catalogue, "installers", url.rpartition("/")[0])
        url = f"{folder.replace('{version}', str(row.get('version', '')))}/{row['filename']}"
    if "members" not in row:
        return {"url": url, "sha256": row["sha256"], "size": row.get("size", 0), "name": row["filename"]}
    # Of an archive, one file is wanted and has a known sum.
    member = row["members"][0]
    file = member["path"].rpartition("/")[2]
    return {"url": url, "sha256": member["sha256"], "size": 0, "name": file, "member": member["path"]}


def installers(host: Host, entry: Mapping[str, Any], catalogue: Catalogue) -> dict[str, Any]:
    """What a Windows host's roles install beside Conda, each with the file that will hold its sum; a Linux host has
    its distribution for that."""
    if host.platform != paths.WINDOWS:
        return {}
    wanted = {"git": True, "vc_redist": bool(entry["workers"]), "docker_desktop": entry.get("docker", False)}
    return {
        role: {**installer_of(host, catalogue, INSTALLERS[role][0]), "unless": stamp(host, INSTALLERS[role][1])}
        for role, wish in wanted.items()
        if wish
    }


def stamp(host: Host, record: str) -> str:
    """The file in which a role notes which installer has done its work."""
    return host.below("lab_state", "packages", record, "installer")


def tools(host: Host, catalogue: Catalogue) -> list[dict[str, Any]]:
    """Programs beside hostkit that services need: on Windows the one that makes a service of any program."""
    if host.platform != paths.WINDOWS:
        return []
    return [{**installer_of(host, catalogue, "nssm"), "path": host.below("lab_root", "lib", "nssm.exe")}]


def conda_layer(host: Host, catalogue: Catalogue, stack: Stack) -> dict[str, Any]:
    """The interpreter and native libraries."""
    locked = [(f"{row['subdir']}/{row['url'].rpartition('/')[2]}", row) for row in catalogue.conda[host.platform]]
    if catalogue.manifest is not None:
        members = catalogue.manifest["conda"].get(host.platform, {}).get(stack.python, [])
        if not members:
            raise Refused(finding("LW-PLAN-013", python=stack.python, stack=stack.name, platform=host.platform))
        wanted = dict.fromkeys(members, "")
        if known(host, catalogue):
            wanted = {catalogue.by_sum.get(row["sha256"], f"channel/{path}"): row["sha256"] for path, row in locked}
        files = [bundled(host, catalogue, path, one) for path, one in wanted.items()]
    else:
        base = mirror(host, catalogue, "conda_forge", CONDA_FORGE)
        files = [
            {
                "url": f"{base}/{path}",
                "sha256": row["sha256"],
                "size": row.get("size", 0),
                "name": path.rpartition("/")[2],
            }
            for path, row in locked
        ]
    digest = hashlib.sha256("".join(file["sha256"] for file in files).encode()).hexdigest()
    return {"name": "conda", "digest": digest, "conda": files}


def pip_layer(host: Host, catalogue: Catalogue, layer: Layer, tag: str) -> dict[str, Any]:
    """Python packages of one role: from the bundle's wheels, or from an index."""
    request: dict[str, Any] = {"name": layer.role, "digest": layer.digest, "requirements": layer.requirements}
    if catalogue.manifest is None:
        request["index"] = index_options(host, catalogue, layer, tag)
        return request
    request["wheels"] = []
    for pin, sums in layer.pins:
        path = next((catalogue.by_sum[one] for one in sums if one in catalogue.by_sum), None)
        if path is None:
            raise Refused(finding("LW-PLAN-014", pin=pin, tag=tag or "cpu"))
        request["wheels"].append(bundled(host, catalogue, path))
    return request


def index_options(host: Host, catalogue: Catalogue, layer: Layer, tag: str) -> list[str]:
    """pip's options for the indexes: the configured mirror, and PyTorch's index where the lock has a build of it.

    Only there: for pip, PyTorch's 2.7.1+cu126 is a 2.7.1 too, and would be taken before the package index's own.
    """
    python = mirror(host, catalogue, "python", "")
    own = any("+" in pin for pin, _sums in layer.pins)
    torch = f"{mirror(host, catalogue, 'torch', TORCH_INDEX)}/{tag or 'cpu'}"
    return [*(["--index-url", python] if python else []), *(["--extra-index-url", torch] if own else [])]


def model(host: Host, name: str, quantization: str, catalogue: Catalogue) -> dict[str, Any]:
    """hostkit's request for one model's files; packed to four bits it is another repository."""
    whole = catalogue.models[name]
    packed = quantization == "int4"
    # A variant is another repository: the whole model's sources are none of its own.
    entry = {**whole, "sources": [], **whole["variants"]["int4"]} if packed else whole
    folder = f"{name}-int4" if packed else name
    files = []
    for file in entry["files"]:
        path = f"models/{folder}/{file['path']}"
        if catalogue.manifest is not None and path in catalogue.manifest["files"]:
            files.append({**bundled(host, catalogue, path, file.get("sha256", "")), "path": file["path"]})
        # A host that takes from a bundle reaches no hub, as far as the plan knows.
        elif (
            catalogue.manifest is not None or "bundled" in entry or not file.get("sha256") or not entry.get("revision")
        ):
            raise Refused(finding("LW-PLAN-007", model=folder, path=file["path"]))
        else:
            url, *more = hubs(host, catalogue, entry, file["path"])
            row = {"url": url, "sha256": file["sha256"], "size": file.get("size", 0), "path": file["path"]}
            files.append({**row, "more": more} if more else row)
    if not files:
        raise Refused(finding("LW-PLAN-007", model=folder, path="*"))
    return {"path": host.below("lab_root", "models", folder), "store": host.wishes["lab_store"], "files": files}


def hubs(host: Host, catalogue: Catalogue, entry: Mapping[str, Any], path: str) -> list[str]:
    """Addresses of a model's file, mirrors before the projects' own. ModelScope has branches and no pinned revision;
    what it gives is refused unless it has the sum."""
    hub = mirror(host, catalogue, "huggingface", "")
    pinned = f"{hub or HUGGINGFACE}/{entry['repository']}/resolve/{entry['revision']}/{path}"
    scope = mirror(host, catalogue, "modelscope", "")
    forms = [str(one["files_url"]) for one in entry.get("sources", []) if one["name"] == "modelscope"]
    others = [form.format(path=path).replace(MODELSCOPE, scope, 1) for form in forms if scope]
    return [pinned, *others] if hub else [*others, pinned]


def checks(host: Host, entry: Mapping[str, Any], lab: Mapping[str, Any], agents: str) -> list[dict[str, Any]]:
    """What verify asks on this host; ids are stable, a script may rely on them. ``agents`` is their prefix."""
    authority, operator = (host.system.join(host.system.etc, *one) for one in (AUTHORITY, OPERATOR_KEY))
    duties = entry["duties"]
    services = ("controller", "api", "web", "gateway")
    places = {f"{UNIT_PREFIX}{duty}": entry[duty] for duty in services if entry.get(duty)}
    for worker in entry["workers"]:
        if worker["engine_url"]:
            where = urlsplit(worker["engine_url"])
            places[engine_unit(worker["name"])] = {"host": where.hostname, "port": where.port}
        places[worker["name"]] = {"host": worker["listen"], "port": worker["port"]}
    walls = doors.request(lab["doors"], host)
    found: list[dict[str, Any]] = [
        {"id": f"service.{unit}", "kind": "unit", "unit": f"{unit}{host.system.unit}", **place}
        for unit, place in places.items()
    ]
    found += [
        {
            "id": f"worker.{worker['name'].removeprefix(UNIT_PREFIX + 'worker-')}",
            "kind": "worker",
            "url": worker["url"],
            "models": worker["model_names"],
        }
        for worker in entry["workers"]
    ]
    if walls["state"] == "present" and "path" in walls:  # nothing asks Windows' firewall what it holds
        found.append({"id": "firewall.loaded", "kind": "firewall", "path": walls["path"]})
    names = lab["served"]
    if "controller" in duties:
        url = entry["controller_url"]
        known = {"url": url, "workers": lab["worker_urls"]}
        found.append({"id": "controller.workers", "kind": "controller", **known, "models": names})
        found.append({"id": "controller.each_worker", "kind": "registered", **known, "count": lab["workers"]})
    if "api" in duties:
        found.append({"id": "gateway.certificate", "kind": "certificate", **entry["gateway"], "ca_file": authority})
        url = f"https://{entry['gateway']['host']}:{entry['gateway']['port']}"
        found.append({"id": "gateway.closed", "kind": "refused", "url": url, "ca_file": authority})
    if "api" in duties and names:
        base = {"url": url, "ca_file": authority, "key_file": operator}
        found.append({"id": "api.models", "kind": "models", **base, "models": names})
        for name in names:
            ask = {**base, "model": name, "prompt": "Hello"}
            found += [
                {"id": f"api.{kind}.{name}", "kind": kind, **ask} for kind in ("completion", "stream", "embeddings")
            ]
    if "web" in duties:
        address = f"https://{entry['page']['host']}:{entry['page']['port']}"
        login = {"ca_file": authority, "key_file": operator, "user": OPERATOR}
        found.append({"id": "page.login", "kind": "page", "url": address, **login})
    if "agent" in duties and names:
        found.append({"id": "agent.answer", "kind": "agent", **agent(host, agents)})
    return found


def agent(host: Host, prefix: str) -> dict[str, Any]:
    """How the agent program is asked: by the command that the role leaves; on Windows, where that could only be a batch
    file and those cannot take any text as an argument, by the program itself."""
    task = ["assistant", "--task", str(host.wishes["lab_task"]), "--json"]
    if host.platform != paths.WINDOWS:
        return {"argv": [host.below("lab_root", "bin", "labwright-agent"), *task]}
    etc, join = host.system.etc, host.system.join
    config = ["--config", join(etc, "agents", "OAI_CONFIG_LIST")]
    work = ["--home", host.below("lab_root", "work")]
    environment = {
        **host.system.environment(prefix),
        "PYTHONPATH": host.below("lab_root", "agents"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "AUTOGEN_USE_DOCKER": "False",
        "SSL_CERT_FILE": join(etc, *AUTHORITY),
    }
    argv = [host.system.python(prefix), "-P", "-m", "labwright_agents", *task, *config, *work]
    return {"argv": argv, "environment": environment}


def packages(entry: Mapping[str, Any], catalogue: Catalogue) -> dict[str, list[str]]:
    """The distribution's packages that the host's engines need, by family (debian, redhat)."""
    found: dict[str, list[str]] = {}
    for engine in dict.fromkeys(worker["engine"] for worker in entry["workers"]):
        for family, names in catalogue.engines[engine].packages.items():
            found[family] = list(dict.fromkeys([*found.get(family, []), *names]))
    return found


def engine_unit(worker: str) -> str:
    """The service of a worker's engine, where that is a program of its own."""
    return worker.replace(f"{UNIT_PREFIX}worker-", f"{UNIT_PREFIX}engine-", 1)


def leftovers(host: Host) -> dict[str, Any]:
    """Where the lab's things are on a host, for their removal: all that carries our stamp, whatever plan made it."""
    root, store, windows = host.wishes["lab_root"], host.wishes["lab_store"], host.platform == paths.WINDOWS
    environments = {"root": host.below("lab_root", "envs")}
    models = {"state": "absent", "path": host.below("lab_root", "models"), "store": store, "files": []}
    return {
        "system": host.system.name,
        "root": root,
        "store": store,
        "conda": {"prefix": host.below("lab_root", "conda"), "installer": {}, "first": windows},
        "installers": {},
        "tools": [{"path": host.below("lab_root", "lib", "nssm.exe")}] if windows else [],
        "environments": {role: [environments] for role in ("torch", "transformers", "fastchat")}
        | {"autogen": environments},
        "models": [models],
        "registry_mirrors": [],
        "firewall": doors.absent(host.platform),
        "workers": [],
        "frontend": "",
        "page_python": "",
        "frontend_environment": {},
        "agents_environment": {},
        "packages": {},
        "folders": folders(host),
    }


def folders(host: Host) -> list[str]:
    """Folders of ours that go when they are empty. On Windows the sweeping itself runs from Conda's base, which goes
    last and takes the root along: there what is beside it counts."""
    roots = [host.wishes["lab_root"]]
    if host.platform == paths.WINDOWS:
        roots = [host.below("lab_root", one) for one in ("agents", "bin", "envs", "lib", "models", "work")]
    return [*roots, host.wishes["lab_state"], *host.system.folders]
