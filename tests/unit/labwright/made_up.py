"""A small made-up catalogue, made-up hosts and machines, so that a test of the plan shows all that it depends on."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from labwright import catalog, plan, planned, report
from labwright.catalog import Catalogue, Floor, Gpus, Layer, Lock, Release, Stack, TorchTable
from labwright.hardware import Gpu, Hardware
from labwright.planned import Fleet
from labwright.wishes import Host, host_of
from labwright.words import Finding
from unit.programs import ROOT

BUNDLE = "http://192.0.2.1:8480/bundle"
FORGE = "https://conda.example.org/conda-forge"
INSTALLER = "installers/conda.sh"
PYTHON = ["channel/linux-64/python.conda", "channel/noarch/pip.conda"]


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def layer(role: str, *pins: str) -> Layer:
    """A layer whose lock has one sum for each pin, that of the pin's own text."""
    return Layer(role, "# made up\n" + "".join(f"{pin} \\\n    --hash=sha256:{sha(pin)}\n" for pin in pins))


TORCH = layer("torch", "torch==2.0.1+cpu", "numpy==1.26.4")
TORCH_GPU = layer("torch", "torch==2.7.1+cu126", "numpy==1.26.4")
TRANSFORMERS = layer("transformers", "transformers==4.33.3")
NEWER_TRANSFORMERS = layer("transformers", "transformers==4.46.3")
FASTCHAT = layer("fastchat", "fschat==0.2.36")
AUTOGEN = layer("autogen", "pyautogen==0.2.35", "docker==7.1.0")
LINUX = "linux-64"


def stack(name: str, layers: Iterable[tuple[Layer, str]], torch: str = "", transformers: str = "") -> Stack:
    """A stack with locks for Linux; each layer with the tag that it is for."""
    return Stack(name, "3.11", tuple(Lock(one, tag, LINUX) for one, tag in layers), "made up", torch, transformers)


STACKS = {
    one.name: one
    for one in (
        stack("chatglm2", [(TORCH, "cpu"), (TRANSFORMERS, ""), (FASTCHAT, "")], ">=2.0", "4.33.3"),
        stack("newer", [(TORCH_GPU, "cu126"), (NEWER_TRANSFORMERS, ""), (FASTCHAT, "")], ">=2.4", "4.46.3"),
        stack("frontend", [(FASTCHAT, "")]),
        stack("web", [(FASTCHAT, "")]),
        stack("agents", [(AUTOGEN, "")]),
    )
}

MAXWELL_TO_HOPPER = frozenset({50, 60, 70, 75, 80, 86, 90})
TURING_TO_BLACKWELL = frozenset({75, 80, 86, 90, 100, 120})
TABLE = TorchTable(
    floors={
        11: Floor("11", {LINUX: "450.80.02", "win-64": "452.39"}),
        12: Floor("12", {LINUX: "525.60.13", "win-64": "528.33"}),
    },
    announced=(
        Floor("12.8", {LINUX: "570.26", "win-64": None}),
        Floor("12.6", {LINUX: "560.28.03", "win-64": "560.76"}),
        Floor("11.8", {LINUX: "520.61.05", "win-64": "520.06"}),
    ),
    releases=(
        Release("2.0.1", "0.15.2", ("cu118", "cpu")),
        Release("2.7.1", "0.22.1", ("cu118", "cu126", "cu128", "cpu")),
    ),
    architectures={
        ("2.0.1", "cu118"): MAXWELL_TO_HOPPER | {37},
        ("2.7.1", "cu118"): MAXWELL_TO_HOPPER | {37},
        ("2.7.1", "cu126"): MAXWELL_TO_HOPPER,
        ("2.7.1", "cu128"): TURING_TO_BLACKWELL,
    },
    wheels=frozenset(
        (torch, tag, platform, "3.11")
        for torch, tags in (("2.0.1", ("cu118", "cpu")), ("2.7.1", ("cu118", "cu126", "cu128", "cpu")))
        for tag in tags
        for platform in (LINUX, "win-64")
        if (tag, platform) != ("cu128", "win-64")
    ),
    disk_mib={"cpu": 1000, "cuda": 9000},
)
GPUS = Gpus({"tesla t4": "7.5", "geforce rtx 3090": "8.6", "tesla v100": "7.0"})

SMALL = {"layers": 3, "hidden": 128, "feed_forward": 288, "kv_heads": 4, "head_size": 32, "vocabulary": 1200}
LARGE = {"layers": 28, "hidden": 4096, "feed_forward": 13696, "kv_heads": 2, "head_size": 128, "vocabulary": 65024}


def entry(name: str, window: str = ">=4.31,<4.34", **more: Any) -> dict[str, Any]:
    """A small model of the catalogue with two files."""
    files = [{"path": path, "sha256": sha(f"{name}/{path}"), "size": 7} for path in ("config.json", "code/model.py")]
    return {
        "name": name,
        "conv_template": "zero_shot",
        "files": files,
        "parameters": 682_880,
        "shape": {**SMALL, "quantised_parameters": 528_384},
        "dtype": "fp16",
        "context_length": 4096,
        "transformers": {"window": window},
        "quantizations": ["fp32", "fp16"],
        **more,
    }


def large(name: str, window: str = ">=4.31,<4.34", **more: Any) -> dict[str, Any]:
    """A model of six thousand million parameters, of which a packed checkpoint exists."""
    packed = {"files": [{"path": "packed.bin", "sha256": sha(f"{name}-int4"), "size": 9}]}
    return entry(
        name,
        window,
        parameters=6_243_584_000,
        shape={**LARGE, "quantised_parameters": 5_710_544_896},
        context_length=32768,
        quantizations=["fp16", "int8", "int4"],
        variants={"int4": {"repository": f"someone/{name}-int4", "revision": "def", **packed}},
        **more,
    )


HUB = {"repository": "someone/hub", "revision": "abc"}
MODELS = {
    one["name"]: one
    for one in (
        entry("demo", bundled="env/models/demo"),
        entry("other", bundled="env/models/other"),
        entry("hub", **HUB),
        large("big", **HUB),
        entry("new", ">=4.40,<5", bundled="env/models/new", quantizations=["bf16", "fp16", "int8"], dtype="bf16"),
        entry("odd", ">=4.50,<5", **HUB),
        entry("empty", repository="someone/empty", revision=None, files=[]),
    )
}


def manifest() -> dict[str, Any]:
    """A bundle that has everything but the hub's models."""
    layers = (TORCH, TORCH_GPU, TRANSFORMERS, NEWER_TRANSFORMERS, FASTCHAT, AUTOGEN)
    wheels = [pin for one in layers for pin, _sums in one.pins]
    sums = {path: sha(path) for path in (INSTALLER, *PYTHON)}
    sums |= {f"wheels/{pin.replace('==', '-')}-py3-none-any.whl": sha(pin) for pin in wheels}
    sums |= {
        f"models/{name}/{file['path']}": file["sha256"]
        for name, model in MODELS.items()
        if "bundled" in model
        for file in model["files"]
    }
    return {
        "format": 1,
        "source": "kit",
        "files": {path: {"sha256": one, "size": 11} for path, one in sums.items()},
        "installer": {"path": INSTALLER},
        "conda": {LINUX: {"3.11": PYTHON}},
    }


def catalogue(bundle: dict[str, Any] | None = None, **more: Any) -> Catalogue:
    """The made-up catalogue, with a bundle's manifest or without."""
    return Catalogue(
        **{
            "stacks": STACKS,
            "models": MODELS,
            "installers": [
                {
                    "name": "miniforge3",
                    "platform": "win-64",
                    "url": "https://x/f.exe",
                    "filename": "f.exe",
                    "sha256": "0",
                },
                {
                    "name": "miniforge3",
                    "platform": LINUX,
                    "url": "https://forge.example.org/25/f.sh",
                    "filename": "f.sh",
                    "sha256": sha("f.sh"),
                },
            ],
            "conda": {
                LINUX: [
                    {"subdir": LINUX, "url": f"{FORGE}/linux-64/python.conda", "sha256": sha("python"), "size": 5},
                    {"subdir": "noarch", "url": f"{FORGE}/noarch/pip.conda", "sha256": sha("pip")},
                ]
            },
            "manifest": bundle,
            "by_sum": {one["sha256"]: path for path, one in (bundle or {"files": {}})["files"].items()},
            "torch": TABLE,
            "gpus": GPUS,
            **more,
        }
    )


@cache
def real() -> Catalogue:
    """The catalogue of this repository; read once, changed by nobody."""
    return catalog.load(ROOT / "env", None)


def host(name: str, groups: str, **wishes: Any) -> Host:
    """A host with its groups in one text; its address ends with the number in its name."""
    number = int("".join(filter(str.isdigit, name)) or "99")
    address = f"192.0.2.{number}" if number < 256 else f"198.18.{number // 256}.{number % 256}"
    variables = {"ansible_host": address, "lab_models": ["demo"], "lab_bundle_url": BUNDLE, **wishes}
    return host_of(name, groups.split(), variables)


WINDOWS_FOLDERS = {  # as inventories/lab/group_vars/windows/wiring.yml sets them
    "lab_root": "C:\\labwright",
    "lab_state": "C:\\ProgramData\\labwright\\state",
    "lab_store": "C:\\ProgramData\\labwright\\store",
}


def on_windows(one: Host) -> Host:
    """The same host, in the group windows with the folders of that group."""
    return Host(one.name, one.groups | {"windows"}, {**one.wishes, **WINDOWS_FOLDERS})


# --- machines --------------------------------------------------------------------------------------------------------

NEW_DRIVER = "580.65.06"


def card(memory_mib: int, capability: str = "8.6", name: str = "NVIDIA A card", **more: Any) -> Gpu:
    """A card without a number; ``machine`` gives it one."""
    return Gpu(
        **{"index": 0, "uuid": "", "name": name, "memory_mib": memory_mib, "compute_capability": capability, **more}
    )


def machine(*cards: Gpu, driver: str = NEW_DRIVER, named: str = "x", **more: Any) -> Hardware:
    """A Linux machine that was asked, with its cards; without cards it has no driver."""
    gpus = tuple(
        Gpu(
            at,
            one.uuid or f"GPU-{named}-{at}",
            one.name,
            one.memory_mib,
            one.compute_capability,
            one.foreign_mib,
            one.mig,
        )
        for at, one in enumerate(cards)
    )
    settled = {"platform": LINUX, "source": "seen", **more}
    return Hardware(driver_version=driver if cards else "", gpus=gpus, **settled)


Machines = Mapping[str, Hardware | None]


def lab(
    fleet: Sequence[Host],
    machines: Machines | None = None,
    *,
    catalogue_: Catalogue | None = None,
    before: Mapping[str, Any] | None = None,
    found: Mapping[str, Sequence[Finding]] | None = None,
    silent: Collection[str] = (),
) -> Fleet:
    """The plan. A host without a machine of its own is one without a GPU; one whose machine is None was not asked, or,
    where it is among the silent ones, did not answer."""
    asked = {one.name: (machines or {}).get(one.name, machine()) for one in fleet}
    wrong = found or {}
    given = {name: (one, wrong.get(name, ())) for name, one in asked.items() if one is not None}
    return plan.make(fleet, given, catalogue_ or catalogue(), before, silent)


def one_host(hardware: Hardware, **wishes: Any) -> planned.HostPlan:
    """The plan of a lab of one host, by this repository's catalogue; ChatGLM2 is wished for unless told otherwise."""
    wishes = {"lab_models": ["chatglm2-6b"], **wishes}
    if hardware.platform == LINUX:
        fleet = [host("one1", "controller api workers", **wishes)]
    else:
        fleet = [host("ctl9", "controller api"), on_windows(host("one1", "workers", **wishes))]
    return lab(fleet, {"one1": hardware}, catalogue_=real()).hosts["one1"]


def written(made: Fleet) -> dict[str, Any]:
    """The plan as it is written."""
    return report.as_json(made)


def ids(found: Iterable[Finding]) -> list[str]:
    """Their ids."""
    return [one.id for one in found]


def all_ids(made: Fleet) -> list[str]:
    """The ids of all problems of a lab, each once."""
    everything = [*ids(made.problems), *(one for plan_ in made.hosts.values() for one in ids(plan_.problems))]
    return list(dict.fromkeys(everything))


def placed(made: Fleet) -> dict[str, list[tuple[str, str, tuple[str, ...]]]]:
    """For each host its workers: model, quantisation, cards."""
    return {
        name: [(one.model, one.quantization, tuple(gpu.uuid for gpu in one.gpus)) for one in found.workers]
        for name, found in made.hosts.items()
    }


def files_in(value: Any) -> Iterator[dict[str, Any]]:
    """Every file, however deep, of a plan or a request."""
    if isinstance(value, dict):
        if "sha256" in value:
            yield value
        value = value.values()
    if isinstance(value, Iterable) and not isinstance(value, str):
        for one in value:
            yield from files_in(one)
