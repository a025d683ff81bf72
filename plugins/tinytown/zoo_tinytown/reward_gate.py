"""A gate: how well a reward model learns the preferences of gold from the labels of annotators."""

from itertools import islice

import torch
from torch.nn.functional import logsigmoid
from transformers import LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

from zoo_tinytown.gold import Gold
from zoo_tinytown.requests import prompts
from zoo_tinytown.rows import draw_pair, preferences
from zoo_tinytown.sampling import Answer
from zoo_tinytown.tokenizer import chat_prompt
from zoo_tinytown.world import World, stream

HELD_OUT = 600
Pair = tuple[str, str, str]
"""Prompt, the better answer, the worse answer."""


def pair_accuracy(
    start: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, world: World, count: int, *, epochs: int = 2
) -> float:
    """Train a reward model on `count` labelled pairs; return its accuracy on others, labelled by gold."""
    torch.manual_seed(0)
    model = LlamaForSequenceClassification(start.config)
    model.config.num_labels = 1
    model.score = torch.nn.Linear(start.config.hidden_size, 1, bias=False)
    torch.nn.init.zeros_(model.score.weight)
    model.model.load_state_dict(start.model.state_dict())
    pairs = [
        (row["prompt"][0]["content"], row["chosen"][0]["content"], row["rejected"][0]["content"])
        for row in islice(preferences(world, 0), count)
    ]
    _train(model, tokenizer, pairs, epochs)
    return _accuracy(model, tokenizer, clean_pairs(world))


def clean_pairs(world: World) -> list[Pair]:
    """Return pairs of answers to test prompts, with the better one by gold first, and without ties."""
    rng, gold, pairs = stream(world.number, "clean pairs"), Gold(world), []
    for request, text in prompts(world, "test", 0):
        first, second = draw_pair(world, request, rng)
        difference = gold([Answer(text, first, True)])[0] - gold([Answer(text, second, True)])[0]
        if difference:
            pairs.append((text, first, second) if difference > 0 else (text, second, first))
        if len(pairs) == HELD_OUT:
            break
    return pairs


def _train(
    model: LlamaForSequenceClassification, tokenizer: PreTrainedTokenizerFast, pairs: list[Pair], epochs: int
) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    batches = [pairs[i : i + 32] for i in range(0, len(pairs), 32)] * epochs
    for step, batch in enumerate(batches):
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 - step / len(batches))
        better, worse = _scores(model, tokenizer, batch)
        (-logsigmoid(better - worse).mean()).backward()
        optimizer.step()
        optimizer.zero_grad()


@torch.inference_mode()
def _accuracy(model: LlamaForSequenceClassification, tokenizer: PreTrainedTokenizerFast, pairs: list[Pair]) -> float:
    better, worse = _scores(model, tokenizer, pairs)
    return (better > worse).float().mean().item()


def _scores(
    model: LlamaForSequenceClassification, tokenizer: PreTrainedTokenizerFast, pairs: list[Pair]
) -> tuple[torch.Tensor, torch.Tensor]:
    texts = [f"{chat_prompt(pair[0])}{pair[i]}{tokenizer.eos_token}" for i in (1, 2) for pair in pairs]
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    hidden = model.model(tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state[:, -1]
    better, worse = model.score(hidden)[:, 0].chunk(2)
    return better, worse
