"""The whole of `zoo bench`: probe, plan, jobs, records, board."""

import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from zoo_leaderboard.board import Board, build
from zoo_leaderboard.load import load
from zoo_leaderboard.schema import Bench
from zoo_leaderboard.write import write

from zoo_core.errors import StorageError
from zoo_core.storage.atomic import write_json
from zoo_harness.checked import last_check
from zoo_harness.executors import slurm
from zoo_harness.executors.runner import Runner
from zoo_harness.job import Job, Outcome, read_json
from zoo_harness.payloads import ToScore
from zoo_harness.planning.estimate import figures
from zoo_harness.planning.plan import Plan
from zoo_harness.prepare import HERE, forget_failures, workers_of
from zoo_harness.record import bench_of, record_file, record_left_out, record_of
from zoo_harness.reuse import adopt, change_rows, remember

SPARE_BYTES = 200 * 2**20
"""Disk that is left free."""


@runtime_checkable
class Display(Protocol):
    """What a bench tells about itself while it runs."""

    def planned(self, plan: Plan, jobs: Sequence[Job], workers: int) -> None:
        """The jobs are known, and how many run at once."""

    def watch(self, running: Sequence[Job]) -> None:
        """Time goes by."""

    def finished(self, job: Job, outcome: Outcome) -> None:
        """A job ended."""


@dataclass
class Result:
    """How a bench ended."""

    board: Board
    output: Path
    failures: dict[str, Outcome] = field(default_factory=dict)
    """By the title of the job."""


def prepare(plan: Plan, retry: bool, command: str) -> tuple[Bench, list[Job]]:
    """Write bench.json, `command` in it as the user typed it; return it and all jobs, ready to run."""
    jobs = plan.jobs()
    _check_disk(plan, jobs)
    known = cast(Bench | None, read_json(plan.output / "bench.json"))
    bench = bench_of(plan, command)
    if known and (known.get("grew") or _rows_of(known) != _rows_of(bench)):
        bench["grew"] = True
    if known and known["bench_id"] != bench["bench_id"]:
        change_rows(plan, jobs)
    adopt(plan, jobs)
    write_json(plan.output / "bench.json", bench)
    forget_failures(jobs, retry)
    return bench, jobs


def run(
    plan: Plan,
    display: Display,
    workers: int | None = None,
    runner: Runner = HERE,
    retry: bool = False,
    command: str = "zoo bench",
) -> Result:
    """Do every job that is not done, write records as rows are scored, and the board at the end."""
    bench, jobs = prepare(plan, retry, command)
    most = workers or (workers_of(plan) if runner.is_local else len(jobs))
    display.planned(plan, jobs, most)
    result = Result({}, plan.output)

    for one in plan.pipeline.left_out:
        result.failures[one.name] = Outcome(status="failed", error=one.reason)
        for seed in plan.spec.seed_numbers:
            write_json(record_file(plan.output, one.name, seed), record_left_out(bench, one, seed))

    def finished(job: Job, outcome: Outcome) -> None:
        if outcome.status == "ok":
            remember(plan, job)
        elif not job.trial:  # a trial that fails is behind the others, and its row says so
            result.failures[f"{job.title} seed {job.seed}"] = outcome
        if job.kind == "score" and not job.trial:
            _write_record(plan, bench, jobs, job, outcome)
        display.finished(job, outcome)

    try:
        runner(jobs, finished, most, display.watch, plan.output)
    finally:
        if any((plan.output / "records").glob("*.json")):
            result.board = build(*load(plan.output))
            write(result.board, plan.output)
    return result


def emit_slurm(
    plan: Plan, arguments: Sequence[str], options: Mapping[str, str], workers: int | None, retry: bool
) -> Path:
    """Write what a SLURM cluster needs to do the bench that the user's `arguments` describe; return the script."""
    command = [*_without(arguments, ("--emit", "--option", "--workers", "--output")), "--output", str(plan.output)]
    _, jobs = prepare(plan, retry, shlex.join(["zoo", *arguments]))
    return slurm.emit(plan.spec.name, jobs, plan.output / "slurm", plan.cache.parent, command, options, workers)


def _without(arguments: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Return what a user typed without --retry and without flags that have a value: `--flag value`, `--flag=value`."""
    given = iter(arguments)
    left = []
    for argument in given:
        if argument in flags:
            next(given)
        elif argument != "--retry" and not argument.startswith(tuple(f"{flag}=" for flag in flags)):
            left.append(argument)
    return left


def _check_disk(plan: Plan, jobs: Sequence[Job]) -> None:
    rows = {row["row"]: row["disk_bytes"] for row in figures(plan)["rows"]}
    need = sum(rows.get(job.row, 0) for job in jobs if job.kind == "train" and job.row and job.result() is None)
    plan.output.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(plan.output).free
    if need + SPARE_BYTES > free:
        raise StorageError(
            f"{plan.output}: the bench needs about {need / 2**20:.0f} MiB on this disk, and {SPARE_BYTES / 2**20:.0f} "
            f"MiB to spare, but {free / 2**20:.0f} MiB are free. Make room, or give --output on another disk. "
            "Nothing was started."
        )


def _rows_of(bench: Bench) -> list[str]:
    return sorted(row["row"] for row in bench["algorithms"])


def _write_record(plan: Plan, bench: Bench, jobs: Sequence[Job], score: Job, outcome: Outcome) -> None:
    by_identity = {job.identity: job for job in jobs}
    row = next((row for row in plan.pipeline.rows if row.name == score.row), None)
    payload = ToScore.of(score.payload)
    trained = next((job for job in jobs if job.directory == payload.trained), None)
    needed = trained.needs if trained and row else payload.stands_on
    stages = [by_identity[need] for need in needed]
    algorithm = row.algorithm if row else plan.pipeline.start if score.row == "start" else None
    checked = last_check(row.algorithm, plan.cache.parent) if row else None
    record = record_of(bench, score, trained, stages, row, algorithm, outcome, checked)
    write_json(record_file(plan.output, score.row, score.seed), record)
