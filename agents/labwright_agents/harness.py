"""Run tests against a solution, in the sandbox: this file is sent there as it stands, with a call of `main` at its end.

Standard library of Python 3.9 or newer, and nothing of this package. What it prints is the same each time: it is what
the model is told. Exit status 0 and `word` on the last line mean that every test passed; `word` is one that the
solution cannot have guessed, so that a solution that ends the program early has not passed. It is no wall: solution and
tests are one process, and a solution that goes looking for the word finds it.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import io
import sys
import traceback
import types
import unittest
from collections.abc import Callable, Iterator
from pathlib import Path

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
FAILS = (ast.Assert, ast.Raise)


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


def outside(tree: ast.AST) -> Iterator[ast.AST]:
    """What a file runs when it is loaded as a module, with its definitions but not what is in them."""
    for one in ast.iter_child_nodes(tree):
        if isinstance(one, ast.If) and "__main__" in ast.dump(one.test):
            continue
        yield one
        if not isinstance(one, DEFINITIONS):
            yield from outside(one)


def is_plain(tree: ast.AST) -> bool:
    """Whether loading the file is a test: it asserts or raises, or calls a function of its own that does."""
    parts = list(outside(tree))
    own = {
        one.name
        for one in parts
        if isinstance(one, DEFINITIONS[:2]) and any(isinstance(part, FAILS) for part in ast.walk(one))
    }
    called = {one.func.id for one in parts if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)}
    return bool(own & called) or any(isinstance(one, FAILS) for one in parts)


def is_test(one: ast.AST) -> bool:
    """Whether a part of a file is what `cases` takes for a test, as far as its text shows."""
    if isinstance(one, ast.ClassDef):
        names = [part.name for part in one.body if isinstance(part, DEFINITIONS[:2])]
        return bool(one.bases or one.name.startswith("Test")) and any(name.startswith("test") for name in names)
    if isinstance(one, ast.Name):
        return isinstance(one.ctx, ast.Store) and one.id.startswith("test_")
    return isinstance(one, DEFINITIONS[:2]) and one.name.startswith("test_")


def tests_something(text: str) -> bool:
    """Whether a file has anything that can fail a solution. Raises SyntaxError."""
    tree = ast.parse(text)
    return is_plain(tree) or any(is_test(one) for one in outside(tree))


def finished(said: object) -> None:
    """See that what a test gave back has run: a coroutine runs now, and what yields has not begun."""
    if inspect.iscoroutine(said):
        asyncio.run(said)
    elif inspect.isgenerator(said) or inspect.isasyncgen(said):
        raise TypeError("a test that yields does not run")


def of_class(kind: type, name: str) -> Callable[[], None]:
    """A method of a class as pytest knows them: on an instance of its own, between setup_method and teardown_method."""

    def step(one: object, step: str) -> None:
        method = getattr(one, step, None)
        if method:
            finished(method(*[getattr(one, name)] * len(inspect.signature(method).parameters)))

    def run() -> None:
        one = kind()
        step(one, "setup_method")
        try:
            finished(getattr(one, name)())
        finally:
            step(one, "teardown_method")

    return run


def of_unittest(case: unittest.TestCase) -> Callable[[], None]:
    """A test of unittest's, in a suite of its own, for that knows setUpClass and setUpModule."""

    def run() -> None:
        method = getattr(case, case._testMethodName)
        if inspect.iscoroutinefunction(method) and not isinstance(case, unittest.IsolatedAsyncioTestCase):
            raise TypeError("an async test does not run in a TestCase; it needs an IsolatedAsyncioTestCase")
        unittest.TestSuite([case]).debug()

    return run


def cases(module: types.ModuleType) -> list[tuple[str, Callable[[], object]]]:
    """Tests by name, in the order of the file: functions test_*, classes Test*, and unittest's classes."""
    found: list[tuple[str, Callable[[], object]]] = []
    for name, value in vars(module).items():
        if not isinstance(value, type):
            found += [(name, value)] if name.startswith("test_") and callable(value) else []
        elif value.__module__ != module.__name__:
            continue
        elif issubclass(value, unittest.TestCase):
            for method in unittest.defaultTestLoader.getTestCaseNames(value):
                if not hasattr(getattr(value, method), "__unittest_expecting_failure__"):
                    found.append((f"{name}.{method}", of_unittest(value(method))))
        elif name.startswith("Test"):
            methods = dict.fromkeys(one for base in reversed(value.__mro__) for one in vars(base))
            found += [(f"{name}.{one}", of_class(value, one)) for one in methods if one.startswith("test_")]
    return found


def main(solution: str, tests: str, word: str) -> int:
    """Load both, run each test, print what failed; return how many did."""
    out = sys.stdout
    see, find, run, plain = place, cases, finished, is_plain  # a solution may put others behind the names
    try:
        load("solution", solution)
    except BaseException as error:  # also SystemExit: a solution must not end the program
        print("The program itself failed.", see(error, "solution.py", solution), sep="\n")
        return 1
    sys.stdout = io.StringIO()  # what the solution prints while it is tested is not the tests' result
    count, wrong = 0, []
    try:
        module = load("tests", tests)
        for name, case in find(module):
            try:
                run(case())
            except unittest.SkipTest:
                continue
            except BaseException as error:
                wrong.append((name, see(error, "tests.py", tests)))
            count += 1
        if not count:
            count = int(plain(ast.parse(tests)))
            wrong = [] if count else [("the file", "no test in it ran")]
    except BaseException as error:
        wrong.append(("the file", see(error, "tests.py", tests)))
    sys.stdout = out
    count = max(count, len(wrong))
    noun = "test" if count == 1 else "tests"
    said = [f"FAILED {name}: {words}" for name, words in wrong]
    print("\n".join([*said, f"{len(said)} of {count} {noun} failed" if said else f"{count} {noun} passed"]))
    if not said:
        print(word)
    return len(said)
