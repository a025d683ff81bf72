"""From a plan and its records to the board: a plain dict that every output is rendered from."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

from zoo_leaderboard.agreement import accuracies, agreement_notes, is_too_weak
from zoo_leaderboard.answer import answer
from zoo_leaderboard.budgets import by_budget
from zoo_leaderboard.cells import START, Cell, Headline, cells, choose_headline, sft_row, start_of
from zoo_leaderboard.ranks import (
    SEEDS_TO_PUBLISH,
    SEEDS_TO_RANK,
    Range,
    compare,
    minimum_detectable_difference,
    ranges,
)
from zoo_leaderboard.rows import build_row, planned_row
from zoo_leaderboard.schema import IMITATES_CHOSEN, SCHEMA_VERSION, Bench, Control, Record, Tier
from zoo_leaderboard.scores import AVERAGED
from zoo_leaderboard.slices import with_prompts_won
from zoo_leaderboard.statistics import rounded, share
from zoo_leaderboard.verdicts import BLOCKS, RANKED

LEARNED_FROM: Mapping[Control, str] = {
    "length": "the length of answers alone",
    "random": "noise",
    "shuffled": "pairs half of which are wrong",
}
"""What a control learned from, in words."""


Board = dict[str, Any]
"""A board as JSON: header, rows, pairs and notes."""


def build(bench: Bench, records: Sequence[Record]) -> Board:
    """Return the board of a bench; a pure function of the plan and the records, in any order, on any processor.

    Rows are grouped by status and ordered by headline (by proxy where there is none); `pairs` compares
    the ranked rows of every block.
    """
    known = sorted(cells(records), key=lambda cell: (cell.record["row"], cell.record["seed"]))
    rows = _rows(bench, known)
    values = {row["row"]: _headlines(row["row"], known) for row in rows if row["status"] in RANKED}
    if not any(values.values()):
        values = {}
    agreement = accuracies(records)
    may_rank = bench["seeds"] >= SEEDS_TO_RANK and not is_too_weak(bench, agreement)
    pairs = list(with_prompts_won(compare(values, test=may_rank), records))
    headline = choose_headline(records)
    if headline == "win_start":
        rows = [row | {"headline": share(row["headline"])} for row in rows]
    board: Board = {
        "schema_version": SCHEMA_VERSION,
        **{name: bench[name] for name in ("bench_id", "name", "preset", "seeds", "base", "command", "tasks")},
        "budget": bench["flops_budget"],
        "headline": headline,
        "sft_row": sft_row(records),
        "agreement": agreement,
        "scores": list(AVERAGED),
        "conditional_notes": [*_notes(bench, records, rows, headline), *agreement_notes(bench, agreement)],
        "rows": _with_ranks(rows, pairs) if may_rank and values else rows,
        "pairs": pairs,
        "budgets": by_budget(rows, records),
        "minimum_detectable_difference": minimum_detectable_difference(values),
        "commit": bench.get("commit"),
        "environment": bench.get("environment"),
    }
    board = rounded(board)
    return board | {"answer": answer(board)}


def _rows(bench: Bench, known: Sequence[Cell]) -> list[dict[str, Any]]:
    by_row: dict[str, list[Cell]] = {}
    for cell in known:
        by_row.setdefault(cell.record["row"], []).append(cell)
    starts = {(cell.record["row"], cell.record["seed"]): cell for cell in known}
    rows = [build_row(bench, group, starts) for group in by_row.values()]
    rows += [planned_row(bench, plan) for plan in bench["algorithms"] if plan["row"] not in by_row]
    return sorted(_with_worst_case(rows), key=_order)


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Sort by block, then by headline, then by proxy (the only order without a gold), then by name."""
    means = [rounded(row[name]["mean"]) for name in ("headline", "proxy")]
    return BLOCKS.index(row["status"]), *((mean is None, -(mean or 0.0)) for mean in means), row["row"]


def _headlines(row: str, known: Iterable[Cell]) -> dict[int, float]:
    mine = (cell for cell in known if cell.record["row"] == row and cell.record["status"] == "ok")
    return {cell.record["seed"]: cell.headline for cell in mine if cell.headline is not None}


def _with_ranks(rows: Sequence[dict[str, Any]], pairs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found: dict[str, Range] = {}
    for status in RANKED:
        block = [row["row"] for row in rows if row["status"] == status and row["headline"]["n"] >= SEEDS_TO_RANK]
        found |= ranges(block, pairs)
    unranked = Range(None, None)
    return [row | found.get(row["row"], unranked)._asdict() for row in rows]


def _with_worst_case(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add `headline_worst_case`: a failed seed counts as that seed's worst algorithm; null if none failed."""
    worst: dict[int, float] = {}
    for row in rows:
        for seed in row["by_seed"]:
            if row["kind"] == "algorithm" and row["budget_share"] == 1 and seed["headline"] is not None:
                worst[seed["seed"]] = min(seed["headline"], worst.get(seed["seed"], seed["headline"]))
    return [
        row | {"headline_worst_case": _worst_case(row, worst) if row["budget_share"] == 1 else None} for row in rows
    ]


def _worst_case(row: Mapping[str, Any], worst: Mapping[int, float]) -> float | None:
    values = [worst.get(seed["seed"]) if seed["status"] == "failed" else seed["headline"] for seed in row["by_seed"]]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if row["errors"] and len(known) == len(values) else None


def _notes(
    bench: Bench, records: Sequence[Record], rows: Sequence[Mapping[str, Any]], headline: Headline | None
) -> Iterator[str]:
    """Yield what a reader has to know before reading a number."""
    seeds = bench["seeds"]
    if bench["spec"].get("demonstrations", "") is None and "demonstrations" in bench.get("data", {}):
        yield IMITATES_CHOSEN
    if headline is None:
        yield "No gold was given: rows are ordered by the training proxy, and not ranked."
    if seeds < SEEDS_TO_RANK:
        yield f"Means and intervals only: {_count(seeds, 'seed')}; ranks need {SEEDS_TO_RANK}."
    elif seeds < SEEDS_TO_PUBLISH:
        yield f"{_count(seeds, 'seed')}; {SEEDS_TO_PUBLISH} to publish."
    data = bench.get("data", {})
    if "test_prompts" in data and (seen := max(data["test_prompts"].get("overlap", []), default=0)):
        yield f"Up to {seen} test prompts of a seed are among the rows to learn from: part of a gain may be memory."
    if bench.get("grew") and seeds >= SEEDS_TO_RANK:
        yield "Rows were added or dropped after this board was first built: the correction is over all rows shown."
    if unfinished := [row["row"] for row in rows if row["status"] == "unfinished"]:
        how = "Join bundles that have the missing seeds" if bench.get("sources") else "Run the same command again"
        yield f"Unfinished, not ranked: {', '.join(unfinished)}. {how} to go on."
    started = {(record["row"], record["seed"]) for record in records if record["scores"]}
    if missing := sorted({record["seed"] for record in records if (start_of(record), record["seed"]) not in started}):
        yield f"No score of `{START}` at seed {', '.join(map(str, missing))}: no differences to it there."
    scored = [seed for row in rows for seed in row["by_seed"] if seed["gold"] is not None and seed["headline"] is None]
    if full := sorted({seed["seed"] for seed in scored if headline == "headroom"} - {*missing}):
        yield f"No headroom at seed {', '.join(map(str, full))}: `{START}` is as good as the best answer there already."
    few = [row["row"] for row in rows if row["status"] in RANKED and row["headline"]["n"] < SEEDS_TO_RANK]
    if few and seeds >= SEEDS_TO_RANK and headline is not None:
        yield f"Not ranked, with fewer than {SEEDS_TO_RANK} seeds whose score counts: {', '.join(few)}."
    yield from _file_notes(records)
    yield from _control_notes(rows)
    yield from _tier_notes(records)
    yield from _environment_notes(records)


def _file_notes(records: Sequence[Record]) -> Iterator[str]:
    """Yield which rows were given files or models beside the data of the bench, such as a teacher."""
    given = {
        f"{record['row']} was given the {setting} {value} ({record['files'][setting][:12]})"
        for record in records
        for setting, value in record["settings"].items()
        if setting in record.get("files", {})
    }
    for one in sorted(given):
        yield f"{one}: what it took to make is in no budget."


def _control_notes(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield which controls gained by gold, by their whole interval; or that none did."""
    # One seed has no interval, nor has what is not scored by gold.
    controls = [row for row in rows if row["control"] and row["gold_delta_start"]["low"] is not None]
    gained = [row for row in controls if row["gold_delta_start"]["low"] > 0]
    for row in gained:
        yield f"The control {row['row']} gains by gold, though it learned from {LEARNED_FROM[row['control']]}."
    if controls and not gained:
        names = ", ".join(row["row"] for row in controls)
        yield f"Controls, which should gain nothing by gold, do not gain beyond their intervals: {names}."


def _tier_notes(records: Sequence[Record]) -> Iterator[str]:
    """Of a board that was joined: how far each row was checked, the least of its seeds."""
    tiers = get_args(Tier)
    found: dict[str, Tier] = {}
    for record in records:
        if "tier" in record:
            found[record["row"]] = min(record["tier"], found.get(record["row"], tiers[-1]), key=tiers.index)
    for tier in tiers:
        if rows := sorted(row for row, one in found.items() if one == tier):
            yield f"{tier.capitalize()}: {', '.join(rows)}."


def _environment_notes(records: Sequence[Record]) -> Iterator[str]:
    for name in sorted({key for record in records for key in record["environment"]}):
        values = sorted({str(record["environment"].get(name)) for record in records})
        if len(values) > 1:
            yield f"Cells ran under different {name} ({', '.join(values)}): weight hashes are not comparable."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
