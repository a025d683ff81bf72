"""Preparing a bench: its folders, the probe, the budget; what comes out is a plan."""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
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
from zoo_harness.planning.plan import Plan
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
    """Look everything up, measure one update of each algorithm, and return the plan; nothing is trained."""
    pipeline, cache = Pipeline.of(spec), cache_folder()
    folder = output or _free_folder(spec)
    probe = _probe(pipeline, folder, announce, runner)
    known = cast(Bench | None, read_json(folder / "bench.json"))
    budget = budget_of(spec, probe)
    if known and spec.budget_seconds is not None and known.get("budget_words") == spec.budget:
        budget = float(known["flops_budget"])  # a time is converted once, for all cells and all continuations
    plan = Plan(pipeline, probe, budget, folder.resolve(), cache)
    if known and known["bench_id"] != plan.identity:
        if output is not None:
            raise SpecError(_differs(output, known, plan))
        return make_plan(spec, _next_folder(folder), announce, runner)
    return plan


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


def _free_folder(spec: Spec) -> Path:
    return Path("zoo-runs") / spec.name


def _next_folder(folder: Path) -> Path:
    """`zoo-runs/quick` is taken by another bench: `zoo-runs/quick-2` and so on. Nothing is overwritten."""
    stem, _, number = folder.name.rpartition("-")
    if stem and number.isdigit():
        return folder.with_name(f"{stem}-{int(number) + 1}")
    return folder.with_name(f"{folder.name}-2")


def _differs(output: Path, known: Mapping[str, object], plan: Plan) -> str:
    now: Mapping[str, object] = {**bench_of(plan, "")}
    keys = [
        key for key in ("spec", "flops_budget", "seeds", "base", "data", "environment") if known.get(key) != now[key]
    ]
    what = ", ".join(keys) or "the code of the core or of a plugin"
    return f"{output}: holds another bench (different: {what}). Give another --output, or move that folder away."


def forget_failures(jobs: Sequence[Job], retry: bool) -> None:
    """Try again what failed by a user's doing or on a full disk, which may have been mended; all, if that is asked for.

    A cell that failed by its algorithm's doing is otherwise shown as it is.
    """
    for job in jobs:
        failure = job.failure()
        if failure is not None and (retry or failure["user"]):
            job.failure_file.unlink(missing_ok=True)
