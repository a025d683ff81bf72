"""Settings of LIMA.

`temperature`, `batch_size` and `weight_decay` are those of Zhou et al. 2023 (arXiv:2305.11206), sections 2 and 3. What
is searched was chosen by `zoo tune-defaults` for models of a few million parameters; the log is `tuning.json`, beside
the pyproject.toml.
"""

from dataclasses import dataclass
from typing import ClassVar

from zoo_core.records import LEARNING_RATES, Choice, Defaults, Range, Space, check_ranges

SELECTIONS = ("curated", "random")


@dataclass(frozen=True, kw_only=True)
class LIMAConfig:
    """Settings of LIMA."""

    SEARCH: ClassVar[Space] = {
        "learning_rate": LEARNING_RATES,
        "rows": Choice((64, 128, 256, 512)),
        "epochs": Range(2.0, 30.0, log=True),
        "dropout": Range(0.0, 0.3),
    }
    DEFAULTS: ClassVar[Defaults] = Defaults("tuned", points=16, beat_sft=3)

    selection: str = "curated"
    """"curated", or "random": as many rows drawn at random, the control."""
    rows: int = 512
    """Demonstrations that are selected; all that pass the rules where these are fewer."""
    shortest: float = 0.05
    """Quantile of the pool's answer lengths below which an answer is too short."""
    longest: float = 0.95
    """Quantile of the pool's answer lengths above which an answer is too long."""
    kinds: int = 16
    """Kinds of prompts, found by k-means over their words."""
    temperature: float = 3.0
    """Evens out the kinds: 1 keeps their proportions, the larger the more they count alike."""
    batch_size: int = 32
    """Selected rows per update."""
    learning_rate: float = 5.7e-05
    """Step size of AdamW in the first update; it falls linearly to a tenth in the last."""
    epochs: float = 24.0
    """Passes over the selected rows, after which the run ends whatever is left of the budget."""
    dropout: float = 0.25
    """Dropout of what the top layer adds to the residual stream; 0 at the bottom layer, and linear between."""
    weight_decay: float = 0.1
    """AdamW's."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this L2 norm."""

    def __post_init__(self) -> None:
        if self.selection not in SELECTIONS:
            raise ValueError(f"selection={self.selection!r} must be one of {', '.join(SELECTIONS)}.")
        if not 0 <= self.shortest < self.longest <= 1:
            raise ValueError(f"shortest={self.shortest} must be below longest={self.longest}, both between 0 and 1.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout} must be 0 or more and below 1.")
        check_ranges(self)
