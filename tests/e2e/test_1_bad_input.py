"""Bad input on fresh hosts: a sentence with an id, and the hosts as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from e2e_lab import CACHE, FOLDER, HOSTS, Lab

pytestmark = pytest.mark.usefixtures("fresh")


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"lab_models": ["chatglm9"]}, "LW-PLAN-003"),
        ({"lab_api_port": "many"}, "LW-VAR-002"),
        ({"lab_api_prot": 9528}, "did you mean lab_api_port?"),
        ({"fastchat_heartbeats_s": 5}, "did you mean fastchat_heartbeat_s?"),
        ({"lab_root": "/opt/my lab"}, "LW-VAR-002"),
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
    lab.ssh("e2e-w1", f"systemd-run --unit=squatter python3 -m http.server 21002 --bind {HOSTS['e2e-w1']}; sleep 1")
    run = lab.play("playbooks/preflight.yml")
    lab.ssh("e2e-w1", "systemctl stop squatter")
    assert run.status != 0
    assert "LW-PLAN-009" in run.text
    assert "squatter.service" in run.text
    assert run.recap["e2e-w2"]["failed"] == 0
    assert lab.snapshot("e2e-w1") == fresh["e2e-w1"]


def test_no_disk_space_is_seen_before_anything_is_taken(lab: Lab, fresh: dict[str, set[str]]) -> None:
    lab.ssh("e2e-w1", "rm -rf /var/cache/labwright; mkdir /var/cache/labwright; "
            "mount -t tmpfs -o size=20m tmpfs /var/cache/labwright")  # fmt: skip
    run = lab.play("playbooks/preflight.yml")
    left = lab.ssh("e2e-w1", "find /var/cache/labwright -type f; umount /var/cache/labwright")
    assert run.status != 0
    assert "LW-FETCH-004" in run.text
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
