"""labwright.mirrors and labwright.needs: profiles resolved in one place, and the questions that a probe asks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from labwright import delivery, inventory, mirrors, needs
from labwright.words import Refused
from unit.labwright.made_up import MODELS, catalogue, host, ids, real

PROFILES = {
    "far": {"python": "https://far.example/simple", "torch": "https://far.example/whl"},
    "own": {"torch": "{base}/t"},
}


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ({}, {}),
        ({"python": "https://x/simple/"}, {"python": "https://x/simple"}),
        ({"profile": "far"}, PROFILES["far"]),
        ({"profile": "far", "torch": "https://x"}, {**PROFILES["far"], "torch": "https://x"}),
        ({"profile": "own", "base": "https://m:8443/r/"}, {"torch": "https://m:8443/r/t"}),
        (
            {"profile": "own", "base": "https://m", "docker": "https://d/"},
            {"torch": "https://m/t", "docker": "https://d"},
        ),
    ],
)
def test_what_is_in_effect(wish: dict[str, str], expected: dict[str, str]) -> None:
    assert mirrors.resolve(wish, PROFILES) == expected


@pytest.mark.parametrize(
    ("wish", "identifier", "words"),
    [
        ({"profile": "chyna"}, "LW-MIRROR-010", "expected one of far, own"),
        ({"profile": "own"}, "LW-MIRROR-011", "Set base in lab_mirrors"),
        ({"base": "https://m"}, "LW-MIRROR-012", "only with a profile that takes one: own"),
        ({"profile": "far", "base": "https://m"}, "LW-MIRROR-012", "take base out"),
    ],
)
def test_a_profile_that_is_none_is_a_sentence(wish: dict[str, str], identifier: str, words: str) -> None:
    with pytest.raises(Refused) as found:
        mirrors.resolve(wish, PROFILES)
    assert found.value.code == identifier
    assert words in found.value.message
    fleet = [host("c1", "controller", lab_mirrors=wish)]
    assert ids(inventory.check(fleet, catalogue(mirrors=PROFILES))[1]["c1"]) == [identifier]


def test_the_profiles_of_this_repository() -> None:
    profiles = real().mirrors
    assert set(profiles) == {"china", "internal"}
    site = mirrors.resolve({"profile": "internal", "base": "https://mirror.example"}, profiles)
    assert all(address.startswith("https://mirror.example/") for address in site.values())
    china = mirrors.resolve({"profile": "china"}, profiles)
    assert set(china) == {
        "conda_forge",
        "installers",
        "python",
        "torch",
        "huggingface",
        "modelscope",
        "debian",
        "docker",
    }
    assert not any("{" in address.replace("{version}", "") for address in [*site.values(), *china.values()])


def test_with_the_profile_of_china_nothing_is_asked_of_the_projects_own_servers() -> None:
    far = host("w1", "controller api workers agents", lab_bundle_url="", lab_mirrors={"profile": "china"})
    asked = json.dumps(needs.of_host(far, real()))
    for usual in (delivery.CONDA_FORGE, delivery.TORCH_INDEX, delivery.HUGGINGFACE, "github.com"):
        assert usual not in asked


# --- what is needed of them ------------------------------------------------------------------------------------------

SET = {"python": "https://m/simple", "torch": "https://m/whl", "docker": "https://d", "debian": "https://m/debian"}


def wants(found: list[dict[str, Any]]) -> dict[str, list[str]]:
    return {row["name"]: [want["id"] for want in row["wants"]] for row in found}


def test_a_host_needs_what_its_groups_need() -> None:
    every = host("w1", "controller workers agents", lab_bundle_url="", lab_models=["hub", "demo"], lab_mirrors=SET)
    assert wants(needs.of_host(every, catalogue())) == {
        "installers": ["conda"],
        "conda_forge": ["python"],
        "python": [
            *("chatglm2.torch-cpu", "chatglm2.transformers", "chatglm2.fastchat"),
            *("newer.torch-cu126", "newer.transformers", "newer.fastchat"),
            *("frontend.fastchat", "agents.autogen"),
        ],
        "torch": ["chatglm2.torch-cpu", "newer.torch-cu126"],
        "hub": ["hub"],
        "docker": [],
    }
    narrow = host("w1", "workers", lab_bundle_url="", lab_models=["demo"], lab_stack="newer", lab_mirrors=SET)
    assert wants(needs.of_host(narrow, catalogue()))["torch"] == ["newer.torch-cu126"]
    slow = host("w1", "workers", lab_bundle_url="", lab_device="cpu", lab_mirrors=SET)
    assert wants(needs.of_host(slow, catalogue()))["torch"] == ["chatglm2.torch-cpu"]
    page = host("c1", "api web", lab_bundle_url="", lab_mirrors=SET)
    assert wants(needs.of_host(page, catalogue()))["python"] == ["frontend.fastchat", "web.fastchat"]
    agent = host("a1", "agents", lab_bundle_url="")
    assert wants(needs.of_host(agent, catalogue())) == {"installers": ["conda"], "conda_forge": ["python"]}


def test_tagged_builds_are_asked_of_the_index_of_their_tag_and_all_else_of_the_python_index() -> None:
    found = needs.of_host(host("w1", "workers", lab_bundle_url="", lab_mirrors=SET), catalogue())
    python, torch = (next(row for row in found if row["name"] == name) for name in ("python", "torch"))
    (cpu, cuda) = torch["wants"]
    assert [pin for pin, _sums in cpu["pins"]] == ["torch==2.0.1+cpu"]
    assert cpu["indexes"] == ["https://m/whl/cpu", "https://m/simple"]
    assert cuda["indexes"][0] == "https://m/whl/cu126"
    assert torch["probe"] == "https://m/whl/cpu/torch/"
    assert [pin for pin, _sums in python["wants"][0]["pins"]] == ["numpy==1.26.4"]
    assert len(python["wants"][0]["pins"][0][1][0]) == 64
    assert python["wants"][0]["indexes"] == ["https://m/simple", "https://m/whl/cpu"]


@pytest.mark.parametrize(
    ("groups", "wishes", "expected"),
    [
        ("spare", {"lab_bundle_url": ""}, {}),
        ("workers agents", {"lab_mirrors": SET}, {"docker": []}),
        ("workers", {"lab_mirrors": SET}, {}),
        ("workers agents", {"lab_bundle_url": "", "lab_mirrors": SET, "hardware_given": {}}, {}),
    ],
)
def test_a_host_that_fetches_nothing_asks_nothing(
    groups: str, wishes: dict[str, Any], expected: dict[str, list[str]]
) -> None:
    assert wants(needs.of_host(host("w1", groups, **wishes), catalogue())) == expected


def test_the_bundle_needs_all_locks_and_its_models() -> None:
    wishes = {"lab_bundle_models": ["hub", "demo", "empty", "none"], "lab_bundle_tags": ["cu126", "cpu"]}
    one = host("w1", "workers", lab_mirrors=SET, **wishes)
    found = wants(needs.of_bundle(one, catalogue()))
    assert list(found) == ["installers", "conda_forge", "python", "torch", "hub", "debian"]
    assert {one.split(".")[0] for one in found["python"]} == {"chatglm2", "newer", "frontend", "agents"}
    assert "web.fastchat" in wants(needs.of_bundle(one, catalogue(), ["web"]))["python"]
    assert found["hub"] == ["hub"]


def test_the_bundle_needs_miniforge_whatever_a_host_without_one_wishes_for() -> None:
    plain, other = (host("w1", "workers", anaconda_distribution=wish) for wish in ("miniforge", "anaconda"))
    assert needs.of_bundle(other, catalogue()) == needs.of_bundle(plain, catalogue())


@pytest.mark.parametrize(("source", "without"), [("kit", {"installers", "conda_forge"}), ("conda-forge", {"debian"})])
def test_the_bundle_needs_only_what_its_source_needs(source: str, without: set[str]) -> None:
    every = {"installers", "conda_forge", "python", "torch", "debian"}
    one = host("w1", "workers", lab_mirrors=SET, lab_bundle_source=source)
    assert set(wants(needs.of_bundle(one, catalogue()))) == every - without


def test_files_of_models_at_both_hubs_and_without_a_sum_only_where_they_are_pinned() -> None:
    forms = [{"name": "modelscope", "files_url": f"{delivery.MODELSCOPE}/models/o/hub/resolve/master/{{path}}"}]
    files = [{"path": "a", "sha256": "1", "size": 5}, {"path": "b"}]
    models = {**MODELS, "hub": {**MODELS["hub"], "sources": forms, "files": files}}
    one = host("w1", "workers", lab_mirrors={"modelscope": "https://ms"}, lab_bundle_models=["hub"])
    hub, second = needs.of_bundle(one, catalogue(models=models))[-2:]
    pinned = f"{delivery.HUGGINGFACE}/someone/hub/resolve/abc"
    assert [[file["url"], *file["more"]] for file in hub["wants"][0]["files"]] == [
        ["https://ms/models/o/hub/resolve/master/a", f"{pinned}/a"],
        [f"{pinned}/b"],
    ]
    assert (second["name"], second["probe"], second["wants"]) == ("second_hub", f"{pinned}/a", [])


def test_the_packed_checkpoint_is_asked_for_by_its_own_name() -> None:
    one = host("w1", "workers", lab_bundle_models=["big-int4", "demo-int4"])
    (hub,) = [row for row in needs.of_bundle(one, catalogue()) if row["name"] == "hub"]
    assert [(want["id"], [file["url"] for file in want["files"]]) for want in hub["wants"]] == [
        ("big-int4", [f"{delivery.HUGGINGFACE}/someone/big-int4/resolve/def/packed.bin"])
    ]


def test_the_real_locks_make_questions() -> None:
    wishes = {
        "lab_mirrors": {"profile": "china"},
        "lab_bundle_models": ["chatglm2-6b"],
        "lab_bundle_tags": ["cu126", "cpu"],
    }
    one = host("w1", "workers", **wishes)
    found = {row["name"]: row for row in needs.of_bundle(one, real())}
    pins = [pin for row in ("python", "torch") for want in found[row]["wants"] for pin, _sums in want["pins"]]
    stacks = [stack for name, stack in real().stacks.items() if name not in ("web", "vllm")]
    linux = [lock for stack in stacks for lock in stack.locks if lock.platform == "linux-64"]
    assert len(pins) == sum(len(lock.layer.pins) for lock in linux if lock.tag in ("", "cu126", "cpu"))
    assert len(found["conda_forge"]["wants"][0]["files"]) == len(real().conda["linux-64"])
    assert found["installers"]["probe"].startswith("https://mirrors.tuna.tsinghua.edu.cn/github-release/")
    assert "{" not in found["installers"]["probe"]
    assert len(found["hub"]["wants"][0]["files"]) == len(real().models["chatglm2-6b"]["files"])
