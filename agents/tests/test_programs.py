"""Every program that there is, and the pages of their conversations."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from scripted import AGENTS, CODE, DONE, Lab

NAMES = sorted(path.stem for path in (AGENTS / "labwright_agents/programs").glob("[a-z]*.py"))
CHROMIUM = shutil.which("chromium")


def test_a_program_is_a_file(lab: Lab) -> None:
    done = lab.run("--help")
    assert {"assistant", "batch", "coder", "research", "show"} <= set(NAMES)
    for name in NAMES:
        assert re.search(rf"^    {name}\b", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_each_program_explains_itself(lab: Lab, name: str) -> None:
    done = lab.run(name, "--help")
    assert done.returncode == 0
    assert "--config" in done.stdout


def test_conversations_are_listed_and_shown(lab: Lab) -> None:
    lab.endpoint(CODE, DONE, CODE, "and so on")
    lab.ask("assistant", task="Print 42.")
    lab.ask("assistant", "--max-turns", "2", task="Print 43.")
    lines = lab.run("show").stdout.splitlines()
    assert [("answered" in line, "not finished" in line) for line in lines] == [(True, False), (False, True)]
    name = lines[0].split()[0]
    assert "print(6 * 7)" in lab.run("show", name).stdout
    assert lab.run("show", name, "--transcript", "page.html").returncode == 0
    assert "<title>assistant: answered</title>" in (lab.folder / "page.html").read_text()
    for wrong, id_ in (("nobody", "LW-AGENT-028"), ("OAI_CONFIG_LIST", "LW-AGENT-029")):
        done = lab.run("show", wrong)
        assert (done.returncode, done.stderr[:12]) == (2, id_)


def test_where_nothing_can_be_written_is_a_sentence(lab: Lab) -> None:
    lab.endpoint(CODE, DONE)
    (lab.folder / "home").write_text("a file")
    assert lab.ask("assistant")[1]["id"] == "LW-AGENT-018"
    (lab.folder / "home").unlink()
    assert lab.ask("assistant", "--transcript", "OAI_CONFIG_LIST/t.html")[1]["id"] == "LW-AGENT-019"


def page_of(lab: Lab) -> Path:
    """The page of a conversation in which the model tries to put something of its own into it."""
    evil = "<script>document.title = 'taken'</script><img src=http://127.0.0.1:9/x.png onerror=alert(1)>"
    lab.endpoint(f"{evil}\n\n```python\nfor i in range(3):\n    print(i, '''</pre>{evil}''')\n```", DONE)
    assert lab.ask("assistant", "--transcript", "page.html", task=f"打印三行 {evil}")[0] == 0
    return lab.folder / "page.html"


def test_the_page_is_one_file_that_fetches_nothing_and_runs_nothing(lab: Lab) -> None:
    text = page_of(lab).read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<img" not in text
    assert re.findall(r'(?:src|href)="', text) == []
    assert "default-src 'none'" in text
    assert '<span class="k">for</span>' in text  # Pygments' colours


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_page_in_a_browser(lab: Lab) -> None:
    """What a person sees: outputs are folded and can be opened, code has colours, nothing was run or cut off."""
    page = page_of(lab)
    probe = """
    <script>
    addEventListener("load", () => {
      const details = document.querySelector("details"), output = details.querySelector("pre");
      const code = document.querySelector("pre.code");
      const shut = output.checkVisibility();
      details.querySelector("summary").click();
      const said = {lang: document.documentElement.lang, articles: document.querySelectorAll("article").length,
        title: document.title, shut, open: output.checkVisibility(), lines: output.textContent.split("\\n").length,
        keyword: getComputedStyle(code.querySelector(".k")).color, ink: getComputedStyle(code).color,
        wide: document.documentElement.scrollWidth <= innerWidth, images: document.images.length};
      document.body.textContent = "SAID" + btoa(unescape(encodeURIComponent(JSON.stringify(said)))) + "END";
    });
    </script></head>"""
    # The page forbids scripts; the copy that is probed allows this one alone.
    text = page.read_text(encoding="utf-8").replace(
        "default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'"
    )
    copy = page.with_name("probe.html")
    copy.write_text(text.replace("</head>", probe, 1), encoding="utf-8")
    browser = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={lab.folder}/chromium"]
    done = subprocess.run(
        [*browser, "--window-size=400,900", "--dump-dom", copy.as_uri()],
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    found = re.search("SAID([A-Za-z0-9+/=]+)END", done.stdout)
    assert found, done.stdout[-2000:] + done.stderr[-2000:]
    said = json.loads(base64.b64decode(found[1]))
    assert said.pop("keyword") != said.pop("ink")
    assert said == {
        "lang": "zh",
        "articles": 3,
        "title": "assistant: answered",
        "shut": False,
        "open": True,
        "lines": 3,
        "wide": True,
        "images": 0,
    }
