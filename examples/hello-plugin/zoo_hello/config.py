"""Settings: a frozen dataclass with a docstring under each field."""

from dataclasses import dataclass
from typing import ClassVar

from zoo_core.records import LEARNING_RATES, Choice, Range, Space, check_ranges


@dataclass(frozen=True, kw_only=True)
class HelloConfig:
    """Settings of hello."""

    SEARCH: ClassVar[Space] = {
        "learning_rate": LEARNING_RATES,
        "batch_size": Choice((8, 16, 32)),
        "margin": Range(0.1, 10.0, log=True),
    }

    batch_size: int = 16
    """Preference pairs per update."""
    learning_rate: float = 5e-5
    """Peak step size of AdamW."""
    margin: float = 1.0
    """δ: nats by which a chosen answer is to be likelier than the rejected one."""

    def __post_init__(self) -> None:
        check_ranges(self)
