"""The site that `make docs` built: whole, of this machine alone, and as wide as the window that shows it."""

from __future__ import annotations

import functools
import html
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "build/docs"
PAGES = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))
FETCHED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}
PHONE, DESK = 390, 1280
MEASURE = """<!doctype html><meta charset="utf-8"><body><script>
const pages = %s, wide = %d, found = {};
async function measure(page) {
  const frame = document.createElement("iframe");
  frame.style.cssText = `width:${wide}px;height:800px;border:0`;
  frame.src = page;
  document.body.append(frame);
  await new Promise((done) => (frame.onload = done));
  found[page] = frame.contentDocument.documentElement.scrollWidth;
  frame.remove();
}
(async () => {
  for (const page of pages) await measure(page);
  const said = document.createElement("pre");
  said.id = "found";
  said.textContent = JSON.stringify(found);
  document.body.append(said);
})();
</script>"""


class Parts(HTMLParser):
    """The tags of a page that count here."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


@functools.cache
def parts(page: str) -> Parts:
    return Parts((SITE / page).read_text(encoding="utf-8"))


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves the site and, for a path that begins with /measure-, the page that measures the others."""

    def do_GET(self) -> None:
        found = re.fullmatch(r"/measure-(\d+)\.html", self.path)
        if not found:
            super().do_GET()
            return
        text = (MEASURE % (json.dumps(PAGES), int(found[1]))).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_site_is_there_in_both_languages_with_the_same_pages() -> None:
    both = [{one.removeprefix(language) for one in PAGES if one.startswith(language)} for language in ("en/", "zh/")]
    assert both[0] == both[1]
    assert {"index.html", "own-lab.html", "windows.html", "reference/problems.html", "roles/torch.html"} < both[0]
    assert parts("en/index.html").of("html")[0]["lang"] == "en"
    assert parts("zh/index.html").of("html")[0]["lang"].startswith("zh")


@pytest.mark.parametrize("page", PAGES)
def test_every_page_has_one_first_heading_and_says_what_its_pictures_show(page: str) -> None:
    assert len(parts(page).of("h1")) == 1
    assert [one["src"] for one in parts(page).of("img") if len(one.get("alt", "")) < 10] == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_fetches_nothing_from_elsewhere(page: str) -> None:
    fetched = [one[name] for tag, name in FETCHED.items() for one in parts(page).of(tag) if name in one]
    assert [one for one in fetched if urlsplit(one).netloc] == []
    local = [urlsplit(one).path for one in fetched]
    assert [one for one in local if one and not (SITE / page).parent.joinpath(one).exists()] == []


def test_styles_fetch_nothing_from_elsewhere() -> None:
    styles = "".join(path.read_text(encoding="utf-8") for path in SITE.rglob("*.css"))
    assert re.findall(r"(?:url\(|@import )\s*[\"']?(?:https?:)?//", styles) == []


@pytest.mark.parametrize("page", PAGES)
def test_links_within_the_site_lead_somewhere(page: str) -> None:
    lost = []
    for link in parts(page).of("a"):
        to = urlsplit(link.get("href", ""))
        if to.scheme or to.netloc or not (to.path or to.fragment):
            continue
        target = os.path.normpath(SITE / Path(page).parent / to.path) if to.path else str(SITE / page)
        name = Path(target).relative_to(SITE).as_posix()
        if name not in PAGES or (to.fragment and to.fragment not in {one.get("id") for _tag, one in parts(name).tags}):
            lost.append(link["href"])
    assert lost == []


def shown(address: str, folder: Path) -> str:
    """The page as it stands in a browser when its scripts have run."""
    chromium = shutil.which("chromium")
    assert chromium, "there is no chromium; `make docs` brings it"
    command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}"]
    command += ["--virtual-time-budget=600000", "--timeout=300000", "--dump-dom", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("wide", [PHONE, DESK])
def test_no_page_scrolls_sideways(address: str, wide: int, tmp_path: Path) -> None:
    found = re.search(r'<pre id="found">(.*?)</pre>', shown(f"{address}/measure-{wide}.html", tmp_path), re.DOTALL)
    assert found
    widths = json.loads(html.unescape(found[1]))
    assert sorted(widths) == PAGES
    assert {page: width for page, width in widths.items() if width > wide} == {}


@pytest.mark.parametrize(
    ("language", "words", "page"),
    [
        ("en", "LW-KNOWN-005", "reference/problems.html"),
        ("en", "mirrors", "mirrors.html"),
        ("zh", "镜像", "mirrors.html"),
        ("zh", "组策略", "windows.html"),
    ],
)
def test_the_search_finds(address: str, language: str, words: str, page: str, tmp_path: Path) -> None:
    text = shown(f"{address}/{language}/search.html?q={quote(words)}", tmp_path)
    found = {urlsplit(link.get("href", "")).path for link in Parts(text.partition('id="search-results"')[2]).of("a")}
    assert page in found


def test_the_search_does_not_find_what_is_not_there(address: str, tmp_path: Path) -> None:
    text = shown(f"{address}/zh/search.html?q={quote('烤鸭')}", tmp_path)
    results = text.partition('id="search-results"')[2].partition("</article>")[0]
    assert [one for one in Parts(results).of("a") if one.get("href", "").endswith(".html")] == []
