"""How good the judges of a board are: how often they rank pairs, that they were not trained on, as people did."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scipy.stats import binomtest

from zoo_leaderboard.cells import START
from zoo_leaderboard.schema import Record

WEAKEST = 0.6
"""A judge made from pairs whose accuracy may be below this ranks nothing."""


def accuracies(records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """Return accuracy, 95 % interval (Wilson) and pairs of gold, proxy and "the shorter wins", pooled over seeds."""
    found: dict[str, dict[str, Any]] = {}
    measured = [
        record["scores"].get("pair_accuracy", {}) for record in records if record["row"] == START and record["scores"]
    ]
    for name in ("gold", "proxy", "shorter"):
        seeds = [one[name] for one in measured if name in one]
        pairs = sum(one["pairs"] for one in seeds)
        if pairs:
            right = sum(one["accuracy"] * one["pairs"] for one in seeds)
            # Ties count one half: rounding keeps the interval that of a whole number of pairs.
            interval = binomtest(round(right), pairs).proportion_ci(method="wilson")
            found[name] = {
                "accuracy": right / pairs,
                "low": float(interval.low),
                "high": float(interval.high),
                "pairs": pairs,
            }
    return found


def is_too_weak(gold: Mapping[str, Any] | None) -> bool:
    """Whether a judge agrees with people too seldom to rank by."""
    return gold is not None and gold["low"] < WEAKEST


def judge_notes(judges: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield how often each judge agrees with the labels, beside the length-only baseline."""
    names = {"gold": "the judge", "proxy": "the reward that rows learn from", "shorter": '"the shorter answer wins"'}
    said = [
        f"{names[name]} {one['accuracy']:.0%} [{one['low']:.0%}, {one['high']:.0%}]" for name, one in judges.items()
    ]
    if said:
        yield f"Agreement with the labels of unseen pairs: {', '.join(said)}."
    if is_too_weak(judges.get("gold")):
        yield f"The judge may agree with people in less than {WEAKEST:.0%} of pairs: nothing is ranked by it."
