"""Tells the zoo about ORPO."""

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Algorithm


@hookimpl
def zoo_algorithms() -> list[Algorithm]:
    """Return ORPO. It starts from the base: imitation is part of its loss."""
    return [
        Algorithm(
            name="orpo",
            summary="Odds Ratio Preference Optimization: imitation and preferences in one stage, no reference",
            paper="2403.07691",
            config="zoo_orpo.config:ORPOConfig",
            train="zoo_orpo.train:train",
            learns_from=("preferences",),
            by_default=False,
        )
    ]
