"""labwright.catalog: this repository's own catalogue, made-up ones, and manifests that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hostkit.result import Problem
from labwright import catalog
from labwright.catalog import Layer
from unit.labwright.made_up import layer, manifest, sha
from unit.labwright.plugins import ROOT


@pytest.fixture(scope="module")
def real() -> catalog.Catalogue:
    return catalog.load(ROOT / "env", None)


def test_the_catalogue_of_this_repository(real: catalog.Catalogue) -> None:
    assert {"chatglm2", "frontend", "agents"} <= set(real.stacks)
    assert [one.role for one in real.stacks["chatglm2"].layers] == ["torch", "transformers", "fastchat"]
    assert [one.role for one in real.stacks["frontend"].layers] == ["fastchat"]
    assert [one.role for one in real.stacks["agents"].layers] == ["autogen"]
    assert real.stacks["chatglm2"].tags == ("cpu",)
    assert real.manifest is None
    assert real.by_sum == {}


def test_every_pin_of_every_lock_has_a_sum(real: catalog.Catalogue) -> None:
    pins = [pin for stack in real.stacks.values() for one in stack.layers for pin in one.pins()]
    assert len(pins) > 100
    assert [name for name, sums in pins if not sums or name.count("==") != 1] == []


def test_every_model_names_a_stack_that_exists_and_files_with_places(real: catalog.Catalogue) -> None:
    assert {"labwright-demo", "chatglm2-6b"} <= set(real.models)
    for model in real.models.values():
        assert model["stack"] in real.stacks
        assert model["conv_template"]
        assert all(not file["path"].startswith("/") for file in model["files"])
        assert "bundled" in model or {"repository", "revision"} <= set(model)


def test_conda_packages_and_the_base_have_sums_and_addresses(real: catalog.Catalogue) -> None:
    assert {"python", "pip"} <= {row["name"] for row in real.conda}
    assert all(len(row["sha256"]) == 64 and f"/{row['subdir']}/" in row["url"] for row in real.conda)
    assert ("miniforge3", "linux-64") in [(row["name"], row["platform"]) for row in real.installers]


def made(folder: Path) -> Path:
    """A small ``env``."""
    texts = {
        "stacks/one/stack.yml": "name: one\nwhy: a test\npython: 3.11\nlayers:\n"
        "  - {role: torch, lock: torch.txt, tag: cpu}\n  - {role: fastchat, lock: fastchat.txt}\n",
        "stacks/one/torch.txt": layer("torch", "torch==2.0").requirements,
        "stacks/one/fastchat.txt": layer("fastchat", "fschat==0.2").requirements,
        "stacks/notes/README": "no stack",
        "agents/stack.yml": "name: agents\npython: '3.11'\nlayers: []\n",
        "catalog/models.yml": "- {name: demo, stack: one}\n",
        "catalog/installers.yml": "installers:\n  - {name: x}\n",
        "stacks/chatglm2/conda-linux-64.yml": "packages:\n  - {name: python}\n",
    }
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_a_made_up_catalogue(tmp_path: Path) -> None:
    found = catalog.load(made(tmp_path), None)
    assert list(found.stacks) == ["one", "agents"]
    one = found.stacks["one"]
    assert (one.python, one.tags, one.why) == ("3.11", ("cpu",), "a test")
    assert one.layers[0].pins() == [("torch==2.0", [sha("torch==2.0")])]
    assert found.models == {"demo": {"name": "demo", "stack": "one"}}
    assert found.installers == [{"name": "x"}]
    assert found.conda == [{"name": "python"}]


def test_with_a_bundle_its_files_are_known_by_their_sums(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text(json.dumps(manifest()))
    found = catalog.load(made(tmp_path), tmp_path / "bundle")
    assert found.manifest == manifest()
    assert found.by_sum[sha("torch==2.0.1+cpu")] == "wheels/torch-2.0.1+cpu-py3-none-any.whl"


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
    assert lock.pins() == [("xet==1", ["a" * 64, "b" * 64]), ("zope==5", ["c" * 64])]


def test_the_digest_is_that_of_the_pins_not_of_the_comments() -> None:
    first = layer("x", "a==1", "b==2")
    same = Layer("y", "# other words\n\n" + first.requirements)
    assert same.digest() == first.digest()
    assert layer("x", "a==1", "b==3").digest() != first.digest()
    assert Layer("x", first.requirements.replace(sha("a==1"), "0" * 64)).digest() != first.digest()
