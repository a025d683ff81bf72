"""Which responses online DPO makes pairs of, as pure functions.

Guo et al. 2024, "Direct Language Model Alignment from Online AI Feedback", arXiv:2402.04792, algorithm 1. The loss of
the pairs is that of DPO, in zoo_dpo.loss.

Shapes: B = P · k responses, the k to one prompt next to each other; T response tokens.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def best_and_worst(scores: Float[Tensor, " B"], samples_per_prompt: int) -> tuple[Int[Tensor, " P"], Int[Tensor, " P"]]:
    """Return the rows of the best and of the worst response to each prompt.

    Where scores are alike they may be the same row: such a prompt has no pair, and `differ` says so.
    """
    groups = scores.view(-1, samples_per_prompt)
    first = torch.arange(len(groups), device=scores.device) * samples_per_prompt
    return first + groups.argmax(dim=1), first + groups.argmin(dim=1)


def differ(
    scores: Float[Tensor, " B"],
    responses: Int[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    best: Int[Tensor, " P"],
    worst: Int[Tensor, " P"],
) -> Bool[Tensor, " P"]:
    """Return which pairs teach something: those whose scores differ, and whose tokens do.

    A tie says nothing of which is better. Responses of the same tokens have the same log-ratio, whatever they scored (a
    reward may be random): their loss is log 2 and has no gradient.
    """
    other_tokens = (responses[best] != responses[worst]) & mask[best]
    other_lengths = mask[best] != mask[worst]
    return (scores[best] > scores[worst]) & (other_tokens | other_lengths).any(dim=1)
