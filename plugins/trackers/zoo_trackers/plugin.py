"""Tells the zoo about the trackers, and passes on what it tells of trainings that ask for one of them."""

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Finished, Progress, Tracker, Training

TRACKERS = {"tensorboard": "TensorBoard", "wandb": "Weights & Biases, offline", "trackio": "Trackio, on this machine"}


@hookimpl
def zoo_trackers() -> list[Tracker]:
    """Return the three; each is named like its package and like an extra of this distribution."""
    return [
        Tracker(name=name, summary=summary, module=name, install=f"zoo-trackers[{name}]")
        for name, summary in TRACKERS.items()
    ]


@hookimpl
def zoo_run_updated(training: Training, progress: Progress) -> None:
    """Log an update."""
    if training.tracker in TRACKERS:
        from zoo_trackers import logs

        logs.update(training, progress)


@hookimpl
def zoo_run_finished(training: Training, finished: Finished) -> None:
    """Log what a training cost, and close its log."""
    if training.tracker in TRACKERS:
        from zoo_trackers import logs

        logs.finish(training, finished)
