"""The filters: a command line that systemd reads back as it was meant, and a folder's texts."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unit.labwright.plugins import plugin

FILTERS: ModuleType = plugin("filter", "labwright")
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"'}


def unquoted(line: str) -> list[str]:
    """What systemd makes of a command line: systemd.service(5), COMMAND LINES, as far as the filter writes it."""
    words: list[str] = []
    word: str | None = None
    quoted = False
    rest = iter(line)
    for one in rest:
        if one == '"':
            quoted, word = not quoted, word or ""
        elif one == "\\":
            word = (word or "") + ESCAPES[next(rest)]
        elif one in "%$":
            assert next(rest) == one, f"a lone {one} in {line!r} would be replaced"
            word = (word or "") + one
        elif one == " " and not quoted:
            words += [] if word is None else [word]
            word = None
        else:
            assert quoted or one not in "';\t", f"{one!r} means something outside of quotes"
            word = (word or "") + one
    assert not quoted
    return words + ([] if word is None else [word])


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))))
def test_systemd_reads_back_what_was_meant(argv: list[str]) -> None:
    line = FILTERS.systemd_argv(argv)
    assert unquoted(line) == argv
    assert "\n" not in line
    assert "\r" not in line


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["/opt/labwright/bin/python", "-m", "fastchat.serve.cli"], "/opt/labwright/bin/python -m fastchat.serve.cli"),
        (["--port", 21001], "--port 21001"),
        (["a b", ""], '"a b" ""'),
        (["50%", "$HOME"], '50%% "$$HOME"'),
        (['say "no"', "back\\slash"], '"say \\"no\\"" "back\\\\slash"'),
        ([";", "two\nlines"], '";" "two\\nlines"'),
        ([], ""),
    ],
)
def test_how_it_looks(argv: list[object], line: str) -> None:
    assert FILTERS.systemd_argv(argv) == line


def test_text_tree_takes_the_texts_with_these_endings(tmp_path: Path) -> None:
    (tmp_path / "programs" / "__pycache__").mkdir(parents=True)
    (tmp_path / "one.py").write_text("# 你好\n", encoding="utf-8")
    (tmp_path / "programs" / "two.json").write_text("{}")
    (tmp_path / "programs" / "three.txt").write_text("no")
    (tmp_path / "programs" / "__pycache__" / "two.pyc").write_bytes(b"\xff")
    assert FILTERS.text_tree(str(tmp_path), [".py", ".json"]) == {"one.py": "# 你好\n", "programs/two.json": "{}"}
    assert FILTERS.text_tree(str(tmp_path / "none"), [".py"]) == {}


def test_ansible_finds_each() -> None:
    assert set(FILTERS.FilterModule().filters()) == {"systemd_argv", "text_tree", "windows_facts"}
