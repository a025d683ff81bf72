"""What a board says in words: which algorithm, for this budget, how sure that is, and at what cost."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zoo_leaderboard.cells import START
from zoo_leaderboard.columns import interval, number, plain, scientific
from zoo_leaderboard.ranks import MOST_SEEDS, SEEDS_TO_RANK, more_seeds, pair_of
from zoo_leaderboard.verdicts import RANKED, TAXED

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
    finished = [row for row in board["rows"] if row["status"] in RANKED and row["headline"]["n"]]
    if not finished:
        return _none_finished(board)
    if board["seeds"] < SEEDS_TO_RANK:
        return [
            f"Too few seeds to call any two algorithms different: {board['seeds']}, and ranks need {SEEDS_TO_RANK}."
        ]
    ranked = [row for row in finished if row["status"] == "ok"] or finished
    leaders = [row for row in ranked if row["rank_low"] == 1]
    if not leaders:  # the board says why in a note: too few seeds that count, or a reward no better than chance
        return ["Nothing is ranked here; the notes say why."]
    changes = board["budgets"]["changes"] if board["budgets"] else []
    return [
        *_who_leads(board, ranked, leaders, [row for row in finished if row not in ranked]),
        *_above_sft(board, finished),
        *changes,
        *_losers(finished),
        *_costs(leaders),
        *_more_seeds(board, leaders),
    ]


def _none_finished(board: Mapping[str, Any]) -> list[str]:
    """Say that nothing is to be ranked, and the highest mean among rows that lack seeds: the others may pass it."""
    lacking = [row for row in board["rows"] if row["status"] == "unfinished"]
    if not lacking:
        return ["No algorithm ended with a score that may be ranked; rows and notes say why."]
    said, begun = ["No algorithm has finished all its seeds yet."], [row for row in lacking if row["headline"]["n"]]
    if begun:
        row = max(begun, key=lambda one: one["headline"]["mean"])
        mean = f"{interval(row['headline'])} {UNITS[board['headline']]}"
        said.append(
            f"So far {_name(row)} has the highest mean, {mean}, with {row['seeds_ok']} of {board['seeds']} seeds."
        )
    return said


def _who_leads(
    board: Mapping[str, Any], ranked: Sequence[Row], leaders: Sequence[Row], taxed: Sequence[Row]
) -> Iterator[str]:
    """Yield who leads, and how the rows compare that rank by themselves because they lose capability."""
    first, unit = leaders[0], UNITS[board["headline"]]
    where = f"With {_flops(board['budget'])} FLOPs a run on {plain(board['base']['ref'])}"
    kept = " of the rows that pay no tax on tasks" if taxed else ""
    tied = [row for row in leaders if row["headline"]["mean"] == first["headline"]["mean"]]
    has = "have" if len(tied) > 1 else "has"
    best = f"{_names(tied)} {has} the highest mean, {interval(first['headline'])} {unit}"
    if len(ranked) == 1:
        alone = (
            f"the only row that pays no tax on tasks: {_name(first)}"
            if taxed
            else f"the only row that ranks: {_name(first)}"
        )
        yield f"{where}, {alone}: {interval(first['headline'])} {unit}."
    elif len(leaders) == len(ranked):
        any_row = "none" if taxed else "no algorithm"
        yield f"{where}, {any_row}{kept} is separated from any other that could be first; {best}."
    elif len(leaders) == 1:
        others = "the others" if taxed else "all others"
        if beside := [row for row in ranked if row is not first and not _is_above(board, first["row"], row["row"])]:
            others += f" but {_names(beside)}"  # rows that share too few seeds with it are compared with nobody
        yield f"{where}, {_name(first)} is first{kept}: {interval(first['headline'])} {unit}, separated from {others}."
    else:
        none = "none of these" if taxed else "no other row"
        yield f"{where}, {_names(leaders)} may each be first{kept}: {none} is separated above them. {best}."
    if first["status"] == TAXED:
        yield "Every row that finished pays tax: it loses on tasks."
    above = [row for row in taxed if _is_above(board, row["row"], first["row"])]
    if above:
        yield f"Separated above {_name(first)}, but {_pay(above)} tax: {_means(above)}."
    beside = [row for row in taxed if row not in above and not _is_above(board, first["row"], row["row"])]
    if beside:
        yield f"Not separated from {_name(first)}, but {_pay(beside)} tax: {_means(beside)}."


def _pay(rows: Sequence[Row]) -> str:
    return "it pays" if len(rows) == 1 else "they pay"


def _means(rows: Sequence[Row]) -> str:
    said = [f"{_name(row)} {interval(row['headline'])}" for row in rows[:MOST_NAMED]]
    more = f" and {len(rows) - MOST_NAMED} more" if len(rows) > MOST_NAMED else ""
    return ", ".join(said) + more


def _above_sft(board: Mapping[str, Any], finished: Sequence[Row]) -> Iterator[str]:
    """Yield which rows, with tax or without, are better than more of the start's own recipe."""
    sft = board["sft_row"]
    if sft is None or all(row["row"] != sft for row in finished) or len(finished) == 1:
        return
    above = [row for row in finished if _is_above(board, row["row"], sft)]
    spends = f"{plain(sft)}, which spends the same budget on the start's recipe"
    yield f"Separated above {spends}: {_names(above)}." if above else f"None is separated above {spends}."


def _is_above(board: Mapping[str, Any], row: str, other: str) -> bool:
    pair = pair_of(board["pairs"], (row, other))
    return pair is not None and bool(pair["separated"]) and pair["a"] == row


def _losers(ranked: Sequence[Row]) -> Iterator[str]:
    """Yield which rows ended below `start`, by their whole interval; not all began from it."""
    below = [row for row in ranked if row["headline"]["high"] is not None and row["gold_delta_start"]["n"] > 1]
    below = [row for row in below if row["gold_delta_start"]["high"] < 0]
    if below:
        yield f"Ended below {START}: {_names(below)}."


def _costs(leaders: Sequence[Row]) -> Iterator[str]:
    """Yield which of several leaders needs least of what is scarce."""
    said = []
    for key, what, digits in (("models_resident", "models in memory", 1), ("wall_seconds", "seconds", 0)):
        known = sorted((row for row in leaders if row[key] is not None), key=lambda one: one[key])
        if len(known) > 1 and known[0][key] < CHEAPER * known[1][key]:
            row = known[0]
            said.append(f"{_name(row)} takes the fewest {what} ({number(row[key], digits)})")
    free = [row for row in leaders if row["takes_reward"] is False]
    if said and free and len(free) < len(leaders):
        said.append(f"no reward model is needed by {_names(free)}")
    if said:
        yield f"Of those that may be first, {'; '.join(said)}."


def _more_seeds(board: Mapping[str, Any], leaders: Sequence[Row]) -> Iterator[str]:
    if len(leaders) < 2:
        return
    pair = pair_of(board["pairs"], (leaders[0]["row"], leaders[1]["row"]))
    if pair is None or pair["separated"] is None:
        return
    names = f"{_name(leaders[0])} from {_name(leaders[1])}"
    looks = f"If their difference is as large as it looks, {interval({**pair, 'mean': pair['difference']})}"
    if pair["seeds_needed"] is None:
        yield f"{looks}, not even {MOST_SEEDS} seeds would separate {names}."
    else:
        yield f"{looks}, about {more_seeds(pair)} would separate {names}."


def _flops(count: float) -> str:
    return scientific(count).replace("e+", "e")


def _name(row: Row) -> str:
    return plain(row["row"])


def _names(rows: Sequence[Row]) -> str:
    names = [_name(row) for row in rows]
    if len(names) > MOST_NAMED:
        return f"{', '.join(names[:MOST_NAMED])} and {len(names) - MOST_NAMED} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
