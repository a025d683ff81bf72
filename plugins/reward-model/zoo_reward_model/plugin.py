"""Tells the zoo about the reward model."""

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Algorithm


@hookimpl
def zoo_algorithms() -> list[Algorithm]:
    """Return the reward model: not a row of the board, but a stage of those that learn from a reward."""
    return [
        Algorithm(
            name="reward-model",
            summary="Reward model: a scorer that tells chosen from rejected answers",
            paper="2009.01325",
            config="zoo_reward_model.config:RewardModelConfig",
            train="zoo_reward_model.train:train",
            learns_from=("preferences",),
            starts_from="sft",
            makes="reward",
            untrained="zoo_reward_model.train:untrained",
            stage={"epochs": 2.0},
            competes=False,
        )
    ]
