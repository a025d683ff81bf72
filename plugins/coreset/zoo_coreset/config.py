"""Settings of fine-tuning on a core set.

`share` is that of Chen et al. 2023 (arXiv:2305.09246). What is searched was chosen by `zoo tune-defaults` for models of
a few million parameters; the log is `tuning.json`, beside the pyproject.toml.
"""

from dataclasses import dataclass
from typing import ClassVar

from zoo_core.records import LEARNING_RATES, Choice, Defaults, Range, Space, check_ranges

SELECTIONS = ("coreset", "random")


@dataclass(frozen=True, kw_only=True)
class CoresetConfig:
    """Settings of fine-tuning on a core set."""

    SEARCH: ClassVar[Space] = {
        "learning_rate": LEARNING_RATES,
        "at_least": Choice((64, 128, 256, 512)),
        "epochs": Range(2.0, 30.0, log=True),
    }
    DEFAULTS: ClassVar[Defaults] = Defaults("tuned", points=16, beat_sft=1)

    selection: str = "coreset"
    """"coreset", or "random": as many rows drawn at random, the control."""
    share: float = 0.005
    """Part of the demonstrations that is selected, above 0 and up to 1."""
    at_least: int = 512
    """Rows that are selected however small the share is; a small pool has nothing to throw away."""
    regions: int = 8
    """Clusters of k-means, each a task region with its part of the rows."""
    batch_size: int = 32
    """Selected rows per update."""
    learning_rate: float = 0.00054
    """Peak step size of AdamW."""
    epochs: float = 2.5
    """Passes over the selected rows, after which the run ends whatever is left of the budget."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this L2 norm."""

    def __post_init__(self) -> None:
        if self.selection not in SELECTIONS:
            raise ValueError(f"selection={self.selection!r} must be one of {', '.join(SELECTIONS)}.")
        check_ranges(self)
