"""Settings of supervised fine-tuning.

Learning rate and batch were confirmed by `zoo tune-defaults` for models of a few million parameters; the log is
`tuning.json`, beside the pyproject.toml.
"""

from dataclasses import dataclass
from typing import ClassVar

from zoo_core.records import LEARNING_RATES, Choice, Defaults, Space, check_ranges


@dataclass(frozen=True, kw_only=True)
class SFTConfig:
    """Settings of supervised fine-tuning."""

    SEARCH: ClassVar[Space] = {"learning_rate": LEARNING_RATES, "batch_size": Choice((8, 16, 32, 64))}
    DEFAULTS: ClassVar[Defaults] = Defaults("tuned", points=16, beat_sft=5)

    batch_size: int = 32
    """Demonstrations per update."""
    learning_rate: float = 0.00015
    """Peak step size of AdamW."""
    epochs: float | None = None
    """Passes over the demonstrations; None goes on until the budget is spent."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this L2 norm."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class SFTChosenConfig(SFTConfig):
    """Settings of fine-tuning on demonstrations and chosen answers: those of SFT, with defaults of their own."""

    SEARCH: ClassVar[Space] = {
        "learning_rate": LEARNING_RATES,
        "batch_size": Choice((8, 16, 32, 64, 128, 256, 512, 1024)),
    }
    DEFAULTS: ClassVar[Defaults] = Defaults("tuned", points=16, beat_sft=7)

    batch_size: int = 256
    """Answers per update."""
    learning_rate: float = 0.00098
    """Peak step size of AdamW."""
