"""The rendered pages are what the sources say, and no document leads nowhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from documented import blocks, commands
from unit.programs import loaded

ROOT = Path(__file__).resolve().parents[2]
VISIBLE = [top for top in ROOT.iterdir() if not top.name.startswith(".")]
DOCUMENTS = sorted(
    {path for top in VISIBLE for path in (top.rglob("*.md") if top.is_dir() else [top]) if path.suffix == ".md"}
)


SAME = ("python", "json", "powershell")  # what a translation shows to the letter


@pytest.fixture(name="proofs")
def proofs_fixture() -> ModuleType:
    """docs/proofs.py, for one test."""
    return loaded("docs/proofs.py")


def test_the_reference_pages_are_rendered() -> None:
    rendered = loaded("docs/render.py").pages()
    assert {path.parent.name for path in rendered if path.name == "README.md"} == {
        path.name for path in (ROOT / "roles").iterdir() if path.is_dir()
    }
    for path, text in rendered.items():
        assert path.read_text(encoding="utf-8") == text, "run: python docs/render.py"


def test_sentences_are_read_from_code_in_every_form() -> None:
    text = """raise Problem("LW-A-001", f"{host.name}: {found}; expected {2}.")
words = f"LW-A-002: no {thing}"; table = {"LW-A-003": ("What.", "Do.")}
note("LW-A-004", "a" if odd else "b c"); silent("LW-A-005")"""
    ids = loaded("docs/ids.py")
    found: dict[str, list[str]] = {}
    for identifier, words in ids.of_python(text):
        ids.add(found, identifier, words)
    assert found == {
        "LW-A-001": ["{host name}: {found}; expected {2}."],
        "LW-A-002": ["no {thing}", "no"],
        "LW-A-003": ["What. Do."],
        "LW-A-004": ["a"],
    }
    messages = ids.of_messages("__m: {one: 'LW-A-006: {{ __role_thing.rc | default(1) }} came; expected 0.'}")
    assert list(messages) == [("LW-A-006", "{role thing} came; expected 0.")]
    assert ids.whole(["no {thing}", "no", "LW-A-001 LW-A-002"]) == ["no {thing}"]


def test_a_sentence_is_told_with_the_words_that_a_variable_holds() -> None:
    text = """def refuse(path, why):
    words = f"{path} is open; expected it closed"
    hint = "Close it." if why else "Close it, and run again."
    name = "no name" if why else path
    raise Problem("LW-A-001", f"{words}; {name} ({why}). {hint}")
    words = "nobody gets here"
"""
    found = list(loaded("docs/ids.py").of_python(text))
    assert found == [("LW-A-001", "{path} is open; expected it closed; {name} ({why}). Close it.")]


@pytest.mark.parametrize("page", sorted((ROOT / "docs/zh").glob("*.md")), ids=lambda page: page.name)
def test_a_translation_shows_the_same_commands_and_programs(page: Path) -> None:
    own = ROOT / "docs" / page.name
    name = {one: one.relative_to(ROOT).as_posix() for one in (own, page)}
    shown = {one: [command for command, where in commands().items() if name[one] in where] for one in (own, page)}
    assert shown[page] == shown[own]
    assert [one for one in blocks(page) if one[0] in SAME] == [one for one in blocks(own) if one[0] in SAME]


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


def test_before_a_commit_exactly_what_ci_lints_is_run() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (hook,) = [one for repository in hooks["repos"] for one in repository["hooks"]]
    assert hook["entry"] == "make lint"
    assert "make test" in (ROOT / ".ci/run").read_text(encoding="utf-8")
    (goal,) = re.findall(r"^test: (.*(?:\n\t.*)*)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert goal.startswith("lint ")
    assert {"e2e", "unit", "docs", "molecule", "contract"} <= set(goal.splitlines()[-1].split())


def test_a_bot_finds_the_sources_of_locks_and_bumps_no_pin_that_is_held() -> None:
    bot = json.loads((ROOT / "renovate.json").read_text(encoding="utf-8"))
    (pattern,) = bot["pip_requirements"]["managerFilePatterns"]
    files = [path.relative_to(ROOT).as_posix() for path in (ROOT / "env").rglob("*") if path.is_file()]
    bumped = {one for one in files if re.search(pattern.strip("/"), one)}
    assert bumped == {one for one in files if one.endswith(".in")}
    pinned = {
        found.lower()
        for one in bumped
        for found in re.findall(
            r"^([A-Za-z0-9-]+)(?:\[\w+\])?==", (ROOT / one).read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    held = set(bot["packageRules"][0]["matchPackageNames"])
    assert {"fschat", "pyautogen", "transformers"} <= held
    assert pinned - held, "there is nothing left for the bot"


@pytest.mark.parametrize("form", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda form: form.name)
def test_an_issue_form_can_be_read(form: Path) -> None:
    found = yaml.safe_load(form.read_text(encoding="utf-8"))
    if form.name != "config.yml":
        assert {"name", "description", "body"} <= set(found)
        assert {one["type"] for one in found["body"]} <= {"markdown", "input", "textarea"}
        assert all("label" in one["attributes"] for one in found["body"] if one["type"] != "markdown")
