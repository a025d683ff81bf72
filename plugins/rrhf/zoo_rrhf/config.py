"""Settings of RRHF.

Yuan et al. 2023 (arXiv:2304.05302), section 4, sample four responses once, with a rank weight of 1. What is searched
was chosen by `zoo tune-defaults` for models of a few million parameters; the log is `tuning.json`, beside the
pyproject.toml.
"""

from dataclasses import dataclass
from typing import ClassVar

from zoo_core.endings import check_endings
from zoo_core.records import LEARNING_RATES, Choice, Defaults, Range, Space, check_ranges


@dataclass(frozen=True, kw_only=True)
class RRHFConfig:
    """Settings of RRHF."""

    SEARCH: ClassVar[Space] = {
        "learning_rate": LEARNING_RATES,
        "rank_weight": Range(0.1, 10.0, log=True),
        "samples": Choice((2, 4, 8, 16)),
        "iterations": Choice((1, 2, 4)),
    }
    DEFAULTS: ClassVar[Defaults] = Defaults("tuned", points=16, beat_sft=7)

    samples: int = 8
    """Responses sampled to each prompt, beside the two of its pair."""
    temperature: float = 1.0
    """Sampling temperature; ranking takes log-probabilities at 1."""
    iterations: int = 2
    """How often to sample anew from what was trained so far (IP-n), each time with an equal share of the budget."""
    collect_share: float = 0.2
    """Share of an iteration that sampling and scoring may spend; it ends sooner once every prompt was answered."""
    batch_size: int = 8
    """Prompts per update, in sampling as in training."""
    missing_eos_penalty: float = 1.0
    """What a sample that did not end itself loses, in standard deviations of the reward on the start's samples."""
    missing_eos_score: float | None = None
    """Score of such a sample instead, the rule of N+ (-1 there); above that of others not ending pays."""
    learning_rate: float = 0.00097
    """Peak step size of AdamW."""
    rank_weight: float = 0.16
    """Weight of the rank loss beside the fine-tuning loss; 0 only imitates the best response."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this L2 norm."""

    def __post_init__(self) -> None:
        check_endings(self)
        check_ranges(self)
        if self.collect_share == 1:
            raise ValueError(
                f"collect_share={self.collect_share} must be below 1: responses are needed, and what is left "
                "is trained with."
            )
