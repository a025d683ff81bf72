"""The formulas of KTO, as pure functions.

Equation numbers refer to Ethayarajh et al. 2024, "KTO: Model Alignment as Prospect Theoretic Optimization",
arXiv:2402.01306.

Shapes: B responses, each good (desirable) or bad by itself.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def reference_point(mismatched_log_ratio: Float[Tensor, " B"]) -> Float[Tensor, ""]:
    """Return z₀, an estimate in nats of how far the policy has moved from the reference (eq. 7), without gradient.

    z₀ = max(0, mean h(x_i, y_j))   with   h = Σₜ log π(yₜ|x, y₍<ₜ₎) − log π_ref(yₜ|x, y₍<ₜ₎)   and   j ≠ i

    The responses answer other prompts, so that a gain on the own answers does not raise the point that they are
    measured from. The estimate is biased (the responses are not the policy's own), and never below 0, as the
    divergence that it stands for.
    """
    return mismatched_log_ratio.detach().mean().clamp(min=0.0)


def kto_loss(
    log_ratio: Float[Tensor, " B"],
    desirable: Bool[Tensor, " B"],
    reference_point: Float[Tensor, ""],
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
) -> Float[Tensor, ""]:
    """Return what good and bad responses fall short of their full value (eq. 8), averaged over responses.

    L = mean l   with   l = λ_D (1 − σ(β (h − z₀))) where good, λ_U (1 − σ(β (z₀ − h))) where bad

    `log_ratio` is h, the *sum* over response tokens, the end-of-text token among them. The paper's λ_y − v has
    the same value. There is no logarithm: a response far on the wrong side pulls no more, unlike in DPO.
    """
    gain = beta * (log_ratio - reference_point)
    good, bad = desirable_weight * torch.sigmoid(-gain), undesirable_weight * torch.sigmoid(gain)
    return torch.where(desirable, good, bad).mean()
