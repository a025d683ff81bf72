"""Preparing a bench: its folders, the probe, the budget; what comes out is a plan."""

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import psutil
from zoo_leaderboard.schema import UNIMPORTANT, Bench

from zoo_core.errors import SpecError, StorageError
from zoo_harness.executors.gpus import gpus_here, jobs_at_once
from zoo_harness.executors.runner import Runner
from zoo_harness.job import Job, read_json
from zoo_harness.planning.estimate import budget_of, lacking
from zoo_harness.planning.pipeline import Pipeline
from zoo_harness.planning.plan import Plan
from zoo_harness.probing import Waiting, probed
from zoo_harness.record import bench_of
from zoo_harness.spec.schema import Spec

HERE = Runner()
SILENT = Waiting()
AS_MANY_AS_THERE_ARE = 10_000
"""Jobs at once where a queue decides how many run."""


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


def default_workers(device: str, most_bytes: int = 0) -> int:
    """One job for each core this process may use; on GPUs as many as hold `most_bytes` each, or one a GPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count() or 1
    return cores if device == "cpu" else jobs_at_once(gpus_here(), most_bytes, cores)


def workers_of(plan: Plan) -> int:
    """How many jobs of a bench this machine does at once, by the memory that its rows were seen to take."""
    memory = [cost["memory_bytes"] for cost in plan.probe["costs"].values()]
    return default_workers(plan.probe["environment"]["device"], max(memory, default=0))


def make_plan(
    spec: Spec,
    output: Path | None,
    waiting: Waiting = SILENT,
    runner: Runner = HERE,
    workers: int | None = None,
    less: Callable[[Plan], float] | None = None,
) -> Plan:
    """Look everything up, measure one update of each algorithm, and return the plan; nothing is trained.

    A folder whose bench differs in its rows only goes on with this plan's rows. Without `output` the first folder of
    `zoo-runs/NAME`, `NAME-2`, `NAME-3` ... is taken that is free or holds such a bench. `less` gives another
    budget than the spec's, from a plan at the spec's.
    """
    cache = cache_folder()
    first = output or Path("zoo-runs") / spec.name
    pipeline, probe = probed(
        Pipeline.of(spec), first, runner, lambda device: _at_once(runner, workers, device), waiting
    )
    measured, taken, folder, number = budget_of(spec, probe), "", first, 1
    if less is not None:
        measured = less(Plan(pipeline, probe, measured, first.resolve(), cache))
    while True:
        known = cast(Bench | None, read_json(folder / "bench.json"))
        budget = measured
        if known and spec.budget_seconds is not None and known.get("budget_words") == spec.budget:
            budget = float(known["flops_budget"])  # a time is converted once, for all cells and all continuations
        plan = Plan(pipeline, probe, budget, folder.resolve(), cache)
        if dear := _dear_references(plan):
            waiting.says("; ".join(f"{name} is left out: {why.rstrip('.')}" for name, why in dear.items()))
            plan = replace(plan, pipeline=pipeline.without(dear))
        if known is None or known.get("world_id") == plan.world_identity:
            if taken:
                waiting.says(f"{taken}; this one is in {folder}")
            return plan
        taken = taken or f"{folder} holds another bench (different: {_difference(known, plan)})"
        if output is not None:
            raise SpecError(f"{taken}. Give another --output, or move that folder away.")
        number += 1
        folder = first.with_name(f"{first.name}-{number}")


def _dear_references(plan: Plan) -> dict[str, str]:
    """Return the reference rows that nobody asked for and of which not one update fits in the budget, and why."""
    asked = {entry.row for entry in plan.spec.algorithms or ()}
    unasked = {row.name for row in plan.pipeline.rows if row.algorithm.reference} - asked
    return {name: why for name, why in lacking(plan).items() if name in unasked}


def _at_once(runner: Runner, workers: int | None, device: str) -> int:
    """How many processes measure at once: as many as will train, so that they are as fast as those will be."""
    return workers or (default_workers(device) if runner.is_local else AS_MANY_AS_THERE_ARE)


def _difference(known: Bench, plan: Plan) -> str:
    """Name what another bench has otherwise, the spec's keys one by one."""
    now = bench_of(plan, "")
    before, after = known["spec"], now["spec"]
    found = [key for key in sorted({*before, *after} - UNIMPORTANT) if before.get(key) != after.get(key)]
    if known["flops_budget"] != now["flops_budget"]:
        found.append("budget")
    found += [key for key in ("base", "data", "environment") if known.get(key) != now.get(key)]
    return ", ".join(found) or "the version of this program"


def forget_failures(jobs: Sequence[Job], retry: bool) -> None:
    """Try again what failed by a user's doing or on a full disk, which may have been mended; all, if that is asked for.

    A cell that failed by its algorithm's doing is otherwise shown as it is.
    """
    for job in jobs:
        failure = job.failure()
        if failure is not None and (retry or failure["user"]):
            job.failure_file.unlink(missing_ok=True)
