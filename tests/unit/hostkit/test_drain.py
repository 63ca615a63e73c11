"""hostkit drain, workers, restart: a worker is out before it ends, and back before the next one goes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hostkit import drain, restart, workers
from hostkit.__main__ import main
from hostkit.result import Problem
from unit.hostkit.fakes import Programs
from unit.hostkit.loopback import Loopback, Reply, free_port, says

NAMES = ["labwright-demo", "gpt-4"]


def status(queue: int = 0, names: list[str] = NAMES) -> Reply:
    return says({"model_names": names, "speed": 1, "queue_length": queue})


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "SETTLE_S", 0.05)
    monkeypatch.setattr(drain, "EVERY_S", 0.01)
    monkeypatch.setattr(restart, "EVERY_S", 0.01)
    monkeypatch.setattr(workers, "TIMEOUT_S", 0.5)


@pytest.fixture
def lab(server: Loopback) -> Loopback:
    """A controller and a worker behind one address."""
    server.answers["/register_worker"] = says(None)
    server.answers["/worker_get_status"] = status()
    server.answers["/receive_heart_beat"] = says({"exist": True})
    server.answers["/list_models"] = says({"models": NAMES})
    server.answers["/worker_generate"] = says({"text": "a", "error_code": 0})
    return server


def drained(lab: Loopback, wait_s: float = 5, **more: str) -> Any:
    return drain.run({"controller": lab.url, "worker": lab.url, "wait_s": wait_s, **more}, False)


def test_it_is_out_first_and_then_its_requests_end(lab: Loopback) -> None:
    lab.answers["/worker_get_status"] = [status(3), status(3), status(1), status(0)]
    result = drained(lab)
    assert result.data == {"out": True, "left": 0}
    assert lab.paths() == ["/register_worker", *["/worker_get_status"] * 4]
    row = lab.asked[0].json()
    assert (row["worker_name"], row["check_heart_beat"]) == (lab.url, True)
    assert row["worker_status"] == {"model_names": [], "speed": 1, "queue_length": 0}
    assert "gives it no more requests; its last request ended" in result.message


def test_it_waits_a_moment_for_requests_that_are_on_their_way(lab: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "SETTLE_S", 0.3)
    begun = time.monotonic()
    drained(lab)
    assert time.monotonic() - begun >= 0.3


def test_what_still_runs_at_the_end_is_said(lab: Loopback) -> None:
    lab.answers["/worker_get_status"] = status(2)
    begun = time.monotonic()
    result = drained(lab, wait_s=0.3)
    assert 0.3 <= time.monotonic() - begun < 2
    assert (result.data["left"], "2 requests still ran" in result.message) == (2, True)


def test_after_a_crash_it_is_taken_out_and_nothing_is_waited_for(lab: Loopback) -> None:
    begun = time.monotonic()
    result = drained(lab, worker=f"http://127.0.0.1:{free_port()}")
    assert time.monotonic() - begun < 0.5
    assert result.data == {"out": True, "left": -1}
    assert lab.paths() == ["/register_worker"]
    assert "it does not answer, so nothing was waited for" in result.message


@pytest.mark.parametrize("gone", ["both", "controller"])
def test_nobody_there_is_no_failure(lab: Loopback, gone: str, tmp_path: Path, capsys: Any) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    request = {"controller": away, "worker": away if gone == "both" else lab.url, "wait_s": 1}
    (tmp_path / "drain.json").write_text(json.dumps(request))
    assert main(["drain", str(tmp_path / "drain.json")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["failed"], said["data"]["out"]) == (False, False)
    assert f"not taken out: nothing listens at {away}" in said["message"]


def test_a_controller_that_hangs_does_not_hold_up_the_end_of_a_dead_worker(
    lab: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(_asked: Any) -> Reply:
        time.sleep(1)
        return says(None)

    lab.answers["/register_worker"] = late
    begun = time.monotonic()
    assert not drained(lab, worker=f"http://127.0.0.1:{free_port()}").data["out"]
    assert time.monotonic() - begun < 0.9


def test_one_question_without_an_answer_ends_no_waiting(lab: Loopback) -> None:
    lab.answers["/worker_get_status"] = [status(1), Reply(b"busy", 503), status(1), status(0)]
    assert drained(lab).data["left"] == 0
    assert lab.paths().count("/worker_get_status") == 4


def test_a_controller_that_was_busy_is_asked_again(lab: Loopback) -> None:
    lab.answers["/register_worker"] = [Reply(b"", 500), says(None)]
    assert drained(lab).data["out"]


def test_check_mode_takes_nobody_out(lab: Loopback) -> None:
    drain.run({"controller": lab.url, "worker": lab.url, "wait_s": 1}, True)
    assert lab.asked == []


# --- workers ----------------------------------------------------------------------------------------------------------


def asked(lab: Loopback, *urls: str) -> Any:
    rows = [{"url": url, "models": NAMES} for url in urls]
    return workers.run({"controller": lab.url, "workers": rows}, False)


def test_the_first_that_serves_is_enough(lab: Loopback) -> None:
    lab.answers["/worker_get_status"] = status(2)
    away = f"http://127.0.0.1:{free_port()}"
    assert asked(lab, away, lab.url, lab.url).data["serving"] == lab.url
    assert lab.paths() == ["/worker_get_status", "/receive_heart_beat"]
    assert lab.asked[1].json() == {"worker_name": lab.url, "queue_length": 2}  # what it said itself: nothing changes


@pytest.mark.parametrize(
    ("path", "answer", "expected"),
    [
        ("/receive_heart_beat", says({"exist": False}), "answers, but the controller does not know it"),
        ("/worker_get_status", status(names=["labwright-demo"]), "does not serve gpt-4"),
        ("/worker_get_status", Reply(b"<html>"), "127.0.0.1"),
        ("/worker_get_status", says(["x"]), "is another program there?"),
    ],
)
def test_one_that_does_not_serve(lab: Loopback, path: str, answer: Reply, expected: str) -> None:
    lab.answers[path] = answer
    found = asked(lab, lab.url)
    assert found.data["serving"] == ""
    assert expected in found.data["seen"][lab.url]


def test_nobody_speaks_for_a_dead_worker(lab: Loopback) -> None:
    assert asked(lab, f"http://127.0.0.1:{free_port()}").data["serving"] == ""
    assert asked(lab).message == "none serves (there is none to ask)"
    assert lab.asked == []


# --- restart ----------------------------------------------------------------------------------------------------------


def again(lab: Loopback, **more: Any) -> Any:
    worker = {"worker": lab.url, "models": NAMES}
    request = {"unit": "labwright-worker-x.service", "controller": lab.url, "wait_s": 0.3, **worker, **more}
    return restart.run(request, False)


def test_it_waits_until_it_is_registered_and_answers_a_token(lab: Loopback, programs: Programs) -> None:
    programs.says("systemctl")
    lab.answers["/receive_heart_beat"] = [says({"exist": False}), says({"exist": True})]
    lab.answers["/worker_generate"] = [says({"text": "no", "error_code": 50001}), says({"text": "a", "error_code": 0})]
    result = again(lab, wait_s=10)
    assert (result.changed, programs.calls("systemctl")) == (True, ["restart labwright-worker-x.service"])
    assert lab.paths()[-1] == "/worker_generate"
    assert (lab.asked[-1].json()["max_new_tokens"], lab.asked[-1].json()["model"]) == (1, "labwright-demo")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda lab: lab.answers.update({"/receive_heart_beat": says({"exist": False})}), "does not know it"),
        (lambda lab: lab.answers.update({"/worker_generate": says({"text": "x", "error_code": 50002})}), "50002"),
        (lambda lab: lab.answers.pop("/worker_get_status"), "404"),
    ],
)
def test_one_that_does_not_come_back(
    lab: Loopback, programs: Programs, spoil: Callable[[Loopback], Any], expected: str
) -> None:
    programs.says("systemctl")
    spoil(lab)
    with pytest.raises(Problem, match=r"^LW-RESTART-002: labwright-worker-x.service was restarted") as caught:
        again(lab)
    assert "nothing after it was touched" in str(caught.value)
    assert expected in str(caught.value) or expected == "404"


def test_a_unit_that_does_not_start(lab: Loopback, programs: Programs) -> None:
    programs.says("systemctl", status=1, error="Job failed. See journalctl.")
    with pytest.raises(Problem, match=r"LW-RESTART-002: .*Job failed"):
        again(lab)
    assert lab.asked == []


def test_a_controller_lists_again_what_it_listed(lab: Loopback, programs: Programs) -> None:
    programs.says("systemctl")
    lab.answers["/list_models"] = [
        says({"models": NAMES}),
        Reply(b"", 500),
        says({"models": []}),
        says({"models": NAMES}),
    ]
    request = {"unit": "labwright-controller.service", "controller": lab.url, "wait_s": 10, "workers_back": True}
    assert restart.run(request, False).changed
    assert lab.paths() == ["/list_models"] * 4
    lab.answers["/list_models"] = [says({"models": NAMES}), says({"models": ["gpt-4"]})]
    with pytest.raises(Problem, match=r"LW-RESTART-002: .*does not list labwright-demo \(asked for 0.2 s\)"):
        restart.run({**request, "wait_s": 0.2}, False)


def test_check_mode_restarts_nothing(lab: Loopback, programs: Programs) -> None:
    programs.says("systemctl")
    assert restart.run({"unit": "x", "controller": lab.url, "wait_s": 1}, True).changed
    assert programs.calls("systemctl") == []
