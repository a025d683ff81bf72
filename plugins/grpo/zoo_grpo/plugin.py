"""Tells the zoo about GRPO."""

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Algorithm


@hookimpl
def zoo_algorithms() -> list[Algorithm]:
    """Return GRPO."""
    return [
        Algorithm(
            name="grpo",
            summary="Group Relative Policy Optimization: PPO whose critic is a group of responses",
            paper="2402.03300",
            config="zoo_grpo.config:GRPOConfig",
            train="zoo_grpo.train:train",
            learns_from=("prompts", "reward"),
            starts_from="sft",
            by_default=False,
        )
    ]
