"""The training loop of REINFORCE++, top to bottom.

Each update
    1. samples responses,
    2. turns scores and divergence from the reference into a reward for each token,
    3. whitens what is still to come at each token over the whole batch,
    4. improves the policy on the same responses by PPO's clipped loss.
The two forms differ in how many responses a prompt gets and what a score is compared with. The formulas are in loss.py
and in zoo_ppo.loss; this file is the order in which they are applied.
"""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from zoo_ppo.loss import clipped_policy_loss, token_rewards

from zoo_core.endings import ending_rule
from zoo_core.functional import approximate_kl, clip_fraction, masked_sum, minibatches
from zoo_core.rollout import response_logprobs
from zoo_core.run import Run
from zoo_core.schedule import ADAM_EPSILON, set_learning_rate
from zoo_reinforce_pp.config import ReinforcePPBaselineConfig, ReinforcePPConfig
from zoo_reinforce_pp.loss import less_group_mean, whitened_advantages

Compare = Callable[[Float[Tensor, " B"]], Float[Tensor, " B"]]
"""What makes of scores the rewards of whole responses."""


def train(config: ReinforcePPConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place on one response to each prompt; yield metrics once per update."""
    return _train(config, run, 1, lambda scores: scores)


def train_with_baseline(config: ReinforcePPBaselineConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place on several responses to each prompt; yield metrics once per update."""
    samples = config.samples_per_prompt
    return _train(config, run, samples, lambda scores: less_group_mean(scores, samples))


def _train(
    config: ReinforcePPConfig, run: Run, samples_per_prompt: int, compared: Compare
) -> Iterator[dict[str, float]]:
    reference = run.reference()
    optimizer = run.keep("optimizer", AdamW(run.policy.parameters(), weight_decay=0.0, fused=True, eps=ADAM_EPSILON))
    with_endings = ending_rule(config)

    for update in run.updates():
        # 1. Sample; the responses to a prompt are next to each other.
        prompts = run.prompts.batch(update, config.batch_size // samples_per_prompt).repeat(samples_per_prompt)
        rollout = run.sample(prompts, config.temperature)
        mask = rollout.mask

        # 2. Rewards.
        scores = with_endings(run.reward(rollout.samples), rollout.ended)
        with torch.no_grad():
            log_ratio = rollout.logprobs - response_logprobs(reference, rollout, config.temperature)
        rewards = token_rewards(compared(scores), log_ratio, mask, config.kl_coefficient)

        # 3. Advantages, of the whole batch: a minibatch has no mean of its own.
        advantages = whitened_advantages(rewards, mask)

        # 4. Improve.
        set_learning_rate(optimizer, config.learning_rate, run.progress)
        shuffle = run.rng(update, "minibatches")
        for _ in range(config.epochs):
            for rows in minibatches(len(rollout), config.minibatch_size, shuffle):
                batch = rollout[rows]
                logprobs = response_logprobs(run.policy, batch, config.temperature)
                loss = clipped_policy_loss(logprobs, batch.logprobs, advantages[rows], batch.mask, config.clip_range)
                optimizer.zero_grad()
                loss.backward()
                gradient_norm = clip_grad_norm_(run.policy.parameters(), config.max_grad_norm)
                optimizer.step()

        yield {
            "score": scores.mean().item(),
            "kl": masked_sum(log_ratio, mask).mean().item(),
            "ended": rollout.ended.float().mean().item(),
            "length": mask.sum(1).float().mean().item(),
            "loss": loss.item(),
            "gradient_norm": gradient_norm.item(),
            "clip_fraction": clip_fraction(logprobs, batch.logprobs, batch.mask, config.clip_range).item(),
            "approximate_kl": approximate_kl(logprobs, batch.logprobs, batch.mask).item(),
        }
