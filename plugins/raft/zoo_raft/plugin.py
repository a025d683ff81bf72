"""Tells the zoo about RAFT."""

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Algorithm


@hookimpl
def zoo_algorithms() -> list[Algorithm]:
    """Return RAFT."""
    return [
        Algorithm(
            name="raft",
            summary="Reward rAnked FineTuning: imitate the best of K own responses, stage by stage",
            paper="2304.06767",
            config="zoo_raft.config:RAFTConfig",
            train="zoo_raft.train:train",
            learns_from=("prompts", "reward"),
            starts_from="sft",
        )
    ]
