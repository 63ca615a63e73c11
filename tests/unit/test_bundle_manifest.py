"""The manifest: what it holds, that tampering is named, and that an interrupted making never leaves one that lies."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

import bundle as program
from kit import manifest
from kit.problem import Problem

FILES = {
    "installers/conda.sh": b"#!/bin/sh\n",
    "channel/noarch/pip.conda": b"pip",
    "wheels/a-1-py3-none-any.whl": b"wheel",
}
CONDA = {
    "installer": {"path": "installers/conda.sh", "version": "1", "platform": "linux-64"},
    "environment": ["channel/noarch/pip.conda"],
    "series": "3.11",
}


def sums(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def sources(folder: Path, files: Mapping[str, bytes]) -> dict[str, Path]:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return {name: folder / name for name in files}


def make(folder: Path, source: Path, files: Mapping[str, bytes] = FILES) -> bool:
    changed = manifest.sync(folder, sources(source, files), sums(files))
    return manifest.seal(folder, "kit", "how", CONDA, sums(files)) or changed


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    assert make(tmp_path / "bundle", tmp_path / "source")
    return tmp_path / "bundle"


def test_manifest_holds_sums_sizes_installer_and_order(bundle: Path) -> None:
    content = manifest.verify(bundle)
    assert content["format"] == 1
    assert content["source"] == "kit"
    assert content["files"]["channel/noarch/pip.conda"] == {
        "sha256": sums(FILES)["channel/noarch/pip.conda"],
        "size": 3,
    }
    assert content["installer"]["sha256"] == sums(FILES)["installers/conda.sh"]
    assert content["conda"] == {"linux-64": {"3.11": ["channel/noarch/pip.conda"]}}
    assert list(content["files"]) == sorted(content["files"])


def test_sha256sum_agrees(bundle: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=bundle, check=True)


def test_second_making_changes_nothing(bundle: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in bundle.rglob("*")}
    assert not make(bundle, tmp_path / "source")
    assert {path: path.stat().st_mtime_ns for path in bundle.rglob("*")} == before


def test_changed_byte_is_named_with_both_sums_and_the_cure(bundle: Path) -> None:
    wheel = bundle / "wheels/a-1-py3-none-any.whl"
    wheel.write_bytes(b"whee1")
    with pytest.raises(Problem) as caught:
        manifest.verify(bundle)
    text = str(caught.value)
    assert text.startswith("LW-BUNDLE-003: wheels/a-1-py3-none-any.whl: sha256 ")
    assert hashlib.sha256(b"whee1").hexdigest() in text
    assert sums(FILES)["wheels/a-1-py3-none-any.whl"] in text
    assert "ansible-playbook playbooks/bundle.yml" in text


def test_changed_byte_is_mended_by_making_again(bundle: Path, tmp_path: Path) -> None:
    (bundle / "wheels/a-1-py3-none-any.whl").write_bytes(b"whee1")
    assert make(bundle, tmp_path / "source")
    manifest.verify(bundle)


def test_a_bundle_that_the_system_does_not_give_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["verify", "x" * 300]) == 1
    assert re.match("LW-BUNDLE-009: .*File name too long.* Is there room on the disk", capsys.readouterr().err)


def test_every_fault_is_told_at_once(bundle: Path) -> None:
    (bundle / "channel/noarch/pip.conda").unlink()
    (bundle / "wheels/foreign.whl").write_bytes(b"?")
    (bundle / "SHA256SUMS").write_text("")
    with pytest.raises(Problem) as caught:
        manifest.verify(bundle)
    ids = [line.split(":")[0] for line in str(caught.value).splitlines()]
    assert sorted(ids) == ["LW-BUNDLE-003", "LW-BUNDLE-004", "LW-BUNDLE-005"]


def test_files_no_longer_named_go_away_with_their_folders(bundle: Path, tmp_path: Path) -> None:
    fewer = {name: data for name, data in FILES.items() if not name.startswith("wheels/")}
    assert make(bundle, tmp_path / "other", fewer)
    assert not (bundle / "wheels").exists()
    manifest.verify(bundle)


def test_manifest_goes_before_the_first_change(bundle: Path, tmp_path: Path) -> None:
    newer = FILES | {"wheels/b-1-py3-none-any.whl": b"b"}
    found = sources(tmp_path / "source", newer)
    found["wheels/b-1-py3-none-any.whl"].unlink()
    with pytest.raises(FileNotFoundError):
        manifest.sync(bundle, found, sums(newer))
    with pytest.raises(Problem, match="LW-BUNDLE-001"):
        manifest.verify(bundle)


def test_seal_refuses_what_was_not_meant(bundle: Path) -> None:
    (bundle / "installers/conda.sh").write_bytes(b"other")
    with pytest.raises(Problem, match=r"LW-BUNDLE-007: installers/conda\.sh"):
        manifest.seal(bundle, "kit", "how", CONDA, sums(FILES))
    assert not (bundle / manifest.MANIFEST).exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2, "files": {}}', "\x00"])
def test_broken_manifest_is_a_sentence(bundle: Path, text: str) -> None:
    (bundle / manifest.MANIFEST).write_text(text)
    with pytest.raises(Problem, match="LW-BUNDLE-002"):
        manifest.verify(bundle)


def test_install_list_must_name_files_of_the_bundle(bundle: Path) -> None:
    path = bundle / manifest.MANIFEST
    content = json.loads(path.read_text())
    content["conda"]["linux-64"]["3.11"].append("channel/noarch/gone.conda")
    path.write_text(json.dumps(content))
    with pytest.raises(Problem, match=r"LW-BUNDLE-006: channel/noarch/gone\.conda"):
        manifest.verify(bundle)
