"""Say which pins of a requirements text, or of a stack's locks, contradict each other, and the ways out. Offline.

`env/pins.py FILE` or `env/pins.py --stack NAME`. Exit status: 0 no contradiction (there may be notes), 1
contradictions, known problems or lines that cannot be used, 2 wrong use. What is known is in env/catalog/metadata.yml
and known.yml.
"""

from __future__ import annotations

import argparse
import codecs
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

ENV = Path(__file__).resolve().parent
sys.path.insert(0, str(ENV.parent / "plugins/module_utils"))

from hostkit.result import Problem  # noqa: E402
from labwright import catalog, pins  # noqa: E402

DEFAULT_PYTHON = "3.11"
# The last line of the report: with findings by kind, and without any.
ENDS = {
    "en": ("{contradiction} contradictions, {problem} known problems, {note} notes.", "No contradiction in {what}."),
    "zh": ("矛盾 {contradiction} 处，已知问题 {problem} 处，提示 {note} 条。", "{what} 中没有矛盾。"),
}


class UnreadableError(Exception):
    """A text that cannot be read; holds its name and the reason."""

    def __init__(self, name: str, reason: str) -> None:
        """Both go into the sentence of LW-PINS-006."""
        super().__init__(name, reason)
        self.name, self.reason = name, reason


@dataclass(frozen=True)
class Text:
    """One set of pins to look at, with its name in the report; ``python`` is the stack's own, where it is one."""

    name: str
    pins: tuple[pins.Pin, ...]
    python: str = ""


def stacks(env: Path) -> dict[str, Path]:
    """The folder of each stack, by its name."""
    return {
        path.parent.name: path.parent for path in (*sorted(env.glob("stacks/*/stack.yml")), env / "agents/stack.yml")
    }


def decoded(path: Path) -> str:
    """A file's text; UTF-16 too, which PowerShell writes. Raise UnreadableError where it is no text."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableError(str(path), error.strerror or type(error).__name__) from error
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError(str(path), str(error.reason)) from error
    if "\0" in text:
        raise UnreadableError(str(path), "it holds NUL bytes")
    return text


def texts_of_stack(folder: Path, platform: str) -> list[Text]:
    """A stack's locks on a platform: one text for each torch build."""
    stack = catalog.stack_of(folder)
    tags = sorted({one.tag for one in stack.locks if one.platform == platform and one.tag}) or [""]
    texts = []
    for tag in tags:
        layers = stack.layers(tag, platform)
        if not layers:
            raise UnreadableError(folder.name, f"it has no lock for {platform}")
        # A line's number would not say of which lock it is.
        found = [replace(one, line=0) for layer in layers for one in pins.parse(layer.requirements)]
        name = " ".join(part for part in (folder.name, tag, platform) if part)
        texts.append(Text(name, tuple(found), stack.python))
    return texts


def texts_of(options: argparse.Namespace) -> list[Text]:
    """What the command line asks for."""
    if not options.stack:
        return [Text(str(options.file), tuple(pins.parse(decoded(options.file))))]
    there = stacks(ENV)
    if options.stack not in there:
        raise UnreadableError(options.stack, "no such stack")
    try:
        return texts_of_stack(there[options.stack], options.platform)
    except (OSError, Problem, ValueError, KeyError, TypeError) as error:
        raise UnreadableError(options.stack, f"{type(error).__name__}: {error}") from error


def as_lines(name: str, found: Sequence[pins.Contradiction], language: str) -> list[str]:
    """The report for people: each finding with its fix below it, then the sum."""
    lines = []
    for one in found:
        said = one.say(language)
        lines += [f"{said['id']}: {said['message']}", f"    {said['fix']}"]
    counts = {kind: sum(one.kind == kind for one in found) for kind in pins.KINDS}
    faults, none = ENDS[language]
    return [*lines, faults.format(**counts) if wrong(found) else none.format(what=name)]


def wrong(found: Sequence[pins.Contradiction]) -> bool:
    """Whether there is more than notes."""
    return any(one.kind != pins.NOTE for one in found)


def as_json(results: Mapping[str, Sequence[pins.Contradiction]], language: str) -> str:
    """The report for programs."""
    rows = [
        {"text": name, "kind": one.kind, **one.say(language), "ways_out": one.ways_out(language)}
        for name, found in results.items()
        for one in found
    ]
    whole = {"format": 1, "ok": not any(map(wrong, results.values())), "findings": rows}
    return json.dumps(whole, indent=2, ensure_ascii=False)


def models(env: Path) -> dict[str, str]:
    """The catalogue's models, by each name that people know them by, in lower case."""
    rows = yaml.safe_load((env / "catalog" / "models.yml").read_text(encoding="utf-8"))
    names = {
        row["name"]: [row["name"], row.get("repository", row["name"]), *row.get("also_known_as", [])] for row in rows
    }
    return {name.lower(): model for model, others in names.items() for name in others}


def python_version(text: str) -> str:
    """A Python version as argparse wants it."""
    if not re.fullmatch(r"3\.\d{1,2}(\.\d{1,2})?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a Python version; expected one like 3.11")
    return text


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; argparse ends the program with status 2 when it is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="a requirements text")
    parser.add_argument("--stack", metavar="NAME", help=f"the locks of a stack: {', '.join(stacks(ENV))}")
    parser.add_argument("--python", type=python_version, help=f"the stack's own, else {DEFAULT_PYTHON}")
    parser.add_argument("--platform", choices=list(pins.PLATFORMS), default="linux-64")
    parser.add_argument("--model", default="", help="the model that is to run there, such as chatglm2-6b")
    parser.add_argument("--language", choices=pins.LANGUAGES, default="en")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(argv)
    if bool(options.file) == bool(options.stack):
        parser.error("give either a FILE or --stack NAME")
    known = models(ENV) if options.model else {}
    if options.model and options.model.lower() not in known:
        parser.error(
            f"no model {options.model!r} in env/catalog/models.yml; it has {', '.join(sorted(set(known.values())))}"
        )
    options.model = known.get(options.model.lower(), "")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return the exit status (0 no contradiction, 1 some, 2 wrong use)."""
    options = arguments(argv)
    try:
        metadata = pins.load(ENV)
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        print(
            f"LW-PINS-008: env/catalog/metadata.yml and known.yml cannot be read ({type(error).__name__}: {error}). "
            "Take them from the repository again; `python env/metadata.py` makes the first anew.",
            file=sys.stderr,
        )
        return 2
    try:
        texts = texts_of(options)
    except UnreadableError as error:
        values = {"file": error.name, "reason": error.reason, "stacks": list(stacks(ENV))}
        said = pins.found(metadata.rule("file"), values).say(options.language)
        print(f"{said['id']}: {said['message']}\n    {said['fix']}", file=sys.stderr)
        return 2
    results = {
        text.name: pins.find(
            text.pins,
            metadata,
            options.python or text.python or DEFAULT_PYTHON,
            options.platform,
            model=options.model,
        )
        for text in texts
    }
    if options.json:
        print(as_json(results, options.language))
    else:
        for name, found in results.items():
            print("\n".join(as_lines(name, found, options.language)))
    return 1 if any(map(wrong, results.values())) else 0


if __name__ == "__main__":
    sys.exit(main())
