"""The catalogue's files: each fits its schema, their rows agree with each other, and what can be counted is counted."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = ROOT / "env" / "catalog"
FILES = sorted(path.stem for path in CATALOGUE.glob("*.yml"))
Row = dict[str, Any]


def read(name: str) -> Any:
    return yaml.safe_load((CATALOGUE / f"{name}.yml").read_text(encoding="utf-8"))


def numbers(version: str) -> tuple[int, ...]:
    """A version, to compare number by number: 2.10 is above 2.9."""
    return tuple(int(part) for part in version.split("."))


def minor(version: str) -> tuple[int, ...]:
    return numbers(version)[:2]


TORCH: Row = read("torch")
WHEELS: Row = read("wheels")
MODELS: list[Row] = read("models")
RELEASES: list[Row] = TORCH["releases"]
MODEL_NAMES = [model["name"] for model in MODELS]
every_model = pytest.mark.parametrize("model", MODELS, ids=MODEL_NAMES)


# ---- all files


def schema(name: str) -> Row:
    return dict(json.loads((CATALOGUE / "schema" / f"{name}.schema.json").read_text(encoding="utf-8")))


def test_the_files_that_the_plan_reads_are_there() -> None:
    assert {"torch", "wheels", "models", "installers"} <= set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_file_fits_its_schema(name: str) -> None:
    form = schema(name)
    jsonschema.Draft202012Validator.check_schema(form)
    errors = jsonschema.Draft202012Validator(form).iter_errors(read(name))
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


def objects(node: Any, where: str = "$") -> Iterable[tuple[str, Row]]:
    """Every schema of an object, with its place."""
    if isinstance(node, dict):
        if node.get("type") == "object":
            yield where, node
        for key, value in node.items():
            yield from objects(value, f"{where}.{key}")


@pytest.mark.parametrize("path", sorted((CATALOGUE / "schema").glob("*.json")), ids=lambda path: path.name)
def test_a_schema_admits_no_key_that_it_does_not_name(path: Path) -> None:
    form = json.loads(path.read_text(encoding="utf-8"))
    assert [where for where, node in objects(form) if "additionalProperties" not in node] == []


def wrong(name: str, change: Callable[[Any], object]) -> bool:
    """Whether a file is refused after a change."""
    content = read(name)
    change(content)
    return not jsonschema.Draft202012Validator(schema(name)).is_valid(content)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("wheels", lambda c: c["wheels"][0].update(sha256="0" * 63)),
        ("wheels", lambda c: c["wheels"][0].update(sha256="A" * 64)),
        ("wheels", lambda c: c["wheels"][0].update(tag="cu11")),
        ("wheels", lambda c: c["wheels"][0].update(platform="linux-aarch64")),
        ("wheels", lambda c: c["wheels"][0].update(version=2.1)),
        ("wheels", lambda c: c["wheels"][0].update(colour="red")),
        ("wheels", lambda c: c["wheels"][0].pop("sources")),
        ("wheels", lambda c: c["wheels"][0].update(file="torch-2.0.0-cp310-cp311-win_amd64.whl")),
        ("wheels", lambda c: c["wheels"][0].update(file="torch-2.0.0.tar.gz")),
        ("torch_requires", lambda c: c["builds"][0].pop("source")),
        ("torch_requires", lambda c: c["builds"][0].update(evidence="X")),
        ("torch_requires", lambda c: c["builds"][0].update(build="2.13.0")),
        ("torch_requires", lambda c: c["builds"][0].update(platform="linux-aarch64")),
        ("torch", lambda c: c["releases"][0]["tags"].remove("cpu")),
        ("torch", lambda c: c["architectures"][0].update(tag="cpu")),
        ("torch", lambda c: c["announced"][0].update({"linux-64": "595"})),
        ("models", lambda c: c[0].update(quantizations=["int2"])),
        ("models", lambda c: c[0].update(repository="a/b")),
        ("models", lambda c: c[1].update(revision="main")),
        ("models", lambda c: c[1].pop("revision")),
        ("models", lambda c: c[1]["files"][0].update(path="/etc/passwd")),
        ("installers", lambda c: c[0].update(url="http://example.org/x.sh")),
        ("conda", lambda c: c["packages"][0].update(sha256="0" * 63)),
        ("conda", lambda c: c["packages"][0].update(url="https://conda.example.org/conda-forge/noarch/x-1-0.conda")),
        ("conda", lambda c: c["packages"][0].pop("depends")),
        ("conda", lambda c: c["packages"][0].update(sources=[])),
    ],
)
def test_the_schemas_refuse(name: str, change: Callable[[Any], object]) -> None:
    assert wrong(name, change)


def cited(node: Any) -> Iterable[str]:
    """The source keys that rows name."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from (value if key == "sources" and isinstance(value, list) else cited(value))
    elif isinstance(node, list):
        for one in node:
            yield from cited(one)


@pytest.mark.parametrize("name", [name for name in FILES if "sources" in read(name)])
def test_every_source_exists_once_and_is_used(name: str) -> None:
    content = read(name)
    sources = content["sources"]
    assert set(cited(content)) == set(sources)
    assert len(set(sources.values())) == len(sources)


# ---- torch.yml: drivers


@pytest.mark.parametrize("platform", ["linux-64", "win-64"])
def test_a_newer_toolkit_asks_for_a_newer_driver(platform: str) -> None:
    rows = [row for row in TORCH["announced"] if row[platform]]
    assert rows == sorted(rows, key=lambda row: numbers(row["cuda"]), reverse=True)
    assert rows == sorted(rows, key=lambda row: numbers(row[platform]), reverse=True)
    assert len({row["cuda"] for row in TORCH["announced"]}) == len(TORCH["announced"])
    floors = TORCH["minor_version_compatibility"]
    assert floors == sorted(floors, key=lambda row: numbers(row[platform]), reverse=True)


def test_the_floor_of_a_major_lies_below_the_driver_of_each_of_its_later_toolkits() -> None:
    for floor in TORCH["minor_version_compatibility"]:
        of_major = [row for row in TORCH["announced"] if numbers(row["cuda"])[0] == floor["cuda"]]
        # 11.0 came before minor version compatibility.
        later = [row for row in of_major if numbers(row["cuda"]) > (11, 0)]
        assert later
        assert all(numbers(row["linux-64"]) >= numbers(floor["linux-64"]) for row in later)


# ---- torch.yml: releases and architectures


def builds() -> list[tuple[str, str]]:
    return [(row["torch"], tag) for row in RELEASES for tag in row["tags"] if tag != "cpu"]


def covering(release: str, tag: str) -> list[Row]:
    """The architecture rows of a build."""
    return [
        row
        for row in TORCH["architectures"]
        if row["tag"] == tag and numbers(row["torch"][0]) <= minor(release) <= numbers(row["torch"][1])
    ]


def test_releases_are_in_order_and_named_once() -> None:
    versions = [numbers(row["torch"]) for row in RELEASES]
    assert versions == sorted(set(versions))
    assert all(numbers(row["python"][0]) <= numbers(row["python"][1]) for row in RELEASES)
    assert len({row["torchvision"] for row in RELEASES}) == len(RELEASES)


@pytest.mark.parametrize(("release", "tag"), builds(), ids="+".join)
def test_a_build_has_one_architecture_list_and_a_driver(release: str, tag: str) -> None:
    assert len(covering(release, tag)) == 1
    major = int(tag[2:4])
    assert major in [row["cuda"] for row in TORCH["minor_version_compatibility"]]
    assert f"{major}.{tag[4:]}" in [row["cuda"] for row in TORCH["announced"]]


def test_every_architecture_row_belongs_to_a_build() -> None:
    rows = [row for release, tag in builds() for row in covering(release, tag)]
    assert [row for row in TORCH["architectures"] if row not in rows] == []
    assert all(row["sm"] == sorted(row["sm"]) for row in TORCH["architectures"])
    assert all(row["ptx"] is None or row["ptx"] == row["sm"][-1] for row in TORCH["architectures"])


def runs(release: str, tag: str, capability: str) -> bool:
    """The cubin rule: native code for X.y runs on X.z with z >= y."""
    major, of_card = numbers(capability)
    return any(sm // 10 == major and sm % 10 <= of_card for row in covering(release, tag) for sm in row["sm"])


@pytest.mark.parametrize(
    ("release", "tag", "capability", "expected"),
    [
        ("2.0.1", "cu118", "3.7", True),  # K80
        ("2.4.0", "cu121", "3.7", False),
        ("2.14.1", "cu126", "6.1", True),  # GTX 1080
        ("2.8.0", "cu128", "6.1", False),
        ("2.10.0", "cu128", "7.0", True),  # V100
        ("2.11.0", "cu128", "7.0", False),
        ("2.11.0", "cu130", "7.5", True),  # T4
        ("2.0.1", "cu117", "8.9", True),  # RTX 4090
        ("2.0.1", "cu117", "9.0", False),  # H100
        ("2.6.0", "cu124", "10.0", False),  # B200
        ("2.7.1", "cu128", "10.3", True),  # B300
        ("2.7.1", "cu126", "12.0", False),  # RTX 5090
        ("2.7.1", "cu128", "12.1", True),
        ("2.7.1", "cu128", "11.0", False),
    ],
)
def test_the_cubin_rule_gives_what_is_known_of_cards(release: str, tag: str, capability: str, expected: bool) -> None:
    assert runs(release, tag, capability) is expected


# ---- wheels.yml


@pytest.mark.parametrize("wheel", WHEELS["wheels"], ids=lambda wheel: wheel["file"])
def test_a_wheel_belongs_to_a_release_and_is_named_as_it_says(wheel: Row) -> None:
    release = next(row for row in RELEASES if row[wheel["name"]] == wheel["version"])
    assert wheel["tag"] in release["tags"]
    first, last = (numbers(one) for one in release["python"])
    assert first <= numbers(wheel["python"]) <= last
    cp = f"cp{wheel['python'].replace('.', '')}"
    linux = ["manylinux1_x86_64" if on_package_index(wheel) else "linux_x86_64", "manylinux_2_28_x86_64"]
    systems = {"linux-64": linux, "win-64": ["win_amd64"]}[wheel["platform"]]
    label = r"(-\d+)?" if on_package_index(wheel) else rf"\+{wheel['tag']}"
    name = rf"{wheel['name']}-{re.escape(wheel['version'])}{label}-{cp}-{cp}-({'|'.join(systems)})\.whl"
    assert re.fullmatch(name, wheel["file"])


def on_package_index(wheel: Row) -> bool:
    """Whether a row is of the Python package index, by its source."""
    return [WHEELS["sources"][one].split(",")[0] for one in wheel["sources"]] == ["the Python package index"]


def test_no_two_wheels_are_one() -> None:
    wheels = WHEELS["wheels"]
    keys = [
        (wheel["name"], wheel["version"], wheel["tag"], wheel["platform"], wheel["python"], on_package_index(wheel))
        for wheel in wheels
    ]
    assert [key for key, count in Counter(keys).items() if count > 1] == [], "one build has one wheel on one index"
    assert [sha256 for sha256, count in Counter(wheel["sha256"] for wheel in wheels).items() if count > 1] == []


TORCH_LOCKS = sorted(ROOT.glob("env/stacks/*/torch-*.txt"))


@pytest.mark.parametrize("path", TORCH_LOCKS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_torch_lock_names_a_wheel_of_the_catalogue_for_its_build_and_platform(path: Path) -> None:
    tag, platform = path.stem.removeprefix("torch-").split("-", 1)
    (pinned,) = re.findall(
        r"^torch==(\S+) \\\n    --hash=sha256:(\w+)$", path.read_text(encoding="utf-8"), re.MULTILINE
    )
    (wheel,) = [one for one in WHEELS["wheels"] if one["sha256"] == pinned[1]]
    assert (wheel["tag"], wheel["platform"], wheel["python"]) == (tag, platform, "3.11")
    assert pinned[0] == wheel["version"] + ("" if on_package_index(wheel) else f"+{tag}")


@pytest.mark.parametrize(
    "path",
    [path for path in TORCH_LOCKS if path.stem.startswith("torch-cu") and path.stem.endswith("linux-64")],
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_a_torch_lock_for_linux_brings_the_cuda_that_it_is_named_after(path: Path) -> None:
    """The file name of a wheel of the package index does not say which CUDA it is for; what it brings does."""
    text = path.read_text(encoding="utf-8")
    (runtime,) = re.findall(r"^nvidia-cuda-runtime(?:-cu\d+)?==(\d+)\.(\d+)\.", text, re.MULTILINE)
    assert f"torch-cu{runtime[0]}{runtime[1]}-linux-64" == path.stem


# ---- models.yml


def linear(shape: Row) -> int:
    """Weights of a block's linear layers: query, key and value; output; a gated feed-forward of three matrices."""
    hidden, kv = shape["hidden"], shape["kv_heads"] * shape["head_size"]
    return int(hidden * (hidden + 2 * kv) + hidden * hidden + 3 * hidden * shape["feed_forward"])


def total(shape: Row, *, qkv_bias: bool, tied: bool) -> int:
    """All parameters, with two RMS norms a block and one at the end; the output layer may be the embedding."""
    hidden, kv = shape["hidden"], shape["kv_heads"] * shape["head_size"]
    bias = hidden + 2 * kv if qkv_bias else 0
    matrices = 1 if tied else 2
    return int(shape["layers"] * (linear(shape) + bias + 2 * hidden) + hidden + matrices * shape["vocabulary"] * hidden)


# All four families have the same blocks. They differ in the bias of query, key and value, and in the output layer.
FAMILIES: dict[str, Row] = {
    "labwright-demo": {"qkv_bias": False, "tied": True},
    "chatglm2-6b": {"qkv_bias": True, "tied": False},
    "qwen2.5-0.5b-instruct": {"qkv_bias": True, "tied": True},
    "qwen2.5-7b-instruct": {"qkv_bias": True, "tied": False},
    "glm-4-9b-chat-hf": {"qkv_bias": True, "tied": False},
}


def test_model_names_are_unique() -> None:
    assert len(set(MODEL_NAMES)) == len(MODEL_NAMES)


@every_model
def test_parameters_are_what_the_shape_gives(model: Row) -> None:
    assert total(model["shape"], **FAMILIES[model["name"]]) == model["parameters"]
    assert model["shape"]["layers"] * linear(model["shape"]) == model["shape"]["quantised_parameters"]


@every_model
def test_quantizations_begin_with_what_the_weights_are_and_int4_has_a_checkpoint(model: Row) -> None:
    assert model["dtype"] in model["quantizations"]
    variants = model.get("variants", {})
    assert ("int4" in model["quantizations"]) == ("int4" in variants)
    # FastChat's --load-8bit looks for the output layer among the weights, where a tied one is not.
    assert "int8" not in model["quantizations"] or not FAMILIES[model["name"]]["tied"]
    assert set(model.get("published_memory", {})) - {"unit", "tokens", "source"} <= set(model["quantizations"])


def weights_of(model: Row) -> list[Row]:
    return [file for file in model["files"] if file["path"].endswith((".bin", ".safetensors"))]


MEASURED = [model for model in MODELS if weights_of(model) and all("size" in file for file in weights_of(model))]


@pytest.mark.parametrize("model", MEASURED, ids=[model["name"] for model in MEASURED])
def test_weights_whose_sizes_are_known_are_as_large_as_the_parameters_say(model: Row) -> None:
    size = {"fp32": 4, "bf16": 2, "fp16": 2}[model["dtype"]]
    weights = weights_of(model)
    over = sum(file["size"] for file in weights) - size * model["parameters"]
    assert 0 < over < 100_000, "what is over is the header of each file"


@every_model
def test_files_are_named_once_and_a_model_without_revision_says_so(model: Row) -> None:
    paths = [file["path"] for file in model["files"]]
    assert len(set(paths)) == len(paths)
    assert "bundled" in model or model["revision"] or any("revision" in line for line in model["unknown"])
    assert "bundled" in model or model["files"] or any("files" in line for line in model["unknown"])


def test_the_demo_has_the_shape_of_its_configuration() -> None:
    config = json.loads((ROOT / "env/models/labwright-demo/config.json").read_text(encoding="utf-8"))
    shape = next(model["shape"] for model in MODELS if model["name"] == "labwright-demo")
    assert config["tie_word_embeddings"]
    assert {key: value for key, value in shape.items() if key not in ("source", "quantised_parameters")} == {
        "layers": config["num_hidden_layers"],
        "hidden": config["hidden_size"],
        "feed_forward": config["intermediate_size"],
        "kv_heads": config["num_key_value_heads"],
        "head_size": config["hidden_size"] // config["num_attention_heads"],
        "vocabulary": config["vocab_size"],
    }


def test_shards_of_qwen_have_the_pointers_that_the_hub_names() -> None:
    """Git holds a large file as a pointer with its sum and size, so the blob ids on the hub confirm both."""
    blobs = [
        "5e68dcea92e3696ddd4e1d44d9b420a31fe5622c",
        "e07e23d4595678a717aaad11eef9bc22056c284a",
        "114c07bb791bac8d2b32109b7729ef2f9a489dfe",
        "f4841c787f178938010ce784a3ec99e5568524b5",
    ]
    model = next(model for model in MODELS if model["name"] == "qwen2.5-7b-instruct")
    found = []
    for file in (one for one in model["files"] if one["path"].endswith(".safetensors")):
        pointer = (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{file['sha256']}\nsize {file['size']}\n".encode()
        )
        found.append(hashlib.sha1(b"blob %d\0" % len(pointer) + pointer, usedforsecurity=False).hexdigest())
    assert found == blobs


# ---- installers.yml


def test_installers_are_named_once_and_their_sums_are_their_own() -> None:
    rows: list[Row] = read("installers")
    assert len({(row["name"], row["version"], row["platform"]) for row in rows}) == len(rows)
    sums = [row["sha256"] for row in rows if row["sha256"]]
    assert len(set(sums)) == len(sums)
    assert all(row["sha256"] or row["members"] for row in rows)


# ---- gpus.yml


@pytest.mark.skipif("gpus" not in FILES, reason="no list of GPUs")
def test_a_gpu_name_stands_for_one_compute_capability() -> None:
    names = [name.lower() for row in read("gpus")["gpus"] for name in row["names"]]
    assert [name for name, count in Counter(names).items() if count > 1] == []
