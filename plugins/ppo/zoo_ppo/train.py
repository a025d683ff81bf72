"""The training loop of PPO, top to bottom.

Each update
    1. samples one response per prompt,
    2. turns scores and divergence from the reference into per-token rewards,
    3. estimates advantages with the critic,
    4. improves policy and critic on the same responses, several times over.
The formulas are in loss.py, the models in models.py; this file is the order in which they are applied.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from zoo_core.endings import ending_rule
from zoo_core.functional import (
    approximate_kl,
    clip_fraction,
    masked_mean,
    masked_sum,
    masked_whiten,
    minibatches,
)
from zoo_core.run import Run
from zoo_core.schedule import ADAM_EPSILON, set_learning_rate
from zoo_ppo.config import PPOConfig
from zoo_ppo.loss import (
    adaptive_kl_coefficient,
    clipped_policy_loss,
    clipped_value_loss,
    gae,
    slot_mask,
    token_rewards,
)
from zoo_ppo.models import ARRANGEMENTS


def train(config: PPOConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place; yield metrics once per update."""
    models = ARRANGEMENTS[config.models](config, run)
    optimizer = run.keep("optimizer", AdamW(models.parameters, weight_decay=0.0, fused=True, eps=ADAM_EPSILON))
    beta = run.keep("beta", {"now": config.kl_coefficient})
    with_endings = ending_rule(config)

    for update in run.updates():
        # 1. Sample. Everything here is held fixed during the update: shapes (B, T), (B, T + 1) or (B,).
        rollout = run.sample(run.prompts.batch(update, config.batch_size), config.temperature)
        mask, slots = rollout.mask, slot_mask(rollout.mask)
        scores = with_endings(run.reward(rollout.samples), rollout.ended)
        with torch.no_grad():
            values = models.values(rollout)
            log_ratio = rollout.logprobs - models.reference_logprobs(rollout)

        # 2. Rewards.
        rewards = token_rewards(scores, log_ratio, mask, beta["now"])

        # 3. Advantages. Returns come first: whitening would change their units.
        advantages = gae(rewards, values, slots, config.discount, config.gae_lambda)
        returns = advantages + values
        advantages = masked_whiten(advantages[:, :-1], mask)

        # 4. Improve.
        set_learning_rate(optimizer, config.learning_rate, run.progress)
        shuffle = run.rng(update, "minibatches")
        for _ in range(config.epochs):
            for rows in minibatches(len(rollout), config.minibatch_size, shuffle):
                batch = rollout[rows]
                logprobs, estimates = models.evaluate(batch)
                policy_loss = clipped_policy_loss(
                    logprobs, batch.logprobs, advantages[rows], batch.mask, config.clip_range
                )
                value_loss = clipped_value_loss(
                    estimates, values[rows], returns[rows], slots[rows], config.value_clip_range
                )
                optimizer.zero_grad()
                (policy_loss + config.value_coefficient * value_loss).backward()
                clip_grad_norm_(models.parameters, config.max_grad_norm)
                optimizer.step()

        kl = masked_sum(log_ratio, mask).mean().item()
        if config.kl_target is not None:
            beta["now"] = adaptive_kl_coefficient(
                beta["now"], kl, config.kl_target, config.kl_horizon, config.batch_size
            )
        yield {
            "score": scores.mean().item(),
            "kl": kl,
            "ended": rollout.ended.float().mean().item(),
            "length": mask.sum(1).float().mean().item(),
            "policy_loss": policy_loss.item(),
            "value_loss": value_loss.item(),
            "clip_fraction": clip_fraction(logprobs, batch.logprobs, batch.mask, config.clip_range).item(),
            "approximate_kl": approximate_kl(logprobs, batch.logprobs, batch.mask).item(),
            "explained_variance": explained_variance(values, returns, slots).item(),
        }


def explained_variance(
    values: Float[Tensor, "B S"], returns: Float[Tensor, "B S"], slots: Bool[Tensor, "B S"]
) -> Float[Tensor, ""]:
    """Return 1 − mean (R − V)² / Var R, the share of the returns' variance that the critic explains; 0 without any."""
    variance = masked_mean((returns - masked_mean(returns, slots)) ** 2, slots)
    error = masked_mean((returns - values) ** 2, slots)
    return torch.where(variance > 1e-8, 1 - error / variance.clamp(min=1e-8), 0.0)
