"""Laws of the pairs and of the rank ranges."""

import math

import numpy as np
import pytest
from zoo_leaderboard.ranks import compare, in_words, minimum_detectable_difference, more_seeds, ranges


def by_seed(values: list[float]) -> dict[int, float]:
    return dict(enumerate(values))


def test_words_of_rows_that_are_equal_or_never_met_name_no_winner() -> None:
    (equal,) = compare({"a": {0: 0.5, 1: 0.6}, "b": {0: 0.5, 1: 0.6}}, test=False)
    assert in_words(equal).startswith("a and b differ by 0.00 [0.00, 0.00] on 2 seeds; they are not tested")
    (apart,) = compare({"a": {0: 0.5}, "b": {1: 0.6}}, test=False)
    assert in_words(apart) == "a and b have no seed in common."


def test_three_clear_levels_have_three_ranks_and_working_shown() -> None:
    # a - b = 1 + (.1, -.1, 0, .1, -.1): mean 1, variance .01; b - c the same; a - c = 2 + (0, 0, 0, .2, -.2): .02.
    # The mean row varies by .04/3/2 = .00667, Grubbs' a by .01 + .02 - .02 = .01, b by 0, c by .01: .01, .00667, .01.
    # a-b .01667, b-c .01667, a-c .02, times 1 + 1/16. a-b: q = 1/sqrt(.01771/2/5) = 23.8 with 8 df: p 4e-7;
    # its own t is 1/.04472 = 22.36 with 4 df, p 2.4e-5, which is larger.
    values = {
        "a": by_seed([2.0, 2.0, 2.0, 2.2, 1.8]),
        "b": by_seed([0.9, 1.1, 1.0, 1.1, 0.9]),
        "c": by_seed([0.0, 0.0, 0.0, 0.0, 0.0]),
    }
    found = {(pair["a"], pair["b"]): pair for pair in compare(values, test=True)}
    assert found["a", "b"]["difference"] == pytest.approx(1.0)
    assert found["a", "b"]["p_adjusted"] == pytest.approx(2.4e-5, rel=0.02)
    assert found["a", "c"]["p_adjusted"] == pytest.approx(6e-6, rel=0.03)
    assert found["b", "c"]["p_adjusted"] == pytest.approx(2.4e-5, rel=0.02)
    assert ranges(["a", "b", "c"], list(found.values())) == {"a": (1, 1), "b": (2, 2), "c": (3, 3)}


def test_rows_that_are_not_separated_share_their_range() -> None:
    values = {
        "a": by_seed([1.0, 1.1, 0.9, 1.0, 1.05]),
        "b": by_seed([1.05, 1.0, 1.0, 0.95, 1.0]),
        "c": by_seed([0.1, 0.0, 0.2, 0.1, 0.05]),
    }
    assert ranges(["a", "b", "c"], compare(values, test=True)) == {"a": (1, 2), "b": (1, 2), "c": (3, 3)}


def test_a_pair_is_separated_only_below_one_in_twenty() -> None:
    # differences .2 -.1 .2 .1 .1: mean .1, sd .122474, error .054772, t 1.825742, 4 df: p = .1419
    (pair,) = compare({"a": by_seed([0.2, -0.1, 0.2, 0.1, 0.1]), "b": by_seed([0.0] * 5)}, test=True)
    assert pair["p_adjusted"] == pytest.approx(0.1419, abs=1e-4)
    assert pair["separated"] is False


def test_equal_rows_tie_and_a_constant_lead_separates_without_a_warning() -> None:
    values = {row: by_seed([0.5] * 5) for row in ("a", "b")} | {"c": by_seed([0.25] * 5)}
    pairs = {(pair["a"], pair["b"]): pair for pair in compare(values, test=True)}
    assert pairs["a", "b"]["p_adjusted"] == 1
    assert pairs["a", "b"]["separated"] is False
    assert pairs["a", "c"]["p_adjusted"] == 0
    assert pairs["a", "c"]["separated"] is True
    assert ranges(["a", "b", "c"], list(pairs.values())) == {"a": (1, 2), "b": (1, 2), "c": (3, 3)}


def test_the_better_row_of_a_pair_comes_first() -> None:
    (pair,) = compare({"low": by_seed([0.1, 0.2, 0.1]), "high": by_seed([0.5, 0.5, 0.6])}, test=False)
    assert (pair["a"], pair["b"]) == ("high", "low")
    assert pair["difference"] == pytest.approx(0.4)
    assert pair["low"] < 0.4 < pair["high"]


def test_pairs_are_paired_over_the_seeds_that_both_finished() -> None:
    (pair,) = compare({"a": {0: 1.0, 1: 2.0, 2: 9.0}, "b": {0: 0.5, 1: 1.5, 3: 9.0}}, test=False)
    assert (pair["n"], pair["difference"]) == (2, 0.5)


def test_without_a_test_and_with_one_seed_nothing_is_separated() -> None:
    (untested,) = compare({"a": by_seed([1.0] * 5), "b": by_seed([0.0] * 5)}, test=False)
    assert untested["p_adjusted"] is untested["separated"] is None
    (single,) = compare({"a": {0: 1.0}, "b": {0: 0.0}}, test=True)
    assert single["p_adjusted"] is single["separated"] is single["low"] is None


def test_a_separation_from_a_row_of_another_block_moves_no_rank() -> None:
    values = {row: by_seed([level] * 5) for row, level in (("a", 3.0), ("b", 2.0), ("taxed", 5.0))}
    pairs = compare(values, test=True)
    assert ranges(["a", "b"], pairs) == {"a": (1, 1), "b": (2, 2)}
    assert ranges(["taxed"], pairs) == {"taxed": (1, 1)}


def test_the_detectable_difference_is_that_of_the_pair_of_median_spread() -> None:
    # one pair, differences (0, .1, .2): sd .1, n = 3, 2 df: (t(.975) 4.30265 + t(.8) 1.06066) * .1/sqrt(3)
    found = minimum_detectable_difference({"a": by_seed([0.0, 0.1, 0.2]), "b": by_seed([0.0, 0.0, 0.0])})
    assert found == pytest.approx((4.30265 + 1.06066) * 0.1 / math.sqrt(3), rel=1e-4)
    assert minimum_detectable_difference({"a": by_seed([0.0, 0.2]), "b": by_seed([0.0, 0.0])}) is None
    assert minimum_detectable_difference({"a": {0: 1.0}, "b": {0: 0.0}}) is None
    assert minimum_detectable_difference({}) is None


def test_a_pair_that_is_not_separated_says_how_many_seeds_would_tell() -> None:
    # differences .2 -.1 .2 .1 .1: mean .1, variance .015. With n seeds and two rows (t(.975) + t(.8)) sqrt(.015/n):
    # 13 seeds (2.179 + .873) * .03397 = .1037; 14 seeds (2.160 + .870) * .03273 = .0992, below .1.
    near = {"a": by_seed([0.2, -0.1, 0.2, 0.1, 0.1]), "b": by_seed([0.0] * 5)}
    (pair,) = compare(near, test=True)
    assert pair["seeds_needed"] == 14
    assert "it takes 9 more seeds to see it" in in_words(pair)
    assert more_seeds({"seeds_needed": 6, "n": 5}) == "1 more seed"
    (same,) = compare(near | {"b": by_seed([0.1, 0.1, 0.1, 0.1, 0.1])}, test=True)
    assert same["seeds_needed"] is None
    assert "as small as it looks, not even 100 seeds" in in_words(same)
    (apart,) = compare(near | {"b": by_seed([-3.0] * 5)}, test=True)
    assert apart["seeds_needed"] is None
    assert "separated (p" in in_words(apart)


def test_rows_of_which_some_share_no_seeds_are_compared_where_they_do() -> None:
    values = {"a": by_seed([1.0, 1.1, 0.9]), "b": by_seed([0.0, 0.1, 0.1]), "c": {7: 1.0, 8: 1.0, 9: 1.0}}
    pairs = {(pair["a"], pair["b"]): pair for pair in compare(values, test=True)}
    assert pairs["a", "b"]["p_adjusted"] is not None
    assert pairs["a", "c"]["p_adjusted"] is None


ROWS = 8


def boards_with_a_separation(boards: int, spread: np.ndarray, seeds: int, lead: float = 0.0) -> tuple[int, int]:
    """Return the boards with any separation, and those with row 0 apart from all; a seed moves all rows."""
    rng = np.random.default_rng(7)
    shared = rng.normal(size=(boards, 1, seeds))
    scores = shared + spread[:, None] * rng.normal(size=(boards, ROWS, seeds))
    scores[:, 0] += lead
    tested = [compare({str(i): by_seed(list(row)) for i, row in enumerate(one)}, test=True) for one in scores]
    first = [[pair["separated"] for pair in board if pair["a"] == "0"] for board in tested]
    return sum(any(pair["separated"] for pair in board) for board in tested), sum(
        len(row) == ROWS - 1 and all(row) for row in first
    )


@pytest.mark.parametrize("seeds", [3, 10])
@pytest.mark.parametrize("spread", [np.ones(ROWS), np.where(np.arange(ROWS) % 2, 3.0, 1.0)], ids=["equal", "1 and 3"])
def test_equal_algorithms_are_separated_on_at_most_one_board_in_twenty(spread: np.ndarray, seeds: int) -> None:
    # At an error rate of 5 % the count is binomial(60, .05): mean 3, sd 1.7. 3 sd above is 8.1; a board
    # without any correction would have a separation on about 30 of 60. tests/power.py measures it closely.
    limit = 60 * 0.05 + 3 * math.sqrt(60 * 0.05 * 0.95)
    separated, _ = boards_with_a_separation(60, spread, seeds)
    assert separated <= limit


def test_a_lead_of_five_deviations_is_found_on_nearly_every_board() -> None:
    # difference sd sqrt(2): 5/sqrt(2)*sqrt(10) = 11.2 standard errors against a critical value of 3.1.
    _, led = boards_with_a_separation(50, np.ones(ROWS), 10, lead=5.0)
    assert led >= 49
