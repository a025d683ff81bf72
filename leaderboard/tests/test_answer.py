"""What a board says in words is what its numbers say."""

from collections.abc import Callable
from typing import Any

from zoo_leaderboard.board import build

Make = Callable[..., dict[str, Any]]


def said(make_bench: Make, make_record: Make, golds: dict[str, float], seeds: int = 5, **changes: Any) -> str:
    """The answer of a board whose rows have these golds, with little spread between seeds."""
    records = [
        make_record(row, seed, gold=gold + 0.001 * ((3 * seed + len(row)) % 5), **changes)
        for row, gold in golds.items()
        for seed in range(seeds)
    ]
    return " ".join(build(make_bench(seeds=seeds), records)["answer"])


def test_one_leader_is_called_first_with_its_interval(make_bench: Make, make_record: Make) -> None:
    text = said(make_bench, make_record, {"start": 0.5, "tune": 0.55, "dpo": 0.7, "ppo": 0.9})
    assert text.startswith("With 1e12 FLOPs a run on world:base, ppo is first: 0.80 [")
    assert "Separated above tune, which spends the same budget on the start's recipe: ppo and dpo." in text


def test_rows_that_cannot_be_told_apart_are_all_named(make_bench: Make, make_record: Make) -> None:
    text = said(make_bench, make_record, {"start": 0.5, "tune": 0.501, "dpo": 0.9, "ppo": 0.9})
    assert "dpo and ppo may each be first" in text or "ppo and dpo may each be first" in text


def test_where_nobody_is_separated_it_is_said(make_bench: Make, make_record: Make) -> None:
    text = said(make_bench, make_record, {"start": 0.5, "dpo": 0.7, "ppo": 0.7})
    assert "no algorithm is separated from any other that could be first" in text


def test_who_ends_below_the_start_is_named(make_bench: Make, make_record: Make) -> None:
    text = said(make_bench, make_record, {"start": 0.5, "lima": 0.4, "ppo": 0.7})
    assert "Ended below the checkpoint that they began from: lima." in text


def test_too_few_seeds_and_no_gold_rank_nobody(make_bench: Make, make_record: Make) -> None:
    assert said(make_bench, make_record, {"start": 0.5, "ppo": 0.9}, seeds=2) == (
        "Too few seeds to call any two algorithms different: 2, and ranks need 3."
    )
    nothing = {"start": 0.5, "ppo": 0.9}
    text = said(make_bench, make_record, nothing, gold_best=None, win_start=None)
    assert "first" not in text


def test_while_seeds_are_missing_the_highest_mean_so_far_is_told(make_bench: Make, make_record: Make) -> None:
    golds = {"start": 0.5, "dpo": 0.7, "ppo": 0.9}
    records = [make_record(row, seed, gold=gold + 0.01 * seed) for row, gold in golds.items() for seed in range(2)]
    text = build(make_bench(seeds=4), records)["answer"]
    assert text[0] == "No algorithm has finished all its seeds yet."
    # gained of the headroom: (.90 - .50) / .50 and (.91 - .51) / .49, mean .808
    assert text[1].startswith("So far ppo has the highest mean, 0.81 [")
    assert text[1].endswith("] of the headroom, with 2 of 4 seeds.")


def test_of_several_leaders_what_is_scarce_is_told(make_bench: Make, make_record: Make) -> None:
    records = [make_record("start", seed, gold=0.5) for seed in range(5)]
    for row, models, needs in (("ppo", 4.0, ["reward"]), ("dpo", 2.0, ["preferences"])):
        records += [
            make_record(row, seed, gold=0.8 + 0.001 * seed, models_resident=models, learns_from=needs)
            for seed in range(5)
        ]
    text = " ".join(build(make_bench(seeds=5), records)["answer"])
    assert "Of these, dpo takes the fewest models in memory (2.0); no reward model is needed by dpo." in text
