"""Settings of DPO and of the losses that share its loop.

β is that of Rafailov et al. 2023 (arXiv:2305.18290), section 6. All that is searched of DPO was chosen by
`zoo tune-defaults` for models of a few million parameters; the log is `tuning.json`, beside the pyproject.toml.
The settings of the others are hand-set.
"""

from dataclasses import dataclass
from typing import ClassVar

from zoo_core.records import LEARNING_RATES, Choice, Defaults, Range, Space


@dataclass(frozen=True, kw_only=True)
class DPOConfig:
    """Settings of DPO."""

    SEARCH: ClassVar[Space] = {
        "learning_rate": LEARNING_RATES,
        "beta": Range(0.01, 1.0, log=True),
        "batch_size": Choice((8, 16, 32, 64)),
    }
    DEFAULTS: ClassVar[Defaults] = Defaults("tuned", points=16, beat_sft=12)

    batch_size: int = 32
    """Preference pairs per update."""
    learning_rate: float = 0.0001
    """Peak step size of AdamW."""
    beta: float = 0.1
    """β of eq. 7: the strength of the pull towards the reference, per nat."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this L2 norm."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size} must be 1 or more.")


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
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size} must be 1 or more.")
        if self.tau <= 0:
            raise ValueError(f"tau={self.tau} must be above 0; the target margin is 1/(2 tau).")
