"""A small made-up catalogue and made-up hosts, so that a test of the plan shows all that it depends on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from labwright.catalog import Catalogue, Layer, Stack
from labwright.wishes import Host, host_of

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
TRANSFORMERS = layer("transformers", "transformers==4.33.3")
FASTCHAT = layer("fastchat", "fschat==0.2.36")
AUTOGEN = layer("autogen", "pyautogen==0.2.35")

STACKS = {
    stack.name: stack
    for stack in (
        Stack("chatglm2", "3.11", ("cpu",), (TORCH, TRANSFORMERS, FASTCHAT), "made up"),
        Stack("newer", "3.11", ("cu118", "cpu"), (TORCH, TRANSFORMERS, FASTCHAT), "made up"),
        Stack("frontend", "3.11", (), (FASTCHAT,)),
        Stack("agents", "3.11", (), (AUTOGEN,)),
    )
}


def entry(name: str, stack: str = "chatglm2", **more: Any) -> dict[str, Any]:
    """A model of the catalogue with two files."""
    files = [{"path": path, "sha256": sha(f"{name}/{path}"), "size": 7} for path in ("config.json", "code/model.py")]
    return {"name": name, "stack": stack, "conv_template": "zero_shot", "files": files, **more}


HUB = {"repository": "someone/hub", "revision": "abc"}
MODELS = {
    one["name"]: one
    for one in (
        entry("demo", bundled="env/models/demo"),
        entry("other", bundled="env/models/other"),
        entry("hub", **HUB),
        entry("new", "newer", bundled="env/models/new"),
    )
}


def manifest() -> dict[str, Any]:
    """A bundle that has everything but the hub's model."""
    wheels = [pin for one in (TORCH, TRANSFORMERS, FASTCHAT, AUTOGEN) for pin, _sums in one.pins()]
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
        "files": {path: {"sha256": one, "size": 11} for path, one in sums.items()},
        "installer": {"path": INSTALLER},
        "conda": {"linux-64": {"3.11": PYTHON}},
    }


def catalogue(bundle: dict[str, Any] | None) -> Catalogue:
    """The made-up catalogue, with a bundle's manifest or without."""
    return Catalogue(
        stacks=STACKS,
        models=MODELS,
        installers=[
            {"name": "miniforge3", "platform": "win-64", "url": "https://x/f.exe", "filename": "f.exe", "sha256": "0"},
            {
                "name": "miniforge3",
                "platform": "linux-64",
                "url": "https://forge.example.org/25/f.sh",
                "filename": "f.sh",
                "sha256": sha("f.sh"),
            },
        ],
        conda=[
            {"subdir": "linux-64", "url": f"{FORGE}/linux-64/python.conda", "sha256": sha("python"), "size": 5},
            {"subdir": "noarch", "url": f"{FORGE}/noarch/pip.conda", "sha256": sha("pip")},
        ],
        manifest=bundle,
        by_sum={one["sha256"]: path for path, one in (bundle or {"files": {}})["files"].items()},
    )


def host(name: str, groups: str, **wishes: Any) -> Host:
    """A host with its groups in one text; its address ends with the number in its name."""
    number = "".join(filter(str.isdigit, name)) or "99"
    variables = {"ansible_host": f"192.0.2.{number}", "lab_models": ["demo"], "lab_bundle_url": BUNDLE, **wishes}
    return host_of(name, groups.split(), variables)


def files_in(value: Any) -> Iterator[dict[str, Any]]:
    """Every file, however deep, of a plan or a request."""
    if isinstance(value, dict):
        if "sha256" in value:
            yield value
        value = value.values()
    if isinstance(value, Iterable) and not isinstance(value, str):
        for one in value:
            yield from files_in(one)
