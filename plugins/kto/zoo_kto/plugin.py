"""Tells the zoo about KTO."""

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Algorithm


@hookimpl
def zoo_algorithms() -> list[Algorithm]:
    """Return KTO."""
    return [
        Algorithm(
            name="kto",
            summary="Kahneman-Tversky Optimization: good answers above a reference point, bad ones below; no pairs",
            paper="2402.01306",
            config="zoo_kto.config:KTOConfig",
            train="zoo_kto.train:train",
            learns_from=("preferences",),
            starts_from="sft",
            by_default=False,
        )
    ]
