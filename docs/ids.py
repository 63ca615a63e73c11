"""Every sentence with an id that stands in code and not in a table of words: read from the code, never run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ID = re.compile(r"LW-[A-Z]+-\d+")
SAID = re.compile(r"(LW-[A-Z]+-\d+): (.+)", re.DOTALL)
SHELL = re.compile(r"""["'](LW-[A-Z]+-\d+): ((?:[^"'\\]|\\.|"\s*\\?\s*\+?\s*")+)["']""")
# Sentences that are put together where they are said, or whose id is: what they come to.
COMPOSED = {
    "LW-CONTROL-001": "{what python says of itself} was found; expected Python 3.11, 3.12 or 3.13. Install one "
    "(apt-get install python3 python3-venv), or name it: make PYTHON=/path/to/python3.12 …",
    "LW-DOCS-001": "A page of the documentation, or a link in one, is wrong; the sentence names it. Mend it, and run "
    "make docs again.",
    "LW-ENV-001": "conda could not make the environment {prefix}; its own last words stand behind the id. Mend what "
    "they name; run again.",
    "LW-ENV-002": "pip could not install a layer of the environment; its own last words stand behind the id. Mend "
    "what they name; run again.",
    "LW-FIREWALL-001": "The program nft is not on this host; expected the package nftables, which the role firewall "
    "brings. Run it again.",
    "LW-FIREWALL-003": "A user that a rule names is not on this host; expected the services' users, which the role "
    "brings. Run it again.",
    "LW-LOGS-003": "A knob of playbooks/logs.yml is out of its bounds; the sentence names them. See docs/operate.md.",
    "LW-LOGS-004": "The logs cannot be written to build/report/logs; the sentence has the system's own words.",
    "LW-PROBE-001": "What is not there as planned: each check, with what was seen and the id of its cause. See it.",
    "LW-PROBE-002": "The program ended while it was starting; its last words stand in the journal.",
    "LW-SERVICE-002": "{service} has ended and is not started again by itself; expected it to run. Why it ended: "
    "journalctl --namespace=labwright -u {service}. Mend that, then: systemctl restart {service}.",
    "LW-STATUS-002": "build/report/status.json cannot be written; the table was printed all the same.",
}
FOLDERS = (
    "plugins",
    "env",
    "agents/labwright_agents",
    "roles/*/files",
    "playbooks/files",
    "Makefile",
    "tests/lab",
    "docs",
)


def text_of(node: ast.AST | None) -> str:
    """What a string says; names of variables in braces stand for what is put in. Empty where it is none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return "{" + re.sub(r"\W+", " ", ast.unparse(node.value)).strip() + "}"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text_of(node.left) + text_of(node.right)
    if isinstance(node, ast.IfExp):
        return text_of(node.body) or text_of(node.orelse)
    if isinstance(node, ast.Tuple | ast.List):
        return " ".join(filter(None, map(text_of, node.elts)))
    if isinstance(node, ast.Call):
        return text_of(node.func.value) if isinstance(node.func, ast.Attribute) else ""
    return ""


def spelt_out(tree: ast.Module) -> ast.Module:
    """The code with words of their own put in where a sentence names a variable: what it was last set to before."""
    for function in (one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)):
        inside = list(ast.walk(function))
        set_to = sorted(
            ((one.lineno, target.id, one.value) for one in inside if isinstance(one, ast.Assign)
             for target in one.targets if isinstance(target, ast.Name)),
            key=lambda one: one[0],
        )  # fmt: skip
        for string in (one for one in inside if isinstance(one, ast.JoinedStr)):
            for at, part in enumerate(string.values):
                if isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name):
                    before = [value for line, name, value in set_to if name == part.value.id and line < part.lineno]
                    if before and is_phrase(before[-1]):
                        string.values[at] = before[-1]
    return tree


def is_phrase(node: ast.AST) -> bool:
    """Whether it is more than a word, whichever way it is chosen."""
    if isinstance(node, ast.IfExp):
        return is_phrase(node.body) and is_phrase(node.orelse)
    return len(re.sub(r"\{[^}]*\}", "", text_of(node)).split()) > 1


def of_python(text: str) -> Iterator[tuple[str, str]]:
    """Ids with their sentences: one that stands first in a string, in a call before its words, or as a key."""
    for node in ast.walk(spelt_out(ast.parse(text))):
        if (isinstance(node, ast.JoinedStr | ast.Constant | ast.BinOp)) and (found := SAID.match(text_of(node))):
            yield found[1], found[2]
        elif isinstance(node, ast.Call | ast.Tuple):
            parts = [*node.args, *(word.value for word in node.keywords)] if isinstance(node, ast.Call) else node.elts
            for at, part in enumerate(parts):
                if ID.fullmatch(text_of(part)) and isinstance(part, ast.Constant):
                    words = " ".join(filter(None, map(text_of, parts[at + 1 :])))
                    if words:
                        yield str(part.value), words
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and ID.fullmatch(str(key.value)) and text_of(value):
                    yield str(key.value), text_of(value)


def of_messages(text: str) -> Iterator[tuple[str, str]]:
    """Those of a role's messages.yml, with what Ansible puts in as {name}."""

    def strings(found: Any) -> Iterator[str]:
        if isinstance(found, str):
            yield found
        elif isinstance(found, dict | list):
            for one in found.values() if isinstance(found, dict) else found:
                yield from strings(one)

    for one in strings(yaml.safe_load(text)):
        if found := SAID.search(re.sub(r"\{\{.*?\}\}", lambda part: "{" + named(part[0]) + "}", one)):
            yield found[1], found[2]


def named(expression: str) -> str:
    """A word or two for a Jinja expression: the variable that it begins with."""
    return " ".join(re.findall(r"[a-zA-Z]\w*", expression)[:1]).strip("_").replace("_", " ") or "value"


def every(root: Path) -> dict[str, list[str]]:
    """Each id with its sentences, in the order of files."""
    found: dict[str, list[str]] = {}
    for folder in FOLDERS:
        for top in sorted(root.glob(folder)):
            for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
                if path.suffix == ".py":
                    pairs = of_python(path.read_text(encoding="utf-8"))
                elif path.suffix in (".sh", ".ps1") or path.name in ("Makefile", "podman"):
                    pairs = ((one[1], one[2]) for one in SHELL.finditer(path.read_text(encoding="utf-8")))
                else:
                    continue
                for identifier, words in pairs:
                    add(found, identifier, words)
    for path in sorted(root.glob("roles/*/vars/messages.yml")):
        for identifier, words in of_messages(path.read_text(encoding="utf-8")):
            add(found, identifier, words)
    for identifier, words in COMPOSED.items():
        add(found, identifier, words)
    return {identifier: whole(said) for identifier, said in found.items() if whole(said)}


def whole(said: list[str]) -> list[str]:
    """The sentences that are ones: no lists of ids, no beginnings of others."""
    return [
        one
        for one in said
        if " " in ID.sub("", one).strip() and not any(other != one and other.startswith(one) for other in said)
    ]


def add(found: dict[str, list[str]], identifier: str, words: str) -> None:
    """Note a sentence once."""
    words = re.sub(r'"\s*\\?\s*\+?\s*"', "", " ".join(words.split()))
    if words not in (said := found.setdefault(identifier, [])):
        said.append(words)
