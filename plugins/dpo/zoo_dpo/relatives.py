"""Settings of the algorithms that put another loss into the loop of DPO.

Those that they share with DPO are DPO's, which were searched; all others are hand-set, most to the papers' values.
"""

from dataclasses import dataclass
from typing import ClassVar

from zoo_core.records import LEARNING_RATES, Choice, Defaults, Range, Space, check_ranges
from zoo_dpo.config import DPOConfig


@dataclass(frozen=True, kw_only=True)
class ConservativeDPOConfig(DPOConfig):
    """Settings of conservative DPO: those of DPO, and how many labels are wrong."""

    SEARCH: ClassVar[Space] = {**DPOConfig.SEARCH, "label_noise": Range(0.01, 0.3, log=True)}
    DEFAULTS: ClassVar[Defaults] = Defaults()

    label_noise: float = 0.1
    """ε: share of the pairs that are taken to be labelled the wrong way round; below 1/2."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.label_noise < 0.5:
            raise ValueError(
                f"label_noise={self.label_noise} must be 0 or more and below 0.5; at 0.5 labels say nothing."
            )


@dataclass(frozen=True, kw_only=True)
class RobustDPOConfig(ConservativeDPOConfig):
    """Settings of robust DPO: those of conservative DPO."""


@dataclass(frozen=True, kw_only=True)
class IPOConfig:
    """Settings of IPO."""

    SEARCH: ClassVar[Space] = {
        "learning_rate": LEARNING_RATES,
        "tau": Range(0.1, 10.0, log=True),
        "batch_size": Choice((8, 16, 32, 64)),
    }
    DEFAULTS: ClassVar[Defaults] = Defaults()

    batch_size: int = 32
    """Preference pairs per update."""
    learning_rate: float = 0.0001
    """Peak step size of AdamW."""
    tau: float = 1.0
    """τ of eq. 17: margins are pulled to 1/(2τ), which is half a nat per token at 1."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this L2 norm."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class DPONLLConfig(DPOConfig):
    """Settings of DPO with imitation: those of DPO, and how much the chosen answers are imitated."""

    SEARCH: ClassVar[Space] = {**DPOConfig.SEARCH, "imitation_coefficient": Range(0.005, 2.0, log=True)}
    DEFAULTS: ClassVar[Defaults] = Defaults()

    imitation_coefficient: float = 1.0
    """α: weight of imitating the chosen answers, whose loss is per token."""


@dataclass(frozen=True, kw_only=True)
class DPONormConfig(DPOConfig):
    """Settings of DPO per token: those of DPO, with a β for log-ratios per token."""

    SEARCH: ClassVar[Space] = {**DPOConfig.SEARCH, "beta": Range(0.5, 50.0, log=True)}
    DEFAULTS: ClassVar[Defaults] = Defaults()

    beta: float = 5.0
    """β: the strength of the pull towards the reference, per nat and token."""


@dataclass(frozen=True, kw_only=True)
class DPOPositiveConfig(DPOConfig):
    """Settings of DPO-Positive: those of DPO, and what it costs that a chosen answer becomes less likely."""

    SEARCH: ClassVar[Space] = {**DPOConfig.SEARCH, "penalty_coefficient": Range(0.5, 50.0, log=True)}
    DEFAULTS: ClassVar[Defaults] = Defaults()

    beta: float = 0.3
    """β: the strength of the pull towards the reference, per nat."""
    penalty_coefficient: float = 50.0
    """λ: nats of the margin that are lost for each nat by which a chosen answer became less likely."""
