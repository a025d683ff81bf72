"""Tells the zoo about GKD."""

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Algorithm


@hookimpl
def zoo_algorithms() -> list[Algorithm]:
    """Return GKD."""
    return [
        Algorithm(
            name="gkd",
            summary="Generalized Knowledge Distillation: a teacher's whole distribution, on the policy's own responses",
            paper="2306.13649",
            config="zoo_gkd.config:GKDConfig",
            train="zoo_gkd.train:train",
            learns_from=("demonstrations", "prompts"),
            starts_from="sft",
            by_default=False,
        )
    ]
