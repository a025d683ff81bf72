"""Settings of online DPO.

k, β and the temperature are those of Guo et al. 2024 (arXiv:2402.04792); the others are hand-set: those of DPO.
"""

from dataclasses import dataclass
from typing import ClassVar

from zoo_core.endings import check_endings
from zoo_core.records import LEARNING_RATES, Choice, Defaults, Range, Space, check_ranges


@dataclass(frozen=True, kw_only=True)
class OnlineDPOConfig:
    """Settings of online DPO."""

    SEARCH: ClassVar[Space] = {
        "learning_rate": LEARNING_RATES,
        "beta": Range(0.01, 1.0, log=True),
        "samples_per_prompt": Choice((2, 4, 8)),
        "batch_size": Choice((16, 32, 64, 128)),
    }
    DEFAULTS: ClassVar[Defaults] = Defaults()

    batch_size: int = 32
    """Prompts per update, each of which gives one pair or none."""
    samples_per_prompt: int = 2
    """k: responses to each prompt, of which the best and the worst become a pair."""
    temperature: float = 0.9
    """Sampling temperature; all log-probabilities are taken at it."""
    learning_rate: float = 0.0001
    """Peak step size of AdamW."""
    beta: float = 0.1
    """β of DPO: the strength of the pull towards the reference, per nat."""
    missing_eos_penalty: float = 1.0
    """What a response that did not end itself loses, in standard deviations of the reward on the start's samples."""
    missing_eos_score: float | None = None
    """Score of such a response instead, the rule of N+ (-1 there); above that of others not ending pays."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this L2 norm."""

    def __post_init__(self) -> None:
        check_endings(self)
        check_ranges(self)
        if self.samples_per_prompt < 2:
            raise ValueError(
                f"samples_per_prompt={self.samples_per_prompt} must be 2 or more: a pair is two "
                "responses to one prompt."
            )
