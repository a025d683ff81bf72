"""Intervals, paired tests, and variances that pairs lend to each other, for a handful of seeds."""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit
from scipy.stats import studentized_range
from typing_extensions import TypedDict

LEVEL = 0.95
"""Confidence level of every interval, and one minus the level of every test."""

POWER = 0.8
"""Chance with which a difference of the minimum detectable size is found."""

_NOISE_DIGITS = 12
"""Differences are rounded to this many decimals, so that rounding errors are not taken for an effect."""

SAME_EVERYWHERE = 10
"""Significant digits to which every processor computes the same number from the same records."""

_NOTHING = 1e-14
"""Below this a difference of numbers is what rounding left of 0."""


Number = float | int
"""A number of a record. Type checkers take an int for a float; what checks types at run time does not."""


class Quantity(TypedDict):
    """A mean over `n` seeds with its 95 % t-interval; the ends are null for one seed, the mean for none."""

    mean: float | None
    low: float | None
    high: float | None
    n: int


LARGEST = 1e100
"""Beyond it nothing is measured, and squares are infinite: the perplexity of a broken model, say."""


def finite(value: Number | None) -> float | None:
    """Return `value`, or None where it is NaN, infinite or larger than any measured number."""
    return float(value) if value is not None and abs(value) <= LARGEST else None


def rounded(value: Any) -> Any:
    """Return JSON with its numbers as every processor computes them; settings, which were typed, as they are.

    Vector instructions add in other orders, and the last digits of a mean differ.
    """
    if isinstance(value, Mapping):
        return {key: part if key == "settings" else rounded(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(part) for part in value]
    if not isinstance(value, float) or not math.isfinite(value) or value.is_integer():
        return value
    return 0.0 if abs(value) < _NOTHING else float(f"{value:.{SAME_EVERYWHERE}g}")


def summarize(values: Iterable[Number | None]) -> Quantity:
    """Return mean and t-interval of the values that are there (one per seed)."""
    known = np.array([value for value in map(finite, values) if value is not None])
    if known.size == 0:
        return Quantity(mean=None, low=None, high=None, n=0)
    mean = float(known.mean())
    if known.size == 1:
        return Quantity(mean=mean, low=None, high=None, n=1)
    half = float(stdtrit(known.size - 1, (1 + LEVEL) / 2)) * standard_error(known)
    return Quantity(mean=mean, low=mean - half, high=mean + half, n=int(known.size))


def standard_error(values: Sequence[float] | np.ndarray) -> float:
    """Return the standard error of the mean of two or more values; exactly 0 for equal ones."""
    known = np.asarray(values, dtype=float)
    return 0.0 if np.ptp(known) == 0 else float(known.std(ddof=1)) / math.sqrt(known.size)


def share(quantity: Quantity) -> Quantity:
    """Return the quantity of a share: the ends of its interval do not leave 0 to 1."""
    if quantity["low"] is None or quantity["high"] is None:
        return quantity
    return {**quantity, "low": max(0.0, quantity["low"]), "high": min(1.0, quantity["high"])}


def paired_p(differences: Sequence[float]) -> float:
    """Return the two-sided p of a t-test that the differences (one per seed, two or more) have mean 0.

    Differences without any spread are certain: p is 1 if they are all 0, else 0.
    """
    rounded = np.round(np.asarray(differences, dtype=float), _NOISE_DIGITS)
    error = standard_error(rounded)
    if error == 0:
        return float(rounded[0] == 0)
    return 2 * float(stdtr(rounded.size - 1, -abs(float(rounded.mean())) / error))


def pair_variances(
    own: NDArray[np.float64], first: NDArray[np.intp], second: NDArray[np.intp], rows: int, seeds: int
) -> NDArray[np.float64]:
    """Return the variance of each paired difference that a test may rely on: never below what its own seeds say.

    With few seeds a pair's own variance is often small by luck. So pairs lend to each other: a pair's is at least that
    of its two rows, estimated from all pairs (Grubbs 1948), and a row's is at least the mean of all rows. The factor
    1 + 1/(n - 1)² keeps 5 % with three seeds; tests/power.py measures it.

    own: [..., pairs], sample variances of the differences; first, second: [pairs], the rows of each pair.
    """
    if rows < 3:
        return own
    members = np.zeros((own.shape[-1], rows))
    members[np.arange(len(first)), first] = 1.0
    members[np.arange(len(second)), second] = 1.0
    of_rows = (own @ members - own.sum(-1, keepdims=True) / (rows - 1)) / (rows - 2)
    of_rows = np.maximum(of_rows, own.mean(-1, keepdims=True) / 2)
    cautious = np.maximum(of_rows[..., first] + of_rows[..., second], own)
    return np.asarray(cautious * caution(seeds))


def caution(seeds: int) -> float:
    """Return the factor by which a variance that pairs lend to each other is taken too large: 1 + 1/(n - 1)²."""
    return 1 + 1 / (seeds - 1) ** 2


def range_p(difference: float, variance: float, pair_seeds: int, rows: int, seeds: int) -> float:
    """Return Tukey's p of a difference among `rows` rows: that of the studentised range, (k - 1)(n - 1) freedom.

    `variance` is that of one paired difference, `pair_seeds` how many there are, `seeds` the fewest of all pairs.
    """
    if variance == 0:
        return float(round(difference, _NOISE_DIGITS) == 0)
    q = abs(difference) / math.sqrt(variance / 2 / pair_seeds)
    return float(studentized_range.sf(q, rows, (rows - 1) * (seeds - 1)))


def correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Pearson's correlation, or None for fewer than three pairs or a series without spread."""
    if len(first) < 3 or standard_error(first) == 0 or standard_error(second) == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def detectable(variance: float, seeds: int, rows: int) -> float:
    """Return the mean difference that is found with 80 % power: critical value and t(.8), times the standard error.

    The critical value is that of the studentised range, or of the pair's own t if that is larger.
    """
    freedom = (rows - 1) * (seeds - 1)
    critical = max(_range_quantile(rows, freedom) / math.sqrt(2), float(stdtrit(seeds - 1, (1 + LEVEL) / 2)))
    return (critical + float(stdtrit(freedom, POWER))) * math.sqrt(variance / seeds)


@cache
def _range_quantile(rows: int, freedom: int) -> float:
    return float(studentized_range.ppf(LEVEL, rows, freedom))
