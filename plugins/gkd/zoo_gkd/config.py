"""Settings of GKD.

λ and β are the middle of what Agarwal et al. 2024 (arXiv:2306.13649) try. They are TRL's defaults, as is the
temperature. The others are hand-set.
"""

from dataclasses import dataclass
from typing import ClassVar

from zoo_core.records import LEARNING_RATES, Choice, Defaults, Range, Space, check_ranges


@dataclass(frozen=True, kw_only=True)
class GKDConfig:
    """Settings of GKD."""

    SEARCH: ClassVar[Space] = {
        "learning_rate": LEARNING_RATES,
        "on_policy_share": Range(0.0, 1.0),
        "beta": Range(0.0, 1.0),
        "batch_size": Choice((8, 16, 32, 64)),
    }
    DEFAULTS: ClassVar[Defaults] = Defaults()

    teacher: str = ""
    """The model to learn from: a directory, a hub id or one of a plugin's; of the same tokenizer. It must be given."""
    batch_size: int = 32
    """Responses per update."""
    on_policy_share: float = 0.5
    """λ: the share of updates that learn from the policy's own responses, and not from demonstrations."""
    beta: float = 0.5
    """β of the divergence: 0 is KL(teacher ‖ policy), 1 is KL(policy ‖ teacher), 0.5 is symmetric."""
    temperature: float = 0.9
    """Sampling temperature; the distributions that are compared are those at 1."""
    learning_rate: float = 0.0001
    """Peak step size of AdamW."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this L2 norm."""

    def __post_init__(self) -> None:
        check_ranges(self, but=("on_policy_share", "beta"))
        for name in ("on_policy_share", "beta"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must be between 0 and 1.")
