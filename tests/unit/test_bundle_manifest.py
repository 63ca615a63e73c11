"""The manifest: what it holds, that tampering is named, and that an interrupted making never leaves one that lies."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import bundle as program
from kit import manifest
from kit.files import files_under
from kit.problem import Problem

ENV = Path(__file__).resolve().parents[2] / "env"
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
    assert re.match(r"LW-BUNDLE-009: .*File name too long.*\. Expected a disk with room", capsys.readouterr().err)


def test_a_link_that_leads_nowhere_is_told_with_its_path(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheel = bundle / "wheels/a-1-py3-none-any.whl"
    wheel.unlink()
    wheel.symlink_to("gone.whl")
    assert program.main(["verify", str(bundle)]) == 1
    assert re.match(f"LW-BUNDLE-009: .*'{wheel}'.* no link that leads nowhere. Mend", capsys.readouterr().err)


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


FOREIGN = {"www/thesis.tex": b"five years", ".ssh/id": b"key"}


def test_a_folder_with_files_of_others_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    sources(tmp_path / "srv", FOREIGN)
    with pytest.raises(Problem, match=r"LW-BUNDLE-008: .*/srv holds \.ssh, www, which .* nothing was touched"):
        make(tmp_path / "srv", tmp_path / "source")
    assert sorted(files_under(tmp_path / "srv")) == sorted(FOREIGN)


def test_a_folder_with_a_manifest_of_something_else_is_foreign(tmp_path: Path) -> None:
    sources(tmp_path / "srv", {"manifest.json": b'{"name": "a web page"}'})
    with pytest.raises(Problem, match=r"LW-BUNDLE-008: .*holds manifest\.json, which"):
        manifest.claim(tmp_path / "srv")
    assert files_under(tmp_path / "srv") == ["manifest.json"]


def test_what_came_into_a_bundles_folder_later_is_no_part_of_it(bundle: Path, tmp_path: Path) -> None:
    sources(bundle, {f"{letter}/x": b"" for letter in "abcdef"})
    with pytest.raises(Problem, match=r"LW-BUNDLE-008: .* holds a, b, c, d, e, …, which"):
        make(bundle, tmp_path / "source", {})
    assert set(files_under(bundle)) > {*FILES, *(f"{letter}/x" for letter in "abcdef")}


def test_a_making_that_was_interrupted_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "new/bundle"
    manifest.claim(folder)
    sources(folder, {"wheels/.b.whl.partial": b"hal"})
    assert make(folder, tmp_path / "source")
    assert set(manifest.verify(folder)["files"]) == {*FILES, manifest.SUMS}
    assert not (folder / "wheels/.b.whl.partial").exists()


def test_a_bundle_without_the_mark_is_one(bundle: Path, tmp_path: Path) -> None:
    (bundle / manifest.MARK).unlink()
    manifest.verify(bundle)
    assert not make(bundle, tmp_path / "source")
    assert (bundle / manifest.MARK).is_file()


def test_nothing_is_fetched_for_a_folder_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sources(tmp_path / "srv", FOREIGN)
    monkeypatch.setenv("LABWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(program, "conda_part", None)
    assert program.main(["make", "--out", str(tmp_path / "srv")]) == 1
    assert "LW-BUNDLE-008" in capsys.readouterr().err


def test_two_checkouts_do_not_make_one_bundle_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "conda_part", None)
    monkeypatch.setenv("LABWRIGHT_CACHE", str(tmp_path / "cache of the second"))
    with program.alone(tmp_path / "cache of the first"), manifest.held(tmp_path / "bundle"):
        assert program.main(["make", "--out", str(tmp_path / "bundle")]) == 1
    assert re.match(r"LW-BUNDLE-010: .*/bundle is being made by another program;", capsys.readouterr().err)
    with manifest.held(tmp_path / "bundle"):
        pass


def test_one_that_waits_for_its_own_cache_says_so(tmp_path: Path) -> None:
    code = "import sys, bundle; from pathlib import Path\nwith bundle.alone(Path(sys.argv[1])): print('second')"
    with program.alone(tmp_path):
        second = subprocess.Popen(
            [sys.executable, "-c", code, tmp_path], cwd=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert second.stderr is not None
        assert second.stderr.readline() == f"Another making uses {tmp_path}; this one waits for its end.\n"
    assert second.communicate() == ("second\n", "")


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
