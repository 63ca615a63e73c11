"""Every sentence with an id is explained on the page of problems, and brought about by a test."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ID = re.compile(r"LW-[A-Z]+-\d{3}\b")
CODE = (
    "plugins",
    "env",
    "agents/labwright_agents",
    "roles",
    "playbooks",
    "Makefile",
    "tests/lab",
    "docs/site",
    "docs/proofs.py",
)
ENDS = (".py", ".yml", ".json", ".sh", ".ps1", ".j2", "Makefile", "podman")
# Brought about by no test, each with what it lacks.
LACKING = {
    "LW-READY-001": "PowerShell on Windows, and a user who is no administrator",
    "LW-READY-002": "PowerShell on Windows, and an administrator",
    "LW-READY-003": "WinRM of a Windows, with a network that is Public or a setting by group policy",
    "LW-READY-004": "WinRM of a Windows, with a listener of somebody else",
    "LW-READY-005": "a Windows on which the account is logged in",
}


def of_code() -> set[str]:
    """Ids that a person may be shown."""
    files = [one for top in CODE for one in ([ROOT / top] if (ROOT / top).is_file() else (ROOT / top).rglob("*"))]
    texts = [one.read_text(encoding="utf-8") for one in files if one.name.endswith(ENDS)]
    return {found for text in texts for found in ID.findall(text)}


def strings(text: str) -> Iterator[str]:
    """The strings of a program, without its documentation."""
    tree = ast.parse(text)
    documented = {id(one.value) for one in ast.walk(tree) if isinstance(one, ast.Expr)}
    for one in ast.walk(tree):
        if isinstance(one, ast.Constant) and isinstance(one.value, str) and id(one) not in documented:
            yield one.value


def of_tests() -> set[str]:
    """Ids that a test looks for."""
    files = [one for top in ("tests", "agents/tests") for one in (ROOT / top).rglob("*.py")]
    others = [one for one in files if one != Path(__file__) and ROOT / "tests/lab" not in one.parents]
    return {found for one in others for text in strings(one.read_text(encoding="utf-8")) for found in ID.findall(text)}


def test_every_id_of_the_code_is_on_the_page_of_problems() -> None:
    page = set(re.findall(r"^## (LW-\S+)$", (ROOT / "docs/reference/problems.md").read_text(encoding="utf-8"), re.M))
    code = of_code()
    assert len(code) > 400
    assert sorted(code - page) == []
    assert sorted(page - code) == [], "these are composed in docs/ids.py, and nothing says them any more"


def test_every_id_of_the_code_is_looked_for_by_a_test() -> None:
    assert sorted(of_code() - of_tests()) == sorted(LACKING)


def test_no_test_looks_for_an_id_that_is_gone() -> None:
    samples = {one for one in of_tests() if one.startswith("LW-A-")}
    assert sorted(of_tests() - samples - of_code()) == []


def test_an_id_in_the_documentation_of_a_test_counts_for_nothing() -> None:
    text = '"""LW-A-001."""\ndef test(): """LW-A-002."""; assert x(f"LW-A-003: {y}") == "LW-A-004"  # LW-A-005'
    assert {found for one in strings(text) for found in ID.findall(one)} == {"LW-A-003", "LW-A-004"}
