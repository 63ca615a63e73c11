"""Build the documentation as a site, in English and Chinese, without a network: `make docs`.

Pages are the Markdown files that people read in the repository, README.md among them; `site.yml` names them all, in
order. They are staged once for each language, with links led to where the pages stand on the site: a Chinese page lies
under docs/zh, and a page that has none stands there in English and says so. Then Sphinx builds each language; a warning
is an error.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

ROOT = Path(__file__).resolve().parents[2]
HERE = Path("docs/site")
LANGUAGES = {"en": "en", "zh": "zh_CN"}  # our name: Sphinx's
UNTRANSLATED = "```{note}\n本页还没有中文版，以下是英文原文。\n```\n"
BILINGUAL = {"docs/reference/problems.md"}
FENCE = re.compile(r"^ *(```|~~~)")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
HAN = "\u3001-\u3020\u4e00-\u9fff\uff01-\uff60“”"
ADDRESS = re.compile(r"^[a-z]+:")
FIRST = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="0; url=en/index.html"><title>Labwright</title>
<h1>Labwright</h1><p><a href="en/index.html">English</a> · <a href="zh/index.html" lang="zh">中文</a></p></html>
"""


class Fault(Exception):
    """What is wrong with the sources of the site."""


def navigation(root: Path) -> list[dict[str, Any]]:
    """The sections with their pages, by their paths from the root."""
    sections: list[dict[str, Any]] = yaml.safe_load((root / HERE / "site.yml").read_text(encoding="utf-8"))
    for section in sections:
        section["pages"] = [
            posixpath.normpath(path.relative_to(root).as_posix())
            for pattern in section["pages"]
            for path in sorted(root.glob(pattern)) or [root / pattern]
        ]
    return sections


def staged(page: str) -> str:
    """Where a page stands on the site, in each language."""
    if page == "README.md":
        return "index.md"
    return re.sub(r"(^docs/|/README(?=\.md$))", "", page)


def source(root: Path, page: str, language: str) -> str:
    """The file that holds a page in a language; the English one where there is no other."""
    if language == "en":
        return page
    own = "README.zh.md" if page == "README.md" else page.replace("docs/", f"docs/{language}/", 1)
    return own if own != page and (root / own).is_file() else page


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """The text with what is no code block changed, line by line."""
    lines, code = [], False
    for line in text.split("\n"):
        fence = bool(FENCE.match(line))
        code ^= fence
        lines.append(line if code or fence else change(line))
    return "\n".join(lines)


def led(
    root: Path, file: str, to: str, where: Mapping[str, str], translated: Mapping[str, str], pictures: set[str]
) -> Callable[[str], str]:
    """What turns a line of `file` into that of the page `to`. `where` says where each source file stands on the site,
    `translated` which English ones are there in other words, in which file."""

    def link(found: re.Match[str]) -> str:
        picture, text, target = found.groups()
        if ADDRESS.match(target):
            if not urlsplit(target).netloc:
                raise Fault(f"{file}: `{target}` is no address; write it with its server, or as a path.")
            return found[0]
        path, _, anchor = target.partition("#")
        if not path:
            return found[0]
        full = posixpath.normpath(posixpath.join(posixpath.dirname(file), path))
        if picture:
            pictures.add(full)
        if not (root / full).exists():
            raise Fault(f"{file}: the link to `{path}` leads nowhere; there is no {full}.")
        if not picture and full not in where:
            return f"{text} (`{full}`)" if full not in text else text  # a file of the repository, not of the site
        goal = full.removeprefix("docs/") if picture else where[full]
        relative = posixpath.relpath(goal, posixpath.dirname(to) or ".")
        if full in translated:
            anchor = ""  # its headings are other words now
        if text.endswith(".md"):  # a path says where to look in the repository; here the page has a name
            text = title(root / translated.get(full, full))
        return f"{picture}[{text}]({relative}{'#' + anchor if anchor else ''})"

    own = {other for other, page in where.items() if page == to and other != file}
    twin = re.compile("|".join(rf"\*\[\w+\]\({re.escape(posixpath.basename(one))}\)\*" for one in own) or "(?!)")
    return lambda line: "" if twin.fullmatch(line) else LINK.sub(link, line)  # the sidebar leads to the other language


def title(path: Path) -> str:
    """The first heading of a page."""
    return next(line[2:] for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# "))


def contents(sections: Sequence[Mapping[str, Any]], language: str) -> str:
    """The table of contents, for the first page; it shows in the sidebar."""
    parts = []
    for section in sections:
        names = [staged(page).removesuffix(".md") for page in section["pages"] if page != "README.md"]
        body = "\n".join(f"/{name}" for name in names)
        parts.append(f"\n```{{toctree}}\n:hidden:\n:caption: {section[language]}\n\n{body}\n```\n")
    return "".join(parts)


def stage(root: Path, language: str, to: Path) -> None:
    """Write a language's pages to a folder; raise Fault when a page or a link is wrong."""
    sections = navigation(root)
    pages = [page for section in sections for page in section["pages"]]
    if unknown := sorted({p.relative_to(root).as_posix() for p in (root / "docs").rglob("*.md")} - {*pages} - zh(root)):
        raise Fault(f"docs/site/site.yml names no {', '.join(unknown)}; add each page to a section.")
    where = {source(root, page, one): staged(page) for page in pages for one in LANGUAGES}
    translated = {page: own for page in pages if (own := source(root, page, language)) != page}
    pictures: set[str] = set()
    shutil.rmtree(to, ignore_errors=True)
    for page in pages:
        file, name = source(root, page, language), staged(page)
        if not (root / file).is_file():
            raise Fault(f"docs/site/site.yml names {page}, and there is no such file.")
        text = outside_code(
            (root / file).read_text(encoding="utf-8"), led(root, file, name, where, translated, pictures)
        )
        if language == "zh" and file != page:  # a line that ends within Chinese is no space
            text = re.sub(rf"(?<=[{HAN}])\n *(?=[{HAN}])", "", text)
        if language != "en" and file == page and page not in BILINGUAL:
            text = re.sub(r"^(# .*\n)", rf"\1\n{UNTRANSLATED}", text, count=1)
        if page == "README.md":
            text += contents(sections, language)
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        (to / name).write_text(text, encoding="utf-8")
    for picture in pictures:
        (to / picture.removeprefix("docs/")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / picture, to / picture.removeprefix("docs/"))


def zh(root: Path) -> set[str]:
    """The Chinese pages; each must be a translation of one that there is."""
    found = {path.relative_to(root).as_posix() for path in (root / "docs/zh").rglob("*.md")}
    if lost := sorted(one for one in found if not (root / one.replace("docs/zh/", "docs/")).is_file()):
        raise Fault(f"{', '.join(lost)}: there is no English page of that name below docs.")
    return found


def build(root: Path, to: Path, work: Path) -> int:
    """Build all languages, side by side; return the exit status."""
    shutil.rmtree(to, ignore_errors=True)
    running = []
    for language, code in LANGUAGES.items():
        stage(root, language, work / language)
        options = ["-W", "--keep-going", "-n", "-q", "-D", f"language={code}", "-c", str(root / HERE)]
        folders = ["-d", str(work / f"{language}.trees"), str(work / language), str(to / language)]
        running.append(subprocess.Popen([sys.executable, "-m", "sphinx", *options, *folders]))
    status = max([one.wait() for one in running], key=abs)
    (to / "index.html").write_text(FIRST, encoding="utf-8")
    return status


if __name__ == "__main__":
    try:
        sys.exit(build(ROOT, ROOT / "build/docs", ROOT / "build/docs-staged"))
    except Fault as fault:
        sys.exit(f"LW-DOCS-001: {fault}")
