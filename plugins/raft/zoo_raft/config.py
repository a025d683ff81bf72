"""Settings of RAFT.

K and the passes over a stage's selection are those of Dong et al. 2023 (arXiv:2304.06767), the clip of RAFT++ is PPO's.
Stages are 2048 prompts there; that, like their learning rate, suits a model a thousand times as large. Stages are
hand-set here; what is searched was chosen by `zoo tune-defaults`, and its log is `tuning.json`.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from zoo_core.records import LEARNING_RATES, Choice, Defaults, Range, Space, check_ranges

Variant = Literal["raft", "raft-global", "raft++"]


@dataclass(frozen=True, kw_only=True)
class RAFTConfig:
    """Settings of RAFT."""

    SEARCH: ClassVar[Space] = {
        "learning_rate": LEARNING_RATES,
        "samples_per_prompt": Choice((2, 4, 8, 16)),
        "kl_coefficient": Range(0.0, 0.2),
        "epochs": Choice((1, 2)),
    }
    DEFAULTS: ClassVar[Defaults] = Defaults("tuned", points=16, beat_sft=10)

    variant: Variant = "raft"
    """What is learnt: "raft" (each prompt's best), "raft-global" (the batch's best), "raft++" (all good, clipped)."""
    batch_size: int = 32
    """b: prompts per stage; a stage is one update."""
    samples_per_prompt: int = 4
    """K: responses to each prompt, of which the best is kept."""
    minibatch_size: int = 16
    """Responses per optimizer step."""
    epochs: int = 2
    """Passes over what a stage has selected."""
    temperature: float = 1.0
    """λ: sampling temperature; fine-tuning is at 1, the ratio of RAFT++ at λ."""
    learning_rate: float = 0.00097
    """Peak step size of AdamW."""
    kl_coefficient: float = 0.17
    """β: reward units that a response loses in the ranking per nat above the reference; 0 needs no reference."""
    clip_range: float = 0.2
    """ε of RAFT++: how far the probability ratio may rise above 1."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this L2 norm."""

    def __post_init__(self) -> None:
        check_ranges(self)
