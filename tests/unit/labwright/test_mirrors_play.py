"""playbooks/mirrors.yml and a fetching task under a real ansible-playbook, with a password from a real vault.

The password reaches the mirror and nothing else, not even the most talkative output, the log, or what is left behind.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from unit.hostkit.loopback import Loopback, Reply, behind, serving
from unit.labwright.made_up import real
from unit.programs import ROOT

HUSH = "pa55-wo:rd"
TOOLS = Path(sys.executable).parent
FETCH = """
- hosts: ctl1
  gather_facts: false
  tasks:
    - name: Bring one file
      hostkit:
        verb: model
        request: {store: "{{ folder }}/store", path: "{{ folder }}/model", files: "{{ files }}"}
"""


@pytest.fixture
def site(tmp_path: Path) -> Any:
    """A mirror behind a login that holds everything but one conda package, and an inventory with a vault."""
    with serving() as server:
        base = server.url
        (tmp_path / "vault-password").write_text("sesame")
        plain = f"lab_mirror_credentials: {{127.0.0.1: {{user: lab, password: '{HUSH}'}}}}\n"
        (tmp_path / "group_vars").mkdir()
        (tmp_path / "group_vars" / "all.yml").write_text(
            json.dumps({"lab_mirrors": {"profile": "internal", "base": base}, "lab_bundle_source": "conda-forge"})
        )
        (tmp_path / "host_vars" / "ctl1").mkdir(parents=True)
        vault = tmp_path / "host_vars" / "ctl1" / "vault.yml"
        vault.write_text(plain)
        ansible(
            tmp_path, "ansible-vault", "encrypt", "--vault-password-file", str(tmp_path / "vault-password"), str(vault)
        )
        assert HUSH not in vault.read_text()
        one = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        hosts = {"all": {"hosts": {"ctl1": one}, "children": {"controller": {"hosts": {"ctl1": None}}}}}
        (tmp_path / "hosts.yml").write_text(json.dumps(hosts))
        yield tmp_path, server


def ansible(folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    settings = {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
        "HOME": str(folder),
    }
    return subprocess.run(
        [str(TOOLS / program), *arguments],
        env={**os.environ, **settings, "no_proxy": "127.0.0.1", "ANSIBLE_LOG_PATH": str(folder / "log")},
        capture_output=True,
        text=True,
        check=False,
    )


def play(site: Path, book: Path, **more: Any) -> tuple[int, str]:
    """The exit status, and everything that was said and written down."""
    done = ansible(
        site,
        *("ansible-playbook", str(book), "-i", str(site / "hosts.yml"), "-vvvv", "--diff", "-e", json.dumps(more)),
        *("--vault-password-file", str(site / "vault-password")),
    )
    said = done.stdout + done.stderr + (site / "log").read_text()
    left = [path.read_text(errors="replace") for path in (site / "tmp").rglob("*") if path.is_file()]
    assert HUSH not in said + "".join(left)
    assert "bGFiOnBhNTUtd286cmQ=" not in said
    return done.returncode, said


def test_the_probe_names_what_is_lacking(site: tuple[Path, Loopback]) -> None:
    folder, server = site
    one = real()
    names = [str(row["url"]).rsplit("/", 1)[1] for row in one.conda["linux-64"]]
    for row, name in zip(one.conda["linux-64"], names, strict=True):
        server.answers[f"/conda-forge/{row['subdir']}/{name}"] = behind(f"lab:{HUSH}", Reply(b"", length=row["size"]))
    installer = next(row for row in one.installers if (row["name"], row["platform"]) == ("miniforge3", "linux-64"))
    server.answers[f"/miniforge/{installer['filename']}"] = behind(f"lab:{HUSH}", Reply())
    for lock in (lock for stack in one.stacks.values() for lock in stack.locks):
        for pin, (first, *_sums) in lock.layer.pins:
            name = pin.partition("==")[0]
            page = f'<a href="x-{first}#sha256={first}">x</a>'
            for path in (f"/simple/{name}/", f"/whl/{lock.tag or 'cpu'}/{name}/"):
                old = server.answers.get(path)
                text = (getattr(old, "known", "") if old else "") + page
                guarded = behind(f"lab:{HUSH}", Reply(text.encode(), headers=(("Content-Type", "text/html"),)))
                guarded.known = text  # type: ignore[attr-defined]
                server.answers[path] = guarded
    status, said = play(folder, ROOT / "playbooks" / "mirrors.yml")
    assert status == 0, said[-3000:]
    assert "LACKING" not in said
    gone = one.conda["linux-64"][0]
    del server.answers[f"/conda-forge/{gone['subdir']}/{names[0]}"]
    status, said = play(folder, ROOT / "playbooks" / "mirrors.yml")
    assert status != 0
    assert f"LW-MIRROR-003: not there: {names[0]}." in said


def test_a_file_is_fetched_with_the_login_of_the_vault(site: tuple[Path, Loopback]) -> None:
    folder, server = site
    (folder / "fetch.yml").write_text(FETCH)
    file = {**server.file("x.bin", b"1"), "path": "x.bin"}
    server.answers["/x.bin"] = behind(f"lab:{HUSH}", Reply(b"1"))
    status, said = play(folder, folder / "fetch.yml", files=[file], folder=str(folder))
    assert status == 0, said[-3000:]
    assert (folder / "model" / "x.bin").read_bytes() == b"1"
    server.answers["/y.bin"] = behind("lab:another", Reply(b"2"))
    other = {"url": f"{server.url}/y.bin", "sha256": "0" * 64, "path": "y.bin"}
    status, said = play(folder, folder / "fetch.yml", files=[other], folder=str(folder))
    assert status != 0
    assert "LW-FETCH-005" in said
    assert "refuses the login" in said
