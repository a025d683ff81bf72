"""The training loop of GRPO, top to bottom.

Each update
    1. samples a group of responses to each prompt,
    2. turns scores into advantages over the group,
    3. improves the policy on the responses, held back by the divergence from the reference.
The formulas are in loss.py; this file is the order in which they are applied.
"""

from collections.abc import Iterator

import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from zoo_core.endings import ending_rule
from zoo_core.functional import approximate_kl, clip_fraction, masked_sum, minibatches
from zoo_core.rollout import response_logprobs
from zoo_core.run import Run
from zoo_core.schedule import ADAM_EPSILON, set_learning_rate
from zoo_grpo.config import GRPOConfig
from zoo_grpo.loss import (
    centred_advantages,
    clipped_surrogate,
    dapo,
    dr_grpo,
    grpo,
    kl_penalty,
    scaled_advantages,
    unbiased_kl_penalty,
    zero_spread_fraction,
)

AGGREGATIONS = {"grpo": grpo, "dapo": dapo, "dr_grpo": dr_grpo}
DIVERGENCES = {"k3": kl_penalty, "unbiased": unbiased_kl_penalty}


def train(config: GRPOConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place; yield metrics once per update."""
    reference = run.reference()
    optimizer = run.keep("optimizer", AdamW(run.policy.parameters(), weight_decay=0.0, fused=True, eps=ADAM_EPSILON))
    prompts_per_update = config.batch_size // config.group_size
    advantages_of = scaled_advantages if config.scale_rewards else centred_advantages
    aggregate, divergence_of = AGGREGATIONS[config.aggregation], DIVERGENCES[config.kl_estimate]
    with_endings = ending_rule(config)

    for update in run.updates():
        # 1. Sample; the responses of a group are next to each other.
        prompts = run.prompts.batch(update, prompts_per_update).repeat(config.group_size)
        rollout = run.sample(prompts, config.temperature)
        with torch.no_grad():
            reference_logprobs = response_logprobs(reference, rollout, config.temperature)

        # 2. Advantages.
        scores = with_endings(run.reward(rollout.samples), rollout.ended)
        advantages = advantages_of(scores, config.group_size)

        # 3. Improve.
        set_learning_rate(optimizer, config.learning_rate, run.progress)
        shuffle = run.rng(update, "minibatches")
        for _ in range(config.epochs):
            for rows in minibatches(len(rollout), config.minibatch_size, shuffle):
                batch = rollout[rows]
                logprobs = response_logprobs(run.policy, batch, config.temperature)
                policy_losses = clipped_surrogate(
                    logprobs, batch.logprobs, advantages[rows], batch.mask, config.clip_range
                )
                penalties = divergence_of(logprobs, batch.logprobs, reference_logprobs[rows], batch.mask)
                token_losses = policy_losses + config.kl_coefficient * penalties
                loss = aggregate(token_losses, batch.mask, run.response_tokens)
                optimizer.zero_grad()
                loss.backward()
                clip_grad_norm_(run.policy.parameters(), config.max_grad_norm)
                optimizer.step()

        yield {
            "score": scores.mean().item(),
            "kl": masked_sum(rollout.logprobs - reference_logprobs, rollout.mask).mean().item(),
            "ended": rollout.ended.float().mean().item(),
            "length": rollout.mask.sum(1).float().mean().item(),
            "zero_spread": zero_spread_fraction(scores, config.group_size).item(),
            "loss": loss.item(),
            "clip_fraction": clip_fraction(logprobs, batch.logprobs, batch.mask, config.clip_range).item(),
            "approximate_kl": approximate_kl(logprobs, batch.logprobs, batch.mask).item(),
        }
