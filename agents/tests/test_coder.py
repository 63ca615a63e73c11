"""The coder from outside: writer, executor and critic take turns until the tests pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripted import Lab

WRONG = "So:\n\n```python\ndef double(x):\n    return x + 2\n```"
RIGHT = "Now:\n\n```python\ndef double(x):\n    return x * 2\n```"
REMARK = "It adds where it should multiply."
TESTS = "from solution import double\n\n\ndef test_it():\n    assert double(2) == 4\n    assert double(5) == 10\n"


@pytest.fixture
def tests(lab: Lab) -> Path:
    """A file of tests."""
    path = lab.folder / "given.py"
    path.write_text(TESTS, encoding="utf-8")
    return path


def test_the_group_works_until_the_tests_pass(lab: Lab, tests: Path) -> None:
    endpoint = lab.endpoint(WRONG, REMARK, RIGHT)
    status, said = lab.ask("coder", "--tests", str(tests), task="Write double(x).")
    assert (status, said["verdict"], said["passed"]) == (0, "answered", True)
    assert [one["exit_code"] for one in said["executions"]] == [1, 0]
    assert said["code"] == "def double(x):\n    return x * 2"
    assert said["output"] == "1 test passed\n"
    assert [m["name"] for m in said["messages"]] == ["executor", "writer", "executor", "critic", "writer", "executor"]
    writer, critic, again = (request["messages"] for request in endpoint.requests)
    assert [one["role"] for one in writer] == ["system", "user"]
    assert TESTS.strip() in writer[1]["content"]
    # The critic sees all of it as one message, the writer its own words as its own: models know turns of two only.
    assert [one["role"] for one in critic] == ["system", "user"]
    assert "assert double(5) == 10" in critic[1]["content"]
    assert [one["role"] for one in again] == ["system", "user", "assistant", "user"]
    assert REMARK in again[3]["content"]
    assert (Path(said["work_dir"]) / "solution.py").is_file()


def test_in_chinese(lab: Lab, tests: Path) -> None:
    endpoint = lab.endpoint(WRONG, "应当用乘法。", RIGHT)
    status, said = lab.ask("coder", "--tests", "-", task="写一个函数 double(x)，返回两倍。", stdin=TESTS)
    assert (status, said["verdict"]) == (0, "answered")
    assert "评审" in endpoint.requests[1]["messages"][0]["content"]


def test_a_message_without_a_program_is_not_run(lab: Lab, tests: Path) -> None:
    endpoint = lab.endpoint("Shall I?", RIGHT)
    assert lab.ask("coder", "--tests", str(tests))[0] == 0
    assert endpoint.requests[1]["messages"][-1]["content"].startswith("Send the whole program")


def test_a_program_that_ends_early_has_not_passed(lab: Lab, tests: Path) -> None:
    ends = "```python\nimport os, sys\ndef double(x):\n    os._exit(0)\n```"
    lab.endpoint(ends, "No.", "```python\nraise SystemExit(0)\n```", "No.", RIGHT)
    said = lab.ask("coder", "--tests", str(tests))[1]
    assert [one["exit_code"] for one in said["executions"]] == [0, 1, 0]
    assert said["answers"] == 5
    assert "SystemExit" in said["executions"][1]["output"]


def test_a_group_that_gets_nowhere_ends_in_a_sentence(lab: Lab, tests: Path) -> None:
    lab.endpoint(WRONG, REMARK)
    status, said = lab.ask("coder", "--tests", str(tests))
    assert (status, said["verdict"]) == (1, "not finished")
    assert said["why"].startswith("LW-AGENT-035: ")


@pytest.mark.parametrize("text", [None, "x = (", "# nothing\nprint(1)\n", "def main():\n    assert 0\n"])
def test_tests_that_test_nothing_are_refused(lab: Lab, text: str | None) -> None:
    endpoint = lab.endpoint(RIGHT)
    if text is not None:
        (lab.folder / "bad.py").write_text(text)
    status, said = lab.ask("coder", "--tests", "bad.py")
    assert (status, said["id"], endpoint.requests) == (2, "LW-AGENT-021", [])


def test_without_tests_it_is_not_begun(lab: Lab) -> None:
    lab.endpoint(RIGHT)
    assert lab.ask("coder")[1]["id"] == "LW-AGENT-021"


def test_tests_as_windows_writes_them(lab: Lab) -> None:
    (lab.folder / "given.py").write_bytes(b"\xef\xbb\xbf" + TESTS.replace("\n", "\r\n").encode())
    endpoint = lab.endpoint(RIGHT)
    assert lab.ask("coder", "--tests", "given.py")[0] == 0
    assert TESTS.strip() in endpoint.requests[0]["messages"][1]["content"]
