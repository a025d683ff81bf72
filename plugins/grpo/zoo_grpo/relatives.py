"""Settings of the relatives of GRPO that have no reference: Dr. GRPO, DAPO, GSPO and CISPO.

Those that they share with GRPO are GRPO's, which were searched. The others are the papers', but for GSPO's clip ranges,
which are hand-set for responses of tens of tokens.
"""

from dataclasses import dataclass
from typing import ClassVar

from zoo_core.records import Range, Space
from zoo_grpo.group_config import GroupConfig

MOST_DRAWS = 4
"""An update that samples so often costs less than four times one that samples once, which is what a budget foresees."""


@dataclass(frozen=True, kw_only=True)
class DrGRPOConfig(GroupConfig):
    """Settings of Dr. GRPO."""

    clip_range: float = 0.2
    """ε: how far the probability ratio may move from 1."""


@dataclass(frozen=True, kw_only=True)
class DAPOConfig(GroupConfig):
    """Settings of DAPO."""

    SEARCH: ClassVar[Space] = {**GroupConfig.SEARCH, "clip_range_high": Range(0.2, 0.8, log=True)}

    missing_eos_penalty: float = 0.0
    """What a response that did not end itself loses besides the overlong penalty, all of which it has; in standard
    deviations of the reward on the start's samples."""
    clip_range_low: float = 0.2
    """ε₋ of eq. 10: how far the probability ratio may fall below 1."""
    clip_range_high: float = 0.28
    """ε₊ of eq. 10: how far it may rise above 1."""
    draws: int = 3
    """Most times that an update samples until every group of its batch has spread; 1 is no dynamic sampling."""
    overlong_penalty: float = 1.0
    """What the longest response loses of its score (eq. 13), in standard deviations of the reward; 0 is no penalty."""
    overlong_share: float = 0.2
    """C of eq. 13: the last share of the longest response's tokens, in which the penalty rises from 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.draws <= MOST_DRAWS:
            raise ValueError(
                f"draws={self.draws} must be from 1 to {MOST_DRAWS}: an update that samples more often may cost so "
                "much more than those before it that the budget cannot foresee it."
            )
        if self.overlong_penalty < 0:
            raise ValueError(f"overlong_penalty={self.overlong_penalty} must be 0 or more: below 0 length would pay.")
        if not 0 < self.overlong_share <= 1:
            raise ValueError(f"overlong_share={self.overlong_share} must be above 0 and at most 1: a share of tokens.")


@dataclass(frozen=True, kw_only=True)
class GSPOConfig(GroupConfig):
    """Settings of GSPO."""

    SEARCH: ClassVar[Space] = {**GroupConfig.SEARCH, "clip_range_high": Range(0.0004, 0.4, log=True)}

    minibatch_size: int = 64
    """Responses per optimizer step; divides `batch_size`."""
    clip_range_low: float = 0.03
    """ε₋ of eq. 5: how far the ratio of a response, per token, may fall below 1."""
    clip_range_high: float = 0.04
    """ε₊ of eq. 5: how far it may rise above 1."""


@dataclass(frozen=True, kw_only=True)
class CISPOConfig(GroupConfig):
    """Settings of CISPO."""

    SEARCH: ClassVar[Space] = {**GroupConfig.SEARCH, "weight_cap": Range(1.2, 10.0, log=True)}

    weight_cap: float = 5.0
    """c: the largest weight of a token, which is its probability ratio below it; above 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight_cap <= 1:
            raise ValueError(f"weight_cap={self.weight_cap} must be above 1, the weight of a token just sampled.")
