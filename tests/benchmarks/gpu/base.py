"""The model and the rows that are measured, made on the spot from a seed: nothing can be downloaded.

The model is a random Qwen2 of 0.387 B. Its tokenizer is a BPE of 32,768 trained on made-up words. Rows are pairs of
conversations of such words. Their lengths are ragged, drawn like those of HH pairs.
"""

import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

SPECIAL = ["<pad>", "<bos>", "<eos>", "<user>", "<assistant>"]
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
AROUND = 3
"""Special tokens of a prompt: BOS and two roles. An answer has one more, its end."""
BIG: dict[str, Any] = {
    "vocab_size": 32768,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
}
TINY: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
DISTINCT = {True: 2_000, False: 80_000}
"""Distinct words, of the tiny tokenizer and of the big one: enough for so many merges."""
MIDDLE, SPREAD = 0.62, 0.5
"""Median length of a row, as a share of the longest, and the spread of the logarithm of lengths."""


def made(folder: Path, tiny: bool) -> Path:
    """Return the folder of the base model; make it if it is not there."""
    base = folder / ("tiny-base" if tiny else "base")
    if (base / "done").exists():
        return base
    shape = TINY if tiny else BIG
    tokenizer = tokenizer_of(words(DISTINCT[tiny]), shape["vocab_size"])
    config = Qwen2Config(
        **shape,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(config)
    print(
        f"base: {sum(weight.numel() for weight in model.parameters()) / 1e9:.3f} B, {len(tokenizer)} tokens", flush=True
    )
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    (base / "done").touch()
    return base


def words(count: int) -> list[str]:
    """Return so many different made-up words, the frequent ones first and shorter."""
    drawn, found = random.Random(0), dict[str, None]()
    while len(found) < count:
        syllables = 1 + int(4 * (len(found) / count) ** 0.3 * drawn.random() + 0.5)
        found["".join(drawn.choice("bdfgklmnprstvz") + drawn.choice("aeiouy") for _ in range(syllables))] = None
    return list(found)


def tokenizer_of(known: list[str], size: int) -> PreTrainedTokenizerFast:
    """Return a BPE of bytes, trained on these words; earlier ones are more frequent."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((f" {word}" * (1 + 200 // (1 + place)) for place, word in enumerate(known)), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        extra_special_tokens=["<user>", "<assistant>"],
        chat_template=TEMPLATE,
    )


class Texts:
    """Writes texts of exactly so many tokens."""

    def __init__(self, base: Path, tiny: bool, seed: int) -> None:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
        self.drawn = random.Random(seed)
        known = [f" {word}" for word in words(DISTINCT[tiny])]
        self.by_tokens: dict[int, list[str]] = defaultdict(list)
        for word, ids in zip(known, tokenizer(known, add_special_tokens=False)["input_ids"], strict=True):
            self.by_tokens[len(ids)].append(word)

    def of(self, tokens: int) -> str:
        """Return a text of so many tokens."""
        sizes, found = list(self.by_tokens), []
        while tokens:
            size = self.drawn.choice([size for size in sizes if size <= tokens] or [min(sizes)])
            found.append(self.drawn.choice(self.by_tokens[size]))
            tokens = max(0, tokens - size)
        return "".join(found)

    def length(self, longest: int, least: int = 8) -> int:
        """Draw a length, ragged as those of HH rows."""
        return min(longest, max(least, int(longest * MIDDLE * self.drawn.lognormvariate(0.0, SPREAD))))


def pairs(base: Path, tiny: bool, count: int, longest: int, prompt_tokens: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return pairs whose prompt has at most so many tokens and whose rows at most `longest`, special ones included."""
    texts, rows = Texts(base, tiny, seed), []
    for _ in range(count):
        whole = texts.length(longest, least=24)
        prompt = min(prompt_tokens, max(8, int(whole * texts.drawn.uniform(0.3, 0.8)))) - AROUND
        other = min(longest, max(prompt + AROUND + 4, int(whole * texts.drawn.uniform(0.6, 1.4))))
        sizes = [whole, other] if texts.drawn.random() < 0.5 else [other, whole]
        answers = [texts.of(max(2, size - prompt - AROUND - 1)) for size in sizes]
        rows.append(
            {
                "prompt": [{"role": "user", "content": texts.of(prompt)}],
                "chosen": [{"role": "assistant", "content": answers[0]}],
                "rejected": [{"role": "assistant", "content": answers[1]}],
            }
        )
    return rows


def write(rows: list[dict[str, Any]], path: Path) -> Path:
    """Write rows as JSON lines; return the path."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path
