"""Intervals, paired tests and Holm's correction, for a handful of seeds.

Student's t from `scipy.special` rather than `scipy.stats`: the same numbers, and a command line that starts
half a second sooner.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.special import stdtr, stdtrit
from typing_extensions import TypedDict

LEVEL = 0.95
"""Confidence level of every interval, and one minus the level of every test."""

POWER = 0.8
"""Chance with which a difference of the minimum detectable size is found."""

_NOISE_DIGITS = 12
"""Differences are rounded to this many decimals, so that rounding errors are not taken for an effect."""


Number = float | int
"""A number of a record. Type checkers take an int for a float; what checks types at run time does not."""


class Quantity(TypedDict):
    """A mean over `n` seeds with its 95 % t-interval; the ends are null for one seed, the mean for none."""

    mean: float | None
    low: float | None
    high: float | None
    n: int


def finite(value: Number | None) -> float | None:
    """Return `value`, or None where it is NaN or infinite."""
    return float(value) if value is not None and math.isfinite(value) else None


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


def paired_p(differences: Sequence[float]) -> float:
    """Return the two-sided p of a t-test that the differences (one per seed, two or more) have mean 0.

    Differences without any spread are certain: p is 1 if they are all 0, else 0.
    """
    rounded = np.round(np.asarray(differences, dtype=float), _NOISE_DIGITS)
    error = standard_error(rounded)
    if error == 0:
        return float(rounded[0] == 0)
    return 2 * float(stdtr(rounded.size - 1, -abs(float(rounded.mean())) / error))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values: max over j <= i of min(1, (m - j) p₍ⱼ₎), j from 0, ascending."""
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Pearson's correlation, or None for fewer than three pairs or a series without spread."""
    if len(first) < 3 or standard_error(first) == 0 or standard_error(second) == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def detectable(standard_deviation: float, seeds: int, pairs: int) -> float:
    """Return the mean difference found with 80 % power at Holm's first step.

    (t(1 - α/2m) + t(.8)) s/√n with n - 1 degrees of freedom: the usual approximation, in the unit of s.
    """
    alpha = (1 - LEVEL) / pairs
    critical = float(stdtrit(seeds - 1, 1 - alpha / 2)) + float(stdtrit(seeds - 1, POWER))
    return critical * standard_deviation / math.sqrt(seeds)
