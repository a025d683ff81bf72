"""The training loop of the reward model: each update moves the scores of chosen and rejected answers apart.

The scorer is made of the policy that it starts from and has its tokenizer. It is handed over as the folder of a model,
which `zoo_core.models.loading.load_scorer` reads.
"""

import math
from collections.abc import Iterator

import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from transformers import PreTrainedModel

from zoo_core.compute.precision import freeze
from zoo_core.compute.sharding import prepare_model
from zoo_core.models.copies import copied, scorer_from
from zoo_core.models.log_ratio import LogRatioScorer
from zoo_core.models.lora import add_adapter, share_storage
from zoo_core.models.scorer import row_scores
from zoo_core.run import Run
from zoo_core.schedule import set_learning_rate
from zoo_reward_model.config import RewardModelConfig
from zoo_reward_model.loss import bradley_terry_loss, centering_penalty


def untrained(config: RewardModelConfig, policy: PreTrainedModel, seed: int) -> PreTrainedModel | LogRatioScorer:
    """Return the scorer before training. With an adapter its body, and the policy's, are frozen and one in memory."""
    if config.scorer == "last-token":
        trained = scorer_from(policy, seed)
    else:
        trained = prepare_model(copied(policy)).requires_grad_(True)
    if config.lora_rank is not None:
        add_adapter(trained, "reward", config.lora_rank)
        share_storage(trained, policy.requires_grad_(False))
    if config.scorer == "last-token":
        trained.get_submodule("score").requires_grad_(True)
        return trained
    start = None if config.lora_rank else prepare_model(freeze(copied(policy)))
    return LogRatioScorer(trained, start, config.ratio_scale)


def train(config: RewardModelConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train a scorer, which is kept as "reward"; yield metrics once per update."""
    scorer = untrained(config, run.policy, run.seed)
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
