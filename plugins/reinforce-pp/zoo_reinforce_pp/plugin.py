"""Tells the zoo about REINFORCE++ and its form with a baseline."""

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Algorithm


@hookimpl
def zoo_algorithms() -> list[Algorithm]:
    """Return both forms."""
    return [
        Algorithm(
            name="reinforce-pp",
            summary="REINFORCE++: PPO without a critic; advantages are whitened over the whole batch",
            paper="2501.03262",
            config="zoo_reinforce_pp.config:ReinforcePPConfig",
            train="zoo_reinforce_pp.train:train",
            learns_from=("prompts", "reward"),
            starts_from="sft",
            by_default=False,
        ),
        Algorithm(
            name="reinforce-pp-baseline",
            summary="REINFORCE++ with several samples to a prompt, whose mean score is the baseline",
            paper="2501.03262",
            config="zoo_reinforce_pp.config:ReinforcePPBaselineConfig",
            train="zoo_reinforce_pp.train:train_with_baseline",
            learns_from=("prompts", "reward"),
            starts_from="sft",
            by_default=False,
        ),
    ]
