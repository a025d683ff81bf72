"""The board says how often gold agrees with people; a gold of pairs that may be too weak ranks nothing."""

import pytest
from zoo_leaderboard.agreement import accuracies, is_too_weak
from zoo_leaderboard.board import build
from zoo_leaderboard.render import break_even, markdown


def of_start(make_record, seed, **accuracies_of):
    found = {
        name: {"accuracy": accuracy, "shorter": 0.55, "pairs": pairs}
        for name, (accuracy, pairs) in accuracies_of.items()
    }
    return make_record("start", seed, pair_accuracy=found)


def test_accuracies_are_means_over_seeds_and_more_seeds_make_them_no_surer(make_record):
    # 75 of 100 pairs. Wilson, z = 1.96: centre (75 + 1.92) / 103.84 = .7407,
    # half-width 1.96 sqrt(75 * 25 / 100 + .96) / 103.84 = .0838
    found = accuracies([of_start(make_record, 0, proxy=(0.6, 100)), of_start(make_record, 1, proxy=(0.9, 100))])
    expected = {"accuracy": 0.75, "low": 0.6569, "high": 0.8245, "pairs": 100, "shorter": 0.55}
    assert found["proxy"] == pytest.approx(expected, abs=1e-3)


def test_rows_other_than_start_say_nothing_of_agreement(make_record):
    assert accuracies([make_record("a", pair_accuracy={"gold": {"accuracy": 1.0, "pairs": 9}})]) == {}


@pytest.mark.parametrize(("accuracy", "weak"), [(0.65, False), (0.62, True), (0.5, True)])
def test_a_gold_of_pairs_is_too_weak_if_its_lower_bound_is_below_six_in_ten(make_bench, make_record, accuracy, weak):
    # 1,000 pairs: the interval reaches 3 points down
    found = accuracies([of_start(make_record, 0, gold=(accuracy, 1000))])
    assert is_too_weak(make_bench(spec={"gold": "preferences"}), found) is weak
    assert not is_too_weak(make_bench(spec={"gold": "world:gold"}), found), "it is the truth, labels are noisy"
    assert not is_too_weak(make_bench(spec={"gold": "preferences"}), {})


@pytest.mark.parametrize(("accuracy", "ranked"), [(0.9, True), (0.6, False)])
def test_nothing_is_ranked_by_a_weak_gold(make_bench, make_record, accuracy, ranked):
    seeds = range(10)
    records = [of_start(make_record, seed, gold=(accuracy, 100)) for seed in seeds]
    records += [make_record(row, s, gold=gold + 0.001 * s) for row, gold in (("a", 0.6), ("b", 0.9)) for s in seeds]
    board = build(make_bench(seeds=10, spec={"gold": "preferences"}), records)
    ranks = {row["row"]: row["rank_low"] for row in board["rows"] if row["kind"] == "algorithm"}
    assert ranks == ({"b": 1, "a": 2} if ranked else {"b": None, "a": None})
    notes = " ".join(board["conditional_notes"])
    assert f"gold {accuracy:.0%} [" in notes
    assert '("the shorter wins" 55%)' in notes
    assert ("nothing is ranked" in notes) is not ranked
    assert any(pair["separated"] for pair in board["pairs"]) is ranked
    assert ("## Separated pairs" in markdown(board)) is ranked


def test_a_trained_row_breaks_even_with_best_of_n_after_what_it_cost_more_over_what_an_answer_saves(
    make_bench, make_record
):
    records = [
        make_record("start", flops_used=1e11, flops_per_query=1e6),
        make_record("best-of-16", kind="reference", flops_used=3e11, flops_per_query=17e6),
        make_record("a", flops_used=11e11, flops_per_query=1e6),
    ]
    board = build(make_bench(seeds=1), records)
    rows = {row["row"]: row for row in board["rows"]}
    # (11e11 - 3e11) / (17e6 - 1e6) = 50,000 answers
    assert break_even(rows["a"], board) == pytest.approx(50_000)
    assert break_even(rows["start"], board) is None
    assert "| a | 1.1e+12 |" in markdown(board)
    assert "| 1e+06 | 5e+04 |" in markdown(board)


def test_a_row_that_stops_by_its_rule_is_not_flagged_for_what_it_left(make_bench, make_record):
    stopped = make_record("a", flops_used=2e11, updates=100, stops_early="after 15 passes")
    idle = make_record("b", flops_used=2e11, updates=100)
    flags = {row["row"]: row["flags"] for row in build(make_bench(seeds=1), [stopped, idle])["rows"]}
    assert flags == {"a": [], "b": ["budget under-used"]}
