"""Laws of who wins at which budget: where curves cross, how sure that is, and that no other number of a board moves."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from zoo_leaderboard.board import build
from zoo_leaderboard.budgets import changes_of, cost_of, crossings_of, fraction, in_words
from zoo_leaderboard.bundle import pack, read_manifest
from zoo_leaderboard.merge import merge
from zoo_leaderboard.recount import of_items
from zoo_leaderboard.render import budgets_table, csv, markdown
from zoo_leaderboard.verdicts import BLOCKS, OTHER_BUDGET
from zoo_leaderboard.verify import verify

Make = Callable[..., dict[str, Any]]
SHARES = (0.25, 1.0, 4.0)


def curve(*points: tuple[float, Sequence[float]]) -> dict[float, dict[int, tuple[float, float]]]:
    """A curve of points (cost, headline by seed), without noise in the costs."""
    return {cost: {seed: (cost, value) for seed, value in enumerate(values)} for cost, values in points}


def test_a_crossing_is_where_lines_over_the_logarithm_of_the_cost_meet() -> None:
    # The means of a are .0 and .4, those of b .2 and .2: a is .2 below b at 1 FLOP and .2 above it at 100. The line
    # between reaches 0 half-way in the logarithm: at sqrt(1 * 100) = 10 FLOPs.
    a, b = curve((1.0, [0.1, -0.1]), (100.0, [0.5, 0.3])), curve((1.0, [0.2, 0.2]), (100.0, [0.2, 0.2]))
    (found,) = crossings_of(("a", a), ("b", b))
    assert (found["above"], found["below"]) == ("b", "a")
    assert found["flops"] == pytest.approx(10.0)
    # A draw of seed 0 alone has a at .1 and .5: .1 below, .3 above, a quarter of the way, at 100 ** .25. One of seed 1
    # alone has the mirror image, at 100 ** .75. Each is drawn in a quarter of all cases, more than 2.5 %.
    assert found["low"] == pytest.approx(100**0.25)
    assert found["high"] == pytest.approx(100**0.75)
    assert found["draws_with_crossing"] == 1.0
    assert crossings_of(("b", b), ("a", a)) == [found]


def test_the_knots_of_two_curves_need_not_be_at_one_cost() -> None:
    # a rises by .1 a decade from 0 at 1 FLOP; b lies at .25 from 10 to 10 000 FLOPs: a reaches it at 10 ** 2.5.
    a = curve((1.0, [0.0] * 2), (10.0, [0.1] * 2), (1000.0, [0.3] * 2))
    (found,) = crossings_of(("a", a), ("b", curve((10.0, [0.25] * 2), (1e4, [0.25] * 2))))
    assert found["flops"] == pytest.approx(10**2.5)


@pytest.mark.parametrize(
    "other",
    [
        curve((1.0, [0.1, 0.2]), (10.0, [0.4, 0.3]), (100.0, [0.6, 0.5])),
        curve((1.0, [0.2, 0.3]), (10.0, [0.5, 0.4]), (100.0, [0.7, 0.6])),
        curve((1.0, [0.2, 0.3]), (10.0, [0.4, 0.3]), (100.0, [0.7, 0.6])),
        curve((200.0, [0.0, 0.0]), (400.0, [0.9, 0.9])),
        curve((1.0, [0.9, 0.9])),
        curve(),
    ],
    ids=["equal", "parallel", "touches", "other costs", "one point", "no point"],
)
def test_curves_that_do_not_change_places_do_not_cross(other: Any) -> None:
    mine = curve((1.0, [0.1, 0.2]), (10.0, [0.4, 0.3]), (100.0, [0.6, 0.5]))
    assert crossings_of(("a", mine), ("b", other)) == []
    assert crossings_of(("b", other), ("a", mine)) == []


def test_curves_that_cross_twice_are_told_apart_by_who_passes() -> None:
    a = curve((1.0, [0.0] * 3), (100.0, [0.4] * 3), (1e4, [0.0] * 3))
    b = curve((1.0, [0.2] * 3), (1e4, [0.2] * 3))
    found = crossings_of(("a", a), ("b", b))
    assert [(one["above"], one["flops"]) for one in found] == [("b", pytest.approx(10.0)), ("a", pytest.approx(1e3))]
    assert all(one["low"] == pytest.approx(one["high"]) == pytest.approx(one["flops"]) for one in found)


def test_one_seed_gives_a_crossing_without_an_interval() -> None:
    (found,) = crossings_of(("a", curve((1.0, [0.0]), (100.0, [0.4]))), ("b", curve((1.0, [0.2]), (100.0, [0.2]))))
    assert found["flops"] == pytest.approx(10.0)
    assert found["low"] is found["high"] is found["draws_with_crossing"] is None


def test_only_seeds_that_all_points_have_count() -> None:
    a = curve((1.0, [0.0, 0.0, 5.0]), (100.0, [0.4, 0.4]))
    (found,) = crossings_of(("a", a), ("b", curve((1.0, [0.2] * 3), (100.0, [0.2] * 3))))
    assert found["flops"] == pytest.approx(10.0)


def test_the_interval_contains_the_truth() -> None:
    rng, held, tried = np.random.default_rng(7), 0, 120
    for _ in range(tried):
        luck = rng.normal(0, 0.3, 10)  # of a seed, for both: pairing takes it out
        noise = rng.normal(0, 0.05, (2, 2, 10))
        a = curve((1.0, 0.0 + luck + noise[0, 0]), (100.0, 0.4 + luck + noise[0, 1]))
        b = curve((1.0, 0.2 + luck + noise[1, 0]), (100.0, 0.2 + luck + noise[1, 1]))
        (found,) = crossings_of(("a", a), ("b", b))
        held += found["low"] <= 10.0 <= found["high"]
    # A percentile bootstrap of ten seeds is a little too narrow: about 92 % in place of 95 %, and the error is 2.5 %.
    assert held / tried > 0.85


def test_a_change_of_rank_is_said_only_where_both_differences_are_beyond_their_intervals() -> None:
    low, high, unsure = [0.1, 0.11, 0.12], [0.3, 0.31, 0.33], [0.1, 0.5, 0.3]

    def values(*series: list[float]) -> dict[float, dict[int, float]]:
        return {share: dict(enumerate(one)) for share, one in zip(SHARES, series, strict=True)}

    mine, other = ("a", values(high, unsure, low)), ("b", values(low, low, high))
    said = "At 1/4 of the budget a is above b; at 4 times the budget it is the other way round."
    assert list(changes_of(mine, other)) == list(changes_of(other, mine)) == [said]
    assert list(changes_of(("a", values(high, unsure, unsure)), other)) == []
    assert list(changes_of(("a", values(high, high, high)), ("b", values(low, low, low)))) == []


def test_shares_are_written_as_people_write_them() -> None:
    assert [fraction(share) for share in (0.25, 1 / 3, 0.3, 1, 2.5, 4)] == ["1/4", "1/3", "0.3", "1", "2.5", "4"]
    assert [in_words(share) for share in (0.5, 1, 4)] == ["1/2 of the budget", "the whole budget", "4 times the budget"]


def test_the_price_of_a_token_moves_only_what_samples(make_record: Make) -> None:
    trained = make_record("a", flops_used=10.0, flops_by_role_phase={"policy/train": 8.0, "reward/score": 2.0})
    samples = make_record("b", flops_used=10.0, flops_by_role_phase={"policy/train": 7.0, "policy/sample": 3.0})
    assert [cost_of(trained, price) for price in (1, 5, 20)] == [10.0, 10.0, 10.0]
    assert [cost_of(samples, price) for price in (1, 5, 20)] == [10.0, 22.0, 67.0]


def test_a_row_that_ends_early_would_have_ended_so_with_any_larger_budget(make_record: Make) -> None:
    early = make_record("a", stops_early="its rule", flops_used=10.0, flops_budget=40.0, flops_by_role_phase={})
    assert cost_of(early) == 40.0
    assert cost_of(early | {"stops_early": ""}) == 10.0
    assert cost_of(early | {"flops_used": None}) is None


Bench = tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]


@pytest.fixture
def grown(make_bench: Make, make_record: Make) -> Bench:
    """A plan, the records of ordinary rows, and those of the same at other shares: b passes a, and samples much."""
    ordinary = [make_record(name, seed, gold=0.2) for name in ("base", "start") for seed in range(3)]
    others = []
    for row, golds in (("tune", (0.6, 0.6, 0.6)), ("b", (0.3, 0.5, 0.9))):
        for share, gold in zip(SHARES, golds, strict=True):
            for seed in range(3):
                used = share * 1e12
                flops = {"policy/train": used, "policy/sample": 0.0}
                if row == "b":
                    flops = {"policy/train": used * 7 / 8, "policy/sample": used / 8}
                one = make_record(row, seed, gold=gold + 0.01 * seed, flops_used=used, flops_by_role_phase=flops)
                one |= {"flops_budget": used, "budget_share": share, "at_share_of": None}
                if share == 1:
                    ordinary.append(one)
                else:
                    others.append(one | {"row": f"{row}-{share:g}x", "at_share_of": row})
    return make_bench(), ordinary, others


def test_rows_at_other_budgets_change_no_number_of_the_others(grown: Bench) -> None:
    bench, ordinary, others = grown
    ordinary[-1] |= {"status": "failed", "scores": None, "items": [], "error": "out of luck"}
    before, after = build(bench, ordinary), build(bench, [*others, *ordinary])
    assert [row for row in after["rows"] if row["budget_share"] == 1] == before["rows"]
    assert {row["row"]: row["status"] for row in after["rows"] if row["budget_share"] != 1} == {
        row["row"]: OTHER_BUDGET for row in others
    }
    for key in ("pairs", "minimum_detectable_difference", "conditional_notes", "sft_row", "headline"):
        assert after[key] == before[key], key
    assert after["sft_row"] == "tune"
    assert before["budgets"] is None
    assert any(row["headline_worst_case"] is not None for row in before["rows"])


def test_a_row_at_another_budget_stands_in_a_block_that_is_not_ranked(grown: Bench) -> None:
    bench, ordinary, others = grown
    board = build(bench, [*ordinary, *others])
    order = [BLOCKS.index(row["status"]) for row in board["rows"]]
    assert order == sorted(order)
    assert all(row["rank_low"] is None for row in board["rows"] if row["budget_share"] != 1)
    assert {row["rank_low"] for row in board["rows"] if row["row"] in ("tune", "b")} == {1, 2}


def test_a_board_has_curves_crossings_at_each_price_and_changes_of_rank(grown: Bench) -> None:
    bench, ordinary, others = grown
    found = build(bench, [*ordinary, *others])["budgets"]
    assert [curve["row"] for curve in found["curves"]] == ["b", "tune"]
    assert [point["share"] for point in found["curves"][0]["points"]] == list(SHARES)
    assert [point["flops_used"] for point in found["curves"][0]["points"]] == [0.25e12, 1e12, 4e12]
    assert found["curves"][0]["points"][0]["costs"] == {"1": 0.25e12, "5": 0.375e12, "20": 0.84375e12}
    # Headlines, (gold - .2) / .8, are linear in gold: b passes .6 a quarter of the way from .5 at 1e12 to .9 at 4e12.
    (first, second) = (one for one in found["crossings"] if one["token_price"] < 20)
    assert (first["above"], first["below"], first["token_price"]) == ("tune", "b", 1)
    assert first["flops"] == pytest.approx(1e12 * 4**0.25)
    # An eighth of what b does is sampling. At a price of 5 all of b costs 1 + 4/8 times as much, and tune what it did.
    assert second["flops"] == pytest.approx(1.5e12 * 4**0.25)
    # At 20 b costs 1 + 19/8 times as much: it would pass at 4.8e12, where nobody ran tune.
    assert [one["token_price"] for one in found["crossings"]] == [1, 5]
    assert found["changes"] == ["At the whole budget tune is above b; at 4 times the budget it is the other way round."]


def test_markdown_terminal_and_csv_show_each_budget(grown: Bench) -> None:
    bench, ordinary, others = grown
    board = build(bench, [*others, *ordinary])
    text = markdown(board)
    section = text.partition("## Headroom gained by share of the budget")[2].partition("\n## ")[0]
    assert "| Row | 1/4 | 1 | 4 |" in section
    assert "At the whole budget tune is above b; at 4 times the budget" in text
    assert "| b | tune | 1.41e+12 |" in section
    assert "by share of the budget" not in markdown(build(bench, ordinary))
    lines = csv(board).splitlines()
    column = lines[0].split(",").index("budget_share")
    assert sorted(line.split(",")[column] for line in lines[1:] if line.partition("b-0.25x")[1]) == ["0.25"]
    console = Console(width=100, color_system=None)
    with console.capture() as shown:
        console.print(budgets_table(board, 100))
    assert shown.get().splitlines()[0].split() == ["Row", "1/4", "1", "4"]


def test_a_row_of_which_no_seed_ended_has_no_point_and_harms_no_other(grown: Bench) -> None:
    bench, ordinary, others = grown
    for one in others:
        if one["row"] == "tune-0.25x":
            one |= {"status": "failed", "scores": None, "items": [], "error": "does not fit"}
    board = build(bench, [*ordinary, *others])
    curve = next(curve for curve in board["budgets"]["curves"] if curve["row"] == "tune")
    assert [point["headline"]["n"] for point in curve["points"]] == [0, 3, 3]
    assert [one["token_price"] for one in board["budgets"]["crossings"]] == [1, 5]
    assert next(row for row in board["rows"] if row["row"] == "tune-0.25x")["status"] == "failed"


def test_a_bundle_with_such_rows_verifies_and_joined_bundles_keep_one_curve_each(
    make_bench: Make, make_record: Make, tmp_path: Path
) -> None:
    def bundle(name: str, rows: dict[str, float], weights: str) -> Path:
        folder = tmp_path / f"bench-{name}"
        (folder / "records").mkdir(parents=True)
        data = {name: [0, 0] for name in ("rows", "dropped", "alike", "answers", "cut")} | {"sha256": ["p0", "p1"]}
        plan = [
            {"row": row, "algorithm": "dpo", "settings": {}, "kind": "algorithm"}
            | ({"budget_share": share, "at_share_of": "dpo"} if share != 1 else {})
            for row, share in rows.items()
        ]
        bench = make_bench(seeds=2, data={"prompts": data}, algorithms=plan)
        (folder / "bench.json").write_text(json.dumps(bench))
        for seed in (0, 1):
            for row, share in {"start": 1.0, **rows}.items():
                items = [{"prompt": "hi", "response": "well then", "gold": 0.5, "proxy": 1.0, "gold_start": 0.5}]
                one = make_record(row, seed, items=items, **of_items(items), weights_sha256=weights * 8)
                one |= {"flops_used": 0.99e12, "algorithm": "start" if row == "start" else "dpo"}
                if share != 1:
                    one |= {"flops_budget": share * 1e12, "budget_share": share, "at_share_of": "dpo"}
                (folder / "records" / f"{row}-seed{seed}.json").write_text(json.dumps(one))
        pack(folder, tmp_path / name)
        assert verify(tmp_path / name).faults == []
        return tmp_path / name

    mine = bundle("mine", {"dpo": 1.0, "dpo-4x": 4.0}, "a")
    same, other = bundle("same", {"dpo-4x": 4.0, "dpo-0.25x": 0.25}, "a"), bundle("other", {"dpo-4x": 4.0}, "b")
    merge([mine, same, other], tmp_path / "joined")
    mark = read_manifest(other)["sha256"][:8]
    verdict = verify(tmp_path / "joined")
    assert verdict.faults == []
    assert verdict.board is not None
    curves = {
        curve["row"]: [point["share"] for point in curve["points"]] for curve in verdict.board["budgets"]["curves"]
    }
    assert curves == {"dpo": [0.25, 1.0, 4.0], f"dpo.{mark}": [4.0]}
