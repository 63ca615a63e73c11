"""Arguments against documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab.errors import LabError
from lab.windows.options import OptionError, documented, specification, validated
from unit.programs import program

DOCUMENTED: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True, "aliases": ["service"]},
    "start_mode": {"type": "str", "choices": ["auto", "manual"]},
    "force": {"type": "bool", "default": False},
    "elements": {"type": "list", "elements": "str"},
    "place": {"type": "path"},
    "members": {"type": "dict", "suboptions": {"add": {"type": "list", "elements": "str"}}},
}
RULES = specification(DOCUMENTED)
MODULE = "ansible.windows.win_service"


def test_defaults_types_and_aliases() -> None:
    found = validated(MODULE, {"service": "x", "force": "yes", "_ansible_check_mode": True}, RULES)
    assert (found["name"], found["force"], found["start_mode"]) == ("x", True, None)
    assert not [name for name in found if name.startswith("_")]


def test_a_path_stays_one_of_windows() -> None:
    assert validated(MODULE, {"name": "x", "place": "~\\%TEMP%\\$x"}, RULES)["place"] == "~\\%TEMP%\\$x"


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({}, "missing required"),
        ({"name": "x", "start_mode": "automatic"}, "must be one of"),
        ({"name": "x", "nam": "y"}, "Unsupported parameters"),
        ({"name": "x", "force": "perhaps"}, "not a valid boolean"),
        ({"name": "x", "members": {"ad": []}}, "members.ad"),
        ({"name": "x", "_raw_params": "y"}, "takes no free form"),
    ],
)
def test_what_a_module_would_not_take(given: dict[str, object], word: str) -> None:
    with pytest.raises(OptionError, match=word):
        validated(MODULE, given, RULES)


def test_the_control_nodes_half_of_win_copy_may_say_its_own_words_only() -> None:
    rules = specification({"dest": {"type": "path", "required": True}})
    copy = "ansible.windows.win_copy"
    assert validated(copy, {"dest": "C:\\", "_copy_mode": "query", "files": []}, rules)["files"] == []
    with pytest.raises(OptionError, match="owner"):
        validated(copy, {"dest": "C:\\", "_copy_mode": "query", "owner": "me"}, rules)


@pytest.mark.parametrize(("lines", "said"), [(["echo no module >&2"], "no module"), (["echo '{}'"], "KeyError")])
def test_documentation_that_is_not_told(
    lines: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, "ansible-doc", *lines)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(LabError, match=rf"LW-LAB-105: .*{said}"):
        documented([MODULE], tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
