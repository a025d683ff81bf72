"""Packed rows: the same numbers and gradients as padded ones, for every architecture that says it packs."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from zoo_core import rollout
from zoo_core.compute.packing import Packing, packs
from zoo_core.rollout import Prompts, Responses, logprobs_and_states, response_logprobs, response_states
from zoo_core.testing.families import PACKED, model_of

PADDED = ["mistral", "gemma3_text", "mamba"]


def ragged() -> Responses:
    """Seven rows: three share a prompt, two are equal, one response is a single token, one row's is empty."""
    rows = [
        ([1, 5, 6, 7], [8, 9, 2]),
        ([1, 3], [4, 2]),
        ([1, 5, 6, 7], [8, 10, 11, 12]),
        ([1], [2]),
        ([1, 5, 6, 7], [8, 9, 2]),
        ([1, 9, 9], [4, 4, 4, 4, 4, 2]),
        ([1, 6], []),
    ]
    before, after = max(len(prompt) for prompt, _ in rows), max(len(answer) for _, answer in rows)
    tokens, attention = torch.zeros(2, len(rows), before + after, dtype=torch.long).unbind()
    for row, (prompt, answer) in enumerate(rows):
        start = before - len(prompt)
        tokens[row, start : before + len(answer)] = torch.tensor([*prompt, *answer])
        attention[row, start : before + len(answer)] = 1
    mask = attention[:, before:].bool()
    prompts = Prompts(tokens[:, :before], attention[:, :before].bool(), [""] * len(rows))
    return Responses.join(prompts, tokens[:, before:], mask)


@pytest.mark.parametrize("kind", [*PACKED, *PADDED])
def test_an_architecture_packs_only_if_it_looks_back_over_the_whole_row_and_at_nothing_else(kind: str) -> None:
    assert packs(model_of(kind)) == (kind in PACKED)


@pytest.mark.parametrize("kind", PACKED)
def test_packed_rows_have_the_values_and_gradients_of_padded_ones(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = model_of(kind), ragged()
    weights = torch.rand(batch.mask.shape, generator=torch.Generator().manual_seed(1))

    def everything() -> list[torch.Tensor]:
        model.zero_grad()
        logprobs = response_logprobs(model, batch, 0.7)
        states = response_states(model.base_model, batch)
        both = logprobs_and_states(model, batch, 0.7)
        found = [logprobs, states, *both]
        ((logprobs * weights).sum() + states.pow(2).sum() + (both[0] * weights).sum() + both[1].sum()).backward()
        return [*found, *(weight.grad for weight in model.parameters() if weight.grad is not None)]

    packed = everything()
    monkeypatch.setattr(rollout, "packs", lambda _: False)
    padded = everything()
    for fast, plain in zip(packed, padded, strict=True):
        assert_close(fast, plain, rtol=2e-4, atol=2e-4)


def test_a_batch_costs_what_its_rows_cost_however_they_are_divided() -> None:
    rows = [([1, 2, 3], [4, 5]), ([7], [8, 9]), ([7, 7], [4])]
    together = Packing.of(rows, torch.device("cpu"))
    apart = [Packing.of([row], torch.device("cpu")) for row in rows]

    def pairs(packing: Packing) -> int:
        states = torch.rand(1, 2, packing.tokens.shape[1], 4)
        return packing.attend(ALL_ATTENTION_FUNCTIONS["sdpa"], nn.Module(), states, states, states)[1]

    assert pairs(together) == sum(pairs(one) for one in apart) == 25 + 9 + 9
    assert together.tokens.numel() == sum(one.tokens.numel() for one in apart) == 11


def test_what_several_rows_begin_with_is_computed_once() -> None:
    packing = Packing.of([([1, 2, 3], [4, 5]), ([1, 2, 3], [6]), ([1, 2], [3])], torch.device("cpu"))
    # Shortest row first: prompt [1, 2] and 3; prompt [1, 2, 3] once, and 6; the longest row adds 4 and 5 to it.
    assert packing.tokens.tolist() == [[1, 2, 3, 1, 2, 3, 6, 4, 5]]
    assert packing.positions.tolist() == [[0, 1, 2, 0, 1, 2, 3, 3, 4]]
    assert packing.lengths == (3, 4, 5)
    assert packing.reads.tolist() == [5, 7, 8, 5, 6, 1, 2]


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_responses_without_a_token_have_no_log_probabilities(kind):
    nothing = Responses.of([([3, 4], []), ([5], [])], 0, torch.device("cpu"))
    assert response_logprobs(model_of(kind), nothing).shape == (2, 0)
