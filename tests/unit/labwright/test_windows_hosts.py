"""Windows hosts in a lab: their paths, what they are brought and from where, what they may be, who reaches them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PureWindowsPath
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hostkit.result import Problem
from labwright import delivery, doors, hardware, inventory, needs, operate, paths
from labwright.catalog import Catalogue, Gpus, Layer
from labwright.hardware import Hardware
from labwright.planned import Fleet
from labwright.wishes import Host
from unit.labwright.made_up import (
    WINDOWS_FOLDERS,
    all_ids,
    card,
    host,
    ids,
    lab,
    machine,
    on_windows,
    real,
    written,
)
from unit.programs import ROOT

T4 = machine(card(16 * 1024, "7.5", "Tesla T4"), driver="535.104.05", platform="win-64")
CPU = machine(platform="win-64")
SMALL = "qwen2.5-0.5b-instruct"
CONTROL = host("ctl10", "controller api agents", lab_bundle_url="")
WORKER = on_windows(host("win21", "workers", lab_bundle_url="", lab_models=[SMALL]))
MIXED = [CONTROL, WORKER]


def plan(fleet: list[Host], machines: dict[str, Hardware]) -> Fleet:
    return lab(fleet, machines, catalogue_=real())


def spelt(one: Host, whole: dict[str, Any], known: Catalogue | None = None) -> dict[str, Any]:
    """What the roles of a host read."""
    shared = {**whole, "doors": doors.of(whole["hosts"])[one.name]}
    return delivery.spell_out(one, json.loads(json.dumps(whole["hosts"][one.name])), shared, known or real())


def read(one: Host = WORKER, machine_: Hardware = T4, fleet: list[Host] = MIXED) -> dict[str, Any]:
    """The same, of a lab by this repository's catalogue."""
    return spelt(one, written(plan(fleet, {one.name: machine_})))


def texts(value: Any) -> Iterator[str]:
    """All texts in a value."""
    if isinstance(value, str):
        yield value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts(one)


# --- paths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ("linux-64", ("/srv/lab/envs", "/srv/lab/bin/python", "/srv/lab/bin/conda", "x.service")),
        ("win-64", ("D:\\lab\\envs", "D:\\lab\\python.exe", "D:\\lab\\Scripts\\conda.exe", "x")),
        ("", ("/srv/lab/envs", "/srv/lab/bin/python", "/srv/lab/bin/conda", "x.service")),
    ],
)
def test_each_system_writes_its_own_paths(platform: str, expected: tuple[str, ...]) -> None:
    system = paths.of(platform)
    root = "D:\\lab" if platform == "win-64" else "/srv/lab"
    assert (system.join(root, "envs"), system.python(root), system.conda(root), f"x{system.unit}") == expected


@pytest.mark.parametrize(
    ("path", "linux", "windows"),
    [("/opt/x", True, False), ("C:\\x", False, True), ("x", False, False), ("C:x", False, False)],
)
def test_a_path_is_whole_on_one_system_alone(path: str, linux: bool, windows: bool) -> None:
    assert (paths.SYSTEMS["linux-64"].whole(path), paths.SYSTEMS["win-64"].whole(path)) == (linux, windows)


def test_the_shipped_settings_of_the_group_are_those_of_these_tests_and_have_no_slash_in_a_path() -> None:
    shipped = yaml.safe_load((ROOT / "inventories/lab/group_vars/windows/wiring.yml").read_text())
    assert {key: shipped[key] for key in WINDOWS_FOLDERS} == WINDOWS_FOLDERS
    found = [text for text in texts(shipped) if text.startswith("{{ lab_") or ":\\" in text]
    assert len(found) > 10
    assert not any("/" in text for text in found)


# --- what a worker is brought ----------------------------------------------------------------------------------------


@pytest.mark.trap("code-page")
def test_a_windows_worker_is_brought_everything_for_windows() -> None:
    made = plan(MIXED, {"win21": T4})
    assert all_ids(made) == []
    found = read()
    assert found["system"] == "windows"
    (request,) = found["whole"]
    assert request["prefix"].startswith("C:\\labwright\\envs\\current-cu128-")
    assert (request["link"], request["conda"]) == (
        "C:\\labwright\\envs\\current-cu128",
        "C:\\labwright\\conda\\Scripts\\conda.exe",
    )
    assert request["store"] == found["store"] == "C:\\ProgramData\\labwright\\store"
    conda, torch, *_rest = request["layers"]
    assert {re.findall(r"/(win-64|noarch)/", file["url"])[0] for file in conda["conda"]} == {"win-64", "noarch"}
    assert "torch==2.10.0+cu128 " in torch["requirements"]
    assert "nvidia-" not in torch["requirements"]
    assert torch["index"] == ["--extra-index-url", "https://download.pytorch.org/whl/cu128"]
    (worker,) = found["workers"]
    assert worker["python"] == request["python"] == request["prefix"] + "\\python.exe"
    assert worker["model_path"] == found["models"][0]["path"] == f"C:\\labwright\\models\\{SMALL}"
    assert worker["devices"] == worker["gpus"][0]["devices"] == []
    prefix = request["prefix"]
    assert worker["environment"] == {
        "CUDA_VISIBLE_DEVICES": worker["gpus"][0]["uuid"],
        "PYTHONUTF8": "1",
        "PATH": f"{prefix};{prefix}\\Library\\mingw-w64\\bin;{prefix}\\Library\\usr\\bin;{prefix}\\Library\\bin;"
        f"{prefix}\\Scripts;C:\\Windows\\System32;C:\\Windows;C:\\Windows\\System32\\Wbem",
    }
    assert worker["url"] == "http://192.0.2.21:21002"


@pytest.mark.trap("path-flavour")
def test_no_path_of_linux_reaches_a_windows_host_and_none_of_windows_a_linux_host() -> None:
    for_windows = [text for text in texts(read()) if not text.startswith("#") and "\n" not in text]
    assert [text for text in for_windows if text.startswith("/") or "/labwright" in text] == []
    assert [text for text in texts(read(CONTROL, machine())) if ":\\" in text] == []


def test_a_worker_on_the_cpu_gets_the_build_for_it() -> None:
    found = read(machine_=CPU)
    assert found["whole"][0]["link"] == "C:\\labwright\\envs\\current-cpu"
    assert set(found["workers"][0]["environment"]) == {"PATH", "PYTHONUTF8"}


def test_conda_comes_first_and_its_installer_and_the_others_are_the_ones_for_windows() -> None:
    found = read()
    assert found["conda"]["first"] is True
    installer = found["conda"]["installer"]
    assert installer["name"].endswith("-Windows-x86_64.exe")
    assert installer["unless"] == "C:\\labwright\\conda\\.labwright-installer"
    assert {key: row["name"] for key, row in found["installers"].items()} == {
        "git": "Git-2.51.0-64-bit.exe",
        "vc_redist": "VC_redist.x64.exe",
    }
    assert all(set(row) == {"url", "sha256", "size", "name", "unless"} for row in found["installers"].values())
    assert (
        found["installers"]["vc_redist"]["unless"]
        == "C:\\ProgramData\\labwright\\state\\packages\\vc_redist\\installer"
    )
    assert all(re.fullmatch("[0-9a-f]{64}", row["sha256"]) for row in [installer, *found["installers"].values()])


@pytest.mark.trap("nssm-version")
def test_nssm_is_one_file_of_an_archive_and_known_by_its_own_sum() -> None:
    (tool,) = read()["tools"]
    assert tool["path"] == "C:\\labwright\\lib\\nssm.exe"
    assert (tool["name"], tool["member"]) == ("nssm.exe", "win64/nssm.exe")
    assert tool["sha256"] == "eee9c44c29c2be011f1f1e43bb8c3fca888cb81053022ec5a0060035de16d848"


def test_a_linux_host_needs_none_of_it() -> None:
    found = read(CONTROL, machine())
    assert (found["system"], found["installers"], found["tools"], found["docker"]) == ("linux", {}, [], True)
    assert found["frontend_environment"] == found["agents_environment"] == {}
    assert found["conda"]["first"] is False


def test_a_windows_host_without_a_duty_gets_nothing_but_git() -> None:
    idle = on_windows(host("win22", "spare", lab_bundle_url=""))
    found = read(idle, CPU, [*MIXED, idle])
    assert (found["conda"], found["tools"], found["whole"]) == ({}, [], [])
    assert list(found["installers"]) == ["git"]


def test_a_mirror_of_miniforge_is_asked_for_its_windows_installer() -> None:
    one = Host(WORKER.name, WORKER.groups, {**WORKER.wishes, "lab_mirrors": {"installers": "https://m/{version}"}})
    found = read(one, T4, [CONTROL, one])
    assert found["conda"]["installer"]["url"] == "https://m/25.11.0-1/Miniforge3-25.11.0-1-Windows-x86_64.exe"
    assert found["installers"]["git"]["url"].startswith("https://github.com/git-for-windows/")


def test_a_controller_on_windows_runs_from_the_frontend_and_is_a_service_without_a_suffix() -> None:
    control = on_windows(host("ctl9", "controller", lab_bundle_url=""))
    other = host("w11", "workers api", lab_bundle_url="", lab_models=[SMALL])
    found = read(control, CPU, [control, other])
    assert re.fullmatch(r"C:\\labwright\\envs\\frontend-[0-9a-f]{12}\\python\.exe", found["frontend"])
    assert "vc_redist" not in found["installers"]
    assert found["frontend_environment"]["PATH"].startswith(found["frontend"].removesuffix("\\python.exe") + ";")
    unit = next(check for check in found["checks"] if check["kind"] == "unit")
    assert unit == {
        "id": "service.labwright-controller",
        "kind": "unit",
        "unit": "labwright-controller",
        "host": "192.0.2.9",
        "port": 21001,
    }


# --- the same from a bundle ------------------------------------------------------------------------------------------

NAMES = ("miniforge3", "git-for-windows", "vc-redist-2015-2022-x64", "docker-desktop", "nssm")


def sum_of(name: str) -> str:
    """An installer's sum in this repository's catalogue."""
    row = next(row for row in real().installers if (row["name"], row["platform"]) == (name, "win-64"))
    return str(row["members"][0]["sha256"] if "members" in row else row["sha256"])


def bundle(*lacking: str, stand_ins: bool = False) -> Catalogue:
    """This repository's catalogue with a bundle that has all of the small model's host on the CPU. ``stand_ins``: what
    Windows itself installs is not the catalogue's, as in a folder that tests filled."""
    one = real()
    stack = one.stacks["current"]
    sums = [sums[0] for layer in stack.layers("cpu", "win-64") for _pin, sums in layer.pins]
    files: dict[str, dict[str, Any]] = {}
    files |= {f"wheels/{at}.whl": {"sha256": digest, "size": 1} for at, digest in enumerate(dict.fromkeys(sums))}
    files |= {f"installers/{name}.exe": {"sha256": sum_of(name), "size": 2} for name in NAMES}
    conda = {f"channel/{row['subdir']}/{row['url'].rpartition('/')[2]}": row["sha256"] for row in one.conda["win-64"]}
    if stand_ins:
        files |= {f"installers/{name}.exe": {"sha256": str(at) * 64, "size": 2} for at, name in enumerate(NAMES)}
        conda = {f"channel/{part}.conda": "a" * 64 for part in ("win-64/python", "noarch/pip")}
    files |= {path: {"sha256": digest, "size": 3} for path, digest in conda.items()}
    files |= {
        f"models/{SMALL}/{row['path']}": {"sha256": row["sha256"], "size": 4} for row in one.models[SMALL]["files"]
    }
    files |= {"installers/conda.sh": {"sha256": "b" * 64, "size": 4}}
    manifest = {
        "format": 1,
        "source": "kit",
        "files": files,
        "installer": {"path": "installers/conda.sh"},
        "installers": {"win-64": {name: f"installers/{name}.exe" for name in NAMES if name not in lacking}},
        "conda": {"win-64": {"3.11": list(conda)}},
    }
    return replace(one, manifest=manifest, by_sum={row["sha256"]: path for path, row in files.items()})


def from_bundle(known: Catalogue, **wishes: str) -> dict[str, Any]:
    wished = {**WORKER.wishes, "lab_bundle_url": "http://192.0.2.1:8480", **wishes}
    one = Host(WORKER.name, WORKER.groups, wished)
    return spelt(one, written(plan([CONTROL, one], {"win21": CPU})), known)


def test_a_bundle_serves_windows_hosts_with_what_is_theirs() -> None:
    found = from_bundle(bundle())
    assert found["conda"]["installer"]["url"] == "http://192.0.2.1:8480/installers/miniforge3.exe"
    assert found["installers"]["git"]["url"].endswith("/installers/git-for-windows.exe")
    assert "member" not in found["tools"][0]
    assert found["tools"][0]["url"].endswith("/installers/nssm.exe")
    conda = found["whole"][0]["layers"][0]["conda"]
    assert [file["sha256"] for file in conda] == [row["sha256"] for row in real().conda["win-64"]]
    assert {file["url"].rsplit("/", 2)[1] for file in conda} == {"win-64", "noarch"}


def test_stand_ins_for_what_windows_installs_are_taken_only_where_the_inventory_says_so() -> None:
    with pytest.raises(Problem, match=r"LW-PLAN-012: The bundle has no channel/"):
        from_bundle(bundle(stand_ins=True))
    found = from_bundle(bundle(stand_ins=True), lab_bundle_source="kit")
    assert [file["url"].rsplit("/", 2)[1] for file in found["whole"][0]["layers"][0]["conda"]] == ["win-64", "noarch"]
    assert found["installers"]["git"]["sha256"] == "1" * 64


@pytest.mark.parametrize("name", ["miniforge3", "git-for-windows", "vc-redist-2015-2022-x64", "nssm"])
def test_a_bundle_with_another_installer_than_the_catalogues_is_refused(name: str) -> None:
    known = bundle()
    assert known.manifest
    files = {**known.manifest["files"], f"installers/{name}.exe": {"sha256": "e" * 64, "size": 2}}
    said = rf"LW-PLAN-057: .* another installers/{name}\.exe .* e{{64}}; expected {sum_of(name)}"
    with pytest.raises(Problem, match=said):
        from_bundle(replace(known, manifest={**known.manifest, "files": files}))


@pytest.mark.parametrize("name", ["miniforge3", "git-for-windows", "vc-redist-2015-2022-x64", "nssm"])
def test_a_bundle_made_without_windows_is_refused_with_what_it_lacks(name: str) -> None:
    with pytest.raises(Problem, match=f"LW-PLAN-042: The bundle has no {name} for win-64"):
        from_bundle(bundle(name))


# --- what Windows hosts may be ---------------------------------------------------------------------------------------


def wrong(fleet: list[Host]) -> list[str]:
    """What is refused before any host is asked."""
    whole, by_host = inventory.check(fleet, real())
    return [*ids(whole), *(one for found in by_host.values() for one in ids(found))]


def test_an_api_stays_on_linux() -> None:
    assert wrong([on_windows(host("win1", "controller api workers", lab_models=[SMALL]))]) == ["LW-PLAN-022"]
    assert wrong(MIXED) == []


@pytest.mark.trap("path-flavour")
@pytest.mark.parametrize("wish", ["lab_root", "lab_state", "lab_store"])
def test_paths_are_those_of_the_hosts_system(wish: str) -> None:
    windows = Host("win1", frozenset({"workers", "windows"}), {**WORKER.wishes, wish: "/opt/labwright"})
    linux = host("w2", "workers", lab_models=[SMALL], **{wish: "C:\\labwright"})
    assert wrong([CONTROL, windows]) == ["LW-PLAN-041"]
    assert wrong([CONTROL, linux]) == ["LW-PLAN-041"]


@pytest.mark.parametrize("wish", ["lab_root", "lab_state", "lab_store"])
@pytest.mark.parametrize(
    ("path", "fits"),
    [
        *((path, False) for path in ("/usr/local", "/opt/", "/srv", "//var//lib", "/var/lib/x/..", "/home", "/")),
        *((path, True) for path in ("/data", "/opt/lab", "/srv/lab", "/usr/local/lab", "/mnt/disk", "/homes/lab")),
    ],
)
def test_the_labs_folders_are_none_of_the_systems(wish: str, path: str, fits: bool) -> None:
    there = host("w2", "workers", lab_models=[SMALL], **{wish: path})
    assert wrong([CONTROL, there]) == ([] if fits else ["LW-PLAN-055"])


@pytest.mark.parametrize("path", ["C:\\Windows", "c:\\users", "C:\\labwright\\..\\ProgramData"])
def test_nor_are_they_windows_own(path: str) -> None:
    windows = Host("win1", frozenset({"workers", "windows"}), {**WORKER.wishes, "lab_root": path})
    assert wrong([CONTROL, windows]) == ["LW-PLAN-055"]


@pytest.mark.parametrize("path", ["home/anna/lab", "root/lab", "tmp/lab", "var/tmp/x/y", "run/lab", "opt/../home/x"])
def test_software_lies_where_services_see_it_and_a_restart_leaves_it(path: str) -> None:
    there = host("w2", "workers", lab_models=[SMALL], lab_root=f"/{path}")
    assert wrong([CONTROL, there]) == ["LW-PLAN-056"]
    assert wrong([CONTROL, host("w2", "workers", lab_models=[SMALL], lab_store=f"/{path}")]) == []


def test_group_and_system_agree() -> None:
    assert all_ids(plan(MIXED, {"win21": machine()})) == ["LW-PLAN-040"]
    assert all_ids(plan([CONTROL, host("w11", "workers", lab_models=[SMALL])], {"w11": CPU})) == ["LW-PLAN-040"]
    (found,) = plan(MIXED, {"win21": machine()}).hosts["win21"].problems
    assert found.values["found"] == "linux-64"


def test_a_host_on_paper_is_what_its_group_says() -> None:
    for platform in ("linux-64", "win-64"):
        assert hardware.given({"cpus": 4}, "x", Gpus(), platform)[0].platform == platform
    assert hardware.given({"platform": "linux-64"}, "x", Gpus(), "win-64")[0].platform == "linux-64"


def test_a_rule_of_windows_firewall_takes_no_names() -> None:
    """Of those that must be let in, the API alone can have a name, with a certificate for it."""
    own = {"certificate": "api.crt", "key": "api.key", "authority": "site.crt"}
    control = host("ctl10", "controller")
    named = host("a2", "api", lab_address="api.example.org", lab_certificate=own)
    assert wrong([control, named, WORKER]) == ["LW-PLAN-043"]
    assert wrong([on_windows(control), named, host("w3", "workers", lab_models=[SMALL])]) == ["LW-PLAN-043"]
    itself = Host(WORKER.name, WORKER.groups, {**WORKER.wishes, "lab_firewall": False})
    assert wrong([control, named, itself]) == []
    agents_ = host("a3", "agents", lab_address="a3.example.org")
    assert wrong([CONTROL, agents_, WORKER]) == [], "no door of a worker is for it"


AGENTS = on_windows(host("win22", "agents", lab_bundle_url=""))


def agents(machine_: Hardware = CPU, **wishes: Any) -> tuple[Host, Fleet]:
    one = Host(AGENTS.name, AGENTS.groups, {**AGENTS.wishes, **wishes})
    return one, plan([*MIXED, one], {"win22": machine_, "win21": T4})


def test_code_of_models_runs_on_windows_only_where_the_inventory_says_so_and_then_it_is_said() -> None:
    assert all_ids(agents()[1]) == ["LW-KNOWN-007"]
    one, made = agents(lab_agent_code="local")
    assert all_ids(made) == []
    found = made.hosts["win22"]
    assert (found.sandbox, ids(found.notes)) == ("local", ["LW-PLAN-044"])
    assert [row.because.id for row in found.explain if row.choice == "sandbox"] == ["WHY-SANDBOX-LOCAL"]
    check = spelt(one, written(made))["checks"][-1]
    assert check["kind"] == "agent"
    assert check["argv"][0].endswith("\\python.exe")
    assert check["argv"][1:5] == ["-P", "-m", "labwright_agents", "assistant"]
    assert check["argv"][-4:] == [
        "--config",
        "C:\\ProgramData\\labwright\\etc\\agents\\OAI_CONFIG_LIST",
        "--home",
        "C:\\labwright\\work",
    ]
    assert check["environment"]["SSL_CERT_FILE"] == "C:\\ProgramData\\labwright\\etc\\ca.crt"


def test_local_on_linux_is_said_too_and_still_needs_systemd() -> None:
    linux = Host(CONTROL.name, CONTROL.groups, {**CONTROL.wishes, "lab_agent_code": "local"})
    made = plan([linux, WORKER], {"win21": T4})
    found = made.hosts["ctl10"]
    assert (found.sandbox, ids(found.notes)) == ("local", ["LW-PLAN-044"])
    assert spelt(linux, written(made))["docker"] is False
    assert all_ids(plan([linux, WORKER], {"win21": T4, "ctl10": machine(systemd=False)})) == ["LW-KNOWN-007"]


@pytest.mark.trap("docker-licence", "docker-server")
def test_docker_desktop_comes_where_its_terms_are_accepted_and_not_on_a_server() -> None:
    one, made = agents(lab_agent_code="local")
    assert spelt(one, written(made))["docker"] is False
    one, made = agents(lab_agent_code="local", lab_docker_desktop=True)
    found = spelt(one, written(made))
    assert found["docker"] is True
    assert found["installers"]["docker_desktop"]["name"] == "Docker Desktop Installer.exe"
    assert "WHY-DOCKER-DESKTOP" in [row.because.id for row in made.hosts["win22"].explain]
    server = replace(CPU, server=True)
    assert all_ids(agents(server, lab_agent_code="local", lab_docker_desktop=True)[1]) == ["LW-PLAN-045"]
    assert all_ids(agents(server, lab_agent_code="local")[1]) == []


@pytest.mark.trap("torch-cpu")
def test_a_lock_for_a_gpu_without_a_tag_in_its_version_is_the_cpus_on_windows() -> None:
    stack = real().stacks["current"]

    def without_tag(layer: Layer) -> Layer:
        return Layer(layer.role, layer.requirements.replace("torch==2.10.0+cu128", "torch==2.10.0"))

    locks = tuple(
        replace(one, layer=without_tag(one.layer)) if (one.tag, one.platform) == ("cu128", "win-64") else one
        for one in stack.locks
    )
    known = replace(real(), stacks={**real().stacks, "current": replace(stack, locks=locks)})
    with pytest.raises(Problem, match=r"LW-PLAN-046: .*torch==2\.10\.0, which is the build without CUDA"):
        spelt(WORKER, written(plan(MIXED, {"win21": T4})), known)


def test_disk_and_what_is_there_are_asked_of_windows_paths() -> None:
    def problems(present: tuple[str, ...]) -> list[str]:
        found = replace(T4, disk_mib={"C:\\labwright": 500}, present=frozenset(present))
        return all_ids(plan(MIXED, {"win21": found}))

    assert problems(()) == ["LW-FIT-004"]
    there = ("C:\\labwright\\envs\\current-cu128-0123", f"C:\\labwright\\models\\{SMALL}")
    assert problems(there) == []


# --- doors -----------------------------------------------------------------------------------------------------------


def rules(fleet: list[Host], machines: dict[str, Hardware]) -> dict[str, dict[str, Any]]:
    found = doors.of(json.loads(json.dumps(written(lab(fleet, machines, catalogue_=real()))))["hosts"])
    return {one.name: doors.request(found[one.name], one) for one in fleet}


def test_a_windows_worker_is_open_to_those_that_ask_it_and_linux_admits_it() -> None:
    api = host("a12", "api", lab_bundle_url="")
    two = Host(WORKER.name, WORKER.groups, {**WORKER.wishes, "lab_models": [SMALL, SMALL]})
    found = rules([CONTROL, api, two], {"win21": CPU})
    assert found["win21"] == {
        "state": "present",
        "rules": [
            {"name": "Labwright controller", "state": "absent", "ports": "", "from": ""},
            {
                "name": "Labwright model workers",
                "state": "present",
                "ports": "21002,21003",
                "from": "192.0.2.12,192.0.2.10",
            },
        ],
    }
    (inward,) = found["ctl10"]["inward"]
    assert (inward["what"], inward["from"]) == ("controller", ["192.0.2.12", "192.0.2.21"])
    assert [row["to"] for row in found["ctl10"]["peers"]] == [["192.0.2.21"], ["192.0.2.21"]]


def test_a_windows_controller_is_open_to_the_whole_lab() -> None:
    control = on_windows(host("ctl9", "controller", lab_bundle_url=""))
    worker = host("w11", "workers api", lab_bundle_url="", lab_models=[SMALL])
    found = rules([control, worker], {"ctl9": CPU})["ctl9"]["rules"]
    assert [(row["name"], row["ports"], row["from"]) for row in found if row["state"] == "present"] == [
        ("Labwright controller", "21001", "192.0.2.11")
    ]


def test_no_firewall_of_ours_is_both_rules_absent() -> None:
    own = Host(WORKER.name, WORKER.groups, {**WORKER.wishes, "lab_firewall": False})
    found = rules([CONTROL, own], {"win21": CPU})["win21"]
    assert found == doors.absent("win-64") == delivery.leftovers(own)["firewall"]
    assert [row["state"] for row in found["rules"]] == ["absent", "absent"]


def test_nothing_asks_windows_firewall_in_the_verdict() -> None:
    assert [check["id"] for check in read()["checks"]] == [f"service.labwright-worker-{SMALL}", f"worker.{SMALL}"]


# --- mirrors, removal ------------------------------------------------------------------------------------------------


def test_the_questions_to_mirrors_are_about_windows_packages() -> None:
    found = {row["name"]: row for row in needs.of_host(WORKER, real())}
    assert found["installers"]["wants"][0]["files"][0]["url"].endswith("-Windows-x86_64.exe")
    assert any("/win-64/" in file["url"] for file in found["conda_forge"]["wants"][0]["files"])
    assert not any("/linux-64/" in file["url"] for file in found["conda_forge"]["wants"][0]["files"])
    assert all(want["id"].endswith(".windows") for want in found["torch"]["wants"])


def test_a_bundle_for_both_asks_for_both() -> None:
    only, both = (
        {row["name"]: row for row in needs.of_bundle(CONTROL, real(), windows=windows)} for windows in (False, True)
    )
    assert len(only["installers"]["wants"][0]["files"]) == 1
    assert [file["name"][-3:] for file in both["installers"]["wants"][0]["files"]] == [".sh", "exe"]
    urls = [file["url"] for file in both["conda_forge"]["wants"][0]["files"]]
    assert {file["url"] for file in only["conda_forge"]["wants"][0]["files"]} < set(urls)
    assert len(set(urls)) == len(urls), "what both systems share is asked for once"


def test_leftovers_are_swept_before_the_python_that_sweeps() -> None:
    found = delivery.leftovers(WORKER)
    assert (found["system"], found["conda"]["first"]) == ("windows", True)
    assert found["tools"] == [{"path": "C:\\labwright\\lib\\nssm.exe"}]
    folders = [PureWindowsPath(one) for one in found["folders"]]
    assert PureWindowsPath("C:/labwright") not in folders
    assert not any(folder.is_relative_to(PureWindowsPath(found["conda"]["prefix"])) for folder in folders)
    for at, one in enumerate(folders):
        assert not any(other.is_relative_to(one) for other in folders[at + 1 :]), "what is inside goes first"
    assert delivery.leftovers(CONTROL)["conda"]["first"] is False


def test_services_are_called_as_windows_calls_them_when_they_are_looked_at_and_restarted() -> None:
    whole = written(plan(MIXED, {"win21": T4}))
    entry = whole["hosts"]["win21"]
    assert operate.units(entry, firewall=True) == [f"labwright-worker-{SMALL}"]
    assert operate.units(whole["hosts"]["ctl10"], firewall=True)[0] == "labwright-firewall"
    wish = operate.restart_wish({}, whole)
    (one,) = operate.restarts(whole, "win21", wish)
    assert one["request"]["unit"] == f"labwright-worker-{SMALL}"
    control = on_windows(host("ctl9", "controller", lab_bundle_url=""))
    other = host("w11", "workers api", lab_bundle_url="", lab_models=[SMALL])
    whole = written(plan([control, other], {"ctl9": CPU}))
    wish = operate.restart_wish({"restart_what": "all"}, whole)
    assert [row["unit"] for row in operate.restart_rest(whole, "ctl9", wish)] == ["labwright-controller"]
    assert operate.restart_rest(whole, "w11", wish)[0]["unit"].endswith(".service")


# --- any mixed lab ---------------------------------------------------------------------------------------------------


@st.composite
def mixed(draw: st.DrawFn) -> tuple[list[Host], dict[str, Hardware]]:
    """A lab whose API is on Linux, and whose other hosts are either."""
    fleet, machines = [host("h1", "api controller" if draw(st.booleans()) else "api")], {"h1": machine()}
    if "controller" not in fleet[0].groups:
        fleet.append(host("h2", "controller"))
        machines["h2"] = machine()
        if draw(st.booleans()):
            fleet[1], machines["h2"] = on_windows(fleet[1]), CPU
    for number in range(3, 3 + draw(st.integers(1, 3))):
        name, groups = f"h{number}", draw(st.sampled_from(["workers", "agents workers", "agents", "spare"]))
        one = host(
            name, groups, lab_models=draw(st.sampled_from([["demo"], ["demo", "other"]])), lab_agent_code="local"
        )
        windows = draw(st.booleans())
        fleet.append(on_windows(one) if windows else one)
        machines[name] = CPU if windows else machine()
    return fleet, machines


@settings(deadline=None, max_examples=60)
@given(made=mixed())
def test_in_any_mixed_lab_each_host_speaks_its_own_system_and_everybody_reaches_whom_they_need(
    made: tuple[list[Host], dict[str, Hardware]],
) -> None:
    fleet, machines = made
    whole = json.loads(json.dumps(written(lab(fleet, machines))))
    assert [row["id"] for entry in whole["hosts"].values() for row in entry["problems"]] == []
    found = doors.of(whole["hosts"])
    address = {one.name: one.address for one in fleet}
    asking = [one.address for one in fleet if {"api", "controller"} & one.groups]
    for one in fleet:
        left = delivery.leftovers(one)
        system = one.system
        assert left["system"] == system.name
        assert all(system.whole(path) for path in [left["root"], left["store"], *left["folders"]])
        request = doors.request(found[one.name], one)
        if system.name == "linux":
            continue
        assert "\\" not in json.dumps(request)
        for row in request["rules"]:
            assert (row["state"] == "present") == bool(row["from"]) == bool(row["ports"])
            assert address[one.name] not in row["from"].split(",")
        workers = next(row for row in request["rules"] if row["name"] == doors.RULES["worker"])
        if whole["hosts"][one.name]["workers"]:
            assert set(workers["from"].split(",")) == set(asking) - {one.address}


def test_a_stack_that_is_not_locked_for_windows_is_refused_there() -> None:
    stack = real().stacks["current"]
    locks = tuple(one for one in stack.locks if one.platform == "linux-64")
    known = replace(real(), stacks={**real().stacks, "current": replace(stack, locks=locks)})
    with pytest.raises(Problem, match="LW-PLAN-005"):
        spelt(WORKER, written(plan(MIXED, {"win21": T4})), known)
