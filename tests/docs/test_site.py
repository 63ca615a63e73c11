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
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "build/docs"
PAGES = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))
FETCHED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}
PHONE, DESK = 390, 1280
SEARCHES = [  # language, words, the page that must be among those found
    ("en", "LW-KNOWN-005", "reference/problems.html"),
    ("en", "mirrors", "mirrors.html"),
    ("zh", "镜像", "mirrors.html"),
    ("zh", "组策略", "windows.html"),
]
NOTHING = ("zh", "烤鸭")
# Shows each page in a frame of the width asked for, waits where it is a search, and writes down what came of it.
LOOK = """<!doctype html><meta charset="utf-8"><body><script>
async function look([page, wide]) {
  const frame = document.createElement("iframe");
  frame.style.cssText = `width:${wide}px;height:800px;border:0`;
  frame.src = page;
  document.body.append(frame);
  await new Promise((done) => (frame.onload = done));
  const seen = frame.contentDocument;
  if (page.includes("?q=")) await new Promise((done) => setTimeout(done, 5000));
  const links = Array.from(seen.querySelectorAll("#search-results a"), (one) => one.getAttribute("href"));
  // All that hold the whole text, for the theme lets the article scroll by itself; tables, code and pictures may.
  const scrolls = (one) => one.tagName === "HTML" || ["auto", "scroll"].includes(getComputedStyle(one).overflowX);
  const whole = Array.from(seen.querySelectorAll("html, body, .page, .main, .content, .article-container, article"));
  const over = Math.max(...whole.filter(scrolls).map((one) => one.scrollWidth - one.clientWidth));
  const found = [page, wide, wide + over, links];
  frame.remove();
  return found;
}
(async () => {
  const found = [];
  for (const one of %s) found.push(await look(one));
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
    """Serves the site, and the page that looks at the others."""

    def do_GET(self) -> None:
        if self.path != "/look.html":
            super().do_GET()
            return
        asked = [(page, wide) for wide in (PHONE, DESK) for page in PAGES]
        asked += [(search(language, words), DESK) for language, words, *_ in (*SEARCHES, NOTHING)]
        text = (LOOK % json.dumps(asked)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def search(language: str, words: str) -> str:
    return f"{language}/search.html?q={quote(words)}"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], tuple[int, list[str]]]:
    """What a browser saw: of each page, by its width, how wide it became, and what a search there found."""
    chromium = shutil.which("chromium")
    assert chromium, "there is no chromium; `make docs` brings it"
    handler = functools.partial(Quiet, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        profile = f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"
        command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", profile, "--timeout=500000"]
        command += ["--virtual-time-budget=900000", "--dump-dom", f"http://127.0.0.1:{server.server_port}/look.html"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        server.shutdown()
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    return {(page, wide): (width, links) for page, wide, width, links in json.loads(html.unescape(found[1]))}


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


@pytest.mark.parametrize("wide", [PHONE, DESK])
def test_no_page_scrolls_sideways(seen: dict[tuple[str, int], tuple[int, list[str]]], wide: int) -> None:
    widths = {page: seen[page, wide][0] for page in PAGES}
    assert {page: width for page, width in widths.items() if width > wide} == {}


@pytest.mark.parametrize(("language", "words", "page"), SEARCHES)
def test_the_search_finds(
    seen: dict[tuple[str, int], tuple[int, list[str]]], language: str, words: str, page: str
) -> None:
    assert page in {urlsplit(link).path for link in seen[search(language, words), DESK][1]}


def test_the_search_does_not_find_what_is_not_there(seen: dict[tuple[str, int], tuple[int, list[str]]]) -> None:
    assert seen[search(*NOTHING), DESK][1] == []
