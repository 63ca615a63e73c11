"""The rendered pages are what the sources say, and no document leads nowhere."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
VISIBLE = [top for top in ROOT.iterdir() if not top.name.startswith(".")]
DOCUMENTS = sorted(
    {path for top in VISIBLE for path in (top.rglob("*.md") if top.is_dir() else [top]) if path.suffix == ".md"}
)


@pytest.fixture(name="proofs")
def proofs_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """docs/proofs.py as docs/render.py sees it."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    yield importlib.import_module("proofs")
    sys.modules.pop("proofs")


def test_the_reference_pages_are_rendered(proofs: ModuleType) -> None:
    for path, text in importlib.import_module("render").pages().items():
        assert path.read_text(encoding="utf-8") == text, "run: python docs/render.py"


def test_every_id_that_a_role_says_is_explained() -> None:
    page = (ROOT / "docs/reference/problems.md").read_text(encoding="utf-8")
    texts = [path.read_text(encoding="utf-8") for path in ROOT.glob("roles/*/vars/*.yml")]
    said = {one for text in texts for one in re.findall(r"LW-[A-Z]+-\d{3}(?=:)", text)}
    assert len(said) > 20
    assert sorted(one for one in said if f"\n## {one}\n" not in page) == []


# --- what the tests show ---------------------------------------------------------------------------------------------


def test_every_trap_has_a_test_and_every_mark_a_trap(proofs: ModuleType) -> None:
    listed = set(yaml.safe_load(proofs.TRAPS.read_text(encoding="utf-8")))
    marked = {name for names in proofs.tests().values() for name in names}
    assert listed == marked


def test_every_feature_has_a_test_or_says_why_not_on_each_system(proofs: ModuleType) -> None:
    rows = proofs.unverified()
    for feature in proofs.parity()["features"]:
        for system in proofs.SYSTEMS:
            row = feature[system]
            assert set(row) <= {"tests", "not_verified", "none"}, feature
            assert any(row.values()), f"{feature['feature']} says nothing of {system}"
            for begin in row.get("not_verified", ()):
                assert [one for one in rows if one.startswith(begin)], f"no row of not-verified.md begins: {begin}"


def test_every_test_that_the_table_names_exists(proofs: ModuleType) -> None:
    for name in proofs.named():
        test, _, parameter = name.partition("[")
        assert test in proofs.tests(), name
        assert proofs.place_of(test)
        assert not parameter or (ROOT / "molecule" / parameter.rstrip("]") / "molecule.yml").exists()


JUNIT = """<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="{commit}" timestamp="{day}T10:00:00">
<testcase classname="tests.unit.test_a" name="test_one[x]"/>
<testcase classname="tests.unit.test_a" name="test_one[y]">{one}</testcase>
<testcase classname="tests.unit.test_a" name="test_two"/>
<testcase classname="tests.unit.test_a" name="test_nobody_names"/></testsuite></testsuites>
"""


@pytest.fixture(name="table")
def table_fixture(proofs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A table of one feature."""
    names = [f"tests/unit/test_a.py::test_{name}" for name in ("one", "two", "three")]
    places = {"unit": {"what": "units", "tests": ["tests/unit"]}}
    feature = {"feature": "F", "linux": {"tests": names[:2]}, "windows": {"tests": names[1:], "not_verified": ["W"]}}
    monkeypatch.setattr(proofs, "parity", lambda: {"places": places, "features": [feature]})
    monkeypatch.setattr(proofs, "RESULTS", tmp_path / "results.json")
    return proofs


def row_of(table: ModuleType, folder: Path, suite: str, **said: str) -> str:
    """The feature's row after a run."""
    path = folder / f"{suite}.xml"
    path.write_text(JUNIT.format(**{"commit": "0123456789ab", "day": "2026-01-02", "one": "", **said}))
    table.keep([path])
    page: str = table.parity_page(table.results())
    assert f"| {suite} | {said.get('day', '2026-01-02')} | 0123456789ab |" in page
    return next(line for line in page.splitlines() if line.startswith("| F |"))


def test_the_table_says_what_passed_what_failed_and_what_was_not_run(table: ModuleType, tmp_path: Path) -> None:
    before = next(line for line in table.parity_page(table.results()).splitlines() if line.startswith("| F |"))
    assert before == "| F | unit: **2 not run** | unit: **2 not run**<br>not verified: [W](../not-verified.md) |"
    assert "| F | unit: 2 passed | unit: 1 passed, **1 not run**<br>" in row_of(table, tmp_path, "a")
    failed = "| F | unit: 1 passed, **1 failed** |"
    assert failed in row_of(table, tmp_path, "a", one="<failure>no</failure>")
    assert "| F | unit: 1 passed, **1 not run** |" in row_of(table, tmp_path, "a", one="<skipped/>")
    assert failed in row_of(table, tmp_path, "b", one="<error/>", day="2026-01-03"), (
        "of two suites the later one counts"
    )
    assert failed in row_of(table, tmp_path, "a"), "and stays so"


def test_results_of_no_commit_are_refused(table: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"LW-RENDER-001: .* of the commit 'pytest'; expected one"):
        row_of(table, tmp_path, "a", commit="pytest")
    assert not table.RESULTS.exists()


# --- links, roles ----------------------------------------------------------------------------------------------------


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
