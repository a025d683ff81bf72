"""Rows compared where something else is equal: golden numbers, with the working shown."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from zoo_leaderboard.slices import curve_of, gain_at_equal_length, gold_at, prompts_won

Make = Callable[..., dict[str, Any]]


def at_1(gold: float) -> dict[str, Any]:
    return {"1": {"gold": gold, "proxy": 0.0, "length": 9.0, "ended": 1.0}}


def point(fraction: float, kl: float | None, gold: float) -> dict[str, Any]:
    return {"fraction": fraction, "flops": 1.0, "gold": gold, "proxy": 0.0, "kl_start": kl, "length": 9.0}


def items(golds: list[float], words: list[int]) -> list[dict[str, Any]]:
    return [
        {"prompt": f"p{n}", "response": "w " * count, "gold": gold, "proxy": 0.0, "gold_start": 0.0}
        for n, (gold, count) in enumerate(zip(golds, words, strict=True))
    ]


def test_gold_at_a_divergence_lies_on_the_line_between_two_points_of_the_run(make_record: Make) -> None:
    start = make_record("start", by_temperature=at_1(0.2))
    run = make_record("ppo", curve=[point(0.5, 2.0, 0.6)], kl_start=4.0, by_temperature=at_1(0.4))
    assert gold_at(1.0, run, start) == pytest.approx(0.4)  # halfway from 0.2 at KL 0 to 0.6 at KL 2
    assert gold_at(3.0, run, start) == pytest.approx(0.5)  # halfway from 0.6 at KL 2 to 0.4 at KL 4
    assert gold_at(5.0, run, start) is None  # it never went so far


def test_a_run_that_comes_back_counts_where_it_first_was_so_far(make_record: Make) -> None:
    start = make_record("start", by_temperature=at_1(0.0))
    curve = [point(0.25, 4.0, 0.4), point(0.5, 1.0, 0.9)]
    run = make_record("ppo", curve=curve, kl_start=5.0, by_temperature=at_1(0.5))
    assert gold_at(2.0, run, start) == pytest.approx(0.2)


def test_points_whose_divergence_is_unknown_are_left_out(make_record: Make) -> None:
    start = make_record("start", by_temperature=at_1(0.2))
    run = make_record("ppo", curve=[point(0.5, None, 9.0)], kl_start=4.0, by_temperature=at_1(0.6))
    assert gold_at(2.0, run, start) == pytest.approx(0.4)


def test_a_curve_ends_with_the_answers_at_temperature_1_not_with_the_best_ones(make_record: Make) -> None:
    run = make_record("ppo", gold=0.9, curve=[point(0.5, 1.0, 0.3)], kl_start=2.0, by_temperature=at_1(0.4))
    assert [(one["fraction"], one["gold"], one["kl_start"]) for one in curve_of(run)] == [
        (0.5, 0.3, 1.0),
        (1.0, 0.4, 2.0),
    ]
    assert len(curve_of(run | {"scores": None})) == 1


def test_a_gain_that_comes_from_length_alone_is_none_at_equal_length(make_record: Make) -> None:
    # Each further word is worth 0.1: gains 0.1, 0.2, 0.3 for 1, 2, 3 words more. The line meets 0 words at 0.
    start = make_record("start", items=items([0.0, 0.0, 0.0], [5, 5, 5]))
    run = make_record("ppo", items=items([0.1, 0.2, 0.3], [6, 7, 8]))
    assert gain_at_equal_length(run, start) == pytest.approx(0.0)
    # The same, and 0.5 better at any length.
    better = make_record("dpo", items=items([0.6, 0.7, 0.8], [6, 7, 8]))
    assert gain_at_equal_length(better, start) == pytest.approx(0.5)


def test_answers_as_long_as_those_of_start_keep_their_gain(make_record: Make) -> None:
    start = make_record("start", items=items([0.1, 0.2, 0.3], [5, 6, 7]))
    run = make_record("ppo", items=items([0.4, 0.5, 0.9], [5, 6, 7]))
    assert gain_at_equal_length(run, start) == pytest.approx(0.4)
    assert gain_at_equal_length(run, None) is None


def test_the_gain_at_equal_length_is_found_again_in_noise(make_record: Make) -> None:
    rng = random.Random(0)
    words = [rng.randint(1, 30) for _ in range(4000)]
    gains = [0.25 + 0.02 * (count - 10) + rng.gauss(0, 0.1) for count in words]
    start = make_record("start", items=items([0.0] * 4000, [10] * 4000))
    run = make_record("ppo", items=items(gains, words))
    assert gain_at_equal_length(run, start) == pytest.approx(0.25, abs=0.01)


def test_prompts_won_are_counted_over_shared_seeds_and_prompts_only(make_record: Make) -> None:
    a = [make_record("a", 0, items=items([0.9, 0.5, 0.1], [1, 1, 1])), make_record("a", 1, items=items([0.9], [1]))]
    b = [make_record("b", 0, items=items([0.1, 0.5], [1, 1])), make_record("b", 2, items=items([0.9], [1]))]
    assert prompts_won(a, b) == {"a": 1, "b": 0, "ties": 1}
    assert prompts_won(a, [make_record("c", 5)]) is None
