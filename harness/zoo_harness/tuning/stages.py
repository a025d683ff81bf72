"""The search for the recipe of a stage: by its loss on unseen rows, before any algorithm is trained on it.

A recipe has a length of its own and no budget, so both rounds run it whole: all points on the spec's own world, then
the best on several.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from zoo_core.errors import SpecError, ZooError
from zoo_harness.bench import Display
from zoo_harness.job import Job, Outcome, identify
from zoo_harness.payloads import HoldingOut
from zoo_harness.planning.estimate import price_of
from zoo_harness.planning.identity import code_of_job
from zoo_harness.planning.pipeline import Pipeline, Row
from zoo_harness.planning.plan import Plan
from zoo_harness.prepare import forget_failures, make_plan, workers_of
from zoo_harness.probing import Waiting
from zoo_harness.results import held_out
from zoo_harness.spec.schema import FROM_PAIRS
from zoo_harness.tuning.points import Point, Settings
from zoo_harness.tuning.rounds import FIRST_SEED, Rounds, in_world, world_of
from zoo_harness.tuning.worth import By, Tried


@dataclass(frozen=True)
class StageRounds(Rounds):
    """The two rounds of the search for the recipe by which an algorithm makes a stage."""

    def __post_init__(self) -> None:
        if self.algorithm.stage is None:
            raise SpecError(f"--stage: {self.algorithm.name} makes no stage for others; leave --stage out.")

    @property
    def name(self) -> str:
        """What the search is called."""
        return f"stage {self.algorithm.name}"

    @property
    def by(self) -> By:
        """Loss on unseen rows."""
        return "loss"

    @property
    def fixed(self) -> Settings:
        """The present recipe."""
        return Pipeline.of(self.spec).recipe(self.algorithm)

    @property
    def _place(self) -> Literal["start", "reward"]:
        """What a plan calls the stage."""
        return "reward" if self.algorithm.makes == "reward" else "start"

    def first(self, points: Sequence[Point], waiting: Waiting) -> Plan:
        """Plan the first round."""
        return self._plan(world_of(self.spec), FIRST_SEED, 1, waiting)

    def second(self, points: Sequence[Point], world: str, seeds: int, waiting: Waiting) -> Plan:
        """Plan the second round on a world."""
        return self._plan(world, FIRST_SEED + 1, seeds, waiting)

    def seconds(self, plan: Plan, points: int) -> float:
        """Estimate what one point and seed takes, on one worker."""
        stages = plan.stages(FIRST_SEED)
        return 2 * price_of(plan, stages[self._place])["seconds"]

    def run(self, plan: Plan, points: Sequence[Point], display: Display, command: str) -> list[Tried]:
        """Train the stage by each point's recipe with each seed, and measure what was not measured."""
        jobs, measured = dict[str, Job](), list[tuple[Point, Job]]()
        for point in points:
            of_point = self._with(plan, point)
            for seed in plan.spec.seed_numbers:
                stages = of_point.stages(seed)
                trained = stages[self._place]
                job = self._measure(of_point, point, trained)
                jobs |= {one.identity: one for one in stages.values() if one.identity in trained.needs}
                jobs |= {one.identity: one for one in (trained, job)}
                measured.append((point, job))
        errors: dict[str, str] = {}

        def finished(job: Job, outcome: Outcome) -> None:
            display.finished(job, outcome)
            if outcome.status != "ok":
                errors[job.identity] = outcome.error

        every = list(jobs.values())
        workers = self.workers or workers_of(plan)
        forget_failures(every, retry=False)
        display.planned(plan, every, workers)
        self.runner(every, finished, workers, display.watch, plan.output)
        if all(job.identity in errors for _, job in measured):
            raise ZooError(f"no point could be measured: {next(iter(errors.values()))}")
        return [_tried(point, job, plan, errors) for point, job in measured]

    def _plan(self, world: str, first_seed: int, seeds: int, waiting: Waiting) -> Plan:
        """Plan a bench of one row, the least that a stage can be planned for."""
        spec = in_world(self.spec, world).model_copy(update={"references": False, "budgets": []})
        rows = Pipeline.of(spec).rows
        row = next((row for row in rows if self._is_under(row)), rows[0])
        update = {
            "name": f"tune-stage-{self.algorithm.name}",
            "algorithms": [row.entry],
            "first_seed": first_seed,
            "seeds": seeds,
            "tasks": [],
            "reward": FROM_PAIRS if self._place == "reward" else spec.reward,
        }
        folder = self.folder / f"{world.replace('/', '-')}-{first_seed}"
        return make_plan(spec.model_copy(update=update), folder, waiting, self.runner, self.workers)

    def _is_under(self, row: Row) -> bool:
        """Whether a row stands on the stage."""
        needs = row.algorithm.learns_from if self._place == "reward" else (row.algorithm.starts_from,)
        return self._place in needs or self.algorithm.name in needs

    def _with(self, plan: Plan, point: Point) -> Plan:
        name = self.algorithm.name
        own = {**plan.spec.stages.get(name, {}), **point.settings}
        spec = plan.spec.model_copy(update={"stages": {**plan.spec.stages, name: own}})
        return replace(plan, pipeline=Pipeline.of(spec))

    def _measure(self, plan: Plan, point: Point, trained: Job) -> Job:
        """The job that measures what a stage's job leaves."""
        is_reward = self._place == "reward"
        final = trained.directory / "final"
        payload = HoldingOut(
            spec=plan.spec.model_copy(update={"algorithms": [], "gold": None}),
            start=None if is_reward else final,
            reward=FROM_PAIRS if is_reward else None,
            reward_model=final if is_reward else None,
        )
        rows = [plan.rows_sha256(kind, trained.seed) for kind in sorted(plan.probe["data"])]
        identity = identify("held_out", trained.identity, code_of_job("held_out"), rows)
        return Job(
            kind=payload.kind,
            title=f"loss of {point.row}",
            directory=plan.output / "held-out" / f"{point.row}-seed{trained.seed}",
            needs=(trained.identity,),
            seed=trained.seed,
            identity=identity,
            payload=payload.to_json(),
        )


def _tried(point: Point, job: Job, plan: Plan, errors: dict[str, str]) -> Tried:
    found = held_out(job)
    return {
        "row": point.row,
        "world": world_of(plan.spec),
        "seed": job.seed,
        "gold": None,
        "proxy": None,
        "temperature": None,
        "kl": None,
        "improves": None,
        "loss": found["loss"] if found else None,
        "error": errors.get(job.identity),
    }
