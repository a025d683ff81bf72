"""The score of a response that was cut off: the settings choose one of the two rules in functional.py."""

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

EndingRule = Callable[["Tensor", "Tensor"], "Tensor"]
"""A function of scores, and of whether each response ended itself, to the scores that an algorithm learns from."""


@runtime_checkable
class EndingSettings(Protocol):
    """The settings that every algorithm with rollouts has under the same names."""

    @property
    def missing_eos_penalty(self) -> float:
        """Reward units that a response loses if it was cut off."""

    @property
    def missing_eos_score(self) -> float | None:
        """The score that a response gets instead of its own if it was cut off; None leaves it to the penalty."""


def ending_rule(settings: EndingSettings) -> EndingRule:
    """Return `penalised_scores`, or `replaced_scores` if a `missing_eos_score` is given."""
    from zoo_core.functional import penalised_scores, replaced_scores  # settings are checked without torch

    if settings.missing_eos_score is None:
        return partial(penalised_scores, missing_eos_penalty=settings.missing_eos_penalty)
    return partial(replaced_scores, missing_eos_score=settings.missing_eos_score)


def check_endings(settings: EndingSettings) -> None:
    """Raise `ValueError` for a penalty below 0, which would be a prize, and for numbers that are not finite."""
    if not 0 <= settings.missing_eos_penalty < math.inf:
        raise ValueError(
            f"missing_eos_penalty={settings.missing_eos_penalty} must be a finite number, 0 or more: below 0 not "
            "ending would pay."
        )
    if settings.missing_eos_score is not None and not math.isfinite(settings.missing_eos_score):
        raise ValueError(f"missing_eos_score={settings.missing_eos_score} must be a finite number, or None.")
