"""What the best of n samples is worth, as pure functions.

The policy that answers with the best of n samples, by a score, is the strongest baseline that needs no training: it
pays at every answer instead.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from zoo_leaderboard.scores import BestOf


def distribution(probabilities: Sequence[float], n: int) -> list[float]:
    """Return how likely each outcome is to be the best of n draws; outcomes in strictly ascending order of score.

    P(y) = F(y)ⁿ − F(y⁻)ⁿ   with F the cumulative distribution and y⁻ the outcome below y
    """
    cumulative = [0.0]
    for probability in probabilities:
        cumulative.append(cumulative[-1] + probability)
    return [upper**n - lower**n for lower, upper in pairwise(cumulative)]


def kl_bound(n: int) -> float:
    """Return the most that the best of n can diverge from the policy it samples, in nats: log n − (n−1)/n.

    Reached where no two samples tie; with ties it is less (Beirami et al. 2024, arXiv:2401.01879).
    """
    return math.log(n) - (n - 1) / n


def expected_value(values: Sequence[float], n: int) -> float:
    """Return the mean value of the best of n, estimated from N >= n samples without bias.

    `values` belong to the samples in ascending order of score. Of all C(N, n) subsets, the i-th sample (from 1) is the
    best of C(i−1, n−1):   Σᵢ C(i−1, n−1) / C(N, n) · valueᵢ   (Nakano et al. 2021, arXiv:2112.09332, appendix I)
    """
    count = len(values)
    if not 1 <= n <= count:
        raise ValueError(f"the best of n={n} cannot be estimated from {count} samples.")
    return sum(math.comb(place, n - 1) / math.comb(count, n) * value for place, value in enumerate(values))


def worth_by_size(proxy: Sequence[float], gold: Sequence[float] | None, most: int) -> list[BestOf]:
    """Return what the best of 1, 2, 4 ... `most` samples by proxy is worth; `most` samples to each prompt in a row."""
    sizes = [n for n in (2**power for power in range(20)) if n < most] + [most]
    orders = [
        sorted(range(first, first + most), key=lambda place: proxy[place]) for first in range(0, len(proxy), most)
    ]

    def mean(scores: Sequence[float] | None, n: int) -> float | None:
        if not scores:
            return None
        return sum(expected_value([scores[place] for place in order], n) for order in orders) / len(orders)

    return [{"n": float(n), "kl_bound": kl_bound(n), "proxy": mean(proxy, n), "gold": mean(gold, n)} for n in sizes]
