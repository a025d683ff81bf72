"""Warn in the log of a training when its loss rises to twice what it was at first."""

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Progress, Training

_first: dict[str, float] = {}


@hookimpl
def zoo_run_updated(training: Training, progress: Progress) -> None:
    """Compare the loss with that of the first update."""
    loss = progress.metrics.get("loss")
    if loss is not None and loss > 2 * _first.setdefault(training.name, loss):
        print(f"update {progress.update}: the loss has doubled to {loss:.3g}")
