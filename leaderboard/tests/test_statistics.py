"""Laws of the intervals, tests and corrections."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from zoo_leaderboard.statistics import correlation, detectable, pair_variances, paired_p, range_p, summarize

numbers = st.lists(st.floats(-10, 10).map(lambda x: round(x, 6)), min_size=2, max_size=12)


def test_the_interval_is_students_t_over_the_seeds() -> None:
    # .2 .4 .9: mean .5, squared deviations .09 + .01 + .16 = .26, variance .26/2 = .13, standard error
    # sqrt(.13/3) = .208167, t(.975; 2 df) = 4.302653, half-width .895668.
    found = summarize([0.2, 0.4, 0.9])
    assert found["n"] == 3
    assert found["mean"] == pytest.approx(0.5)
    assert found["low"] == pytest.approx(0.5 - 0.895668, abs=1e-6)
    assert found["high"] == pytest.approx(0.5 + 0.895668, abs=1e-6)


def test_one_seed_has_a_mean_and_no_interval_and_none_has_neither() -> None:
    assert summarize([0.3]) == {"mean": 0.3, "low": None, "high": None, "n": 1}
    assert summarize([None, float("nan"), float("inf")]) == {"mean": None, "low": None, "high": None, "n": 0}


def test_unknown_values_are_left_out_and_not_counted() -> None:
    assert summarize([0.2, None, 0.4, float("nan")]) == summarize([0.2, 0.4])


@given(numbers)
def test_the_p_value_is_that_of_scipys_one_sample_t_test(values: list[float]) -> None:
    if np.ptp(values) > 1e-3:
        assert paired_p(values) == pytest.approx(float(scipy.stats.ttest_1samp(values, 0).pvalue), abs=1e-9)


def test_differences_without_spread_are_certain() -> None:
    assert paired_p([0.1, 0.1, 0.1]) == 0
    assert paired_p([0.0, 0.0, 0.0]) == 1


def test_rounding_errors_are_not_taken_for_a_difference() -> None:
    assert paired_p([1e-17, 1e-17, 1e-17]) == 1
    assert paired_p([0.1 + 0.2 - 0.3, 0.0, 0.0]) == 1


def test_a_pair_varies_at_least_as_its_own_seeds_say_and_as_its_rows_do() -> None:
    # Rows 0, 1, 2; pairs 0-1, 0-2, 1-2 vary by 2, 6, 4 over 3 seeds: the mean row has (2 + 6 + 4)/3/2 = 2.
    # Grubbs: row 0 has (2 + 6) - 12/2 = 2, row 1 (2 + 4) - 6 = 0, row 2 (6 + 4) - 6 = 4; at least the mean: 2, 2, 4.
    # Pairs: 2 + 2 = 4, 2 + 4 = 6, 2 + 4 = 6, none below its own; times 1 + 1/4.
    first, second = np.array([0, 0, 1]), np.array([1, 2, 2])
    found = pair_variances(np.array([2.0, 6.0, 4.0]), first, second, 3, 3)
    assert found == pytest.approx(np.array([4.0, 6.0, 6.0]) * 1.25)
    assert pair_variances(np.array([0.5]), np.array([0]), np.array([1]), 2, 3) == pytest.approx([0.5])


@given(st.lists(st.floats(0.01, 10), min_size=6, max_size=6))
def test_no_pair_is_taken_to_vary_less_than_its_own_seeds_say(own: list[float]) -> None:
    first, second = np.array([0, 0, 0, 1, 1, 2]), np.array([1, 2, 3, 2, 3, 3])
    assert (pair_variances(np.array(own), first, second, 4, 5) >= np.array(own)).all()


def test_a_p_is_that_of_the_studentised_range() -> None:
    # Three rows, 5 seeds: q = .5/sqrt(.2/2/5) = 3.5355 with (3 - 1)(5 - 1) = 8 degrees of freedom.
    # Tables have q(.95; 3, 8) = 4.04 and q(.9; 3, 8) = 3.37: p lies between .05 and .1.
    assert 0.05 < range_p(0.5, 0.2, 5, 3, 5) < 0.1
    assert range_p(4.05 * (0.2 / 2 / 5) ** 0.5, 0.2, 5, 3, 5) == pytest.approx(0.05, abs=1e-3)
    assert range_p(0.0, 0.0, 5, 3, 5) == 1
    assert range_p(0.1, 0.0, 5, 3, 5) == 0


def test_of_two_rows_the_p_is_that_of_the_paired_t_test() -> None:
    values = [0.2, -0.1, 0.2, 0.1, 0.1]
    variance = float(np.var(values, ddof=1))
    assert range_p(0.1, variance, 5, 2, 5) == pytest.approx(paired_p(values), abs=1e-6)


def test_correlation_is_pearsons_and_unknown_without_spread() -> None:
    # deviations (-1, 0, 1) and (-1, 1, 0): covariance sum 1, both sums of squares 2: 1/2.
    assert correlation([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]) == pytest.approx(0.5)
    assert correlation([1.0, 1.0, 1.0], [1.0, 3.0, 2.0]) is None
    assert correlation([1.0, 2.0], [3.0, 4.0]) is None


def test_the_detectable_difference_adds_the_critical_value_and_the_power() -> None:
    # 8 rows, 10 seeds: q(.95; 8, 63) = 4.43, over the root of two 3.13; t(.8; 63) = .848; times sqrt(.01/10) = .031623
    assert detectable(0.01, seeds=10, rows=8) == pytest.approx((3.13 + 0.848) * 0.031623, rel=0.01)
    # 3 seeds: q(.95; 8, 14) = 4.99 over the root of two, 3.53, is less than the pair's own t(.975; 2) = 4.3027
    assert detectable(0.01, seeds=3, rows=8) == pytest.approx((4.3027 + 0.868) * 0.1 / 3**0.5, rel=1e-3)
