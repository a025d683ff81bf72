"""The training loop of RRHF.

Each iteration
    1. collects a group of responses to each prompt, the policy's own and the two of its pair, and scores them,
    2. trains on these groups, without sampling, until its share of the budget is spent, so that responses with
       higher scores in their group become likelier.
The formulas are in loss.py; this file is the order in which they are applied.
"""

from collections.abc import Iterator
from typing import TypedDict

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pad_sequence
from torch.optim import AdamW

from zoo_core.endings import ending_rule
from zoo_core.functional import masked_row_mean, masked_sum
from zoo_core.reward import Sample, as_sample
from zoo_core.rollout import response_logprobs
from zoo_core.rows import Preference, Text, answers_of
from zoo_core.run import Run
from zoo_core.schedule import set_learning_rate
from zoo_rrhf.config import RRHFConfig
from zoo_rrhf.loss import fine_tune_loss, rank_loss


class Group(TypedDict):
    """The responses to one prompt, no two alike: the chosen one, the rejected one, then those of the policy."""

    prompt: Text
    responses: list[Text]
    ended: list[bool]
    scores: list[float]


def train(config: RRHFConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place; yield metrics once per update."""
    optimizer = run.keep("optimizer", AdamW(run.policy.parameters(), weight_decay=0.0, fused=True))
    groups: list[Group] = run.keep("groups", [])
    with_endings = ending_rule(config)

    for iteration in range(config.iterations):
        last = iteration + 1 == config.iterations
        part = run.stage(f"iteration-{iteration}", None if last else 1 / config.iterations)

        # 1. Collect, at most one pass over the pairs.
        collecting = part.stage("collect", config.collect_share)
        groups.clear()
        for update in collecting.updates(collecting.preferences.epoch(config.batch_size)):
            rows = collecting.preferences.take(update, config.batch_size)
            prompts = collecting.encode_prompts(rows)
            rollout = collecting.sample(prompts.repeat(config.samples), config.temperature)
            found = [
                [*(as_sample(row.prompt, one, row.columns) for one in answers_of(row)), *rollout[own].samples]
                for row, own in zip(rows, torch.arange(len(rollout)).split(config.samples), strict=True)
            ]
            samples = [sample for some in found for sample in some]
            scores = collecting.reward(samples)
            ended = torch.tensor([sample.ended for sample in samples], device=scores.device)
            scores, ended = (values.view(len(rows), -1) for values in (with_endings(scores, ended), ended))
            new = [group(*parts) for parts in zip(rows, found, scores.tolist(), strict=True)]
            groups += new

            yield {
                "score": scores[:, 2:].mean().item(),
                "best_score": scores.masked_fill(~ended, -torch.inf).max(1).values.mean().item(),
                "ended": rollout.ended.float().mean().item(),
            }

        # 2. Train on what was collected. Shapes: B responses to P prompts, at most K each.
        training = part.stage("train")
        for update in training.updates():
            batch = training.batch_of(groups, update, config.batch_size)
            sizes = [len(some["scores"]) for some in batch]
            responses = training.encode(
                [(some["prompt"], response) for some in batch for response in some["responses"]],
                [ended for some in batch for ended in some["ended"]],
            )
            logprobs = response_logprobs(run.policy, responses)
            p = by_prompt(masked_row_mean(logprobs, responses.mask), sizes)
            likelihood = by_prompt(masked_sum(logprobs, responses.mask), sizes)
            scores = by_prompt(torch.tensor([score for some in batch for score in some["scores"]]).to(p.device), sizes)
            present = by_prompt(torch.ones(sum(sizes)).to(p.device), sizes).bool()
            # Off a group's end it is 0, too. The pair is complete, so there is always something to imitate.
            complete = by_prompt(torch.tensor([float(e) for some in batch for e in some["ended"]]).to(p.device), sizes)
            ranking, imitation = rank_loss(p, scores, present), fine_tune_loss(likelihood, scores, complete.bool())

            set_learning_rate(optimizer, config.learning_rate, training.progress)
            optimizer.zero_grad()
            (config.rank_weight * ranking + imitation).backward()
            gradient_norm = clip_grad_norm_(run.policy.parameters(), config.max_grad_norm)
            optimizer.step()

            yield {
                "rank_loss": ranking.item(),
                "fine_tune_loss": imitation.item(),
                # How often p tells the chosen response from the rejected one; a tie counts one half.
                "pair_accuracy": ((p[:, 0] - p[:, 1]).sign().mean().item() + 1) / 2,
                "gradient_norm": gradient_norm.item(),
            }


def group(row: Preference, samples: list[Sample], scores: list[float]) -> Group:
    """Return the group of a row: its pair and the samples after it, without duplicates."""
    responses = [row.chosen, row.rejected, *(sample.response for sample in samples[2:])]
    kept = [number for number, sample in enumerate(samples) if number < 2 or sample not in samples[:number]]
    return Group(
        prompt=row.prompt,
        responses=[responses[number] for number in kept],
        ended=[samples[number].ended for number in kept],
        scores=[scores[number] for number in kept],
    )


def by_prompt(values: Float[Tensor, " B"], sizes: list[int]) -> Float[Tensor, "P K"]:
    """Return the values of responses with one row per prompt, 0 after the end of a smaller group."""
    return pad_sequence(list(values.split(sizes)), batch_first=True)
