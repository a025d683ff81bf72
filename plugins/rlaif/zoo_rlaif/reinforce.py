"""The loop of RLAIF's third stage: REINFORCE with a learned value baseline, on the reward of the run.

Each update
    1. samples one response per prompt,
    2. mixes the score and the divergence from the reference into one return per response,
    3. takes one step with policy and baseline.
"""

from collections.abc import Iterator

import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from zoo_ppo.critic import Critic
from zoo_ppo.train import explained_variance

from zoo_core.endings import ending_rule
from zoo_core.functional import masked_sum
from zoo_core.rollout import response_logprobs
from zoo_core.run import Run
from zoo_core.schedule import ADAM_EPSILON, set_learning_rate
from zoo_rlaif.config import DirectRLAIFConfig, RLAIFConfig
from zoo_rlaif.loss import regularised_return, reinforce_loss, value_loss


def reinforce(config: RLAIFConfig | DirectRLAIFConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place; yield metrics once per update."""
    reference = run.reference()
    critic = run.keep("critic", Critic(run.policy))
    weights = [*run.policy.parameters(), *critic.parameters()]
    optimizer = run.keep("optimizer", AdamW(weights, weight_decay=0.0, fused=True, eps=ADAM_EPSILON))
    with_endings = ending_rule(config)
    for update in run.updates():
        # 1. Sample.
        rollout = run.sample(run.prompts.batch(update, config.batch_size), config.temperature)
        mask = rollout.mask
        scores = with_endings(run.reward(rollout.samples), rollout.ended)

        # 2. One return for the whole response.
        with torch.no_grad():
            log_ratio = rollout.logprobs - response_logprobs(reference, rollout, config.temperature)
        returns = regularised_return(scores, log_ratio, mask, config.kl_coefficient)

        # 3. One step: the responses are the policy's own only once. Gradients are clipped apart, because one is a
        # sum over tokens and the other a mean.
        logprobs = response_logprobs(run.policy, rollout, config.temperature)
        values = critic(rollout)[:, :-1]
        policy_loss, baseline_loss = reinforce_loss(logprobs, values, returns, mask), value_loss(values, returns, mask)
        set_learning_rate(optimizer, config.learning_rate, run.progress)
        optimizer.zero_grad()
        torch.add(policy_loss, baseline_loss).backward()
        clip_grad_norm_(run.policy.parameters(), config.max_grad_norm)
        clip_grad_norm_(critic.parameters(), config.max_grad_norm)
        optimizer.step()

        yield {
            "score": scores.mean().item(),
            "kl": masked_sum(log_ratio, mask).mean().item(),
            "ended": rollout.ended.float().mean().item(),
            "length": mask.sum(1).float().mean().item(),
            "policy_loss": policy_loss.item(),
            "value_loss": baseline_loss.item(),
            "explained_variance": explained_variance(
                values.detach(), returns.unsqueeze(1).expand_as(values), mask
            ).item(),
        }
