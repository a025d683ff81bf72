"""A tracker: `tracker: lines` writes the metrics of every update as a line of JSON."""

import json

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Progress, Tracker, Training


@hookimpl
def zoo_trackers() -> list[Tracker]:
    """Return the tracker `lines`."""
    return [Tracker(name="lines", summary="Lines of JSON", module="json", install="nothing: it is Python's own")]


@hookimpl
def zoo_run_updated(training: Training, progress: Progress) -> None:
    """Write the metrics, if the spec asks for this tracker."""
    if training.tracker == "lines":
        with (training.output / f"{training.name.replace('/', '-')}.jsonl").open("a") as file:
            file.write(json.dumps({"update": progress.update, **progress.metrics}) + "\n")
