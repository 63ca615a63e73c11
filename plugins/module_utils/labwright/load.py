"""The load test: what is asked of the lab's API, and what the answers amount to as a table, as JSON and as a drawing.

hostkit's verb ``load`` asks and measures; this is pure. Nothing but the API of the plan is ever addressed.
"""

from __future__ import annotations

import difflib
import html
import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from hostkit.result import Problem
from labwright import report

GRACE_S = 10  # for requests that still run when the time is up
LONGEST_S = 7200  # where the number of requests is the bound
# On the API's host; the key stays there.
AUTHORITY = "/etc/labwright/ca.crt"
OPERATOR_KEY = "/etc/labwright/keys/operator"
# knob: default, and for numbers the least and the most
KNOBS: dict[str, tuple[Any, int, int]] = {
    "load_clients": (4, 1, 64),
    "load_seconds": (30, 1, 600),
    "load_requests": (0, 0, 100_000),
    "load_max_tokens": (64, 1, 4096),
    "load_model": ("", 0, 0),
    "load_prompt": ("Print the first 10 prime numbers.", 0, 0),
}
MOST_PROMPT = 20_000
COUNTED = (
    "A piece is one message of the stream with words in it; FastChat's workers send one for every second token unless "
    "told otherwise. FastChat does not say tokens in a stream: each different answer was counted afterwards by the "
    "model's own worker, without marks of beginning and end. Each rate is over the time from the first request to the "
    "end of the last one; of one answer, over the time from its first piece to its end, and for what came after it."
)


def wishes(given: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs with their defaults, each within its bounds; variables of others' that begin alike are let be."""
    for key in sorted(set(given) - set(KNOBS)):
        for meant in difflib.get_close_matches(key, KNOBS, n=1, cutoff=0.8):
            raise Problem("LW-LOAD-001", f"there is no {key}; expected one of {', '.join(KNOBS)}. Set {meant}.")
    found: dict[str, Any] = {}
    many = str(given.get("load_requests", 0)) not in ("", "0")
    knobs = {**KNOBS, "load_seconds": (LONGEST_S, 1, LONGEST_S)} if many else KNOBS
    for name, (default, least, most) in knobs.items():
        value = given.get(name, default)
        if isinstance(default, int):
            text = str(value)
            if not text.isascii() or not text.isdigit() or len(text) > 9 or not least <= int(text) <= most:
                words = f"{name} is {value!r}; expected a whole number from {least} to {most}"
                raise Problem("LW-LOAD-001", f"{words}. Set it with -e {name}={default}.")
            found[name] = int(text)
        elif not isinstance(value, str) or len(value) > MOST_PROMPT or (default and not value.strip()):
            words = f"{name} is {str(value)[:60]!r}; expected text of 1 to {MOST_PROMPT} characters"
            raise Problem("LW-LOAD-001", f"{words}. Quote it: -e '{name}=\"…\"'.")
        else:
            found[name] = value
    return found


def requests(written: Mapping[str, Any], host: str, wish: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A request for hostkit for each model that is wanted; the address is the plan's, and no other can be named."""
    entry = written["hosts"].get(host, {})
    models = list(dict.fromkeys(row["model"] for one in written["hosts"].values() for row in one["workers"]))
    if not entry.get("api") or not models:
        words = f"the plan has {len(models)} models to ask, and {'an' if entry.get('api') else 'no'} API on {host}"
        raise Problem(
            "LW-LOAD-002", f"{words}; expected both. Put a host into the group api, and run playbooks/plan.yml again."
        )
    named = wish["load_model"]
    if named and named not in written["served"]:
        words = f"the plan serves no model {named}; expected one of {', '.join(written['served'])}"
        raise Problem("LW-LOAD-003", f"{words}. Set load_model, or leave it out to ask each.")
    inner = f"http://{entry['api']['host']}:{entry['api']['port']}"
    door = entry.get("gateway")
    way = {"url": inner}
    if door:
        way = {"url": f"https://{door['host']}:{door['port']}", "ca_file": AUTHORITY, "key_file": OPERATOR_KEY}
    return [
        {
            **way,
            "inner_url": inner,
            "model": model,
            "prompt": wish["load_prompt"],
            "max_tokens": wish["load_max_tokens"],
            "clients": wish["load_clients"],
            "seconds": wish["load_seconds"],
            "requests": wish["load_requests"],
            "grace_s": GRACE_S,
        }
        for model in ([named] if named else models)
    ]


def of(lab: str, at: str, asked: Sequence[Mapping[str, Any]], measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All figures, one run a model; ``at`` says when."""
    return {
        "format": 1,
        "lab": lab,
        "at": at,
        "counted": COUNTED,
        "runs": [run(one, data) for one, data in zip(asked, measured, strict=True)],
    }


def run(asked: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """One model's figures, with the rows that they come from."""
    rows = data["answered"]
    elapsed = max(data["elapsed_s"], 0.001)
    failed = sum(one["count"] for one in data["errors"])
    pieces = sum(row[3] for row in rows)
    counted = [row for row in rows if row[4] is not None]
    tokens = sum(row[4] for row in rows) if rows and len(counted) == len(rows) else None
    return {
        **asked,
        "elapsed_s": round(data["elapsed_s"], 3),
        "wanted": asked.get("requests", 0),
        "requests": len(rows) + failed + data["unfinished"],
        "answered": len(rows),
        "failed": failed,
        "unfinished": data["unfinished"],
        "requests_per_s": round(len(rows) / elapsed, 3),
        "first_piece_s": spread([row[1] - row[0] for row in rows]),
        "whole_answer_s": spread([row[2] - row[0] for row in rows]),
        "pieces": pieces,
        "pieces_per_s": round(pieces / elapsed, 3),
        # Of one answer, after its first piece; a higher figure is better, so that the bad end is p5.
        "pieces_per_s_of_one": spread([(row[3] - 1) / (row[2] - row[1]) for row in rows if row[2] > row[1]], 5),
        "tokens": tokens,
        "tokens_per_s": None if tokens is None else round(tokens / elapsed, 3),
        # The first piece had its share of them before.
        "tokens_per_s_of_one": spread(
            [row[4] * (row[3] - 1) / row[3] / (row[2] - row[1]) for row in counted if row[2] > row[1]], 5
        ),
        "tokens_lack": data["tokens_lack"],
        "errors": data["errors"],
        "pieces_by_second": data["pieces"],
        "rows": rows,
    }


def spread(values: Sequence[float], other: int = 95) -> dict[str, float | None]:
    """The median, and what all but 5 % of the values are better than; by nearest rank, nothing without a value."""
    ranked = sorted(values)
    return {
        f"p{part}": round(ranked[max(0, math.ceil(part / 100 * len(ranked)) - 1)], 4) if ranked else None
        for part in (50, other)
    }


def nobody_answered(whole: Mapping[str, Any]) -> None:
    """Raise the sentence when a model gave no answer at all."""
    for one in whole["runs"]:
        if not one["answered"]:
            why = f"most often: {one['errors'][0]['example']}" if one["errors"] else "none failed, all hung"
            words = f"{one['model']}: none of {one['requests']} requests was answered within {one['elapsed_s']:.0f} s"
            counts = f"failed {one['failed']}, unfinished {one['unfinished']}; {why}"
            raise Problem("LW-LOAD-005", f"{words} ({counts}); expected answers. Run playbooks/verify.yml.")


def as_json(whole: Mapping[str, Any]) -> str:
    """The text of load.json, a line for each run."""
    head = json.dumps({key: value for key, value in whole.items() if key != "runs"}, ensure_ascii=False, indent=1)
    runs = ",\n".join(f"  {report.text(one)}" for one in whole["runs"])
    return f'{head[:-2]},\n "runs": [\n{runs}\n ]\n}}\n'


def shown(figures: Mapping[str, float | None]) -> str:
    """The two figures of a spread."""
    return " / ".join("-" if one is None else f"{one:.3f}" if one < 10 else f"{one:.1f}" for one in figures.values())


def as_table(whole: Mapping[str, Any]) -> str:
    """The figures for people, a column for each model, and each cause of errors with one example."""
    runs = whole["runs"]
    rows = [
        ("clients at the same time", [str(one["clients"]) for one in runs]),
        ("seconds, until the last one ended", [f"{one['elapsed_s']:.1f}" for one in runs]),
        ("requests", [str(one["requests"]) for one in runs]),
        ("  answered", [str(one["answered"]) for one in runs]),
        ("  failed", [str(one["failed"]) for one in runs]),
        ("  unfinished, cut off at the end", [str(one["unfinished"]) for one in runs]),
        ("answered requests per second", [f"{one['requests_per_s']:.2f}" for one in runs]),
        ("time to first piece, s: p50 / p95", [shown(one["first_piece_s"]) for one in runs]),
        ("time to whole answer, s: p50 / p95", [shown(one["whole_answer_s"]) for one in runs]),
        ("pieces per second, all clients", [f"{one['pieces_per_s']:.1f}" for one in runs]),
        ("pieces per second, one answer: p50 / p5", [shown(one["pieces_per_s_of_one"]) for one in runs]),
        ("tokens per second, all clients", [rate(one["tokens_per_s"]) for one in runs]),
        ("tokens per second, one answer: p50 / p5", [shown(one["tokens_per_s_of_one"]) for one in runs]),
    ]
    table = report.table([(name, *cells) for name, cells in rows], ("", *(one["model"] for one in runs)))
    errors = [
        f"{one['model']}: {error['count']} x {error['cause']}, such as: {error['example']} → {error['cure']}"
        for one in runs
        for error in one["errors"]
    ]
    lacking = [f"{one['model']}: {one['tokens_lack']}" for one in runs if one["tokens_lack"]]
    parts = (table, report.block("Errors", errors), report.block("Tokens are not known of all", lacking))
    return "\n".join(part for part in (*parts, textwrap.fill(whole["counted"], 100)) if part)


def rate(value: float | None) -> str:
    """A rate that may not be known."""
    return "-" if value is None else f"{value:.1f}"


# --- the drawing ------------------------------------------------------------------------------------------------------

WIDTH, LEFT, RIGHT, TALL, GAP, HEAD = 760, 64, 16, 130, 62, 66
BARS = 60  # at most, over the whole time
DOTS = 2000  # at most
STYLE = (
    "text{font:12px sans-serif;fill:#222}.head{font-size:15px;font-weight:bold}.back{fill:#fff}"
    ".end{text-anchor:end}.middle{text-anchor:middle}.good{fill:#0072b2}.bad{fill:#d55e00}"
    ".grid{stroke:#ddd}.axis{stroke:#222}.mark{stroke:#222;stroke-dasharray:5 3}"
    # No variables: some viewers know none, nor this rule, and show it light.
    "@media(prefers-color-scheme:dark){text{fill:#e6e6e6}.back{fill:#16181c}.good{fill:#56b4e9}.bad{fill:#f0883e}"
    ".grid{stroke:#3a3d42}.axis,.mark{stroke:#e6e6e6}}"
)


def as_svg(whole: Mapping[str, Any]) -> str:
    """A drawing for a browser, in light and dark: for each model requests, time to first piece and pieces over time."""
    parts, top = [], 8
    for one in whole["runs"]:
        clients = f"{one['clients']} clients at the same time, {one['elapsed_s']:.1f} s"
        counts = f"{one['answered']} answered, {one['failed']} failed, {one['unfinished']} unfinished"
        parts += [words(LEFT, top + 18, one["model"], "head"), words(LEFT, top + 36, f"{clients}; {counts}")]
        top += HEAD
        for draw in (requests_panel, first_panel, pieces_panel):
            parts += draw(one, top)
            top += TALL + GAP
    about = html.escape(f"Load test of the lab {whole['lab']}, {whole['at']}")
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img" aria-label="{about}">',
            f"<title>{about}</title><desc>{html.escape(whole['counted'])}</desc><style>{STYLE}</style>",
            f'<rect class="back" width="{WIDTH}" height="{top}"/>',
            *parts,
            "</svg>\n",
        ]
    )


def requests_panel(one: Mapping[str, Any], top: float) -> list[str]:
    """Bars: requests that ended, answered or failed."""
    wide, count = buckets(one)
    good, bad = [0] * count, [0] * count
    for row in one["rows"]:
        good[min(count - 1, int(row[2] // wide))] += 1
    for at in (at for error in one["errors"] for at in error["times_s"]):
        bad[min(count - 1, int(at // wide))] += 1
    most = max(map(sum, zip(good, bad, strict=True))) / wide
    panel = Panel(one, top, most, f"Requests per second: answered (blue), failed (orange){each(wide)}")
    for at in range(count):
        panel.bar(at * wide, wide, 0, good[at] / wide, "good")
        panel.bar(at * wide, wide, good[at] / wide, bad[at] / wide, "bad")
    return panel.parts


def first_panel(one: Mapping[str, Any], top: float) -> list[str]:
    """Dots: each answer's time to its first piece, where it began."""
    step = max(1, math.ceil(len(one["rows"]) / DOTS))
    times = one["first_piece_s"]
    some = f"; one of {step} shown" if step > 1 else ""
    title = f"Time to first piece, seconds; dashed: p50 and p95, {shown(times)}{some}"
    panel = Panel(one, top, max((row[1] - row[0] for row in one["rows"]), default=0), title)
    for row in one["rows"][::step]:
        panel.dot(row[0], row[1] - row[0])
    for value in times.values():
        if value is not None:
            panel.mark(value)
    return panel.parts


def pieces_panel(one: Mapping[str, Any], top: float) -> list[str]:
    """Bars: pieces that came, of all requests."""
    wide, count = buckets(one)
    found = [0] * count
    for second, number in enumerate(one["pieces_by_second"]):
        found[min(count - 1, second // wide)] += number
    tokens = f"{rate(one['tokens_per_s'])} in all, {shown(one['tokens_per_s_of_one'])} of one answer"
    title = f"Pieces per second, all clients{each(wide)}; tokens: {tokens}"
    panel = Panel(one, top, max(found) / wide, title)
    for at, number in enumerate(found):
        panel.bar(at * wide, wide, 0, number / wide, "good")
    return panel.parts


def each(wide: int) -> str:
    """How long a bar is."""
    return "" if wide == 1 else f"; a bar is {wide} s"


def buckets(one: Mapping[str, Any]) -> tuple[int, int]:
    """How many whole seconds a bar stands for, and how many bars."""
    wide = math.ceil(one["elapsed_s"] / BARS) or 1
    return wide, math.ceil(one["elapsed_s"] / wide) or 1


class Panel:
    """One pair of axes with a title, its marks in ``parts``."""

    def __init__(self, one: Mapping[str, Any], top: float, most: float, title: str) -> None:
        """``most`` is the highest value that will be drawn."""
        self.bottom = top + TALL
        wide, count = buckets(one)
        self.seconds = wide * count
        steps = ticks(most)
        self.most = steps[-1]
        self.parts = [words(LEFT, top - 8, title)]
        for value in steps:
            self.parts.append(line(LEFT, self.y(value), WIDTH - RIGHT, self.y(value), "grid"))
            self.parts.append(words(LEFT - 6, self.y(value) + 4, f"{value:g}", "end"))
        for value in (value for value in ticks(self.seconds) if value <= self.seconds):
            self.parts.append(line(self.x(value), self.bottom, self.x(value), self.bottom + 4, "axis"))
            self.parts.append(words(self.x(value), self.bottom + 17, f"{value:g}", "middle"))
        self.parts.append(line(LEFT, self.bottom, WIDTH - RIGHT, self.bottom, "axis"))
        self.parts.append(words(WIDTH - RIGHT, self.bottom + 31, "seconds since the first request", "end"))

    def x(self, seconds: float) -> float:
        """Where a moment is."""
        return LEFT + (WIDTH - LEFT - RIGHT) * seconds / self.seconds

    def y(self, value: float) -> float:
        """Where a value is."""
        return self.bottom - TALL * value / self.most

    def bar(self, begin: float, wide: float, base: float, value: float, kind: str) -> None:
        """A bar that stands on ``base``; none where there is nothing."""
        if value:
            size = f'width="{self.x(wide) - LEFT - 1:.1f}" height="{self.y(0) - self.y(value):.1f}"'
            self.parts.append(f'<rect class="{kind}" x="{self.x(begin):.1f}" y="{self.y(base + value):.1f}" {size}/>')

    def dot(self, moment: float, value: float) -> None:
        """One answer."""
        where = f'cx="{self.x(moment):.1f}" cy="{self.y(value):.1f}"'
        self.parts.append(f'<circle class="good" {where} r="2.5" fill-opacity="0.8"/>')

    def mark(self, value: float) -> None:
        """A dashed line over the whole width."""
        self.parts.append(line(LEFT, self.y(value), WIDTH - RIGHT, self.y(value), "mark"))


def ticks(most: float) -> list[float]:
    """Round values from 0 to at least ``most``, at most seven."""
    if most <= 0:
        return [0, 1]
    size = 10.0 ** math.floor(math.log10(most))
    step = next(one * size for one in (0.2, 0.5, 1, 2) if most / (one * size) <= 5)
    return [round(step * at, 10) for at in range(math.ceil(round(most / step, 9)) + 1)]


def words(x: float, y: float, text: str, kind: str = "") -> str:
    """A text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{html.escape(text)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'
