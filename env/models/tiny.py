"""Make a tiny model of one family with random weights, and say what transformers itself answers with it.

`python env/models/tiny.py FAMILY FOLDER --template NAME --message TEXT --tokens N` writes the model to FOLDER and
prints one JSON object. It runs in the environment of a stack; env/trial.py compares FastChat's answers with these.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from fastchat.conversation import get_conv_template
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

SEED = 2023
SPECIAL = ["<|endoftext|>", "<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>"]
TEXT = """the lamp on the desk is green and the other lamp is white he walks to the river every morning with a small dog
when rain falls the road turns into mud nobody knows where this old train goes at night a letter came from the city"""
SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}


@dataclass(frozen=True)
class Family:
    """transformers' names for one family, and what its published models say differently."""

    name: str
    tokenizer: str
    config: dict[str, Any]


FAMILIES = {
    "llama": Family("Llama", "PreTrainedTokenizerFast", {"bos_token_id": 2, "eos_token_id": 3}),
    "qwen2": Family("Qwen2", "Qwen2Tokenizer", {"bos_token_id": 0, "eos_token_id": 5}),
    "glm": Family("Glm", "PreTrainedTokenizerFast", {"bos_token_id": None, "eos_token_id": [0, 6], "head_dim": 16}),
}


def make_tokenizer(family: Family, folder: Path) -> dict[str, int]:
    """Learn a byte-level BPE, store it as the family does, and return its vocabulary."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=letters, min_frequency=1, show_progress=False
    )
    inner.train_from_iterator(TEXT.splitlines(), trainer)
    end = family.config["eos_token_id"]
    special = {"eos_token": SPECIAL[end[0] if isinstance(end, list) else end], "pad_token": SPECIAL[0]}
    PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=2048, **special).save_pretrained(folder)
    inner.model.save(str(folder))  # vocab.json and merges.txt, which Qwen's models have as well
    path = folder / "tokenizer_config.json"
    said = {**json.loads(path.read_text(encoding="utf-8")), "tokenizer_class": family.tokenizer}
    path.write_text(json.dumps(said), encoding="utf-8")
    return dict(inner.get_vocab())


def make(family: Family, folder: Path) -> None:
    """Store a model that says nothing but words.

    FastChat tidies spaces before punctuation and leaves out broken characters, and both would blur the comparison.
    """
    folder.mkdir(parents=True)
    vocabulary = make_tokenizer(family, folder)
    torch.manual_seed(SEED)
    config = getattr(transformers, f"{family.name}Config")(vocab_size=len(vocabulary), **{**SHAPE, **family.config})
    model = getattr(transformers, f"{family.name}ForCausalLM")(config)
    words = {number: token.removeprefix("Ġ") for token, number in vocabulary.items()}
    mute = [number for number, word in words.items() if not (word.isascii() and word.isalpha())]
    with torch.no_grad():
        model.get_output_embeddings().weight[mute] = 0
    model.generation_config.pad_token_id = 0
    model.save_pretrained(folder, safe_serialization=True)


def answers(folder: Path, template: str, message: str, tokens: int, device: str) -> dict[str, Any]:
    """What the stored model answers, greedily, to the message in a conversation and alone, and where it puts it."""
    conversation = get_conv_template(template)
    conversation.append_message(conversation.roles[0], message)
    conversation.append_message(conversation.roles[1], None)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32).to(device).eval()

    def said(prompt: str) -> str:
        asked = tokenizer(prompt, return_tensors="pt").to(device)
        asked.pop("token_type_ids", None)
        with torch.inference_mode():
            whole = model.generate(**asked, do_sample=False, max_new_tokens=tokens)
        return str(tokenizer.decode(whole[0, asked["input_ids"].shape[1] :], skip_special_tokens=True))

    with torch.inference_mode():
        numbers = tokenizer(message, return_tensors="pt").input_ids.to(device)
        hidden = model(input_ids=numbers, output_hidden_states=True).hidden_states[-1]
        vector = torch.nn.functional.normalize(hidden.sum(1), dim=1)[0]
    return {
        "chat": said(conversation.get_prompt()),
        "completion": said(message),
        "embedding": vector.tolist(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("family", choices=list(FAMILIES))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--template", required=True, help="FastChat's conversation template")
    parser.add_argument("--message", required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(argv)
    make(FAMILIES[options.family], options.folder)
    print(json.dumps(answers(options.folder, options.template, options.message, options.tokens, options.device)))


if __name__ == "__main__":
    main()
