"""What the locks need of each mirror: the questions for hostkit's verb ``mirrors``. Reads the catalogue, no plan."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from hostkit.state import canonical
from labwright import delivery, paths
from labwright.catalog import FASTCHAT, Catalogue
from labwright.inventory import AGENTS, FRONTEND, WEB, wishes_of
from labwright.wishes import Host

SUITE = "bookworm"  # what the kit's CPython is built in
Want = dict[str, Any]


def of_bundle(
    host: Host, catalogue: Catalogue, also: Collection[str] = (), windows: bool = False
) -> list[dict[str, Any]]:
    """For playbooks/bundle.yml: all locks but those of optional stacks that are not in ``also``, the models that it
    takes along; not conda-forge where the kit is wished. ``windows``: it serves Windows hosts too."""
    kit = host.wishes["lab_bundle_source"] == "kit"
    host = replace(host, wishes={**host.wishes, "anaconda_distribution": delivery.MINIFORGE})
    hosts = [replace(host, groups=host.groups - {paths.GROUP})]
    hosts += [replace(host, groups=host.groups | {paths.GROUP})] if windows else []
    stacks = [*serving(catalogue, {FASTCHAT, *host.wishes["lab_bundle_engines"]}), FRONTEND, *also, AGENTS]
    found = [] if kit else conda(hosts, catalogue)
    found += indexes(hosts, catalogue, stacks, host.wishes["lab_bundle_tags"])
    found += hubs(host, catalogue, host.wishes["lab_bundle_models"])
    debian = delivery.mirror(host, catalogue, "debian", "")
    if debian and host.wishes["lab_bundle_source"] != "conda-forge":
        files = [{"url": f"{debian}/dists/{SUITE}/InRelease"}]
        found.append(asked("debian", [{"id": SUITE, "files": files}]))
    return found


def of_host(host: Host, catalogue: Catalogue) -> list[dict[str, Any]]:
    """For a host that fetches by itself, by its groups; one that takes from the bundle asks Docker's mirror alone."""
    found: list[dict[str, Any]] = []
    duties = {"controller", "api", "web", "workers", "agents"} & host.groups
    if "hardware_given" in host.wishes or not duties:
        return found
    registry = delivery.mirror(host, catalogue, "docker", "")
    if registry and "agents" in duties:
        found.append({"name": "docker", "probe": f"{registry}/v2/", "open": True, "wants": []})
    if host.wishes["lab_bundle_url"]:
        return found
    wished, engine = host.wishes["lab_stack"], host.wishes["lab_engine"]
    stacks = [name for name in serving(catalogue, {engine}) if "workers" in duties and wished in ("", name)]
    bridged = "workers" in duties and engine in catalogue.engines and catalogue.engines[engine].server
    stacks += [FRONTEND] if {"controller", "api"} & duties or bridged else []
    stacks += [WEB] if "web" in duties else []
    stacks += [AGENTS] if "agents" in duties else []
    models = [one.model for one in wishes_of(host, catalogue)]
    tags = ["cpu"] if host.wishes["lab_device"] == "cpu" else []
    locked = indexes([host], catalogue, stacks, tags)
    return [*conda([host], catalogue), *locked, *hubs(host, catalogue, models), *found]


def serving(catalogue: Catalogue, engines: Collection[str]) -> list[str]:
    """The stacks that models are served with by these engines."""
    return [name for name, stack in catalogue.stacks.items() if stack.torch and stack.engine in engines]


def asked(name: str, wants: list[Want]) -> dict[str, Any]:
    """One mirror with its questions; the first thing that is wanted of it is asked for first."""
    first = wants[0]
    pins = f"{first['indexes'][0]}/{canonical(first['pins'][0][0].partition('==')[0])}/" if "pins" in first else ""
    return {"name": name, "probe": pins or first["files"][0]["url"], "wants": wants}


def conda(hosts: Sequence[Host], catalogue: Catalogue) -> list[dict[str, Any]]:
    """The base's installer, and the interpreter's packages, for each system once."""
    plain = replace(catalogue, manifest=None)
    stack = next(iter(plain.stacks.values()))
    installers = [delivery.conda(host, plain)["installer"] for host in hosts]
    files = [file for host in hosts for file in delivery.conda_layer(host, plain, stack)["conda"]]
    packages = list({file["url"]: file for file in files}.values())
    return [
        asked("installers", [{"id": "conda", "files": installers}]),
        asked("conda_forge", [{"id": "python", "files": packages}]),
    ]


def indexes(
    hosts: Sequence[Host], catalogue: Catalogue, stacks: Iterable[str], tags: Collection[str]
) -> list[dict[str, Any]]:
    """Every pin of the stacks' locks for the hosts' systems, those of the torch builds ``tags`` or of all: what has a
    tag of PyTorch's index, all else of the Python index where it is set (else pip asks its own, whose address is not
    ours to know)."""
    platforms = {"", *(host.platform for host in hosts)}
    python = delivery.mirror(hosts[0], catalogue, "python", "")
    wants: dict[str, list[Want]] = {"python": [], "torch": []}
    for stack in stacks:
        for lock in catalogue.stacks[stack].locks:
            if lock.platform not in platforms or (lock.tag and tags and lock.tag not in tags):
                continue
            if stack == WEB and lock.platform == paths.WINDOWS:  # the page stands behind the API, so on Linux
                continue
            torch = f"{delivery.mirror(hosts[0], catalogue, 'torch', delivery.TORCH_INDEX)}/{lock.tag or 'cpu'}"
            system = ".windows" if lock.platform == paths.WINDOWS else ""
            label = f"{stack}.{lock.layer.role}{'-' if lock.tag else ''}{lock.tag}{system}"
            pins = [[pin, sums] for pin, sums in lock.layer.pins]
            tagged = [row for row in pins if "+" in str(row[0])]
            plain = [row for row in pins if "+" not in str(row[0])]
            if tagged:
                order = [torch, *([python] if python else [])]
                wants["torch"].append({"id": label, "pins": tagged, "indexes": order})
            if plain and python:
                wants["python"].append({"id": label, "pins": plain, "indexes": [python, torch]})
    return [asked(name, found) for name, found in wants.items() if found]


def hubs(host: Host, catalogue: Catalogue, models: Iterable[str]) -> list[dict[str, Any]]:
    """The files of models at the hubs in effect, in their order; a file without a known sum only where it is pinned."""
    wants: list[Want] = []
    for name in dict.fromkeys(models):
        whole = catalogue.models.get(name.removesuffix("-int4"), {})
        entry = catalogue.models.get(name) or whole.get("variants", {}).get("int4", {})
        if "bundled" in entry or not entry.get("files") or not entry.get("revision"):
            continue
        files: list[dict[str, Any]] = []
        for file in entry["files"]:
            urls = delivery.hubs(host, catalogue, entry, file["path"])
            urls = urls if file.get("sha256") else [url for url in urls if f"/resolve/{entry['revision']}/" in url]
            files.append({"url": urls[0], "more": urls[1:], "size": file.get("size", 0), "path": file["path"]})
        wants.append({"id": name, "files": files})
    if not wants:
        return []
    second = next((file["more"][0] for want in wants for file in want["files"] if file["more"]), "")
    more: list[dict[str, Any]] = [{"name": "second_hub", "probe": second, "wants": []}] if second else []
    return [asked("hub", wants), *more]
