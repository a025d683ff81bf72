"""The training loop of supervised fine-tuning.

Each update raises the likelihood of a batch of demonstrations. Many passes over few demonstrations overfit, so a part
of them is held out, and the weights that are handed over are those with the lowest loss on that part.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from zoo_core.feeds import DemonstrationFeed
from zoo_core.rollout import response_logprobs
from zoo_core.run import Run
from zoo_core.schedule import set_learning_rate
from zoo_sft.config import SFTConfig
from zoo_sft.loss import sft_loss

DEV_BATCHES = 3
"""Batches held out at most: a look at them costs as much as one update."""


def train(config: SFTConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place; yield metrics once per update."""
    demonstrations, dev = run.demonstrations.hold_out(config.dev_share, DEV_BATCHES * config.batch_size)
    optimizer = run.keep("optimizer", AdamW(run.policy.parameters(), weight_decay=0.0))
    best: dict[str, Any] = run.keep("best", {"loss": math.inf, "weights": {}})
    passes = config.epochs
    most = None if passes is None else math.ceil(passes * demonstrations.epoch(config.batch_size))

    for update in run.updates(most):
        batch = demonstrations.batch(update, config.batch_size)
        loss = sft_loss(response_logprobs(run.policy, batch), batch.mask)

        set_learning_rate(optimizer, config.learning_rate, run.progress)
        optimizer.zero_grad()
        loss.backward()
        gradient_norm = clip_grad_norm_(run.policy.parameters(), config.max_grad_norm)
        optimizer.step()

        if len(dev) and ((update + 1) % config.dev_every == 0 or update + 1 == most):
            keep_if_best(best, run, dev, config.batch_size)
        yield {"loss": loss.item(), "gradient_norm": gradient_norm.item()}

    if best["weights"]:
        run.policy.load_state_dict(best["weights"])


@torch.no_grad()
def keep_if_best(best: dict[str, Any], run: Run, dev: DemonstrationFeed, batch_size: int) -> None:
    """Remember the weights if they have the lowest loss on the held-out demonstrations so far."""
    total, tokens = 0.0, 0
    for start in range(0, len(dev), batch_size):
        part = replace(dev, rows=dev.rows[start : start + batch_size])
        batch = part.batch(0, len(part))
        total += sft_loss(response_logprobs(run.policy, batch), batch.mask).item() * int(batch.mask.sum())
        tokens += int(batch.mask.sum())
    loss = total / tokens
    if loss < best["loss"]:
        best["loss"] = loss
        best["weights"] = {name: tensor.clone() for name, tensor in run.policy.state_dict().items()}
