"""Tells the zoo about DPO."""

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Algorithm


@hookimpl
def zoo_algorithms() -> list[Algorithm]:
    """Return DPO."""
    return [
        Algorithm(
            name="dpo",
            summary="Direct Preference Optimization: a classification loss on pairs, no reward model, no sampling",
            paper="2305.18290",
            config="zoo_dpo.config:DPOConfig",
            train="zoo_dpo.train:train",
            learns_from=("preferences",),
            starts_from="sft",
        )
    ]
