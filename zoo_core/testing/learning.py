"""How far a model is with what an algorithm's signals ask for, on the rows of tiny.py."""

from statistics import mean
from typing import Any

import torch

from zoo_core.compute.sampler import roll_out, sample_cached
from zoo_core.functional import masked_sum
from zoo_core.models.scorer import row_scores
from zoo_core.records import Algorithm
from zoo_core.rollout import response_logprobs
from zoo_core.rows import Demonstration, Preference
from zoo_core.session.session import Session
from zoo_core.testing.tiny import share_of_early, tiny_rows

SAMPLES = 20
"""Answers to each prompt."""


@torch.no_grad()
def asked_for(record: Algorithm, session: Session, model: Any) -> float:
    """Return a number that rises while an algorithm learns what its signals ask for.

    reward or judge   the share of the letters a to m in samples of the policy, less 1 for one that does not end
    demonstrations    the mean log-likelihood of their answers
    preferences       how much likelier chosen answers are than rejected ones; of a reward, by how much it prefers them
    """
    signals, rows = set(record.learns_from), tiny_rows()
    if record.makes == "policy" and signals & {"reward", "judge"}:
        prompts = session.encoder.prompts(rows["prompts"] * SAMPLES)
        generator = torch.Generator().manual_seed(0)
        samples = roll_out(sample_cached, model, prompts, session.encoder, 1.0, generator).samples
        scores = share_of_early(samples)
        return mean(score - (not sample.ended) for score, sample in zip(scores, samples, strict=True))
    if record.makes == "policy" and "demonstrations" in signals:
        shown = [row for row in rows["demonstrations"] if isinstance(row, Demonstration)]
        answers = session.encoder.responses([(row.prompt, row.completion) for row in shown])
        return masked_sum(response_logprobs(model, answers), answers.mask).mean().item()
    compared = [row for row in rows["preferences"] if isinstance(row, Preference)]
    chosen = [(row.prompt, row.chosen) for row in compared]
    pairs = session.encoder.responses([*chosen, *((row.prompt, row.rejected) for row in compared)])
    if record.makes == "policy":
        better, worse = masked_sum(response_logprobs(model, pairs), pairs.mask).chunk(2)
    else:
        better, worse = row_scores(model, pairs.rows).chunk(2)
    return (better - worse).mean().item()
