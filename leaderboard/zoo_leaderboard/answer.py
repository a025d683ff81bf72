"""What a board says in words: which algorithm, for this budget, how sure that is, and at what cost."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zoo_leaderboard.columns import interval, number, plain, scientific
from zoo_leaderboard.ranks import SEEDS_TO_RANK, pair_of

Row = Mapping[str, Any]

UNITS = {"headroom": "of the headroom", "win_start": "of the prompts won against start"}
"""What the headline counts, by `board["headline"]`."""
CHEAPER = 0.8
"""Part of the second least that the least of something is, where it is worth saying."""
MOST_NAMED = 6
"""Names that a sentence lists before it counts them."""


def answer(board: Mapping[str, Any]) -> list[str]:
    """Return sentences: who leads, how sure that is, who lost, what the leaders cost, what would tell more."""
    if board["headline"] is None:
        return ["No gold was given: nothing here says which algorithm is better."]
    ranked = [row for row in board["rows"] if row["status"] == "ok" and row["headline"]["n"]]
    if not ranked:
        return ["No algorithm has finished all its seeds yet.", *_so_far(board)]
    if board["seeds"] < SEEDS_TO_RANK:
        return [
            f"Too few seeds to call any two algorithms different: {board['seeds']}, and ranks need {SEEDS_TO_RANK}."
        ]
    leaders = [row for row in ranked if row["rank_low"] == 1]
    if not leaders:  # the board says why in a note: the reward is no better than chance
        return ["Nothing is ranked here; the notes say why."]
    changes = board["budgets"]["changes"] if board["budgets"] else []
    return [
        *_who_leads(board, ranked, leaders),
        *changes,
        *_losers(ranked),
        *_costs(leaders),
        *_more_seeds(board, leaders),
    ]


def _so_far(board: Mapping[str, Any]) -> Iterator[str]:
    """Yield the highest mean among rows that lack seeds: the others may still pass it."""
    begun = [row for row in board["rows"] if row["status"] == "unfinished" and row["headline"]["n"]]
    if begun:
        row = max(begun, key=lambda one: one["headline"]["mean"])
        mean = f"{interval(row['headline'])} {UNITS[board['headline']]}"
        yield f"So far {_name(row)} has the highest mean, {mean}, with {row['seeds_ok']} of {board['seeds']} seeds."


def _who_leads(board: Mapping[str, Any], ranked: Sequence[Row], leaders: Sequence[Row]) -> Iterator[str]:
    first, unit = leaders[0], UNITS[board["headline"]]
    where = f"With {_flops(board['budget'])} FLOPs a run on {plain(board['base']['ref'])}"
    best = f"{_name(first)} has the highest mean, {interval(first['headline'])} {unit}"
    if len(ranked) == 1:
        yield f"{where}, {_name(first)} is alone: {interval(first['headline'])} {unit}."
    elif len(leaders) == len(ranked):
        yield f"{where}, no algorithm is separated from any other that could be first; {best}."
    elif len(leaders) == 1:
        yield f"{where}, {_name(first)} is first: {interval(first['headline'])} {unit}, separated from all others."
    else:
        yield f"{where}, {_names(leaders)} may each be first: no other row is separated above them. {best}."
    sft = board["sft_row"]
    if sft is None or _name(first) == sft or all(row["row"] != sft for row in ranked):
        return
    above = [row for row in ranked if _is_above(board, row["row"], sft)]
    spends = f"{plain(sft)}, which spends the same budget on the start's recipe"
    yield f"Separated above {spends}: {_names(above)}." if above else f"None is separated above {spends}."


def _is_above(board: Mapping[str, Any], row: str, other: str) -> bool:
    pair = pair_of(board["pairs"], (row, other))
    return pair is not None and bool(pair["separated"]) and pair["a"] == row


def _losers(ranked: Sequence[Row]) -> Iterator[str]:
    """Yield which rows ended below the checkpoint that they began from, by their whole interval."""
    below = [row for row in ranked if row["headline"]["high"] is not None and row["gold_delta_start"]["n"] > 1]
    below = [row for row in below if row["gold_delta_start"]["high"] < 0]
    if below:
        yield f"Ended below the checkpoint that they began from: {_names(below)}."


def _costs(leaders: Sequence[Row]) -> Iterator[str]:
    """Yield which of several leaders needs least of what is scarce."""
    said = []
    for key, what, digits in (("models_resident", "models in memory", 1), ("wall_seconds", "seconds", 0)):
        known = sorted((row for row in leaders if row[key] is not None), key=lambda one: one[key])
        if len(known) > 1 and known[0][key] < CHEAPER * known[1][key]:
            row = known[0]
            said.append(f"{_name(row)} takes the fewest {what} ({number(row[key], digits)})")
    free = [row for row in leaders if row["learns_from"] and "reward" not in row["learns_from"]]
    if said and free and len(free) < len(leaders):
        said.append(f"no reward model is needed by {_names(free)}")
    if said:
        yield f"Of these, {'; '.join(said)}."


def _more_seeds(board: Mapping[str, Any], leaders: Sequence[Row]) -> Iterator[str]:
    if len(leaders) < 2:
        return
    pair = pair_of(board["pairs"], (leaders[0]["row"], leaders[1]["row"]))
    if pair is None or pair["separated"] is None:
        return
    names = f"{_name(leaders[0])} from {_name(leaders[1])}"
    if pair["seeds_needed"] is None:
        yield f"What separates {names} is too little for any bench that one would run."
    else:
        yield f"To separate {names}, about {pair['seeds_needed'] - pair['n']} more seeds are needed."


def _flops(count: float) -> str:
    return scientific(count).replace("e+", "e")


def _name(row: Row) -> str:
    return plain(row["row"])


def _names(rows: Sequence[Row]) -> str:
    names = [_name(row) for row in rows]
    if len(names) > MOST_NAMED:
        return f"{', '.join(names[:MOST_NAMED])} and {len(names) - MOST_NAMED} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
