"""Tells the zoo about PPO."""

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Algorithm


@hookimpl
def zoo_algorithms() -> list[Algorithm]:
    """Return PPO."""
    return [
        Algorithm(
            name="ppo",
            summary="Proximal Policy Optimization: RLHF with a critic and a per-token KL penalty",
            paper="1707.06347",
            config="zoo_ppo.config:PPOConfig",
            train="zoo_ppo.train:train",
            learns_from=("prompts", "reward"),
            starts_from="sft",
        )
    ]
