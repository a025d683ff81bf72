"""The job that trains: an algorithm for its whole budget, or its fixed recipe as a stage of others."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import cast

import torch
from transformers import PreTrainedModel

from zoo_core.compute.processes import broadcast, is_main_process
from zoo_core.compute.sharding import local_shard
from zoo_core.errors import BudgetError, StorageError
from zoo_core.models.directories import weights_sha256
from zoo_core.models.loading import save_model
from zoo_core.models.tokenizers import load_tokenizer
from zoo_core.records import Algorithm
from zoo_core.registry.plugins import plugins
from zoo_core.reward import Calibration
from zoo_core.run import Run
from zoo_core.session.session import Session
from zoo_core.storage.atomic import write_json
from zoo_harness.job import Job, read_json
from zoo_harness.jobs import card
from zoo_harness.jobs.choice import SPENT, choice_of, remarks_on, spent_by_trials
from zoo_harness.jobs.driven import Watchdog, driven
from zoo_harness.jobs.fitting import until_it_fits
from zoo_harness.jobs.hidden import hidden_paths
from zoo_harness.jobs.materials import Materials, environment, open_judge, open_reward
from zoo_harness.jobs.observed import Observed
from zoo_harness.jobs.opened_files import OpenedFiles, own_temporary_folder, shipped_weights
from zoo_harness.jobs.started_threads import StartedThreads
from zoo_harness.payloads import Training
from zoo_harness.planning.identity import root_of
from zoo_harness.results import POINTS, Staged, Trained, WeightsAt
from zoo_harness.spec.schema import MOST_FOR_STAGES
from zoo_harness.spec.settings import configure


def run(job: Job) -> Trained:
    """Train, save what is handed over, and return the result.

    When memory runs out, it goes on from the last checkpoint in smaller micro-batches, and its record says so.
    """
    remarks: list[str] = []

    def remark(tokens: int) -> None:
        remarks.append(f"memory ran out: micro-batches of {tokens} tokens from the last checkpoint on")

    with own_temporary_folder():
        return until_it_fits(lambda: _trained(job, remarks), remark)


def _trained(job: Job, remarks: list[str]) -> Trained:
    payload = Training.of(job.payload)
    algorithm = plugins().algorithm(payload.algorithm)
    choice = choice_of(payload) if payload.candidates else None
    if choice:
        payload = payload.model_copy(update={"settings": choice["tried"][choice["chosen"]]["settings"]})
    stages = sum(stage_flops(directory) for directory in payload.stages)
    before = stages + spent_by_trials(choice)
    session = _session(job, payload, algorithm, stages, before)
    progress = _Progress(job, payload, before, session.budget)
    files, threads = OpenedFiles(job.directory, hidden_paths(payload)), StartedThreads(session.budget, session.engine)
    with _charged_if_it_fails(job, payload, session), Watchdog(job, algorithm) as watchdog:
        config = configure(algorithm, payload.settings)
        observed = Observed(job, payload, config, before)
        observed.started()
        for metrics in threads.of(files.of(driven(algorithm, config, Run(session), session))):
            watchdog.update_ended(payload.spec.update_seconds)
            progress.write(session, metrics)
            observed.updated(session, metrics)
        final = observed.weights
        _hand_over(session, algorithm, Materials.of(payload).base, final)
    session.flag_moved_references()
    owner = plugins().owner("zoo_algorithms", algorithm.name)
    for remark in (*remarks, *files.flags, *threads.flags, *shipped_weights(root_of(owner.module))):
        session.ledger.flag(remark)
    session.ledger.gather()
    ledger, sha256 = session.ledger.report(), broadcast(lambda: weights_sha256(final))
    result: Trained = {
        "identity": job.identity,
        "algorithm": algorithm.name,
        "seed": job.seed,
        "ledger": ledger,
        "points": _points(job) if payload.budget and not payload.trial else [],
        "weights_sha256": sha256,
        "environment": environment(),
        "observer_failures": [],
    }
    if choice:
        result["choice"] = choice
        ledger["flags"] += remarks_on(choice)
    if is_main_process():
        card.write(final, job, payload, algorithm, session.rows, result)
    observed.finished(sha256, ledger)
    result["observer_failures"] = sorted(observed.failures)
    return result


def stage_flops(directory: Path) -> int:
    """What a stage cost, computed now or read from the cache."""
    result = cast(Staged | None, read_json(directory / "result.json"))
    if result is None:
        raise StorageError(
            f"{directory}: the stage's result.json is missing or damaged; delete the folder and run again."
        )
    return result["ledger"]["flops"]


@contextmanager
def _charged_if_it_fails(job: Job, payload: Training, session: Session) -> Iterator[None]:
    """Note what a trial had spent when it failed: its row goes on without it, and pays for it."""
    try:
        yield
    except BaseException:
        if payload.trial and is_main_process():
            write_json(job.directory / SPENT, {"identity": job.identity, "ledger": session.ledger.report()})
        raise


def _session(job: Job, payload: Training, algorithm: Algorithm, stages: int, before: int) -> Session:
    """Open a session; `stages` FLOPs were spent by the stages, `before` by them and by trials."""
    budget = float("inf")
    if payload.budget is not None:
        budget = min((payload.budget - stages) * payload.part, payload.budget - before)
    if payload.budget and stages > MOST_FOR_STAGES * payload.budget:
        other = payload.budget_share != 1
        raise BudgetError(
            f"{job.row} does not fit in this budget: its stages cost {stages:.3g} FLOPs of {payload.budget:.3g}. "
            f"Raise the budget above {stages / MOST_FOR_STAGES / payload.budget_share:.2g}, "
            + (f"leave the share {payload.budget_share:g} out of --budgets, " if other else "")
            + "or lower the limits on labels and demonstrations."
        )
    materials = Materials.of(payload)
    calibrated = payload.calibration if "reward" in algorithm.learns_from else None
    seed = job.seed if payload.session_seed is None else payload.session_seed
    return Session(
        policy=materials.policy(payload.start or materials.base, algorithm, seed),
        encoder=materials.encoder,
        seed=seed,
        budget=budget,
        rows=materials.signals(algorithm.learns_from, job.seed),
        counted_as={"demonstrations": "preferences"} if materials.spec.imitates_chosen else {},
        reward=open_reward(payload.reward, payload.reward_model) if calibrated else None,
        calibration=Calibration.load(calibrated) if calibrated else None,
        judge=open_judge(materials.spec, algorithm.learns_from),
        engine=materials.engine(),
        directory=job.directory,
        audited=1.0 if payload.all_audited else Session.audited,
        checkpoint_seconds=materials.spec.checkpoint_seconds,
        at_boundary=_Points(job, None if payload.trial else payload.budget, before),
    )


class _Points:
    """Keeps the weights whenever another quarter of the budget is spent."""

    def __init__(self, job: Job, budget: float | None, before: int) -> None:
        self.job, self.budget, self.before = job, budget, before

    def __call__(self, session: Session) -> None:
        if self.budget is None:
            return
        spent = self.before + session.ledger.flops
        for share in POINTS:
            path = _point(self.job, share)
            # Points that lie inside stages or trials have no weights of their own: there the curve is at the start.
            if self.before < share * self.budget <= spent and not broadcast(path.exists):
                point: WeightsAt = {"fraction": share, "flops": spent, "weights": path.name}
                _save(session.policy, path, partial(_write_point, point))


def _write_point(point: WeightsAt, folder: Path) -> None:
    write_json(folder / "point.json", point)


def _points(job: Job) -> list[WeightsAt]:
    points = [cast(WeightsAt | None, read_json(_point(job, share) / "point.json")) for share in POINTS]
    return [point for point in points if point is not None]


def _point(job: Job, share: float) -> Path:
    return job.directory / f"at-{100 * share:.0f}"


def _hand_over(session: Session, algorithm: Algorithm, base: Path, final: Path) -> None:
    """Save the trained model as an ordinary Hugging Face directory."""
    model: PreTrainedModel = session.kept[algorithm.makes]
    if not all(bool(torch.isfinite(local_shard(parameter)).all()) for parameter in model.parameters()):
        raise FloatingPointError("the trained weights hold NaN or infinity")
    tokenizer = load_tokenizer(base)
    _save(model, final, tokenizer.save_pretrained, apart=algorithm.makes != "policy")


def _save(model: PreTrainedModel, path: Path, complete: Callable[[Path], object], *, apart: bool = False) -> None:
    """Save a model with what belongs to it, whole or not at all. Rank 0 does. Collective."""

    def begin() -> None:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(path, ignore_errors=True)

    def end() -> None:
        complete(temporary)
        temporary.rename(path)

    temporary = path.with_suffix(".tmp")
    broadcast(begin)
    save_model(model, temporary, apart=apart)
    broadcast(end)


class _Progress:
    """Tells the table how far the job is, at most once a second."""

    def __init__(self, job: Job, payload: Training, before: int, own: float) -> None:
        self.job, self.before, self.written = job, before, 0.0
        whole = payload.part == 1
        self.budget = payload.budget if whole else before + own
        """FLOPs that are spent when it ends, with all that was spent before."""

    def write(self, session: Session, metrics: dict[str, float]) -> None:
        if not is_main_process() or time.monotonic() - self.written < 1.0:
            return
        self.written = time.monotonic()
        write_json(
            self.job.progress_file,
            {
                "flops": self.before + session.ledger.flops,
                "budget": self.budget,
                "before": self.before,
                "updates": session.ledger.updates,
                "metrics": metrics,
            },
        )
