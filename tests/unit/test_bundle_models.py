"""Model files in the bundle: those of the repository, checked while they are taken; those of a hub only when named."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kit import models
from kit.problem import Problem
from labwright import delivery
from unit.labwright.made_up import host, real

ENV = Path(__file__).resolve().parents[2] / "env"
CATALOGUE = ENV / "catalog/models.yml"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def entries(tmp_path: Path) -> list[dict[str, Any]]:
    (tmp_path / "env/models/tiny").mkdir(parents=True)
    (tmp_path / "env/models/tiny/config.json").write_bytes(b"{}")
    (tmp_path / "hub.bin").write_bytes(b"weights")
    return [
        {"name": "tiny", "bundled": "env/models/tiny", "files": [{"path": "config.json", "sha256": digest(b"{}")}]},
        {
            "name": "big",
            "files": [{"path": "w.bin", "sha256": digest(b"weights"), "url": (tmp_path / "hub.bin").as_uri()}],
        },
        {"name": "unsummed", "files": [{"path": "w.bin", "url": (tmp_path / "hub.bin").as_uri()}]},
        {"name": "lost", "files": [{"path": "w.bin", "url": (tmp_path / "none").as_uri()}]},
    ]


def test_repository_models_always_and_hub_models_when_named(tmp_path: Path, entries: list[dict[str, Any]]) -> None:
    assert list(models.collect(entries, [], tmp_path, tmp_path / "cache")) == ["models/tiny/config.json"]
    found = models.collect(entries, ["big"], tmp_path, tmp_path / "cache")
    assert found["models/big/w.bin"][0].read_bytes() == b"weights"


def test_changed_file_of_the_repository_is_named(tmp_path: Path, entries: list[dict[str, Any]]) -> None:
    (tmp_path / "env/models/tiny/config.json").write_bytes(b"{ }")
    with pytest.raises(Problem, match=r"LW-BUNDLE-040: env/models/tiny/config\.json: sha256 "):
        models.collect(entries, [], tmp_path, tmp_path / "cache")


def test_a_file_without_known_sum_is_taken_once_and_gets_its_own(tmp_path: Path, entries: list[dict[str, Any]]) -> None:
    for _ in range(2):
        found = models.collect(entries, ["unsummed"], tmp_path, tmp_path / "cache")
        assert found["models/unsummed/w.bin"][1] == digest(b"weights")
        (tmp_path / "hub.bin").unlink(missing_ok=True)


def test_size_and_gits_sum_count_where_they_are_known(tmp_path: Path, entries: list[dict[str, Any]]) -> None:
    (file,) = entries[2]["files"]
    for known in ({"size": 8}, {"git_sha1": "0" * 40}):
        entries[2]["files"] = [{**file, **known}]
        with pytest.raises(Problem, match=r"LW-BUNDLE-030: w\.bin .*, expected"):
            models.collect(entries, ["unsummed"], tmp_path, tmp_path / "cache")


def test_unknown_model_and_unreachable_source_are_sentences(tmp_path: Path, entries: list[dict[str, Any]]) -> None:
    with pytest.raises(Problem, match=r"LW-BUNDLE-042: no model is called bigg.*tiny, big, unsummed, lost"):
        models.collect(entries, ["bigg"], tmp_path, tmp_path / "cache")
    with pytest.raises(Problem, match=r"LW-BUNDLE-030: w\.bin could not be fetched"):
        models.collect(entries, ["lost"], tmp_path, tmp_path / "cache")


def test_addresses_come_from_the_sources_with_revision_and_path() -> None:
    forms = ["https://huggingface.co/m/resolve/{revision}/{path}", "https://other.example/m/{path}"]
    entry = {"revision": "abc", "sources": [*({"files_url": form} for form in forms), "text"]}
    hub, other = "https://huggingface.co/m/resolve/abc/a/b.bin", "https://other.example/m/a/b.bin"
    assert models.addresses(entry, {"path": "a/b.bin", "sha256": "1"}) == [hub, other]
    # What has no sum comes from where the revision is pinned, or not at all.
    assert models.addresses(entry, {"path": "a/b.bin"}) == [hub]
    assert models.addresses(entry, {"path": "a/b.bin"}, {models.HUGGING_FACE: "http://mirror/hf"}) == [
        "http://mirror/hf/m/resolve/abc/a/b.bin"
    ]


def test_a_packed_checkpoint_is_named_by_its_folder(
    tmp_path: Path, entries: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "HUGGING_FACE", f"{tmp_path.as_uri()}/")
    (tmp_path / "them/big4/resolve/abc").mkdir(parents=True)
    (tmp_path / "them/big4/resolve/abc/packed.bin").write_bytes(b"four")
    entries[1]["variants"] = {
        "int4": {"repository": "them/big4", "revision": "abc", "files": [{"path": "packed.bin"}], "extras": []}
    }
    found = models.collect(entries, ["big-int4"], tmp_path, tmp_path / "cache")
    assert sorted(found) == ["models/big-int4/packed.bin", "models/tiny/config.json"]
    assert found["models/big-int4/packed.bin"][1] == digest(b"four")
    assert "models/big-int4/packed.bin" not in models.collect(entries, ["big"], tmp_path, tmp_path / "cache")
    with pytest.raises(Problem, match=r"LW-BUNDLE-042: .*; env/catalog/models.yml has tiny, big, big-int4, unsummed"):
        models.collect(entries, ["big-int8"], tmp_path, tmp_path / "cache")


def test_a_bundle_with_the_packed_checkpoint_is_what_the_plan_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def fetch(urls: list[str], target: Path, *_sum: str, **_known: object) -> Path:
        asked.extend(urls)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"")
        return target

    monkeypatch.setattr(models, "fetch", fetch)
    found = models.collect(models.read_catalogue(CATALOGUE), ["chatglm2-6b-int4"], ENV.parent, tmp_path)
    manifest = {"files": {name: {"sha256": total, "size": 1} for name, (_path, total) in found.items()}}
    wished = host("w1", "workers", lab_bundle_url="http://192.0.2.1:8480")
    got = delivery.model(wished, "chatglm2-6b", "int4", replace(real(), manifest=manifest))
    assert len(got["files"]) == len(asked)
    hub = "https://huggingface.co/THUDM/chatglm2-6b-int4/resolve/66ecaf1db3a5085714e133357ea4824b69698743"
    assert set(asked) == {f"{hub}/{file['path']}" for file in got["files"]}


def test_a_hub_that_has_a_mirror_is_asked_first() -> None:
    forms = [
        "https://huggingface.co/m/resolve/{revision}/{path}",
        "https://www.modelscope.cn/models/z/resolve/master/{path}",
    ]
    entry = {"revision": "abc", "sources": [{"files_url": form} for form in forms]}
    mirrors = {models.HUGGING_FACE: "", models.MODELSCOPE: "http://mirror/ms/"}
    assert models.addresses(entry, {"path": "w", "sha256": "1"}, mirrors) == [
        "http://mirror/ms/models/z/resolve/master/w",
        "https://huggingface.co/m/resolve/abc/w",
    ]
