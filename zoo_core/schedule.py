"""The settings of AdamW that all algorithms share: the learning-rate schedule, and epsilon for policy gradients.

The schedule is a function of progress, so that it ends where the budget ends.
"""

import torch

ADAM_EPSILON = 1e-5
"""Epsilon of AdamW in the loops of policy gradients: 1e-5, as in OpenAI's baselines and Stable-Baselines3, not torch's
1e-8. With it, weights whose gradients are tiny take smaller steps (Huang et al. 2022, "The 37 Implementation Details of
Proximal Policy Optimization", detail 3)."""
WARM_UP = 0.05
"""Share of a stage, at its beginning, over which the learning rate rises from a tenth of its peak to the peak."""
COOL_DOWN = 0.2
"""Share of a stage, at its end, over which the learning rate falls to 0."""


def factor(progress: float) -> float:
    """Return the share of the peak learning rate at a progress of 0 to 1: linear warm-up, constant, linear to 0."""
    rising = 0.1 + 0.9 * progress / WARM_UP
    falling = (1.0 - progress) / COOL_DOWN
    return max(0.0, min(1.0, rising, falling))


def set_learning_rate(optimizer: torch.optim.Optimizer, peak: float, progress: float) -> None:
    """Set the learning rate of every parameter group for the next step, by `run.progress`."""
    for group in optimizer.param_groups:
        group["lr"] = peak * factor(progress)
