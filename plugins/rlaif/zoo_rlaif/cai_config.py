"""Settings of Constitutional AI.

What is searched was chosen by `zoo tune-defaults` for models of a few million parameters; the log is `tuning.json`,
beside the pyproject.toml.
"""

from dataclasses import dataclass
from typing import ClassVar

from zoo_core.records import LEARNING_RATES, Defaults, Range, Space
from zoo_rlaif.config import check


@dataclass(frozen=True, kw_only=True)
class CAIConfig:
    """Settings of Constitutional AI; those of its reward model mean the same as RLAIF's."""

    SEARCH: ClassVar[Space] = {
        "learning_rate": LEARNING_RATES,
        "tuning_learning_rate": LEARNING_RATES,
        "reward_learning_rate": LEARNING_RATES,
        "kl_coefficient": Range(0.0005, 0.5, log=True),
    }
    DEFAULTS: ClassVar[Defaults] = Defaults("tuned", points=16, beat_sft=0)

    constitution: str | None = None
    """Path of the constitution; None takes the judge's own, else the shipped one."""
    revised_prompts: int = 256
    """Prompts whose answers are revised."""
    prompts_per_update: int = 32
    """Prompts per update of the revising stage."""
    revisions: int = 2
    """Critiques and revisions that follow each other on a prompt, each by a principle of its own (the paper: 4)."""
    revise_share: float = 0.15
    """Most of the budget that revising may take; this and the other shares are of what the start's stages leave."""
    tuning_epochs: float = 1.0
    """Passes of fine-tuning over the revisions of all steps (the paper: 1)."""
    tuning_batch_size: int = 32
    """Revisions per update of fine-tuning."""
    tuning_learning_rate: float = 5.2e-05
    """Peak step size of AdamW in fine-tuning."""
    tuning_share: float = 0.15
    """Most of the budget that fine-tuning may take."""
    pairs: int = 384
    """Pairs of samples of the fine-tuned policy that the judge is asked about."""
    pairs_per_update: int = 32
    """Pairs per update of the labelling stage."""
    label_share: float = 0.15
    """Most of the budget that labelling may take."""
    reward_epochs: float = 2.0
    """Passes of the reward model over the labelled pairs."""
    reward_batch_size: int = 16
    """Pairs per update of the reward model."""
    reward_learning_rate: float = 0.0002
    """Peak step size of AdamW for the reward model."""
    reward_share: float = 0.25
    """Most of the budget that fitting the reward model may take."""
    temperature: float = 1.0
    """Sampling temperature of answers, critiques, revisions, pairs and rollouts."""
    batch_size: int = 32
    """Responses sampled per update of PPO; half of them make a minibatch."""
    learning_rate: float = 3.7e-05
    """Peak step size of AdamW in PPO."""
    kl_coefficient: float = 0.005
    """β of PPO: reward units lost per nat of divergence from the fine-tuned policy."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this L2 norm."""

    def __post_init__(self) -> None:
        check(self)
        if self.batch_size % 2:
            raise ValueError(f"batch_size={self.batch_size} must be even: PPO goes through it in two minibatches.")
