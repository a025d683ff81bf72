"""Settings of ORPO.

The defaults were searched (tuning.json): λ is 25 times that of Hong et al. 2024 (arXiv:2403.07691) for Mistral 7 B.
"""

from dataclasses import dataclass
from typing import ClassVar

from zoo_core.records import LEARNING_RATES, Choice, Defaults, Range, Space, check_ranges


@dataclass(frozen=True, kw_only=True)
class ORPOConfig:
    """Settings of ORPO."""

    SEARCH: ClassVar[Space] = {
        "learning_rate": LEARNING_RATES,
        "odds_ratio_coefficient": Range(0.03, 30.0, log=True),
        "batch_size": Choice((8, 16, 32, 64, 128)),
    }
    DEFAULTS: ClassVar[Defaults] = Defaults("tuned", points=16, beat_sft=10)

    batch_size: int = 64
    """Preference pairs per update."""
    learning_rate: float = 0.00031
    """Peak step size of AdamW."""
    odds_ratio_coefficient: float = 2.5
    """λ of eq. 6: weight of the odds-ratio loss beside imitation; 0 is SFT on the chosen answers."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this L2 norm."""

    def __post_init__(self) -> None:
        check_ranges(self)
