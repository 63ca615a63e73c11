"""The agents' pure parts: configuration, sentences, verdicts, limits, masks, traces, the index, the demo's tasks."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labwright_agents import config, errors, harness, index, limits, mask, outcome, page, running, trace
from labwright_agents.__main__ import main, modules
from labwright_agents.errors import AgentError, endpoint_fault
from labwright_agents.outcome import Execution, Message, is_end, judge
from labwright_agents.programs import assistant, coder, research
from models import rehearsal

ROOT = Path(__file__).resolve().parents[2]
KNOWN = json.loads(running.TASKS.read_text(encoding="utf-8"))
GOOD = {"base_url": "http://127.0.0.1:9527/v1", "model": "m", "api_key": "NULL"}
CODE = Message("assistant", "assistant", "So:\n```python\nprint(1)\n```")
END = Message("assistant", "assistant", "It is 1.\n\nTERMINATE")
USER = Message("user", "user_proxy", "exitcode: 0 (execution succeeded)\nCode output: 1\n")


def ran(code: int) -> Execution:
    return Execution("python", "print(1)", code, "1\n")


def write(folder: Path, content: Any) -> Path:
    path = folder / "OAI_CONFIG_LIST"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_key_and_retries_are_filled_in(tmp_path: Path) -> None:
    entry = {"base_url": "https://lab.example/v1/", "model": "m"}
    assert config.read_config(write(tmp_path, [entry])) == [{**entry, "api_key": "NULL", "max_retries": config.RETRIES}]


@pytest.mark.parametrize(
    ("content", "id_"),
    [
        ("not json", "LW-AGENT-002"),
        ({}, "LW-AGENT-003"),
        ([], "LW-AGENT-003"),
        (["x"], "LW-AGENT-003"),
        ([{**GOOD, "api_base": "x"}], "LW-AGENT-004"),
        ([{**GOOD, "api_type": "open_ai"}], "LW-AGENT-004"),
        ([{"model": "m"}], "LW-AGENT-005"),
        ([{**GOOD, "model": ""}], "LW-AGENT-005"),
        ([{**GOOD, "model": 3}], "LW-AGENT-005"),
        ([{**GOOD, "base_url": "http://127.0.0.1:9527"}], "LW-AGENT-006"),
        ([{**GOOD, "base_url": "127.0.0.1:9527/v1"}], "LW-AGENT-006"),
    ],
)
def test_a_wrong_configuration_is_a_sentence(tmp_path: Path, content: Any, id_: str) -> None:
    with pytest.raises(AgentError, match=f"^{id_}: "):
        config.read_config(write(tmp_path, content))


def test_a_missing_configuration_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match=r"^LW-AGENT-001: .*No such file"):
        config.read_config(tmp_path / "none.json")


def test_what_the_lab_says_beside_the_configuration(tmp_path: Path) -> None:
    path = write(tmp_path, [GOOD])
    assert config.read_lab(path) == config.Lab(1, "", "en")
    (tmp_path / "lab.json").write_text('{"at_once": 10, "authority": "/ca.crt", "language": "zh"}')
    assert config.read_lab(path) == config.Lab(10, "/ca.crt", "zh")
    for wrong in ("[]", '{"at_once": "x"}', "{"):
        (tmp_path / "lab.json").write_text(wrong)
        with pytest.raises(AgentError, match=r"^LW-AGENT-002: "):
            config.read_lab(path)


def test_the_labs_authority_is_trusted_and_its_endpoints_need_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "NO_PROXY", "no_proxy", "AUTOGEN_USE_DOCKER"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    config.prepare_environment([GOOD, {**GOOD, "base_url": "https://api2/v1"}], config.Lab(authority="/ca.crt"))
    assert os.environ["SSL_CERT_FILE"] == "/ca.crt"
    assert os.environ["NO_PROXY"] == "127.0.0.1,api2"


def test_every_sentence_is_in_both_languages_with_the_same_blanks() -> None:
    blank = re.compile(r"(?<!{){(\w+)")
    for id_, row in errors.words().items():
        assert set(row) == {"en", "zh"}, id_
        assert set(blank.findall(row["en"])) == set(blank.findall(row["zh"])), id_


SOURCES = {path: path.read_text(encoding="utf-8") for path in (ROOT / "agents/labwright_agents").rglob("*.py")}


@pytest.mark.parametrize("id_", sorted(errors.words()))
def test_every_id_is_said_by_a_program(id_: str) -> None:
    assert any(id_ in text for text in SOURCES.values())


def test_no_program_says_an_id_that_has_no_words() -> None:
    said = {id_ for text in SOURCES.values() for id_ in re.findall(r"LW-AGENT-\d{3}", text)}
    assert said <= errors.words().keys()


@pytest.mark.parametrize(
    ("status", "words", "id_", "part"),
    [
        (None, "refused", "LW-AGENT-011", "base_url"),
        (400, "Only chatglm2-6b&&gpt-3.5 allowed now, your model x", "LW-AGENT-012", "it serves: chatglm2-6b, gpt-3.5"),
        (400, "Only  allowed now, your model x", "LW-AGENT-012", "no model at present"),
        (404, "Not Found", "LW-AGENT-013", "/v1"),
        (401, "no", "LW-AGENT-014", "api_key"),
        (400, "torch.cuda.OutOfMemoryError: CUDA out of memory", "LW-AGENT-015", "quantisation"),
        (400, "This model's maximum context length is 4096 tokens.", "LW-AGENT-016", "context"),
        (500, "Internal Server Error", "LW-AGENT-017", "logs"),
    ],
)
def test_a_refusal_of_the_endpoint_is_a_sentence(status: int | None, words: str, id_: str, part: str) -> None:
    text = str(endpoint_fault(status, words, "http://h/v1", "x"))
    assert text.startswith(f"{id_}: ")
    assert part in text


@pytest.mark.parametrize(
    ("messages", "executions", "verdict"),
    [
        ([USER, CODE, USER, END], [ran(0)], "answered"),
        ([USER, CODE, USER, END], [ran(1)], "code failed"),
        ([USER, CODE, USER, CODE, USER, END], [ran(1), ran(0)], "answered"),
        ([USER, CODE, USER, CODE, USER, END], [ran(0), ran(1)], "code failed"),
        ([USER, END], [], "no code"),
        ([USER, CODE, USER], [ran(0)], "not finished"),
        ([USER, CODE], [ran(0)], "not finished"),
        ([USER], [], "not finished"),
        ([], [], "not finished"),
    ],
)
def test_the_verdict(messages: list[Message], executions: list[Execution], verdict: str) -> None:
    assert judge(messages, executions) == verdict


@given(st.lists(st.sampled_from([CODE, END, USER])), st.lists(st.integers(0, 3).map(ran)))
def test_answered_means_that_code_ran_well_and_the_model_ended(messages: list[Message], runs: list[Execution]) -> None:
    answered = judge(messages, runs) == "answered"
    assert answered == bool(messages and messages[-1] == END and runs and runs[-1].exit_code == 0)


@pytest.mark.parametrize("text", ["TERMINATE", "Done. TERMINATE\n", "**TERMINATE**", "TERMINATE."])
def test_an_end(text: str) -> None:
    assert is_end(text)


@pytest.mark.parametrize("text", [None, "", "TERMINATED early", CODE.content + "\nTERMINATE", "TERMINATE is the word."])
def test_not_an_end(text: str | None) -> None:
    assert not is_end(text)


@pytest.mark.parametrize(
    ("message", "runs"),
    [
        ("```Python\r\nprint(1)\r\n```", [("python", "print(1)")]),
        ("```python3\nx = 1\n```\n```bash\nls\n```", [("python", "x = 1"), ("bash", "ls")]),
        ("```c++\nint x;\n```\nand\n```py\nx = 1\n```", [("python", "x = 1")]),
        ('```python title="a.py"\nx = 1\n```', [("python", "x = 1")]),
        ("```\nx = 1\n```", [("python", "x = 1")]),
        ("```\nfor\n```", []),
        ("```\n2, 3, 5\n```", []),
        ("```python\nx = 1\n```\n```\ny = 2\n```", [("python", "x = 1")]),
        ("```json\n{}\n```", []),
    ],
)
def test_what_runs_of_a_message(message: str, runs: list[tuple[str, str]]) -> None:
    assert outcome.code_in(message) == runs


def conversation(path: Path | None = None, known: tuple[str, ...] = ()) -> trace.Trace:
    """A whole conversation with one run, one nudge and one source."""
    made = trace.Trace(path, "20260101-000000-00000000", known, 1000)
    made.add(
        "start", program="assistant", task="Print 1.", model="m", base_url="http://h/v1", sandbox="nowhere", limits={}
    )
    made.add("message", who="user_proxy", content="Print 1.")
    made.add("answer", who="assistant", content=CODE.content, prompt_tokens=5, completion_tokens=6, seconds=0.5)
    run = {"language": "python", "code": "print(1)", "exit_code": 0, "output": "1\n", "seconds": 0.1, "cause": ""}
    made.add("run", **run)
    made.add("message", who="user_proxy", content=USER.content)
    made.add("answer", who="assistant", content=END.content, prompt_tokens=5, completion_tokens=6, seconds=0.5)
    made.add(
        "end",
        verdict="answered",
        why="",
        seconds=1.23,
        answers=2,
        tokens=22,
        work_dir="w",
        sources=[{"number": 1, "where": "a.md:1-2", "cited": True, "text": "<b>"}],
    )
    made.close()
    return made


def test_the_transcript_for_people() -> None:
    events = conversation().events
    text = outcome.transcript(events)
    parts = [
        "Task\n  | Print 1.",
        "print(1)",
        "The code ran nowhere, exit code 0, and printed\n  | 1\n",
        "TERMINATE",
        "[1] a.md:1-2 (cited)",
        "Verdict: answered, in 1.2 s",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert text.count("Print 1.") == 1
    said = outcome.as_json(events)
    assert (said["output"], said["sandbox"], said["verdict"], said["tokens"]) == ("1\n", "nowhere", "answered", 22)


def test_a_trace_is_written_as_it_happens_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    events = conversation(path).events
    assert trace.read(path) == events
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole[:-20], encoding="utf-8")  # killed in the middle of a line
    assert trace.read(path) == events[:-1]
    assert "going on, or killed" in page.of(events[:-1])
    assert "Verdict" not in outcome.transcript(events[:-1])
    with pytest.raises(AgentError, match=r"^LW-AGENT-018"):
        trace.Trace(path, "x", (), 1)


def test_long_texts_are_cut_in_a_trace_and_secrets_masked() -> None:
    made = trace.Trace(None, "x", ("hunter2hunter2",), 300)
    event = made.add("message", who="a", content="x" * 5000 + "hunter2hunter2", more=["hunter2hunter2"])
    assert len(event["content"]) < 400
    assert event["content"].endswith("***")
    assert event["more"] == ["***"]


def test_the_oldest_conversations_go_with_their_work(tmp_path: Path) -> None:
    names = [f"2026010{day}-000000-00000000" for day in range(1, 6)]
    for name in names:
        (tmp_path / "work" / name).mkdir(parents=True)
        (tmp_path / "traces").mkdir(exist_ok=True)
        (tmp_path / "traces" / f"{name}.jsonl").write_text("x" * 100)
    assert trace.prune(tmp_path, keep=2) == []  # each may still be going on
    for name in names[:4]:
        os.utime(tmp_path / "traces" / f"{name}.jsonl", (time.time() - 9999,) * 2)
    assert trace.prune(tmp_path, keep=4) == [names[0]]
    (tmp_path / "work" / names[4] / "left").write_text("x" * 100)
    assert trace.prune(tmp_path, keep=9, most_bytes=300) == [names[2], names[1]]
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == names[3:]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://me:secret@host/", "http://***@host/"),
        ("Authorization: Bearer abcdefghijkl", "Authorization: Bearer ***"),
        ("password = 'hunter2hunter2'", "password = ***"),
        ("api_key=abc123def456", "api_key=***"),
        ("lw-0123456789abcdefghij sk-abcdefgh12", "lw-*** sk-***"),
        ("-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----", "***\n\n"),
        ('{"token": "abcd1234"}', '{"token": ***}'),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, masked: str) -> None:
    assert mask.mask(text) == masked
    assert mask.mask(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        "token = tokens.pop()",
        "password = input()",
        "secret = None",
        "LW-AGENT-001",
        'const [password, setPassword] = useState("");',
        "token = next_token(1)",
        "for token in text.split():",
    ],
)
def test_code_about_secrets_is_left_as_it_is(text: str) -> None:
    assert mask.mask(text) == text


@given(st.text(), st.text(min_size=4, alphabet=st.characters(exclude_characters="*")))
def test_a_known_secret_is_nowhere_in_what_is_written(text: str, secret: str) -> None:
    assert secret not in mask.mask(f"{text}{secret}{text}", [secret])


def test_the_page_escapes_what_it_shows() -> None:
    events = conversation().events
    events[2]["content"] = "<script>x</script>"
    text = page.of(events)
    assert "<script>" not in text
    assert "<b>" not in text
    assert "[1] a.md:1-2" in text


@given(st.text(), st.integers(10, 100))
def test_a_cut_text_is_short_and_keeps_its_ends(text: str, most: int) -> None:
    short = limits.cut(text, most)
    assert len(short) <= most + 60
    assert short == text or (short.startswith(text[:5]) and short.endswith(text[len(text) - 3 :]))


def test_a_budget_ends_when_it_is_used_up() -> None:
    budget = limits.Budget(limits.Limits(turns=2, tokens=10))
    budget.check()
    budget.answered("a", "x", 3)
    budget.check()
    budget.answered("a", "y", 3)
    with pytest.raises(limits.Stop, match="LW-AGENT-031"):
        budget.check()
    budget = limits.Budget(limits.Limits(tokens=10))
    budget.answered("a", "x", 12)
    with pytest.raises(limits.Stop, match="LW-AGENT-032"):
        budget.check()
    with pytest.raises(limits.Stop, match="LW-AGENT-033"):
        limits.Budget(limits.Limits(seconds=0)).check()


def folder_of(tmp_path: Path, **texts: str) -> Path:
    folder = tmp_path / "documents"
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    return folder


@given(st.text(alphabet=st.sampled_from("ab \n#中文.")))
def test_passages_hold_every_line_that_is_not_empty_once(text: str) -> None:
    lines = text.splitlines()
    found = list(index.passages("a.md", text))
    covered = [number for one in found for number in range(one.first, one.last + 1)]
    assert covered == sorted(set(covered))
    assert {number for number, line in enumerate(lines, start=1) if line.strip()} <= set(covered)
    for one in found:
        assert one.text == "\n".join(lines[one.first - 1 : one.last])
        assert one.last - one.first < index.LINES


def test_the_index_follows_the_folder(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, one="The cat.", two="The dog barks.")
    file = tmp_path / "i/x.sqlite"
    one = index.Index(file, folder)
    assert [found.where for found in one.search("DOG", 5)] == ["two.md:1-1"]
    assert one.search("zebra", 5) == one.search("...", 5) == []
    one.close()
    (folder / "two.md").unlink()
    (folder / "one.md").write_text("The cat sleeps now.")
    again = index.Index(file, folder)
    assert again.search("dog", 5) == []
    assert [found.text for found in again.search("cat", 5)] == ["The cat sleeps now."]
    assert again.count == 1


def test_a_damaged_index_is_made_anew(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, one="The cat.")
    file = tmp_path / "x.sqlite"
    for content in (b"no database at all, but long enough to be looked at as one", b""):
        file.write_bytes(content)
        made = index.Index(file, folder)
        assert made.count == 1
        made.close()


def refused(file: Path, folder: Path) -> bool:
    """Whether a file that a person chose is refused as an index."""
    with pytest.raises(AgentError, match=r"^LW-AGENT-023: "):
        index.Index(file, folder, chosen=True)
    return True


def test_a_file_that_a_person_chose_is_never_removed(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, one="The cat.")
    file = tmp_path / "results.jsonl"
    file.write_text('{"id": "precious"}\n' * 200)
    there = file.read_bytes()
    assert refused(file, folder)
    assert file.read_bytes() == there
    other = sqlite3.connect(tmp_path / "zotero.sqlite")
    other.execute("CREATE TABLE mine (x)")
    other.commit()
    assert refused(tmp_path / "zotero.sqlite", folder)
    assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("mine",)]
    other.close()
    assert refused(tmp_path, folder)
    for _twice in range(2):
        index.Index(tmp_path / "new.sqlite", folder, chosen=True).close()


def test_an_index_of_another_version_is_made_anew_in_our_own_place(tmp_path: Path) -> None:
    file = tmp_path / "x.sqlite"
    old = sqlite3.connect(file)
    old.execute("CREATE TABLE files (path)")
    old.execute("PRAGMA user_version = 1")
    old.close()
    made = index.Index(file, folder_of(tmp_path, one="The cat."))
    assert made.count == 1
    made.close()


def test_an_index_that_another_one_writes_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "WAIT_S", 0.1)
    folder, file = folder_of(tmp_path, one="The cat."), tmp_path / "x.sqlite"
    index.Index(file, folder).close()
    number = file.stat().st_ino
    busy = sqlite3.connect(file, check_same_thread=False)
    busy.execute("BEGIN IMMEDIATE")
    busy.execute("INSERT INTO passages (path, first, last, text) VALUES ('one.md', 9, 9, 'long work')")
    timer = threading.Timer(1, busy.commit)
    timer.start()
    made = index.Index(file, folder)
    timer.join()
    assert (file.stat().st_ino, made.count) == (number, 2)
    made.close()
    busy.close()


def test_what_was_read_when_the_time_is_over_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, file = folder_of(tmp_path, a="The cat.", b="The dog.", c="The cow."), tmp_path / "x.sqlite"
    read = index.read
    seen: list[str] = []

    def slow(path: Path, name: str) -> list[index.Passage]:
        if name == "c.md" and len(seen) < 3:
            seen.append(name)
            raise limits.Stop("LW-AGENT-033", seconds=1)
        seen.append(name)
        return read(path, name)

    monkeypatch.setattr(index, "COMMIT_S", 0)
    monkeypatch.setattr(index, "read", slow)
    with pytest.raises(limits.Stop):
        index.Index(file, folder)
    made = index.Index(file, folder)
    assert made.count == 3
    assert seen == ["a.md", "b.md", "c.md", "c.md"]
    made.close()


def test_documents_are_read_as_people_have_them(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, a="")
    words = "接口监听的端口是 9527。"
    for name, data in {
        "gb.txt": words.encode("gb18030"),
        "utf16.txt": words.encode("utf-16"),
        "mark.txt": words.encode("utf-8-sig"),
        "bytes.txt": b"\xff\xff\xff",
    }.items():
        (folder / name).write_bytes(data)
    for _twice in range(2):  # what is left out is said each time
        made = index.Index(tmp_path / "x.sqlite", folder)
        assert sorted(one.path for one in made.search("端口", 9)) == ["gb.txt", "mark.txt", "utf16.txt"]
        assert {one.text for one in made.search("端口", 9)} == {words}
        assert made.skipped == ["a.md: no text in it", "bytes.txt: its text is neither UTF-8 nor UTF-16 nor GB 18030"]
        made.close()


def test_names_in_another_encoding_and_links_out_of_the_folder(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, one="The cat.")
    (folder / os.fsdecode("文.txt".encode("gb18030"))).write_text("The dog.")
    (tmp_path / "secret.txt").write_text("The cow.")
    (folder / "out.txt").symlink_to("../secret.txt")
    (folder / "in.txt").symlink_to("one.md")
    made = index.Index(tmp_path / "x.sqlite", folder)
    assert sorted(one.path for one in made.search("cat dog cow", 9)) == ["in.txt", "one.md", "文.txt"]
    assert made.skipped == ["out.txt: a link out of the folder"]
    made.close()


def test_what_was_left_out_is_on_the_page_and_in_the_transcript() -> None:
    events = conversation().events
    events[-1]["skipped"] = ["<a>.pdf: no text in it"]
    assert "Left out: <a>.pdf: no text in it" in outcome.transcript(events)
    assert "&lt;a&gt;.pdf: no text in it" in page.of(events)


def test_chinese_is_found_by_pairs_and_no_word_breaks_the_query(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, one="网关监听端口，使用证书。", two='He said "NEAR(x" AND OR.')
    made = index.Index(tmp_path / "x.sqlite", folder)
    assert [found.path for found in made.search("证书", 5)] == ["one.md"]
    assert [found.path for found in made.search('"NEAR( AND OR', 5)] == ["two.md"]


def assistant_tasks() -> list[dict[str, Any]]:
    return running.examples("assistant")


@pytest.mark.parametrize("task", assistant_tasks(), ids=lambda task: task["id"])
def test_the_code_that_the_demo_model_learns_is_right(task: dict[str, Any], tmp_path: Path) -> None:
    code = "\n".join(task["code"])
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert re.fullmatch(task["output"], done.stdout)
    # AutoGen takes a comment in the first line for a file name.
    assert not code.startswith("#")


@pytest.mark.parametrize("task", KNOWN["tasks"], ids=lambda task: task["id"])
def test_no_answer_holds_what_fastchat_would_change(task: dict[str, Any]) -> None:
    learnt = [one.answer for one in rehearsal.rehearse([task])]
    for text in [*learnt, *KNOWN["failed"].values(), *KNOWN["unknown"].values()]:
        assert "###" not in text
        assert not re.search(r" [.?!,]| ' | n't| '(m|s|ve|re)\b", text)


def test_tasks_are_named_once_and_in_both_languages() -> None:
    ids = [task["id"] for task in KNOWN["tasks"]]
    assert len(ids) == len(set(ids)) >= 6
    for program in rehearsal.REHEARSALS:
        assert {task["language"] for task in running.examples(program)} == {"en", "zh"}


@pytest.mark.parametrize("task", running.examples("coder"), ids=lambda task: task["id"])
def test_each_program_of_a_coder_is_wrong_but_the_last(task: dict[str, Any]) -> None:
    tests = "\n".join(task["tests"])
    passed = [coder.attempt(rehearsal.run, "\n".join(one["code"]), tests)[0] for one in task["attempts"]]
    assert passed == [False] * (len(passed) - 1) + [True]


@pytest.mark.parametrize("task", running.examples("research"), ids=lambda task: task["id"])
def test_an_answer_from_documents_cites_what_was_shown(task: dict[str, Any]) -> None:
    """Where the last answer points is where the passage stands, and there it says so."""
    last = rehearsal.rehearse([task])[-1]
    shown = dict(re.findall(r"^\[(\d+)\] (\S+)$", "\n".join(last.messages), re.MULTILINE))
    assert [shown[number] for number in research.CITED.findall(last.answer)] == task["cites"]


def test_the_assistant_says_what_the_demos_model_has_learnt() -> None:
    assert KNOWN["system"] == assistant.SYSTEM


def under_test(program: str, tests: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The tests run as the sandbox runs them."""
    call = f"\n\nsys.exit(main({program!r}, {tests!r}, 'the word') != 0)\n"
    source = Path(harness.__file__).read_text(encoding="utf-8") + call
    return subprocess.run([sys.executable, "-c", source], cwd=folder, capture_output=True, text=True, check=False)


ZERO, GOOD_TRIPLE, TRIPLE = "def triple(x): return 0", "def triple(x): return 3 * x", "from solution import triple\n"
PYTEST = """class TestIt:
    def setup_method(self, method):
        self.x = 2

    def test_a(self):
        assert triple(self.x) == 6
    def test_b(self):
        assert method_free(self)
def method_free(one):
    return one.x == 2
"""
UNITTEST = """class T(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.x = 2
    def test_a(self):
        self.assertEqual(triple(self.x), 6)
    def test_b(self):
        for one in range(2):
            with self.subTest(one):
                self.assertEqual(triple(one), one * 3)
    @unittest.skip("later")
    def test_c(self):
        self.fail()
    @unittest.expectedFailure
    def test_d(self):
        self.fail()
"""


@pytest.mark.parametrize(
    ("program", "tests", "said"),
    [
        ("x = 1", "from solution import x\nassert x == 1", "1 test passed\nthe word\n"),
        ("x = (", "assert True", "The program itself failed.\nSyntaxError"),
        ("raise SystemExit(0)", "assert True", "The program itself failed.\nSystemExit: 0"),
        ("x = 1", "import solution\nassert solution.x == 2", "FAILED the file: AssertionError, at tests.py line 2"),
        ("def f(): print('the word')", "from solution import f\ndef test_a():\n    f()\n    assert 0", "FAILED test_a"),
        (
            "",
            "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        self.assertEqual(1, 2)",
            "FAILED T.test_a: AssertionError: 1 != 2",
        ),
        (
            ZERO,
            f"{TRIPLE}class TestIt:\n    def test_a(self):\n        assert triple(2) == 6",
            "FAILED TestIt.test_a: Assert",
        ),
        (ZERO, f"{TRIPLE}async def test_a():\n    assert triple(2) == 6", "FAILED test_a: AssertionError, at tests.py"),
        (ZERO, f"{TRIPLE}def test_a():\n    yield triple(2) == 6", "FAILED test_a: TypeError: a test that yields"),
        (
            ZERO,
            f"{TRIPLE}def main():\n    assert 0\nif __name__ == '__main__':\n    main()",
            "FAILED the file: no test in it",
        ),
        (ZERO, f"{TRIPLE}def main():\n    assert triple(2) == 6\nmain()", "FAILED the file: AssertionError"),
        (GOOD_TRIPLE, f"{TRIPLE}def main():\n    assert triple(2) == 6\nmain()", "1 test passed"),
        (GOOD_TRIPLE, f"{TRIPLE}async def test_a():\n    assert triple(2) == 6", "1 test passed\nthe word"),
        (GOOD_TRIPLE, f"{TRIPLE}{PYTEST}", "2 tests passed\nthe word"),
        (
            ZERO,
            f"{TRIPLE}{PYTEST}",
            "FAILED TestIt.test_a: AssertionError, at tests.py line 7: assert triple(self.x) == 6",
        ),
        (GOOD_TRIPLE, f"import unittest\n{TRIPLE}{UNITTEST}", "2 tests passed\nthe word"),
        (ZERO, f"import unittest\n{TRIPLE}{UNITTEST}", "FAILED T.test_a: AssertionError: 0 != 6, at tests.py line 8"),
        (
            ZERO,
            f"import unittest\n{TRIPLE}class T(unittest.TestCase):\n    async def test_a(self): assert triple(2) == 6",
            "FAILED T.test_a: TypeError: an async test",
        ),
        (
            ZERO,
            f"import unittest\n{TRIPLE}class test_it(unittest.TestCase):\n    def test_a(self): assert triple(2) == 6",
            "FAILED test_it.test_a: AssertionError",
        ),
        (
            "",
            "import unittest\n@unittest.skip('x')\nclass T(unittest.TestCase):\n    def test_a(self): 0",
            "FAILED the file: no",
        ),
        (
            "import __main__\n__main__.cases = lambda module: []\nx = 1",
            "import solution\ndef test_a():\n    assert 0",
            "FAILED",
        ),
    ],
)
def test_tests_are_run_and_told(program: str, tests: str, said: str, tmp_path: Path) -> None:
    done = under_test(program, tests, tmp_path)
    assert done.stdout.startswith(said), done.stdout + done.stderr
    assert (done.returncode == 0) == ("passed" in said)


@pytest.mark.parametrize(
    ("tests", "something"),
    [
        ("def test_a(): pass", True),
        ("async def test_a(): pass", True),
        ("test_a = print", True),
        ("class TestA:\n    def test_a(self): pass", True),
        ("class A(Base):\n    def testA(self): pass", True),
        ("for one in range(3):\n    assert one", True),
        ("def check():\n    assert 0\ncheck()", True),
        ("if 1 != 1:\n    raise ValueError", True),
        ("class A:\n    def test_a(self): pass", False),
        ("class TestA:\n    x = 1", False),
        ("def check():\n    assert 0", False),
        ("def main():\n    assert 0\nif __name__ == '__main__':\n    main()", False),
        ("print(1)", False),
    ],
)
def test_a_file_that_tests_nothing_is_known(tests: str, something: bool) -> None:
    assert harness.tests_something(tests) == something


def test_the_code_of_all_blocks_is_taken_and_no_other_text() -> None:
    assert coder.code_of("a\n```python\nx\n```\nb\n```sh\nrm\n```\n```\ny\n```") == "x\n\ny"


def test_tasks_are_listed_and_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["assistant", "--list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len({row["id"] for row in rows}) == len(rows) == len(assistant_tasks())
    assert main(["assistant", "--list"]) == 0
    assert "Print the first 10 prime numbers." in capsys.readouterr().out
    with pytest.raises(AgentError, match=r"LW-AGENT-010.*primes"):
        running.find(assistant_tasks(), "none")


def test_every_program_says_what_it_is() -> None:
    for name, module in modules().items():
        assert module.SUMMARY.endswith("."), name
        assert hasattr(module, "run") or (hasattr(module, "talk") and hasattr(module, "judge")), name


@pytest.mark.parametrize(
    ("words", "id_"),
    [
        (["--task", " "], "LW-AGENT-007"),
        (["--task", "x"], "LW-AGENT-008"),
        (["--example", "none"], "LW-AGENT-010"),
    ],
)
def test_a_wrong_command_line_is_a_sentence(words: list[str], id_: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["assistant", *words, "--json"]) == 2
    told = capsys.readouterr()
    assert told.err.startswith(f"{id_}: ")
    assert json.loads(told.out)["verdict"] == "not asked"


def test_settings_of_a_sandbox_that_cannot_be_read_are_a_sentence(tmp_path: Path) -> None:
    from labwright_agents import sandbox

    assert sandbox.read(tmp_path / "none.json").kind == "local"
    (tmp_path / "sandbox.json").write_text('{"kind": "magic"}')
    with pytest.raises(AgentError, match=r"^LW-AGENT-050: .*magic"):
        sandbox.read(tmp_path / "sandbox.json")
