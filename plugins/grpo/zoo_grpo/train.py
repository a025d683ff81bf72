"""Training by GRPO and its relatives: each gives its groups and its loss to the loop in groups.py.

Each update
    1. samples a group of responses to each prompt,
    2. turns scores into advantages over the group,
    3. improves the policy on the responses, which GRPO holds back by the divergence from the reference.
The formulas are in loss.py; how DAPO samples is in dapo.py.
"""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from zoo_core.functional import clip_fraction, masked_sum
from zoo_core.rollout import response_logprobs
from zoo_core.run import Run
from zoo_grpo.config import GRPOConfig
from zoo_grpo.dapo import rows_to_learn_from, sample_until_full
from zoo_grpo.group_config import GroupConfig
from zoo_grpo.groups import Groups, ReferencedGroups, first_metrics, outside_fraction, scored, train_on_groups
from zoo_grpo.loss import (
    capped_reinforce,
    centred_advantages,
    clip_higher_surrogate,
    clipped_surrogate,
    dapo,
    dr_grpo,
    grpo,
    gspo_loss,
    kl_penalty,
    scaled_advantages,
    sequence_ratio,
    unbiased_kl_penalty,
)
from zoo_grpo.relatives import CISPOConfig, DAPOConfig, DrGRPOConfig, GSPOConfig

AGGREGATIONS = {"grpo": grpo, "dapo": dapo, "dr_grpo": dr_grpo}
DIVERGENCES = {"k3": kl_penalty, "unbiased": unbiased_kl_penalty}
Scalar = Float[Tensor, ""]


def train(config: GRPOConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place by GRPO; yield metrics once per update."""
    reference = run.reference()
    advantages_of = scaled_advantages if config.scale_rewards else centred_advantages
    aggregate, divergence_of = AGGREGATIONS[config.aggregation], DIVERGENCES[config.kl_estimate]

    def groups_of(update: int) -> ReferencedGroups:
        rollout, scores = scored(config, run, run.prompts.batch(update, config.batch_size // config.group_size))
        with torch.no_grad():
            reference_logprobs = response_logprobs(reference, rollout, config.temperature)
        divergence = masked_sum(rollout.logprobs - reference_logprobs, rollout.mask).mean().item()
        metrics = {**first_metrics(config, rollout, scores), "kl": divergence}
        return ReferencedGroups(rollout, advantages_of(scores, config.group_size), metrics, reference_logprobs)

    def loss_of(logprobs: Float[Tensor, "M T"], some: ReferencedGroups) -> tuple[Scalar, Scalar]:
        old, mask = some.rollout.logprobs, some.rollout.mask
        losses = clipped_surrogate(logprobs, old, some.advantages, mask, config.clip_range)
        penalties = divergence_of(logprobs, old, some.reference_logprobs, mask)
        loss = aggregate(losses + config.kl_coefficient * penalties, mask, run.response_tokens)
        return loss, clip_fraction(logprobs.detach(), old, mask, config.clip_range)

    yield from train_on_groups(config, run, groups_of, loss_of)


def sampler(
    config: GroupConfig, run: Run, advantages_of: Callable[[Float[Tensor, " B"], int], Float[Tensor, " B"]]
) -> Callable[[int], Groups]:
    """Return the function that samples the groups of an update, one to each of its prompts."""

    def groups_of(update: int) -> Groups:
        rollout, scores = scored(config, run, run.prompts.batch(update, config.batch_size // config.group_size))
        return Groups(rollout, advantages_of(scores, config.group_size), first_metrics(config, rollout, scores))

    return groups_of


def train_dr_grpo(config: DrGRPOConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place by Dr. GRPO; yield metrics once per update."""

    def loss_of(logprobs: Float[Tensor, "M T"], some: Groups) -> tuple[Scalar, Scalar]:
        old, mask = some.rollout.logprobs, some.rollout.mask
        losses = clipped_surrogate(logprobs, old, some.advantages, mask, config.clip_range)
        clipped = clip_fraction(logprobs.detach(), old, mask, config.clip_range)
        return dr_grpo(losses, mask, run.response_tokens), clipped

    yield from train_on_groups(config, run, sampler(config, run, centred_advantages), loss_of)


def train_dapo(config: DAPOConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place by DAPO; yield metrics once per update."""
    taken = run.keep("taken", {"prompts": 0})

    def groups_of(_: int) -> Groups:
        every, scores = sample_until_full(config, run, taken)
        rows = rows_to_learn_from(scores, config.group_size, config.batch_size // config.group_size)
        metrics = {**first_metrics(config, every, scores), "thrown_away": 1 - len(rows) / len(every)}
        return Groups(every[rows], scaled_advantages(scores[rows], config.group_size), metrics)

    def loss_of(logprobs: Float[Tensor, "M T"], some: Groups) -> tuple[Scalar, Scalar]:
        old, mask, low, high = some.rollout.logprobs, some.rollout.mask, config.clip_range_low, config.clip_range_high
        losses = clip_higher_surrogate(logprobs, old, some.advantages, mask, low, high)
        clipped = outside_fraction((logprobs.detach() - old).exp(), mask, 1 - low, 1 + high)
        return dapo(losses, mask, run.response_tokens), clipped

    yield from train_on_groups(config, run, groups_of, loss_of)


def train_gspo(config: GSPOConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place by GSPO; yield metrics once per update."""

    def loss_of(logprobs: Float[Tensor, "M T"], some: Groups) -> tuple[Scalar, Scalar]:
        low, high = config.clip_range_low, config.clip_range_high
        ratio = sequence_ratio(logprobs, some.rollout.logprobs, some.rollout.mask)
        clipped = ((ratio < 1 - low) | (ratio > 1 + high)).float().mean()
        return gspo_loss(ratio, some.advantages, low, high), clipped

    yield from train_on_groups(config, run, sampler(config, run, scaled_advantages), loss_of)


def train_cispo(config: CISPOConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place by CISPO; yield metrics once per update."""

    def loss_of(logprobs: Float[Tensor, "M T"], some: Groups) -> tuple[Scalar, Scalar]:
        old, mask = some.rollout.logprobs, some.rollout.mask
        losses = capped_reinforce(logprobs, old, some.advantages, mask, config.weight_cap)
        capped = outside_fraction((logprobs.detach() - old).exp(), mask, 0.0, config.weight_cap)
        return dapo(losses, mask, run.response_tokens), capped

    yield from train_on_groups(config, run, sampler(config, run, scaled_advantages), loss_of)
