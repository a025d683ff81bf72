"""Simulated annotators: people who compare two answers, with tastes, a liking for long text, and slips."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random

from zoo_tinytown_gold.gold import score_parts
from zoo_tinytown_gold.requests import Request
from zoo_tinytown_gold.shares import moved
from zoo_tinytown_gold.world import PARTS, World, stream

COUNT = 5
FLIPS = (0.10, 0.25)
"""The smallest and the largest rate at which an annotator gives the wrong label by mistake."""
LENGTH_BIAS = (0.004, 0.016)
"""The smallest and the largest value of one more word to an annotator; a violated part costs about 0.4."""


@dataclass(frozen=True)
class Annotator:
    """One annotator of one seed."""

    tastes: Mapping[str, float]
    """The value to this annotator of each part that an answer meets."""
    length_bias: float
    """The value of one more word."""
    flip_rate: float
    """The rate at which the label is the opposite of this annotator's opinion."""

    def likes(self, world: World, request: Request, answer: str) -> float:
        """Return how much this annotator likes an answer."""
        parts = score_parts(world, request, answer)
        return sum(self.tastes[part] * parts[part] for part in parts) + self.length_bias * len(answer.split())

    def prefers_first(self, world: World, request: Request, answers: tuple[str, str], rng: Random) -> bool:
        """Return whether this annotator labels the first of two answers as the better one."""
        first, second = (self.likes(world, request, answer) for answer in answers)
        return (first > second) != (rng.random() < self.flip_rate)


def draw_annotators(world: World, seed: int, slips: float | None = None) -> list[Annotator]:
    """Draw the annotators of a seed, whose tastes scatter around those of gold.

    `slips` is the mean rate of their slips, in place of that of `FLIPS`.
    """
    rng = stream(world.number, "annotators", seed)
    drawn = [
        Annotator(
            tastes={p: world.costs.get(p, 1.0) * math.exp(rng.gauss(0, 0.3)) for p in ("form", *PARTS)},
            length_bias=rng.uniform(*LENGTH_BIAS),
            flip_rate=rng.uniform(*FLIPS),
        )
        for _ in range(COUNT)
    ]
    rates = moved({one.flip_rate: 1 / COUNT for one in drawn}, slips)
    return [replace(one, flip_rate=rate) for one, rate in zip(drawn, rates, strict=True)]
