"""The rounds of a search: many points at a quarter of the budget on one world, then the best at all of it on several.

A round is a bench whose rows are the points: so it is audited, resumed and shared by several machines as any bench is.
Its seeds are none that a board reports, and of its scores only those on dev prompts are looked at.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from zoo_leaderboard.load import load
from zoo_leaderboard.schema import Record
from zoo_leaderboard.scores import Summary

from zoo_core.errors import BudgetError, SpecError
from zoo_core.records import Algorithm
from zoo_harness import bench
from zoo_harness.bench import Display
from zoo_harness.executors.runner import Runner
from zoo_harness.planning.estimate import filling, lacking, price_of
from zoo_harness.planning.pipeline import Pipeline
from zoo_harness.planning.plan import Plan
from zoo_harness.prepare import make_plan
from zoo_harness.probing import Waiting
from zoo_harness.spec.read import REFERENCES
from zoo_harness.spec.schema import Entry, Spec
from zoo_harness.tuning.points import Point, Settings
from zoo_harness.tuning.worth import By, Tried

FIRST_SEED = 1000
"""Boards count their seeds from 0: none of theirs is used in a search."""
PART = 0.25
"""What of the budget, stages left out, a point of the first round is given."""
DEV_PROMPTS = 128
"""Prompts at least that a point is judged by."""
SFT_ROW = "sft-as-it-is"
"""The row that says how forgiving an algorithm is, by the share of points that end above it.

It goes on with what makes `start` (SFT), by that algorithm's defaults, for as long as a point lasts.
"""


@dataclass(frozen=True)
class Rounds:
    """The two rounds of the search for an algorithm's settings."""

    algorithm: Algorithm
    spec: Spec
    """The user's, whose row of the algorithm, if there is one, holds settings that are not searched."""
    folder: Path
    workers: int | None
    runner: Runner

    @property
    def name(self) -> str:
        """What the search is called."""
        return self.algorithm.name

    @property
    def by(self) -> By:
        """What points are chosen by: the reward that algorithms see, where there is no gold."""
        return "proxy" if self.spec.gold is None else "gold"

    @property
    def fixed(self) -> Settings:
        """Settings of every point."""
        return self._own.settings

    @property
    def _own(self) -> Entry:
        """The algorithm's row in the user's spec, or one with nothing but defaults."""
        name = self.algorithm.name
        return next((entry for entry in self.spec.algorithms if entry.name == name), Entry(name=name, row=name))

    def first(self, points: Sequence[Point], waiting: Waiting) -> Plan:
        """Plan the first round: all points on the spec's own world, at a quarter of what the stages leave."""
        spec = self._of_round(self.spec, points, FIRST_SEED, 1)
        start = Pipeline.of(spec).start
        if start is not None and start.competes:
            spec = spec.model_copy(update={"algorithms": [*spec.algorithms, Entry(name=start.name, row=SFT_ROW)]})
        return make_plan(spec, self.folder / "quarter", waiting, self.runner, self.workers, _quarter)

    def second(self, points: Sequence[Point], world: str, seeds: int, waiting: Waiting) -> Plan:
        """Plan a bench of the second round: few points on a world, with seeds of their own, at the whole budget."""
        spec = self._of_round(in_world(self.spec, world), points, FIRST_SEED + 1, seeds)
        folder = self.folder / f"whole-{world.replace('/', '-')}"
        return make_plan(spec, folder, waiting, self.runner, self.workers)

    def seconds(self, plan: Plan, points: int) -> float:
        """Estimate what one point and seed takes at the whole budget, on one worker, from the plan of the first round.

        `points` are those of that round.
        """
        prices = [price_of(plan, job)["seconds"] for job in plan.jobs()]
        return sum(prices) / points / PART

    def run(self, plan: Plan, points: Sequence[Point], display: Display, command: str) -> list[Tried]:
        """Do what is not done of a round of these points; return what they were worth."""
        world, dear = world_of(plan.spec), lacking(plan)  # of settings that are searched, some are too large
        if dear and all(point.row in dear for point in points):
            raise BudgetError(f"{next(iter(dear.values()))} Give a larger --budget.")
        plan = replace(plan, pipeline=plan.pipeline.without(dear))
        bench.run(plan, display, self.workers, self.runner, command=command)
        failed = [_failed(row, world, seed, why) for row, why in dear.items() for seed in plan.spec.seed_numbers]
        return [*tried(load(plan.output)[1], world), *failed]

    def _of_round(self, spec: Spec, points: Sequence[Point], first_seed: int, seeds: int) -> Spec:
        own = self._own.model_copy(update={"budget_share": 1.0, "trials": 0})
        rows = [
            own.model_copy(update={"row": point.row, "settings": {**own.settings, **point.settings}})
            for point in points
        ]
        evaluation = spec.evaluation.model_copy(
            update={
                "dev_prompts": max(DEV_PROMPTS, spec.evaluation.dev_prompts),
                "test_prompts": 8,  # nothing is chosen by them, and 8 is the least
                "curve_prompts": 8,
                "best_of": [],
            }
        )
        return spec.model_copy(
            update={
                "name": f"tune-{own.name}",
                "algorithms": rows,
                "references": False,
                "budgets": [],
                "trials": 0,
                "seeds": seeds,
                "first_seed": first_seed,
                "tasks": [],
                "evaluation": evaluation,
                "tracker": None,
            }
        )


def _failed(row: str, world: str, seed: int, error: str) -> Tried:
    nothing = dict.fromkeys(("gold", "proxy", "temperature", "kl", "improves", "loss"))
    return cast(Tried, {"row": row, "world": world, "seed": seed, **nothing, "error": error})


def _quarter(plan: Plan) -> float:
    """FLOPs of a row that has its stages and a quarter of what is left."""
    stages, *_ = filling(plan, plan.pipeline.rows[0])
    return stages + PART * (plan.budget - stages)


def world_of(spec: Spec) -> str:
    """The world of a spec: what stands before the colon of its base; the base itself if it is of no world."""
    return spec.base.rpartition(":")[0] or spec.base


def in_world(spec: Spec, world: str) -> Spec:
    """Return a spec with everything that is of its world taken from another: `tinytown:base`, `tinytown/1:base`."""
    here = world_of(spec)
    if world == here:
        return spec
    if not spec.base.endswith(":base"):
        raise SpecError(f"--worlds {world}: {spec.base!r} is of no world; write a base such as 'tinytown:base'.")
    moved = {}
    for key in REFERENCES:
        ref = getattr(spec, key)
        if isinstance(ref, str) and ref.rpartition(":")[0] == here:
            moved[key] = f"{world}:{ref.rpartition(':')[2]}"
    return spec.model_copy(update=moved)


def tried(records: Iterable[Record], world: str) -> list[Tried]:
    """Return what each point was worth, from the records of a round; rows that are none are left out."""
    records = list(records)
    starts = {record["seed"]: _best(record) for record in records if record["row"] == "start"}
    found: list[Tried] = []
    for record in records:
        if record["flops_budget"] is None:  # base and start
            continue
        mine, start = _best(record), starts.get(record["seed"], {})
        above = {name: _above(mine.get(name), start.get(name)) for name in ("gold", "proxy")}
        scores = record["scores"]
        objective = scores.get("objective") if scores else None
        found.append(
            {
                "row": record["row"],
                "world": world,
                "seed": record["seed"],
                "gold": above["gold"],
                "proxy": above["proxy"],
                "temperature": scores["temperature"] if scores else None,
                "kl": scores["kl_start"] if scores else None,
                "improves": objective["better"] if objective else None,
                "loss": None,
                "error": record["error"],
            }
        )
    return found


def _best(record: Record) -> dict[str, float]:
    """Gold and proxy of dev answers, each at the temperature at which it is highest."""
    if record["status"] != "ok" or record["scores"] is None:
        return {}
    summaries: list[Summary] = list(record["scores"]["by_temperature"].values())
    golds, proxies = [one["gold"] for one in summaries], [one["proxy"] for one in summaries]
    found = {"gold": [one for one in golds if one is not None], "proxy": [one for one in proxies if one is not None]}
    return {name: max(values) for name, values in found.items() if values}


def _above(mine: float | None, start: float | None) -> float | None:
    return None if mine is None or start is None else mine - start
