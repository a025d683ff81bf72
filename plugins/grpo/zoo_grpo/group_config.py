"""What GRPO and its relatives ask of their settings, and the settings that those without a reference share."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from zoo_core.endings import EndingSettings, check_endings
from zoo_core.records import LEARNING_RATES, Choice, Defaults, Space, check_ranges


class GroupSettings(EndingSettings, Protocol):
    """The settings of sampling groups and of learning from them."""

    @property
    def batch_size(self) -> int:
        """Responses sampled per update."""

    @property
    def group_size(self) -> int:
        """G: responses to each prompt."""

    @property
    def minibatch_size(self) -> int:
        """Responses per optimizer step."""

    @property
    def epochs(self) -> int:
        """Passes over each batch."""

    @property
    def temperature(self) -> float:
        """Sampling temperature."""

    @property
    def learning_rate(self) -> float:
        """Peak step size."""

    @property
    def max_grad_norm(self) -> float:
        """Largest L2 norm of a gradient."""


def check_groups(settings: GroupSettings) -> None:
    """Raise `ValueError` for sizes that do not divide each other, and for what no group could be made with."""
    check_endings(settings)
    check_ranges(settings)
    if settings.group_size < 2:
        raise ValueError(f"group_size={settings.group_size} must be 2 or more: a response is compared with others.")
    if settings.batch_size % settings.group_size:
        raise ValueError(
            f"batch_size={settings.batch_size} must be a multiple of group_size={settings.group_size}; it counts "
            "responses, not prompts."
        )
    if settings.batch_size % settings.minibatch_size:
        raise ValueError(
            f"minibatch_size={settings.minibatch_size} must divide batch_size={settings.batch_size}; a ragged last "
            "minibatch would be weighted too heavily."
        )


@dataclass(frozen=True, kw_only=True)
class GroupConfig:
    """Settings that the relatives of GRPO without a reference share."""

    SEARCH: ClassVar[Space] = {
        "learning_rate": LEARNING_RATES,
        "group_size": Choice((4, 8, 16)),
        "batch_size": Choice((32, 64, 128, 256)),
    }
    DEFAULTS: ClassVar[Defaults] = Defaults()

    batch_size: int = 256
    """Responses sampled per update."""
    group_size: int = 8
    """G: responses to each prompt, compared with each other; divides `batch_size`."""
    minibatch_size: int = 32
    """Responses per optimizer step; divides `batch_size`."""
    epochs: int = 1
    """Passes over each batch of responses."""
    temperature: float = 1.0
    """Sampling temperature; all log-probabilities are taken at it."""
    learning_rate: float = 0.00045
    """Peak step size of AdamW."""
    missing_eos_penalty: float = 1.0
    """What a response that did not end itself loses, in standard deviations of the reward on the start's samples."""
    missing_eos_score: float | None = None
    """Score of such a response instead, the rule of N+ (-1 there); above that of others not ending pays."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this L2 norm."""

    def __post_init__(self) -> None:
        check_groups(self)
