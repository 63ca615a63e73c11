"""Bad input on fresh hosts: a sentence with an id, and the hosts as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from e2e_lab import CACHE, FOLDER, HOSTS, ROOT, Lab

pytestmark = pytest.mark.usefixtures("fresh")


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"lab_models": ["chatglm9"]}, "LW-PLAN-003"),
        ({"lab_api_port": "many"}, "LW-VAR-002"),
        ({"lab_api_prot": 9528}, "did you mean lab_api_port?"),
        ({"fastchat_heartbeats_s": 5}, "did you mean fastchat_heartbeat_s?"),
        ({"lab_root": "/opt/my lab"}, "LW-VAR-002"),
        ({"lab_address": "{{ inventory_hostname }}"}, "LW-PLAN-048"),
        ({"lab_name": "{{ inventory_hostname }}"}, "LW-PLAN-049"),
        ({"lab_models": [{"name": "labwright-demo", "aliases": ["chatglm2-6b"]}, "chatglm2-6b"]}, "LW-PLAN-010"),
    ],
)
def test_wrong_wishes_stop_the_run_before_any_host_is_asked(
    lab: Lab, fresh: dict[str, set[str]], variables: dict[str, object], sentence: str
) -> None:
    run = lab.play("site.yml", **variables)
    assert run.status != 0
    assert sentence in run.text
    assert "Traceback" not in run.text
    assert "TASK [hardware" not in run.text
    assert lab.changes(fresh) == []


@contextmanager
def damaged(name: str) -> Iterator[None]:
    """One byte of a file of the bundle is changed, behind the manifest's back."""
    path = next((FOLDER / "bundle").rglob(name))
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        yield
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("name", "play"),
    [
        ("conda-kit-*.sh", "site.yml"),
        ("shortuuid-*.whl", "site.yml"),
        ("pip-*.conda", "playbooks/preflight.yml"),
        ("model.safetensors", "playbooks/preflight.yml"),
    ],
)
def test_a_changed_byte_anywhere_stops_the_run_and_names_the_file(
    lab: Lab, fresh: dict[str, set[str]], name: str, play: str
) -> None:
    full = next((FOLDER / "bundle").rglob(name)).name
    for host in HOSTS:
        lab.ssh(host, "rm -rf /var/cache/labwright")  # what was taken before, whole, is not taken again
    with damaged(name):
        run = lab.play(play)
    assert run.status != 0
    assert "LW-FETCH-003" in run.text
    assert full in run.text
    assert lab.changes(fresh) == []


def test_a_port_in_use_is_named_with_the_program_that_has_it(lab: Lab, fresh: dict[str, set[str]]) -> None:
    lab.ssh("e2e-ctl", f"systemd-run --unit=squatter python3 -m http.server 9527 --bind {HOSTS['e2e-ctl']}; sleep 1")
    run = lab.play("playbooks/preflight.yml")
    lab.ssh("e2e-ctl", "systemctl stop squatter")
    assert run.status != 0
    assert "LW-PLAN-009" in run.text
    assert "squatter.service" in run.text
    assert run.recap["e2e-w2"]["failed"] == 0
    assert lab.snapshot("e2e-ctl") == fresh["e2e-ctl"]


def test_a_worker_steps_over_a_port_in_use(lab: Lab) -> None:
    lab.ssh("e2e-w1", f"systemd-run --unit=squatter python3 -m http.server 21002 --bind {HOSTS['e2e-w1']}; sleep 1")
    run = lab.play("playbooks/plan.yml")
    lab.ssh("e2e-w1", "systemctl stop squatter")
    assert run.status == 0
    assert [lab.plan()["hosts"][host]["workers"][0]["port"] for host in ("e2e-w1", "e2e-w2")] == [21003, 21002]


@contextmanager
def nvidia_smi(lab: Lab, host: str, script: str) -> Iterator[None]:
    """A stand-in for nvidia-smi that says what a real one was recorded to say."""
    path = "/usr/local/bin/nvidia-smi"
    lab.ssh(host, f"cat > {path} <<'END_OF_FILE'\n#!/bin/sh\n{script}\nEND_OF_FILE\nchmod 755 {path}")
    try:
        yield
    finally:
        lab.ssh(host, f"rm {path}")


def test_a_broken_driver_is_never_taken_for_a_host_without_a_gpu(lab: Lab, fresh: dict[str, set[str]]) -> None:
    recorded = (ROOT / "tests/unit/labwright/recorded/version-mismatch.txt").read_text(encoding="utf-8").strip()
    with nvidia_smi(lab, "e2e-w1", f"echo '{recorded}'; exit 18"):
        plan = lab.play("playbooks/plan.yml")
        found = lab.plan()["hosts"]
        site = lab.play("playbooks/preflight.yml")
    assert plan.status != 0
    assert [row["id"] for row in found["e2e-w1"]["problems"]] == ["LW-GPU-002"]
    assert found["e2e-w1"]["workers"] == []
    assert found["e2e-w2"]["problems"] == []
    assert site.recap["e2e-w1"]["failed"] == 1
    assert site.recap["e2e-w2"]["failed"] == 0
    assert lab.snapshot("e2e-w1") == fresh["e2e-w1"]


def test_a_host_with_a_gpu_is_planned_from_what_its_driver_says(lab: Lab) -> None:
    """A Tesla T4 on driver 515, as recorded; its query line is composed from the same recording."""
    xml = (ROOT / "tests/unit/labwright/recorded/tesla-t4.xml").read_text(encoding="utf-8")
    line = "0, GPU-d37e67a5-91dd-3774-a5cb-99096249601a, Tesla T4, 15360, 1032, 515.105.01, 7.5, [N/A], Enabled"
    answer = f"case \"$1\" in --query*) echo '{line}';; -q) cat <<'END'\n{xml}\nEND\n;; esac"
    with nvidia_smi(lab, "e2e-w1", answer):
        lab.play("playbooks/plan.yml", "--limit", "e2e-w1")
    host = lab.plan()["hosts"]["e2e-w1"]
    assert (host["driver_version"], host["gpus"][0]["foreign_mib"]) == ("515.105.01", 1032)
    assert (host["workers"][0]["device"], host["workers"][0]["torch"]["tag"]) == ("cuda", "cu118")
    # The lock is there, but this lab's bundle has the CPU build only.
    assert [row["id"] for row in host["problems"]] == ["LW-PLAN-014"]
    assert "lab_bundle_tags (cu118)" in host["problems"][0]["fix"]
    assert lab.plan()["hosts"]["e2e-w2"]["workers"][0]["device"] == "cpu", "the host that was not asked keeps its part"


def test_a_machine_that_is_not_there_is_planned_without_a_connection(lab: Lab) -> None:
    card = {"name": "NVIDIA GeForce RTX 3060", "memory_mib": 12288, "compute_capability": "8.6"}
    given = {"platform": "linux-64", "driver_version": "535.104.05", "memory_mib": 32768, "disk_free_mib": 200000}
    wishes: dict[str, object] = {"lab_models": [{"name": "chatglm2-6b"}], "lab_stack": ""}
    variables = {**wishes, "hardware_given": {**given, "gpus": [card]}}
    address = "192.0.2.{{ groups['all'].index(inventory_hostname) + 1 }}"
    run = lab.play("playbooks/plan.yml", ansible_host="192.0.2.1", lab_address=address, **variables)
    assert run.status == 0, "nobody was asked: this address leads nowhere"
    worker = lab.plan()["hosts"]["e2e-w1"]["workers"][0]
    assert (worker["torch"]["tag"], worker["quantization"], worker["gpus"][0]["name"]) == (
        "cu128",
        "int8",
        card["name"],
    )
    site = lab.play("playbooks/preflight.yml", **variables)
    assert site.status != 0
    assert "LW-PLAN-020" in site.text


def test_no_disk_space_is_seen_before_anything_is_taken(lab: Lab, fresh: dict[str, set[str]]) -> None:
    lab.ssh("e2e-w1", "rm -rf /var/cache/labwright; mkdir /var/cache/labwright; "
            "mount -t tmpfs -o size=20m tmpfs /var/cache/labwright")  # fmt: skip
    run = lab.play("playbooks/preflight.yml")
    left = lab.ssh("e2e-w1", "find /var/cache/labwright -type f; umount /var/cache/labwright")
    assert run.status != 0
    assert "LW-FIT-004" in run.text
    assert left == ""
    assert lab.snapshot("e2e-w1") == fresh["e2e-w1"]


def test_a_host_without_python_is_named_and_the_others_go_on(lab: Lab) -> None:
    lab.ssh("e2e-w1", "mv /usr/bin/python3 /usr/bin/python3.away")
    run = lab.play("playbooks/preflight.yml")
    lab.ssh("e2e-w1", "mv /usr/bin/python3.away /usr/bin/python3")
    assert "LW-HARDWARE-001" in run.text
    assert run.recap["e2e-w1"]["failed"] == 1
    assert run.recap["e2e-w2"]["failed"] == 0


def test_a_host_that_cannot_be_reached_is_left_out_and_the_others_go_on(lab: Lab) -> None:
    lab.podman("stop", "-t", "5", "lw-e2e-e2e-w2")
    run = lab.play("playbooks/verify.yml")
    lab.podman("start", "lw-e2e-e2e-w2")
    lab.wait_for("e2e-w2")
    verdict = lab.verdict()
    assert run.status != 0
    assert run.recap["e2e-w2"]["unreachable"] == 1
    assert run.recap["e2e-w1"]["unreachable"] == 0
    assert {"host": "e2e-w2", "id": "host.answers", "ok": False}.items() <= next(
        check for check in verdict["checks"] if check["host"] == "e2e-w2"
    ).items()


def test_a_bundle_without_a_manifest_says_how_to_make_one(lab: Lab) -> None:
    run = lab.play("playbooks/plan.yml", lab_bundle_dir=str(CACHE / "nowhere"))
    assert run.status != 0
    assert "LW-BUNDLE-001" in run.text
    assert "playbooks/bundle.yml" in run.text


def test_a_secret_key_never_leaves_the_cache(lab: Lab) -> None:
    key = CACHE / "lab/labs/lw-e2e/id_ed25519"
    assert key.stat().st_mode & 0o077 == 0
