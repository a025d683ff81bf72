"""The training loop of RLOO, top to bottom.

Each update
    1. samples k responses to each prompt,
    2. turns scores and divergence from the reference into one reward per response,
    3. compares each response with the others of its prompt, and makes one step.
The formulas are in loss.py; this file is the order in which they are applied.
"""

from collections.abc import Iterator

import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from zoo_core.endings import ending_rule
from zoo_core.functional import masked_sum
from zoo_core.rollout import response_logprobs
from zoo_core.run import Run
from zoo_core.schedule import ADAM_EPSILON, set_learning_rate
from zoo_rloo.config import RLOOConfig
from zoo_rloo.loss import leave_one_out_advantages, regularised_rewards, rloo_loss


def train(config: RLOOConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place; yield metrics once per update."""
    reference = run.reference()
    optimizer = run.keep("optimizer", AdamW(run.policy.parameters(), weight_decay=0.0, fused=True, eps=ADAM_EPSILON))
    prompts_per_update = config.batch_size // config.samples_per_prompt
    with_endings = ending_rule(config)

    for update in run.updates():
        # 1. Sample; the k responses to a prompt are next to each other.
        prompts = run.prompts.batch(update, prompts_per_update).repeat(config.samples_per_prompt)
        rollout = run.sample(prompts, config.temperature)

        # 2. Rewards.
        scores = with_endings(run.reward(rollout.samples), rollout.ended)
        with torch.no_grad():
            log_ratio = rollout.logprobs - response_logprobs(reference, rollout, config.temperature)
        rewards = regularised_rewards(scores, log_ratio, rollout.mask, config.kl_coefficient)

        # 3. One step: after it the responses would no longer be the policy's own.
        advantages = leave_one_out_advantages(rewards, config.samples_per_prompt)
        loss = rloo_loss(response_logprobs(run.policy, rollout, config.temperature), advantages, rollout.mask)
        set_learning_rate(optimizer, config.learning_rate, run.progress)
        optimizer.zero_grad()
        loss.backward()
        gradient_norm = clip_grad_norm_(run.policy.parameters(), config.max_grad_norm)
        optimizer.step()

        yield {
            "score": scores.mean().item(),
            "kl": masked_sum(log_ratio, rollout.mask).mean().item(),
            "ended": rollout.ended.float().mean().item(),
            "length": rollout.mask.sum(1).float().mean().item(),
            "advantage_deviation": advantages.std(correction=0).item(),
            "loss": loss.item(),
            "gradient_norm": gradient_norm.item(),
        }
