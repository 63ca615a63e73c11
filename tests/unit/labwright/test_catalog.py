"""labwright.catalog: this repository's own catalogue, made-up ones, damaged ones, and manifests that are none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from hostkit.result import Problem
from labwright import catalog
from labwright.catalog import Gpus, Layer, Lock, Stack
from unit.labwright.made_up import FASTCHAT, STACKS, TORCH, TORCH_GPU, layer, manifest, real, sha
from unit.programs import ROOT

PLATFORMS = ("linux-64", "win-64")


def test_the_catalogue_of_this_repository() -> None:
    one = real()
    assert {"chatglm2", "current", "vllm", "web", "frontend", "agents"} == set(one.stacks)
    assert [stack.name for stack in one.serving] == ["chatglm2", "current", "vllm"], "with web no model is served"
    for platform in PLATFORMS:
        for name in ("chatglm2", "current"):
            layers = one.stacks[name].layers("cpu", platform)
            assert [layer.role for layer in layers] == ["torch", "transformers", "fastchat"]
        for name in ("frontend", "web"):
            assert [layer.role for layer in one.stacks[name].layers("", platform)] == ["fastchat"]
        assert [layer.role for layer in one.stacks["agents"].layers("", platform)] == ["autogen"]
    assert (one.stacks["chatglm2"].torch, one.stacks["chatglm2"].transformers) == (">=2.0", "4.33.3")
    assert (one.manifest, one.by_sum) == (None, {})


@pytest.mark.parametrize("name", ["chatglm2", "current"])
def test_every_build_that_a_stack_names_is_locked_on_both_platforms_and_nothing_else(name: str) -> None:
    builds = yaml.safe_load((ROOT / f"env/stacks/{name}/stack.yml").read_text(encoding="utf-8"))["builds"]
    assert "cpu" in builds
    labels = {f"{version}+{tag}" for tag, version in builds.items()}
    assert real().stacks[name].locked == {(platform, label) for platform in PLATFORMS for label in labels}


def test_every_pin_of_every_lock_has_a_sum() -> None:
    pins = [pin for stack in real().stacks.values() for one in stack.locks for pin in one.layer.pins]
    assert len(pins) > 100
    assert [name for name, sums in pins if not sums or name.count("==") != 1] == []


def test_every_model_says_what_the_plan_chooses_by_and_its_files_have_places() -> None:
    assert {"labwright-demo", "chatglm2-6b"} <= set(real().models)
    for model in real().models.values():
        assert model["conv_template"]
        assert model["transformers"]["window"]
        assert model["quantizations"]
        assert all(not file["path"].startswith("/") for file in model["files"])
        assert "bundled" in model or {"repository", "revision"} <= set(model)


def test_conda_packages_and_the_base_have_sums_and_addresses() -> None:
    assert set(real().conda) == {"linux-64", "win-64"}
    for packages in real().conda.values():
        assert {"python", "pip"} <= {row["name"] for row in packages}
        assert all(len(row["sha256"]) == 64 and f"/{row['subdir']}/" in row["url"] for row in packages)
    assert ("miniforge3", "linux-64") in [(row["name"], row["platform"]) for row in real().installers]


def test_the_torch_table_is_whole() -> None:
    table = real().torch
    assert set(table.floors) == {11, 12, 13}
    assert table.floors[12].drivers == {"linux-64": "525.60.13", "win-64": "528.33"}
    built = {(one.torch, tag) for one in table.releases for tag in one.tags}
    assert {(torch, tag) for torch, tag in built if tag != "cpu"} == set(table.architectures)
    assert {(torch, tag) for torch, tag, _platform, _python in table.wheels} <= built
    assert {platform for _torch, _tag, platform, _python in table.wheels} == {"linux-64", "win-64"}
    assert set(table.disk_mib) == {"cpu", "cuda"}
    assert all(mib > 0 for mib in table.disk_mib.values())


# --- a small one -----------------------------------------------------------------------------------------------------


def sealed(entries: str) -> str:
    """A lock's text with the sum of its entries in its head."""
    return f"# entries-sha256: {catalog.entries_digest(entries)}\n{entries}"


CHECKED = ("models", "installers", "torch", "wheels", "gpus", "conda", "mirrors")
SMALL: dict[str, str] = {
    "stacks/one/stack.yml": "name: one\nwhy: a test\npython: 3.11\nplatforms: [linux-64]\ntransformers: 4.33.3\n"
    "torch: '>=2.0'\nbuilds: {cpu: '2.0', cu118: '2.1'}\nlayers:\n"
    "  - {role: torch, roots: [torch, numpy]}\n  - {role: fastchat}\n",
    "stacks/one/torch-cpu-linux-64.txt": sealed(layer("torch", "torch==2.0").requirements),
    "stacks/one/fastchat-linux-64.txt": sealed(layer("fastchat", "fschat==0.2").requirements),
    "stacks/notes/README": "no stack",
    "conda/conda-lock.yml": "package:\n"
    "  - {platform: linux-64, url: u/pip, hash: {sha256: b}}\n"
    "  - {platform: linux-64, url: u/python, hash: {sha256: a}}\n"
    "  - {platform: win-64, url: u/pip, hash: {sha256: b}}\n",
    "catalog/conda.yml": "packages:\n  - {name: python, url: u/python, sha256: a, depends: []}\n"
    "  - {name: pip, url: u/pip, sha256: b, depends: [python >=3.10, __unix]}\n",
    "agents/stack.yml": "name: agents\npython: '3.11'\nplatforms: [linux-64]\nlayers: []\n",
    "catalog/models.yml": "- {name: demo}\n",
    "catalog/installers.yml": "- {name: x}\n",
    "catalog/torch.yml": "minor_version_compatibility: [{cuda: 12, linux-64: '525.60.13', win-64: null}]\n"
    "announced: [{cuda: '12.6', linux-64: '560.28.03', win-64: '560.76'}]\n"
    "releases: [{torch: '2.10.0', torchvision: null, tags: [cu126, cpu]}]\n"
    "architectures: [{torch: ['2.6', '2.14'], tag: cu126, sm: [50, 90]}]\n"
    "disk_mib: {cpu: {mib: 10}, cuda: {mib: 20}}\ndriver_branches: []\n",
    "catalog/wheels.yml": "wheels:\n"
    "  - {name: torch, version: '2.10.0', tag: cpu, platform: linux-64, python: '3.11'}\n"
    "  - {name: torchvision, version: '0.25.0', tag: cpu, platform: linux-64, python: '3.11'}\n",
    "catalog/gpus.yml": "gpus: [{compute_capability: '8.6', names: [GeForce RTX 3090, RTX A4000]}]\n",
    "catalog/mirrors.yml": "- {name: here, mirrors: {python: {address: 'https://x/simple'}}}\n",
    **{f"catalog/schema/{name}.schema.json": "{}" for name in CHECKED},
}


def small(folder: Path, **texts: str) -> Path:
    """A small ``env``; a text by the name of its file replaces the usual one."""
    for name, text in SMALL.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts.get(path.stem, text))
    return folder


def test_a_lock_that_was_changed_since_it_was_made_is_refused(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "env/stacks/frontend", tmp_path / "frontend")
    lock = tmp_path / "frontend/fastchat-linux-64.txt"
    text = lock.read_text(encoding="utf-8")
    lock.write_text(text.replace("# Sums", "# Some"), encoding="utf-8")
    assert catalog.stack_of(tmp_path / "frontend").locks, "a comment is no entry"
    at = text.index("--hash=sha256:") + 20
    lock.write_text(text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :], encoding="utf-8")
    with pytest.raises(Problem, match=r"^LW-CAT-005: \S+/fastchat-linux-64.txt is not as it was locked"):
        catalog.stack_of(tmp_path / "frontend")


def test_a_made_up_catalogue(tmp_path: Path) -> None:
    found = catalog.load(small(tmp_path), None)
    assert list(found.stacks) == ["one", "agents"]
    one = found.stacks["one"]
    assert (one.python, one.why, one.torch, one.transformers) == ("3.11", "a test", ">=2.0", "4.33.3")
    assert [(lock.tag, lock.platform) for lock in one.locks] == [("cpu", "linux-64"), ("", "linux-64")]
    assert one.locks[0].layer.pins == [("torch==2.0", [sha("torch==2.0")])]
    assert one.locked == {("linux-64", "2.0+cpu")}
    assert found.models == {"demo": {"name": "demo"}}
    assert found.installers == [{"name": "x"}]
    names = {platform: [row["name"] for row in packages] for platform, packages in found.conda.items()}
    assert names == {"linux-64": ["python", "pip"], "win-64": ["pip"]}
    assert found.torch.wheels == {("2.10.0", "cpu", "linux-64", "3.11")}
    assert found.torch.architectures == {("2.10.0", "cu126"): {50, 90}}
    assert found.torch.floors[12].drivers == {"linux-64": "525.60.13", "win-64": None}
    assert found.torch.releases[0].torchvision == ""
    assert found.torch.disk_mib == {"cpu": 10, "cuda": 20}
    assert found.mirrors == {"here": {"python": "https://x/simple"}}
    assert found.gpus.names == {"geforce rtx 3090": "8.6", "rtx a4000": "8.6"}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "url: u/python, hash: {sha256: b}",
            r"u/python with sha256 b; expected the sum in env/catalog/conda\.yml \(a\)",
        ),
        ("url: u/other, hash: {sha256: a}", r"u/other with sha256 a; expected .* \(it has none\)"),
        ("url: u/python", r"is not what conda-lock writes \(KeyError\('hash'\)\)"),
    ],
)
def test_a_locked_conda_package_must_be_the_one_of_the_catalogue(tmp_path: Path, line: str, sentence: str) -> None:
    texts = {"conda-lock": f"package:\n  - {{platform: linux-64, {line}}}\n"}
    with pytest.raises(Problem, match=rf"^LW-CAT-004: \S+/conda-lock\.yml:? {sentence}"):
        catalog.load(small(tmp_path, **texts), None)


def test_order_puts_dependencies_first_and_survives_a_circle() -> None:
    needs = {"pip": ["python", "wheel"], "wheel": ["python"], "python": ["zlib", "__glibc"], "zlib": []}
    assert catalog.in_order(needs) == ["zlib", "python", "wheel", "pip"]
    assert sorted(catalog.in_order({"a": ["b"], "b": ["a"], "c": ["c"]})) == ["a", "b", "c"]


def test_with_a_bundle_its_files_are_known_by_their_sums(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text(json.dumps(manifest()))
    found = catalog.load(small(tmp_path), tmp_path / "bundle")
    assert found.manifest == manifest()
    assert found.by_sum[sha("torch==2.0.1+cpu")] == "wheels/torch-2.0.1+cpu-py3-none-any.whl"


# --- stacks and their locks ------------------------------------------------------------------------------------------


def test_a_stack_gives_the_layers_of_one_build_in_order() -> None:
    gpu = Lock(TORCH_GPU, "cu126", "linux-64")
    both = Stack("both", "3.11", (*STACKS["chatglm2"].locks[:1], gpu, *STACKS["chatglm2"].locks[1:]))
    assert both.layers("cpu", "linux-64")[0] == TORCH
    assert [one.role for one in both.layers("cu126", "linux-64")] == ["torch", "transformers", "fastchat"]
    assert both.layers("cu126", "linux-64")[0] == TORCH_GPU
    assert both.layers("cu128", "linux-64") == []
    assert both.layers("cpu", "win-64") == []
    assert both.locked == {("linux-64", "2.0.1+cpu"), ("linux-64", "2.7.1+cu126")}


def test_locks_are_found_by_role_build_and_platform(tmp_path: Path) -> None:
    folder = small(tmp_path) / "stacks/one"
    text = (folder / "stack.yml").read_text().replace("[linux-64]", "[linux-64, win-64]")
    (folder / "stack.yml").write_text(text)
    (folder / "torch-cu118-linux-64.txt").write_text(sealed(layer("torch", "torch==2.1+cu118").requirements))
    (folder / "torch-cu118-win-64.txt").write_text(sealed(layer("torch", "torch==2.1+cu118").requirements))
    (folder / "torch-cu999-linux-64.txt").write_text(sealed(layer("torch", "torch==9.9").requirements))
    found = catalog.stack_of(folder)
    assert [(one.layer.role, one.tag, one.platform) for one in found.locks] == [
        ("torch", "cpu", "linux-64"),
        ("torch", "cu118", "linux-64"),
        ("fastchat", "", "linux-64"),
        ("torch", "cu118", "win-64"),
    ], "a lock that is not there is left out, and so is one that the stack does not name"
    assert found.locked == {("linux-64", "2.0+cpu"), ("linux-64", "2.1+cu118")}, "Windows lacks the layer with FastChat"


def test_a_stack_that_lacks_a_layers_lock_for_a_build_has_not_locked_it() -> None:
    lacking = Stack("x", "3.11", (Lock(TORCH, "cpu", "linux-64"), Lock(FASTCHAT, "cu126", "linux-64")))
    assert lacking.locked == frozenset()


@pytest.mark.parametrize(
    ("product", "expected"),
    [
        ("NVIDIA GeForce RTX 3090", "8.6"),
        ("GeForce RTX 3090", "8.6"),
        ("NVIDIA GeForce RTX 3090 Ti", "8.6"),
        ("nvidia geforce rtx 3090-24Q", "8.6"),
        ("NVIDIA GeForce RTX 30901", ""),
        ("NVIDIA GeForce RTX", ""),
        ("", ""),
    ],
)
def test_a_card_is_known_by_the_words_that_its_name_begins_with(product: str, expected: str) -> None:
    assert Gpus({"geforce rtx 3090": "8.6", "geforce": "1.0"} if expected else {"geforce rtx 3090": "8.6"}).capability(
        product
    ) == (expected)


# --- damage ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def env(tmp_path: Path) -> Path:
    """A copy of this repository's own catalogue, to be damaged."""
    for name in ("catalog", "conda", "engines", "stacks", "agents"):
        shutil.copytree(ROOT / "env" / name, tmp_path / "env" / name)
    return tmp_path / "env"


def refused(env: Path) -> Problem:
    with pytest.raises(Problem) as found:
        catalog.load(env, None)
    return found.value


def test_the_copy_is_whole(env: Path) -> None:
    assert catalog.load(env, None) == real()


@pytest.mark.parametrize("name", ["torch", "wheels", "models", "installers", "gpus"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b"\xff\xfe\x00"),
        lambda path: path.write_text("a: [unclosed\n"),
        lambda path: path.write_text("a: b: c\n"),
    ],
    ids=["gone", "no text", "unclosed", "no YAML"],
)
def test_a_file_that_cannot_be_read_is_named(env: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(env / "catalog" / f"{name}.yml")
    problem = refused(env)
    assert problem.code == "LW-CAT-001"
    assert f"{name}.yml" in problem.message
    assert "Restore it from the repository." in problem.message


def change(env: Path, name: str, how: Callable[[Any], None]) -> None:
    """Change one file's content."""
    path = env / "catalog" / f"{name}.yml"
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    how(content)
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "how", "where"),
    [
        ("torch", lambda one: one["releases"][3].pop("tags"), "releases/3"),
        ("torch", lambda one: one["announced"][0].update(cuda=13.2), "announced/0"),
        ("torch", lambda one: one.pop("disk_mib"), "its top"),
        ("wheels", lambda one: one["wheels"][5].update(sha256="short"), "wheels/5/sha256"),
        ("wheels", lambda one: one["wheels"][0].update(platform="mac"), "wheels/0/platform"),
        ("models", lambda one: one[1].pop("shape"), "1"),
        ("models", lambda one: one[0].update(quantizations=["fp8"]), "0/quantizations"),
        ("gpus", lambda one: one["gpus"][0].update(compute_capability="eight"), "gpus/0"),
        ("installers", lambda one: one[0].update(sha256="short"), "0"),
    ],
)
def test_an_entry_that_is_not_as_the_schema_wants_it_is_named(
    env: Path, name: str, how: Callable[[Any], None], where: str
) -> None:
    change(env, name, how)
    problem = refused(env)
    assert problem.code == "LW-CAT-002"
    assert f"env/catalog/{name}.yml, at {where}" in problem.message
    assert f"env/catalog/schema/{name}.schema.json" in problem.message


def no_architectures(torch: Any) -> None:
    torch["architectures"] = [row for row in torch["architectures"] if row["tag"] != "cu130"]


def no_floor(torch: Any) -> None:
    torch["minor_version_compatibility"] = [row for row in torch["minor_version_compatibility"] if row["cuda"] != 13]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (no_architectures, "no architectures for torch 2.9.0+cu130"),
        (no_floor, "no lowest driver for CUDA 13"),
    ],
)
def test_a_hole_in_the_torch_table_is_no_guess_but_a_problem(env: Path, how: Callable[[Any], None], words: str) -> None:
    change(env, "torch", how)
    problem = refused(env)
    assert problem.code == "LW-CAT-003"
    assert words in problem.message
    assert "with its source" in problem.message


def test_the_table_names_a_release_whose_minor_has_two_digits_in_the_right_row(tmp_path: Path) -> None:
    early = SMALL["catalog/torch.yml"].replace("['2.6', '2.14']", "['2.1', '2.9']")
    problem = refused(small(tmp_path, torch=early))
    assert problem.code == "LW-CAT-003", "2.10 is not between 2.1 and 2.9"


# --- manifests and locks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (None, "LW-BUNDLE-001"),
        (b"", "LW-BUNDLE-001"),
        (b"{", "LW-BUNDLE-001"),
        (b"\xff\xfe", "LW-BUNDLE-001"),
        (b"{}", "LW-BUNDLE-002"),
        (b'{"format": 2}', "LW-BUNDLE-002"),
        (b"[]", "LW-BUNDLE-002"),
        (b"1", "LW-BUNDLE-002"),
    ],
)
def test_a_manifest_that_is_none(tmp_path: Path, text: bytes | None, code: str) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_bytes(text)
    with pytest.raises(Problem) as found:
        catalog.manifest_of(tmp_path)
    assert found.value.code == code
    assert "manifest.json" in found.value.message
    assert "gain" in found.value.message or "bundle.yml" in found.value.message


def test_pins_with_markers_several_sums_and_comments() -> None:
    lock = Layer(
        "x",
        "# a==1\n"
        f"xet==1 ; platform_machine == 'x86_64' \\\n    --hash=sha256:{'a' * 64} \\\n    --hash=sha256:{'b' * 64}\n"
        f"zope==5 --hash=sha256:{'c' * 64}\n",
    )
    assert lock.pins == [("xet==1", ["a" * 64, "b" * 64]), ("zope==5", ["c" * 64])]


def test_the_digest_is_that_of_the_pins_not_of_the_comments() -> None:
    first = layer("x", "a==1", "b==2")
    same = Layer("y", "# other words\n\n" + first.requirements)
    assert same.digest == first.digest
    assert layer("x", "a==1", "b==3").digest != first.digest
    assert Layer("x", first.requirements.replace(sha("a==1"), "0" * 64)).digest != first.digest
