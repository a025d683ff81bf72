"""The loop that GRPO and its relatives share; they differ in how a batch of groups comes about and in the loss.

Each update samples groups of responses and improves the policy on them, in minibatches.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from zoo_core.endings import ending_rule
from zoo_core.functional import approximate_kl, masked_mean, minibatches
from zoo_core.rollout import Prompts, Rollout, response_logprobs
from zoo_core.run import Run
from zoo_core.schedule import ADAM_EPSILON, set_learning_rate
from zoo_grpo.group_config import GroupSettings
from zoo_grpo.loss import zero_spread_fraction

G = TypeVar("G", bound="Groups")


@dataclass(frozen=True)
class Groups:
    """The responses that an update learns from; those to one prompt are next to each other."""

    rollout: Rollout
    advantages: Float[Tensor, " B"]
    metrics: Mapping[str, float]
    """Of all responses of the batch."""

    def __getitem__(self: G, rows: Int[Tensor, " M"]) -> G:
        return replace(self, rollout=self.rollout[rows], advantages=self.advantages[rows])


@dataclass(frozen=True)
class ReferencedGroups(Groups):
    """Groups, with what the reference makes of their responses."""

    reference_logprobs: Float[Tensor, "B T"]

    def __getitem__(self, rows: Int[Tensor, " M"]) -> "ReferencedGroups":
        # All at once: shapes that disagree are refused.
        return ReferencedGroups(self.rollout[rows], self.advantages[rows], self.metrics, self.reference_logprobs[rows])


LossOf = Callable[[Float[Tensor, "M T"], G], tuple[Float[Tensor, ""], Float[Tensor, ""]]]
"""The loss of a minibatch, given its log-probabilities under the policy, and the share of it that was clipped."""


def scored(config: GroupSettings, run: Run, prompts: Prompts) -> tuple[Rollout, Float[Tensor, " B"]]:
    """Return a group of responses to each prompt, and what they scored."""
    rollout = run.sample(prompts.repeat(config.group_size), config.temperature)
    return rollout, ending_rule(config)(run.reward(rollout.samples), rollout.ended)


def first_metrics(config: GroupSettings, rollout: Rollout, scores: Float[Tensor, " B"]) -> dict[str, float]:
    """Return what there is to tell of responses before the policy learns from them."""
    return {
        "score": scores.mean().item(),
        "ended": rollout.ended.float().mean().item(),
        "length": rollout.mask.sum(1).float().mean().item(),
        "zero_spread": zero_spread_fraction(scores, config.group_size).item(),
    }


def outside_fraction(
    ratio: Float[Tensor, "M T"], mask: Bool[Tensor, "M T"], lowest: float, highest: float
) -> Float[Tensor, ""]:
    """Return the fraction of true ratios that lie outside of [lowest, highest], a metric: 0 to 1."""
    return masked_mean(((ratio < lowest) | (ratio > highest)).float(), mask)


def train_on_groups(
    config: GroupSettings, run: Run, groups_of: Callable[[int], G], loss_of: "LossOf[G]"
) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place by a loss on the groups of each update; yield metrics once per update."""
    optimizer = run.keep("optimizer", AdamW(run.policy.parameters(), weight_decay=0.0, fused=True, eps=ADAM_EPSILON))

    for update in run.updates():
        groups = groups_of(update)

        set_learning_rate(optimizer, config.learning_rate, run.progress)
        shuffle = run.rng(update, "minibatches")
        for _ in range(config.epochs):
            for rows in minibatches(len(groups.rollout), config.minibatch_size, shuffle):
                some = groups[rows]
                logprobs = response_logprobs(run.policy, some.rollout, config.temperature)
                loss, clipped = loss_of(logprobs, some)
                optimizer.zero_grad()
                loss.backward()
                clip_grad_norm_(run.policy.parameters(), config.max_grad_norm)
                optimizer.step()

        yield {
            **groups.metrics,
            "loss": loss.item(),
            "clip_fraction": clipped.item(),
            "approximate_kl": approximate_kl(logprobs.detach(), some.rollout.logprobs, some.rollout.mask).item(),
        }
