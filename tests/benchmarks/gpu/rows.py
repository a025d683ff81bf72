"""The rows of the table of trainings: what an update of each has, on both sides."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import base

PROMPT_TOKENS = 96
"""Of prompts that are sampled from."""
LEARNING_RATE = 1e-6
"""So low that no side's responses change."""
NAMES = ("sft", "reward", "dpo", "grpo", "rloo", "ppo")
SAMPLE = ("grpo", "rloo", "ppo")
GROUP = 4
AUTOCAST, HALF, UNPADDED, CONTINUOUS = "autocast", "bf16 weights", "padding-free", "continuous batching"
"""Ways of TRL and transformers; all but the first have weights in bfloat16 and no autocast."""
WAYS: dict[str, tuple[str, ...]] = {
    "sft": (AUTOCAST, HALF, UNPADDED),
    "reward": (AUTOCAST, HALF),
    "dpo": (AUTOCAST, HALF),
    "grpo": (AUTOCAST, HALF, CONTINUOUS),
    "rloo": (AUTOCAST, HALF, CONTINUOUS),
    "ppo": (),  # TRL 1.16 has none; nor has it padding-free DPO
}
"""The settings of TRL that could be its best, by row."""


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    name: str
    """sft, reward, dpo, grpo, rloo or ppo."""
    batch: int
    """Demonstrations, pairs or responses of an update."""
    longest: int
    """Tokens of a demonstration or of one side of a pair; of those that sample, of a response."""
    warm_up: int
    timed: int
    """Updates of a block before those that are timed, and timed."""

    @property
    def samples(self) -> bool:
        """Whether it learns from its own samples."""
        return self.name in SAMPLE

    @property
    def prompts(self) -> int:
        """Prompts of an update, of those that sample."""
        return self.batch if self.name == "ppo" else self.batch // GROUP


def row_of(name: str, tiny: bool) -> Row:
    """Return the row of a name such as "dpo large"."""
    algorithm, size = name.split()
    large = size == "large"
    if tiny:
        return Row(algorithm, 8, 12 if algorithm in SAMPLE else 64, 1, 2)
    if algorithm in SAMPLE:
        return Row(algorithm, 128 if large else 64, 128 if large else 48, 3, 4)
    batch = (64 if algorithm == "sft" else 32) if large else 16
    return Row(algorithm, batch, 512 if large else 256, 3, 8)


@cache
def texts_of(row: Row, folder: Path, tiny: bool) -> list[dict[str, Any]]:
    """Return the pairs that a row learns from, or whose prompts it samples from."""
    model = base.made(folder, tiny)
    if row.samples:
        return base.pairs(model, tiny, 512, 2 * PROMPT_TOKENS, PROMPT_TOKENS)
    return base.pairs(model, tiny, 1024, row.longest, row.longest * 3 // 4)
