"""labwright.plan: what a host gets, and every reason to refuse, from made-up wishes, facts and bundles."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostkit.result import Problem
from labwright import catalog, plan
from labwright.wishes import Host
from unit.labwright.made_up import BUNDLE, INSTALLER, PYTHON, catalogue, files_in, host, manifest, sha
from unit.labwright.plugins import ROOT

ALL_IN_ONE = [host("one1", "controller api workers agents")]
THREE = [host("ctl10", "controller api agents"), host("w11", "workers"), host("w12", "workers")]
TWO_MODELS = [host("ctl10", "controller api"), host("w11", "workers", lab_models=["demo", "other"])]
GPU = {"nvidia_smi": {"rc": 0, "stdout": "0, GPU-1, RTX 3090, 24576, 1, 535.1, 8.6, [N/A], [N/A]\n", "stderr": ""}}


def made(name: str, fleet: Sequence[Host], facts: dict[str, Any] | None = None, bundle: bool = True) -> plan.Plan:
    return plan.make(name, fleet, facts or {}, catalogue(manifest() if bundle else None))


def code(name: str, fleet: Sequence[Host], facts: dict[str, Any] | None = None, bundle: bool = True) -> str:
    with pytest.raises(Problem) as found:
        made(name, fleet, facts, bundle)
    return found.value.code


def kind(request: dict[str, Any]) -> str:
    """The name of a prefix without the digest."""
    return str(request["prefix"]).rsplit("/", 1)[1].rsplit("-", 1)[0]


def roles(request: dict[str, Any]) -> list[str]:
    return [layer["name"] for layer in request["layers"]]


def listening(address: str, port: int, unit: str = "nginx.service") -> dict[str, Any]:
    return {"listening": [{"address": address, "port": port, "unit": unit}]}


# --- what each host gets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fleet", "duties", "environments", "workers", "ports"),
    [
        (
            "ctl10",
            THREE,
            ["controller", "api", "agent"],
            {"serving": "frontend", "autogen": "agents"},
            [],
            [21001, 9527],
        ),
        ("w11", THREE, ["worker"], {"serving": "chatglm2-cpu"}, ["labwright-worker-demo"], [21002]),
        (
            "one1",
            ALL_IN_ONE,
            ["controller", "worker", "api", "agent"],
            {"serving": "chatglm2-cpu", "autogen": "agents"},
            ["labwright-worker-demo"],
            [21001, 9527, 21002],
        ),
        (
            "w11",
            TWO_MODELS,
            ["worker"],
            {"serving": "chatglm2-cpu"},
            ["labwright-worker-demo", "labwright-worker-other"],
            [21002, 21003],
        ),
        ("desk5", [*THREE, host("desk5", "agents")], ["agent"], {"autogen": "agents"}, [], []),
        ("ctl1", [host("ctl1", "controller")], ["controller"], {"serving": "frontend"}, [], [21001]),
    ],
)
def test_duties_decide_what_a_host_gets(
    name: str,
    fleet: list[Host],
    duties: list[str],
    environments: dict[str, str],
    workers: list[str],
    ports: list[int],
) -> None:
    found = made(name, fleet)
    assert found.duties == duties
    assert {key: kind(request) for key, request in found.environments.items()} == environments
    assert [worker["name"] for worker in found.workers] == workers
    assert found.ports == ports


def test_a_host_in_no_group_gets_nothing_and_the_plan_says_why() -> None:
    found = made("idle9", [*THREE, host("idle9", "spare")])
    assert (found.duties, found.conda, found.environments, found.checks) == ([], {}, {}, [])
    assert found.explain[-1]["value"] == "none"


def test_a_worker_knows_where_everything_is() -> None:
    found = made("w11", THREE)
    assert found.controller_url == "http://192.0.2.10:21001"
    assert found.controller == found.api == {}
    assert found.workers == [
        {
            "name": "labwright-worker-demo",
            "model_path": "/opt/labwright/models/demo",
            "model_names": ["demo"],
            "conv_template": "zero_shot",
            "device": "cpu",
            "host": "192.0.2.11",
            "port": 21002,
            "url": "http://192.0.2.11:21002",
        }
    ]
    assert [file["path"] for file in found.models[0]["files"]] == ["config.json", "code/model.py"]


def test_the_controller_and_the_api_bind_where_others_reach_them() -> None:
    found = made("ctl10", THREE)
    assert found.controller == {"host": "192.0.2.10", "port": 21001}
    assert found.api == {"host": "192.0.2.10", "port": 9527}


def test_an_agent_asks_the_api_of_its_own_host_first() -> None:
    fleet = [host("a1", "controller api"), host("b2", "api agents"), host("c3", "agents"), host("w4", "workers")]
    assert [made(name, fleet).api_url for name in ("b2", "c3")] == [
        "http://192.0.2.2:9527/v1",
        "http://192.0.2.1:9527/v1",
    ]
    assert made("c3", fleet).endpoints == [{"model": "demo", "base_url": "http://192.0.2.1:9527/v1"}]


def test_aliases_are_served_listed_and_asked() -> None:
    named = [{"name": "demo", "aliases": ["gpt-4"]}]
    fleet = [host("ctl10", "controller api"), host("w11", "workers", lab_models=named), host("w12", "workers")]
    assert made("w11", fleet).workers[0]["model_names"] == ["demo", "gpt-4"]
    found = made("ctl10", fleet)
    assert [one["model"] for one in found.endpoints] == ["demo", "gpt-4"]
    by_id = {check["id"]: check for check in found.checks}
    assert by_id["controller.workers"]["models"] == ["demo", "gpt-4"]
    assert by_id["controller.each_worker"]["count"] == 2
    assert {"api.completion.gpt-4", "api.stream.demo", "api.embeddings.demo"} <= set(by_id)


def test_what_verify_asks_on_each_host() -> None:
    assert [check["id"] for check in made("w11", THREE).checks] == ["service.labwright-worker-demo", "worker.demo"]
    assert [check["id"] for check in made("ctl10", THREE).checks] == [
        "service.labwright-controller",
        "service.labwright-api",
        "controller.workers",
        "controller.each_worker",
        "api.models",
        "api.completion.demo",
        "api.stream.demo",
        "api.embeddings.demo",
        "agent.answer",
    ]


def test_the_agent_gets_the_task_as_one_word() -> None:
    found = made("one1", [host("one1", "controller api workers agents", lab_task="Say 'a b'; $HOME")])
    assert "Say 'a b'; $HOME" in found.checks[-1]["argv"]


def test_wishes_for_folders_are_followed() -> None:
    found = made("w11", [host("c1", "controller"), host("w11", "workers", lab_root="/srv/lab", lab_store="/srv/store")])
    request = found.environments["serving"]
    assert found.store == request["store"] == found.models[0]["store"] == "/srv/store"
    assert found.conda["prefix"] == "/srv/lab/conda"
    assert request["conda"] == "/srv/lab/conda/bin/conda"
    assert request["link"] == "/srv/lab/envs/chatglm2"
    assert found.models[0]["path"] == "/srv/lab/models/demo"


def test_every_choice_has_its_reason() -> None:
    for name, fleet in (("ctl10", THREE), ("w11", THREE), ("one1", ALL_IN_ONE)):
        found = made(name, fleet)
        assert {row["choice"] for row in found.explain} >= {"stack", "environment"}
        assert all(row["value"] and row["because"] for row in found.explain)


# --- layers and roles ----------------------------------------------------------------------------------------------


def test_each_role_answers_for_its_layer_and_all_before_it() -> None:
    request = made("w11", THREE).environments["serving"]
    assert roles(request) == ["conda", "torch", "transformers", "fastchat"]
    assert roles(plan.upto(request, "torch")) == ["conda", "torch"]
    assert plan.upto(request, "torch")["link"] == ""
    assert plan.upto(request, "fastchat") == request
    assert plan.upto(request, "autogen") == {}


def test_the_variables_of_the_wiring_hold_a_part_for_each_role() -> None:
    found = plan.as_variables(made("one1", ALL_IN_ONE))
    assert json.loads(json.dumps(found)) == found
    assert set(found["environments"]["serving"]) == {"conda", "torch", "transformers", "fastchat"}
    assert roles(found["environments"]["autogen"]["autogen"]) == ["conda", "autogen"]
    assert found["whole"]["serving"] == found["environments"]["serving"]["fastchat"]


def test_a_prefix_is_named_after_its_locks() -> None:
    bundle = manifest()
    first = plan.make("w11", THREE, {}, catalogue(bundle)).environments["serving"]["prefix"]
    bundle["files"][PYTHON[0]] = {"sha256": sha("newer"), "size": 1}
    second = plan.make("w11", THREE, {}, catalogue(bundle)).environments["serving"]["prefix"]
    assert first != second
    assert first == made("w12", THREE).environments["serving"]["prefix"]


# --- where files come from -----------------------------------------------------------------------------------------


def test_with_a_bundle_every_file_comes_from_it_with_its_sum() -> None:
    found = made("one1", ALL_IN_ONE)
    files = list(files_in(plan.as_variables(found)))
    assert all(file["url"].startswith(BUNDLE + "/") for file in files)
    assert all(len(file["sha256"]) == 64 for file in files)
    installer = found.conda["installer"]
    assert (installer["url"], installer["sha256"]) == (f"{BUNDLE}/{INSTALLER}", sha(INSTALLER))
    assert installer["unless"] == "/opt/labwright/conda/.labwright-installer"
    torch = found.environments["serving"]["layers"][1]["wheels"][0]
    assert torch["url"] == f"{BUNDLE}/wheels/torch-2.0.1%2Bcpu-py3-none-any.whl"
    assert torch["name"] == "torch-2.0.1+cpu-py3-none-any.whl"
    assert "index" not in found.environments["serving"]["layers"][1]


def test_a_slash_at_the_end_of_the_bundles_address_does_not_matter() -> None:
    fleet = [host("w11", "controller workers", lab_bundle_url=BUNDLE + "/")]
    assert made("w11", fleet).conda == made("w11", [host("w11", "controller workers")]).conda


HUB = {"lab_models": ["hub"], "lab_bundle_url": ""}


def test_without_a_bundle_files_come_from_the_projects_own_servers() -> None:
    found = made("w11", [host("w11", "controller workers", **HUB)], bundle=False)
    urls = [file["url"] for file in files_in(plan.as_variables(found))]
    assert f"{plan.CONDA_FORGE}/linux-64/python.conda" in urls
    assert "https://forge.example.org/25/f.sh" in urls
    assert f"{plan.HUGGINGFACE}/someone/hub/resolve/abc/code/model.py" in urls
    layer = found.environments["serving"]["layers"][1]
    assert layer["index"] == ["--extra-index-url", f"{plan.TORCH_INDEX}/cpu"]
    assert "wheels" not in layer


def test_mirrors_replace_every_server() -> None:
    names = ("conda_forge", "installers", "python", "torch", "huggingface")
    mirrors = {name: f"https://mirror.example.org/{name}/" for name in names}
    fleet = [host("w11", "controller workers", lab_mirrors=mirrors, **HUB)]
    found = plan.as_variables(made("w11", fleet, bundle=False))
    assert {file["url"].rsplit("/mirror.example.org/")[1].split("/")[0] for file in files_in(found)} == {
        "conda_forge",
        "installers",
        "huggingface",
    }
    assert found["whole"]["serving"]["layers"][1]["index"] == [
        *("--index-url", "https://mirror.example.org/python"),
        *("--extra-index-url", "https://mirror.example.org/torch/cpu"),
    ]
    assert "//" not in json.dumps(found).replace("https://", "").replace("http://", "")


def test_the_real_catalogue_makes_a_plan_without_a_bundle() -> None:
    real = catalog.load(ROOT / "env", None)
    found = plan.make("c1", [host("c1", "controller api", lab_bundle_url=""), host("w2", "workers")], {}, real)
    assert kind(found.environments["serving"]) == "frontend"
    conda = found.environments["serving"]["layers"][0]["conda"]
    assert {file["url"] for file in conda} == {row["url"] for row in real.conda}
    assert found.conda["installer"]["url"].startswith("https://github.com/conda-forge/miniforge/")


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fleet", "expected"),
    [
        ([host("w1", "workers")], "LW-PLAN-001"),
        ([host("w1", "workers controller"), host("w2", "controller")], "LW-PLAN-001"),
        ([host("w1", "workers controller agents")], "LW-PLAN-002"),
        ([host("w1", "workers controller", lab_models=["guess"])], "LW-PLAN-003"),
        ([host("w1", "workers controller", lab_models=["demo", "new"])], "LW-PLAN-004"),
        ([host("w1", "workers controller", lab_worker_port=21001)], "LW-PLAN-008"),
        ([host("w1", "workers controller", lab_worker_port=21000, lab_models=["demo", "other"])], "LW-PLAN-008"),
        ([host("w1", "controller api", lab_api_port=21001)], "LW-PLAN-008"),
        ([host("w1", "workers controller", lab_models=["demo", "demo"])], "LW-PLAN-010"),
        ([host("w1", "workers controller", lab_models=["demo", {"name": "demo", "aliases": ["x"]}])], "LW-PLAN-010"),
        (
            [host("w1", "workers controller", lab_models=["demo", {"name": "other", "aliases": ["demo"]}])],
            "LW-PLAN-010",
        ),
        ([host("w1", "workers controller", lab_worker_port=65535, lab_models=["demo", "other"])], "LW-PLAN-011"),
    ],
)
def test_wishes_that_cannot_be(fleet: list[Host], expected: str) -> None:
    assert code("w1", fleet) == expected


@pytest.mark.parametrize(
    ("groups", "words"), [(("workers", "api"), "holds none"), (("controller", "controller api"), "holds h1, h2")]
)
def test_the_controllers_that_were_found_are_named(groups: tuple[str, str], words: str) -> None:
    fleet = [host(f"h{number}", names) for number, names in enumerate(groups, 1)]
    for one in fleet:
        with pytest.raises(Problem, match=words):
            made(one.name, fleet)


def test_known_models_are_named() -> None:
    with pytest.raises(Problem, match=r"LW-PLAN-003: w1: no model 'guess' .* expected one of demo, hub, new, other"):
        made("w1", [host("w1", "controller workers", lab_models=["guess"])])


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (listening("0.0.0.0", 21002), "LW-PLAN-009"),  # noqa: S104
        (listening("::", 21001), "LW-PLAN-009"),
        (listening("192.0.2.1", 9527), "LW-PLAN-009"),
        (listening("0.0.0.0", 21002, ""), "LW-PLAN-009"),  # noqa: S104
        (listening("192.0.2.1", 21002, "labwright-worker-demo.service"), ""),
        (listening("127.0.0.1", 21002), ""),
        (listening("192.0.2.77", 21002), ""),
        (listening("::1", 21002), ""),
        (listening("0.0.0.0", 22, "ssh.service"), ""),  # noqa: S104
    ],
)
def test_ports_in_use(facts: dict[str, Any], expected: str) -> None:
    if expected:
        assert code("one1", ALL_IN_ONE, facts) == expected
    else:
        made("one1", ALL_IN_ONE, facts)


def test_the_program_that_has_the_port_is_named() -> None:
    with pytest.raises(Problem, match=r"LW-PLAN-009: one1: port 9527 is in use by nginx\.service; .*lab_\*_port"):
        made("one1", ALL_IN_ONE, listening("::", 9527))


def test_a_gpu_without_locks_for_it_is_not_left_idle_in_silence() -> None:
    with pytest.raises(Problem, match=r"LW-PLAN-005: one1 has 1 GPU \(RTX 3090, driver 535\.1.*lab_device: cpu"):
        made("one1", ALL_IN_ONE, GPU)


@pytest.mark.parametrize(
    ("facts", "wishes", "reason"),
    [
        ({"nvidia_smi": None}, {}, "no nvidia-smi"),
        ({}, {}, "no nvidia-smi"),
        (GPU, {"lab_device": "cpu"}, "lab_device is cpu"),
        ({"nvidia_smi": {"rc": 9, "stdout": "", "stderr": "broken"}}, {"lab_device": "cpu"}, "lab_device is cpu"),
    ],
)
def test_the_cpu_is_chosen_for_a_reason(facts: dict[str, Any], wishes: dict[str, Any], reason: str) -> None:
    found = made("w1", [host("w1", "controller workers", **wishes)], facts)
    assert found.workers[0]["device"] == "cpu"
    (row,) = [row for row in found.explain if row["choice"] == "torch"]
    assert reason in row["because"]


def test_a_stack_with_a_choice_of_torch_builds_is_refused_until_there_is_a_rule() -> None:
    assert code("w1", [host("w1", "controller workers", lab_models=["new"])], GPU) == "LW-PLAN-006"


def test_a_broken_driver_is_no_cpu_host() -> None:
    broken = {"nvidia_smi": {"rc": 18, "stdout": "", "stderr": "Driver/library version mismatch"}}
    assert code("one1", ALL_IN_ONE, broken) == "LW-GPU-001"
    made("ctl10", THREE, broken)  # serves no model, so its GPU is nobody's business


def without(path: str) -> dict[str, Any]:
    bundle = copy.deepcopy(manifest())
    del bundle["files"][path]
    return bundle


def no_python() -> dict[str, Any]:
    return {**manifest(), "conda": {"linux-64": {"3.12": PYTHON}}}


@pytest.mark.parametrize(
    ("bundle", "expected", "named"),
    [
        (without(INSTALLER), "LW-PLAN-012", INSTALLER),
        (without(PYTHON[1]), "LW-PLAN-012", PYTHON[1]),
        (no_python(), "LW-PLAN-013", "Python 3.11"),
        (without("wheels/torch-2.0.1+cpu-py3-none-any.whl"), "LW-PLAN-014", "torch==2.0.1+cpu"),
        (without("wheels/pyautogen-0.2.35-py3-none-any.whl"), "LW-PLAN-014", "pyautogen==0.2.35"),
        (without("models/demo/config.json"), "LW-PLAN-007", "config.json"),
    ],
)
def test_a_bundle_that_lacks_something_is_refused_with_its_name(
    bundle: dict[str, Any], expected: str, named: str
) -> None:
    with pytest.raises(Problem) as found:
        plan.make("one1", ALL_IN_ONE, {}, catalogue(bundle))
    assert found.value.code == expected
    assert named in found.value.message
    assert "bundle" in found.value.message


def test_a_model_of_this_repository_needs_a_bundle() -> None:
    assert code("one1", [host("one1", "controller api workers", lab_bundle_url="")], bundle=False) == "LW-PLAN-007"


def test_a_file_without_a_sum_is_never_fetched_from_a_hub() -> None:
    real = catalog.load(ROOT / "env", None)
    with pytest.raises(Problem, match="LW-PLAN-007"):
        plan.make("w1", [host("w1", "controller workers", lab_models=["chatglm2-6b"], lab_bundle_url="")], {}, real)


# --- removal -------------------------------------------------------------------------------------------------------


def test_leftovers_need_neither_bundle_nor_facts() -> None:
    found = plan.leftovers(host("w11", "", lab_root="/srv/lab", lab_store="/srv/store", lab_state="/srv/state"))
    assert json.loads(json.dumps(found)) == found
    assert found["folders"] == ["/srv/lab", "/srv/state", "/etc/labwright"]
    assert (found["store"], found["conda"]["prefix"]) == ("/srv/store", "/srv/lab/conda")
    requests = [request for parts in found["environments"].values() for request in parts.values()]
    assert requests == [{"state": "absent", "root": "/srv/lab/envs"}] * 4
    assert found["models"][0]["path"] == "/srv/lab/models"


# --- any lab -------------------------------------------------------------------------------------------------------


@st.composite
def fleets(draw: st.DrawFn) -> list[Host]:
    """A lab that can be: one controller somewhere, at least one API, some workers, some agents."""
    count = draw(st.integers(1, 5))
    control = draw(st.integers(0, count - 1))
    api = draw(st.integers(0, count - 1))
    found = []
    for number in range(count):
        groups = draw(st.sets(st.sampled_from(["workers", "agents", "api", "spare"])))
        groups |= {"controller"} if number == control else set()
        groups |= {"api"} if number == api else set()
        models = draw(st.lists(st.sampled_from(["demo", "other"]), min_size=1, max_size=2, unique=True))
        port = draw(st.sampled_from([21002, 22000]))
        found.append(host(f"h{number + 1}", " ".join(groups), lab_models=models, lab_worker_port=port))
    return found


@settings(deadline=None, max_examples=60)
@given(fleet=fleets())
def test_the_same_wishes_make_the_same_plan_from_the_bundle_alone(fleet: list[Host]) -> None:
    for one in fleet:
        first, second = made(one.name, fleet), made(one.name, fleet)
        assert first == second
        variables = plan.as_variables(first)
        assert json.loads(json.dumps(variables)) == variables
        assert all(file["url"].startswith(BUNDLE + "/") for file in files_in(variables))
        ids = [check["id"] for check in first.checks]
        assert len(ids) == len(set(ids))
        assert len(first.ports) == len(set(first.ports))
        assert first.controller_url == made(fleet[0].name, fleet).controller_url


def test_a_plan_depends_on_no_file_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = made("one1", ALL_IN_ONE)
    monkeypatch.chdir(tmp_path)
    assert made("one1", ALL_IN_ONE) == first
