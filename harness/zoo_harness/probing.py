"""The jobs before all others: check the input, then measure every row and stage, each in a process of its own.

So wrong input hurts nobody, what a row holds in memory is its own, and a plugin that cannot run takes no other with it.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import JsonValue

from zoo_core.errors import PluginError, ZooError
from zoo_core.records import Algorithm
from zoo_core.registry.plugins import plugins
from zoo_harness.executors.runner import Runner
from zoo_harness.faults import Faults
from zoo_harness.job import Job, Outcome, identify
from zoo_harness.payloads import Measuring, Payload, Probing, Rehearsing
from zoo_harness.planning.identity import code_of_job
from zoo_harness.planning.pipeline import LeftOut, Pipeline, check_some_are_left
from zoo_harness.results import Checked, Probe, checked, measured, rehearsed
from zoo_harness.spec.schema import FOR_ALGORITHMS, FROM_PAIRS, Evaluation, LabelPairs, Spec

REHEARSAL = "rehearsal"
OK = Outcome(status="ok")
ANY_BENCH: dict[str, object] = {
    "algorithms": [],
    "stages": {},
    "name": "any",
    "budget": 1.0,
    "budgets": [],
    "trials": 0,
    "tracker": None,
}
"""Keys of a spec that neither the check of the input nor a measurement depends on, made alike."""
NO_UPDATE_DEPENDS_ON = {"row", "budget_share", "trials"}
"""Keys of a row that change nothing of what one of its updates costs."""
STAGE = "stage "
"""Before the name of a stage, where rows and stages are listed together."""


class Waiting:
    """What a user is told before there is a plan; this one tells nothing."""

    def says(self, text: str, jobs: int = 0) -> None:
        """Something begins, which takes so many jobs."""

    def watch(self, running: Sequence[Job]) -> None:
        """Time goes by."""


def probed(
    pipeline: Pipeline, folder: Path, runner: Runner, workers: Callable[[str], int], waiting: Waiting
) -> tuple[Pipeline, Probe]:
    """Check and measure in `folder`, by at most `workers(device)` processes at once, what was not before.

    Return the pipeline, without the rows that turned out to be unable to run, and what was found.

    Raises `ZooError` with all that is wrong with the input; `PluginError` if no row is left that can run.
    """
    place = folder.resolve() / ("probe" if runner.is_local else f"probe-{runner.executor}")

    def do(jobs: Sequence[Job], most: int) -> dict[str, Outcome]:
        outcomes = {}
        for job in jobs:
            job.failure_file.unlink(missing_ok=True)  # whatever it was, it may have been mended
        runner(jobs, lambda job, outcome: outcomes.update({job.identity: outcome}), most, waiting.watch, folder)
        return outcomes

    check = _check_job(pipeline, place)
    found = checked(check)
    if found is None:
        waiting.says("checking the input")
        outcome = do([check], 1)[check.identity]
        found = checked(check)
        if found is None:
            raise _input_error(outcome, check.directory, folder)
    jobs = _measuring_jobs(pipeline, found, place)
    missing = [job for job in {job.directory: job for job in jobs.values()}.values() if job.result() is None]
    outcomes = dict[str, Outcome]()
    if missing:
        waiting.says("measuring one update of each algorithm", len(missing))
        at_once, processes = workers(found["environment"]["device"]), 1
        outcomes = do(missing, at_once)
        while (large := _too_large(missing, outcomes)) and processes < runner.most_processes:
            processes = min(2 * processes, runner.most_processes)
            waiting.says(f"too little memory: measuring again, on {processes} GPUs together", len(large))
            found_there = do([job.model_copy(update={"processes": processes}) for job in large], at_once)
            outcomes |= {one: _unless_refused(outcomes[one], outcome) for one, outcome in found_there.items()}
    failed = {
        name: outcomes[job.identity] for name, job in jobs.items() if outcomes.get(job.identity, OK).status != "ok"
    }
    left = _sorted_out(pipeline, failed, jobs)
    rehearsal = rehearsed(jobs[REHEARSAL])
    assert rehearsal is not None
    costs = {name: one for name, job in jobs.items() if name != REHEARSAL and (one := measured(job))}
    took = {job.directory: costs[name]["seconds"] for name, job in jobs.items() if name in costs}
    probe: Probe = {
        **found,
        "costs": {name: one["cost"] for name, one in costs.items()},
        "samples": rehearsal["samples"],
        "scoring": rehearsal["scoring"],
        "seconds": found["seconds"] + rehearsal["seconds"] + sum(took.values()),
    }
    return left, probe


def _too_large(jobs: Sequence[Job], outcomes: Mapping[str, Outcome]) -> list[Job]:
    """The measurements for which there was too little memory."""
    return [job for job in jobs if job.kind == "measure" and outcomes[job.identity].memory]


def _unless_refused(alone: Outcome, shared: Outcome) -> Outcome:
    """What came of measuring on several GPUs. That several cannot share a row is no mistake of the user's."""
    if shared.status != "user-error":
        return shared
    return Outcome(status="failed", error=f"{alone.error} Several GPUs cannot share it: {shared.error}")


def _sorted_out(pipeline: Pipeline, failed: Mapping[str, Outcome], jobs: Mapping[str, Job]) -> Pipeline:
    """Tell the user's mistakes, which end the bench, from rows that are left out because their plugin cannot run."""
    faults = Faults()
    for name, outcome in failed.items():
        if outcome.status == "user-error" or name == REHEARSAL:
            with faults.noted():
                raise ZooError(outcome.error)
    faults.tell()
    algorithms = {row.name: row.algorithm for row in pipeline.rows}
    algorithms |= {STAGE + stage.name: stage for stage in pipeline.stages}
    reasons = {name: _reason(algorithms[name], outcome, jobs[name]) for name, outcome in failed.items()}
    for name, reason in reasons.items():
        if name.startswith(STAGE):
            raise PluginError(f"{reason} Rows stand on this stage, so nothing can run.")
    failed_rows = [row for row in pipeline.rows if row.name in reasons]
    left_out = [
        *pipeline.left_out,
        *(LeftOut(row.entry, row.algorithm, reasons[row.name], row.at_share_of) for row in failed_rows),
    ]
    rows = [row for row in pipeline.rows if row.name not in reasons]
    check_some_are_left(rows, left_out)
    return replace(pipeline, rows=tuple(rows), left_out=tuple(left_out))


def _reason(algorithm: Algorithm, outcome: Outcome, job: Job) -> str:
    """Name the plugin, if what ended its process had no word on it."""
    owner = plugins().owner("zoo_algorithms", algorithm.name)
    if outcome.error.startswith(f"the plugin {owner.name!r}"):
        return outcome.error
    return plugins().blame(algorithm, f"{outcome.error.rstrip('.')} (its log is {job.directory / 'log.txt'})")


def _check_job(pipeline: Pipeline, place: Path) -> Job:
    """The job that opens everything. It knows no rows, so that one more row does not have all checked again."""
    spec = pipeline.spec.model_copy(update=ANY_BENCH)
    payload = Probing(spec=spec, kinds=pipeline.kinds, rewards=pipeline.rewards)
    return _job("the input", place / "input", payload, [code_of_job("probe"), _stamps(pipeline.spec)])


def _measuring_jobs(pipeline: Pipeline, found: Checked, place: Path) -> dict[str, Job]:
    """A job for each row, each stage ("stage NAME"), and all that is done beside training."""
    spec = pipeline.spec
    half = FOR_ALGORITHMS if spec.gold == FROM_PAIRS else None
    world = [found["base"]["files"], found["environment"], found["hashes"]]
    world += [{kind: data["sha256"][:1] for kind, data in found["data"].items()}]
    alone = spec.model_copy(update={**ANY_BENCH, "seeds": 1})
    blind = alone.model_copy(update={"gold": None, "tasks": [], "evaluation": Evaluation()})
    # At another share of the budget, or by a tuned row, an update of the same settings is made: it is measured once.
    like = dict[str, str]()
    first = dict[str, str]()
    for row in pipeline.rows:
        like[row.name] = first.setdefault(row.entry.model_dump_json(exclude=NO_UPDATE_DEPENDS_ON), row.name)
    wanted: dict[str, tuple[Algorithm, dict[str, JsonValue], str | None]] = {
        row.name: (row.algorithm, row.entry.settings, row.reward) for row in pipeline.rows if like[row.name] == row.name
    }
    wanted |= {STAGE + stage.name: (stage, pipeline.recipe(stage), spec.reward) for stage in pipeline.stages}
    rehearsing = Rehearsing(spec=alone, rewards=pipeline.rewards, half=half)
    depends = [code_of_job("rehearse", None, spec.rollout_engine), world]
    jobs = {REHEARSAL: _job("scoring", place / "scoring", rehearsing, depends)}  # the longest begins first
    for name, (algorithm, settings, reward) in wanted.items():
        payload = Measuring(spec=blind, algorithm=algorithm.name, settings=settings, reward=reward, half=half)
        depends = [code_of_job("measure", algorithm, spec.rollout_engine), world]
        folder = place / "stages" if name.startswith(STAGE) else place / "rows"
        jobs[name] = _job(name, folder / name.removeprefix(STAGE), payload, depends)
    jobs |= {name: jobs[measured_as] for name, measured_as in like.items()}
    return jobs


def _job(title: str, folder: Path, payload: Payload, depends: Sequence[object]) -> Job:
    values = payload.to_json()
    return Job(kind=payload.kind, title=title, directory=folder, identity=identify(values, depends), payload=values)


def _input_error(outcome: Outcome, place: Path, folder: Path) -> ZooError:
    """What is wrong with the input; nothing is left behind where a bench ended before it began."""
    if outcome.status != "user-error":
        return ZooError(f"the input cannot be checked: {outcome.error}. The log is {place / 'log.txt'}.")
    shutil.rmtree(place, ignore_errors=True)
    for empty in (place.parent, folder):
        if empty.is_dir() and not any(empty.iterdir()):
            empty.rmdir()
    return ZooError(outcome.error)


def _stamps(spec: Spec) -> list[tuple[str, int, int]]:
    """Size and time of the local files a spec names, so that the input is checked again when one changes."""
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
