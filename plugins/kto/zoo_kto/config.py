"""Settings of KTO.

β and the weights are those of Ethayarajh et al. 2024 (arXiv:2402.01306), section 4. The others are hand-set: DPO's, for
models of a few million parameters.
"""

from dataclasses import dataclass
from typing import ClassVar

from zoo_core.records import LEARNING_RATES, Choice, Defaults, Range, Space, check_ranges


@dataclass(frozen=True, kw_only=True)
class KTOConfig:
    """Settings of KTO."""

    SEARCH: ClassVar[Space] = {
        "learning_rate": LEARNING_RATES,
        "beta": Range(0.01, 1.0, log=True),
        "batch_size": Choice((8, 16, 32, 64)),
    }
    DEFAULTS: ClassVar[Defaults] = Defaults()

    batch_size: int = 32
    """Preference pairs per update; each is two rows, a good and a bad one. At least 2."""
    learning_rate: float = 0.0001
    """Peak step size of AdamW."""
    beta: float = 0.1
    """β of eq. 8: how fast the value of a nat saturates; the larger, the stronger the pull to the reference."""
    desirable_weight: float = 1.0
    """λ_D of eq. 8: weight of good answers."""
    undesirable_weight: float = 1.0
    """λ_U of eq. 8: weight of bad answers."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this L2 norm."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.batch_size < 2:
            raise ValueError(f"batch_size={self.batch_size} must be 2 or more: prompts borrow answers of other pairs.")
