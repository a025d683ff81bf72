"""Which rows differ: all paired differences by seed, corrected for all of them, and the rank ranges that follow."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zoo_leaderboard.columns import interval
from zoo_leaderboard.statistics import (
    LEVEL,
    caution,
    correlation,
    detectable,
    pair_variances,
    paired_p,
    range_p,
    standard_error,
    summarize,
)

SEEDS_TO_RANK = 3
"""Seeds under which a board shows means and intervals only."""

SEEDS_TO_PUBLISH = 10
"""Seeds that a published ranking needs."""

MOST_SEEDS = 100
"""Seeds that a reader may be told to have."""

BySeed = Mapping[int, float]
"""A row's headline by seed."""


class Range(NamedTuple):
    """The ranks a row may have: 1 + rows separated above, and rows of its block - rows separated below."""

    rank_low: int | None
    rank_high: int | None


def compare(values: Mapping[str, BySeed], *, test: bool) -> list[dict[str, Any]]:
    """Return every pair of rows with its paired difference `a - b`, never negative in the mean.

    low and high are the pair's own 95 % t-interval. Without `test`, and where fewer than three seeds are shared, the
    others are null: `p_adjusted`, the larger of Tukey's p over all rows and of the pair's own paired t; `separated`,
    p < .05; `seeds_needed`, of a pair that is not separated: with how many seeds a difference as large as this one
    would be seen with 80 % power, null if with more than 100.
    """
    pairs = [_pair(a, b, values) for a, b in combinations(values, 2)]
    tested = [pair for pair in pairs if test and pair["n"] >= SEEDS_TO_RANK]
    rows, seeds = len(values), min((pair["n"] for pair in tested), default=0)
    for pair, variance in zip(tested, _variances(tested, values, seeds), strict=True):
        own = paired_p(_differences(values[pair["a"]], values[pair["b"]]))
        p = max(own, range_p(pair["difference"], variance, pair["n"], rows, seeds))
        pair |= {"p_adjusted": p, "separated": p < 1 - LEVEL}
        if not pair["separated"]:
            pair["seeds_needed"] = _seeds_needed(pair["difference"], variance, pair["n"], rows, seeds)
    return pairs


def _variances(tested: Sequence[Mapping[str, Any]], values: Mapping[str, BySeed], seeds: int) -> NDArray[np.float64]:
    """How much each pair's difference varies from seed to seed, as far as a test may rely on it."""
    if not tested:
        return np.zeros(0)
    names = {row: place for place, row in enumerate(values)}
    first, second = (np.array([names[pair[side]] for pair in tested]) for side in ("a", "b"))
    own = np.array([_spread(_differences(values[pair["a"]], values[pair["b"]])) ** 2 for pair in tested])
    if len(tested) < len(names) * (len(names) - 1) // 2:  # some pairs share no seeds, and rows cannot be told apart
        return np.asarray(np.maximum(own, own.mean()) * caution(seeds))
    return pair_variances(own, first, second, len(names), seeds)


def _seeds_needed(difference: float, variance: float, seeds: int, rows: int, fewest: int) -> int | None:
    """Return the least number of seeds, at most `MOST_SEEDS`, with which this difference would likely be seen.

    `variance` is taken too large by the caution of `fewest` seeds, and more seeds need less of it.
    """

    def shows(count: int) -> bool:
        of_count = variance * caution(count) / caution(fewest) if rows > 2 else variance
        return detectable(of_count, count, rows) <= difference

    if difference <= 0 or not shows(MOST_SEEDS):
        return None
    return bisect_left(range(MOST_SEEDS), True, lo=seeds + 1, key=shows)


def _spread(differences: Sequence[float]) -> float:
    return standard_error(differences) * math.sqrt(len(differences))


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
        "seeds_needed": None,
        "correlation": correlation(*series),
    }


def _differences(a: BySeed, b: BySeed) -> list[float]:
    return [a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())]


def pair_of(pairs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Mapping[str, Any] | None:
    """Return the pair of two rows, in whatever order they are named; None if there is none."""
    return next((pair for pair in pairs if {pair["a"], pair["b"]} == {*names} and len(names) == 2), None)


def in_words(pair: Mapping[str, Any]) -> str:
    """Say how two rows compare, and with how many seeds one would know more."""
    if not pair["n"]:
        return f"{pair['a']} and {pair['b']} have no seed in common."
    difference = interval({**pair, "mean": pair["difference"]})
    ahead = f"{pair['a']} is ahead of {pair['b']}" if pair["difference"] else f"{pair['a']} and {pair['b']} differ"
    found = f"{ahead} by {difference} on {pair['n']} seed{'s' if pair['n'] > 1 else ''}"
    if pair["separated"] is None:
        return f"{found}; they are not tested against each other, for want of seeds or of a gold that can be trusted."
    p = f"p {pair['p_adjusted']:.2g}, corrected for all pairs"
    if pair["separated"]:
        return f"{found}: separated ({p})."
    if pair["seeds_needed"] is None:
        return f"{found}: not separated ({p}). If it is as small as it looks, not even {MOST_SEEDS} seeds separate it."
    more = more_seeds(pair)
    return f"{found}: not separated ({p}). If it is as large as it looks, it takes {more} to see it in 4 of 5 boards."


def more_seeds(pair: Mapping[str, Any]) -> str:
    """Return how many seeds a pair that is not separated lacks, in words; some number must be enough."""
    more = pair["seeds_needed"] - pair["n"]
    return f"{more} more seed{'s' if more > 1 else ''}"


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
    pairs = [_pair(a, b, values) for a, b in combinations(values, 2)]
    tested = [pair for pair in pairs if pair["n"] >= SEEDS_TO_RANK]
    if not tested:
        return None
    seeds = min(pair["n"] for pair in tested)
    return detectable(median(_variances(tested, values, seeds)), seeds, len(values))
