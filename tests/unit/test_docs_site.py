"""Staging the pages of the site: what is wrong is named, and links lead to where pages stand there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from unit.programs import loaded

PROGRAM = Path(__file__).resolve().parents[2] / "docs/site/build.py"
PAGES = {
    "docs/site/site.yml": "- {en: All, zh: 全部, pages: [README.md, docs/*.md, roles/*/README.md]}\n",
    "README.md": "# House\n\n*[中文](README.zh.md)*\n\nSee "
    "[docs/a.md](docs/a.md), [b](docs/b.md#part), [c](env/x.py).\n",
    "README.zh.md": "# 房子\n\n见[甲](docs/zh/a.md)\n和乙。\n",
    "docs/a.md": "# Page A\n\n![a drawing](pictures/a.svg) [home](../README.md) [r](../roles/r/README.md)\n",
    "docs/b.md": "# Page B\n\n[a](a.md#part)\n\n```sh\necho [x](nowhere.md)\n```\n",
    "docs/zh/a.md": "# 甲页\n\n第一行，\n第二行。[乙](../b.md)\n",
    "docs/pictures/a.svg": "<svg/>",
    "roles/r/README.md": "# r\n",
    "env/x.py": "",
}


BUILD = loaded("docs/site/build.py", "build_site")


def staged(root: Path, language: str, **changed: str) -> dict[str, str]:
    """The pages of a small checkout, staged; `changed` by path with __ for / and _md for .md."""
    names = {name.replace("__", "/").replace("_md", ".md"): text for name, text in changed.items()}
    for name, text in (PAGES | names).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    to = root / "staged"
    BUILD.stage(root, language, to)
    return {
        path.relative_to(to).as_posix(): path.read_text(encoding="utf-8") for path in to.rglob("*") if path.is_file()
    }


def test_pages_stand_where_the_site_has_them_and_links_lead_there(tmp_path: Path) -> None:
    found = staged(tmp_path, "en")
    assert set(found) == {"index.md", "a.md", "b.md", "roles/r.md", "pictures/a.svg"}
    assert "See [Page A](a.md), [b](b.md#part), c (`env/x.py`)." in found["index.md"]
    assert "中文" not in found["index.md"]
    assert "![a drawing](pictures/a.svg) [home](index.md) [r](roles/r.md)" in found["a.md"]
    assert "echo [x](nowhere.md)" in found["b.md"]
    assert ":caption: All\n\n/a\n/b\n/roles/r\n" in found["index.md"]


def test_a_page_that_is_not_translated_says_so_and_names_no_heading_of_one_that_is(tmp_path: Path) -> None:
    found = staged(tmp_path, "zh")
    assert BUILD.UNTRANSLATED in found["b.md"]
    assert "[a](a.md)" in found["b.md"]
    assert "第一行，第二行。[乙](b.md)" in found["a.md"]
    assert BUILD.UNTRANSLATED not in found["a.md"]
    assert "见[甲](a.md)\n和乙。" in found["index.md"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"docs__a_md": "# A\n\n[b](gone.md)\n"}, "docs/a.md: the link to `gone.md` leads nowhere"),
        ({"docs__a_md": "# A\n\n[b](https:b)\n"}, "docs/a.md: `https:b` is no address"),
        ({"docs__deep__c_md": "# C\n"}, "names no docs/deep/c.md"),
        ({"docs__zh__d_md": "# D\n"}, "docs/zh/d.md: there is no English page"),
        ({"docs__site__site.yml": "- {en: All, zh: 全部, pages: [README.md, docs/*.md, gone.md]}\n"}, "names gone.md"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changed: dict[str, str], words: str) -> None:
    with pytest.raises(BUILD.Fault, match=re.escape(words)):
        staged(tmp_path, "en", **changed)


def test_the_program_ends_with_a_sentence(tmp_path: Path) -> None:
    for name, text in (PAGES | {"docs/a.md": "# A\n\n[b](gone.md)\n"}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    copy = shutil.copy(PROGRAM, tmp_path / "docs/site")
    done = subprocess.run([sys.executable, copy], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("LW-DOCS-001: docs/a.md: the link to `gone.md` leads nowhere")
