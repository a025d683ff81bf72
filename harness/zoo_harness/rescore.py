"""Score the weights of a published bench again, from its checkpoints: `zoo leaderboard verify BUNDLE --rescore FOLDER`.

Stages (the start, a reward model) are taken from this user's cache, or trained again. Sampling on another processor
rounds differently, so scores need only agree within the noise of the answers there.
"""

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import variance

from pydantic import ValidationError
from zoo_leaderboard.cells import score
from zoo_leaderboard.load import load
from zoo_leaderboard.schema import Environment, Record
from zoo_leaderboard.scores import Item, ScoreName

from zoo_core.errors import StorageError
from zoo_harness.bench import Display
from zoo_harness.executors import local
from zoo_harness.job import Job, Outcome
from zoo_harness.payloads import ToScore
from zoo_harness.planning.plan import Plan
from zoo_harness.prepare import make_plan, workers_of
from zoo_harness.probing import Waiting
from zoo_harness.results import Scored, scored
from zoo_harness.spec.schema import Spec

ERRORS = 4
"""Standard errors of a difference that noise may explain where the arithmetic is another."""
SAME = 1e-6
"""Difference of two scores of the same arithmetic."""


@dataclass(frozen=True)
class Rescored:
    """One row and seed that was scored again."""

    row: str
    seed: int
    fault: str | None = None
    """Why the two do not agree."""


def rescore(bundle: Path, checkpoints: Path, waiting: Waiting, display: Display, workers: int | None) -> list[Rescored]:
    """Score every finished row of a bundle again, whose weights `checkpoints` (the folder of its bench) holds.

    Raises `StorageError` where the bundle's spec cannot be read, or no checkpoint is there.
    """
    bench, records = load(bundle)
    try:
        spec = Spec.model_validate(bench["spec"])
    except ValidationError as error:
        raise StorageError(f"{bundle / 'bench.json'}: key 'spec' cannot be read: {error.errors()[0]['msg']}") from None
    known = {(record["row"], record["seed"]): record for record in records if record["status"] == "ok"}
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan(spec, Path(folder), waiting, workers=workers)
        jobs = list(_jobs(plan, known, checkpoints))
        if not any(job.row for job in jobs):
            raise StorageError(f"{checkpoints / 'cells'} holds no weights of this bundle's rows.")
        failed: dict[str, str] = {}

        def finished(job: Job, outcome: Outcome) -> None:
            display.finished(job, outcome)
            if outcome.status != "ok":
                failed[job.identity] = outcome.error

        most = workers or workers_of(plan)
        display.planned(plan, jobs, most)
        local.run(jobs, finished, most, display.watch)
        here = plan.probe["environment"]
        return [
            _compared(known[job.row, job.seed], scored(job), failed.get(job.identity), here) for job in jobs if job.row
        ]


def _jobs(plan: Plan, known: dict[tuple[str, int], Record], checkpoints: Path) -> Iterator[Job]:
    """Yield the stages, and the scores of all rows whose weights are there; nothing of a row is trained."""
    jobs = plan.jobs()
    cells = {job.identity for job in jobs if job.kind == "train" and job.row}
    for job in jobs:
        if job.kind != "score":
            if job.identity not in cells:
                yield job
            continue
        payload = ToScore.of(job.payload)
        if job.trial or (job.row, job.seed) not in known:
            continue
        if payload.trained is not None and cells & {*job.needs}:
            weights = checkpoints / "cells" / f"{job.row}-seed{job.seed}" / "final"
            if not weights.is_dir():
                continue
            payload = payload.model_copy(update={"weights": weights.resolve(), "trained": None})
        needs = tuple(need for need in job.needs if need not in cells)
        yield job.model_copy(update={"needs": needs, "payload": payload.to_json()})


def _compared(record: Record, found: Scored | None, error: str | None, here: Environment) -> Rescored:
    if found is None:
        return Rescored(record["row"], record["seed"], f"scoring failed: {error}")
    name: ScoreName = "proxy" if score(record, "gold") is None else "gold"
    before, again = score(record, name), found["scores"][name]
    allowed = _allowed(record, found["items"], same=record["environment"] == here)
    fault = None
    if record["kind"] == "algorithm" and found["weights_sha256"] != record["weights_sha256"]:
        fault = "these are other weights than those that were published"
    elif before is not None and again is not None and abs(again - before) > allowed:
        fault = f"{name} is {again:.4f}, and {before:.4f} was published"
    return Rescored(record["row"], record["seed"], fault)


def _allowed(record: Record, items: Sequence[Item], *, same: bool) -> float:
    """The most by which two scores may differ: nothing in the same environment, else what sampling explains."""
    if same:
        return SAME
    values = [
        [value for item in mine if (value := item["gold"] if item["gold"] is not None else item["proxy"]) is not None]
        for mine in (record["items"], items)
    ]
    return ERRORS * math.sqrt(sum(variance(one) / len(one) for one in values if len(one) > 1)) + SAME
