"""Run what a Python command line names, as CPython does: -c, -m, a file or zip, or standard input."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence
from typing import NamedTuple

ALONE = ("I", "E", "s", "S", "B", "u", "b", "q", "O", "v", "d", "i", "P", "x")
WITH_VALUE = ("X", "W")


class Line(NamedTuple):
    """A command line taken apart: letters of options, values of -X and -W, the kind of program, it and its words."""

    flags: tuple[str, ...]
    values: tuple[str, ...]
    kind: str  # "c", "m", "file", "stdin", "version"
    program: str
    words: tuple[str, ...]


def parse(argv: Sequence[str]) -> Line:
    """Take a command line (without the interpreter) apart; raise ValueError for an option that is not known here."""
    flags: list[str] = []
    values: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word in ("-V", "--version", "-VV"):
            return Line(tuple(flags), tuple(values), "version", "", ())
        if word == "-" or not word.startswith("-"):
            kind = "stdin" if word == "-" else "file"
            return Line(tuple(flags), tuple(values), kind, word, tuple(rest))
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in ("c", "m"):
                program = letters or (rest.pop(0) if rest else "")
                return Line(tuple(flags), tuple(values), letter, program, tuple(rest))
            if letter in WITH_VALUE:
                values.append(letter + (letters or (rest.pop(0) if rest else "")))
                letters = ""
            elif letter in ALONE:
                flags.append(letter)
            else:
                raise ValueError(f"python.exe: the option -{letter} is not known to what stands in for it")
    return Line(tuple(flags), tuple(values), "stdin", "-", ())


def safe(line: Line) -> bool:
    """Whether Python leaves the working folder out of its path."""
    alone = bool({"I", "E"} & set(line.flags))
    return bool({"I", "P"} & set(line.flags)) or (not alone and bool(os.environ.get("PYTHONSAFEPATH")))


def run(line: Line) -> None:
    """Run the program; SystemExit and errors go to the caller."""
    if line.kind == "version":
        print("Python {}.{}.{}".format(*sys.version_info[:3]))
    elif line.kind == "c":
        sys.argv = ["-c", *line.words]
        if not safe(line):
            sys.path.insert(0, "")
        main = vars(sys.modules["__main__"])
        exec(compile(line.program, "<string>", "exec"), {"__name__": "__main__", "__builtins__": main["__builtins__"]})  # noqa: S102
    elif line.kind == "m":
        sys.argv = ["-m", *line.words]
        if not safe(line):
            sys.path.insert(0, "")
        runpy.run_module(line.program, run_name="__main__", alter_sys=True)
    elif line.kind == "file":
        sys.argv = [line.program, *line.words]
        runpy.run_path(line.program, run_name="__main__")
    else:
        sys.argv = ["-", *line.words]
        exec(compile(sys.stdin.read(), "<stdin>", "exec"), {"__name__": "__main__"})  # noqa: S102
