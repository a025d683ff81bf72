"""Laws of the intervals, tests and corrections."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from zoo_leaderboard.statistics import correlation, detectable, holm, paired_p, summarize

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


def test_holm_multiplies_the_smallest_p_by_all_and_the_next_by_one_less() -> None:
    # ascending .01 .02 .03 .04: .01*4 = .04, max(.04, .02*3 = .06) = .06, max(.06, .03*2 = .06) = .06,
    # max(.06, .04*1) = .06; given back in the order asked.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    # .5*3 is cut at 1.
    assert holm([0.5, 0.001, 0.9]) == pytest.approx([1.0, 0.003, 1.0])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_keeps_the_order_and_never_lowers_a_p(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert list(np.array(adjusted)[order]) == sorted(adjusted)


def test_correlation_is_pearsons_and_unknown_without_spread() -> None:
    # deviations (-1, 0, 1) and (-1, 1, 0): covariance sum 1, both sums of squares 2: 1/2.
    assert correlation([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]) == pytest.approx(0.5)
    assert correlation([1.0, 1.0, 1.0], [1.0, 3.0, 2.0]) is None
    assert correlation([1.0, 2.0], [3.0, 4.0]) is None


def test_the_detectable_difference_adds_the_critical_value_and_the_power() -> None:
    # 10 seeds, 28 pairs: t(1 - .05/56; 9 df) = 4.3743, t(.8; 9 df) = .8834; times .1/sqrt(10) = .031623
    critical = scipy.stats.t.ppf(1 - 0.05 / 56, 9) + scipy.stats.t.ppf(0.8, 9)
    assert critical == pytest.approx(4.3743 + 0.8834, abs=1e-4)
    assert detectable(0.1, seeds=10, pairs=28) == pytest.approx(critical * 0.0316228, rel=1e-5)
