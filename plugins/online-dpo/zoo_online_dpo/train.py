"""The training loop of online DPO, top to bottom.

Each update
    1. samples k responses to each prompt,
    2. makes a pair of the best and the worst, unless they tie or are the same,
    3. makes one step of DPO on the pairs.
Pairs are chosen in selection.py; the loss is that of DPO.
"""

from collections.abc import Iterator

import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from zoo_dpo.loss import dpo_loss

from zoo_core.endings import ending_rule
from zoo_core.functional import masked_sum
from zoo_core.rollout import response_logprobs
from zoo_core.run import Run
from zoo_core.schedule import set_learning_rate
from zoo_online_dpo.config import OnlineDPOConfig
from zoo_online_dpo.selection import best_and_worst, differ


def train(config: OnlineDPOConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place; yield metrics once per update."""
    reference = run.reference()
    optimizer = run.keep("optimizer", AdamW(run.policy.parameters(), weight_decay=0.0, fused=True))
    with_endings = ending_rule(config)

    for update in run.updates():
        # 1. Sample; the k responses to a prompt are next to each other.
        prompts = run.prompts.batch(update, config.batch_size).repeat(config.samples_per_prompt)
        rollout = run.sample(prompts, config.temperature)

        # 2. Pairs.
        scores = with_endings(run.reward(rollout.samples), rollout.ended)
        best, worst = best_and_worst(scores, config.samples_per_prompt)
        kept = differ(scores, rollout.responses, rollout.mask, best, worst)
        pairs = rollout[torch.cat([best[kept], worst[kept]])]

        # 3. One step, if there is anything to learn from.
        loss, accuracy, chosen_reward, rejected_reward = 0.0, 0.0, 0.0, 0.0
        if len(pairs):
            with torch.no_grad():
                reference_logprobs = response_logprobs(reference, pairs, config.temperature)
            log_ratio = response_logprobs(run.policy, pairs, config.temperature) - reference_logprobs
            chosen, rejected = masked_sum(log_ratio, pairs.mask).chunk(2)
            objective = dpo_loss(chosen, rejected, config.beta)
            set_learning_rate(optimizer, config.learning_rate, run.progress)
            optimizer.zero_grad()
            objective.backward()
            clip_grad_norm_(run.policy.parameters(), config.max_grad_norm)
            optimizer.step()
            loss, accuracy = objective.item(), (chosen > rejected).float().mean().item()
            chosen_reward, rejected_reward = (config.beta * some.mean().item() for some in (chosen, rejected))

        yield {
            "score": scores.mean().item(),
            "ended": rollout.ended.float().mean().item(),
            "length": rollout.mask.sum(1).float().mean().item(),
            "dropped": 1 - kept.float().mean().item(),
            "loss": loss,
            "accuracy": accuracy,
            "chosen_reward": chosen_reward,
            "rejected_reward": rejected_reward,
        }
