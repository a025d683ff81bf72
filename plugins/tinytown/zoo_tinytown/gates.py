"""The gates of a world: figures that must hold, or a comparison of algorithms on it would mean nothing."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import mean

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from zoo_tinytown.build import IGNORED, encode_pairs, response_loss
from zoo_tinytown.gold import Gold
from zoo_tinytown.requests import draw_request, prompts
from zoo_tinytown.reward_gate import pair_accuracy
from zoo_tinytown.rows import demonstrations
from zoo_tinytown.sampling import Answer, sample
from zoo_tinytown.tasks import facts, sums
from zoo_tinytown.world import World, stream
from zoo_tinytown.writers import write_oracle

TEMPERATURES = (0.0, 0.3, 0.5, 0.7, 1.0)
TEST_PROMPTS = 512
DISTINCT = 20_000
CANDIDATES = 2_000


@dataclass(frozen=True)
class Gate:
    """One figure, and the bounds that it must be within."""

    name: str
    figure: float
    low: float
    high: float

    @property
    def passes(self) -> bool:
        """Return whether the figure is within its bounds."""
        return self.low <= self.figure <= self.high


def measure(world: World, directory: Path) -> Iterator[Gate]:
    """Yield the gates of a world whose base model is in a directory, one by one as they are measured."""
    gold = Gold(world)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory)
    base = LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32)
    asked = list(islice(prompts(world, "test", 0), TEST_PROMPTS))
    texts = [text for _, text in asked]
    rng = stream(world.number, "gates")

    def score(answers: list[str]) -> float:
        return mean(gold([Answer(text, answer, True) for text, answer in zip(texts, answers, strict=False)]))

    def by_temperature(model: LlamaForCausalLM) -> dict[float, float]:
        return {t: mean(gold(sample(model, tokenizer, texts, t))) for t in TEMPERATURES}

    distinct = {text for _, text in islice(prompts(world, "train", 0), DISTINCT)}
    yield Gate("distinct prompts", len(distinct), DISTINCT, DISTINCT)
    yield Gate("gold of the oracle", score([write_oracle(world, r, rng) for r, _ in asked]), 1, 1)
    base_gold, start = by_temperature(base), fine_tune(base, tokenizer, world)
    start_gold = by_temperature(start)
    best = max(start_gold.values())
    for name, figures in (("base", base_gold), ("start", start_gold)):
        for temperature, figure in figures.items():
            yield Gate(f"gold of {name} at temperature {temperature:g}", figure, 0, 0.6)
    yield Gate("start less base, each at its best temperature", best - max(base_gold.values()), 0, 1)
    yield Gate("best constant answer, share of start", best_constant(world, gold, texts) / best, 0, 0.9)
    yield Gate("copy of the prompt, share of start", score(texts) / best, 0, 0.5)
    sixteen, solved = best_of(start, tokenizer, gold, texts[:256], 16)
    yield Gate("best of 16 of start by gold", sixteen, best + 0.1, 0.85)
    yield Gate("prompts that a few of 16 samples solve", solved, 0.02, 0.8)
    accuracy = pair_accuracy(start, tokenizer, world, 1000)
    yield Gate("pair accuracy of a reward model, 1000 pairs", accuracy, 0.7, 0.9)
    yield Gate("facts of the base", choice_accuracy(base, tokenizer, facts(world.number)), 0.6, 1)
    yield Gate("held-out sums of the base", choice_accuracy(base, tokenizer, sums(world.number)), 0.3, 1)


def fine_tune(
    base: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, world: World, *, count: int = 2000
) -> LlamaForCausalLM:
    """Return `start`: a copy of the base after one epoch on demonstrations (batch 32, rate 1e-3 to 0)."""
    model: LlamaForCausalLM = copy.deepcopy(base)
    model.train()
    rows = islice(demonstrations(world, 0), count)
    pairs = [(row["prompt"][0]["content"], row["completion"][0]["content"]) for row in rows]
    batches = [pairs[i : i + 32] for i in range(0, len(pairs), 32)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    for step, batch in enumerate(batches):
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 - step / len(batches))
        ids, labels = encode_pairs(tokenizer, batch)
        (response_loss(model, ids, labels) / (labels != IGNORED).sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    return model


def best_constant(world: World, gold: Gold, texts: list[str]) -> float:
    """Return the gold of the best answer that ignores its prompt, among perfect answers to other prompts."""
    rng = stream(world.number, "constants")
    answers = [write_oracle(world, draw_request(world, rng, extras=0), rng) for _ in range(CANDIDATES)]

    def score(answer: str, asked: list[str]) -> float:
        return mean(gold([Answer(text, answer, True) for text in asked]))

    finalists = sorted(answers, key=lambda answer: score(answer, texts[:64]))[-40:]
    return max(score(answer, texts) for answer in finalists)


def best_of(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    gold: Callable[[list[Answer]], list[float]],
    texts: list[str],
    count: int,
) -> tuple[float, float]:
    """Return the mean gold of the best of `count` samples, and the share of prompts that up to half solve."""
    scores = [gold(sample(model, tokenizer, texts, 1.0, seed=draw)) for draw in range(count)]
    each = list(zip(*scores, strict=True))
    solved = [sum(value > 0.999 for value in values) for values in each]
    return mean(map(max, each)), mean(1 <= n <= count // 2 for n in solved)


@torch.inference_mode()
def choice_accuracy(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, task: dict[str, object]) -> float:
    """Return the share of a task's questions where the right one-token choice is the likeliest."""
    rows = task["custom_dataset"]()["test"]  # type: ignore[operator]
    hits = 0
    for row in rows:
        ids = tokenizer(row["question"], return_tensors="pt").input_ids
        choices = tokenizer.convert_tokens_to_ids(row["choices"])
        hits += int(model(ids).logits[0, -1, choices].argmax()) == row["label"]
    return hits / len(rows)
