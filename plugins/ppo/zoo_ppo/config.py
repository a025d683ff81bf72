"""Settings of PPO.

Defaults that do not depend on scale are those of Huang et al. 2024, "The N+ Implementation Details of RLHF with PPO"
(arXiv:2403.17031). All that is searched was chosen by `zoo tune-defaults` for models of a few million parameters; the
log is `tuning.json`, beside the pyproject.toml.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from zoo_core.endings import check_endings
from zoo_core.records import LEARNING_RATES, Choice, Defaults, Range, Space, check_ranges


@dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """Settings of PPO."""

    SEARCH: ClassVar[Space] = {
        "learning_rate": LEARNING_RATES,
        "kl_coefficient": Range(0.005, 0.5, log=True),
        "batch_size": Choice((6, 12, 24, 48)),
        "epochs": Choice((1, 2, 4, 8)),
    }
    DEFAULTS: ClassVar[Defaults] = Defaults("tuned", points=16, beat_sft=7)

    batch_size: int = 12
    """Responses sampled per update."""
    minibatch_size: int = 6
    """Responses per optimizer step; divides `batch_size`."""
    epochs: int = 4
    """Passes over each batch of responses; 1 as in Ouyang et al. 2022 (arXiv:2203.02155)."""
    temperature: float = 1.0
    """Sampling temperature of rollouts; all log-probabilities are taken at it."""
    learning_rate: float = 0.00015
    """Peak step size of AdamW, for policy and critic."""
    clip_range: float = 0.2
    """ε of eq. 7: how far the probability ratio may move from 1."""
    value_clip_range: float = 0.2
    """How far a value may move from its old estimate, in reward units."""
    value_coefficient: float = 0.1
    """Weight of the value loss (c₁ of eq. 9)."""
    kl_coefficient: float = 0.14
    """β: reward units lost per nat of divergence from the reference."""
    kl_target: float | None = None
    """Nats per response that β is steered to (Ziegler's controller); None leaves β as it is."""
    kl_horizon: float = 10_000.0
    """Responses over which β may roughly change by a factor e."""
    missing_eos_penalty: float = 1.0
    """What a response that did not end itself loses, in standard deviations of the reward on the start's samples."""
    missing_eos_score: float | None = None
    """Score of such a response instead, the rule of N+ (-1 there); above that of others not ending pays."""
    discount: float = 1.0
    """γ. 1 because a response is short and only its end is scored."""
    gae_lambda: float = 0.95
    """λ of GAE: 0 is one-step TD, 1 is Monte Carlo."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this L2 norm."""
    models: Literal["separate", "hydra", "lora"] = "separate"
    """How policy, reference and critic share memory; formulas are the same in all three."""
    unfrozen_layers: int = 2
    """Top layers that a hydra trains; what is below belongs to policy, reference and critic together."""
    lora_rank: int = 8
    """Rank of the adapters of policy and critic in "lora"."""
    critic: Literal["policy", "reward"] = "policy"
    """What the critic of "separate" starts as: the policy's body with a head of 0, or the reward model (N+)."""

    def __post_init__(self) -> None:
        check_endings(self)
        check_ranges(self)
        if self.batch_size % self.minibatch_size:
            raise ValueError(
                f"minibatch_size={self.minibatch_size} must divide batch_size={self.batch_size}; a ragged last "
                "minibatch would be weighted too heavily."
            )
        if self.critic == "reward" and self.models != "separate":
            raise ValueError(
                f"critic='reward' cannot be had with models={self.models!r}, whose critic stands on the policy's own "
                "layers; use models='separate', or critic='policy'."
            )
