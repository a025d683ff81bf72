"""Tells the zoo about fine-tuning on a core set."""

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Algorithm


@hookimpl
def zoo_algorithms() -> list[Algorithm]:
    """Return fine-tuning on a core set."""
    return [
        Algorithm(
            name="coreset",
            summary="Core set: fine-tune on the few demonstrations that leave no other one far away",
            paper="2305.09246",
            config="zoo_coreset.config:CoresetConfig",
            train="zoo_coreset.train:train",
            learns_from=("demonstrations",),
            stops_early="after `epochs` passes over the selected rows",
        )
    ]
