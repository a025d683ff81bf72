"""The engine `timed`, of `rollout_engine: timed`: the core's own sampler, which says how fast it is."""

import time
from typing import TYPE_CHECKING, Any

from zoo_core.hookspecs import hookimpl

if TYPE_CHECKING:
    from zoo_core.rollout import RolloutEngine


@hookimpl
def zoo_rollout_engine(name: str) -> "RolloutEngine | None":
    """Return the engine `timed`."""
    return timed if name == "timed" else None


def timed(policy: Any, prompts: Any, **how: Any) -> Any:
    """Return the tokens of one response a prompt, and their log-probabilities."""
    from zoo_core.compute.sampler import sample_cached

    began = time.perf_counter()
    tokens, logprobs = sample_cached(policy, prompts, **how)
    print(f"{tokens.numel() / (time.perf_counter() - began):.0f} tokens a second")  # into the log of the job
    return tokens, logprobs
