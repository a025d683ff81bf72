"""Tells the zoo that a trained policy is also a reward: `rrhf:<run>`.

It has its own entry point, because a job that scores loads no plugin that provides algorithms.
"""

from typing import TYPE_CHECKING

from zoo_core.hookspecs import hookimpl

if TYPE_CHECKING:
    from zoo_core.reward import Reward

PREFIX = "rrhf:"


@hookimpl
def zoo_reward(ref: str) -> "Reward | None":
    """Return the reward `rrhf:<run>`: <run> is the folder of a policy or of its run, a hub id, or a plugin's model."""
    if not ref.startswith(PREFIX):
        return None
    from zoo_rrhf.likelihood import Likelihood

    return Likelihood.load(ref.removeprefix(PREFIX))
