"""What a search leaves: every point, what it was worth, who won, in which code. A pure function of what was found."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from rich.table import Table
from zoo_leaderboard.columns import Column, number
from zoo_leaderboard.schema import UNIMPORTANT, Environment
from zoo_leaderboard.terminal import fitted

from zoo_core.records import Algorithm, Choice, Range, Space
from zoo_core.registry.plugins import plugins
from zoo_harness.planning.identity import code_of_job, commit_of
from zoo_harness.spec.schema import Spec
from zoo_harness.tuning.points import DEFAULTS, Point, Settings
from zoo_harness.tuning.rounds import SFT_ROW
from zoo_harness.tuning.worth import By, Tried, all_miss, as_good_as, best_first, missing_their_objective, worth

SCHEMA_VERSION = 1
EDGE = 1 / 16
"""A number within this part of its range from an end is called at the edge."""


@dataclass(frozen=True)
class Search:
    """A search that has ended."""

    algorithm: Algorithm
    spec: Spec
    space: Space
    fixed: Settings
    """Settings of every point, which were not searched."""
    present: Settings
    """The present defaults of the searched settings."""
    points: Sequence[Point]
    """The present defaults first."""
    first: Sequence[Tried]
    second: Sequence[Tried]
    budgets: tuple[float, float]
    """FLOPs of a row in the first and in the second round, stages included."""
    environment: Environment
    by: By
    """What the winner is chosen by."""
    name: str
    """What the search is called: the algorithm's name, or "stage NAME"."""

    def winner(self, by: By | None = None) -> Point:
        """The best point of the second round; of recipes as good as it the present one, or that which moves least.

        The present defaults stay where every point somewhere missed its own objective: none of them is that method.
        A recipe is what everything starts from, and losses of many recipes differ by less than seeds do. So the present
        one stays unless it is beaten, and a higher learning rate, which forgets more, has to be worth it.
        """
        values = worth(self.second, by or self.by)
        finalists = [point for point in self.points if point.row in values]
        if all_miss(self.second, by or self.by):
            return next(point for point in finalists if point.row == DEFAULTS)
        best = best_first(finalists, values, missing_their_objective(self.second))[0]
        if (by or self.by) != "loss" or "learning_rate" not in self.space:
            return best
        equal = as_good_as(best.row, self.second)
        equals = [point for point in finalists if point.row in equal]
        return next((point for point in equals if point.row == DEFAULTS), min(equals, key=self._rate))

    def _rate(self, point: Point) -> float:
        rate = self.settings(point)["learning_rate"]
        return float(rate) if isinstance(rate, int | float) else math.inf

    def settings(self, point: Point) -> Settings:
        """The searched settings of a point."""
        return dict(self.present if point.row == DEFAULTS else point.settings)

    def beat_sft(self) -> int | None:
        """How many points of the first round ended above `sft` of the same budget; None where it was no row."""
        values = worth(self.first, self.by)
        sft = values.get(SFT_ROW)
        if sft is None:
            return None
        mine = [values.get(point.row) for point in self.points[1:]]
        return sum(value is not None and value > sft for value in mine)

    def at_edge(self, point: Point) -> list[str]:
        """The settings of a point that lie at the end of their range: it may be too narrow."""
        settings = self.settings(point)
        return [name for name, values in self.space.items() if is_at_edge(values, settings[name])]

    def in_words(self) -> list[str]:
        """What came out, for people."""
        name, winner = self.name, self.winner()
        settings = self.settings(winner)
        if all_miss(self.second, self.by):
            lines = [f"{name}: the present defaults stay; all that were tried missed their own objective somewhere."]
        elif winner.row == DEFAULTS:
            lines = [f"{name}: the present defaults are the best; no point of the search was better."]
        else:
            changes = [f"{key} {self.present[key]} -> {value}" for key, value in settings.items()]
            lines = [f"{name}: {winner.row} is the best by {self.by}: {', '.join(changes)}"]
        if edges := self.at_edge(winner):
            lines.append(f"{name}: {', '.join(edges)} lies at the edge of its space; widen it and search again.")
        proxy = self.winner("proxy")
        if self.by == "gold" and proxy != winner:
            lines.append(f"{name}: by proxy {proxy.row} would be chosen: {self.settings(proxy)}")
        if (beat := self.beat_sft()) is not None:
            lines.append(
                f"{name}: {beat} of {len(self.points) - 1} points ended above sft at the first round's budget."
            )
        return lines

    def to_json(self) -> dict[str, object]:
        """The log. The same search has the same log: no times are in it."""
        owner = plugins().owner("zoo_algorithms", self.algorithm.name)
        winner, by_proxy = self.winner(), self.winner("proxy") if self.by == "gold" else None
        return {
            "schema_version": SCHEMA_VERSION,
            "search": self.name,
            "algorithm": self.algorithm.name,
            "plugin": f"{owner.distribution} {owner.version}",
            "commit": commit_of(owner.module),
            "code": code_of_job("train", self.algorithm, self.spec.rollout_engine),
            "environment": self.environment,
            "spec": self.spec.model_dump(mode="json", exclude=UNIMPORTANT - {"preset"}),
            "space": {name: dataclasses.asdict(values) for name, values in self.space.items()},
            "rounds": [
                {"budget": budget, "found": sorted(found, key=lambda one: (one["row"], one["world"], one["seed"]))}
                for budget, found in zip(self.budgets, (self.first, self.second), strict=True)
            ],
            "by": self.by,
            "fixed": self.fixed,
            "points": {point.row: self.settings(point) for point in self.points},
            "beat_sft": self.beat_sft(),
            "winner": {"row": winner.row, "settings": self.settings(winner), "at_edge": self.at_edge(winner)},
            "winner_by_proxy": by_proxy and {"row": by_proxy.row, "settings": self.settings(by_proxy)},
        }


INSTEAD = "give a wider terminal, or read the log"


def _setting(search: Search, name: str, point: Point) -> str:
    return str(search.settings(point)[name])


def search_table(search: Search, room: int) -> Table:
    """Every point: what it was worth in both rounds, above `start`, and its settings."""
    first, second = worth(search.first, search.by), worth(search.second, search.by)
    columns = [
        Column("point", lambda point: point.row, left=True),
        *(Column(name, partial(_setting, search, name)) for name in search.space),
        Column("first", lambda point: number(first.get(point.row), 3, signed=True)),
        Column("second", lambda point: number(second.get(point.row), 3, signed=True)),
    ]
    ordered = best_first(search.points, second | {row: None for row in first if row not in second})
    what = "loss on unseen rows, negative" if search.by == "loss" else f"{search.by} of dev answers above start"
    title = f"{search.name}: {what}, in the first round and in the second"
    return fitted(columns, [ordered], room, title=title, dispensable=(), instead=INSTEAD)


def is_at_edge(values: Range | Choice, value: object) -> bool:
    """Whether a value is near an end of its range, or an end of three numbers or more in a row to choose from."""
    if isinstance(values, Choice):
        ordered = [one for one in values.values if isinstance(one, int | float)]
        return len(ordered) == len(values.values) > 2 and value in (min(ordered), max(ordered))
    if not isinstance(value, int | float):
        return False
    low, high, at = map(math.log, (values.low, values.high, value)) if values.log else (values.low, values.high, value)
    return not EDGE <= (at - low) / (high - low) <= 1 - EDGE
