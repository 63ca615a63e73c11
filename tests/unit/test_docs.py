"""The rendered pages are what the sources say, and no document leads nowhere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
VISIBLE = [top for top in ROOT.iterdir() if not top.name.startswith(".")]
DOCUMENTS = sorted(
    {path for top in VISIBLE for path in (top.rglob("*.md") if top.is_dir() else [top]) if path.suffix == ".md"}
)


def test_the_reference_pages_are_rendered() -> None:
    spec = importlib.util.spec_from_file_location("render", ROOT / "docs/render.py")
    assert spec is not None
    assert spec.loader is not None
    render = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(render)
    for path, text in render.pages().items():
        assert path.read_text(encoding="utf-8") == text, "run: python docs/render.py"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_defaults_and_argument_specs_of_each_role_agree() -> None:
    for defaults in sorted(ROOT.glob("roles/*/defaults/main.yml")):
        role = defaults.parents[1]
        given = yaml.safe_load(defaults.read_text(encoding="utf-8"))
        specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text(encoding="utf-8"))
        options = specs["argument_specs"]["main"]["options"]
        assert {name: option.get("default") for name, option in options.items()} == given, role.name


def test_installers_of_the_role_are_those_of_the_catalogue() -> None:
    role = yaml.safe_load((ROOT / "roles/anaconda/vars/main.yml").read_text(encoding="utf-8"))["__anaconda_installers"]
    rows = yaml.safe_load((ROOT / "env/catalog/installers.yml").read_text(encoding="utf-8"))
    by_sum = {row["sha256"]: row for row in rows}
    for system, platform in (("linux", "linux-64"), ("windows", "win-64")):
        for one in role[system].values():
            row = by_sum[one["sha256"]]
            assert (row["url"], row["filename"], row["platform"]) == (one["url"], one["name"], platform)
