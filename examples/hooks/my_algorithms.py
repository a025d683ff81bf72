"""An algorithm in one file: imitate the chosen answers of pairs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Algorithm

if TYPE_CHECKING:
    from zoo_core.run import Run


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of `imitate`."""

    batch_size: int = 8
    """Pairs per update."""
    learning_rate: float = 1e-4
    """Peak step size of AdamW."""


@hookimpl
def zoo_algorithms() -> list[Algorithm]:
    """Return `imitate`."""
    return [
        Algorithm(
            name="imitate",
            summary="Imitates the chosen answers of pairs",
            paper="2203.02155",
            config=f"{__name__}:Config",
            train=f"{__name__}:train",
            learns_from=("preferences",),
            by_default=False,
        )
    ]


def train(config: Config, run: "Run") -> Iterator[dict[str, float]]:
    """Train `run.policy` in place; yield metrics once per update."""
    from torch.optim import AdamW  # imported here: listing plugins must take no time

    from zoo_core.functional import masked_mean
    from zoo_core.rollout import response_logprobs
    from zoo_core.schedule import set_learning_rate

    optimizer = run.keep("optimizer", AdamW(run.policy.parameters()))
    for update in run.updates():
        pairs = run.preferences.batch(update, config.batch_size)
        chosen = slice(config.batch_size)  # the rejected answers follow
        loss = -masked_mean(response_logprobs(run.policy, pairs)[chosen], pairs.mask[chosen])
        set_learning_rate(optimizer, config.learning_rate, run.progress)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield {"loss": loss.item()}
