"""A reward that is a rule: `reward: brevity:20` gives 1 to answers of at most 20 words."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo_core.errors import SpecError
from zoo_core.hookspecs import hookimpl

if TYPE_CHECKING:
    from zoo_core.reward import Reward, Sample


@hookimpl
def zoo_reward(ref: str) -> "Reward | None":
    """Return the rule with its limit."""
    prefix, colon, most = ref.partition(":")
    if prefix != "brevity" or not colon:
        return None
    if not most.isdigit():
        raise SpecError(f"{ref}: write brevity:NUMBER, the most words.")
    return Brevity(int(most))


class Brevity:
    """1 for a short answer that ended, 0 for others."""

    best = 1.0

    def __init__(self, most: int) -> None:
        self.most = most
        self.identity = f"brevity {most}"

    def __call__(self, samples: "Sequence[Sample]") -> list[float]:
        """Return one score per sample."""
        return [float(one.ended and len(one.response.split()) <= self.most) for one in samples]
