"""The batch from outside: every task one result, whatever happens to the batch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from scripted import CODE, DONE, Lab, by_turn, slowly

AT_ONCE = 4


def tasks(lab: Lab, rows: list[Any]) -> Path:
    """A file of tasks."""
    path = lab.folder / "tasks.jsonl"
    path.write_text(
        "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in rows), encoding="utf-8"
    )
    return path


def batch(lab: Lab, *words: str) -> tuple[int, dict[str, Any]]:
    """Run the batch to its end; exit status and what `--json` printed."""
    done = lab.run("batch", "--tasks", "tasks.jsonl", "--results", "results.jsonl", "--json", *words)
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


def results(lab: Lab) -> list[dict[str, Any]]:
    """The rows of the file of results."""
    return [json.loads(line) for line in (lab.folder / "results.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]


def test_fifty_conversations_and_a_kill_in_the_middle(lab: Lab) -> None:
    """All end, none is lost, none comes twice; never more at once than the lab holds."""
    lock, now, most = threading.Lock(), [0], [0]

    def counted(request: dict[str, Any]) -> str:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.05)
        with lock:
            now[0] -= 1
        return by_turn(CODE, DONE)(request)

    lab.endpoint(counted)
    tasks(lab, [{"id": f"t{number}", "task": f"Print {number}."} for number in range(50)])
    first = lab.start("batch", "--tasks", "tasks.jsonl", "--results", "results.jsonl")
    path, deadline = lab.folder / "results.jsonl", time.monotonic() + 120
    while time.monotonic() < deadline and (not path.exists() or path.read_bytes().count(b"\n") < 10):
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate(timeout=60)
    there = path.read_bytes()
    assert 10 <= there.count(b"\n") < 50
    path.write_bytes(there + b'{"id": "t49", "verdict": "answ')  # as a machine that lost its power leaves it
    status, said = batch(lab)
    assert (status, said["verdicts"], said["open"], said["at_once"]) == (0, {"answered": 50}, 0, AT_ONCE)
    assert sorted(row["id"] for row in results(lab)) == sorted(f"t{number}" for number in range(50))
    assert path.read_bytes().startswith(there)
    assert all((row["output"], row["answer"]) == ("42\n", DONE) for row in results(lab))
    assert 2 <= most[0] <= AT_ONCE * 2  # the endpoint still answers those of the killed batch
    status, said = batch(lab)
    assert (status, said["open"], len(results(lab))) == (0, 0, 50)


def test_sigterm_ends_the_batch_and_its_conversations(lab: Lab) -> None:
    lab.endpoint(slowly(60, DONE))
    tasks(lab, [{"task": "a"}, {"task": "b"}])
    program = lab.start("batch", "--tasks", "tasks.jsonl", "--results", "results.jsonl", "--json")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(list((lab.folder / "home/traces").glob("*"))) < 2:
        time.sleep(0.1)
    time.sleep(1)
    program.terminate()
    out, errors = program.communicate(timeout=60)
    assert program.returncode == 2
    assert errors.startswith("LW-AGENT-026: 2 of 2 tasks are still open")
    assert "LW-AGENT-034" in json.loads(out)["error"]
    assert results(lab) == []
    assert [events[-1]["kind"] for events in lab.traces()] == ["end", "end"]


def test_each_line_has_its_program_and_options(lab: Lab) -> None:
    (lab.folder / "t.py").write_text("from solution import x\nassert x == 1\n")
    lab.endpoint(
        lambda request: (
            "```python\nx = 1\n```" if "solution" in str(request["messages"]) else by_turn(CODE, DONE)(request)
        )
    )
    coder = {"id": "c", "program": "coder", "task": "Write x.", "options": {"tests": "t.py", "max_turns": 2}}
    tasks(lab, [{"id": "a", "task": "打印 42。"}, "", coder, {"task": "Print 42.", "options": {"max-turns": 1}}])
    status, said = batch(lab)
    assert (status, said["verdicts"]) == (1, {"answered": 2, "not finished": 1})
    by_id = {row["id"]: row for row in results(lab)}
    assert by_id["c"]["program"] == "coder"
    assert by_id["4"]["why"].startswith("LW-AGENT-031")


def test_a_fault_of_the_lab_is_no_result(lab: Lab) -> None:
    endpoint = lab.endpoint((400, {"message": "Only  allowed now, your model m", "code": 40301}))
    tasks(lab, [{"task": f"{number}"} for number in range(30)])
    status, said = batch(lab, "--patience", "1")
    assert (status, said["open"], said["verdicts"]) == (2, 30, {})
    assert "LW-AGENT-012" in said["error"]
    assert len(endpoint.requests) < 30  # it is given up, not asked thirty times three
    endpoint.replies = [by_turn(CODE, DONE)]
    assert batch(lab)[1]["verdicts"] == {"answered": 30}


def test_a_task_too_long_for_the_model_has_a_result_that_says_so(lab: Lab) -> None:
    lab.endpoint((400, {"message": "maximum context length is 5 tokens", "code": 40303}))
    tasks(lab, [{"task": "long"}])
    status, said = batch(lab)
    assert (status, said["verdicts"]) == (1, {"not asked": 1})
    assert results(lab)[0]["why"].startswith("LW-AGENT-016")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{", "line 2"),
        ("[]", "no `task`"),
        ({"task": " "}, "no `task`"),
        ({"task": "a", "id": "same"}, "stands twice"),
        ({"task": "a", "program": "batch"}, "no program 'batch'"),
        ({"task": "a", "options": {"max_truns": 1}}, "max-truns"),
        ({"task": "a", "options": {"max_turns": "x"}}, "invalid int value"),
        ({"task": "a", "options": {"config": "x"}}, "is the batch's"),
        ({"task": "a", "colour": 1}, "unknown: colour"),
        ({"task": "a", "options": {"max_turns": 0}}, "LW-AGENT-009: --max-turns is 0"),
        ({"task": "a", "options": {"model": "gpt-9"}}, "LW-AGENT-027: "),
        ({"task": "a", "program": "coder", "options": {"tests": "/nope.py"}}, "LW-AGENT-021: the tests /nope.py"),
        ({"task": "a", "program": "coder", "options": {"tests": "-"}}, "a batch has no standard input"),
        ({"task": "a", "program": "research"}, "LW-AGENT-022: "),
    ],
)
def test_a_wrong_line_is_named_before_anything_is_asked(lab: Lab, row: Any, words: str) -> None:
    endpoint = lab.endpoint(DONE)
    tasks(lab, [{"task": "a", "id": "same"}, row])
    status, said = batch(lab)
    assert (status, said["id"], endpoint.requests) == (2, "LW-AGENT-024", [])
    assert words in said["error"]


def quickly(lab: Lab, *words: str) -> tuple[int, dict[str, Any]]:
    """The same with pauses of a moment."""
    program = (
        "import sys\nfrom labwright_agents.__main__ import main\nfrom labwright_agents.programs import batch\n"
        "batch.PAUSES = (0.1, 0.2, 0.3)\nsys.exit(main())"
    )
    argv = lab.command("batch", "--tasks", "tasks.jsonl", "--results", "results.jsonl", "--json", *words)
    done = subprocess.run(
        [argv[0], "-c", program, *argv[3:]],
        env=lab.environment(),
        cwd=lab.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_lab_that_comes_back_finds_the_batch_waiting(lab: Lab) -> None:
    """As when a worker restarts: for minutes the API says at once that it serves no model."""
    away = [(400, {"message": "Only  allowed now, your model m", "code": 40301}), (200, {"choices": []})]
    lab.endpoint(*(away * 16), by_turn(CODE, DONE))
    tasks(lab, [{"task": f"{number}"} for number in range(6)])
    status, said = quickly(lab)
    assert (status, said["verdicts"], said["open"]) == (0, {"answered": 6}, 0)


def test_a_task_that_alone_finds_no_answer_stays_open_and_stops_no_other(lab: Lab) -> None:
    def reply(request: dict[str, Any]) -> Any:
        if "bad" in request["messages"][1]["content"]:
            return 500, {"message": "CUDA out of memory"}
        return by_turn(CODE, DONE)(request)

    endpoint = lab.endpoint(reply)
    lab.config({"base_url": endpoint.url, "max_retries": 0})
    tasks(lab, [{"task": "bad"}, *({"task": f"{number}"} for number in range(6))])
    status, said = quickly(lab)
    assert (status, said["verdicts"], said["open"]) == (2, {"answered": 6}, 1)
    assert "LW-AGENT-015" in said["error"]


def test_a_sandbox_that_is_away_is_a_fault_of_the_lab_too(lab: Lab) -> None:
    lab.endpoint(by_turn(CODE, DONE))
    tasks(lab, [{"task": "a"}, {"task": "b"}])
    box = {"kind": "docker", "memory_mib": 1, "processes": 1, "work_mib": 1, "seconds": 9}
    (lab.folder / "sandbox.json").write_text(json.dumps(box))
    status, said = batch(lab, "--patience", "1", "--at-once", "1")
    assert (status, said["verdicts"], said["open"]) == (2, {}, 2)
    assert "LW-AGENT-060" in said["error"]
    # as an earlier version wrote such an end down
    why = "LW-AGENT-060: the sandbox's keeper"
    row = {"id": "1", "task": "a", "verdict": "not finished", "why": why}
    (lab.folder / "results.jsonl").write_text(json.dumps(row) + "\n")
    (lab.folder / "sandbox.json").unlink()
    status, said = batch(lab)
    assert (status, said["verdicts"]) == (0, {"answered": 2})


def test_a_mistake_of_one_task_is_open_until_it_is_mended(lab: Lab) -> None:
    """One that shows only when the conversation begins; the others are done."""
    lab.endpoint(by_turn(CODE, "There [1].\n\nTERMINATE"))
    mistake = {"id": "r", "task": "cat", "program": "research", "options": {"documents": "papers"}}
    tasks(lab, [mistake, {"task": "a"}])
    status, said = batch(lab)
    assert (status, said["verdicts"], said["open"]) == (2, {"answered": 1}, 1)
    assert "LW-AGENT-022" in said["error"]
    (lab.folder / "papers").mkdir()
    (lab.folder / "papers/a.md").write_text("The cat.")
    lab.endpoint("There [1].\n\nTERMINATE")
    assert batch(lab)[1]["verdicts"] == {"answered": 2}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gb18030"])
def test_a_file_of_tasks_as_people_have_it(lab: Lab, encoding: str) -> None:
    row = json.dumps({"id": "1", "task": "打印\u2028四十二。"}, ensure_ascii=False)
    (lab.folder / "tasks.jsonl").write_bytes(f"{row}\r\n".encode(encoding))
    lab.endpoint(by_turn(CODE, DONE))
    assert batch(lab)[1]["verdicts"] == {"answered": 1}
    assert results(lab)[0]["task"] == "打印\u2028四十二。"


def test_a_file_without_a_task_is_a_sentence(lab: Lab) -> None:
    tasks(lab, ["", ""])
    lab.endpoint(DONE)
    status, said = batch(lab)
    assert (status, said["id"]) == (2, "LW-AGENT-024")


def test_results_of_other_tasks_are_not_taken_for_these(lab: Lab) -> None:
    lab.endpoint(DONE)
    tasks(lab, [{"task": "a"}])
    (lab.folder / "results.jsonl").write_text('{"id": "1", "task": "b", "verdict": "answered"}\n')
    assert batch(lab)[1]["id"] == "LW-AGENT-025"
    (lab.folder / "results.jsonl").write_text("a diary\n")
    assert batch(lab)[1]["id"] == "LW-AGENT-025"
    assert (lab.folder / "results.jsonl").read_text() == "a diary\n"


def test_two_batches_do_not_write_to_one_file(lab: Lab) -> None:
    endpoint = lab.endpoint(slowly(120, DONE))
    tasks(lab, [{"task": "a"}])
    program = lab.start("batch", "--tasks", "tasks.jsonl", "--results", "results.jsonl")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not endpoint.requests:
        time.sleep(0.1)
    status, said = batch(lab)
    assert (status, said["id"]) == (2, "LW-AGENT-025")
    assert "another batch" in said["error"]
    endpoint.replies = [by_turn(CODE, DONE)]
    program.kill()
    assert batch(lab)[1]["verdicts"] == {"answered": 1}  # at once, whatever the killed one's conversation waits for
    program.communicate(timeout=60)  # which ended with it: it has the same output, and this waits for both
