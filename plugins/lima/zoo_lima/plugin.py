"""Tells the zoo about LIMA."""

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Algorithm


@hookimpl
def zoo_algorithms() -> list[Algorithm]:
    """Return LIMA."""
    return [
        Algorithm(
            name="lima",
            summary="LIMA: fine-tune on a few demonstrations of good quality and many kinds",
            paper="2305.11206",
            config="zoo_lima.config:LIMAConfig",
            train="zoo_lima.train:train",
            learns_from=("demonstrations",),
            stops_early="after `epochs` passes over the selected rows",
        )
    ]
