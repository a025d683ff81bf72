"""The training loop of GKD, top to bottom.

Each update
    1. takes responses: the policy's own, or those of demonstrations,
    2. asks the teacher for its distribution over the next token, at each of their tokens,
    3. makes one step that brings the policy's distributions closer to it.
The formulas are in loss.py.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from transformers import PreTrainedModel

from zoo_core.errors import PluginError
from zoo_core.models.teacher import compare_next_tokens, open_teacher
from zoo_core.rollout import Responses
from zoo_core.run import Run
from zoo_core.schedule import set_learning_rate
from zoo_gkd.config import GKDConfig
from zoo_gkd.loss import generalized_divergence, gkd_loss


def train(config: GKDConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place; yield metrics once per update."""
    if not config.teacher:
        raise PluginError("gkd learns from a teacher, and none is given. Name a model: --set gkd.teacher=PATH")
    teacher = open_teacher(run, config.teacher)
    optimizer = run.keep("optimizer", AdamW(run.policy.parameters(), weight_decay=0.0, fused=True))

    for update in run.updates():
        # 1. Responses.
        on_policy = bool(torch.rand(1, generator=run.rng(update, "source"), device=run.device) < config.on_policy_share)
        batch: Responses
        if on_policy:
            batch = run.sample(run.prompts.batch(update, config.batch_size), config.temperature)
        else:
            batch = run.demonstrations.batch(update, config.batch_size)

        # 2. and 3. The teacher's distributions, and one step towards them.
        loss = gkd_loss(divergences(run.policy, teacher, batch, config.beta), batch.mask)
        set_learning_rate(optimizer, config.learning_rate, run.progress)
        optimizer.zero_grad()
        loss.backward()
        gradient_norm = clip_grad_norm_(run.policy.parameters(), config.max_grad_norm)
        optimizer.step()

        yield {
            "loss": loss.item(),
            "gradient_norm": gradient_norm.item(),
            "on_policy": float(on_policy),
            "length": batch.mask.sum(1).float().mean().item(),
        }


def divergences(
    policy: PreTrainedModel, teacher: PreTrainedModel, batch: Responses, beta: float
) -> Float[Tensor, "B T"]:
    """Return the divergence of policy and teacher at every response token; 0 where the mask is false."""

    def of_two(mine: Float[Tensor, "N V"], theirs: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
        return generalized_divergence(mine, theirs, beta)

    return compare_next_tokens(of_two, policy, teacher, batch)
