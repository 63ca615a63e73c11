"""labwright.delivery: how the planned things reach a host, from its part of the plan as it was written."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostkit.result import Problem
from labwright import delivery, doors
from labwright.hardware import Hardware
from labwright.wishes import Host
from unit.labwright.made_up import (
    BUNDLE,
    INSTALLER,
    MODELS,
    PYTHON,
    STACKS,
    card,
    catalogue,
    files_in,
    host,
    lab,
    machine,
    manifest,
    on_windows,
    real,
    sha,
    written,
)

ALL_IN_ONE = [host("one1", "controller api workers agents")]
THREE = [host("ctl10", "controller api agents"), host("w11", "workers"), host("w12", "workers")]
LOCKED_GPU = machine(card(24 * 1024), driver="580.65.06")  # "newer" has locks for it
EVERYTHING = manifest()


def shared(whole: dict[str, Any], name: str) -> dict[str, Any]:
    """What a host knows of the lab."""
    return {**whole, "doors": doors.of(whole["hosts"])[name]}


def made(
    name: str,
    fleet: Sequence[Host],
    hardware: Hardware | None = None,
    bundle: dict[str, Any] | None = EVERYTHING,
    **more: Any,
) -> dict[str, Any]:
    """What the roles of one host read."""
    whole = written(lab(fleet, {name: hardware or machine()}, catalogue_=catalogue(**more)))
    one = next(one for one in fleet if one.name == name)
    return delivery.spell_out(
        one, json.loads(json.dumps(whole["hosts"][name])), shared(whole, name), catalogue(bundle, **more)
    )


def code(name: str, fleet: Sequence[Host], hardware: Hardware | None = None, **more: Any) -> str:
    with pytest.raises(Problem) as found:
        made(name, fleet, hardware, **more)
    return found.value.code


def kind(request: dict[str, Any]) -> str:
    """The name of a prefix without the digest."""
    return str(request["prefix"]).rsplit("/", 1)[1].rsplit("-", 1)[0]


def roles(request: dict[str, Any]) -> list[str]:
    return [layer["name"] for layer in request["layers"]]


# --- what each host gets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fleet", "environments", "models", "frontend"),
    [
        ("ctl10", THREE, ["frontend", "agents"], [], "frontend"),
        ("w11", THREE, ["chatglm2-cpu"], ["demo"], ""),
        ("one1", ALL_IN_ONE, ["chatglm2-cpu", "frontend", "agents"], ["demo"], "frontend"),
        ("desk5", [*THREE, host("desk5", "agents")], ["agents"], [], ""),
        ("ctl1", [host("ctl1", "controller")], ["frontend"], [], "frontend"),
    ],
)
def test_duties_decide_which_environments_and_models_are_brought(
    name: str, fleet: list[Host], environments: list[str], models: list[str], frontend: str
) -> None:
    found = made(name, fleet)
    assert [kind(request) for request in found["whole"]] == environments
    assert [one["path"] for one in found["models"]] == [f"/opt/labwright/models/{model}" for model in models]
    assert frontend in found["frontend"]
    assert bool(found["frontend"]) == bool(frontend)


def test_a_host_without_a_duty_gets_nothing() -> None:
    found = made("idle9", [*THREE, host("idle9", "spare")])
    assert (found["conda"], found["whole"], found["models"], found["workers"], found["checks"]) == ({}, [], [], [], [])
    assert found["frontend"] == ""


def test_a_worker_knows_where_everything_is() -> None:
    found = made("w11", THREE)
    assert found["controller_url"] == "http://192.0.2.10:21001"
    assert found["controller"] == found["api"] == {}
    (worker,) = found["workers"]
    prefix = found["whole"][0]["prefix"]
    expected = {
        "name": "labwright-worker-demo",
        "model_path": "/opt/labwright/models/demo",
        "model_names": ["demo"],
        "conv_template": "zero_shot",
        "device": "cpu",
        "listen": "192.0.2.11",
        "port": 21002,
        "url": "http://192.0.2.11:21002",
        "python": f"{prefix}/bin/python",
        "options": ["--limit-worker-concurrency", "5"],
        "environment": {},
        "devices": [],
    }
    assert {key: worker[key] for key in expected} == expected
    assert [file["path"] for file in found["models"][0]["files"]] == ["config.json", "code/model.py"]


def test_a_worker_is_given_the_time_to_read_its_model_from_a_slow_disk() -> None:
    files = [{"size": 10_000_000_000}, {"size": 5_000_000_000}, {"size": 0}]
    assert delivery.ready_wait_s({"files": files}) == 600
    assert made("w11", THREE)["workers"][0]["ready_wait_s"] == 300


def test_two_workers_of_one_model_share_its_files_and_environment() -> None:
    found = made("c1", [host("c1", "controller workers", lab_models=["demo", "demo", "other"])])
    assert [worker["name"] for worker in found["workers"]] == [
        "labwright-worker-demo",
        "labwright-worker-demo-2",
        "labwright-worker-other",
    ]
    assert [one["path"].rsplit("/", 1)[1] for one in found["models"]] == ["demo", "other"]
    assert [kind(request) for request in found["whole"]] == ["chatglm2-cpu", "frontend"]


def test_models_of_two_stacks_get_an_environment_each_and_their_own_python() -> None:
    fleet = [host("c1", "workers", lab_models=["new"]), host("c2", "controller")]
    (gpu,) = made("c1", fleet, LOCKED_GPU)["workers"]
    assert "/envs/newer-cu126-" in gpu["python"]
    both = [host("c1", "workers", lab_models=["new", "demo"], lab_device="cpu"), host("c2", "controller")]
    locks = {**STACKS, "newer": replace(STACKS["chatglm2"], name="newer", transformers="4.46.3")}
    found = made("c1", both, stacks=locks)
    assert [kind(request) for request in found["whole"]] == ["newer-cpu", "chatglm2-cpu"]
    assert [worker["python"].split("/")[-3].rsplit("-", 1)[0] for worker in found["workers"]] == [
        "newer-cpu",
        "chatglm2-cpu",
    ]


def test_wishes_for_folders_are_followed() -> None:
    fleet = [host("c1", "controller"), host("w11", "workers", lab_root="/srv/lab", lab_store="/srv/store")]
    found = made("w11", fleet)
    request = found["whole"][0]
    assert found["store"] == request["store"] == found["models"][0]["store"] == "/srv/store"
    assert found["conda"]["prefix"] == "/srv/lab/conda"
    assert request["conda"] == "/srv/lab/conda/bin/conda"
    assert request["link"] == "/srv/lab/envs/chatglm2-cpu"
    assert found["models"][0]["path"] == "/srv/lab/models/demo"


# --- layers and roles ------------------------------------------------------------------------------------------------


def test_each_role_answers_for_its_layer_and_all_before_it() -> None:
    request = made("w11", THREE)["whole"][0]
    assert roles(request) == ["conda", "torch", "transformers", "fastchat"]
    (torch,) = delivery.parts([request], "torch")
    assert (roles(torch), torch["link"]) == (["conda", "torch"], "")
    assert delivery.parts([request], "fastchat") == [request]
    assert delivery.parts([request], "autogen") == []


def test_the_requests_hold_a_part_for_each_role() -> None:
    found = made("one1", ALL_IN_ONE)
    assert json.loads(json.dumps(found)) == found
    assert set(found["environments"]) == {"torch", "transformers", "fastchat", "autogen"}
    assert [kind(one) for one in found["environments"]["torch"]] == ["chatglm2-cpu"]
    assert [kind(one) for one in found["environments"]["fastchat"]] == ["chatglm2-cpu", "frontend"]
    assert roles(found["environments"]["autogen"]) == ["conda", "autogen"]
    assert found["whole"] == [*found["environments"]["fastchat"], found["environments"]["autogen"]]
    assert made("w11", THREE)["environments"]["autogen"] == {}


def test_a_prefix_is_named_after_its_locks() -> None:
    first = made("w11", THREE)["whole"][0]["prefix"]
    bundle = manifest()
    bundle["files"][PYTHON[0]] = {"sha256": sha("newer"), "size": 1}
    assert made("w11", THREE, bundle=bundle)["whole"][0]["prefix"] != first
    assert made("w12", THREE)["whole"][0]["prefix"] == first


# --- where files come from -------------------------------------------------------------------------------------------


def test_with_a_bundle_every_file_comes_from_it_with_its_sum() -> None:
    found = made("one1", ALL_IN_ONE)
    files = list(files_in(found))
    assert all(file["url"].startswith(BUNDLE + "/") for file in files)
    assert all(len(file["sha256"]) == 64 for file in files)
    installer = found["conda"]["installer"]
    assert (installer["url"], installer["sha256"]) == (f"{BUNDLE}/{INSTALLER}", sha(INSTALLER))
    assert installer["unless"] == "/opt/labwright/conda/.labwright-installer"
    layer = found["whole"][0]["layers"][1]
    assert layer["wheels"][0]["url"] == f"{BUNDLE}/wheels/torch-2.0.1%2Bcpu-py3-none-any.whl"
    assert layer["wheels"][0]["name"] == "torch-2.0.1+cpu-py3-none-any.whl"
    assert "index" not in layer


def test_a_slash_at_the_end_of_the_bundles_address_does_not_matter() -> None:
    slashed = [host("w11", "controller workers", lab_bundle_url=BUNDLE + "/")]
    assert made("w11", slashed)["conda"] == made("w11", [host("w11", "controller workers")])["conda"]


@pytest.mark.parametrize(("wish", "name"), [("miniforge", "Miniforge3"), ("miniconda", "Miniconda3")])
@pytest.mark.parametrize("system", ["linux", "windows"])
def test_the_base_that_is_wished_for_is_the_one_that_is_installed(wish: str, name: str, system: str) -> None:
    one = host("w1", "workers", lab_bundle_url="", anaconda_distribution=wish)
    one = on_windows(one) if system == "windows" else one
    found = delivery.conda(one, real())["installer"]
    assert (found["name"].split("-")[0], f"-{system}-" in found["name"].lower()) == (name, True)
    (row,) = [row for row in real().installers if row["filename"] == found["name"]]
    assert (found["url"], found["sha256"]) == (row["url"], row["sha256"])


def test_a_bundle_has_no_base_but_miniforge() -> None:
    fleet = [host("one1", "controller api workers agents", anaconda_distribution="anaconda")]
    with pytest.raises(Problem, match=r"LW-PLAN-058: anaconda_distribution is anaconda .* Set anaconda_distribution"):
        made("one1", fleet)
    assert gaps("one1", fleet, machine()) == ["LW-PLAN-058"]


HUB = {"lab_models": ["hub"], "lab_bundle_url": ""}
HUB_OF_NEW = {"repository": "someone/new", "revision": "fff"}


def test_without_a_bundle_files_come_from_the_projects_own_servers() -> None:
    found = made("w11", [host("w11", "controller workers", **HUB)], bundle=None)
    urls = [file["url"] for file in files_in(found)]
    assert f"{delivery.CONDA_FORGE}/linux-64/python.conda" in urls
    assert f"{delivery.CONDA_FORGE}/noarch/pip.conda" in urls
    assert "https://forge.example.org/25/f.sh" in urls
    assert f"{delivery.HUGGINGFACE}/someone/hub/resolve/abc/code/model.py" in urls
    layer = found["whole"][0]["layers"][1]
    assert layer["index"] == ["--extra-index-url", f"{delivery.TORCH_INDEX}/cpu"]
    assert "wheels" not in layer
    assert found["whole"][0]["layers"][2]["index"] == [], "only torch comes from there"


def test_the_torch_index_is_that_of_the_tag() -> None:
    one = catalogue().models["new"]
    models = {**MODELS, "new": {key: value for key, value in one.items() if key != "bundled"} | HUB_OF_NEW}
    fleet = [host("w11", "controller workers", lab_models=["new"], lab_bundle_url="")]
    found = made("w11", fleet, LOCKED_GPU, bundle=None, models=models)
    assert found["whole"][0]["layers"][1]["index"] == ["--extra-index-url", f"{delivery.TORCH_INDEX}/cu126"]


def test_mirrors_replace_every_server() -> None:
    names = ("conda_forge", "installers", "python", "torch", "huggingface")
    mirrors = {name: f"https://mirror.example.org/{name}/" for name in names}
    fleet = [host("w11", "controller workers", lab_mirrors=mirrors, **HUB)]
    found = made("w11", fleet, bundle=None)
    assert {file["url"].rsplit("/mirror.example.org/")[1].split("/")[0] for file in files_in(found)} == {
        "conda_forge",
        "installers",
        "huggingface",
    }
    assert found["whole"][0]["layers"][1]["index"] == [
        *("--index-url", "https://mirror.example.org/python"),
        *("--extra-index-url", "https://mirror.example.org/torch/cpu"),
    ]
    requests = {key: found[key] for key in ("conda", "whole", "models")}
    assert "//" not in json.dumps(requests).replace("https://", "").replace("http://", "")


def test_a_profile_is_resolved_and_a_single_key_goes_before_it() -> None:
    profiles = {"site": {"torch": "{base}/whl", "installers": "{base}/mini/v{version}", "docker": "{base}"}}
    one = {"name": "miniforge3", "platform": "linux-64", "version": "25-1", "sha256": "0"}
    row = {**one, "url": "https://forge.example.org/25-1/f.sh", "filename": "f.sh"}
    wish = {"profile": "site", "base": "https://m.example/", "torch": "https://t.example/whl/"}
    fleet = [host("w11", "controller workers", lab_mirrors=wish, **HUB)]
    found = made("w11", fleet, bundle=None, mirrors=profiles, installers=[row])
    assert found["conda"]["installer"]["url"] == "https://m.example/mini/v25-1/f.sh"
    assert found["whole"][0]["layers"][1]["index"] == ["--extra-index-url", "https://t.example/whl/cpu"]
    assert found["registry_mirrors"] == ["https://m.example"]
    assert made("w11", [host("w11", "controller workers")])["registry_mirrors"] == []


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ({}, [delivery.HUGGINGFACE]),
        ({"huggingface": "https://hf.example"}, ["https://hf.example"]),
        ({"modelscope": "https://ms.example"}, ["https://ms.example", delivery.HUGGINGFACE]),
        (
            {"huggingface": "https://hf.example", "modelscope": "https://ms.example"},
            ["https://hf.example", "https://ms.example"],
        ),
    ],
)
def test_hubs_are_asked_mirrors_first(wish: dict[str, str], expected: list[str]) -> None:
    sources = [
        {"name": "huggingface", "files_url": f"{delivery.HUGGINGFACE}/someone/hub/resolve/{{revision}}/{{path}}"},
        {"name": "modelscope", "files_url": f"{delivery.MODELSCOPE}/models/other/hub/resolve/master/{{path}}"},
    ]
    models = {name: {**row, "sources": sources} for name, row in MODELS.items()}
    one = host("w1", "workers", lab_mirrors=wish, **HUB)
    (file, _code) = delivery.model(one, "hub", "fp16", catalogue(models=models))["files"]
    urls = [file["url"], *file.get("more", [])]
    assert [url.split("/models/")[0].split("/someone/")[0] for url in urls] == expected
    assert [url.endswith("/other/hub/resolve/master/config.json") for url in urls if "ms.example" in url] == [True] * (
        "modelscope" in wish
    )
    (packed,) = delivery.model(one, "big", "int4", catalogue(models=models))["files"]
    assert "more" not in packed, "the packed checkpoint is another repository, of which nobody said where else it is"


def test_a_hubs_file_that_the_bundle_has_comes_from_the_bundle() -> None:
    bundle = manifest()
    for file in MODELS["hub"]["files"]:
        bundle["files"][f"models/hub/{file['path']}"] = {"sha256": file["sha256"], "size": 3}
    found = made("w11", [host("w11", "controller workers", lab_models=["hub"])], bundle=bundle)
    assert {file["url"] for file in found["models"][0]["files"]} == {
        f"{BUNDLE}/models/hub/config.json",
        f"{BUNDLE}/models/hub/code/model.py",
    }


@pytest.mark.parametrize("mirrors", [{}, {"huggingface": "https://hf.example"}])
def test_a_host_with_a_bundle_asks_no_hub_for_a_model_that_the_bundle_lacks(mirrors: dict[str, str]) -> None:
    """Mirrors are what the bundle was made from; such a host may reach none of them."""
    fleet = [host("w11", "controller workers", lab_models=["hub"], lab_mirrors=mirrors)]
    with pytest.raises(Problem, match=r"LW-PLAN-007: The model hub: .* config\.json.* Put hub into lab_bundle_models"):
        made("w11", fleet)
    assert gaps("w11", fleet, machine()) == ["LW-PLAN-007"]


def test_of_a_packed_model_that_the_bundle_lacks_the_wish_has_its_own_name() -> None:
    with pytest.raises(Problem, match=r"LW-PLAN-007: The model big-int4: .* Put big-int4 into lab_bundle_models"):
        delivery.model(host("w1", "workers"), "big", "int4", catalogue(EVERYTHING))


def test_the_real_catalogue_is_brought_without_a_bundle() -> None:
    fleet = [host("c1", "controller api", lab_bundle_url=""), host("w2", "workers", lab_models=["labwright-demo"])]
    whole = written(lab(fleet, catalogue_=real()))
    found = delivery.spell_out(fleet[0], whole["hosts"]["c1"], shared(whole, "c1"), real())
    assert [kind(request) for request in found["whole"]] == ["frontend"]
    conda = found["whole"][0]["layers"][0]["conda"]
    assert {file["url"] for file in conda} == {row["url"] for row in real().conda["linux-64"]}
    assert found["conda"]["installer"]["url"].startswith("https://github.com/conda-forge/miniforge/")


# --- workers on GPUs -------------------------------------------------------------------------------------------------


def worker(quantization: str, cards: int = 1, device: str = "cuda") -> dict[str, Any]:
    gpus = [{"uuid": f"GPU-{at}", "name": "x", "index": at, "devices": [f"/dev/nvidia{at}"]} for at in range(cards)]
    more = {"engine": "fastchat", "concurrency": 3, "memory_each_mib": 7000, "model": "big", "port": 21002}
    return {"quantization": quantization, "device": device, "gpus": gpus, **more}


@pytest.mark.parametrize(
    ("planned", "expected"),
    [
        (worker("fp16"), ["--dtype", "float16"]),
        (worker("bf16"), ["--dtype", "bfloat16"]),
        (worker("fp32"), ["--dtype", "float32"]),
        (worker("int8"), ["--load-8bit"]),
        (worker("int4"), []),
        (worker("fp16", 2), ["--dtype", "float16", "--num-gpus", "2", "--max-gpu-memory", "7000MiB"]),
        (worker("fp32", 0, "cpu"), []),
        (worker("int8", 0, "cpu"), ["--load-8bit"]),
    ],
)
def test_what_fastchat_is_told_of_a_quantisation(planned: dict[str, Any], expected: list[str]) -> None:
    assert delivery.options(planned) == ["--limit-worker-concurrency", "3", *expected]


def test_a_worker_sees_only_the_cards_that_are_its_own() -> None:
    two: dict[str, Any] = {**delivery.served(ALL_IN_ONE[0], worker("fp16", 2), catalogue())}
    assert two["environment"] == {"CUDA_VISIBLE_DEVICES": "GPU-0,GPU-1"}
    assert two["devices"] == ["/dev/nvidia0", "/dev/nvidia1", *delivery.CUDA_DEVICES]
    none: dict[str, Any] = {**delivery.served(ALL_IN_ONE[0], worker("fp32", 0, "cpu"), catalogue())}
    assert (none["environment"], none["devices"]) == ({}, [])


def test_a_packed_model_is_another_folder_from_another_repository() -> None:
    assert delivery.served(ALL_IN_ONE[0], worker("int4"), catalogue())["model_path"] == "/opt/labwright/models/big-int4"
    found = delivery.model(host("w1", "workers", lab_bundle_url=""), "big", "int4", catalogue())
    assert found["path"] == "/opt/labwright/models/big-int4"
    assert [file["url"] for file in found["files"]] == [
        f"{delivery.HUGGINGFACE}/someone/big-int4/resolve/def/packed.bin"
    ]
    whole = delivery.model(host("w1", "workers", lab_bundle_url=""), "big", "int8", catalogue())
    assert whole["path"] == "/opt/labwright/models/big"
    assert whole["files"][0]["url"].startswith(f"{delivery.HUGGINGFACE}/someone/hub/resolve/abc/")


def test_a_gpu_worker_from_plan_to_request() -> None:
    found = made("w11", [host("w11", "controller workers", lab_models=["new"])], LOCKED_GPU)
    (one,) = found["workers"]
    assert one["options"] == ["--limit-worker-concurrency", "5", "--dtype", "bfloat16"]
    assert one["environment"] == {"CUDA_VISIBLE_DEVICES": "GPU-x-0"}
    assert one["torch"] == {"version": "2.7.1", "tag": "cu126", "torchvision": "0.22.1"}
    torch = found["whole"][0]["layers"][1]["wheels"][0]
    assert torch["name"] == "torch-2.7.1+cu126-py3-none-any.whl"


# --- what verify asks ------------------------------------------------------------------------------------------------


def test_what_verify_asks_on_each_host() -> None:
    assert [check["id"] for check in made("w11", THREE)["checks"]] == [
        "service.labwright-worker-demo",
        "worker.demo",
        "firewall.loaded",
    ]
    assert [check["id"] for check in made("ctl10", THREE)["checks"]] == [
        "service.labwright-controller",
        "service.labwright-api",
        "service.labwright-gateway",
        "firewall.loaded",
        "controller.workers",
        "controller.each_worker",
        "gateway.certificate",
        "gateway.closed",
        "api.models",
        "api.completion.demo",
        "api.stream.demo",
        "api.embeddings.demo",
        "agent.answer",
    ]


def test_a_host_with_the_page_gets_its_environment_and_is_asked_for_it() -> None:
    fleet = [host("c1", "controller api web"), host("w2", "workers")]
    found = made("c1", fleet)
    assert [kind(one) for one in found["whole"]] == ["frontend", "web"]
    assert found["page_python"] == f"{found['whole'][1]['prefix']}/bin/python"
    assert [kind(one) for one in found["environments"]["fastchat"]] == ["frontend", "web"]
    assert found["environments"]["torch"] == []
    asked = {check["id"]: check for check in found["checks"]}
    assert list(asked)[:4] == [f"service.labwright-{name}" for name in ("controller", "api", "web", "gateway")]
    assert (asked["service.labwright-web"]["host"], asked["service.labwright-web"]["port"]) == ("127.0.0.1", 20999)
    assert asked["page.login"] == {
        "id": "page.login",
        "kind": "page",
        "url": "https://192.0.2.1:7860",
        "ca_file": "/etc/labwright/ca.crt",
        "key_file": "/etc/labwright/keys/operator",
        "user": "operator",
    }
    assert made("w2", fleet)["page_python"] == ""


def test_aliases_are_asked_and_every_worker_is_counted() -> None:
    named = [{"name": "demo", "aliases": ["gpt-4"]}]
    fleet = [host("ctl10", "controller api"), host("w11", "workers", lab_models=named), host("w12", "workers")]
    assert made("w11", fleet)["workers"][0]["model_names"] == ["demo", "gpt-4"]
    by_id = {check["id"]: check for check in made("ctl10", fleet)["checks"]}
    assert by_id["controller.workers"]["models"] == ["demo", "gpt-4"]
    assert by_id["controller.each_worker"]["count"] == 2
    assert {"api.completion.gpt-4", "api.stream.demo", "api.embeddings.demo"} <= set(by_id)


def test_workers_of_one_model_are_asked_each() -> None:
    found = made("c1", [host("c1", "controller workers", lab_models=["demo", "demo"])])
    assert {"worker.demo", "worker.demo-2"} <= {check["id"] for check in found["checks"]}
    urls = {check["id"]: check["url"] for check in found["checks"] if check["kind"] == "worker"}
    assert urls == {"worker.demo": "http://127.0.0.1:21002", "worker.demo-2": "http://127.0.0.1:21003"}


def test_a_lab_without_models_is_not_asked_for_any() -> None:
    found = made("c1", [host("c1", "controller api agents")])
    assert [check["id"] for check in found["checks"]] == [
        "service.labwright-controller",
        "service.labwright-api",
        "service.labwright-gateway",
        "firewall.loaded",
        "controller.workers",
        "controller.each_worker",
        "gateway.certificate",
        "gateway.closed",
    ]


def test_the_agent_gets_the_task_as_one_word() -> None:
    found = made("one1", [host("one1", "controller api workers agents", lab_task="Say 'a b'; $HOME")])
    assert "Say 'a b'; $HOME" in found["checks"][-1]["argv"]


# --- refusals --------------------------------------------------------------------------------------------------------


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
        made("one1", ALL_IN_ONE, bundle=bundle)
    assert found.value.code == expected
    assert named in found.value.message
    assert "bundle" in found.value.message


OTHER = "e" * 64
FORGED = {"installers/f.sh": sha("f.sh"), "channel/linux-64/python.conda": sha("python")}
FORGED |= {"channel/noarch/pip.conda": sha("pip")}


def forged(**others: str) -> dict[str, Any]:
    """A bundle with Conda as conda-forge has it, but for these files."""
    bundle = manifest()
    bundle["files"] |= {path: {"sha256": one, "size": 1} for path, one in (FORGED | others).items()}
    conda = {"linux-64": {"3.11": [path for path in FORGED if path.startswith("channel/")]}}
    return {**bundle, "source": "conda-forge", "installer": {"path": "installers/f.sh"}, "conda": conda}


def test_a_bundle_of_conda_forge_is_taken_by_the_catalogues_sums() -> None:
    found = made("one1", ALL_IN_ONE, bundle=forged())
    assert found["conda"]["installer"]["sha256"] == sha("f.sh")
    assert [file["sha256"] for file in found["whole"][0]["layers"][0]["conda"]] == [sha("python"), sha("pip")]
    far = [host("one1", "controller api workers agents", lab_bundle_url="", lab_models=[])]
    prefixes = [one["prefix"] for one in made("one1", far, bundle=None)["whole"]]
    assert [one["prefix"] for one in found["whole"]][1:] == prefixes, "made of the same files, wherever they come from"


@pytest.mark.parametrize("path", [*FORGED, "models/demo/config.json"])
def test_a_bundle_that_has_another_file_than_the_catalogue_is_refused(path: str) -> None:
    """Made by an older version, or changed by somebody together with its line in the manifest."""
    wanted = FORGED.get(path, sha("demo/config.json"))
    with pytest.raises(Problem, match=f"LW-PLAN-057: .* another {path} .* sha256 {OTHER}; expected {wanted}"):
        made("one1", ALL_IN_ONE, bundle=forged(**{path: OTHER}))


def test_a_model_of_a_hub_is_taken_from_a_bundle_by_the_catalogues_sum() -> None:
    bundle = manifest()
    bundle["files"] |= {f"models/hub/{one['path']}": {"sha256": OTHER, "size": 3} for one in MODELS["hub"]["files"]}
    with pytest.raises(Problem, match=r"LW-PLAN-057: .* another models/hub/config\.json"):
        made("w11", [host("w11", "controller workers", lab_models=["hub"])], bundle=bundle)


def test_what_the_kit_makes_has_its_own_sums_unless_the_inventory_wants_conda_forges() -> None:
    other = manifest()
    other["files"] |= {path: {"sha256": OTHER, "size": 1} for path in (INSTALLER, PYTHON[0])}
    assert made("one1", ALL_IN_ONE, bundle=other)["conda"]["installer"]["sha256"] == OTHER
    wish = {"lab_bundle_source": "conda-forge"}
    assert code("one1", [host("one1", "controller api workers agents", **wish)], bundle=other) == "LW-PLAN-057"


def test_a_bundle_for_no_platform_of_ours_is_refused_with_a_sentence() -> None:
    assert code("one1", ALL_IN_ONE, bundle={**manifest(), "conda": {"win-64": {"3.11": PYTHON}}}) == "LW-PLAN-013"


def test_a_model_of_this_repository_needs_a_bundle() -> None:
    assert code("one1", [host("one1", "controller workers", lab_bundle_url="")], bundle=None) == "LW-PLAN-007"


@pytest.mark.parametrize("model", ["empty"])
def test_a_model_without_files_is_never_an_empty_folder(model: str) -> None:
    fleet = [host("one1", "controller workers", lab_models=[model], lab_bundle_url="")]
    assert code("one1", fleet, bundle=None) == "LW-PLAN-007"


def test_a_file_without_a_sum_is_never_fetched_from_a_hub() -> None:
    fleet = [host("w1", "controller workers", lab_models=["chatglm2-6b"], lab_bundle_url="")]
    whole = written(lab(fleet, catalogue_=real()))
    with pytest.raises(Problem, match="LW-PLAN-007"):
        delivery.spell_out(fleet[0], whole["hosts"]["w1"], shared(whole, "w1"), real())


def test_a_build_without_a_lock_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(Problem, match=r"LW-PLAN-005: .* chatglm2 .* torch 2\.7\.1\+cu128 .* locks for 2\.0\.1\+cpu"):
        made("one1", ALL_IN_ONE, LOCKED_GPU)


def test_a_stack_without_any_lock_is_refused() -> None:
    bare = {**STACKS, "frontend": replace(STACKS["frontend"], locks=())}
    assert code("c1", [host("c1", "controller")], stacks=bare) == "LW-PLAN-005"


def gaps(name: str, fleet: Sequence[Host], hardware: Hardware, bundle: dict[str, Any] | None = EVERYTHING) -> list[str]:
    whole = written(lab(fleet, {name: hardware}))
    one = next(one for one in fleet if one.name == name)
    return [found.id for found in delivery.gaps(one, whole["hosts"][name], whole, catalogue(bundle))]


def with_big(bundle: dict[str, Any]) -> dict[str, Any]:
    """The bundle with a large model of a hub."""
    bundle["files"] |= {f"models/big/{one['path']}": {**one, "size": 7} for one in MODELS["big"]["files"]}
    return bundle


def test_all_gaps_are_found_at_once_and_each_is_said_once() -> None:
    fleet = [host("one1", "controller api workers", lab_models=["demo", "demo", "big"])]
    assert gaps("one1", fleet, machine(), with_big(manifest())) == []
    bundle = with_big(without("wheels/fschat-0.2.36-py3-none-any.whl"))
    assert gaps("one1", fleet, machine(), bundle) == ["LW-PLAN-014"]
    assert gaps("one1", fleet, LOCKED_GPU, with_big(manifest())) == ["LW-PLAN-005"]
    both = with_big(without(INSTALLER))
    assert gaps("one1", fleet, LOCKED_GPU, both) == ["LW-PLAN-012", "LW-PLAN-005"]


T4 = machine(card(16 * 1024, "7.5", "Tesla T4"), driver="535.104.05")


def on_a_t4(model: str) -> tuple[Host, dict[str, Any]]:
    """A host without a bundle and its lab, planned by this repository's catalogue."""
    one = host("c1", "controller api workers agents", lab_models=[model], lab_bundle_url="")
    return one, written(lab([one], {"c1": T4}, catalogue_=real()))


@pytest.mark.parametrize("model", ["qwen2.5-0.5b-instruct", "qwen2.5-7b-instruct"])
def test_a_t4_without_a_bundle_is_brought_everything(model: str) -> None:
    one, whole = on_a_t4(model)
    assert delivery.gaps(one, whole["hosts"]["c1"], shared(whole, "c1"), real()) == []
    found = delivery.spell_out(one, whole["hosts"]["c1"], shared(whole, "c1"), real())
    assert [kind(request) for request in found["whole"]] == ["current-cu128", "frontend", "agents"]
    torch = found["whole"][0]["layers"][1]
    assert "torch==2.10.0 " in torch["requirements"]
    assert "nvidia-cuda-runtime-cu12==12.8." in torch["requirements"]
    assert torch["index"] == [], "its wheel lies on the package index; PyTorch's own 2.10.0+cu128 would go before it"
    (files,) = [request["files"] for request in found["models"]]
    assert {file["path"] for file in files} == {file["path"] for file in real().models[model]["files"]}


@pytest.mark.parametrize("model", ["chatglm2-6b", "glm-4-9b-chat-hf", "labwright-demo"])
def test_a_model_without_known_sums_or_of_this_repository_stays_a_gap_without_a_bundle(model: str) -> None:
    one, whole = on_a_t4(model)
    assert [row.id for row in delivery.gaps(one, whole["hosts"]["c1"], shared(whole, "c1"), real())] == ["LW-PLAN-007"]


# --- removal ---------------------------------------------------------------------------------------------------------


def test_leftovers_need_neither_bundle_nor_facts() -> None:
    found = delivery.leftovers(host("w11", "", lab_root="/srv/lab", lab_store="/srv/store", lab_state="/srv/state"))
    assert json.loads(json.dumps(found)) == found
    assert found["folders"] == ["/srv/lab", "/srv/state", "/etc/labwright"]
    assert (found["store"], found["conda"]["prefix"]) == ("/srv/store", "/srv/lab/conda")
    assert found["environments"] == {
        "torch": [{"root": "/srv/lab/envs"}],
        "transformers": [{"root": "/srv/lab/envs"}],
        "fastchat": [{"root": "/srv/lab/envs"}],
        "autogen": {"root": "/srv/lab/envs"},
    }
    (models,) = found["models"]
    assert (models["state"], models["path"], models["files"]) == ("absent", "/srv/lab/models", [])


# --- any lab ---------------------------------------------------------------------------------------------------------


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
        models = draw(st.lists(st.sampled_from(["demo", "other"]), min_size=1, max_size=3))
        port = draw(st.sampled_from([21002, 22000]))
        found.append(host(f"h{number + 1}", " ".join(groups), lab_models=models, lab_worker_port=port))
    return found


@settings(deadline=None, max_examples=60)
@given(fleet=fleets())
def test_every_host_is_brought_the_same_things_again_from_the_bundle_alone(fleet: list[Host]) -> None:
    whole = written(lab(fleet))
    bundled = catalogue(EVERYTHING)
    for one in fleet:
        entry = whole["hosts"][one.name]
        assert delivery.gaps(one, entry, whole, bundled) == []
        found = delivery.spell_out(one, entry, shared(whole, one.name), bundled)
        again = json.loads(json.dumps(entry))
        assert found == delivery.spell_out(one, again, shared(whole, one.name), catalogue(manifest()))
        assert json.loads(json.dumps(found)) == found
        assert all(file["url"].startswith(BUNDLE + "/") for file in files_in(found))
        ids = [check["id"] for check in found["checks"]]
        assert len(ids) == len(set(ids))
