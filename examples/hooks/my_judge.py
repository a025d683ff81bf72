"""A judge without a model: `judge: terse` prefers the answer that comes first in the alphabet."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo_core.hookspecs import hookimpl

if TYPE_CHECKING:
    from zoo_core.judge import Judge, Verdict, Written
    from zoo_core.rows import Text


@hookimpl
def zoo_judge(ref: str) -> "Judge | None":
    """Return the judge."""
    return Terse() if ref == "terse" else None


class Terse:
    """Answers every question alike."""

    parameters = 0
    """Its size: what it computes is charged by it."""

    def verdicts(self, questions: "Sequence[Text]", answers: Sequence[str]) -> "list[Verdict]":
        """Return the log-probability of each answer to each question."""
        first = min(range(len(answers)), key=lambda place: answers[place])
        return [[0.0 if place == first else -1.0 for place in range(len(answers))] for _ in questions]

    def write(self, questions: "Sequence[Text]", longest: int, temperature: float, seed: int) -> "list[Written]":
        """Write a text in reply to each question."""
        from zoo_core.judge import Written

        return [Written("Be brief.", ended=True) for _ in questions]
