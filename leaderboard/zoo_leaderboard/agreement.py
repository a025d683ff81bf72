"""How often gold and proxy rank pairs that they were not trained on as people did."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scipy.stats import binomtest

from zoo_leaderboard.cells import START
from zoo_leaderboard.schema import Bench, Record

WEAKEST = 0.6
"""A gold that was trained on pairs, and whose accuracy may be below this, ranks nothing."""
FROM_PAIRS = "preferences"
"""What a spec calls a gold that was trained on pairs."""


def accuracies(records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """Return accuracy, 95 % interval (Wilson), pairs, and the length-only baseline of gold and proxy: means over seeds.

    The interval is that of one seed's pairs: seeds draw largely the same ones, so more seeds do not make it narrower.
    """
    found: dict[str, dict[str, Any]] = {}
    scores = [record["scores"] for record in records if record["row"] == START]
    measured = [one.get("pair_accuracy", {}) for one in scores if one]
    for name in ("gold", "proxy"):
        seeds = [one[name] for one in measured if name in one]
        if seeds:
            accuracy, shorter = (sum(one[key] for one in seeds) / len(seeds) for key in ("accuracy", "shorter"))
            pairs = max(one["pairs"] for one in seeds)
            # Ties count one half: rounding keeps the interval that of a whole number of pairs.
            interval = binomtest(round(accuracy * pairs), pairs).proportion_ci(method="wilson")
            found[name] = {"accuracy": accuracy, "low": float(interval.low), "high": float(interval.high)}
            found[name] |= {"pairs": pairs, "shorter": shorter}
    return found


def is_too_weak(bench: Bench, found: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether gold was trained on pairs, and may agree with people too seldom to rank by."""
    return bench["spec"].get("gold") == FROM_PAIRS and "gold" in found and found["gold"]["low"] < WEAKEST


def agreement_notes(bench: Bench, found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield how often gold and proxy agree with the labels, beside the length-only baseline."""
    names = {"gold": "gold", "proxy": "the reward that rows learn from"}
    said = []
    for name, one in found.items():
        interval = f"{one['accuracy']:.0%} [{one['low']:.0%}, {one['high']:.0%}]"
        said.append(f'{names[name]} {interval} ("the shorter wins" {one["shorter"]:.0%})')
    if said:
        yield f"Agreement with the labels of pairs it was not trained on: {', '.join(said)}."
    if is_too_weak(bench, found):
        yield f"Gold may agree with people in less than {WEAKEST:.0%} of pairs: nothing is ranked by it."
