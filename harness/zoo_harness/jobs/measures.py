"""Measures of sampled responses."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedModel

from zoo_core.reward import Calibration, Reward, Sample, checked
from zoo_core.rollout import Responses, Rollout, response_logits
from zoo_core.rows import Text


@dataclass
class GoldAndProxy:
    """The two scorers of a response: the hidden gold, and the reward that algorithms saw."""

    gold: Reward | None
    proxy: Reward | None
    calibration: Calibration | None

    def score(self, rollout: Rollout) -> dict[str, list[float] | None]:
        """Return gold and proxy scores, None where there is no such scorer."""
        gold = None if self.gold is None else checked(self.gold, rollout.samples)
        proxy = None
        if self.proxy is not None and self.calibration is not None:
            mean, deviation = self.calibration.mean, self.calibration.deviation
            proxy = [(score - mean) / deviation for score in checked(self.proxy, rollout.samples)]
        return {"gold": gold, "proxy": proxy}


def kl(
    model: PreTrainedModel, start: PreTrainedModel, responses: Responses, mask: Bool[Tensor, "B T"]
) -> Float[Tensor, " B"]:
    """Σₜ KL(π(·|x, y₍<t₎) ‖ π_start(·|x, y₍<t₎)) of each response."""
    mine = response_logits(model, responses).float().log_softmax(-1)
    other = response_logits(start, responses).float().log_softmax(-1)
    return (mine.exp() * (mine - other)).sum(-1).masked_fill(~mask, 0.0).sum(1)


def shorter(samples: Sequence[Sample]) -> list[float]:
    """Score samples by their length alone: the shorter the better."""
    return [-float(len(sample.response)) for sample in samples]


def show(text: Text) -> str:
    """Return a prompt as people read it."""
    return text if isinstance(text, str) else "\n".join(f"{m['role']}: {m['content']}" for m in text)


def mean(values: Sequence[float]) -> float:
    """Return the mean of at least one value."""
    return sum(values) / len(values)


def mean_of_groups(groups: Sequence[list[float] | None]) -> float | None:
    """Return the mean of the values of all groups that are there; None if there is none."""
    values = [value for group in groups if group is not None for value in group]
    return mean(values) if values else None


def means(parts: dict[str, list[float]]) -> dict[str, float]:
    """Return the mean of each part of a score."""
    return {name: mean(values) for name, values in parts.items()}
