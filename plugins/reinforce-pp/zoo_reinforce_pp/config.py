"""Settings of REINFORCE++ and of its form with a baseline.

The clip range is the paper's; all that is searched was set by hand for models of a few million parameters.
"""

from dataclasses import dataclass
from typing import ClassVar

from zoo_core.endings import check_endings
from zoo_core.records import LEARNING_RATES, Choice, Range, Space, check_ranges


@dataclass(frozen=True, kw_only=True)
class ReinforcePPConfig:
    """Settings of REINFORCE++: one response to each prompt."""

    SEARCH: ClassVar[Space] = {
        "learning_rate": LEARNING_RATES,
        "kl_coefficient": Range(0.005, 0.5, log=True),
        "batch_size": Choice((16, 32, 64, 128)),
        "epochs": Choice((1, 2, 4)),
    }

    batch_size: int = 64
    """Responses sampled per update, each to a prompt of its own; advantages are whitened over them."""
    minibatch_size: int = 32
    """Responses per optimizer step; divides `batch_size`."""
    epochs: int = 1
    """Passes over each batch of responses."""
    temperature: float = 1.0
    """Sampling temperature; all log-probabilities are taken at it."""
    learning_rate: float = 0.0005
    """Peak step size of AdamW."""
    clip_range: float = 0.2
    """ε: how far the probability ratio of a token may move from 1."""
    kl_coefficient: float = 0.05
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
        if self.batch_size % self.minibatch_size:
            raise ValueError(
                f"minibatch_size={self.minibatch_size} must divide batch_size={self.batch_size}; a ragged last "
                "minibatch would be weighted too heavily."
            )


@dataclass(frozen=True, kw_only=True)
class ReinforcePPBaselineConfig(ReinforcePPConfig):
    """Settings of REINFORCE++ with a baseline: several responses to each prompt."""

    SEARCH: ClassVar[Space] = {
        "learning_rate": LEARNING_RATES,
        "kl_coefficient": Range(0.005, 0.5, log=True),
        "batch_size": Choice((16, 32, 64, 128)),
        "samples_per_prompt": Choice((2, 4, 8)),
    }

    samples_per_prompt: int = 4
    """k: responses to each prompt, whose mean score is the baseline of each; divides `batch_size`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples_per_prompt < 2:
            raise ValueError(
                f"samples_per_prompt={self.samples_per_prompt} must be 2 or more: a response alone equals its mean. "
                "`reinforce-pp` samples one."
            )
        if self.batch_size % self.samples_per_prompt:
            raise ValueError(
                f"batch_size={self.batch_size} must be a multiple of samples_per_prompt={self.samples_per_prompt}; it "
                "counts responses, not prompts."
            )
