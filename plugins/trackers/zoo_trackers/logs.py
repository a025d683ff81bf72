"""The log of a training: one run of the tracker that the spec asks for, which a resumed training goes on with."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.tracking import GeneralTracker, TensorBoardTracker, TrackioTracker, WandBTracker

from zoo_core.records import Finished, Progress, Training

PROJECT = "rlhf-zoo"
"""Where W&B and Trackio keep the runs of all benches, unless $WANDB_PROJECT or $TRACKIO_PROJECT says otherwise."""

_open: dict[str, GeneralTracker | None] = {}
"""The run of each training of this process; None where it could not be opened, which is not tried again."""


def update(training: Training, progress: Progress) -> None:
    """Log the metrics of an update, those of each stage of the algorithm under its name, and how far it is."""
    tracker = _opened(training, progress.update)
    if tracker is not None:
        stage = f"{progress.stage}/" if progress.stage else ""
        own = {f"{stage}{name}": value for name, value in progress.metrics.items()}
        share = {} if progress.share is None else {"zoo/budget_share": progress.share}
        tracker.log({**own, **share, "zoo/flops": progress.flops}, step=progress.update)


def finish(training: Training, finished: Finished) -> None:
    """Log the totals and close the run."""
    tracker = _opened(training, finished.updates)
    _open.pop(training.name)
    if tracker is not None:
        totals = {f"total/{name}": value for name, value in finished.ledger.items() if isinstance(value, int | float)}
        totals["total/flops"] = finished.flops
        tracker.log({**totals, "weights_sha256": finished.weights_sha256}, step=finished.updates)
        tracker.finish()


def _opened(training: Training, step: int) -> GeneralTracker | None:
    """Return the run, opened at the first step that is logged: a resumed training knows only then where it goes on."""
    if training.name not in _open:
        _open[training.name] = None
        make = {"tensorboard": _tensorboard, "wandb": _wandb, "trackio": _trackio}[str(training.tracker)]
        folder = training.output / "trackers" / str(training.tracker)
        folder.mkdir(parents=True, exist_ok=True)
        PartialState()  # a training has one; accelerate's own log, which the trackers write to, raises without it
        _open[training.name] = make(training, folder, step)
    return _open[training.name]


def _tensorboard(training: Training, folder: Path, step: int) -> GeneralTracker:
    """Steps from this one on that an earlier process logged are purged: they are made again."""
    tracker = TensorBoardTracker(training.name, folder, purge_step=step)
    tracker.start()
    stored = (folder / training.name).glob("*/hparams.yml")
    # Hyperparameters that are stored again would be shown as another run.
    if not any(training.identity in file.read_text(encoding="utf-8") for file in stored):
        tracker.store_init_configuration(_values(training))
    return tracker


def _wandb(training: Training, folder: Path, step: int) -> GeneralTracker:
    """Nothing of a job comes from the network or goes there, unless the user's environment says so."""
    mode = os.environ.get("WANDB_MODE", "offline")
    project = os.environ.get("WANDB_PROJECT", PROJECT)
    tracker = WandBTracker(project, id=_id(training), dir=str(folder), mode=mode, **_described(training))
    tracker.start()
    return tracker


def _trackio(training: Training, folder: Path, step: int) -> GeneralTracker:
    """Trackio reads the folder of its database from the environment, when it is imported."""
    os.environ.setdefault("TRACKIO_DIR", str(folder))
    tracker = TrackioTracker(os.environ.get("TRACKIO_PROJECT", PROJECT), **_described(training))
    tracker.start()
    return tracker


def _described(training: Training) -> dict[str, Any]:
    """How W&B and Trackio tell runs apart, rows and seeds by name and benches by group, and the hyperparameters."""
    return {"name": training.name, "group": training.bench, "resume": "allow", "config": _values(training)}


def _id(training: Training) -> str:
    """A resumed training has the same; the same training in another folder, or a row that changed, another."""
    return hashlib.sha256(f"{training.output} {training.name} {training.identity}".encode()).hexdigest()[:16]


def _values(training: Training) -> dict[str, bool | int | float | str]:
    """Return the hyperparameters, in types that every tracker takes; what is None is left out."""
    described: Mapping[str, object] = {
        "bench": training.bench,
        "row": training.row,
        "stage": training.stage,
        "algorithm": training.algorithm,
        "seed": training.seed,
        "budget": training.budget,
        "identity": training.identity,
        **{f"settings/{name}": value for name, value in training.settings.items()},
    }
    plain = (bool, int, float, str)
    known = {name: value for name, value in described.items() if value is not None}
    return {name: value if isinstance(value, plain) else str(value) for name, value in known.items()}
