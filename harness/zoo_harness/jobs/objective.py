"""Whether a row improved what it was trained for: its own objective, on rows and prompts that it was not given.

Gold may fall while a method does what it says, and a method that does not even that has a fault, or bad settings. What
is measured follows from what it learns from: a reward of its answers, the loss on demonstrations, or the loss on pairs.
What a judge would say is not measured here: asking it is the business of plugins.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import PreTrainedModel
from zoo_leaderboard.scores import Objective, Summary

from zoo_core.datasets.encoding import Encoder
from zoo_core.functional import masked_sum
from zoo_core.rollout import response_logprobs
from zoo_core.rows import Demonstration, Preference

ROWS = 256
"""The most rows of which a loss is measured, however few the test prompts are: by it searches drop points."""
BATCH = 64
BETA = 0.1
"""β of the preference loss (DPO, eq. 7), the same for all rows, whatever they trained with."""


def rows_tell(learns_from: Sequence[str]) -> bool:
    """Whether the loss on unseen rows says what an algorithm with these signals was trained for.

    One that answers prompts itself, without a reward or a judge, knows another measure of its answers: a teacher's.
    """
    signals = set(learns_from)
    taught = "prompts" in signals and not signals & {"reward", "judge"}
    return bool(signals & {"demonstrations", "preferences"}) and not taught


def of_reward(mine: Mapping[str, Summary], start: Mapping[str, Summary]) -> Objective | None:
    """The reward of dev answers at the highest temperature, where samples are as in training, against `start`'s."""
    shared = sorted(set(mine) & set(start), key=float)
    before, after = ((one[shared[-1]]["proxy"] if shared else None) for one in (start, mine))
    if before is None or after is None:
        return None
    return {"what": "reward", "before": before, "after": after, "better": after > before}


def of_demonstrations(
    policy: PreTrainedModel, other: PreTrainedModel, encoder: Encoder, rows: Sequence[Demonstration]
) -> Objective | None:
    """The loss on unseen demonstrations against that of another model; None where there are none."""
    if not rows:
        return None
    before, after = loss_on(other, encoder, rows), loss_on(policy, encoder, rows)
    return {"what": "loss on demonstrations", "before": before, "after": after, "better": after < before}


@torch.no_grad()
def of_preferences(
    policy: PreTrainedModel, other: PreTrainedModel, encoder: Encoder, pairs: Sequence[Preference]
) -> Objective | None:
    """The preference loss on unseen pairs beside another model, where it is ln 2; None where there are no pairs."""
    if not pairs:
        return None

    def log_ratios(side: str, some: Sequence[Preference]) -> Tensor:
        batch = encoder.responses([(pair.prompt, getattr(pair, side)) for pair in some])
        return masked_sum(response_logprobs(policy, batch) - response_logprobs(other, batch), batch.mask)

    losses = list[float]()
    for first in range(0, len(pairs), BATCH):
        some = pairs[first : first + BATCH]
        margins = log_ratios("chosen", some) - log_ratios("rejected", some)
        losses += (-logsigmoid(BETA * margins.double())).tolist()
    after = sum(losses) / len(losses)
    return {"what": "loss on pairs", "before": math.log(2), "after": after, "better": after < math.log(2)}


@torch.no_grad()
def loss_on(policy: PreTrainedModel, encoder: Encoder, rows: Sequence[Demonstration]) -> float:
    """Negative log-likelihood of the answers in nats, averaged over all their tokens."""
    total = tokens = 0.0
    for first in range(0, len(rows), BATCH):
        batch = encoder.responses([(row.prompt, row.completion) for row in rows[first : first + BATCH]])
        total -= float(masked_sum(response_logprobs(policy, batch), batch.mask).double().sum())
        tokens += float(batch.mask.sum())
    return total / tokens
