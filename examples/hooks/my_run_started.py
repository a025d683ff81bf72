"""Keep a line of every training that begins in one file of the bench."""

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Training


@hookimpl
def zoo_run_started(training: Training) -> None:
    """Write its name and settings."""
    with (training.output / "begun.txt").open("a") as file:
        file.write(f"{training.name}: {training.algorithm} {dict(training.settings)}\n")
