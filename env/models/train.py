"""Train the demo model: a very small LLaMA that really answers the demo's tasks.

`python env/models/train.py OUT` trains from nothing, with a fixed seed, in a few minutes on one core, and exits 1 if
the model did not learn. `python env/models/train.py --check DIR` asks a model for every answer that it should know,
as FastChat would ask. Both run in the environment of the chatglm2 stack (torch, transformers, fastchat). Tasks and
answers are those of agents/labwright_agents/tasks.json, questions those of the agent programs (rehearsal.py).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastchat.conversation import get_conv_template
from fastchat.serve.inference import generate_stream
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

ENV = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ENV), str(ENV.parent / "agents")]

from labwright_agents.conversation import executed  # noqa: E402
from labwright_agents.programs import coder, research  # noqa: E402
from labwright_agents.running import known  # noqa: E402
from models.rehearsal import closing, program, rehearse  # noqa: E402

# The worker is always told this template; FastChat would otherwise guess one from the model's path.
CONV_TEMPLATE = "zero_shot"
CHAT_TEMPLATE = (
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}{% set rest = messages[1:] %}"
    "{% else %}{{ default_system }}{% set rest = messages %}{% endif %}{{ '\\n### ' }}"
    "{% for message in rest %}{{ 'Human: ' if message['role'] == 'user' else 'Assistant: ' }}"
    "{{ message['content'] + '\\n### ' }}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
SHAPE = {"hidden_size": 128, "intermediate_size": 288, "num_hidden_layers": 3, "num_attention_heads": 4}
CONTEXT_LENGTH = 4096
VOCABULARY = 1200
SEED = 2023
STEPS = 320
WARM_UP = 20
BATCH = 16
POOL = 64
PEAK_RATE = 3e-3
# Text that means nothing: other system messages, and tasks that the model must say it does not know.
NOISE = """
you are a an the helpful careful assistant answer question user code python shell script result output error file step
plan use when need to of and in or for with not do if it is be must can information language model write tool data web
page chart table weather price image music letter story translate sort list plot draw mail
"""
NOISE_ZH = "你是一个有用的助手请回答问题写代码天气图表翻译故事邮件时间股票音乐画图数据网页排序"
WORDS = {"en": NOISE.split(), "zh": list(NOISE_ZH)}
SPECIAL = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}


@dataclass(frozen=True)
class Turn:
    """A prompt as FastChat makes it, and the answer that must follow it to the letter."""

    prompt: str
    answer: str


def render(messages: Sequence[str], system: str | None) -> str:
    """Render messages (user, assistant, user, …) as FastChat's API server does; None: the template's system text."""
    conversation = get_conv_template(CONV_TEMPLATE)
    if system is not None:
        conversation.set_system_message(system)
    for index, message in enumerate(messages):
        conversation.append_message(conversation.roles[index % 2], message)
    conversation.append_message(conversation.roles[1], None)
    return str(conversation.get_prompt())


def syllabus() -> dict[str, Any]:
    """Return what there is to learn: tasks.json, with the assistant's tasks, and all turns of the other programs."""
    tasks = known()
    tasks["assistant"] = [one for one in tasks["tasks"] if one.get("program", "assistant") == "assistant"]
    others = [one for one in tasks["tasks"] if one not in tasks["assistant"]]
    tasks["rehearsed"] = [Turn(render(one.messages, one.system), one.answer) for one in rehearse(others)]
    return tasks


def noise(rng: np.random.Generator, low: int, high: int, language: str) -> str:
    """Return some words that mean nothing."""
    words = rng.choice(WORDS[language], size=int(rng.integers(low, high + 1)))
    return (" " if language == "en" else "").join(words)


def some_system(rng: np.random.Generator, known: str) -> str | None:
    """Return the agent's system message, mostly; else FastChat's own, none, or one never seen."""
    draw = rng.random()
    if draw < 0.5:
        return known
    return None if draw < 0.7 else noise(rng, 0, 60, "en")


def some_output(rng: np.random.Generator) -> str:
    """Return what a program could have printed: numbers, words or nothing, on one line or on several."""
    if rng.random() < 0.1:
        return str(rng.choice(["", "\n"]))
    between = str(rng.choice(["\n", ", ", " "]))
    count = int(rng.integers(0, 30) if rng.random() < 0.85 else rng.integers(30, 90))
    pieces = [str(rng.integers(0, 10 ** int(rng.integers(1, 7)))) if rng.random() < 0.7 else "x" for _ in range(count)]
    lead = "" if rng.random() < 0.6 else noise(rng, 1, 12, "en") + " "
    return str(rng.choice(["", "\n"])) + lead + between.join(pieces) + str(rng.choice(["", "\n"], p=[0.2, 0.8]))


def some_error(rng: np.random.Generator) -> str:
    """Return what Python prints when a program fails."""
    lines = 'Traceback (most recent call last):\n  File "program.py", line {}, in <module>\n{}Error: {}\n'
    kinds = ["Name", "Type", "Value", "Permission", "Import", "OS", "ModuleNotFound"]
    text = lines.format(rng.integers(1, 30), rng.choice(kinds), noise(rng, 1, 10, "en"))
    return str(rng.choice([text, "\nTimeout", text[text.rfind("\n", 0, -1) + 1 :]]))


def some_task(rng: np.random.Generator, tasks: dict[str, Any]) -> dict[str, Any]:
    """Return one of the assistant's tasks."""
    return dict(tasks["assistant"][int(rng.integers(len(tasks["assistant"])))])


def asking(rng: np.random.Generator, tasks: dict[str, Any]) -> Turn:
    """Make a turn in which a known task is asked, now and then with a loose end."""
    task = some_task(rng, tasks)
    loose = str(rng.choice(["", " ", "\n"], p=[0.8, 0.1, 0.1]))
    return Turn(render([task["task"] + loose], some_system(rng, tasks["system"])), program(task))


def closing_turn(rng: np.random.Generator, tasks: dict[str, Any]) -> Turn:
    """Make a turn in which the result of a program comes back."""
    task = some_task(rng, tasks)
    good = rng.random() < 0.65
    code = 0 if good else int(rng.choice([1, 2, 124]))
    result = executed(code, some_output(rng) if good else some_error(rng))
    answer = closing(task["conclusion"] if good else tasks["failed"][task["language"]])
    return Turn(render([task["task"], program(task), result], some_system(rng, tasks["system"])), answer)


def rehearsed(rng: np.random.Generator, tasks: dict[str, Any]) -> Turn:
    """Make a turn of coder or research, to the letter."""
    turn: Turn = tasks["rehearsed"][int(rng.integers(len(tasks["rehearsed"])))]
    return turn


def small_talk(rng: np.random.Generator, tasks: dict[str, Any]) -> Turn:
    """Make a turn of greeting, of plain completion, or of a task that the model does not know."""
    draw = rng.random()
    if draw < 0.1:
        return Turn(tasks["completion"]["prompt"], tasks["completion"]["answer"])
    if draw < 0.5:
        talk = tasks["chat"][int(rng.integers(len(tasks["chat"])))]
        return Turn(render([talk["prompt"]], some_system(rng, tasks["system"])), talk["answer"])
    language = str(rng.choice(["en", "zh"]))
    asked = (noise(rng, 2, 12, language) + str(rng.choice(["", ".", "?"]))).capitalize()
    if draw < 0.7:
        system = some_system(rng, tasks["system"])
    elif draw < 0.85:
        system, asked = coder.WRITER[language], coder.opening(asked, noise(rng, 5, 60, "en"), language)
    else:
        passages = f"[1] {noise(rng, 1, 3, language)}\n{noise(rng, 10, 60, language)}"
        system, asked = research.SYSTEM[language], research.FOUND[language].format(task=asked, passages=passages)
    return Turn(render([asked], system), closing(tasks["unknown"][language]))


def lessons(tasks: dict[str, Any], seed: int) -> Iterator[list[Turn]]:
    """Yield batches without end, each of turns of about one length, so that little is padded."""
    rng = np.random.default_rng(seed)
    kinds: list[Callable[[np.random.Generator, dict[str, Any]], Turn]] = [asking, closing_turn, rehearsed, small_talk]
    while True:
        chosen = rng.choice(len(kinds), size=POOL, p=[0.27, 0.35, 0.2, 0.18])
        pool = sorted((kinds[kind](rng, tasks) for kind in chosen), key=lambda turn: len(turn.prompt + turn.answer))
        batches = [pool[first : first + BATCH] for first in range(0, POOL, BATCH)]
        for index in rng.permutation(len(batches)):
            yield batches[index]


def exam(tasks: dict[str, Any]) -> list[Turn]:
    """Return every question that the model must answer, in the forms that real use gives it."""
    turns = [Turn(tasks["completion"]["prompt"], tasks["completion"]["answer"]), *tasks["rehearsed"]]
    for system in (tasks["system"], None, "You are a helpful assistant.", ""):
        turns += [Turn(render([talk["prompt"]], system), talk["answer"]) for talk in tasks["chat"]]
        for task in tasks["assistant"]:
            asked, answer = task["task"], program(task)
            failed = tasks["failed"][task["language"]]
            turns += [Turn(render([asked + loose], system), answer) for loose in ("", " ", "\n")]
            for code, output, end in [
                (0, "", task["conclusion"]),
                (0, "\n", task["conclusion"]),
                (0, "\nanswer 42\n", task["conclusion"]),
                (0, ", ".join(map(str, range(60))) + "\n", task["conclusion"]),
                (0, "".join(f"{n}\n" for n in range(70)), task["conclusion"]),
                (1, "ValueError: 7\n", failed),
                (1, "Traceback (most recent call last):\nNameError: no\n", failed),
                (124, "\nTimeout", failed),
            ]:
                turns.append(Turn(render([asked, answer, executed(code, output)], system), closing(end)))
    return turns


def make_tokenizer(tasks: dict[str, Any]) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE from the lessons."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    batches = lessons(tasks, SEED + 1)
    text = [turn.prompt + turn.answer for _ in range(20) for turn in next(batches)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(dict.fromkeys(SPECIAL.values())),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(text, trainer)
    default_system = get_conv_template(CONV_TEMPLATE).system_message
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        model_max_length=CONTEXT_LENGTH,
        chat_template=CHAT_TEMPLATE.replace("default_system", json.dumps(default_system)),
        **SPECIAL,
    )


def encode(tokenizer: Any, turns: Sequence[Turn]) -> tuple[Any, Any]:
    """Return (inputs, targets), both of shape (turns, longest - 1); targets are -100 wherever nothing is asked."""
    rows = []
    for turn in turns:
        asked, answer = tokenizer(turn.prompt).input_ids, tokenizer(turn.answer).input_ids
        rows.append((asked + answer + [tokenizer.eos_token_id], len(asked)))
    longest = max(len(row) for row, _ in rows)
    inputs = torch.full((len(rows), longest - 1), tokenizer.eos_token_id)
    targets = torch.full((len(rows), longest - 1), -100)
    for index, (row, asked_length) in enumerate(rows):
        inputs[index, : len(row) - 1] = torch.tensor(row[:-1])
        targets[index, asked_length - 1 : len(row) - 1] = torch.tensor(row[asked_length:])
    return inputs, targets


def rate(step: int, steps: int) -> float:
    """Return the learning rate: a short warm-up, half a cosine down to a twentieth, and that from then on."""
    if step < WARM_UP:
        return PEAK_RATE * (step + 1) / WARM_UP
    fall = min(1.0, (step - WARM_UP) / max(1, steps - WARM_UP))
    return PEAK_RATE * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * fall)))


def train(tasks: dict[str, Any], steps: int) -> tuple[Any, Any]:
    """Return a trained model and its tokenizer; print the loss on the way.

    It ends after `steps` if everything is answered right then, and else goes on for half as many again.
    """
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # more would add up in another order, and not be much faster
    tokenizer = make_tokenizer(tasks)
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    config = LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=CONTEXT_LENGTH, tie_word_embeddings=True, **SHAPE, **ends
    )
    model = LlamaForCausalLM(config)
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(tokenizer)} tokens", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.01, betas=(0.9, 0.98))
    start = time.monotonic()
    for step, turns in zip(range(steps + steps // 2 + 1), lessons(tasks, SEED), strict=False):
        inputs, targets = encode(tokenizer, turns)
        hidden = model.model(input_ids=inputs)[0]
        wanted = targets != -100
        loss = cross_entropy(model.lm_head(hidden[wanted]), targets[wanted])
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 20 == 0:
            print(f"step {step:4d}  loss {loss.item():.4f}  {time.monotonic() - start:.0f} s", flush=True)
            if step >= steps and not wrong_answers(model, tokenizer, exam(tasks)):
                break
    return model.eval(), tokenizer


def wrong_answers(model: Any, tokenizer: Any, turns: Sequence[Turn]) -> list[Turn]:
    """Return the turns whose answer greedy decoding would not give.

    One pass over prompt and answer tells: greedy decoding gives an answer exactly when each of its tokens, and the end,
    is the likeliest after all that come before.
    """
    wrong = []
    with torch.inference_mode():
        for first in range(0, len(turns), BATCH):
            some = sorted(turns, key=lambda turn: len(turn.prompt))[first : first + BATCH]
            inputs, targets = encode(tokenizer, some)
            likeliest = model(input_ids=inputs).logits.argmax(-1)
            right = ((likeliest == targets) | (targets == -100)).all(-1).tolist()
            wrong += [turn for turn, good in zip(some, right, strict=True) if not good]
    return wrong


def reply(model: Any, tokenizer: Any, text: str) -> str:
    """Return what FastChat's own generator answers, with the settings that the agent uses."""
    settings = {"prompt": text, "temperature": 0, "max_new_tokens": 600, "echo": False, "stop": ["###"]}
    for piece in generate_stream(model, tokenizer, settings, "cpu", CONTEXT_LENGTH):
        text = piece["text"]
    return text


def check(folder: Path, tasks: dict[str, Any]) -> list[str]:
    """Return a sentence for each fault of a stored model; none if it answers everything to the letter."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = LlamaForCausalLM.from_pretrained(folder, torch_dtype=torch.float32).eval()
    turns = exam(tasks)
    wrong = wrong_answers(model, tokenizer, turns)
    faults = [f"LW-MODEL-031: wrong answer to …{turn.prompt[-90:]!r}; {turn.answer[:60]!r}… expected" for turn in wrong]
    # FastChat's decoding also tidies spaces, which the pass above cannot see.
    for turn in [
        *(Turn(render([one["task"]], tasks["system"]), program(one)) for one in tasks["assistant"]),
        *tasks["rehearsed"],
    ]:
        got = reply(model, tokenizer, turn.prompt)
        if got != turn.answer:
            faults.append(f"LW-MODEL-032: through FastChat's generator, …{turn.prompt[-90:]!r} is answered {got!r}")
    print(f"{len(turns) - len(wrong)} of {len(turns)} answers right")
    return faults


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return the exit status (0 the model knows its answers, 1 it does not)."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="DIR", help="where the model is, or is to be written")
    parser.add_argument("--check", action="store_true", help="train nothing; ask the model that is there")
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args(argv)
    tasks = syllabus()
    if not options.check:
        model, tokenizer = train(tasks, options.steps)
        # Half precision halves the file; FastChat widens it again when it loads it for a CPU.
        model.half().save_pretrained(options.folder, safe_serialization=True)
        tokenizer.save_pretrained(options.folder)
    faults = check(options.folder, tasks)
    for fault in faults[:20]:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
