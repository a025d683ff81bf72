"""Who wins at which budget: each algorithm's headline over what its runs cost, and where two of them change places.

Every point is a whole run of its own. A curve is linear in the logarithm of the cost between two points, and is not
drawn on beyond them.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo_leaderboard.schema import Record
from zoo_leaderboard.statistics import LEVEL, Number, finite, summarize

TOKEN_PRICES = (1, 5, 20)
"""What the FLOPs of sampling cost, in FLOPs of everything else: sampling uses a device less well than training does."""
DRAWS = 2000
"""Draws of the bootstrap."""
SEED = 0
"""Of the bootstrap, so that a board has the same bytes whenever it is built."""
_DIGITS = 12
"""Differences are rounded to so many decimals: two equal curves do not cross by rounding errors."""

Array = NDArray[np.float64]
Row = Mapping[str, Any]
Points = Mapping[float, Mapping[int, tuple[float, float]]]
"""A curve: by share of the budget and by seed, the cost of the run in FLOPs and its headline."""


def by_budget(rows: Sequence[Row], records: Sequence[Record]) -> dict[str, Any] | None:
    """Return curves, crossings and changes of rank; None where no row is at another share of the budget.

    `curves`: for each row that has others at other shares, its `points` by share: that row's name, mean FLOPs used,
    `costs` (mean by price of a sampled token) and headline (a `Quantity`). `crossings`: see `crossings_of`, for each
    pair and each of `TOKEN_PRICES`. `changes`: sentences, see `changes_of`.
    """
    families = _families(rows)
    if not families:
        return None
    by_row: dict[str, list[Record]] = {}
    for record in records:
        by_row.setdefault(record["row"], []).append(record)
    curves = [
        {"row": name, "points": [_point(row, by_row.get(row["row"], [])) for row in family]}
        for name, family in families.items()
    ]
    crossings = []
    for price in TOKEN_PRICES:
        known = {name: _points(family, by_row, price) for name, family in families.items()}
        for a, b in combinations(known, 2):
            crossings += [{"token_price": price, **one} for one in crossings_of((a, known[a]), (b, known[b]))]
    values = {
        name: {row["budget_share"]: _headlines(row) for row in family if row["seeds_ok"]}
        for name, family in families.items()
    }
    return {
        "token_prices": list(TOKEN_PRICES),
        "draws": DRAWS,
        "curves": curves,
        "crossings": crossings,
        "changes": [one for a, b in combinations(values, 2) for one in changes_of((a, values[a]), (b, values[b]))],
    }


def cost_of(record: Record, token_price: Number = 1) -> float | None:
    """Return what a run cost in FLOPs, where those of sampling count `token_price` times; None if not known.

    What a row that ends early by its own rule leaves of its budget is counted as spent: it would have ended the same
    under any budget between the two, so its curve goes on.
    """
    used, budget = finite(record["flops_used"]), finite(record["flops_budget"])
    if used is None:
        return None
    parts = record["flops_by_role_phase"].items()
    sampled = sum(finite(flops) or 0.0 for name, flops in parts if name.rpartition("/")[2] == "sample")
    left = budget - used if record["stops_early"] and budget is not None else 0.0
    return used + max(0.0, left) + (token_price - 1) * sampled


def crossings_of(first: tuple[str, Points], second: tuple[str, Points]) -> list[dict[str, Any]]:
    """Return where one named curve passes the other, with whole-sample curves over the seeds that all points share.

    Each has `above`, who is above up to there, `below`, `flops`, and of a bootstrap over the seeds, drawn alike for
    both: `draws_with_crossing`, the share of the draws in which the curves cross in the same direction, and of the
    nearest of these crossings the 95 % percentiles `low` and `high`. These three are null with fewer than two seeds.
    """
    (a, one), (b, other) = first, second
    if len(one) < 2 or len(other) < 2:
        return []
    seeds = sorted(set.intersection(*(set(point) for curve in (one, other) for point in curve.values())))
    if not seeds:
        return []
    every = np.arange(len(seeds))[None]
    curves = [_by_seed(curve, seeds) for curve in (one, other)]
    whole = _crossings(*(_mean_of(curve, every) for curve in curves))
    found = [(float(place), float(sign)) for place, sign in zip(whole[0][0], whole[1][0], strict=True) if sign != 0]
    if not found:
        return []
    drawn = np.random.default_rng(SEED).integers(len(seeds), size=(DRAWS, len(seeds)))
    places, signs = _crossings(*(_mean_of(curve, drawn) for curve in curves))
    return [
        {"above": a if sign < 0 else b, "below": b if sign < 0 else a, "flops": float(np.exp(place))}
        | (_spread(places, signs, place, sign) if len(seeds) > 1 else _UNKNOWN)
        for place, sign in found
    ]


def changes_of(
    first: tuple[str, Mapping[float, Mapping[int, float]]], second: tuple[str, Mapping[float, Mapping[int, float]]]
) -> Iterator[str]:
    """Yield a sentence for each change of rank between two rows, by headlines by share of the budget and by seed.

    Only shares count at which the paired 95 % t-interval of the difference leaves out 0.
    """
    (a, one), (b, other) = first, second
    sure = []
    for share in sorted(one.keys() & other.keys()):
        seeds = sorted(one[share].keys() & other[share].keys())
        found = summarize(one[share][seed] - other[share][seed] for seed in seeds)
        if found["low"] is not None and found["high"] is not None and (found["low"] > 0 or found["high"] < 0):
            sure.append((share, found["low"] > 0))
    for (before, was_above), (after, is_above) in pairwise(sure):
        if was_above != is_above:
            above, below = (a, b) if was_above else (b, a)
            yield f"At {in_words(before)} {above} is above {below}; at {in_words(after)} it is the other way round."


def in_words(share: Number) -> str:
    """Name a share of the budget: "1/4 of the budget", "the whole budget", "4 times the budget"."""
    if share == 1:
        return "the whole budget"
    return f"{fraction(share)} times the budget" if share > 1 else f"{fraction(share)} of the budget"


def fraction(share: Number) -> str:
    """Write a share of the budget as short as it can be: "1/4", "0.3", "4"."""
    parts = round(1 / share)
    return f"1/{parts}" if parts > 1 and abs(share * parts - 1) < 1e-9 else f"{share:g}"


def _families(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows that are one but for their share of the budget, by share, under the name of that at share 1."""
    families: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row["at_share_of"] or row["row"], row["budget_share"])):
        families.setdefault(row["at_share_of"] or row["row"], []).append(row)
    return {name: found for name, found in families.items() if any(row["budget_share"] != 1 for row in found)}


def _point(row: Row, records: Sequence[Record]) -> dict[str, Any]:
    finished = [record for record in records if record["status"] == "ok"]
    return {
        "share": row["budget_share"],
        "row": row["row"],
        "flops_used": row["flops_used"],
        "costs": {
            str(price): summarize(cost_of(record, price) for record in finished)["mean"] for price in TOKEN_PRICES
        },
        "headline": row["headline"],
    }


def _headlines(row: Row) -> dict[int, float]:
    found = {seed["seed"]: seed["headline"] for seed in row["by_seed"] if seed["status"] == "ok"}
    return {seed: value for seed, value in found.items() if value is not None}


def _points(family: Sequence[Row], by_row: Mapping[str, Sequence[Record]], price: Number) -> Points:
    """The points of a curve that have a headline, as long as each costs more than the one before it."""
    points: dict[float, dict[int, tuple[float, float]]] = {}
    reached = 0.0
    for row in family:
        values, costs = _headlines(row), {r["seed"]: cost_of(r, price) for r in by_row.get(row["row"], [])}
        point = {seed: (cost, values[seed]) for seed, cost in costs.items() if cost and seed in values}
        mean = summarize(cost for cost, _ in point.values())["mean"]
        if mean is not None and mean > reached:
            points[row["budget_share"]], reached = point, mean
    return points


def _by_seed(points: Points, seeds: Sequence[int]) -> Array:
    """Return costs and headlines [2, seeds, points]."""
    return np.array([[[points[share][seed][which] for share in points] for seed in seeds] for which in (0, 1)])


def _mean_of(curve: Array, drawn: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return log costs and headlines [draws, points] of a curve [2, seeds, points], means of drawn seeds [draws, n]."""
    means = curve[:, drawn].mean(2)
    return np.log(means[0]), means[1]


def _crossings(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
    """Return log costs and directions [draws, knots - 1] of the crossings of two curves; direction 0 where is none.

    The direction is 1 where the first curve is above the second from there on, -1 where it is below. Curves that
    meet and part again without changing places do not cross.
    """
    (x, y), (u, v) = first, second
    knots = np.sort(np.concatenate([x, u], axis=1), axis=1)
    gap = np.round(_at(x, y, knots) - _at(u, v, knots), _DIGITS)
    inside = (knots >= np.maximum(x[:, :1], u[:, :1])) & (knots <= np.minimum(x[:, -1:], u[:, -1:]))
    sign = np.where(inside, np.sign(gap), 0.0)
    places, directions = np.zeros_like(knots[:, 1:]), np.zeros_like(knots[:, 1:])
    last = sign[:, 0].copy()
    for knot in range(1, knots.shape[1]):
        crosses = last * sign[:, knot] < 0
        before, after = gap[:, knot - 1], gap[:, knot]
        step = np.where(crosses, before - after, 1.0)
        width = knots[:, knot] - knots[:, knot - 1]
        places[:, knot - 1] = knots[:, knot - 1] + width * before / step
        directions[:, knot - 1] = np.where(crosses, sign[:, knot], 0.0)
        last = np.where(sign[:, knot] != 0, sign[:, knot], last)
    return places, directions


def _at(x: Array, y: Array, knots: Array) -> Array:
    """Return the values [draws, knots] of piecewise linear curves through x, y [draws, points] at `knots`."""
    segment = np.clip((knots[:, :, None] >= x[:, None, :]).sum(-1) - 1, 0, x.shape[1] - 2)
    left, right = (np.take_along_axis(x, segment + step, 1) for step in (0, 1))
    low, high = (np.take_along_axis(y, segment + step, 1) for step in (0, 1))
    width = np.maximum(right - left, np.finfo(float).tiny)  # two points of one cost make a step
    return np.asarray(low + (high - low) * np.clip((knots - left) / width, 0.0, 1.0))


_UNKNOWN: dict[str, float | None] = {"low": None, "high": None, "draws_with_crossing": None}


def _spread(places: Array, signs: Array, place: float, sign: float) -> dict[str, float | None]:
    """Return the interval of a crossing, from the nearest in each draw of those in its direction."""
    distance = np.where(signs == sign, np.abs(places - place), np.inf)
    nearest = distance.argmin(1)[:, None]
    there = np.isfinite(np.take_along_axis(distance, nearest, 1))[:, 0]
    if not there.any():
        return {"low": None, "high": None, "draws_with_crossing": 0.0}
    found = np.take_along_axis(places, nearest, 1)[there, 0]
    low, high = np.exp(np.percentile(found, [50 * (1 - LEVEL), 50 * (1 + LEVEL)]))
    return {"low": float(low), "high": float(high), "draws_with_crossing": float(there.mean())}
