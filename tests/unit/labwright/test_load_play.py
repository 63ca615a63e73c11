"""labwright.load and playbooks/loadtest.yml: bounds, figures that can be reckoned by hand, files that can be read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET  # what is read is our own
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hostkit.result import Problem
from labwright import load
from unit.hostkit.loopback import Asked, Loopback, Reply, free_port, says, serving
from unit.hostkit.test_load import PATH, fastchat
from unit.labwright.test_actions import LABWRIGHT, action, variables
from unit.programs import ROOT

API = {"host": "192.0.2.10", "port": 9527}
WRITTEN = {
    "served": ["labwright-demo", "gpt-4", "other"],
    "hosts": {
        "ctl10": {"api": API, "workers": []},
        "w11": {"api": {}, "workers": [{"model": "labwright-demo"}, {"model": "other"}]},
        "w12": {"api": {}, "workers": [{"model": "labwright-demo"}]},
    },
}
ASKED = {"url": "http://192.0.2.10:9527", "model": "m<1>", "clients": 2, "seconds": 10}
# begun, first piece, ended, pieces, tokens: after 1, 2, 3, 4 s the first piece; then 10 pieces a second, and one alone.
ROWS = [[0.0, 1.0, 2.0, 11, 22], [0.0, 2.0, 3.0, 11, 22], [2.0, 5.0, 6.0, 11, 22], [3.0, 7.0, 7.0, 1, 2]]
ERRORS = [
    {"cause": "LW-PROBE-012", "count": 2, "example": "the worker ran out", "cure": "Ask less.", "times_s": [1.5, 9.0]}
]
MEASURED = {
    "answered": ROWS,
    "errors": ERRORS,
    "unfinished": 1,
    "pieces": [0, 8, 20, 6],
    "elapsed_s": 20.0,
    "tokens_lack": "",
}
NOTHING: dict[str, Any] = {
    "answered": [],
    "errors": [],
    "unfinished": 2,
    "pieces": [],
    "elapsed_s": 20.0,
    "tokens_lack": "",
}


def whole_of(*measured: dict[str, Any]) -> dict[str, Any]:
    return load.of("room", "2030-01-02T03:04:05+00:00", [ASKED] * len(measured), measured)


def test_the_defaults_and_what_may_be_set() -> None:
    assert load.wishes({}) == {
        "load_clients": 4,
        "load_seconds": 30,
        "load_requests": 0,
        "load_max_tokens": 64,
        "load_model": "",
        "load_prompt": "Print the first 10 prime numbers.",
    }
    given = {
        "load_clients": "64",
        "load_seconds": 600,
        "load_max_tokens": "1",
        "load_model": "m",
        "load_prompt": "你好",
    }
    found = load.wishes({**given, "load_balancer": "another program's"})
    assert found == {**given, "load_clients": 64, "load_max_tokens": 1, "load_requests": 0}


@pytest.mark.parametrize(("given", "seconds"), [({}, 7200), ({"load_seconds": "7200"}, 7200), ({"load_seconds": 5}, 5)])
def test_with_a_number_of_requests_the_time_may_be_longer(given: dict[str, Any], seconds: int) -> None:
    found = load.wishes({"load_requests": "10000", **given})
    assert (found["load_requests"], found["load_seconds"]) == (10000, seconds)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"load_clients": 0}, "load_clients is 0; expected a whole number from 1 to 64"),
        ({"load_clients": "65"}, "load_clients is '65'"),
        ({"load_clients": True}, "load_clients is True"),
        ({"load_clients": "²"}, "load_clients is '²'"),
        ({"load_clients": "9" * 5000}, "from 1 to 64"),
        ({"load_seconds": 601}, "load_seconds is 601; expected a whole number from 1 to 600"),
        ({"load_requests": 0, "load_seconds": 601}, "load_seconds is 601; expected a whole number from 1 to 600"),
        ({"load_requests": 1, "load_seconds": 7201}, "load_seconds is 7201; expected a whole number from 1 to 7200"),
        ({"load_requests": 100001}, "load_requests is 100001; expected a whole number from 0 to 100000"),
        ({"load_requests": "many"}, "load_requests is 'many'"),
        ({"load_seconds": "1.5"}, "load_seconds is '1.5'"),
        ({"load_seconds": -1}, "load_seconds is -1"),
        ({"load_seconds": None}, "load_seconds is None"),
        ({"load_max_tokens": 4097}, "from 1 to 4096"),
        ({"load_prompt": " "}, "load_prompt is ' '; expected text"),
        ({"load_prompt": "x" * 20001}, "expected text of 1 to 20000 characters"),
        ({"load_prompt": 3}, "load_prompt is '3'"),
        ({"load_model": ["m"]}, "load_model is \"['m']\""),
        ({"load_client": 3}, "there is no load_client; expected one of load_clients, .* Set load_clients"),
    ],
)
def test_a_knob_out_of_bounds_is_refused(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(Problem, match=f"^LW-LOAD-001: .*{expected.replace('[', '.').replace(']', '.')}"):
        load.wishes(given)


def test_each_model_of_the_plan_is_asked_once_at_the_plans_address_and_no_alias() -> None:
    found = load.requests(WRITTEN, "ctl10", load.wishes({"load_clients": 3}))
    assert [one["model"] for one in found] == ["labwright-demo", "other"]
    assert {one["url"] for one in found} == {"http://192.0.2.10:9527"}
    assert (found[0]["clients"], found[0]["seconds"], found[0]["max_tokens"], found[0]["grace_s"]) == (3, 30, 64, 10)
    assert {one["inner_url"] for one in found} == {"http://192.0.2.10:9527"}
    assert not any("key_file" in one for one in found)


def test_the_gateway_is_asked_where_there_is_one_with_the_operators_key_that_stays_in_its_file() -> None:
    door = {"host": "192.0.2.10", "port": 9527}
    hosts = {"ctl10": {"api": {"host": "127.0.0.1", "port": 21000}, "gateway": door, "workers": [{"model": "m"}]}}
    (found,) = load.requests({"served": ["m"], "hosts": hosts}, "ctl10", load.wishes({"load_requests": 7}))
    assert (found["url"], found["inner_url"]) == ("https://192.0.2.10:9527", "http://127.0.0.1:21000")
    assert (found["ca_file"], found["key_file"]) == ("/etc/labwright/ca.crt", "/etc/labwright/keys/operator")
    assert (found["requests"], found["seconds"]) == (7, 7200)


@pytest.mark.parametrize("name", ["gpt-4", "other"])
def test_one_model_by_any_of_its_names(name: str) -> None:
    (found,) = load.requests(WRITTEN, "ctl10", load.wishes({"load_model": name}))
    assert found["model"] == name


@pytest.mark.parametrize(
    ("written", "host", "wish", "expected"),
    [
        (WRITTEN, "w11", {}, "LW-LOAD-002: the plan has 2 models to ask, and no API on w11"),
        (WRITTEN, "localhost", {}, "LW-LOAD-002: .* no API on localhost; expected both. Put a host into the group api"),
        (
            {**WRITTEN, "hosts": {"ctl10": {"api": API, "workers": []}}},
            "ctl10",
            {},
            "LW-LOAD-002: the plan has 0 models",
        ),
        (
            WRITTEN,
            "ctl10",
            {"load_model": "x"},
            "LW-LOAD-003: .* no model x; expected one of labwright-demo, gpt-4, other",
        ),
    ],
)
def test_what_the_plan_has_not_cannot_be_asked(
    written: dict[str, Any], host: str, wish: dict[str, Any], expected: str
) -> None:
    with pytest.raises(Problem, match=f"^{expected}"):
        load.requests(written, host, load.wishes(wish))


def test_the_figures() -> None:
    (run,) = whole_of(MEASURED)["runs"]
    assert (run["requests"], run["answered"], run["failed"], run["unfinished"]) == (7, 4, 2, 1)
    assert (run["requests_per_s"], run["pieces"], run["pieces_per_s"]) == (0.2, 34, 1.7)
    assert (run["tokens"], run["tokens_per_s"]) == (68, 3.4)
    assert run["tokens_per_s_of_one"] == {"p50": 20.0, "p5": 20.0}
    assert run["first_piece_s"] == {"p50": 2.0, "p95": 4.0}
    assert run["whole_answer_s"] == {"p50": 3.0, "p95": 4.0}
    assert run["pieces_per_s_of_one"] == {"p50": 10.0, "p5": 10.0}
    assert (run["model"], run["url"], run["clients"]) == ("m<1>", "http://192.0.2.10:9527", 2)


def test_percentiles_are_values_that_were_measured() -> None:
    hundred = [float(one) for one in range(100, 0, -1)]
    assert load.spread(hundred) == {"p50": 50.0, "p95": 95.0}
    assert load.spread(hundred, 5) == {"p50": 50.0, "p5": 5.0}
    assert load.spread([7.0]) == {"p50": 7.0, "p95": 7.0}
    assert load.spread([]) == {"p50": None, "p95": None}


def test_the_table_has_a_column_for_each_model_and_the_errors_below() -> None:
    table = load.as_table(whole_of(MEASURED, NOTHING))
    rows = {line[:41].strip(): line[41:].split() for line in table.splitlines()}
    assert rows["answered requests per second"] == ["0.20", "0.00"]
    assert rows["time to first piece, s: p50 / p95"] == ["2.000", "/", "4.000", "-", "/", "-"]
    assert rows["failed"] == ["2", "0"]
    assert rows["tokens per second, all clients"] == ["3.4", "-"]
    assert rows["tokens per second, one answer: p50 / p5"] == ["20.0", "/", "20.0", "-", "/", "-"]
    assert rows["unfinished, cut off at the end"] == ["1", "2"]
    assert "  m<1>: 2 x LW-PROBE-012, such as: the worker ran out → Ask less." in table.splitlines()
    assert "for every second token" in " ".join(table.split())
    assert "Errors" not in load.as_table(whole_of(NOTHING))


def test_tokens_that_are_not_known_are_null_and_the_table_says_why() -> None:
    rows = [[*row[:4], None if at else row[4]] for at, row in enumerate(ROWS)]
    whole = whole_of({**MEASURED, "answered": rows, "tokens_lack": "1 of 4 different answers were counted"})
    (run,) = whole["runs"]
    assert (run["tokens"], run["tokens_per_s"]) == (None, None)
    assert run["tokens_per_s_of_one"] == {"p50": 20.0, "p5": 20.0}
    assert "Tokens are not known of all\n  m<1>: 1 of 4 different answers were counted" in load.as_table(whole)
    assert "Tokens are not known" not in load.as_table(whole_of(MEASURED))


def test_the_file_holds_the_figures_and_what_they_come_from() -> None:
    whole = whole_of(MEASURED, NOTHING)
    text = load.as_json(whole)
    assert json.loads(text) == whole
    assert len(text.splitlines()) < 15


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (NOTHING, "m<1>: none of 2 requests was answered within 20 s (failed 0, unfinished 2; none failed, all hung)"),
        ({**NOTHING, "errors": ERRORS}, "(failed 2, unfinished 2; most often: the worker ran out); expected answers."),
    ],
)
def test_a_model_that_never_answered_is_a_problem(measured: dict[str, Any], expected: str) -> None:
    with pytest.raises(Problem, match=r"^LW-LOAD-005: ") as caught:
        load.nobody_answered(whole_of(MEASURED, measured))
    assert expected in str(caught.value)
    load.nobody_answered(whole_of(MEASURED))


# --- the drawing ------------------------------------------------------------------------------------------------------


def drawn(whole: dict[str, Any]) -> ET.Element:
    return ET.fromstring(load.as_svg(whole))  # noqa: S314


def kinds(root: ET.Element, tag: str, kind: str) -> list[ET.Element]:
    return [one for one in root.iter(f"{{http://www.w3.org/2000/svg}}{tag}") if one.get("class") == kind]


def texts(root: ET.Element) -> list[str]:
    return [one.text or "" for one in root.iter("{http://www.w3.org/2000/svg}text")]


def test_the_drawing_shows_every_answer_and_every_failure_with_units() -> None:
    root = drawn(whole_of(MEASURED))
    assert len(kinds(root, "circle", "good")) == len(ROWS)
    assert len(kinds(root, "rect", "bad")) == 2
    assert len(kinds(root, "line", "mark")) == 2
    said = texts(root)
    assert "m<1>" in said
    assert said.count("seconds since the first request") == 3
    for part in ("Requests per second", "Time to first piece, seconds", "Pieces per second"):
        assert any(one.startswith(part) for one in said)
    assert "4 answered, 2 failed, 1 unfinished" in " ".join(said)


def test_heights_are_to_scale() -> None:
    bars = kinds(drawn(whole_of(MEASURED)), "rect", "good")
    pieces = [float(bar.get("height", 0)) for bar in bars[-3:]]
    assert [round(one / pieces[1], 2) for one in pieces] == [0.4, 1.0, 0.3]


def test_it_can_be_read_in_light_and_in_dark_and_loads_nothing() -> None:
    text = load.as_svg(whole_of(MEASURED))
    assert "@media(prefers-color-scheme:dark)" in text
    assert text.count("http") == 1  # its own namespace


@pytest.mark.parametrize("measured", [NOTHING, {**NOTHING, "elapsed_s": 0.0}, {**MEASURED, "elapsed_s": 610.0}])
def test_nothing_leaves_the_sheet(measured: dict[str, Any]) -> None:
    root = drawn(whole_of(measured, MEASURED))
    _left, _top, wide, tall = map(float, root.get("viewBox", "").split())
    for one in root.iter():
        for keys, most in ((("x", "cx", "x1", "x2"), wide), (("y", "cy", "y1", "y2"), tall)):
            assert all(0 <= float(one.get(key, 0)) <= most for key in keys)


def test_a_long_run_is_drawn_with_fewer_marks() -> None:
    rows = [[at / 10, at / 10 + 0.5, at / 10 + 1, 3, None] for at in range(6000)]
    measured = {**NOTHING, "answered": rows, "pieces": [30] * 600, "elapsed_s": 600.0}
    root = drawn(whole_of(measured))
    assert len(kinds(root, "circle", "good")) == 2000
    assert len(kinds(root, "rect", "good")) == 120
    assert any("tokens: - in all, - / - of one answer" in one for one in texts(root))
    assert any("one of 3 shown" in one for one in texts(root))
    assert any("a bar is 10 s" in one for one in texts(root))


@pytest.mark.parametrize("most", [0, 0.003, 0.282, 1, 1.0001, 3, 7, 10, 99.5, 12345])
def test_ticks_are_few_round_and_reach_the_highest(most: float) -> None:
    found = load.ticks(most)
    assert found[0] == 0
    assert found[-1] >= most
    assert 2 <= len(found) <= 7
    assert len({f"{one:g}" for one in found}) == len(found)


# --- the action and the playbook --------------------------------------------------------------------------------------


def act(arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
    one = action(LABWRIGHT, arguments)
    one._templar = SimpleNamespace(template=lambda value: value)
    result: dict[str, Any] = one.run(None, task_vars)
    return result


def planned(folder: Path, host: str = "127.0.0.1", port: int = 9527, **more: Any) -> Path:
    """A plan as it was written, with the API at an address of the test's."""
    common: dict[str, Any] = {
        "host": "",
        "platform": "linux-64",
        "source": "seen",
        "gpus": [],
        "duties": [],
        "controller": {},
    }
    common |= {"choices": [], "waivers": [], "notes": [], "problems": [], "memory_mib": 1, "api": {}, "workers": []}
    common |= {"gateway": {}}
    worker: dict[str, Any] = dict.fromkeys(
        (
            *("order", "model_names", "quantization", "device", "context", "replica", "torch", "memory_mib"),
            *("memory_each_mib", "port", "url", "choices"),
        )
    ) | {"model": "labwright-demo", "gpus": []}
    hosts = {"ctl10": {**common, "api": {"host": host, "port": port}, **more}, "w11": {**common, "workers": [worker]}}
    head = {"format": 1, "lab": "lab", "language": "en", "served": ["labwright-demo"], "problems": [], "placed": {}}
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(json.dumps({**head, "hosts": hosts}))
    return folder


def test_the_action_reads_knobs_and_plan(tmp_path: Path) -> None:
    task_vars = variables(lab_plan_dir=str(planned(tmp_path / "plan"))) | {"load_seconds": "2"}
    (found,) = act({"do": "load"}, task_vars)["requests"]
    assert (found["url"], found["model"], found["seconds"]) == ("http://127.0.0.1:9527", "labwright-demo", 2)
    assert act({"do": "load"}, task_vars | {"load_clients": "many"})["code"] == "LW-LOAD-001"


def test_without_a_plan_or_with_an_api_on_paper_nothing_is_asked(tmp_path: Path) -> None:
    task_vars = variables(lab_plan_dir=str(tmp_path / "plan"))
    assert act({"do": "load"}, task_vars)["code"] == "LW-PLAN-029"
    planned(tmp_path / "plan", source="given")
    assert act({"do": "load"}, task_vars)["code"] == "LW-PLAN-020"


def test_figures_that_cannot_be_written_are_printed_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report").write_text("a file where the folder should be")
    arguments = {"do": "loaded", "asked": [ASKED], "measured": [MEASURED]}
    result = act(arguments, variables(lab_plan_dir=str(tmp_path / "plan")))
    assert (result["failed"], result["code"]) == (True, "LW-LOAD-006")
    assert "answered requests per second" in capsys.readouterr().out


def play(folder: Path, *more: str, groups: str = "api") -> subprocess.CompletedProcess[str]:
    one = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    hosts = {"all": {"hosts": {"ctl10": one}, "children": {groups: {"hosts": {"ctl10": None}}}}}
    (folder / "hosts.yml").write_text(json.dumps(hosts))
    settings = {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
        "HOME": str(folder),
    }
    given = ("-e", f"lab_plan_dir={folder}/plan", "-e", "load_seconds=1", "-e", "load_clients=2")
    return subprocess.run(
        [
            str(Path(sys.executable).parent / "ansible-playbook"),
            *(str(ROOT / "playbooks/loadtest.yml"), "-i", str(folder / "hosts.yml"), *given, *more),
        ],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def site(tmp_path: Path) -> Any:
    with serving() as server:
        planned(tmp_path / "plan", port=server.port)
        yield tmp_path, server


def test_the_play_measures_prints_and_draws(site: tuple[Path, Loopback]) -> None:
    folder, server = site

    def answer(_asked: Asked) -> Reply:
        late = len(server.asked) % 3 == 0
        return says({"message": "HIGH TRAFFIC", "code": 50002}, 400) if late else Reply(stream=fastchat("a", "b"))

    server.answers[PATH] = answer
    done = play(folder, "-e", "load_prompt='Say it.'")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "answered requests per second" in done.stdout
    assert "x LW-PROBE-012, such as: " in done.stdout
    assert "Tokens are not known of all" in done.stdout  # nobody counts here
    found = json.loads((folder / "report/load.json").read_text())
    (run,) = found["runs"]
    assert run["answered"] >= 2
    questions = [one for one in server.asked if one.path == PATH]
    assert run["requests"] == len(questions) == run["answered"] + run["failed"]
    assert run["tokens"] is None
    assert server.asked[0].json()["messages"][0]["content"] == "Say it."
    assert ET.fromstring((folder / "report/load.svg").read_text()).tag.endswith("svg")  # noqa: S314


def test_the_play_fails_when_nothing_is_answered_and_still_says_what_was_measured(site: tuple[Path, Loopback]) -> None:
    folder, server = site
    server.answers[PATH] = says({"message": "Only other allowed now", "code": 40301}, 400)
    done = play(folder)
    assert done.returncode != 0
    assert "LW-LOAD-005: labwright-demo: none of " in done.stdout
    assert "(there: other; the closest first)" in done.stdout
    assert json.loads((folder / "report/load.json").read_text())["runs"][0]["answered"] == 0


def test_the_play_fails_when_nobody_listens(tmp_path: Path) -> None:
    planned(tmp_path / "plan", port=free_port())
    done = play(tmp_path)
    assert done.returncode != 0
    assert "LW-LOAD-004: nothing listens at " in done.stdout
    assert not (tmp_path / "report").exists()


def test_the_play_fails_in_a_lab_without_an_api(site: tuple[Path, Loopback]) -> None:
    folder, server = site
    done = play(folder, groups="workers")
    assert done.returncode != 0
    assert "LW-LOAD-002: " in done.stdout
    assert server.asked == []


def test_check_mode_asks_nothing(site: tuple[Path, Loopback]) -> None:
    folder, server = site
    done = play(folder, "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert server.asked == []
    assert not (folder / "report").exists()
