"""The training loop of supervised fine-tuning: each update raises the likelihood of a batch of demonstrations."""

import math
from collections.abc import Iterator

from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from zoo_core.datasets.feeds import DemonstrationFeed
from zoo_core.rollout import response_logprobs
from zoo_core.rows import Demonstration
from zoo_core.run import Run
from zoo_core.schedule import set_learning_rate
from zoo_sft.config import SFTConfig
from zoo_sft.loss import sft_loss


def train(config: SFTConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place; yield metrics once per update."""
    yield from imitate(config, run, run.demonstrations)


def train_with_chosen(config: SFTConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` on demonstrations and chosen answers: the data of preference learning without contrast."""
    pairs = run.preferences.all()
    chosen = [Demonstration(pair.prompt, pair.chosen, pair.where, pair.columns) for pair in pairs]
    yield from imitate(config, run, run.demonstrations.only([*run.demonstrations.rows, *chosen]))


def imitate(config: SFTConfig, run: Run, demonstrations: DemonstrationFeed) -> Iterator[dict[str, float]]:
    """Raise the likelihood of these demonstrations."""
    optimizer = run.keep("optimizer", AdamW(run.policy.parameters(), weight_decay=0.0, fused=True))
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

        yield {"loss": loss.item(), "gradient_norm": gradient_norm.item()}
