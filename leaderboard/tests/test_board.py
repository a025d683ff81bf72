"""Laws of the board: what is paired with what, what is ranked, what is said."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from zoo_leaderboard.board import build

Make = Callable[..., dict[str, Any]]
Fill = Callable[..., list[dict[str, Any]]]

STAGES = [{"name": "tune", "flops": 0.2e12, "seconds": 5.0}]


def row_of(board: dict[str, Any], name: str) -> dict[str, Any]:
    (row,) = [row for row in board["rows"] if row["row"] == name]
    return row


@pytest.fixture
def fill(make_record: Make) -> Fill:
    """Return records of `start` (gold .5) and of each row given by its golds, one a seed."""

    def records(seeds: int, **golds: Sequence[float]) -> list[dict[str, Any]]:
        made = [make_record("start", seed, kl_start=0.0, win_start=None) for seed in range(seeds)]
        pairs = ((row, seed, gold) for row, all_ in golds.items() for seed, gold in enumerate(all_))
        return made + [make_record(row, seed, gold=gold) for row, seed, gold in pairs]

    return records


def test_the_golden_board_of_two_seeds(make_bench: Make, make_record: Make) -> None:
    # seed 0: start .5, best 1, so headroom .5: x (.7) gains .2/.5 = .4, tune (.6) .1/.5 = .2.
    # seed 1: start .6, best 1, so headroom .4: x (.7) gains .1/.4 = .25, tune (.6) 0/.4 = 0.
    # x: mean .325, sd .15/sqrt(2), error .075, t(.975; 1 df) 12.7062: half-width .952965.
    golds = {"start": (0.5, 0.6), "x": (0.7, 0.7), "tune": (0.6, 0.6)}
    records = [make_record(row, i, gold=gold) for row, pair in golds.items() for i, gold in enumerate(pair)]
    board = build(make_bench(seeds=2), records)
    assert (board["headline"], board["sft_row"], board["budget"]) == ("headroom", "tune", 1e12)
    assert [row["row"] for row in board["rows"]] == ["x", "tune", "start"]
    x = row_of(board, "x")
    assert x["headline"]["mean"] == pytest.approx(0.325)
    assert x["headline"]["low"] == pytest.approx(0.325 - 0.952965, abs=1e-6)
    assert x["headline"]["high"] == pytest.approx(0.325 + 0.952965, abs=1e-6)
    assert x["gold_delta_start"]["mean"] == pytest.approx((0.2 + 0.1) / 2)
    assert x["gold_delta_sft"]["mean"] == pytest.approx((0.1 + 0.1) / 2)
    assert row_of(board, "start")["headline"]["mean"] == 0
    # paired differences .4 - .2 and .25 - 0: mean .225
    (pair,) = board["pairs"]
    assert (pair["a"], pair["b"], pair["n"]) == ("x", "tune", 2)
    assert pair["difference"] == pytest.approx(0.225)
    assert (x["rank_low"], x["rank_high"], pair["p_adjusted"]) == (None, None, None)
    assert board["conditional_notes"] == ["Means and intervals only: 2 seeds; ranks need 3."]
    assert x["by_seed"][1]["headline"] == pytest.approx(0.25)


def test_the_order_of_the_records_changes_nothing(make_bench: Make, fill: Fill) -> None:
    records = fill(5, a=[0.7, 0.8, 0.7, 0.7, 0.9], b=[0.6, 0.5, 0.6, 0.6, 0.7])
    shuffled = random.Random(0).sample(records, len(records))
    assert build(make_bench(seeds=5), shuffled) == build(make_bench(seeds=5), records)


def test_five_seeds_rank_and_ten_need_no_note(make_bench: Make, fill: Fill) -> None:
    golds = {
        "a": [0.9, 0.91, 0.89, 0.9, 0.9],
        "b": [0.6, 0.61, 0.6, 0.59, 0.6],
        "c": [0.61, 0.6, 0.6, 0.6, 0.6],
    }
    board = build(make_bench(seeds=5), fill(5, **golds))
    ranks = {row["row"]: (row["rank_low"], row["rank_high"]) for row in board["rows"]}
    assert ranks == {"a": (1, 1), "b": (2, 3), "c": (2, 3), "start": (None, None)}
    assert board["conditional_notes"] == ["5 seeds; 10 to publish."]
    ten = build(make_bench(seeds=10), fill(10, **{row: values * 2 for row, values in golds.items()}))
    assert ten["conditional_notes"] == []


def test_one_seed_has_no_interval_no_rank_and_says_so(make_bench: Make, fill: Fill) -> None:
    board = build(make_bench(seeds=1), fill(1, a=[0.7]))
    assert row_of(board, "a")["headline"] == {"mean": pytest.approx(0.4), "low": None, "high": None, "n": 1}
    assert board["conditional_notes"] == ["Means and intervals only: 1 seed; ranks need 3."]
    assert board["minimum_detectable_difference"] is None


def test_without_an_oracle_the_win_rate_ranks(make_bench: Make, make_record: Make) -> None:
    records = [
        make_record("start", 0, gold_best=None, win_start=None),
        make_record("a", 0, gold_best=None, win_start=0.7),
    ]
    board = build(make_bench(seeds=1), records)
    assert board["headline"] == "win_start"
    assert not [note for note in board["conditional_notes"] if "headroom" in note]
    assert row_of(board, "a")["headline"]["mean"] == 0.7


def test_without_gold_rows_are_ordered_by_proxy_unranked_under_a_note(make_bench: Make, make_record: Make) -> None:
    proxies = {"start": 0.0, "low": 0.1, "high": 0.9}
    records = [make_record(row, s, gold=None, proxy=proxies[row]) for row in proxies for s in range(5)]
    board = build(make_bench(seeds=5), records)
    assert [row["row"] for row in board["rows"]] == ["high", "low", "start"]
    assert board["headline"] is None
    assert board["pairs"] == []
    assert {row["rank_low"] for row in board["rows"]} == {None}
    assert board["conditional_notes"][0].startswith("No gold was given")


def test_a_failed_seed_is_never_imputed(make_bench: Make, make_record: Make, fill: Fill) -> None:
    records = fill(5, a=[0.7, 0.7, 0.7, 0.8], b=[0.6] * 5, c=[0.9] * 5)
    records.append(make_record("a", 4, status="failed", error="loss is NaN", wall_seconds=9e9))
    board = build(make_bench(seeds=5), records)
    a = row_of(board, "a")
    assert a["wall_seconds"] == 60.0
    # (.2 * 3 + .3) / 4 / .5 = .45 over four seeds
    assert a["headline"]["n"] == 4
    assert a["headline"]["mean"] == pytest.approx(0.45)
    assert (a["status"], a["rank_low"]) == ("unreliable", None)
    assert a["errors"] == [{"seed": 4, "error": "loss is NaN"}]
    assert (a["seeds_ok"], a["seeds_total"]) == (4, 5)
    assert a["temperature"] == [0.5, 0.5, 0.5, 0.5, None]
    # the failed seed counted as the worst row of that seed, b (.2, not c's .8): (.4 * 3 + .6 + .2) / 5
    assert a["headline_worst_case"] == pytest.approx(2.0 / 5)
    assert row_of(board, "b")["headline_worst_case"] is None


def test_one_failure_in_ten_is_borne_and_two_are_not(make_bench: Make, make_record: Make, fill: Fill) -> None:
    golds = {"a": [0.7] * 9, "b": [0.6] * 8, "c": [0.65] * 10}
    records = fill(10, **golds)
    records += [make_record(row, s, status="failed") for row, s in (("a", 9), ("b", 8), ("b", 9))]
    board = build(make_bench(seeds=10), records)
    assert row_of(board, "a")["status"] == "ok"
    assert (row_of(board, "a")["rank_low"], row_of(board, "c")["rank_high"]) == (1, 2)
    assert row_of(board, "b")["status"] == "unreliable"
    assert {pair["n"] for pair in board["pairs"]} == {9}


def test_a_row_that_always_failed_is_listed_with_its_error(make_bench: Make, make_record: Make, fill: Fill) -> None:
    records = fill(2, a=[0.7, 0.7])
    records += [make_record("z", seed, status="failed", error="out of memory") for seed in (0, 1)]
    z = row_of(build(make_bench(seeds=2), records), "z")
    assert (z["status"], z["seeds_ok"], z["headline"]["mean"]) == ("failed", 0, None)
    assert [one["error"] for one in z["errors"]] == ["out of memory"] * 2
    assert z["flops_used"] == pytest.approx(0.99e12)


def test_missing_cells_are_unfinished_and_planned_rows_are_shown(make_bench: Make, fill: Fill) -> None:
    plan = [{"row": row, "algorithm": row, "settings": {"beta": 0.1}, "kind": "algorithm"} for row in ("later", "a")]
    records = fill(3, a=[0.7, 0.7], b=[0.6] * 3)
    board = build(make_bench(seeds=3, algorithms=plan), records)
    assert row_of(board, "a")["status"] == row_of(board, "later")["status"] == "unfinished"
    assert row_of(board, "later")["settings"] == {"beta": 0.1}
    assert row_of(board, "later").keys() == row_of(board, "a").keys()
    assert any(note.startswith("Unfinished, not ranked: a, later.") for note in board["conditional_notes"])


@pytest.mark.parametrize(("facts", "status"), [(0.57, "ok"), (0.586, "ok"), (0.55, "pays tax")])
def test_capability_lost_beyond_two_points_pays_tax(
    make_bench: Make, make_record: Make, facts: float, status: str
) -> None:
    # chance .25: .6 is .466667 of the way; .57 -> .426667, 4 points lower but with a wide interval;
    # .586 -> .448, 1.9 points lower and certain; .55 -> .4, 6.7 points lower and certain.
    spread = [0.06, -0.06, 0.03, -0.03, 0.0] if facts == 0.57 else [0.0] * 5
    records = [make_record("start", s, facts=0.6) for s in range(5)]
    records += [make_record("a", s, facts=facts + spread[s], gold=0.8) for s in range(5)]
    row = row_of(build(make_bench(seeds=5), records), "a")
    assert row["status"] == status
    assert row["capability_delta_start"]["mean"] == pytest.approx((facts - 0.6) / 0.75)
    assert row["tasks"]["facts"]["delta_start"]["mean"] == pytest.approx(facts - 0.6)


def test_rows_that_pay_tax_rank_among_themselves_below_the_others(make_bench: Make, make_record: Make) -> None:
    golds = {"start": 0.5, "taxed": 0.9, "fine": 0.6}
    facts = {"taxed": 0.4}
    records = [make_record(r, s, gold=golds[r], facts=facts.get(r, 0.6)) for r in golds for s in range(5)]
    board = build(make_bench(seeds=5), records)
    assert [row["row"] for row in board["rows"]] == ["fine", "taxed", "start"]
    assert [(row["rank_low"], row["rank_high"]) for row in board["rows"][:2]] == [(1, 1), (1, 1)]


@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        ({"audit_ratio": 0.979}, ["unmetered compute"]),
        ({"audit_ratio": 1.021}, ["unmetered compute"]),
        ({"audit_ratio": 0.981}, []),
        ({"flops_used": 1.001e12}, ["over budget"]),
        ({"flops_used": 1e12}, []),
        ({"flops_used": 0.94e12}, ["budget under-used"]),
        ({"flops_used": 0.94e12, "flags": ["stopped early: dev loss"]}, ["stopped early: dev loss"]),
        ({"flops_used": 0.95e12}, []),
        # .1 is left, 1.5 updates of (.9 - .2)/10 = .07 are .105, but of (.9 - .2)/11 = .0636 only .0955
        ({"flops_used": 0.9e12, "updates": 10, "stages": STAGES}, []),
        ({"flops_used": 0.9e12, "updates": 11, "stages": STAGES}, ["budget under-used"]),
        ({"flops_used": 0.9e12, "updates": 0}, ["budget under-used", "no update done (seed 1)"]),
        ({"kl_start": -0.1}, ["negative KL"]),
        ({"audit_ratio": None, "flops_used": None}, []),
        ({"flags": ["update discarded"]}, ["update discarded"]),
    ],
)
def test_flags_say_what_the_ledger_shows(
    make_bench: Make, make_record: Make, changes: dict[str, Any], flags: list[str]
) -> None:
    records = [make_record("start"), make_record("a", 0), make_record("a", 1, **changes)]
    assert row_of(build(make_bench(seeds=2), records), "a")["flags"] == flags


@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        ({"optimizer_steps": 0}, ["no update done (seed 1)"]),
        ({"optimizer_steps": 0, "kind": "reference"}, []),
        ({"identical": 0.51}, ["most answers are the same (seed 1)"]),
        ({"identical": 0.5}, []),
        ({"ended": 0.49}, ["most answers do not end (seed 1)"]),
        ({"ended": 0.5}, []),
    ],
)
def test_flags_say_what_the_scores_show(
    make_bench: Make, make_record: Make, changes: dict[str, Any], flags: list[str]
) -> None:
    records = [make_record("start"), make_record("a", 1, **({"identical": 0.0} | changes))]
    assert row_of(build(make_bench(seeds=2), records), "a")["flags"] == flags


@pytest.mark.parametrize(
    ("proxies", "golds", "expected"),
    [
        # `start` has .1 and .5. Three differences of .4 ± .01 up, .2 ± .01 down: t(.975; 2) = 4.30 · .01/√3 = .025
        ((0.49, 0.5, 0.51), (0.29, 0.3, 0.31), True),
        ((0.49, 0.5, 0.51), (0.59, 0.6, 0.61), False),
        ((-0.3, -0.31, -0.29), (0.29, 0.3, 0.31), False),
        ((0.49, 0.5, 0.51), (0.1, 0.5, 0.6), False),  # -.1 ± .66
    ],
)
def test_a_reward_that_rises_while_gold_falls_is_flagged(
    make_bench: Make, make_record: Make, proxies: tuple[float, ...], golds: tuple[float, ...], expected: bool
) -> None:
    records = [make_record("start", seed) for seed in range(3)]
    for seed, (proxy, gold) in enumerate(zip(proxies, golds, strict=True)):
        records.append(make_record("a", seed, proxy=proxy, gold=gold))
    flags = row_of(build(make_bench(seeds=3), records), "a")["flags"]
    assert ("reward up, gold down" in flags) is expected


def test_test_prompts_that_were_learned_from_are_told(make_bench: Make, make_record: Make) -> None:
    bench = make_bench(data={"test_prompts": {"overlap": [0, 3, 1]}})
    notes = build(bench, [make_record("start"), make_record("a")])["conditional_notes"]
    assert any(note.startswith("Up to 3 test prompts of a seed are among the rows") for note in notes)


def test_a_row_that_misses_its_own_objective_is_flagged_with_its_seeds(make_bench: Make, make_record: Make) -> None:
    records = [make_record("ppo", seed) for seed in range(3)]
    for record, after in zip(records, (0.5, 0.1, 0.0), strict=True):
        better = after > 0.2
        record["scores"]["objective"] = {"what": "reward", "before": 0.2, "after": after, "better": better}
    (row,) = build(make_bench(seeds=3), records)["rows"]
    assert "own objective not improved (seed 1, 2)" in row["flags"]
    records[1]["scores"]["objective"] = records[2]["scores"]["objective"] = None  # it was not measured
    (row,) = build(make_bench(seeds=3), records)["rows"]
    assert row["flags"] == []


def test_seeds_that_end_with_equal_weights_are_flagged_where_something_was_trained(
    make_bench: Make, make_record: Make
) -> None:
    ends = ("aa", "bb", "aa")
    flagged = [
        make_record(row, seed, weights_sha256=end * 32, **changes)
        for row, changes in (("start", {}), ("a", {}), ("b", {"updates": 0}))
        for seed, end in enumerate(ends)
    ]
    board = build(make_bench(), flagged)
    assert row_of(board, "a")["flags"] == ["same weights (seed 0, 2)"]
    assert row_of(board, "b")["flags"] == ["no update done (seed 0, 1, 2)"]
    assert row_of(board, "start")["flags"] == []


def test_a_row_that_is_not_ranked_for_want_of_scores_is_named(make_bench: Make, make_record: Make) -> None:
    golds = {"start": (0.5,) * 3, "dpo": (0.7, 0.8, None), "ppo": (0.6, 0.61, 0.62)}
    records = [make_record(row, seed, gold=gold) for row, of_row in golds.items() for seed, gold in enumerate(of_row)]
    board = build(make_bench(), records)
    assert row_of(board, "dpo")["rank_low"] is None
    note = "Not ranked, with fewer than 3 seeds whose score counts: dpo."
    assert note in board["conditional_notes"]


def test_seeds_of_two_plugin_versions_are_flagged(make_bench: Make, make_record: Make) -> None:
    records = [make_record("start"), make_record("a", 0), make_record("a", 1, plugin_version="0.2.0")]
    assert row_of(build(make_bench(seeds=2), records), "a")["flags"] == ["seeds of different plugin versions"]


def test_costs_are_means_and_peaks_over_finished_seeds(make_bench: Make, make_record: Make) -> None:
    stage = {"name": "tune", "flops": 2e11, "seconds": 5.0}
    one = make_record(
        "a", 0, wall_seconds=10.0, peak_memory_bytes=5, training_bytes=4, audit_ratio=0.99, stages=[stage]
    )
    two = make_record("a", 1, wall_seconds=30.0, peak_memory_bytes=9, audit_ratio=1.001, stages=[stage])
    one["flops_by_role_phase"], two["flops_by_role_phase"] = {"policy/train": 4.0}, {"critic/train": 2.0}
    a = row_of(build(make_bench(seeds=2), [make_record("start"), one, two]), "a")
    assert (a["wall_seconds"], a["peak_memory_bytes"], a["audit_ratio"]) == (20.0, 9.0, 0.99)
    assert a["training_bytes"] == 25_000_000.0
    # the parts of a mean sum to the mean of the sums: (4 + 2) / 2 = 2 + 1
    assert a["flops_by_role_phase"] == {"critic/train": 1.0, "policy/train": 2.0}
    assert a["stages"] == [{"name": "tune", "flops": 2e11, "seconds": 5.0, "share": pytest.approx(0.2)}]


def test_a_variant_of_the_competitor_is_not_taken_for_it(make_bench: Make, make_record: Make) -> None:
    records = [make_record("start"), make_record("tune", gold=0.6), make_record("a", gold=0.9)]
    records.append(make_record("tune lr=1", gold=0.8, algorithm="tune"))
    board = build(make_bench(seeds=1), records)
    assert board["sft_row"] == "tune"
    assert row_of(board, "a")["gold_delta_sft"]["mean"] == pytest.approx(0.3)


def test_without_a_start_there_is_no_headline_and_a_note(make_bench: Make, make_record: Make) -> None:
    for start in ([], [make_record("start", status="failed")]):
        board = build(make_bench(seeds=1), [make_record("a"), *start])
        assert row_of(board, "a")["headline"]["mean"] is None
        assert "No score of `start` at seed 0: no differences to it there." in board["conditional_notes"]


def test_no_headroom_is_no_headline(make_bench: Make, make_record: Make) -> None:
    board = build(make_bench(seeds=1), [make_record("start", gold=1.0), make_record("a", gold=1.0)])
    assert row_of(board, "a")["headline"]["n"] == 0


def test_cells_of_two_machines_are_noted(make_bench: Make, make_record: Make) -> None:
    records = [make_record("start"), make_record("a", environment={"torch": "2.14.0"})]
    notes = build(make_bench(seeds=1), records)["conditional_notes"]
    assert "Cells ran under different torch (2.13.0, 2.14.0): weight hashes are not comparable." in notes


def test_a_row_without_a_score_of_one_task_has_no_capability(make_bench: Make, make_record: Make) -> None:
    known = {"score": 0.5, "stderr": None, "chance": None, "n": 100}
    tasks = {"facts": known, "sums": known | {"score": None}}
    a = row_of(build(make_bench(seeds=1), [make_record("start"), make_record("a", tasks=tasks)]), "a")
    assert (a["capability"]["n"], a["tasks"]["facts"]["mean"]) == (0, 0.5)


def test_a_perplexity_is_shown_and_is_no_capability(make_bench: Make, make_record: Make) -> None:
    facts = {"score": 0.5, "stderr": None, "chance": 0.0, "n": 100, "is_share": True}
    tasks = {"facts": facts, "perplexity": facts | {"score": 20.0, "is_share": False}}
    a = row_of(build(make_bench(seeds=1), [make_record("start"), make_record("a", tasks=tasks)]), "a")
    assert a["capability"]["mean"] == 0.5  # facts alone; with the perplexity it would be 10.25
    assert a["tasks"]["perplexity"]["mean"] == 20.0


def test_one_rule_makes_the_headline_of_all_rows(make_bench: Make, make_record: Make) -> None:
    records = [make_record("start"), make_record("a"), make_record("b", gold_best=None)]
    assert build(make_bench(seeds=1), records)["headline"] == "win_start"


def test_a_reference_row_is_never_flagged_for_its_budget_nor_for_no_divergence(
    make_bench: Make, make_record: Make
) -> None:
    start = make_record("start", flops_used=0.0, kl_start=0.0)
    assert row_of(build(make_bench(seeds=1), [start, make_record("a")]), "start")["flags"] == []


def test_answers_to_read_are_a_few_of_the_first_finished_seed(make_bench: Make, make_record: Make) -> None:
    item = {"prompt": "say hi", "response": "", "gold": 0.5, "proxy": None, "gold_start": None}
    seeds = {seed: [item | {"response": f"{seed}-{i}"} for i in range(30)] for seed in (1, 2)}
    records = [make_record("a", seed, items=items) for seed, items in seeds.items()]
    records += [make_record("start"), make_record("a", 0, status="failed")]
    a = row_of(build(make_bench(seeds=3), records), "a")
    assert [one["response"] for one in a["samples"]] == [f"1-{i}" for i in range(24)]


def test_points_of_unfinished_runs_are_averaged_by_share_of_the_budget(make_bench: Make, make_record: Make) -> None:
    point = {"flops": 1e11, "proxy": None, "kl_start": 1.0, "length": 20.0}
    golds = {0: (0.5, 0.7), 1: (0.6, 0.9)}
    curves = {
        s: [point | {"fraction": f, "gold": g} for f, g in zip((0.25, 0.5), golds[s], strict=True)] for s in golds
    }
    records = [make_record("start"), *(make_record("a", seed, curve=curve) for seed, curve in curves.items())]
    curve = row_of(build(make_bench(seeds=2), records), "a")["curve"]
    assert [(one["fraction"], one["gold"], one["proxy"]) for one in curve] == [
        (0.25, pytest.approx(0.55), None),
        (0.5, pytest.approx(0.8), None),
    ]


@pytest.mark.parametrize(("seeds", "gold", "said"), [(1, True, False), (3, False, False), (3, True, True)])
def test_that_controls_gain_nothing_is_said_only_where_an_interval_shows_it(
    make_bench: Make, make_record: Make, seeds: int, gold: bool, said: bool
) -> None:
    golds = (0.5, 0.45, 0.55) if gold else (None,) * 3
    records = [make_record("start", seed, gold=golds[0]) for seed in range(seeds)]
    records += [make_record("a-random", seed, gold=golds[seed], control="random") for seed in range(seeds)]
    notes = build(make_bench(seeds=seeds), records)["conditional_notes"]
    assert any("should gain nothing by gold" in note for note in notes) == said


def test_a_row_that_failed_once_and_has_seeds_to_come_is_unfinished(make_bench: Make, make_record: Make) -> None:
    failed = {"status": "failed", "scores": None, "items": [], "weights_sha256": None, "error": "out of memory"}
    records = [make_record("start", seed) for seed in range(3)] + [make_record("a", 0) | failed]
    row = row_of(build(make_bench(seeds=3), records), "a")
    assert (row["status"], row["seeds_ok"]) == ("unfinished", 0)


def test_a_row_shows_the_settings_that_all_its_trained_seeds_share(make_bench: Make, make_record: Make) -> None:
    trained = [{"beta": 0.1, "rate": 1e-4}, {"beta": 0.1, "rate": 2e-4}]
    records = [make_record("dpo", seed, all_settings=one) for seed, one in enumerate(trained)]
    records += [make_record("dpo", 2, status="failed", all_settings={}), make_record("ppo", 0)]
    rows = {row["row"]: row for row in build(make_bench(), records)["rows"]}
    assert rows["dpo"]["all_settings"] == {"beta": 0.1}
    assert "all_settings" not in rows["ppo"]
