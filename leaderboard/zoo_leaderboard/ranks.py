"""Which rows differ: all paired differences by seed, Holm over all, and the rank ranges that follow."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import median
from typing import Any, NamedTuple

from zoo_leaderboard.statistics import (
    LEVEL,
    correlation,
    detectable,
    holm,
    paired_p,
    standard_error,
    summarize,
)

SEEDS_TO_RANK = 5
"""Seeds under which a board shows means and intervals only."""

SEEDS_TO_PUBLISH = 10
"""Seeds that a published ranking needs."""

BySeed = Mapping[int, float]
"""A row's headline by seed."""


class Range(NamedTuple):
    """The ranks a row may have: 1 + rows separated above, and rows of its block - rows separated below."""

    rank_low: int | None
    rank_high: int | None


def compare(values: Mapping[str, BySeed], *, test: bool) -> list[dict[str, Any]]:
    """Return every pair of rows with its paired difference `a - b`, never negative in the mean.

    low and high are the pair's own 95 % t-interval. `p_adjusted` (t with n - 1 degrees of freedom, Holm over
    all pairs) and `separated` (p < .05) are null without `test`, and where fewer than two seeds are shared.
    """
    pairs = [_pair(a, b, values) for a, b in combinations(values, 2)]
    tested = [pair for pair in pairs if test and pair["n"] >= 2]
    adjusted = holm([paired_p(_differences(values[pair["a"]], values[pair["b"]])) for pair in tested])
    for pair, p in zip(tested, adjusted, strict=True):
        pair |= {"p_adjusted": p, "separated": p < 1 - LEVEL}
    return pairs


def _pair(a: str, b: str, values: Mapping[str, BySeed]) -> dict[str, Any]:
    quantity = summarize(_differences(values[a], values[b]))
    if (quantity["mean"] or 0.0) < 0:
        return _pair(b, a, values)
    shared = sorted(values[a].keys() & values[b].keys())
    series = [[values[row][seed] for seed in shared] for row in (a, b)]
    return {
        "a": a,
        "b": b,
        "difference": quantity["mean"],
        "low": quantity["low"],
        "high": quantity["high"],
        "n": quantity["n"],
        "p_adjusted": None,
        "separated": None,
        "correlation": correlation(*series),
    }


def _differences(a: BySeed, b: BySeed) -> list[float]:
    return [a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())]


def ranges(block: Sequence[str], pairs: Sequence[Mapping[str, Any]]) -> dict[str, Range]:
    """Return the rank range of each row of a block; pairs with rows of other blocks do not count."""
    inside = [pair for pair in pairs if pair["separated"] and pair["a"] in block and pair["b"] in block]
    return {
        row: Range(
            rank_low=1 + sum(pair["b"] == row for pair in inside),
            rank_high=len(block) - sum(pair["a"] == row for pair in inside),
        )
        for row in block
    }


def minimum_detectable_difference(values: Mapping[str, BySeed]) -> float | None:
    """Return the difference that a pair of median spread shows with 80 % power; None if unknown."""
    differences = [_differences(values[a], values[b]) for a, b in combinations(values, 2)]
    known = [values for values in differences if len(values) >= 2]
    if not known:
        return None
    spread = median(standard_error(values) * math.sqrt(len(values)) for values in known)
    return detectable(spread, seeds=min(map(len, known)), pairs=len(differences))
