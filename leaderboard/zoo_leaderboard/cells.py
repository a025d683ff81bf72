"""From records to cells: one row and seed, with its differences to other rows of the same seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from zoo_leaderboard.schema import Record
from zoo_leaderboard.scores import ScoreName, Scores
from zoo_leaderboard.statistics import finite

START = "start"
"""Label of the reference row that holds the checkpoint after the shared stage."""

Headline = Literal["headroom", "win_start"]
"""What ranks the rows: the share of `start`'s headroom that was gained, or the win rate against `start`."""


@dataclass(frozen=True)
class Cell:
    """One record with what can only be said beside the records of the same seed; None where unknown."""

    record: Record
    headline: float | None = None
    gold_delta_start: float | None = None
    gold_delta_sft: float | None = None
    capability: float | None = None
    capability_delta_start: float | None = None

    def task_delta(self, name: str, start: "Cell | None") -> float | None:
        """Return the task's score minus that of `start` at the same seed."""
        return difference(task_score(self.record, name), task_score(start.record, name) if start else None)


def choose_headline(records: Sequence[Record]) -> Headline | None:
    """Return what ranks a board: one rule for all rows; None where there is no gold."""
    with_gold = [record for record in records if score(record, "gold") is not None]
    if not with_gold:
        return None
    return "win_start" if any(score(record, "gold_best") is None for record in with_gold) else "headroom"


def sft_row(records: Sequence[Record]) -> str | None:
    """Return the label of the row that spends the whole budget on the recipe that made `start`.

    Of several variants the one labelled by the algorithm's own name is meant, else the first by label.
    """
    makers = {record["algorithm"] for record in records if record["row"] == START} - {None}
    competitors = (
        record for record in records if record["kind"] == "algorithm" and record.get("budget_share", 1.0) == 1
    )
    rows = {record["row"] for record in competitors if record["algorithm"] in makers}
    return min(rows, key=lambda row: (row not in makers, row), default=None)


def cells(records: Sequence[Record]) -> list[Cell]:
    """Return a cell for each record, in the same order."""
    rule, competitor = choose_headline(records), sft_row(records)
    known = {(record["row"], record["seed"]): record for record in records}
    return [
        _cell(
            record, known.get((start_of(record), record["seed"])), known.get((competitor or "", record["seed"])), rule
        )
        for record in records
    ]


def start_of(record: Record) -> str:
    """Return the label of the row that a record's row started from."""
    return record.get("start", START)


def _cell(record: Record, start: Record | None, sft: Record | None, rule: Headline | None) -> Cell:
    return Cell(
        record=record,
        headline=_headline(record, start, rule),
        gold_delta_start=difference(score(record, "gold"), score(start, "gold")),
        gold_delta_sft=difference(score(record, "gold"), score(sft, "gold")),
        capability=capability(record),
        capability_delta_start=difference(capability(record), capability(start)),
    )


def _headline(record: Record, start: Record | None, rule: Headline | None) -> float | None:
    """Return (gold - gold of start) / (best gold - gold of start), or the win rate, or None."""
    if rule != "headroom":
        return score(record, "win_start") if rule else None
    gain = difference(score(record, "gold"), score(start, "gold"))
    headroom = difference(score(record, "gold_best"), score(start, "gold"))
    return gain / headroom if gain is not None and headroom is not None and headroom > 0 else None


def score(record: Record | None, name: ScoreName) -> float | None:
    """Return one score of a record, or None where there is no such record, score or finite number."""
    scores: Scores | None = record["scores"] if record else None
    return finite(scores.get(name)) if scores else None


def task_score(record: Record | None, name: str) -> float | None:
    """Return the score of one task, or None."""
    scores = record["scores"] if record else None
    return finite(scores["tasks"][name]["score"]) if scores and name in scores["tasks"] else None


def capability(record: Record | None) -> float | None:
    """Return the mean over shares of right answers of (score - chance) / (1 - chance); None if a score is missing."""
    scores = record["scores"] if record else None
    if not scores or not scores["tasks"]:
        return None
    shares_of = {name: task for name, task in scores["tasks"].items() if task.get("is_share", True)}
    chances = {name: task["chance"] or 0.0 for name, task in shares_of.items()}
    known = {name: value for name in chances if (value := task_score(record, name)) is not None}
    shares = [(value - chances[name]) / (1 - chances[name]) for name, value in known.items()]
    return sum(shares) / len(shares) if shares and len(shares) == len(chances) else None


def difference(first: float | None, second: float | None) -> float | None:
    """Return `first - second`, or None where one is unknown."""
    return None if first is None or second is None else first - second
