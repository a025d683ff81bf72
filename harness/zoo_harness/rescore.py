"""Score the weights of a published bench again, from its checkpoints: `zoo leaderboard verify BUNDLE --rescore FOLDER`.

Stages (the start, a reward model) are taken from this user's cache, or trained again. Sampling on another processor
rounds differently, so scores need only agree within the noise of the answers there.
"""

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import variance
from typing import Literal

from pydantic import ValidationError
from zoo_leaderboard.load import load
from zoo_leaderboard.schema import Environment, Record
from zoo_leaderboard.scores import AVERAGED, Scores

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
    """One row and seed that was to be scored again."""

    row: str
    seed: int
    fault: str | None = None
    """Why the two do not agree."""
    weightless: bool = False
    """Whether it was not scored, because its weights are not there."""


def rescore(bundle: Path, checkpoints: Path, waiting: Waiting, display: Display, workers: int | None) -> list[Rescored]:
    """Score every finished row of a bundle again; `checkpoints`, the folder of its bench, holds the weights.

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
        if not any(_weights(checkpoints, job).is_dir() for job in jobs if job.row):
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
        done = [
            _compared(known[job.row, job.seed], scored(job), failed.get(job.identity), here) for job in jobs if job.row
        ]
    left = sorted(known.keys() - {(one.row, one.seed) for one in done})
    return [*done, *(Rescored(row, seed, weightless=True) for row, seed in left)]


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
            weights = _weights(checkpoints, job)
            if not weights.is_dir():
                continue
            payload = payload.model_copy(update={"weights": weights.resolve(), "trained": None})
        needs = tuple(need for need in job.needs if need not in cells)
        yield job.model_copy(update={"needs": needs, "payload": payload.to_json()})


def _weights(checkpoints: Path, job: Job) -> Path:
    return checkpoints / "cells" / f"{job.row}-seed{job.seed}" / "final"


def _compared(record: Record, found: Scored | None, error: str | None, here: Environment) -> Rescored:
    return Rescored(record["row"], record["seed"], _fault(record, found, error, here))


def _fault(record: Record, found: Scored | None, error: str | None, here: Environment) -> str | None:
    if found is None:
        return f"scoring failed: {error}"
    if record["kind"] == "algorithm" and found["weights_sha256"] != record["weights_sha256"]:
        return "these are other weights than those that were published"
    same = record["environment"] == here
    again = _numbers(found["scores"])
    for name, before in _numbers(record["scores"]).items():
        allowed = SAME if same else _allowed(name, record, found)
        after = again.get(name)
        if after is None or abs(after - before) > allowed:
            return f"{name} is {'none' if after is None else f'{after:.4f}'}, and {before:.4f} was published"
    return None


def _numbers(scores: Scores | None) -> dict[str, float]:
    """Return all scores that are one number, and those of the tasks, by name."""
    if scores is None:
        return {}
    found: dict[str, float | None] = {name: scores.get(name) for name in (*AVERAGED, "gold_best")}
    found |= {f"part {name}": value for name, value in scores.get("parts", {}).items()}
    for tau, ones in scores.get("by_temperature", {}).items():
        found |= {f"{name} at temperature {tau}": one for name, one in {**ones}.items() if isinstance(one, float)}
    found |= {f"task {name}": task["score"] for name, task in scores["tasks"].items()}
    return {name: value for name, value in found.items() if value is not None and math.isfinite(value)}


def _allowed(name: str, record: Record, found: Scored) -> float:
    """The most by which a score may differ in another environment: what sampling explains, or anything at all."""
    if name in ("gold", "proxy"):
        which: Literal["gold", "proxy"] = "gold" if name == "gold" else "proxy"
        both = [
            [one for item in mine if (one := item[which]) is not None] for mine in (record["items"], found["items"])
        ]
        return ERRORS * math.sqrt(sum(variance(one) / len(one) for one in both if len(one) > 1)) + SAME
    if name.startswith("task ") and record["scores"] is not None:
        tasks = [scores["tasks"][name.removeprefix("task ")] for scores in (record["scores"], found["scores"])]
        return ERRORS * math.hypot(*(task["stderr"] or math.inf for task in tasks)) + SAME
    return math.inf
