"""What plugins that watch are told: which training, which update, how far; and that watching changes nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from zoo_harness.job import Job
from zoo_harness.jobs import train
from zoo_harness.planning.plan import Plan
from zoo_harness.prepare import make_plan
from zoo_harness.spec.read import read
from zoo_harness.spec.schema import Spec
from zoo_trackers import logs

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Finished, Progress, Training
from zoo_core.registry.plugins import plugins

pytestmark = pytest.mark.slow
ROWS = [{"name": "dpo", "batch_size": 8}, {"name": "dpo", "row": "dpo-again", "batch_size": 8, "beta": 0.5}]
SMALL = {
    "algorithms": ROWS,
    "budget": 6e8,
    "demonstrations": None,
    "gold": None,
    "reward": None,
    "tasks": [],
    "checkpoint_seconds": 0,
}


class Killed(BaseException):
    """Ends a training as the end of its process does: no observer's failure, and nothing catches it."""


@dataclass
class Watcher:
    """An observer that remembers all, and can end a training."""

    killed_at: int | None = None
    raises: str = ""
    started: list[Training] = field(default_factory=list)
    seen: list[Progress] = field(default_factory=list)
    finished: list[Finished] = field(default_factory=list)

    @hookimpl
    def zoo_run_started(self, training: Training) -> None:
        self.started.append(training)

    @hookimpl
    def zoo_run_updated(self, progress: Progress) -> None:
        self.seen.append(progress)
        if progress.update == self.killed_at:
            raise Killed
        if self.raises:
            raise RuntimeError(self.raises)

    @hookimpl
    def zoo_run_finished(self, finished: Finished) -> None:
        self.finished.append(finished)
        if self.raises:
            raise RuntimeError(self.raises)


@contextmanager
def watching(watcher: Watcher) -> Iterator[Watcher]:
    plugins().manager.register(watcher, name="watcher")
    try:
        yield watcher
    finally:
        plugins().manager.unregister(name="watcher")


def spec_of(world: Path, **changes: Any) -> Spec:
    few = {**SMALL, "tracker": "tensorboard"}
    return read(world / "spec.yaml", None, {**few, **changes})


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("own-cache")
        patch.setenv("ZOO_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def plan(world, cache, tmp_path_factory) -> Plan:
    return make_plan(spec_of(world), tmp_path_factory.mktemp("bench"))


def do(job: Job, watcher: Watcher) -> dict[str, Any]:
    job.directory.mkdir(parents=True, exist_ok=True)
    with watching(watcher):
        result = train.run(job)
    train.write_json(job.result_file, result)
    return dict(result)


@pytest.fixture(scope="module")
def watched(plan) -> dict[str, tuple[Job, Watcher, dict[str, Any]]]:
    """Every training of the bench with what an observer saw of it, by the name that it was given."""
    found = {}
    for job in plan.jobs(scored=False):
        watcher = Watcher()
        result = do(job, watcher)
        (training,) = watcher.started
        found[training.name] = job, watcher, result
    return found


def test_rows_seeds_and_stages_are_told_apart(watched):
    assert set(watched) == {f"{what}-seed{seed}" for what in ("stages/sft", "dpo", "dpo-again") for seed in (0, 1)}
    for name, (job, watcher, _) in watched.items():
        (training,) = watcher.started
        assert (training.row, training.seed, training.identity) == (job.row, job.seed, job.identity)
        assert training.stage == ("sft" if name.startswith("stages/") else "")
        assert training.budget == (6e8 if job.row else None)


def test_an_observer_knows_all_settings_defaults_among_them(watched):
    settings = {name: watched[f"{name}-seed0"][1].started[0].settings for name in ("dpo", "dpo-again")}
    defaults = plugins().algorithm("dpo").load_config()()
    assert settings["dpo"] == {**vars(defaults), "batch_size": 8}
    assert settings["dpo-again"] == {**vars(defaults), "batch_size": 8, "beta": 0.5}


def test_progress_counts_updates_and_flops_from_those_of_the_stages_to_the_budget(watched):
    _, watcher, result = watched["dpo-seed0"]
    stage = watched["stages/sft-seed0"][2]["ledger"]["flops"]
    flops = [progress.flops for progress in watcher.seen]
    assert [progress.update for progress in watcher.seen] == list(range(len(flops)))
    assert all(before < after for before, after in zip([stage, *flops], flops, strict=False))
    assert [progress.share for progress in watcher.seen] == [pytest.approx(spent / 6e8) for spent in flops]
    assert all("loss" in progress.metrics for progress in watcher.seen)
    (finished,) = watcher.finished
    assert finished.flops == stage + result["ledger"]["flops"]
    assert finished.updates == result["ledger"]["updates"] > 2
    assert (finished.weights / "model.safetensors").exists()
    assert finished.weights_sha256 == result["weights_sha256"]
    assert all(progress.share is None for progress in watched["stages/sft-seed0"][1].seen)


def elsewhere(job: Job, folder: Path, **changes: Any) -> Job:
    """Return the same training in another folder, with other logs and some keys of its spec changed."""
    spec = job.payload["spec"]
    assert isinstance(spec, dict)
    payload = {**job.payload, "output": str(folder), "spec": {**spec, **changes}}
    return job.model_copy(update={"directory": folder / "cell", "payload": payload})


def test_a_resumed_training_goes_on_with_the_number_of_its_checkpoint(plan, watched, tmp_path):
    job, whole, result = watched["dpo-seed0"]
    job = elsewhere(job, tmp_path)
    first, second = Watcher(killed_at=2), Watcher()
    with pytest.raises(Killed):
        do(job, first)
    logs._open.clear()  # as the end of its process does
    resumed = do(job, second)
    assert [progress.update for progress in first.seen] == [0, 1, 2]
    assert second.seen == whole.seen[2:]  # update 2 was not complete
    assert resumed["weights_sha256"] == result["weights_sha256"]
    assert losses(tmp_path, "dpo-seed0") == losses(plan.output, "dpo-seed0")


def test_an_observer_that_raises_harms_nobody_and_is_named_in_the_result(watched, tmp_path):
    job, _, result = watched["dpo-seed0"]
    failed = do(elsewhere(job, tmp_path), Watcher(raises="no network"))
    assert failed["weights_sha256"] == result["weights_sha256"]
    assert failed["observer_failures"] == [
        f"observer 'watcher' failed in zoo_run_{hook}: RuntimeError('no network')" for hook in ("finished", "updated")
    ]
    assert result["observer_failures"] == []


def test_watching_changes_no_bit(watched, tmp_path):
    job, _, result = watched["dpo-seed0"]
    alone = train.run(elsewhere(job, tmp_path, tracker=None))
    assert alone["weights_sha256"] == result["weights_sha256"]
    assert alone["ledger"]["flops"] == result["ledger"]["flops"]
    assert not (tmp_path / "trackers").exists()


def run_of(output: Path, name: str) -> EventAccumulator:
    """Read a run of TensorBoard."""
    return EventAccumulator(str(output / "trackers" / "tensorboard" / name)).Reload()


def losses(output: Path, name: str) -> list[tuple[int, float]]:
    return [(one.step, one.value) for one in run_of(output, name).Scalars("loss")]


def test_each_training_is_a_run_of_tensorboard_with_what_observers_see(plan, watched):
    logged = {
        path.parents[1].relative_to(plan.output / "trackers/tensorboard") for path in plan.output.rglob("hparams.yml")
    }
    assert set(map(str, logged)) == set(watched)
    for name, (_, watcher, _) in watched.items():
        run = run_of(plan.output, name)
        for metric in watcher.seen[0].metrics:
            assert [(one.step, one.value) for one in run.Scalars(metric)] == [
                (progress.update, pytest.approx(progress.metrics[metric], rel=1e-6)) for progress in watcher.seen
            ]
        assert [one.value for one in run.Scalars("zoo/flops")] == [
            pytest.approx(progress.flops, rel=1e-6) for progress in watcher.seen
        ]
        (total,) = run.Scalars("total/flops")
        assert (total.step, total.value) == (
            watcher.finished[0].updates,
            pytest.approx(watcher.finished[0].flops, rel=1e-6),
        )


def test_a_tracker_changes_no_identity(plan, world):
    alone = make_plan(spec_of(world, tracker=None), plan.output)
    assert (alone.identity, alone.world_identity) == (plan.identity, plan.world_identity)
    assert [job.identity for job in alone.jobs()] == [job.identity for job in plan.jobs()]
    assert alone.probe == plan.probe  # and nothing was measured again
