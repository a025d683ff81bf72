"""The formulas of generalized knowledge distillation, as pure functions.

Agarwal et al. 2024, "On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes",
arXiv:2306.13649, section 2 (the divergences) and eq. 4 (their mean over tokens).

Shapes: B responses, T response tokens, V tokens of the vocabulary. The mask is true on response tokens.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from zoo_core.functional import masked_mean


def generalized_divergence(
    policy: Float[Tensor, "*rows V"], teacher: Float[Tensor, "*rows V"], beta: float
) -> Float[Tensor, " *rows"]:
    """Return the generalized Jensen-Shannon divergence of two distributions, given as log-probabilities, in nats.

    D_β = β KL(p_T ‖ m) + (1 − β) KL(p_S ‖ m)   with   m = β p_T + (1 − β) p_S

    and, as the limits of D_β / (β (1 − β)):   D_0 = KL(p_T ‖ p_S),   D_1 = KL(p_S ‖ p_T).
    """
    if beta == 0:
        return divergence(teacher, policy)
    if beta == 1:
        return divergence(policy, teacher)
    mixture = torch.logaddexp(teacher + math.log(beta), policy + math.log1p(-beta))
    return beta * divergence(teacher, mixture) + (1 - beta) * divergence(policy, mixture)


def divergence(one: Float[Tensor, "*rows V"], other: Float[Tensor, "*rows V"]) -> Float[Tensor, " *rows"]:
    """Return KL(p ‖ q) = Σ p (log p − log q) in nats, of log-probabilities."""
    return (one.exp() * (one - other)).sum(-1)


def gkd_loss(divergences: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, ""]:
    """Return the mean divergence over all true tokens of the batch, in nats per token.

    L = (1/N) Σ D_β(p_T(· | x, y₍<ₜ₎), p_S(· | x, y₍<ₜ₎))   with   N = number of true tokens

    The responses y are data: no gradient goes through how they were sampled.
    """
    return masked_mean(divergences, mask)
