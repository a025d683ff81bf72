"""Preparing a bench: its folders, the probe, the budget; what comes out is a plan."""

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import psutil
from zoo_leaderboard.schema import Bench

from zoo_core.errors import SpecError, StorageError, ZooError
from zoo_harness.executors.runner import Runner
from zoo_harness.job import Job, Outcome, identify, read_json
from zoo_harness.planning.estimate import budget_of
from zoo_harness.planning.identity import code_of_job
from zoo_harness.planning.pipeline import Pipeline
from zoo_harness.planning.plan import UNIMPORTANT, Plan
from zoo_harness.record import bench_of
from zoo_harness.results import Probe, probe_of
from zoo_harness.spec.schema import LabelPairs, Spec

HERE = Runner()


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
    """Look everything up, measure one update of each algorithm, and return the plan; nothing is trained.

    A folder whose bench differs in its rows only goes on with this plan's rows. Without `output` the first folder of
    `zoo-runs/NAME`, `NAME-2`, `NAME-3` ... is taken that is free or holds such a bench.
    """
    pipeline, cache = Pipeline.of(spec), cache_folder()
    first = output or Path("zoo-runs") / spec.name
    probe = _probe(pipeline, first, announce, runner)
    measured, taken, folder, number = budget_of(spec, probe), "", first, 1
    while True:
        known = cast(Bench | None, read_json(folder / "bench.json"))
        budget = measured
        if known and spec.budget_seconds is not None and known.get("budget_words") == spec.budget:
            budget = float(known["flops_budget"])  # a time is converted once, for all cells and all continuations
        plan = Plan(pipeline, probe, budget, folder.resolve(), cache)
        if known is None or known.get("world_id") == plan.world_identity:
            if taken:
                announce(f"{taken}; this one is in {folder}")
            return plan
        taken = taken or f"{folder} holds another bench (different: {_difference(known, plan)})"
        if output is not None:
            raise SpecError(f"{taken}. Give another --output, or move that folder away.")
        number += 1
        folder = first.with_name(f"{first.name}-{number}")


def _probe(pipeline: Pipeline, folder: Path, announce: Callable[[str], None], runner: Runner) -> Probe:
    """Run the probe where cells will run, in a process of its own: this one stays small and no wrong input hurts it."""
    measured = [*pipeline.stages, *(row.algorithm for row in pipeline.rows)]
    code = [code_of_job("probe", algorithm, pipeline.spec.rollout_engine) for algorithm in measured]
    payload = pipeline.to_probe()
    directory = folder / ("probe" if runner.is_local else f"probe-{runner.executor}")
    job = Job(
        kind=payload.kind,
        title="probe",
        directory=directory.resolve(),
        identity=identify(payload.to_json(), code, _stamps(pipeline.spec)),
        payload=payload.to_json(),
    )
    found = probe_of(job)
    if found is None:
        announce("checking the input and measuring one update of each algorithm")
        forget_failures([job], retry=True)
        outcomes: list[Outcome] = []
        runner([job], lambda _, outcome: outcomes.append(outcome), 1, lambda running: None, folder)
        found = probe_of(job)
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
    named += [Path(ref.rpartition("#")[0]) for ref in refs if ref and "#" in ref]  # a saved data set and its split
    named += [Path(ref.partition(":")[2]) for ref in refs if ref and ref.partition(":")[2]]  # as rrhf:out/cell
    # A reward `module:function` is a file beside the spec.
    named += [
        Path(spec.folder) / f"{ref.partition(':')[0].replace('.', '/')}.py" for ref in refs if ref and spec.folder
    ]
    files = [file for path in named if path.exists() for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]


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
