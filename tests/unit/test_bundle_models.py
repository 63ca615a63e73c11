"""Model files in the bundle: those of the repository, checked while they are taken; those of a hub only when named."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from kit import models
from kit.problem import Problem


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
        {"name": "unsummed", "files": [{"path": "w.bin", "url": "file:///nowhere"}]},
    ]


def test_repository_models_always_and_hub_models_when_named(tmp_path: Path, entries: list[dict[str, Any]]) -> None:
    assert list(models.collect(entries, [], tmp_path, tmp_path / "cache")) == ["models/tiny/config.json"]
    found = models.collect(entries, ["big"], tmp_path, tmp_path / "cache")
    assert found["models/big/w.bin"][0].read_bytes() == b"weights"


def test_changed_file_of_the_repository_is_named(tmp_path: Path, entries: list[dict[str, Any]]) -> None:
    (tmp_path / "env/models/tiny/config.json").write_bytes(b"{ }")
    with pytest.raises(Problem, match=r"LW-BUNDLE-040: env/models/tiny/config\.json: sha256 "):
        models.collect(entries, [], tmp_path, tmp_path / "cache")


def test_unknown_model_and_missing_sum_are_sentences(tmp_path: Path, entries: list[dict[str, Any]]) -> None:
    with pytest.raises(Problem, match=r"LW-BUNDLE-042: no model is called bigg.*tiny, big, unsummed"):
        models.collect(entries, ["bigg"], tmp_path, tmp_path / "cache")
    with pytest.raises(Problem, match=r"LW-BUNDLE-041: the model unsummed: .*w\.bin"):
        models.collect(entries, ["unsummed"], tmp_path, tmp_path / "cache")


def test_addresses_come_from_the_sources_with_revision_and_path() -> None:
    entry = {"revision": "abc", "sources": [{"files_url": "https://hub.example/m/resolve/{revision}/{path}"}, "text"]}
    assert models.addresses(entry, {"path": "a/b.bin"}) == ["https://hub.example/m/resolve/abc/a/b.bin"]
