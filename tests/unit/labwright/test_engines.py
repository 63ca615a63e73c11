"""Engines: what the plan refuses and promises of them, their data, and vLLM's command against its own options."""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from hypothesis import given
from hypothesis import strategies as st

from hostkit.result import Problem
from labwright import catalog, delivery, doors, memory, needs
from labwright.catalog import Engine
from labwright.hardware import Gpu, Hardware, seen
from labwright.planned import HostPlan, Worker
from unit.labwright.made_up import STACKS, card, catalogue, host, ids, lab, machine, one_host, real, written
from unit.programs import ROOT

GIB = 1024
SEVEN, SMALL = "qwen2.5-7b-instruct", "qwen2.5-0.5b-instruct"
SERVICES = ROOT / "roles/fastchat/vars/engines"


def planned(hardware: Hardware, **wishes: Any) -> HostPlan:
    """The plan of one host that serves with vLLM, by this repository's catalogue."""
    wished = {"lab_models": [SMALL], "lab_engine": "vllm", **wishes}
    return one_host(hardware, **wished)


def worker(*cards: Gpu, **wishes: Any) -> Worker:
    """The one worker of such a host."""
    found = planned(machine(*cards), **wishes)
    assert ids(found.problems) == []
    (one,) = found.workers
    return one


# --- what is refused -------------------------------------------------------------------------------------------------

A10 = card(24 * GIB)


@pytest.mark.parametrize(
    ("hardware", "wishes", "code", "said"),
    [
        (machine(A10), {"lab_engine": "sglang"}, "LW-ENGINE-001", "there are fastchat, vllm"),
        (machine(A10), {"lab_stack": "current"}, "LW-ENGINE-002", "for the engine fastchat, and lab_engine is vllm"),
        (machine(A10), {"lab_stack": "vllm", "lab_engine": "fastchat"}, "LW-ENGINE-002", "set lab_engine: vllm"),
        (machine(A10, platform="win-64"), {}, "LW-ENGINE-003", "run on win-64; expected linux-64"),
        (machine(), {}, "LW-ENGINE-004", f"{SMALL} would run on the CPU"),
        (machine(A10), {"lab_device": "cpu"}, "LW-ENGINE-004", "take lab_device: cpu out"),
        (machine(card(16 * GIB, "7.0")), {}, "LW-ENGINE-005", "7.5 or higher; the best card here has 7.0"),
        (machine(A10), {"lab_models": ["chatglm2-6b"]}, "LW-ENGINE-006", "fails from 4.34 on"),
        (machine(A10), {"lab_models": [{"name": SEVEN, "quantization": "int8"}]}, "LW-ENGINE-007", "fp32, bf16, fp16"),
        (machine(A10, A10, A10), {"lab_models": [{"name": SEVEN, "gpus": 3}]}, "LW-ENGINE-008", "divides 4"),
        (machine(A10, glibc="2.28"), {}, "LW-STACK-006", "the C library 2.31 or newer; this host has 2.28"),
        (
            machine(card(16 * GIB, "7.5")),
            {"lab_models": [{"name": SMALL, "quantization": "bf16"}]},
            "LW-FIT-005",
            "bf16",
        ),
        (machine(A10, driver="535.104.05"), {}, "LW-TORCH-007", "Install driver 580.65.06"),
    ],
)
def test_what_an_engine_cannot_do_is_a_sentence(
    hardware: Hardware, wishes: dict[str, Any], code: str, said: str
) -> None:
    found = planned(hardware, **wishes)
    assert ids(found.problems) == [code]
    assert found.workers == []
    for language in ("en", "zh"):
        assert "{" not in "".join(found.problems[0].say(language).values())
    assert said in " ".join(found.problems[0].say("en").values())


def test_what_the_catalogue_has_and_the_engine_does_not_is_no_fault_of_auto() -> None:
    found = planned(machine(card(80 * GIB)), lab_models="auto")
    assert found.problems == []
    assert "LW-ENGINE-006" in ids(found.notes)
    assert "chatglm2-6b" not in [one.model for one in found.workers]


def test_the_host_tells_its_c_library() -> None:
    assert seen({"glibc": "2.36"}, real().gpus)[0].glibc == "2.36"
    assert ids(planned(machine(A10, glibc="2.36")).problems) == []


# --- what is planned -------------------------------------------------------------------------------------------------


def test_a_worker_of_another_engine() -> None:
    found = planned(machine(A10), lab_models=[{"name": SMALL, "aliases": ["gpt-4"]}])
    (one,) = found.workers
    assert (one.engine, one.stack, one.build.label, one.quantization) == ("vllm", "vllm", "2.13.0+cu130", "bf16")
    assert (one.names, one.port, one.engine_port) == ([SMALL, "gpt-4"], 21002, 20900)
    reasons = {row.choice: row for row in one.explain}
    assert reasons["engine"].because.id == "WHY-ENGINE"
    assert reasons["engine"].rejected == (), "stacks of other engines are no options"
    assert set(reasons) == {"engine", "torch", "quantization", "concurrency"}


def test_the_default_is_fastchat_and_says_nothing_of_engines() -> None:
    found = planned(machine(A10), lab_engine="fastchat")
    (one,) = found.workers
    assert (one.engine, one.stack, one.engine_port, one.share) == ("fastchat", "current", 0, 0.0)
    assert "engine" not in [row.choice for row in one.explain]
    stacks = next(row for row in one.explain if row.choice == "stack")
    assert "vllm" not in [no.value for no in stacks.rejected]


@given(each=st.integers(1, 200_000), total=st.integers(1, 200_000))
def test_the_share_holds_the_memory_and_hardly_more(each: int, total: int) -> None:
    share = memory.share_of(min(each, total), total)
    assert min(each, total) <= share * total + 1e-6
    assert share * total <= min(each, total) + total / 10_000 + 1e-6
    assert 0 < share <= 1


@pytest.mark.parametrize("foreign", [0, 3000, 12_000])
def test_what_other_programs_hold_is_left_to_them(foreign: int) -> None:
    one = worker(card(24 * GIB, foreign_mib=foreign))
    assert one.share == memory.share_of(one.each_mib, 24 * GIB)
    assert one.share * 24 * GIB + foreign <= 24 * GIB * (1 - memory.MARGIN) + 3
    assert one.concurrency == 32


def test_more_conversations_take_their_keys_and_values_and_no_pass_of_their_own() -> None:
    entry = real().models[SMALL]
    one = worker(A10)
    first = memory.needed_mib(entry, "bf16", 2048, "cuda")
    each = memory.cache_mib(entry, "bf16", 2048, "cuda")
    assert one.each_mib == first + 31 * each
    assert (
        memory.conversation_mib(entry, "bf16", 2048, "cuda")
        > memory.conversation_mib(entry, "bf16", 2048, "cuda", shared=True)
        == each
    )


def test_two_on_one_card_share_it() -> None:
    found = planned(machine(card(48 * GIB)), lab_models=[SMALL, SEVEN])
    assert len(found.workers) == 2
    assert sum(one.share for one in found.workers) <= 1 - memory.MARGIN
    assert sum(one.each_mib for one in found.workers) <= 48 * GIB
    assert [one.engine_port for one in found.workers] == [20900, 20899]
    (row,) = written(lab([host("one1", "controller workers", lab_engine="vllm", lab_models=[SMALL, SEVEN])],
                         {"one1": machine(card(48 * GIB))}, catalogue_=real()))["hosts"]["one1"]["gpus"]  # fmt: skip
    assert row["planned_mib"] == sum(one.each_mib for one in found.workers)
    assert row["free_mib"] >= 0


def test_over_several_cards_their_number_divides_the_heads() -> None:
    ten, wish = card(10 * GIB), [{"name": SEVEN, "quantization": "bf16"}]
    assert len(worker(*[ten] * 4, lab_models=wish, lab_engine="fastchat").gpus) == 3
    one = worker(*[ten] * 4, lab_models=wish)
    assert len(one.gpus) == 4
    assert one.concurrency > 1
    assert one.each_mib <= memory.usable_mib(10 * GIB, 0)
    found = planned(machine(*[ten] * 3), lab_models=wish)
    assert ids(found.problems) == ["LW-FIT-001"], "three would hold it, but do not divide 28 heads and 18944 columns"


def test_cards_of_two_sizes_do_not_share_a_model_of_one_share() -> None:
    pair = [card(14 * GIB), card(16 * GIB)]
    wish = [{"name": SEVEN, "quantization": "bf16", "gpus": 2}]
    assert len(worker(*pair, lab_models=wish, lab_engine="fastchat").gpus) == 2
    assert ids(planned(machine(*pair), lab_models=wish).problems) == ["LW-FIT-007"]


def test_the_engines_own_port_steps_over_those_in_use() -> None:
    busy = tuple(
        {"address": address, "port": port, "unit": unit}
        for address, port, unit in (
            ("127.0.0.1", 20900, "nginx.service"),
            ("::", 20899, ""),
            ("127.0.0.1", 20898, "labwright-engine-x.service"),
        )
    )
    found = planned(machine(A10, listening=busy))
    assert [one.engine_port for one in found.workers] == [20898]
    assert [one.engine_port for one in planned(machine(A10), lab_api_port=20900).workers] == [20899]


def test_one_model_of_the_fleet_by_two_engines() -> None:
    wish = {"lab_models": [{"name": SMALL, "replicas": 2}]}
    fleet = [
        host("c9", "controller api"),
        host("w1", "workers", **wish),
        host("w2", "workers", lab_engine="vllm", **wish),
    ]
    found = lab(fleet, {one: machine(A10, named=one) for one in ("w1", "w2")}, catalogue_=real())
    assert found.met
    assert sorted(one.engine for plan in found.hosts.values() for one in plan.workers) == ["fastchat", "vllm"]
    assert found.served == [SMALL]


def test_a_third_engine_is_data() -> None:
    third = Engine("third", devices=("cpu",), quantizations=("fp32",), conversations=7, server=True)
    stacks = {**STACKS, "third": replace(STACKS["chatglm2"], name="third", engine="third")}
    more = catalogue(stacks=stacks, engines={"fastchat": Engine("fastchat"), "third": third})
    found = lab(
        [host("one1", "controller workers", lab_engine="third")],
        {"one1": machine(memory_mib=16 * GIB)},
        catalogue_=more,
    )
    (one,) = found.hosts["one1"].workers
    assert (one.engine, one.stack, one.concurrency, one.engine_port, one.share) == ("third", "third", 7, 20900, 0.0)


# --- its data --------------------------------------------------------------------------------------------------------


def test_each_engine_has_its_services_and_its_stacks() -> None:
    engines = real().engines
    assert set(engines) == {path.stem for path in SERVICES.glob("*.yml")} == {one.engine for one in real().serving}
    assert all(set(one.models or {}) <= set(real().models) for one in engines.values())
    assert set(engines["vllm"].models or {}) == set(real().models), "of each model it is said whether it has it"


def test_an_engine_with_a_misspelt_field_is_refused(tmp_path: Path) -> None:
    for name in ("catalog", "conda", "engines", "stacks", "agents"):
        shutil.copytree(ROOT / "env" / name, tmp_path / name)
    path = tmp_path / "engines/vllm.yml"
    path.write_text(path.read_text(encoding="utf-8").replace("conversations:", "conversation:"), encoding="utf-8")
    with pytest.raises(Problem) as found:
        catalog.load(tmp_path, None)
    assert found.value.code == "LW-CAT-002"
    assert "env/engines/vllm.yml" in found.value.message


# --- what reaches the host -------------------------------------------------------------------------------------------

HARDWARE = machine(card(24 * GIB))


def brought(models: Any = (SMALL,), hardware: Hardware = HARDWARE) -> dict[str, Any]:
    """What the roles of a host read that serves with vLLM, and is neither controller nor API."""
    fleet = [
        host("c2", "controller api"),
        host("w1", "workers", lab_engine="vllm", lab_models=list(models), lab_bundle_url=""),
    ]
    whole = written(lab(fleet, {"w1": hardware}, catalogue_=real()))
    about = {**whole, "doors": doors.of(whole["hosts"])["w1"]}
    one: dict[str, Any] = json.loads(json.dumps(whole["hosts"]["w1"]))
    return delivery.spell_out(fleet[1], one, about, real())


def test_a_host_gets_the_engine_and_what_its_bridge_runs_in() -> None:
    found = brought()
    names = [str(one["link"]).rsplit("/", 1)[1] for one in found["whole"]]
    assert names == ["vllm-cu130", "frontend"]
    (one,) = found["workers"]
    assert "/envs/vllm-cu130-" in one["python"]
    assert "/envs/frontend-" in found["frontend"]
    assert (one["options"], one["engine_url"]) == ([], "http://127.0.0.1:20900")
    assert [request["path"] for request in found["models"]] == [f"/opt/labwright/models/{SMALL}"]
    assert found["packages"] == {"debian": ["gcc", "libc6-dev"], "redhat": ["gcc", "glibc-devel"]}
    checks = {row["id"]: row for row in found["checks"]}
    assert {f"service.labwright-{kind}-{SMALL}" for kind in ("engine", "worker")} <= set(checks)
    assert checks[f"worker.{SMALL}"]["url"] == one["url"], "the bridge is what is asked"


def test_mirrors_are_asked_for_what_the_host_will_take() -> None:
    asked = {
        engine: {
            want["id"].split(".")[0]
            for row in needs.of_host(
                host("w1", "workers", lab_engine=engine, lab_bundle_url="", lab_mirrors={"python": "https://p"}), real()
            )
            for want in row["wants"]
        }
        for engine in ("fastchat", "vllm")
    }
    assert {"vllm", "frontend"} <= asked["vllm"]
    assert not asked["vllm"] & {"chatglm2", "current"}
    assert not asked["fastchat"] & {"vllm", "frontend"}
    for engines, there in (([], False), (["vllm"], True)):
        wishes = {"lab_bundle_engines": engines, "lab_bundle_tags": ["cu130"], "lab_mirrors": {"python": "https://p"}}
        found = [want["id"] for row in needs.of_bundle(host("w1", "", **wishes), real()) for want in row["wants"]]
        assert ("vllm.torch-cu130" in found) is there


# --- its services ----------------------------------------------------------------------------------------------------


def services(engine: str, one: dict[str, Any]) -> list[dict[str, Any]]:
    """What the role runs for a worker, as Ansible makes it of the engine's file."""
    loader = DataLoader()
    data = loader.load_from_file(str(SERVICES / f"{engine}.yml"), trusted_as_template=True)
    given = {
        "__fastchat_worker": one,
        "fastchat_controller_url": "http://192.0.2.2:21001",
        "fastchat_python": "/opt/labwright/envs/frontend-0/bin/python",
    }
    found: list[dict[str, Any]] = Templar(loader, variables={**data, **given}).template(
        data["__fastchat_engine_services"]
    )
    return found


def parser() -> argparse.ArgumentParser:
    """`vllm serve` as far as env/engines/vllm.yml knows it, which cites the release that is locked."""
    found = argparse.ArgumentParser(exit_on_error=False, allow_abbrev=False)
    found.add_argument("model_tag")
    raw = yaml.safe_load((ROOT / "env/engines/vllm.yml").read_text(encoding="utf-8"))
    for name, row in raw["options"].items():
        if row["words"]:
            found.add_argument(name, nargs=row["words"] if row["words"] == "+" else None, choices=row.get("choices"))
        else:
            found.add_argument(name, action="store_true")
    return found


@pytest.mark.parametrize(
    ("models", "cards", "expected"),
    [
        ([{"name": SMALL, "aliases": ["gpt-4", "small"]}], [A10], {"dtype": "bfloat16", "tensor_parallel_size": "1"}),
        (
            [{"name": SMALL, "quantization": "fp32", "context": 512}],
            [A10],
            {"dtype": "float32", "max_model_len": "512"},
        ),
        ([SMALL], [card(16 * GIB, "7.5")], {"dtype": "float16"}),
        ([{"name": SEVEN, "gpus": 2, "quantization": "bf16"}], [A10, A10], {"tensor_parallel_size": "2"}),
    ],
    ids=["names", "fp32", "an older card", "two cards"],
)
def test_vllm_is_started_with_options_that_it_has(
    models: list[Any], cards: list[Gpu], expected: dict[str, str]
) -> None:
    found = brought(models, machine(*cards))
    (one,) = found["workers"]
    engine, bridge = services("vllm", one)
    assert all(isinstance(word, str) for word in [*engine["argv"], *bridge["argv"]])
    assert engine["argv"][:4] == [one["python"], "-m", "vllm.entrypoints.cli.main", "serve"]
    told = vars(parser().parse_args(engine["argv"][4:]))
    assert told["model_tag"] == one["model_path"]
    assert (told["host"], told["port"]) == ("127.0.0.1", "20900")
    assert told["served_model_name"] == one["model_names"]
    assert told["max_num_seqs"] == str(one["concurrency"])
    assert float(told["gpu_memory_utilization"]) == one["memory_share"]
    assert told["max_model_len"] == told["max_num_batched_tokens"] == str(one["context"])
    assert expected.items() <= told.items()
    assert engine["environment"]["CUDA_VISIBLE_DEVICES"] == ",".join(gpu["uuid"] for gpu in one["gpus"])
    assert {"VLLM_NO_USAGE_STATS", "VLLM_DO_NOT_TRACK", "DO_NOT_TRACK"} <= set(engine["environment"])
    assert (engine["devices"], bridge["devices"]) == (one["devices"], [])


def test_the_bridge_has_the_names_and_the_worker_s_address() -> None:
    (one,) = brought([{"name": SMALL, "aliases": ["gpt-4"]}])["workers"]
    engine, bridge = services("vllm", one)
    assert (engine["name"], bridge["name"]) == (f"labwright-engine-{SMALL}", f"labwright-worker-{SMALL}")
    argv = bridge["argv"]
    assert argv[:4] == ["/opt/labwright/envs/frontend-0/bin/python", "-m", "labwright_serve", "bridge"]
    told = dict(zip(argv[4::2], argv[5::2], strict=True))
    assert told == {
        "--host": one["listen"],
        "--port": "21002",
        "--worker-address": one["url"],
        "--controller-address": "http://192.0.2.2:21001",
        "--engine-url": "http://127.0.0.1:20900",
        "--model-names": f"{SMALL},gpt-4",
        "--conv-template": "qwen-7b-chat",
        "--limit-worker-concurrency": str(one["concurrency"]),
    }
    assert engine["worker"] == bridge["worker"] == one["url"], "it leaves the rotation before either stops"
    (check,) = engine["ready"]
    assert (check["kind"], check["url"], check["models"]) == ("models", one["engine_url"], one["model_names"])


def test_fastchats_worker_is_one_service() -> None:
    fleet = [host("one1", "controller api workers", lab_models=[SMALL], lab_bundle_url="")]
    whole = written(lab(fleet, {"one1": HARDWARE}, catalogue_=real()))
    about = {**whole, "doors": doors.of(whole["hosts"])["one1"]}
    (one,) = delivery.spell_out(fleet[0], json.loads(json.dumps(whole["hosts"]["one1"])), about, real())["workers"]
    (service,) = services("fastchat", one)
    assert service["name"] == one["name"]
    assert service["argv"][2:4] == ["labwright_serve", "worker"]
    assert "--dtype" in service["argv"]
