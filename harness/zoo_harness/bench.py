"""The whole of `zoo bench`: probe, plan, jobs, records, board."""

import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import psutil
from zoo_leaderboard.board import build
from zoo_leaderboard.load import load
from zoo_leaderboard.schema import SCHEMA_VERSION
from zoo_leaderboard.write import write

from zoo_core.errors import SpecError, StorageError, ZooError
from zoo_core.storage.atomic import write_json
from zoo_harness import local, scheduler, slurm
from zoo_harness.code import code_of_job
from zoo_harness.figures import budget_of, figures
from zoo_harness.jobs import Job, Outcome, identify, read_json
from zoo_harness.launched import Launched
from zoo_harness.pipeline import Pipeline
from zoo_harness.plan import Plan, algorithm_plugins
from zoo_harness.record import record_file, record_of
from zoo_harness.runner import Runner
from zoo_harness.spec import LabelPairs, Spec

SPARE_BYTES = 200 * 2**20
"""Disk that is left free."""
HERE = Runner()


@runtime_checkable
class Display(Protocol):
    """What a bench tells about itself while it runs."""

    def planned(self, plan: Plan, jobs: Sequence[Job]) -> None:
        """The jobs are known."""

    def watch(self, running: Sequence[Job]) -> None:
        """Time goes by."""

    def finished(self, job: Job, outcome: Outcome) -> None:
        """A job ended."""


@dataclass
class Result:
    """How a bench ended."""

    board: dict[str, Any]
    output: Path
    failures: dict[str, Outcome] = field(default_factory=dict)
    """By the title of the job."""


def cache_folder() -> Path:
    """Where stages are kept for all benches of this user: $ZOO_CACHE, or ~/.cache/rlhf-zoo.

    It is made here, and a file in it is written: `StorageError` before anything is measured if that cannot be.
    """
    named = os.environ.get("ZOO_CACHE")
    try:
        folder = (Path(named) if named else Path.home() / ".cache" / "rlhf-zoo").resolve() / "stages"
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError) as error:  # there may be no home at all
        where = named or "~/.cache/rlhf-zoo"
        raise StorageError(
            f"{where}: the cache folder, where stages are kept for all benches, cannot be made or written: {error}. "
            "Name one that can be in the environment: ZOO_CACHE=/path/to/folder."
        ) from None
    return folder


def default_workers(plan: Plan) -> int:
    """One job for each core this process may use; one job for a GPU."""
    if plan.probe["environment"]["device"] != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count() or 1


def make_plan(
    spec: Spec,
    output: Path | None,
    announce: Callable[[str], None] = lambda text: None,
    runner: Runner = HERE,
) -> Plan:
    """Look everything up, measure one update of each algorithm, and return the plan; nothing is trained."""
    pipeline, cache = Pipeline.of(spec), cache_folder()
    folder = output or _free_folder(spec)
    probe = _probe(pipeline, folder, announce, runner)
    known = read_json(folder / "bench.json")
    budget = budget_of(spec, probe)
    if known and spec.budget_seconds is not None and known["budget_words"] == spec.budget:
        budget = float(known["flops_budget"])  # a time is converted once, for all cells and all continuations
    plan = Plan(pipeline, probe, budget, folder.resolve(), cache)
    if known and known["bench_id"] != plan.identity:
        if output is not None:
            raise SpecError(_differs(output, known, plan))
        return make_plan(spec, _next_folder(folder), announce, runner)
    return plan


def prepare(plan: Plan, retry: bool, command: str) -> tuple[dict[str, Any], list[Job]]:
    """Write bench.json, `command` in it as the user typed it; return it and all jobs, ready to run."""
    jobs = plan.jobs()
    _check_disk(plan, jobs)
    bench = {**bench_json(plan), "command": command}
    write_json(plan.output / "bench.json", bench)
    _forget_failures(jobs, retry)
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
    display.planned(plan, jobs)
    result = Result({}, plan.output)

    def finished(job: Job, outcome: Outcome) -> None:
        if outcome.status != "ok":
            result.failures[f"{job.title} seed {job.seed}"] = outcome
        if job.kind == "score":
            _write_record(plan, bench, jobs, job, outcome)
        display.finished(job, outcome)

    most = workers or (default_workers(plan) if runner.is_local else len(jobs))
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


def bench_json(plan: Plan) -> dict[str, Any]:
    """The plan as it is kept beside the records."""
    spec = plan.spec
    return {
        "schema_version": SCHEMA_VERSION,
        "bench_id": plan.identity,
        "name": spec.name,
        "preset": spec.preset,
        "spec": spec.model_dump(mode="json", exclude={"folder"}),
        "budget_words": spec.budget,
        "flops_budget": plan.budget,
        "seeds": spec.seeds,
        "base": plan.probe["base"],
        "tasks": spec.tasks or [],
        "algorithms": [
            {
                "row": row.name,
                "algorithm": row.algorithm.name,
                "settings": row.entry.settings,
                "kind": "reference" if row.reference else "algorithm",
            }
            for row in plan.pipeline.rows
        ],
        "data": plan.probe["data"],
        "environment": plan.probe["environment"],
    }


def _probe(pipeline: Pipeline, folder: Path, announce: Callable[[str], None], runner: Runner) -> dict[str, Any]:
    """Run the probe where cells will run, in a process of its own: this one stays small and no wrong input hurts it."""
    spec = pipeline.spec.model_dump(mode="json")
    measured = [*pipeline.stages, *(row.algorithm for row in pipeline.rows)]
    code = [code_of_job("probe", algorithm, pipeline.spec.rollout_engine) for algorithm in measured]
    directory = folder / ("probe" if runner.is_local else f"probe-{runner.executor}")
    job = Job(
        kind="probe",
        title="probe",
        directory=directory.resolve(),
        identity=identify("probe", spec, pipeline.measurements(), code, _stamps(pipeline.spec)),
        payload=pipeline.to_probe(),
    )
    found = job.result()
    if found is None:
        announce("checking the input and measuring one update of each algorithm")
        _forget_failures([job], retry=True)
        outcomes: list[Outcome] = []
        runner([job], lambda _, outcome: outcomes.append(outcome), 1, lambda running: None, folder)
        found = job.result()
        if found is None:
            outcome = outcomes[0]
            if outcome.status == "user-error":
                _remove_if_empty(directory, folder)
                raise ZooError(outcome.error)
            raise ZooError(f"the probe failed: {outcome.error}. Its log is {directory / 'log.txt'}.")
    return found


def _remove_if_empty(directory: Path, folder: Path) -> None:
    """Leave nothing behind where a wrong input ended the bench before it began."""
    shutil.rmtree(directory, ignore_errors=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _stamps(spec: Spec) -> list[tuple[str, int, int]]:
    """Size and time of the local files a spec names, so that the probe is made again when one changes."""
    pairs = spec.preferences.annotator if isinstance(spec.preferences, LabelPairs) else spec.preferences
    refs = [spec.base, spec.demonstrations, pairs, spec.prompts, spec.reward, spec.judge, spec.gold]
    refs += [entry.reward for entry in spec.algorithms] + [*(spec.tasks or [])]
    named = [Path(ref) for ref in refs if ref]
    named += [Path(ref.partition(":")[2]) for ref in refs if ref and ref.partition(":")[2]]  # as rrhf:out/cell
    # A reward `module:function` is a file beside the spec.
    named += [
        Path(spec.folder) / f"{ref.partition(':')[0].replace('.', '/')}.py" for ref in refs if ref and spec.folder
    ]
    files = [file for path in named if path.exists() for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]


def _free_folder(spec: Spec) -> Path:
    return Path("zoo-runs") / spec.name


def _next_folder(folder: Path) -> Path:
    """`zoo-runs/quick` is taken by another bench: `zoo-runs/quick-2` and so on. Nothing is overwritten."""
    stem, _, number = folder.name.rpartition("-")
    if stem and number.isdigit():
        return folder.with_name(f"{stem}-{int(number) + 1}")
    return folder.with_name(f"{folder.name}-2")


def _differs(output: Path, known: dict[str, Any], plan: Plan) -> str:
    now = bench_json(plan)
    keys = [
        key for key in ("spec", "flops_budget", "seeds", "base", "data", "environment") if known.get(key) != now[key]
    ]
    what = ", ".join(keys) or "the code of the core or of a plugin"
    return f"{output}: holds another bench (different: {what}). Give another --output, or move that folder away."


def _check_disk(plan: Plan, jobs: Sequence[Job]) -> None:
    rows = {row["row"]: row["disk_bytes"] for row in figures(plan)["rows"]}
    need = sum(rows.get(job.row, 0) for job in jobs if job.kind == "train" and job.row and job.result() is None)
    plan.output.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(plan.output).free
    if need + SPARE_BYTES > free:
        raise StorageError(
            f"{plan.output}: the bench needs about {need / 2**20:.0f} MiB on this disk and {free / 2**20:.0f} "
            "MiB are free. "
            "Make room, or give --output on another disk. Nothing was started."
        )


def _forget_failures(jobs: Sequence[Job], retry: bool) -> None:
    """Try again what failed by a user's doing or on a full disk, which may have been mended; all, if that is asked for.

    A cell that failed by its algorithm's doing is otherwise shown as it is.
    """
    for job in jobs:
        failure = job.failure()
        if failure is not None and (retry or failure["user"]):
            job.failure_file.unlink(missing_ok=True)


def _write_record(plan: Plan, bench: dict[str, Any], jobs: Sequence[Job], score: Job, outcome: Outcome) -> None:
    by_identity = {job.identity: job for job in jobs}
    row = next((row for row in plan.pipeline.rows if row.name == score.row), None)
    directory = score.payload["trained"]
    trained = next((job for job in jobs if str(job.directory) == directory), None)
    needed = trained.needs if trained and row else score.payload["stands_on"]
    stages = [by_identity[need] for need in needed]
    algorithm = row.algorithm if row else plan.pipeline.start if score.row == "start" else None
    record = record_of(bench, score, trained, stages, row, algorithm, outcome)
    write_json(record_file(plan.output, score.row, score.seed), record)


def train_one(spec: Spec, seed: int, output: Path | None, display: Display, launch: str | None = None) -> Path:
    """Train the spec's one row with one seed, with the stages it stands on; return the model's directory.

    With `launch`, the words before the command of a launcher's processes, several processes share each training.
    """
    plan = make_plan(spec, output)
    jobs = plan.jobs(scored=False)
    cell = next(job for job in jobs if job.row == spec.algorithms[0].row and job.seed == seed)
    wanted = [job for job in jobs if job.identity in cell.needs or job is cell]
    needed = {need for job in wanted for need in job.needs}
    wanted = [job for job in jobs if job in wanted or job.identity in needed]
    display.planned(plan, wanted)
    failures: list[Outcome] = []

    def finished(job: Job, outcome: Outcome) -> None:
        display.finished(job, outcome)
        if outcome.status != "ok":
            failures.append(outcome)

    _forget_failures(wanted, retry=True)
    if launch:
        scheduler.run(Launched(launch), wanted, finished, 1, display.watch)
    else:
        local.run(wanted, finished, default_workers(plan), display.watch)
    if failures:
        raise ZooError(f"{failures[0].error} The log is {cell.directory / 'log.txt'}.")
    return cell.directory / "final"


def score_one(spec: Spec, model: Path, seed: int) -> dict[str, Any]:
    """Score a model directory in a process of its own; nothing is kept."""
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            kind="score",
            title="score",
            row="model",
            seed=seed,
            directory=Path(folder),
            identity="eval",
            payload={
                "spec": spec.model_copy(update={"reward": None}).model_dump(mode="json"),
                "weights": str(model.resolve()),
                "trained": None,
                "start": None,
                "start_result": None,
                "reward": None,
                "reward_model": None,
                "judge_model": None,
                "calibration": None,
                "best_of": None,
                "algorithm_plugins": algorithm_plugins(),
            },
        )
        outcomes: list[Outcome] = []
        local.run([job], lambda _, outcome: outcomes.append(outcome), workers=1)
        result = job.result()
        if result is None:
            raise ZooError(outcomes[0].error)
        scores: dict[str, Any] = result["scores"]
        return scores
