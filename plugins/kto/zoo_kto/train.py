"""The training loop of KTO.

Each update
    1. measures how far the policy has moved, on answers that belong to other prompts,
    2. raises good answers above that point and lowers bad ones below it.
The formulas are in loss.py.
"""

from collections.abc import Iterator

import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from zoo_core.functional import masked_sum
from zoo_core.models.cached_logprobs import CachedLogprobs
from zoo_core.rollout import Responses, response_logprobs
from zoo_core.run import Run
from zoo_core.schedule import set_learning_rate
from zoo_kto.config import KTOConfig
from zoo_kto.loss import kto_loss, reference_point


def train(config: KTOConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place; yield metrics once per update."""
    frozen = run.reference()
    reference = CachedLogprobs(frozen, run.keep("reference", {}))
    optimizer = run.keep("optimizer", AdamW(run.policy.parameters(), weight_decay=0.0, fused=True))
    desirable = torch.arange(2 * config.batch_size, device=run.device) < config.batch_size

    for update in run.updates():
        # All good answers, then the bad ones in the same order: so neighbours answer different rows of the data.
        batch = run.preferences.batch(update, config.batch_size)

        # 1. The reference point. These mixtures of prompt and answer hardly come again: caching them would be in vain.
        mixed = mismatched(batch, run.tokenizer.pad_token_id)
        with torch.no_grad():
            moved = response_logprobs(run.policy, mixed) - response_logprobs(frozen, mixed)
        point = reference_point(masked_sum(moved, mixed.mask))

        # 2. Improve.
        log_ratio = masked_sum(response_logprobs(run.policy, batch), batch.mask) - reference(batch)
        loss = kto_loss(log_ratio, desirable, point, config.beta, config.desirable_weight, config.undesirable_weight)
        set_learning_rate(optimizer, config.learning_rate, run.progress)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(run.policy.parameters(), config.max_grad_norm)
        optimizer.step()

        chosen, rejected = log_ratio.chunk(2)
        yield {
            "loss": loss.item(),
            "reference_point": point.item(),
            "accuracy": (chosen > rejected).float().mean().item(),
            "chosen_reward": config.beta * chosen.mean().item(),
            "rejected_reward": config.beta * rejected.mean().item(),
        }


def mismatched(batch: Responses, pad: int) -> Responses:
    """Return each prompt with the response of the next row, the last one with that of the first."""
    prompts, responses = zip(*batch.rows, strict=True)
    rows = list(zip(prompts, [*responses[1:], responses[0]], strict=True))
    return Responses.of(rows, pad, batch.tokens.device)
