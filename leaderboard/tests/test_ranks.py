"""Laws of the pairs and of the rank ranges."""

import math

import numpy as np
import pytest
from zoo_leaderboard.ranks import compare, minimum_detectable_difference, ranges


def by_seed(values: list[float]) -> dict[int, float]:
    return dict(enumerate(values))


def test_three_clear_levels_have_three_ranks_and_working_shown() -> None:
    # a - b = 1 + (.1, -.1, 0, .1, -.1): mean 1, sd .1, error .044721, t 22.36, 4 df: p = 2.4e-5.
    # b - c = 1 + (-.1, .1, 0, .1, -.1): the same. a - c = 2 + (0, 0, 0, .2, -.2): sd .1414, t 31.6, p 6e-6.
    # Holm: a-c first, 3 * 6e-6 = 1.8e-5; then 2 * 2.4e-5 = 4.7e-5; then max of that and 2.4e-5.
    values = {
        "a": by_seed([2.0, 2.0, 2.0, 2.2, 1.8]),
        "b": by_seed([0.9, 1.1, 1.0, 1.1, 0.9]),
        "c": by_seed([0.0, 0.0, 0.0, 0.0, 0.0]),
    }
    found = {(pair["a"], pair["b"]): pair for pair in compare(values, test=True)}
    assert found["a", "b"]["difference"] == pytest.approx(1.0)
    assert found["a", "b"]["p_adjusted"] == pytest.approx(4.7e-5, rel=0.02)
    assert found["a", "c"]["p_adjusted"] == pytest.approx(1.8e-5, rel=0.03)
    assert found["b", "c"]["p_adjusted"] == pytest.approx(4.7e-5, rel=0.02)
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
    # one pair, differences (0, .2): sd .1414, n = 2, 1 df: (t(.975) 12.7062 + t(.8) 1.37638) * .1414/sqrt(2)
    found = minimum_detectable_difference({"a": by_seed([0.0, 0.2]), "b": by_seed([0.0, 0.0])})
    assert found == pytest.approx((12.7062 + 1.37638) * 0.1, rel=1e-5)
    # three pairs: a - b spreads by .1414 over two seeds, a - c by 0, b - c by .1414: the median is .1414, the
    # seeds are the fewest, 2, and the level of the first step is .05/3: t(1 - .05/6; 1 df) = 38.1885.
    three = {"a": by_seed([0.0, 0.2, 0.4]), "b": by_seed([0.0, 0.0]), "c": by_seed([0.0, 0.2, 0.4])}
    assert minimum_detectable_difference(three) == pytest.approx((38.1885 + 1.37638) * 0.1, rel=1e-5)
    wider = three | {"b": by_seed([0.0, 0.0]), "c": by_seed([1.0, 1.1, 1.2])}
    # a - b .1414, a - c .1 over three seeds, c - b .0707: the median is .1
    assert minimum_detectable_difference(wider) == pytest.approx((38.1885 + 1.37638) * 0.1 / 2**0.5, rel=1e-5)
    assert minimum_detectable_difference({"a": {0: 1.0}, "b": {0: 0.0}}) is None
    assert minimum_detectable_difference({}) is None


ROWS, SEEDS = 8, 10


def boards_with_a_separation(boards: int, spread: np.ndarray, lead: float = 0.0) -> tuple[int, int]:
    """Return the boards with any separation, and those with row 0 apart from all; a seed moves all rows."""
    rng = np.random.default_rng(7)
    shared = rng.normal(size=(boards, 1, SEEDS))
    scores = shared + spread[:, None] * rng.normal(size=(boards, ROWS, SEEDS))
    scores[:, 0] += lead
    tested = [compare({str(i): by_seed(list(row)) for i, row in enumerate(one)}, test=True) for one in scores]
    first = [[pair["separated"] for pair in board if pair["a"] == "0"] for board in tested]
    return sum(any(pair["separated"] for pair in board) for board in tested), sum(
        len(row) == ROWS - 1 and all(row) for row in first
    )


@pytest.mark.parametrize("spread", [np.ones(ROWS), np.linspace(1, 3, ROWS)], ids=["equal", "1 to 3"])
def test_equal_algorithms_are_separated_on_at_most_one_board_in_twenty(spread: np.ndarray) -> None:
    # At an error rate of 5 % the count is binomial(300, .05): mean 15, sd 3.8. 3 sd above is 26.3; a board
    # without any correction would have a separation on about 160 of 300.
    limit = 300 * 0.05 + 3 * math.sqrt(300 * 0.05 * 0.95)
    separated, _ = boards_with_a_separation(300, spread)
    assert separated <= limit


def test_a_lead_of_five_deviations_is_found_on_nearly_every_board() -> None:
    # difference sd sqrt(2): 5/sqrt(2)*sqrt(10) = 11.2 standard errors against a first critical value of 4.4.
    _, led = boards_with_a_separation(100, np.ones(ROWS), lead=5.0)
    assert led >= 98
