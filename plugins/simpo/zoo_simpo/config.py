"""Settings of SimPO and CPO.

β and γ/β of SimPO are in the range of Meng et al. 2024 (arXiv:2405.14734), section 3; β and the weight of CPO are those
of Xu et al. 2024 (arXiv:2401.08417). The others are hand-set, for models of a few million parameters.
"""

from dataclasses import dataclass
from typing import ClassVar

from zoo_core.records import LEARNING_RATES, Choice, Defaults, Range, Space, check_ranges


@dataclass(frozen=True, kw_only=True)
class SimPOConfig:
    """Settings of SimPO."""

    SEARCH: ClassVar[Space] = {
        "learning_rate": LEARNING_RATES,
        "beta": Range(0.5, 10.0, log=True),
        "target_margin": Range(0.0, 5.0),
        "batch_size": Choice((8, 16, 32, 64)),
    }
    DEFAULTS: ClassVar[Defaults] = Defaults()

    batch_size: int = 32
    """Preference pairs per update."""
    learning_rate: float = 0.0001
    """Peak step size of AdamW."""
    beta: float = 2.0
    """β of eq. 6: what a nat per token is worth."""
    target_margin: float = 1.0
    """γ of eq. 6: by how much the chosen answer's reward is to lead, in the units of β · nats per token."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this L2 norm."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class CPOConfig:
    """Settings of CPO."""

    SEARCH: ClassVar[Space] = {
        "learning_rate": LEARNING_RATES,
        "beta": Range(0.01, 1.0, log=True),
        "imitation_coefficient": Range(0.1, 10.0, log=True),
        "batch_size": Choice((8, 16, 32, 64)),
    }
    DEFAULTS: ClassVar[Defaults] = Defaults()

    batch_size: int = 32
    """Preference pairs per update."""
    learning_rate: float = 0.0001
    """Peak step size of AdamW."""
    beta: float = 0.1
    """β: what a nat of a whole answer is worth."""
    imitation_coefficient: float = 1.0
    """α: weight of imitating the chosen answers, whose loss is per token."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this L2 norm."""

    def __post_init__(self) -> None:
        check_ranges(self)
