"""A file of tasks in, a file of results out, several conversations at once, up to what the lab holds.

Each conversation is a process of its own. Its result is appended as one line and on disk before the next thing happens,
by this process alone, which holds a lock on the file. So a batch that is killed has whole results only, and the same
command started again does the rest: a result that is there is not asked again, one that is not is.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, BinaryIO

from labwright_agents.config import Lab, of_model, read_config, read_lab
from labwright_agents.errors import AgentError
from labwright_agents.outcome import as_json
from labwright_agents.running import hold, limits_of, not_asked, places
from labwright_agents.texts import decoded, visible, whole

SUMMARY = "Do a file of tasks, several at once, and write a file of results; start it again to go on where it ended."
# Faults of the lab, not of a task, and ends from outside: such a conversation has no result, and is held again.
OPEN = {f"LW-AGENT-{number:03}" for number in (1, 2, 3, 11, 12, 13, 14, 15, 17, 18, 20, 34, 38, 39, 50, 60, 69)}
# The only refusal of a question that is its result: the model cannot take it. Others are mistakes that can be mended.
TOO_LONG = "LW-AGENT-016"
TRIES = 3  # of a task that fails while others do not
# Seconds without a new conversation when as many as are held at once failed one after the other, and so many again.
PAUSES = (5, 30, 120)
PATIENCE = 600
OURS = ("help", "list", "json", "task", "example", "config", "home", "program")
SHORT = ("conversation", "model", "base_url", "sandbox", "code", "output", "exit_code", "verdict", "why", "seconds")


class Strict(argparse.ArgumentParser):
    """A command line that came from a file: what is wrong with it is said of the file."""

    def error(self, message: str) -> Any:
        """Raise instead of ending the program."""
        raise ValueError(message)


@dataclass
class Job:
    """A task with its program and options, and how often it was tried."""

    id: str
    task: str
    program: str
    options: argparse.Namespace
    tries: int = 0
    before: int = 0  # results that there were when it failed first


@dataclass
class Work:
    """What goes on: conversations by the pipe that their result comes through, what waits, and what went wrong."""

    waiting: deque[Job]
    at_once: int
    patience: float
    running: dict[Connection, tuple[Job, Any]] = field(default_factory=dict)
    results: int = 0
    failures: int = 0  # of the lab, one after the other,
    since: float = 0.0  # the first of them, and
    pause: float = 0.0  # until when nothing is begun after them
    reason: str = ""  # of the last one
    given_up: bool = False
    stopped: str = ""

    def ready(self, now: float) -> bool:
        """Whether a conversation may begin."""
        return bool(self.waiting) and len(self.running) < self.at_once and now >= self.pause

    def failed(self, job: Job, why: str, now: float, *, lab: bool) -> bool:
        """Note that a conversation has no result, by the lab's fault or its own; return whether it is held again."""
        self.reason = why
        job.tries += 1
        job.before = self.results if job.tries == 1 else job.before
        if lab:
            self.since = self.since if self.failures else now
            self.failures += 1
            if rounds := self.failures // self.at_once:
                self.pause = now + PAUSES[min(rounds, len(PAUSES)) - 1]
                if now - self.since > self.patience:
                    self.given_up = True
                    self.waiting.clear()
        # While nobody gets a result, a try says nothing of the task.
        again = job.tries < TRIES or (lab and self.results == job.before)
        if again and not self.stopped and not self.given_up:
            self.waiting.append(job)
            return True
        return False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which files, and how many at once."""
    parser.add_argument(
        "--tasks", type=Path, required=True, metavar="FILE", help="JSON lines: task, id, program, options"
    )
    parser.add_argument("--results", type=Path, required=True, metavar="FILE", help="JSON lines; what is there stays")
    parser.add_argument("--at-once", type=int, metavar="N", help="conversations at once; by default what the lab holds")
    parser.add_argument(
        "--patience",
        type=int,
        default=PATIENCE,
        metavar="SECONDS",
        help=f"without any result, until a lab that does not play its part is given up ({PATIENCE})",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    places(parser)


def run(options: argparse.Namespace) -> int:
    """Do the batch: 0 all answered, 1 all have a result, 2 some are open."""
    lab, start = Lab(), time.monotonic()
    try:
        if options.config is None:
            raise AgentError("LW-AGENT-008")
        read_config(options.config)
        lab = read_lab(options.config)
        at_once = options.at_once if options.at_once is not None else lab.at_once
        for option, found in (("--at-once", at_once), ("--patience", options.patience)):
            if found < 1:
                raise AgentError("LW-AGENT-009", option=option, found=found, least=1)
        jobs = read_jobs(options)
        from labwright_agents.conversation import needs_autogen

        needs_autogen()  # before the processes part, so that they share it
        with results(options.results, jobs) as (file, done):
            work = Work(deque(job for job in jobs if job.id not in done), at_once, options.patience)
            go_on(work, file, done, lab, options)
    except AgentError as error:
        print(error.say(lab.language), file=sys.stderr)
        if options.json:
            print(json.dumps(not_asked(str(options.tasks), error), ensure_ascii=False))
        return 2
    verdicts = Counter(done[job.id] for job in jobs if job.id in done)
    missing = len(jobs) - sum(verdicts.values())
    said = {
        "tasks": len(jobs),
        "verdicts": dict(sorted(verdicts.items())),
        "open": missing,
        "at_once": at_once,
        "seconds": round(time.monotonic() - start, 3),
        "results": str(options.results),
    }
    if missing:
        why = work.stopped or work.reason
        sentence = AgentError("LW-AGENT-026", open=missing, all=len(jobs), error=why, path=options.results)
        said["error"] = str(sentence)
        print(sentence.say(lab.language), file=sys.stderr)
    words = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
    text = f"{len(jobs)} tasks, {at_once} at once, {said['seconds']:.1f} s: {words or 'no result'}, {missing} open\n"
    print(json.dumps(said, ensure_ascii=False) if options.json else text, end="\n" if options.json else "")
    return 2 if missing else 0 if set(verdicts) <= {"answered"} else 1


def read_jobs(options: argparse.Namespace) -> list[Job]:
    """Every task of the file, judged before anything is asked."""
    from labwright_agents.__main__ import commands

    parser = Strict(add_help=False)
    programs = {name: module for name, module in commands(parser).items() if not hasattr(module, "run")}
    entries = read_config(options.config)
    try:
        lines = decoded(options.tasks.read_bytes()).split("\n")
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise AgentError("LW-AGENT-024", path=options.tasks, line=0, error=said) from error
    jobs: dict[str, Job] = {}
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            job = one_job(json.loads(text), number, options, parser, programs, entries)
            if job.id in jobs:
                raise ValueError(f"the id {job.id!r} stands twice")
        except (ValueError, TypeError, AgentError) as error:
            raise AgentError("LW-AGENT-024", path=options.tasks, line=number, error=error) from error
        jobs[job.id] = job
    if not jobs:
        raise AgentError("LW-AGENT-024", path=options.tasks, line=0, error="there is no task in it")
    return list(jobs.values())


def one_job(
    row: Any,
    number: int,
    options: argparse.Namespace,
    parser: argparse.ArgumentParser,
    programs: dict[str, Any],
    entries: list[dict[str, Any]],
) -> Job:
    """One line of the file. Raises ValueError, or the AgentError that its conversation would end with at once."""
    if not isinstance(row, dict) or not isinstance(row.get("task"), str) or not row["task"].strip():
        raise ValueError("it has no `task`")
    if unknown := row.keys() - {"id", "task", "program", "options"}:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
    program = row.get("program", "assistant")
    if program not in programs:
        raise ValueError(f"there is no program {program!r}; there are {', '.join(programs)}")
    task = whole(row["task"])
    argv = [program, f"--task={task}", f"--config={options.config}"]
    argv += [f"--home={options.home}"] if options.home else []
    for name, value in dict(row.get("options", {})).items():
        if name.replace("-", "_") in OURS:
            raise ValueError(f"the option {name} is the batch's")
        argv += [f"--{name.replace('_', '-')}={one}" for one in (value if isinstance(value, list) else [value])]
    own = parser.parse_args(argv)
    limits_of(own)
    of_model(entries, own.model, options.config)
    if hasattr(programs[program], "check"):
        programs[program].check(own)
    return Job(whole(str(row.get("id", number))), task, program, own)


@contextlib.contextmanager
def results(path: Path, jobs: Sequence[Job]) -> Iterator[tuple[BinaryIO, dict[str, str]]]:
    """The file of results, for us alone, without a half line; and the verdict of each task that has one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b", buffering=0)
    except OSError as error:
        raise AgentError("LW-AGENT-025", path=path, error=error.strerror) from error
    with file:
        yield file, there(file, path, {job.id: job.task for job in jobs})


def there(file: BinaryIO, path: Path, tasks: dict[str, str]) -> dict[str, str]:
    """The verdicts that the file of results holds; a half line at its end goes."""
    try:
        lock(file, path)
        file.seek(0)
        content = file.read()
        lines = content[: content.rfind(b"\n") + 1]
        file.truncate(len(lines))
        done: dict[str, str] = {}
        for number, text in enumerate(lines.splitlines(), start=1):
            row = json.loads(text)
            if tasks.get(row["id"], row["task"]) != row["task"]:
                raise AgentError("LW-AGENT-025", path=path, error=f"line {number} is of another task {row['id']!r}")
            if is_result(row):
                done[row["id"]] = row["verdict"]
        return done
    except OSError as error:
        raise AgentError("LW-AGENT-025", path=path, error=error.strerror) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AgentError("LW-AGENT-025", path=path, error=f"it holds other things than results ({error})") from error


def is_result(row: dict[str, Any]) -> bool:
    """Whether a task is done with this, and not to be asked again."""
    id_ = row["why"].partition(":")[0] if row.get("why") else ""
    return id_ not in OPEN and (row["verdict"] != "not asked" or id_ == TOO_LONG)


def lock(file: BinaryIO, path: Path) -> None:
    """Keep others from the file for as long as it is open, or raise AgentError."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            # not flock: its lock would stay with the conversations of a killed batch
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise AgentError("LW-AGENT-025", path=path, error="another batch is writing to it") from error


def go_on(work: Work, file: BinaryIO, done: dict[str, str], lab: Lab, options: argparse.Namespace) -> None:
    """Hold conversations until there is nothing to do, a signal came, or the lab does not play its part."""

    def stop(number: int, _frame: object) -> None:
        work.stopped = work.stopped or AgentError("LW-AGENT-034", signal=signal.Signals(number).name).say(lab.language)
        work.waiting.clear()
        for _job, process in work.running.values():
            process.terminate()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    many: Any = multiprocessing.get_context("fork" if hasattr(os, "fork") else "spawn")
    try:
        while work.waiting or work.running:
            while work.ready(time.monotonic()):
                begin(work, work.waiting.popleft(), lab, many)
            if not work.running:
                time.sleep(0.2)  # a pause; a signal ends it
            for pipe in wait(list(work.running), timeout=1) if work.running else []:
                settle(work, pipe, file, done, options)  # type: ignore[arg-type]
    finally:
        for _job, process in work.running.values():
            process.terminate()
        for number, handler in before.items():
            signal.signal(number, handler)


def begin(work: Work, job: Job, lab: Lab, many: Any) -> None:
    """Start a conversation in a process of its own."""
    ours, theirs = many.Pipe(duplex=False)
    process = many.Process(target=converse, args=(job, lab, theirs))
    try:
        process.start()
    except OSError as error:  # as many processes as the host allows
        ours.close()
        work.failed(job, f"no process could be started: {error.strerror}.", time.monotonic(), lab=True)
    else:
        work.running[ours] = job, process
    finally:
        theirs.close()


def converse(job: Job, lab: Lab, pipe: Connection) -> None:
    """In a process of its own: hold the conversation and send what came of it."""
    from labwright_agents.__main__ import modules

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    threading.Thread(target=end_with_batch, daemon=True).start()
    row = {"id": job.id, "program": job.program, "task": job.task}
    try:
        events = hold(job.program, modules()[job.program], job.options, lab)
        said = as_json(events)
        answers = [one["content"] for one in events if one["kind"] == "answer"]
        more = {name: events[-1][name] for name in ("sources", "skipped") if name in events[-1]}
        row |= {name: said[name] for name in SHORT} | {"answer": answers[-1] if answers else None} | more
    except AgentError as error:
        row |= {"verdict": "not asked", "why": error.say(lab.language)}
    pipe.send(row)


def end_with_batch() -> None:
    """End this conversation, also one that waits for the model, when the batch is gone without a word."""
    if parent := multiprocessing.parent_process():
        parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def settle(work: Work, pipe: Connection, file: BinaryIO, done: dict[str, str], options: argparse.Namespace) -> None:
    """Take what a conversation sent, and write it down if it is a result; else it is held again, a few times."""
    job, process = work.running.pop(pipe)
    try:
        row = pipe.recv()
    except EOFError:
        row = None
    process.join()
    pipe.close()
    why = row["why"] if row else f"its process ended with status {process.exitcode}."
    if row and is_result(row):
        append(file, row, options.results)
        done[job.id] = row["verdict"]
        work.results, work.failures = work.results + 1, 0
        tell(f"{len(done):>6}  {row['verdict']:<12}  {job.id}  {why}", options)
    elif row and row["verdict"] == "not asked" and why.partition(":")[0] not in OPEN:
        work.reason = why  # a mistake in the task, which no other try mends
        tell(f"{'-':>6}  {'open':<12}  {job.id}  {why}", options)
    elif not work.failed(job, why, time.monotonic(), lab=bool(row) and not why.startswith("LW-AGENT-039")):
        tell(f"{'-':>6}  {'open':<12}  {job.id}  {why}", options)


def tell(line: str, options: argparse.Namespace) -> None:
    """Print a line for the person who waits."""
    if not options.json:
        print(visible(line.rstrip()), flush=True)


def append(file: BinaryIO, row: dict[str, Any], path: Path) -> None:
    """One more result, whole and on disk, or none."""
    line = (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "replace")
    end = file.seek(0, os.SEEK_END)
    try:
        written = file.write(line)
        if written != len(line):
            raise OSError(28, "no space left for a whole line")
        os.fsync(file.fileno())
    except OSError as error:
        file.truncate(end)
        raise AgentError("LW-AGENT-025", path=path, error=error.strerror) from error
