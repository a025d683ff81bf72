"""Settings of DPO.

β is that of Rafailov et al. 2023 (arXiv:2305.18290), section 6. All that is searched was chosen by
`zoo tune-defaults` for models of a few million parameters; the log is `tuning.json`, beside the pyproject.toml.
"""

from dataclasses import dataclass
from typing import ClassVar

from zoo_core.records import LEARNING_RATES, Choice, Defaults, Range, Space, check_ranges


@dataclass(frozen=True, kw_only=True)
class DPOConfig:
    """Settings of DPO."""

    SEARCH: ClassVar[Space] = {
        "learning_rate": LEARNING_RATES,
        "beta": Range(0.01, 1.0, log=True),
        "batch_size": Choice((8, 16, 32, 64)),
    }
    DEFAULTS: ClassVar[Defaults] = Defaults("tuned", points=16, beat_sft=12)

    batch_size: int = 32
    """Preference pairs per update."""
    learning_rate: float = 0.0001
    """Peak step size of AdamW."""
    beta: float = 0.1
    """β of eq. 7: the strength of the pull towards the reference, per nat."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this L2 norm."""

    def __post_init__(self) -> None:
        check_ranges(self)
