"""Tells the zoo about SimPO and CPO."""

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Algorithm


@hookimpl
def zoo_algorithms() -> list[Algorithm]:
    """Return SimPO and CPO, which share a loop without a reference."""
    return [
        Algorithm(
            name="simpo",
            summary="Simple Preference Optimization: pairs by likelihood per token, with a target margin, no reference",
            paper="2405.14734",
            config="zoo_simpo.config:SimPOConfig",
            train="zoo_simpo.train:train",
            learns_from=("preferences",),
            starts_from="sft",
            by_default=False,
        ),
        Algorithm(
            name="cpo",
            summary="Contrastive Preference Optimization: DPO without a reference, beside imitation of chosen answers",
            paper="2401.08417",
            config="zoo_simpo.config:CPOConfig",
            train="zoo_simpo.train:train_cpo",
            learns_from=("preferences",),
            starts_from="sft",
            by_default=False,
        ),
    ]
