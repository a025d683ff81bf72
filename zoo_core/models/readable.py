"""A check that a model can compute batches: its results for a row must not depend on the other rows."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from zoo_core.compute.packing import packs
from zoo_core.compute.readers import reader_for
from zoo_core.compute.sharding import is_sharded
from zoo_core.errors import ModelError
from zoo_core.rollout import Prompts, Responses

LENGTHS = (5, 2, 3)
"""The lengths of the rows that are tried. The second row leaves the batch."""
MOST_APART = 1e-3
"""Largest error, relative to the largest log-probability: float32 errs by 1e-5, padding in a state by 0.1 or more."""


@torch.no_grad()
def check_readable(policy: PreTrainedModel, where: object) -> None:
    """Raise `ModelError` unless padded rows, read token by token, have the same log-probabilities as single rows.

    Some recurrent architectures read padding into their states, and some cannot be called with padding at all. Packed
    models need no check, because they never see padding. Sharded models are not checked; they may compute in bfloat16.
    """
    if packs(policy) or is_sharded(policy):
        return
    vocabulary = policy.config.get_text_config().vocab_size
    rows = [[(7 * place + 3 * number + 5) % vocabulary for place in range(n + 2)] for number, n in enumerate(LENGTHS)]
    apart, why = 0.0, ""
    try:
        wanted = [_alone(policy, row) for row in rows]
        for found, number, step in _steps(policy, rows):
            plain = wanted[number][LENGTHS[number] - 1 + step]
            apart = max(apart, float((found - plain).abs().max() / plain.abs().max()))
    except Exception as error:  # whatever an architecture that was not made for it may raise
        why = f"{type(error).__name__}: {error}"
    if why or not apart < MOST_APART:
        raise ModelError(
            f"{where}: {type(policy).__name__} cannot be computed in padded batches "
            f"({why or f'padding changes log-probabilities by {apart:.1%}'}), which sampling and training need. Use a "
            "model of another architecture; docs/architectures.md lists those that were tried."
        )


def _alone(policy: PreTrainedModel, row: list[int]) -> Tensor:
    return _logprobs(policy(input_ids=torch.tensor([row], device=policy.device), use_cache=False).logits[0])


def _steps(policy: PreTrainedModel, rows: list[list[int]]) -> list[tuple[Tensor, int, int]]:
    """Return log-probabilities with row and step: after each prompt, one token on, and one more after a row left."""
    prompts = Responses.of([(row[:-2], ()) for row in rows], policy.config.pad_token_id or 0, policy.device)
    reader = reader_for(policy)(policy, Prompts(prompts.tokens, prompts.attention, [""] * len(rows)))
    read = list(zip(_logprobs(reader.prompts()), range(len(rows)), [0] * len(rows), strict=True))
    read += zip(_logprobs(reader.next(_column(policy, rows, -2))), range(len(rows)), [1] * len(rows), strict=True)
    stay = [0, 2]
    reader.keep(torch.tensor([number in stay for number in range(len(rows))], device=policy.device))
    last = _logprobs(reader.next(_column(policy, [rows[number] for number in stay], -1)))
    return [*read, *zip(last, stay, [2] * len(stay), strict=True)]


def _column(policy: PreTrainedModel, rows: list[list[int]], place: int) -> Tensor:
    return torch.tensor([row[place] for row in rows], device=policy.device)


def _logprobs(logits: Tensor) -> Tensor:
    return logits.float().log_softmax(-1)
