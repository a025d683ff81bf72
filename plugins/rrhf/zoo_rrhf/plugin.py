"""Tells the zoo about RRHF."""

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Algorithm


@hookimpl
def zoo_algorithms() -> list[Algorithm]:
    """Return RRHF."""
    return [
        Algorithm(
            name="rrhf",
            summary="Rank responses: make likelier what scores higher, and imitate the best; no critic, no reference",
            paper="2304.05302",
            config="zoo_rrhf.config:RRHFConfig",
            train="zoo_rrhf.train:train",
            learns_from=("preferences", "reward"),
            starts_from="sft",
        )
    ]
