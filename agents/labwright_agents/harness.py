"""Run tests against a solution, in the sandbox: this file is sent there as it stands, with a call of `main` at its end.

Standard library of Python 3.9 or newer, and nothing of this package. What it prints is the same each time: it is what
the model is told. Exit status 0 and `word` on the last line mean that every test passed; `word` is one that the
solution cannot have guessed, so that a solution that ends the program early has not passed.
"""

from __future__ import annotations

import io
import sys
import traceback
import types
import unittest
from pathlib import Path


def load(name: str, text: str) -> types.ModuleType:
    """A module from its text, which is also left in a file of its name."""
    path = Path(name + ".py")
    path.write_text(text, encoding="utf-8")
    module = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    exec(compile(text, path.name, "exec"), module.__dict__)  # noqa: S102
    return module


def place(error: BaseException, name: str, text: str) -> str:
    """The error in one line, with the line of the file where it came up."""
    lines = [row.lineno for row in traceback.extract_tb(error.__traceback__) if row.filename == name]
    words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, SyntaxError) and error.filename == name:
        lines = [error.lineno]
    if not lines or not lines[-1]:
        return words
    return f"{words}, at {name} line {lines[-1]}: {text.splitlines()[lines[-1] - 1].strip()}"


def cases(module: types.ModuleType) -> list[tuple[str, object]]:
    """Tests by name: functions test_*, and methods of unittest's classes; in the order of the file."""
    found: list[tuple[str, object]] = []
    for name, value in vars(module).items():
        if name.startswith("test_") and callable(value):
            found.append((name, value))
        elif isinstance(value, type) and issubclass(value, unittest.TestCase) and value.__module__ == module.__name__:
            for method in unittest.defaultTestLoader.getTestCaseNames(value):
                found.append((f"{name}.{method}", value(method).debug))
    return found


def main(solution: str, tests: str, word: str) -> int:
    """Load both, run each test, print what failed; return how many did."""
    said, out = [], sys.stdout
    try:
        load("solution", solution)
    except BaseException as error:  # also SystemExit: a solution must not end the program
        print("The program itself failed.", place(error, "solution.py", solution), sep="\n")
        return 1
    sys.stdout = io.StringIO()  # what the solution prints while it is tested is not the tests' result
    try:
        module = load("tests", tests)
        found = cases(module) or [("the file", lambda: None)]
    except BaseException as error:
        found, said = [], [f"FAILED the file: {place(error, 'tests.py', tests)}"]
    for name, case in found:
        try:
            case()  # type: ignore[operator]
        except BaseException as error:
            said.append(f"FAILED {name}: {place(error, 'tests.py', tests)}")
    sys.stdout = out
    count = max(1, len(found))
    noun = "test" if count == 1 else "tests"
    print("\n".join([*said, f"{len(said)} of {count} {noun} failed" if said else f"{count} {noun} passed"]))
    if not said:
        print(word)
    return len(said)
