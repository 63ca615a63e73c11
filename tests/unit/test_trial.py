"""What a trial tries, when it believes an answer, and what it writes. The trial itself is run by `make trial`."""

from __future__ import annotations

import datetime
import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import trial as program
from hostkit.result import Problem
from labwright import catalog
from labwright.catalog import Catalogue, Layer

CATALOGUE = catalog.load(program.ENV, None)
LOCK = "# made from x\na-b==1 \\\n    --hash=sha256:{}\nC_d==2.0+cpu \\\n    --hash=sha256:{}\n".format(
    "0" * 64, "1" * 64
)
LAYERS = (Layer("torch", LOCK), Layer("fastchat", "e==3 --hash=sha256:" + "2" * 64))
TRIAL = program.Trial("s", "cpu", "cpu", "3.11", LAYERS, {"llama": ("labwright-demo", "zero_shot")})
ROW = {"stack": "s", "tag": "cpu", "platform": "linux-64", "device": "cpu", "digest": "0"}
RIGHT = {"chat": " a lamp", "completion": " green", "embedding": [0.6, 0.8]}
FOUND = {**RIGHT, "stream": " a lamp"}


def with_transformers(version: str) -> Catalogue:
    stack = replace(CATALOGUE.stacks["chatglm2"], transformers=version)
    return replace(CATALOGUE, stacks={"chatglm2": stack})


# ---- What is tried


@pytest.mark.parametrize(
    ("version", "families"),
    [("4.33.3", ["llama"]), ("4.40.2", ["llama", "qwen2"]), ("4.57.6", ["llama", "qwen2", "glm"])],
)
def test_the_families_are_those_whose_window_has_the_stack_s_transformers(version: str, families: list[str]) -> None:
    assert list(program.trial_of(with_transformers(version), "chatglm2", "cpu", "cpu").families) == families


def test_a_family_is_served_under_a_name_and_a_template_of_the_catalogue() -> None:
    assert program.trial_of(CATALOGUE, "chatglm2", "cpu", "cpu").families == {"llama": ("labwright-demo", "zero_shot")}


@pytest.mark.parametrize(
    ("catalogue", "stack", "tag", "said"),
    [
        (CATALOGUE, "nothing", "cpu", "nothing is no stack that serves models; expected one of chatglm2"),
        (CATALOGUE, "frontend", "cpu", "frontend is no stack that serves models"),
        (CATALOGUE, "chatglm2", "cu999", "no locks for cu999 on linux-64"),
        (with_transformers("3.0"), "chatglm2", "cpu", "outside the windows of llama, qwen2, glm"),
    ],
)
def test_where_there_is_nothing_to_try_it_says_why(catalogue: Catalogue, stack: str, tag: str, said: str) -> None:
    with pytest.raises(Problem, match=f"LW-TRIAL-001: .*{said}"):
        program.trial_of(catalogue, stack, tag, "cpu")


def test_the_digest_is_that_of_the_locks() -> None:
    joined = "".join(layer.digest for layer in LAYERS)
    assert TRIAL.digest() == hashlib.sha256(joined.encode()).hexdigest()[:12]
    same = (Layer("torch", LOCK.replace("made from x", "made from y")), LAYERS[1])
    other = (Layer("torch", LOCK.replace("0" * 64, "f" * 64)), LAYERS[1])
    assert replace(TRIAL, layers=same).digest() == TRIAL.digest()
    assert replace(TRIAL, layers=other).digest() != TRIAL.digest()


# ---- The environment


def listing(**versions: str) -> str:
    return json.dumps([{"name": name, "version": version} for name, version in versions.items()])


def test_an_environment_as_locked_has_no_differences() -> None:
    assert program.differences(LAYERS, listing(A_b="1", c_D="2.0+cpu", e="3", pip="26.0", setuptools="80")) == []


def test_every_difference_to_the_locks_is_named() -> None:
    assert program.differences(LAYERS, listing(a_b="1.1", e="3", flash_attn="2")) == [
        "a-b 1.1, locked 1",
        "c-d is missing, locked 2.0+cpu",
        "flash-attn 2, locked not at all",
    ]


def test_a_python_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"LW-TRIAL-002: no python3\.99 on PATH"):
        program.make_environment(replace(TRIAL, python="3.99"), tmp_path)


def test_an_environment_that_is_not_the_locks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"LW-TRIAL-003: the environment is not that of the locks: a-b is missing, "):
        program.check_environment(TRIAL, Path(sys.executable), tmp_path)


def test_a_python_without_torch_cannot_say_what_is_right(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"LW-TRIAL-004: [\s\S]*ModuleNotFoundError"):
        program.reference(TRIAL, Path(sys.executable), "llama", tmp_path)


# ---- The services


def test_the_services_have_the_environment_of_the_units(tmp_path: Path) -> None:
    found = program.variables(tmp_path)
    assert (found["LOGDIR"], found["HF_HUB_OFFLINE"], found["HOME"]) == ("", "1", str(tmp_path))
    assert not [value for value in found.values() if "{{" in value]


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules of a test lie where the services work, in which Python looks for none."""
    own = program.variables
    monkeypatch.setattr(program, "variables", lambda work: {**own(work), "PYTHONPATH": str(work)})


@pytest.mark.usefixtures("beside")
def test_a_service_that_ends_is_named_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dies.py").write_text("raise KeyError('factor')")
    monkeypatch.setattr(program, "MODULES", ["dies"])
    with (
        pytest.raises(Problem, match=r"LW-TRIAL-005: FastChat's dies ended with status 1[\s\S]*KeyError: 'factor'"),
        program.served(Path(sys.executable), tmp_path, "m", "zero_shot", "cpu"),
    ):
        pass


@pytest.mark.usefixtures("beside")
@pytest.mark.parametrize(("prelude", "stubborn"), [("", ""), ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", "one")])
def test_a_service_that_does_not_end_is_killed_and_named(
    prelude: str, stubborn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = "import signal, socket, time\n{}\none = socket.create_server(('127.0.0.1', int(sys.argv[4])))\n"
    (tmp_path / "one.py").write_text("import sys\n" + ready.format(prelude) + "time.sleep(60)\n")
    monkeypatch.setattr(program, "STOP_S", 1)
    service = program.Service(Path(sys.executable), tmp_path, "one", [])
    service.wait({"kind": "connect", "host": "127.0.0.1", "port": service.port})
    assert service.stop() == stubborn
    assert service.process.returncode is not None


def test_services_that_had_to_be_killed_fail_the_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program.Service, "__init__", lambda self, *_: self.__dict__.update(url="", port=0))
    monkeypatch.setattr(program.Service, "wait", lambda *_: None)
    monkeypatch.setattr(program.Service, "stop", lambda _: "controller")
    with (
        pytest.raises(Problem, match="LW-TRIAL-007: controller, controller, controller had not ended"),
        program.served(Path("python"), tmp_path, "m", "zero_shot", "cpu"),
    ):
        pass


# ---- The answers


def stream(*pieces: Any, end: str = "data: [DONE]\n\n") -> str:
    return "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces) + end


def piece(text: str | None) -> dict[str, Any]:
    return {"choices": [{"delta": {"role": "assistant"} if text is None else {"content": text}}]}


def test_a_stream_is_put_together() -> None:
    assert program.streamed(stream(piece(None), piece(" a"), piece(" lamp\u2028"), piece(None))) == " a lamp\u2028"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (stream(piece(None), piece(" a"), piece(" lamp"), end=""), "broke off after 3 pieces"),
        (stream(piece(None), piece(" a lamp")), "broke off after 3 pieces"),
        ("Internal Server Error", "broke off after 0 pieces"),
        (stream(piece(None), {"error_code": 50004}, piece(None)), "has an error in it: .*50004"),
    ],
)
def test_a_stream_that_is_none_is_a_problem(raw: str, said: str) -> None:
    with pytest.raises(Problem, match=f"LW-TRIAL-006: the stream {said}"):
        program.streamed(raw)


def test_nothing_that_listens_is_a_problem() -> None:
    with pytest.raises(Problem, match="LW-TRIAL-006: POST /v1/completions was answered with nothing listens at "):
        program.exchange(f"http://127.0.0.1:{program.free_port()}", "/v1/completions", {})


def test_right_answers_pass() -> None:
    program.compare(RIGHT, FOUND)


@pytest.mark.parametrize(
    ("expected", "found", "said"),
    [
        (RIGHT, {**FOUND, "chat": " a lamp."}, "chat says ' a lamp.'; transformers itself says ' a lamp'"),
        (RIGHT, {**FOUND, "stream": " a la"}, "stream says"),
        (RIGHT, {**FOUND, "completion": ""}, "completion says"),
        (RIGHT, {**FOUND, "embedding": [0.8, 0.6]}, "embeddings begin"),
        (RIGHT, {**FOUND, "embedding": [0.6]}, "embeddings begin"),
        (RIGHT, {**FOUND, "embedding": [0.6, float("nan")]}, "embeddings begin"),
        ({**RIGHT, "completion": ""}, {**FOUND, "completion": ""}, "completion says"),
    ],
)
def test_a_wrong_answer_is_a_problem(expected: Mapping[str, Any], found: Mapping[str, Any], said: str) -> None:
    with pytest.raises(Problem, match=f"LW-TRIAL-006: {said}"):
        program.compare(expected, found)


# ---- What is written


def test_a_row_takes_the_place_of_the_one_before_it(tmp_path: Path) -> None:
    path = tmp_path / "trials.yml"
    others = [{**ROW, "tag": "cu126"}, {**ROW, "device": "cuda"}, {**ROW, "stack": "a"}]
    for row in [ROW, *others, {**ROW, "digest": "1"}]:
        program.write(path, row)
    rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert rows == [others[2], {**ROW, "digest": "1"}, others[1], others[0]]
    assert path.read_text(encoding="utf-8").startswith(program.HEAD)


@pytest.fixture
def trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(program, "TRIALS", tmp_path / "trials.yml")
    monkeypatch.setattr(program, "make_environment", lambda _trial, folder: folder / "bin/python")
    return tmp_path / "trials.yml"


def test_a_trial_that_passes_is_written_down(trials: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "attempt", lambda trial, *_: {**ROW, "digest": trial.digest()})
    assert program.main(["chatglm2", "--date", "2026-11-22"]) == 0
    digest = program.trial_of(CATALOGUE, "chatglm2", "cpu", "cpu").digest()
    assert yaml.safe_load(trials.read_text()) == [{**ROW, "digest": digest, "date": datetime.date(2026, 11, 22)}]


def test_a_trial_that_fails_writes_nothing(
    trials: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise Problem("LW-TRIAL-006", "stream says nothing.")

    monkeypatch.setattr(program, "attempt", fail)
    assert program.main(["chatglm2"]) == 1
    assert capsys.readouterr().err == "LW-TRIAL-006: stream says nothing.\n"
    assert not trials.exists()


def test_the_committed_rows_are_of_stacks_that_are_there_and_passed_everything() -> None:
    rows = catalog.read(program.TRIALS)
    assert rows
    for row in rows:
        assert row["stack"] in CATALOGUE.stacks
        assert row["passed"] == program.PASSED
        assert isinstance(row["digest"], str)
        assert isinstance(row["date"], datetime.date)
