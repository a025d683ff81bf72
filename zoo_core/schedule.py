"""The one learning-rate schedule: a function of progress, so that it ends where the budget ends."""

import torch

WARM_UP = 0.05
"""Share of the stage over which the rate rises from a tenth."""
COOL_DOWN = 0.2
"""Share of the stage over which it falls to 0 at the end."""


def factor(progress: float) -> float:
    """Share of the full learning rate at a progress of 0 to 1: linear warm-up, constant, linear to 0."""
    rising = 0.1 + 0.9 * progress / WARM_UP
    falling = (1.0 - progress) / COOL_DOWN
    return max(0.0, min(1.0, rising, falling))


def set_learning_rate(optimizer: torch.optim.Optimizer, peak: float, progress: float) -> None:
    """Set the rate of every parameter group for the coming step."""
    for group in optimizer.param_groups:
        group["lr"] = peak * factor(progress)
