"""One conversation as a page for people: one file, nothing fetched, no script; code in colours, outputs folded."""

from __future__ import annotations

import html
from collections.abc import Sequence

from labwright_agents.outcome import CODE_BLOCK, answered_at, is_result, language_of
from labwright_agents.trace import Event

WORDS = {
    "en": {
        "task": "Task", "ran": "The code ran", "exit": "exit code", "nothing": "(nothing)", "sources": "Sources",
        "cited": "cited", "verdict": "Verdict", "model": "Model", "sandbox": "Code of the model ran", "code": "Code",
        "answers": "Answers", "tokens": "Tokens", "seconds": "Seconds", "going on": "going on, or killed",
        "skipped": "Left out",
    },
    "zh": {
        "task": "任务", "ran": "代码已运行", "exit": "退出码", "nothing": "（无）", "sources": "来源",
        "cited": "已引用", "verdict": "结论", "model": "模型", "sandbox": "模型代码的运行方式", "code": "代码",
        "answers": "回答次数", "tokens": "词元", "seconds": "秒", "going on": "进行中，或已被终止",
        "skipped": "未读取",
    },
}  # fmt: skip
# A page that could load nothing even if a model wrote that it should: all text is escaped, and this is the second wall.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --ink: #1d2127; --paper: #fff; --soft: #f3f5f8; --line: #d5dae1;
  --mark: #0a5bd0; --good: #12703a; --bad: #b3261e }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7ec; --paper: #16191e; --soft: #20242b; --line: #3a414c;
    --mark: #86b6ff; --good: #6bd197; --bad: #ff8a80 }
}
body { max-width: 52rem; margin: 2rem auto; padding: 0 1rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Noto Sans CJK SC", sans-serif }
h1 { font-size: 1.35rem; white-space: pre-wrap; overflow-wrap: anywhere }
h2 { font-size: 1rem; margin: 0 0 .4rem }
h2 small { font-weight: normal; opacity: .7; margin-left: .6rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 1rem 0 }
dt { opacity: .7 }
dd { margin: 0; overflow-wrap: anywhere }
article { border: 1px solid var(--line); border-radius: .5rem; padding: .8rem 1rem; margin: 1rem 0 }
article.answer { border-left: .3rem solid var(--mark) }
p { white-space: pre-wrap; margin: .4rem 0; overflow-wrap: anywhere }
pre { background: var(--soft); border-radius: .3rem; padding: .7rem; margin: .5rem 0; overflow-x: auto;
  font: 14px/1.45 ui-monospace, monospace }
summary { cursor: pointer; overflow-wrap: anywhere }
.good { color: var(--good) }
.bad { color: var(--bad) }
"""
DARK = "@media (prefers-color-scheme: dark)"


def of(events: Sequence[Event]) -> str:
    """The page of one conversation."""
    start, end = events[0], events[-1]
    language = language_of(str(start.get("task", "")))
    words = WORDS[language]
    over = end["kind"] == "end"
    verdict = end["verdict"] if over else words["going on"]
    facts = [
        (words["verdict"], f'<strong class="{_tone(verdict == "answered")}">{_text(verdict)}</strong>'),
        *([("", _text(end["why"]))] if over and end["why"] else []),
        (words["model"], _text(f"{start['model']} · {answered_at(events)}")),
        (words["sandbox"], _text(start["sandbox"])),
        *([(words[name], _text(f"{end[name]:g}")) for name in ("answers", "tokens", "seconds")] if over else []),
        *((words["skipped"], _text(one)) for one in end.get("skipped", [])),
    ]
    parts, run = [], None
    for one in events[1:]:
        if one["kind"] == "run":
            run = one
            parts.append(_run(one, words))
        elif one["kind"] == "answer" or (
            one["kind"] == "message" and not is_result(one, run) and one["content"] != start["task"]
        ):
            parts.append(_said(one))
    if over and end.get("sources"):
        parts.append(_sources(end["sources"], words))
    rows = "".join(f"<dt>{_text(name)}</dt><dd>{value}</dd>" for name, value in facts)
    return (
        f'<!doctype html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(start['program'])}: {_text(verdict)}</title>\n"
        f"<style>{STYLE}{_colours()}</style>\n</head>\n<body>\n"
        f"<header><small>{_text(start['program'])} · {_text(start['conversation'])} · {_text(start['at'])}</small>\n"
        f"<h1>{_text(start['task'])}</h1>\n<dl>{rows}</dl></header>\n<main>\n{''.join(parts)}</main>\n</body>\n</html>\n"
    )


def _said(one: Event) -> str:
    note = ""
    if one["kind"] == "answer":
        note = f" <small>{one['seconds']:g} s · {one['prompt_tokens']} + {one['completion_tokens']} tokens</small>"
    parts, at, text = [], 0, one["content"]
    for block in CODE_BLOCK.finditer(text):
        parts += [_paragraph(text[at : block.start()]), _code(block[2], block[1] or "text")]
        at = block.end()
    parts.append(_paragraph(text[at:]))
    return f'<article class="{one["kind"]}"><h2>{_text(one["who"])}{note}</h2>{"".join(parts)}</article>\n'


def _run(one: Event, words: dict[str, str]) -> str:
    good = one["exit_code"] == 0
    lines = one["output"].strip("\n") or words["nothing"]
    cause = f'<p class="bad">{_text(one["cause"])}</p>' if one["cause"] else ""
    first = lines.splitlines()[0][:60]
    return (
        f'<article class="run"><details><summary>{words["ran"]}, <span class="{_tone(good)}">{words["exit"]} '
        f"{one['exit_code']}</span>, {one['seconds']:g} s: <code>{_text(first)}</code></summary>"
        f"<pre>{_text(lines)}</pre>{cause}</details></article>\n"
    )


def _sources(sources: Sequence[Event], words: dict[str, str]) -> str:
    rows = []
    for one in sources:
        mark = f' <strong class="good">{words["cited"]}</strong>' if one["cited"] else ""
        name = f"[{one['number']}] {_text(one['where'])}{mark}"
        rows.append(f"<details><summary>{name}</summary><pre>{_text(one['text'])}</pre></details>")
    return f'<article class="sources"><h2>{words["sources"]}</h2>{"".join(rows)}</article>\n'


def _code(code: str, language: str) -> str:
    try:
        from pygments import highlight
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import get_lexer_by_name
        from pygments.util import ClassNotFound
    except ImportError:  # the control node and the tests have none
        return f'<pre class="code">{_text(code)}</pre>'
    try:
        lexer = get_lexer_by_name(language)
    except ClassNotFound:
        lexer = get_lexer_by_name("text")
    return f'<pre class="code">{highlight(code, lexer, HtmlFormatter(nowrap=True))}</pre>'


def _colours() -> str:
    try:
        from pygments.formatters import HtmlFormatter
    except ImportError:
        return ""
    # The scheme's own background would hide ours.
    light, dark = (_rules(HtmlFormatter(style=style)) for style in ("default", "github-dark"))
    return f"{light}\n{DARK} {{\n{dark}\n}}\n"


def _rules(formatter: object) -> str:
    rules = formatter.get_style_defs("pre.code").splitlines()  # type: ignore[attr-defined]
    return "\n".join(one for one in rules if one.startswith("pre.code ."))


def _paragraph(text: str) -> str:
    return f"<p>{_text(text.strip())}</p>" if text.strip() else ""


def _text(text: object) -> str:
    return html.escape(str(text))


def _tone(good: bool) -> str:
    return "good" if good else "bad"
