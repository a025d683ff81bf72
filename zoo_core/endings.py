"""What a response that did not end itself is worth: which of the two rules in functional.py the settings ask for."""

import math
from collections.abc import Callable
from functools import partial
from typing import Protocol, runtime_checkable

from torch import Tensor

from zoo_core.functional import penalised_scores, replaced_scores

EndingRule = Callable[[Tensor, Tensor], Tensor]
"""Takes the scores of responses and whether each ended itself; returns what they count as."""


@runtime_checkable
class EndingSettings(Protocol):
    """The settings that every algorithm with rollouts has under the same names."""

    @property
    def missing_eos_penalty(self) -> float:
        """What a response that did not end itself loses of its score."""

    @property
    def missing_eos_score(self) -> float | None:
        """The score that it has instead, if given."""


def ending_rule(settings: EndingSettings) -> EndingRule:
    """Return `penalised_scores`, or `replaced_scores` if a `missing_eos_score` is given."""
    if settings.missing_eos_score is None:
        return partial(penalised_scores, missing_eos_penalty=settings.missing_eos_penalty)
    return partial(replaced_scores, missing_eos_score=settings.missing_eos_score)


def check_endings(settings: EndingSettings) -> None:
    """Raise for a penalty that would be a prize, and for what is no number."""
    if not 0 <= settings.missing_eos_penalty < math.inf:
        raise ValueError(
            f"missing_eos_penalty={settings.missing_eos_penalty} must be a finite number, 0 or more: below 0 not "
            "ending would pay."
        )
    if settings.missing_eos_score is not None and not math.isfinite(settings.missing_eos_score):
        raise ValueError(f"missing_eos_score={settings.missing_eos_score} must be a finite number, or None.")
