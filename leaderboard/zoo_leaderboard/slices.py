"""Rows compared where something else is equal: at the same divergence, at the same length, on the same prompt."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np

from zoo_leaderboard.cells import score
from zoo_leaderboard.schema import Record
from zoo_leaderboard.scores import Item, Point, Summary

DIVERGENCES = (0.3, 1.0, 3.0, 10.0, 30.0)
"""KL(policy || start) at which rows are compared, in nats a response."""
WORTH_IGNORING = 1e-9
"""Golds of two answers that differ by less are a tie."""


def gold_at(divergence: float, record: Record, start: Record | None) -> float | None:
    """Return the gold, at temperature 1, that a run had when it first reached this KL to `start`, in nats a response.

    Between the points of its curve gold is linear in KL; a run begins at KL 0 with the gold of `start`. None if it
    never went so far. The points before the end are those of an unfinished run (Gao et al. 2022, figure 1).
    """
    path: list[tuple[float | None, float | None]] = [(0.0, of_temperature_1(start).get("gold"))]
    path += [(point["kl_start"], point["gold"]) for point in curve_of(record)]
    known = [(kl, gold) for kl, gold in path if kl is not None and gold is not None]
    for (kl, gold), (next_kl, next_gold) in pairwise(known):
        if kl <= divergence <= next_kl:
            return gold + (next_gold - gold) * (divergence - kl) / (next_kl - kl) if next_kl > kl else gold
    return None


def curve_of(record: Record) -> list[Point]:
    """Return the points of a run at temperature 1 in their order, its end included: gold of dev prompts there.

    The scores of the row are those of its own best temperature, and no point of this curve.
    """
    points = sorted(record["curve"], key=lambda one: one["fraction"])
    end = of_temperature_1(record)
    if not points or not end:
        return points
    last = {"fraction": 1.0, "flops": record["flops_used"], "kl_start": score(record, "kl_start")}
    return [*points, cast(Point, last | {name: end.get(name) for name in ("gold", "proxy", "length")})]


def of_temperature_1(record: Record | None) -> Summary | dict[str, None]:
    """Return what a record's answers to dev prompts at temperature 1 are worth; empty if none were sampled."""
    scores = record["scores"] if record else None
    return scores["by_temperature"].get("1", {}) if scores else {}


def gain_at_equal_length(record: Record, start: Record | None) -> float | None:
    """Return what a row gains on `start` by gold where both answers have the same number of words.

    It is the intercept of the least-squares line of the gain on the difference in length, over test prompts (as the
    length-controlled win rate of Dubois et al. 2024). None without gold, without `start`, or with fewer than 3 prompts.
    """
    of_start = {item["prompt"]: item for item in start["items"]} if start else {}
    both = [(item, of_start[item["prompt"]]) for item in record["items"] if item["prompt"] in of_start]
    known = [(mine, other) for mine, other in both if mine["gold"] is not None and other["gold"] is not None]
    if len(known) < 3:
        return None
    gain = np.array([_gold(mine) - _gold(other) for mine, other in known])
    longer = np.array([_words(mine) - _words(other) for mine, other in known], dtype=float)
    spread = longer - longer.mean()
    slope = float(spread @ gain / (spread @ spread)) if spread.any() else 0.0
    return float(gain.mean() - slope * longer.mean())


def prompts_won(a: Sequence[Record], b: Sequence[Record]) -> dict[str, int] | None:
    """Return on how many test prompts each of two rows has the better answer by gold, over all shared seeds.

    Keys: a, b, ties. None if they share no prompt with a gold.
    """
    theirs = {record["seed"]: {item["prompt"]: item for item in record["items"]} for record in b}
    found = Counter(
        _winner(_gold(item), _gold(other))
        for record in a
        for item in record["items"]
        if (other := theirs.get(record["seed"], {}).get(item["prompt"])) is not None
        and item["gold"] is not None
        and other["gold"] is not None
    )
    return {name: found[name] for name in ("a", "b", "ties")} if found else None


def with_prompts_won(pairs: Iterable[Mapping[str, Any]], records: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """Yield the pairs of a board with `prompts`: how many each of the two rows won."""
    by_row: dict[str, list[Record]] = {}
    for record in records:
        by_row.setdefault(record["row"], []).append(record)
    for pair in pairs:
        yield {**pair, "prompts": prompts_won(by_row[pair["a"]], by_row[pair["b"]])}


def _winner(gold: float, other: float) -> str:
    if abs(gold - other) < WORTH_IGNORING:
        return "ties"
    return "a" if gold > other else "b"


def _gold(item: Item) -> float:
    assert item["gold"] is not None
    return float(item["gold"])


def _words(item: Item) -> int:
    return len(item["response"].split())
