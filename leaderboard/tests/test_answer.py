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


def test_rows_of_one_mean_share_the_highest(make_bench: Make, make_record: Make) -> None:
    text = said(make_bench, make_record, {"start": 0.5, "dpo": 0.7, "ppo": 0.7})
    assert "; dpo and ppo have the highest mean, " in text


def test_first_is_not_called_separated_from_a_row_that_it_was_not_compared_with(
    make_bench: Make, make_record: Make
) -> None:
    golds = {"start": (0.5,) * 3, "dpo": (0.95, 0.95, None), "ppo": (0.8, 0.801, 0.802), "ipo": (0.6, 0.601, 0.602)}
    records = [make_record(row, seed, gold=gold) for row, of_row in golds.items() for seed, gold in enumerate(of_row)]
    assert ", separated from all others but dpo." in build(make_bench(), records)["answer"][0]


def test_who_ends_below_the_start_is_named(make_bench: Make, make_record: Make) -> None:
    text = said(make_bench, make_record, {"start": 0.5, "lima": 0.4, "ppo": 0.7})
    assert "Ended below start: lima." in text


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
    assert (
        "Of those that may be first, dpo takes the fewest models in memory (2.0); no reward model is needed by dpo."
        in text
    )


TAX = {"start": 0.9, "dpo": 0.9, "ppo": 0.9, "raft": 0.5}
"""Scores of the task by row: `raft` loses much of it."""


def said_with_tax(make_bench: Make, make_record: Make, golds: dict[str, float]) -> list[str]:
    records = [
        make_record(row, seed, gold=gold + 0.001 * ((3 * seed + len(row)) % 5), facts=TAX[row])
        for row, gold in golds.items()
        for seed in range(5)
    ]
    return build(make_bench(seeds=5), records)["answer"]


def test_a_row_that_pays_tax_and_may_be_better_is_told_beside_the_first(make_bench: Make, make_record: Make) -> None:
    first, beside, *_ = said_with_tax(make_bench, make_record, {"start": 0.5, "dpo": 0.6, "ppo": 0.9, "raft": 0.9})
    assert "ppo is first of the rows that pay no tax on tasks: 0.80 [" in first
    assert first.endswith("separated from the others.")
    assert beside.startswith("Not separated from ppo, but it pays tax: raft 0.80 [")


def test_a_row_that_pays_tax_and_is_better_is_told_beside_the_first(make_bench: Make, make_record: Make) -> None:
    first, above, *_ = said_with_tax(make_bench, make_record, {"start": 0.5, "dpo": 0.6, "ppo": 0.8, "raft": 0.95})
    assert "ppo is first of the rows that pay no tax on tasks" in first
    assert above.startswith("Separated above ppo, but it pays tax: raft 0.90 [")


def test_where_only_rows_that_pay_tax_finished_they_are_told(make_bench: Make, make_record: Make) -> None:
    text = said_with_tax(make_bench, make_record, {"start": 0.5, "raft": 0.9})
    assert text[0].startswith("With 1e12 FLOPs a run on world:base, the only row that ranks: raft: 0.80 [")
    assert text[1] == "Every row that finished pays tax: it loses on tasks."


def test_losers_are_named_whether_they_pay_tax_or_not(make_bench: Make, make_record: Make) -> None:
    text = said_with_tax(make_bench, make_record, {"start": 0.5, "dpo": 0.6, "ppo": 0.9, "raft": 0.4})
    assert "Ended below start: raft." in text


def test_a_row_that_pays_for_a_reward_model_needs_one_whatever_it_learns_from(
    make_bench: Make, make_record: Make
) -> None:
    records = [make_record("start", seed, gold=0.5) for seed in range(5)]
    for row, models, parts in (("ppo", 4.0, "reward/train"), ("dpo", 2.0, "policy/train"), ("rlaif", 4.0, "reward/x")):
        records += [
            make_record(row, seed, gold=0.8 + 0.001 * seed, models_resident=models, learns_from=["judge"],
                        flops_by_role_phase={parts: 1e12})
            for seed in range(5)
        ]  # fmt: skip
    assert "no reward model is needed by dpo." in " ".join(build(make_bench(seeds=5), records)["answer"])


def test_rows_of_whose_seeds_few_have_headroom_are_not_ranked(make_bench: Make, make_record: Make) -> None:
    best = {seed: 1.0 if seed < 2 else 0.4 for seed in range(5)}
    golds = {"start": 0.5, "dpo": 0.6, "ppo": 0.9}
    records = [make_record(row, seed, gold=gold, gold_best=best[seed]) for row, gold in golds.items() for seed in best]
    board = build(make_bench(seeds=5), records)
    assert [row["rank_low"] for row in board["rows"]] == [None] * 3
    assert board["answer"] == ["Nothing is ranked here; the notes say why."]
    assert (
        "No headroom at seed 2, 3, 4: `start` is as good as the best answer there already."
        in (board["conditional_notes"])
    )


def test_how_many_seeds_would_separate_two_rows_is_told_as_a_condition(make_bench: Make, make_record: Make) -> None:
    text = said(make_bench, make_record, {"start": 0.5, "dpo": 0.7, "ppo": 0.7})
    assert "If their difference is as large as it looks, 0.00 [" in text
    assert "], not even 100 seeds would separate" in text or " more seeds would separate" in text
