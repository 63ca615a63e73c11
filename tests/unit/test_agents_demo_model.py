"""The stored demo model is the one that the catalogue names, is small, and has learnt the tasks that the agents ask."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import yaml

from unit.programs import loaded

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE: list[dict[str, Any]] = yaml.safe_load((ROOT / "env/catalog/models.yml").read_text(encoding="utf-8"))
DEMO = next(entry for entry in CATALOGUE if entry["name"] == "labwright-demo")
FOLDER = ROOT / DEMO["bundled"]


def test_every_file_is_the_one_that_the_catalogue_names() -> None:
    named = {file["path"]: (file["sha256"], file["size"]) for file in DEMO["files"]}
    content = {path.name: path.read_bytes() for path in FOLDER.iterdir() if path.name != "README.md"}
    assert {name: (hashlib.sha256(data).hexdigest(), len(data)) for name, data in content.items()} == named


def test_the_model_is_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 2 * 2**20


def test_the_model_is_an_ordinary_llama() -> None:
    assert json.loads((FOLDER / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]


def test_the_catalogue_says_what_fastchat_must_be_told() -> None:
    context = json.loads((FOLDER / "config.json").read_text())["max_position_embeddings"]
    assert DEMO["context_length"] == context
    assert all(entry["conv_template"] for entry in CATALOGUE)


HUB = [entry for entry in CATALOGUE if "bundled" not in entry]


@pytest.mark.parametrize("entry", [e for e in HUB if e["revision"]], ids=lambda entry: entry["name"])
def test_a_hub_model_is_pinned(entry: dict[str, Any]) -> None:
    assert len(entry["revision"]) == 40
    assert all(len(file["sha256"]) == 64 for file in entry["files"] if "sha256" in file)
    weights = [file for file in entry["files"] if file["path"].endswith((".bin", ".safetensors"))]
    assert weights
    assert all("sha256" in file for file in weights)


@pytest.mark.parametrize("entry", [e for e in HUB if not e["revision"]], ids=lambda entry: entry["name"])
def test_a_hub_model_that_is_not_pinned_names_no_file_that_could_be_fetched(entry: dict[str, Any]) -> None:
    assert entry["files"] == []
    assert any("revision" in line for line in entry["unknown"])


# What the training needs and only a worker has: it must be importable, and nothing of it is asked here.
HEAVY = (
    "fastchat", "fastchat.conversation", "fastchat.serve", "fastchat.serve.inference", "numpy", "tokenizers", "torch",
    "torch.nn", "torch.nn.functional", "transformers",
)  # fmt: skip


def test_a_model_that_does_not_know_its_answers_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("train", *HEAVY):  # and the program itself: none of it stays
        monkeypatch.setitem(sys.modules, name, MagicMock())
    train = loaded("env/models/train.py")
    turns = [train.Turn("one?", "1"), train.Turn("two?", "2")]
    monkeypatch.setattr(train, "syllabus", lambda: {"assistant": [], "rehearsed": turns, "system": ""})
    monkeypatch.setattr(train, "exam", lambda _tasks: turns)
    monkeypatch.setattr(train, "wrong_answers", lambda _model, _tokenizer, asked: asked[1:])
    monkeypatch.setattr(train, "generate_stream", lambda *_: iter([{"text": "1"}]))
    assert train.main([str(tmp_path), "--check"]) == 1
    told = capsys.readouterr()
    assert told.out == "1 of 2 answers right\n"
    assert told.err.splitlines() == [
        "LW-MODEL-031: wrong answer to …'two?'; '2'… expected",
        "LW-MODEL-032: through FastChat's generator, …'two?' is answered '1'",
    ]
