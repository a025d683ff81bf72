"""One training, or one scoring, without a board: `zoo train` and `zoo eval`."""

import tempfile
from pathlib import Path

from zoo_leaderboard.scores import Scores

from zoo_core.errors import ZooError
from zoo_harness.bench import Display
from zoo_harness.executors import local, scheduler
from zoo_harness.executors.launched import Launched
from zoo_harness.job import Job, Outcome
from zoo_harness.model_folder import put
from zoo_harness.payloads import ToScore
from zoo_harness.planning.pipeline import algorithm_plugins
from zoo_harness.planning.plan import Plan
from zoo_harness.prepare import forget_failures, workers_of
from zoo_harness.results import scored
from zoo_harness.reuse import adopt
from zoo_harness.spec.schema import Spec


def train_one(plan: Plan, seed: int, display: Display, launch: str | None = None, model: Path | None = None) -> Path:
    """Train the plan's first row with one seed, with the stages it stands on; return the model's directory.

    With `launch`, the words before the command of a launcher's processes, several processes share each training. With
    `model`, the model is copied to that folder, too.
    """
    jobs = plan.jobs(scored=False)
    cell = next(job for job in jobs if job.row == plan.pipeline.rows[0].name and job.seed == seed)
    wanted = [job for job in jobs if job.identity in cell.needs or job is cell]
    needed = {need for job in wanted for need in job.needs}
    wanted = [job for job in jobs if job in wanted or job.identity in needed]
    workers = 1 if launch else workers_of(plan)
    display.planned(plan, wanted, workers)
    failures: list[Outcome] = []

    def finished(job: Job, outcome: Outcome) -> None:
        display.finished(job, outcome)
        if outcome.status != "ok":
            failures.append(outcome)

    adopt(plan, wanted)
    forget_failures(wanted, retry=True)
    if launch:
        scheduler.run(Launched(launch), wanted, finished, workers, display.watch)
    else:
        local.run(wanted, finished, workers, display.watch)
    if failures:
        raise ZooError(f"{failures[0].error} The log is {cell.directory / 'log.txt'}.")
    final = cell.directory / "final"
    if model is not None:
        put(final, model)
    return model or final


def score_one(spec: Spec, model: Path, seed: int) -> Scores:
    """Score a model directory in a process of its own; nothing is kept."""
    with tempfile.TemporaryDirectory() as folder:
        payload = ToScore(
            spec=spec.model_copy(update={"reward": None}),
            weights=model.resolve(),
            algorithm_plugins=algorithm_plugins(),
        )
        job = Job(
            kind=payload.kind,
            title="score",
            row="model",
            seed=seed,
            directory=Path(folder),
            identity="eval",
            payload=payload.to_json(),
        )
        outcomes: list[Outcome] = []
        local.run([job], lambda _, outcome: outcomes.append(outcome), workers=1)
        found = scored(job)
        if found is None:
            raise ZooError(outcomes[0].error)
        return found["scores"]
