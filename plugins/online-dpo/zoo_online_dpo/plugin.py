"""Tells the zoo about online DPO."""

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Algorithm


@hookimpl
def zoo_algorithms() -> list[Algorithm]:
    """Return online DPO."""
    return [
        Algorithm(
            name="online-dpo",
            summary="Online DPO: DPO on the best and the worst of the policy's own responses",
            paper="2402.04792",
            config="zoo_online_dpo.config:OnlineDPOConfig",
            train="zoo_online_dpo.train:train",
            learns_from=("prompts", "reward"),
            starts_from="sft",
            by_default=False,
        )
    ]
