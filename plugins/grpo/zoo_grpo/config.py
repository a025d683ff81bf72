"""Settings of GRPO.

Those that are not searched are from Shao et al. 2024 (arXiv:2402.03300), section 4.2. The others suit models of a few
million parameters and were chosen by `zoo tune-defaults`; its log is `tuning.json`.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from zoo_core.records import LEARNING_RATES, Choice, Defaults, Range, Space
from zoo_grpo.group_config import check_groups

Aggregation = Literal["grpo", "dapo", "dr_grpo"]
Divergence = Literal["k3", "unbiased"]


@dataclass(frozen=True, kw_only=True)
class GRPOConfig:
    """Settings of GRPO."""

    SEARCH: ClassVar[Space] = {
        "learning_rate": LEARNING_RATES,
        "kl_coefficient": Range(0.004, 0.4, log=True),
        "group_size": Choice((4, 8, 16)),
        "batch_size": Choice((32, 64, 128, 256, 512)),
    }
    DEFAULTS: ClassVar[Defaults] = Defaults("tuned", points=16, beat_sft=9)

    batch_size: int = 256
    """Responses sampled per update."""
    group_size: int = 8
    """G: responses to each prompt, compared with each other; divides `batch_size`."""
    minibatch_size: int = 32
    """Responses per optimizer step; divides `batch_size`."""
    epochs: int = 1
    """μ: passes over each batch of responses."""
    temperature: float = 1.0
    """Sampling temperature; all log-probabilities are taken at it."""
    learning_rate: float = 0.00062
    """Peak step size of AdamW."""
    clip_range: float = 0.2
    """ε of eq. 3: how far the probability ratio may move from 1."""
    kl_coefficient: float = 0.094
    """β of eq. 3: weight of the divergence from the reference, per token."""
    kl_estimate: Divergence = "k3"
    """How it is estimated: "k3" (Shao et al. 2024, eq. 4) or "unbiased" (k3 times the ratio, DeepSeek-V3.2)."""
    scale_rewards: bool = True
    """Whether advantages are divided by the deviation of their group; Dr. GRPO does not."""
    aggregation: Aggregation = "grpo"
    """How token losses become one: "grpo" (mean of sequence means), "dapo" (token mean) or "dr_grpo" (constant)."""
    missing_eos_penalty: float = 1.0
    """What a response that did not end itself loses, in standard deviations of the reward on the start's samples."""
    missing_eos_score: float | None = None
    """Score of such a response instead, the rule of N+ (-1 there); above that of others not ending pays."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this L2 norm."""

    def __post_init__(self) -> None:
        check_groups(self)
