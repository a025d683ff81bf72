"""The training loop of the reward model: each update moves the scores of chosen and rejected answers apart.

The scorer is the policy it starts from with a scalar head; it reads prompt and response up to EOS, with the
tokenizer of that policy, and is handed over as an ordinary sequence classifier, or as an adapter beside its base.
"""

import math
from collections.abc import Iterator

import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from zoo_core.models.copies import scorer_from
from zoo_core.models.lora import add_adapter, share_storage
from zoo_core.models.scorer import row_scores
from zoo_core.run import Run
from zoo_core.schedule import set_learning_rate
from zoo_reward_model.config import RewardModelConfig
from zoo_reward_model.loss import bradley_terry_loss, centering_penalty


def train(config: RewardModelConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train a scorer, which is kept as "reward"; yield metrics once per update."""
    scorer = scorer_from(run.policy, run.seed)
    if config.lora_rank is not None:
        add_adapter(scorer, "reward", config.lora_rank)
        scorer.get_submodule("score").requires_grad_(True)
        share_storage(scorer, run.policy.requires_grad_(False))
    run.keep("reward", scorer)
    parameters = [weight for weight in scorer.parameters() if weight.requires_grad]
    optimizer = run.keep("optimizer", AdamW(parameters, weight_decay=0.0, fused=True))
    passes = config.epochs
    most = None if passes is None else math.ceil(passes * run.preferences.epoch(config.batch_size))

    for update in run.updates(most):
        pairs = run.preferences.batch(update, config.batch_size)
        chosen, rejected = row_scores(scorer, pairs.rows).chunk(2)
        loss = bradley_terry_loss(chosen, rejected)
        penalty = config.centering_coefficient * centering_penalty(chosen, rejected)

        set_learning_rate(optimizer, config.learning_rate, run.progress)
        optimizer.zero_grad()
        torch.add(loss, penalty).backward()
        clip_grad_norm_(parameters, config.max_grad_norm)
        optimizer.step()

        yield {"loss": loss.item(), "accuracy": (chosen > rejected).float().mean().item()}
