"""Settings of RLOO.

The number of samples per prompt is the larger of those of Ahmadian et al. 2024 (arXiv:2402.14740). Learning rate and
batch suit models of a few million parameters and were chosen by `zoo tune-defaults`; its log is `tuning.json`.
"""

from dataclasses import dataclass
from typing import ClassVar

from zoo_core.endings import check_endings
from zoo_core.records import LEARNING_RATES, Choice, Defaults, Range, Space, check_ranges


@dataclass(frozen=True, kw_only=True)
class RLOOConfig:
    """Settings of RLOO."""

    SEARCH: ClassVar[Space] = {
        "learning_rate": LEARNING_RATES,
        "kl_coefficient": Range(0.005, 0.5, log=True),
        "samples_per_prompt": Choice((2, 4, 8)),
        "batch_size": Choice((16, 32, 64, 128, 256)),
    }
    DEFAULTS: ClassVar[Defaults] = Defaults("tuned", points=16, beat_sft=7)

    batch_size: int = 128
    """Responses sampled per update, which is one optimizer step."""
    samples_per_prompt: int = 2
    """k: responses to each prompt, each the baseline of the others; divides `batch_size`."""
    temperature: float = 1.0
    """Sampling temperature; all log-probabilities are taken at it."""
    learning_rate: float = 0.0017
    """Peak step size of AdamW."""
    kl_coefficient: float = 0.26
    """β: reward units lost per nat of divergence from the reference."""
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
                f"samples_per_prompt={self.samples_per_prompt} must be 2 or more: the baseline of a response is the "
                "mean of the prompt's others."
            )
        if self.batch_size % self.samples_per_prompt:
            raise ValueError(
                f"batch_size={self.batch_size} must be a multiple of samples_per_prompt={self.samples_per_prompt}; it "
                "counts responses, not prompts."
            )
