"""What the points of a search are worth beside each other."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import mean, stdev
from typing import Literal, TypedDict

from zoo_harness.tuning.points import Point, Settings

By = Literal["gold", "proxy", "loss"]
"""What points are chosen by."""


class Tried(TypedDict):
    """What one point was worth in one world with one seed; None for what was not measured, or failed."""

    row: str
    world: str
    seed: int
    gold: float | None
    """Of answers to dev prompts, at the temperature at which it is highest, above the `start` of the seed."""
    proxy: float | None
    """The same, for the reward that algorithms see."""
    temperature: float | None
    kl: float | None
    """Nats a response, from `start`; of 8 answers, so only its size says something."""
    improves: bool | None
    """Whether it improved its own objective; None if that is not measured."""
    loss: float | None
    """Of a stage, on rows that it was not given, in nats."""
    error: str | None


def worth(found: Iterable[Tried], by: By) -> dict[str, float | None]:
    """By row: the mean over worlds and seeds, the more the better (a loss is negative); None if one of them failed."""
    values: dict[str, list[float | None]] = {}
    for one in found:
        values.setdefault(one["row"], []).append(one[by])
    means = {row: _mean(mine) for row, mine in values.items()}
    return {row: -one if by == "loss" and one is not None else one for row, one in means.items()}


def missing_their_objective(found: Iterable[Tried]) -> set[str]:
    """The rows that somewhere did not improve what they are trained for."""
    return {one["row"] for one in found if one["improves"] is False}


def all_miss(found: Sequence[Tried], by: By) -> bool:
    """Return whether every row that ended everywhere somewhere missed its own objective."""
    ended = {row for row, value in worth(found, by).items() if value is not None}
    return bool(ended) and ended <= missing_their_objective(found)


def best_first(
    points: Sequence[Point], values: Mapping[str, float | None], missing: Collection[str] = ()
) -> list[Point]:
    """Return the points in order of what they are worth; behind them those in `missing`, then those that failed.

    A point that is better by gold and worse at what its method is for is luck, or no longer that method.
    """
    return sorted(
        points,
        key=lambda point: (
            values.get(point.row) is None,
            point.row in missing,
            -(values.get(point.row) or 0.0),
        ),
    )


def defaults_first(
    points: Sequence[Point],
    present: Settings,
    values: Mapping[str, float | None],
    missing: Collection[str],
) -> list[Point]:
    """Return the present defaults, and behind them the others, the best first; a point of the same settings is none."""
    defaults, *others = points
    return [defaults, *best_first([point for point in others if point.settings != present], values, missing)]


def differences(found: Iterable[Tried], row: str, other: str, by: By) -> list[float]:
    """Return how far a row is above another on each world and seed where both ended."""
    values = {(one["row"], one["world"], one["seed"]): value for one in found if (value := one[by]) is not None}
    return [
        value - values[other, world, seed]
        for (name, world, seed), value in values.items()
        if name == row and (other, world, seed) in values
    ]


def as_good_as(best: str, found: Sequence[Tried]) -> set[str]:
    """Return the rows whose loss is above that of `best` by no more than the standard error of the difference.

    The difference is paired by world and seed (the one-standard-error rule of Breiman et al. 1984, section 3.4.3).
    """
    runs, equal = sum(one["row"] == best for one in found), {best}
    for row in {one["row"] for one in found}:
        worse = differences(found, row, best, "loss")
        if len(worse) == runs >= 2 and mean(worse) <= stdev(worse) / math.sqrt(len(worse)):
            equal.add(row)
    return equal


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(values) if len(known) == len(values) else None
