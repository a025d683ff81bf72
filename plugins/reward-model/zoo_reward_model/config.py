"""Settings of the reward model.

All that is searched was chosen by `zoo tune-defaults --stage`, by loss on unseen pairs, for models of a few million
parameters; the log is `tuning.json`, beside the pyproject.toml.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from zoo_core.records import LEARNING_RATES, Choice, Defaults, Range, Space, check_ranges


@dataclass(frozen=True, kw_only=True)
class RewardModelConfig:
    """Settings of the reward model."""

    SEARCH: ClassVar[Space] = {
        "learning_rate": LEARNING_RATES,
        "ratio_scale": Range(0.02, 0.5, log=True),
        "batch_size": Choice((8, 16, 32, 64)),
    }
    DEFAULTS: ClassVar[Defaults] = Defaults("tuned", points=16)

    scorer: Literal["log-ratio", "last-token"] = "log-ratio"
    """What a score is made of: how much likelier the model finds the answer than the start does, or a scalar head on
    the state of the last token, an ordinary sequence classifier."""
    ratio_scale: float = 0.095
    """β of "log-ratio": score units of one nat."""
    batch_size: int = 16
    """Preference pairs per update."""
    learning_rate: float = 0.001
    """Peak step size of AdamW."""
    epochs: float | None = None
    """Passes over the pairs; None goes on until the budget is spent."""
    centering_coefficient: float = 0.01
    """Weight of the penalty on scores far from 0, which the pairs alone leave undetermined."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this L2 norm."""
    lora_rank: int | None = None
    """Rank of an adapter that is trained in place of the body, which stays that of the start; None trains all of it."""

    def __post_init__(self) -> None:
        check_ranges(self)
