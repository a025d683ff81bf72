"""The training loop of RAFT, top to bottom.

Each update is one stage; it
    1. samples K responses to each of b fresh prompts,
    2. scores them and selects the best,
    3. fine-tunes on the selected ones, and forgets them.
Sampling, scoring and fine-tuning follow each other, so that one model at a time has to be in memory: the policy, the
scorer, the policy. A reference exists only if the ranking asks for it. The formulas are in loss.py, plain RAFT's is
that of supervised fine-tuning; this file says in which order they are applied.
"""

from collections.abc import Iterator

import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from zoo_sft.loss import sft_loss

from zoo_core.functional import minibatches
from zoo_core.rollout import response_logprobs
from zoo_core.run import Run
from zoo_core.schedule import set_learning_rate
from zoo_raft.config import RAFTConfig
from zoo_raft.loss import (
    all_positive,
    best_of_all,
    best_of_each,
    raft_plus_plus_loss,
    ranking_scores,
    regularised_scores,
)

SELECTIONS = {"raft": best_of_each, "raft-global": best_of_all, "raft++": all_positive}


def train(config: RAFTConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place; yield metrics once per update."""
    reference = run.reference() if config.kl_coefficient else None
    optimizer = run.keep("optimizer", AdamW(run.policy.parameters(), weight_decay=0.0, fused=True))
    select = SELECTIONS[config.variant]
    # The ratio of RAFT++ needs the temperature that was sampled at; imitation is ordinary fine-tuning, at 1.
    temperature = config.temperature if config.variant == "raft++" else 1.0

    for update in run.updates():
        # 1. Sample; the K responses to a prompt are next to each other.
        prompts = run.prompts.batch(update, config.batch_size).repeat(config.samples_per_prompt)
        rollout = run.sample(prompts, config.temperature)

        # 2. Score and select.
        rewards = run.reward(rollout.samples)
        scores = ranking_scores(rewards, rollout.ended)
        if reference is not None:
            with torch.no_grad():
                log_ratio = rollout.logprobs - response_logprobs(reference, rollout, config.temperature)
            scores = regularised_scores(scores, log_ratio, rollout.mask, config.kl_coefficient)
        rows = select(scores, config.samples_per_prompt)
        selected, weights = rollout[rows], scores[rows]

        # 3. Fine-tune. A stage that has selected nothing changes nothing.
        set_learning_rate(optimizer, config.learning_rate, run.progress)
        shuffle = run.rng(update, "minibatches")
        losses = []
        for _ in range(config.epochs if len(selected) else 0):
            for some in minibatches(len(selected), config.minibatch_size, shuffle):
                batch = selected[some]
                logprobs = response_logprobs(run.policy, batch, temperature)
                if config.variant == "raft++":
                    loss = raft_plus_plus_loss(logprobs, batch.logprobs, weights[some], batch.mask, config.clip_range)
                else:
                    loss = sft_loss(logprobs, batch.mask)
                optimizer.zero_grad()
                loss.backward()
                clip_grad_norm_(run.policy.parameters(), config.max_grad_norm)
                optimizer.step()
                losses.append(loss.item())

        yield {
            "score": rewards.mean().item(),
            "selected_score": rewards[rows].mean().item() if len(rows) else 0.0,
            "selected": len(rows) / len(rollout),
            "ended": rollout.ended.float().mean().item(),
            "length": rollout.mask.sum(1).float().mean().item(),
            "loss": sum(losses) / len(losses) if losses else 0.0,
        }
