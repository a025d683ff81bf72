"""Settings of RLAIF and d-RLAIF.

What is searched was chosen by `zoo tune-defaults` for models of a few million parameters and budgets to match; the log
is `tuning.json`, beside the pyproject.toml.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from zoo_core.endings import check_endings
from zoo_core.records import LEARNING_RATES, Choice, Defaults, Range, Space, check_ranges


@dataclass(frozen=True, kw_only=True)
class RLAIFConfig:
    """Settings of RLAIF."""

    SEARCH: ClassVar[Space] = {
        "learning_rate": LEARNING_RATES,
        "reward_learning_rate": LEARNING_RATES,
        "kl_coefficient": Range(0.005, 0.5, log=True),
        "pairs": Choice((256, 512, 1024, 2048)),
    }
    DEFAULTS: ClassVar[Defaults] = Defaults("tuned", points=16, beat_sft=2)

    constitution: str | None = None
    """Path of the constitution; None takes the judge's own, else the shipped one."""
    pairs: int = 1024
    """Pairs of samples that the judge is asked about."""
    pairs_per_update: int = 32
    """Pairs per update of the labelling stage."""
    label_share: float = 0.25
    """Most of the budget (without the start's stages) that labelling may take, whatever `pairs` says."""
    reward_epochs: float = 2.0
    """Passes of the reward model over the labelled pairs (the paper: 2 to 3)."""
    reward_batch_size: int = 16
    """Pairs per update of the reward model."""
    reward_learning_rate: float = 0.0015
    """Peak step size of AdamW for the reward model."""
    reward_share: float = 0.4
    """Most of the budget that fitting the reward model may take, whatever `reward_epochs` says."""
    batch_size: int = 32
    """Responses sampled per update of REINFORCE."""
    temperature: float = 1.0
    """Sampling temperature of pairs and rollouts; all log-probabilities are taken at it."""
    learning_rate: float = 0.00015
    """Peak step size of AdamW, for policy and baseline."""
    kl_coefficient: float = 0.018
    """β: the return is (1 − β) score − β divergence from the reference in nats (the paper's value)."""
    missing_eos_penalty: float = 1.0
    """What a response that did not end itself loses, in standard deviations of the reward on the start's samples."""
    missing_eos_score: float | None = None
    """Score of such a response instead, the rule of N+ (-1 there); above that of others not ending pays."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this L2 norm."""

    def __post_init__(self) -> None:
        check_endings(self)
        check(self)


@dataclass(frozen=True, kw_only=True)
class DirectRLAIFConfig:
    """Settings of d-RLAIF; what RLAIF has, too, means the same."""

    SEARCH: ClassVar[Space] = {
        "learning_rate": LEARNING_RATES,
        "kl_coefficient": Range(0.005, 0.5, log=True),
        "batch_size": Choice((4, 8, 16, 32, 64)),
    }
    DEFAULTS: ClassVar[Defaults] = Defaults("tuned", points=16, beat_sft=2)

    constitution: str | None = None
    """Path of the constitution; None takes the judge's own, else the shipped one."""
    batch_size: int = 8
    """Responses sampled, and rated by the judge, per update."""
    temperature: float = 1.0
    """Sampling temperature of rollouts; all log-probabilities are taken at it."""
    learning_rate: float = 2.4e-05
    """Peak step size of AdamW, for policy and baseline."""
    kl_coefficient: float = 0.098
    """β: the return is (1 − β) score − β divergence from the reference in nats."""
    missing_eos_penalty: float = 1.0
    """What a response that did not end itself loses, in standard deviations of the ratings of the start's samples."""
    missing_eos_score: float | None = None
    """Score of such a response instead, the rule of N+ (-1 there); above that of others not ending pays."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this L2 norm."""

    def __post_init__(self) -> None:
        check_endings(self)
        check(self)


def check(config: Any) -> None:
    """Raise for settings outside of their ranges, and for a coefficient at which the score would not count."""
    check_ranges(config)
    if config.kl_coefficient >= 1:
        raise ValueError(
            f"kl_coefficient={config.kl_coefficient} must be 0 or more and below 1; at 1 the score would not count."
        )
