"""Tells the zoo about RLOO."""

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Algorithm


@hookimpl
def zoo_algorithms() -> list[Algorithm]:
    """Return RLOO."""
    return [
        Algorithm(
            name="rloo",
            summary="REINFORCE Leave-One-Out: RLHF without a critic, whole responses as actions",
            paper="2402.14740",
            config="zoo_rloo.config:RLOOConfig",
            train="zoo_rloo.train:train",
            learns_from=("prompts", "reward"),
            starts_from="sft",
            by_default=False,
        )
    ]
