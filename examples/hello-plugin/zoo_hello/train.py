"""The training loop: everything computed is metered, everything kept survives a crash."""

from collections.abc import Iterator

from torch.optim import AdamW

from zoo_core.functional import masked_sum
from zoo_core.rollout import response_logprobs
from zoo_core.run import Run
from zoo_core.schedule import set_learning_rate
from zoo_hello.config import HelloConfig
from zoo_hello.loss import margin_loss


def train(config: HelloConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place; yield metrics once per update."""
    optimizer = run.keep("optimizer", AdamW(run.policy.parameters()))

    for update in run.updates():  # until the budget is spent
        pairs = run.preferences.batch(update, config.batch_size)  # the same rows for every algorithm
        chosen, rejected = masked_sum(response_logprobs(run.policy, pairs), pairs.mask).chunk(2)
        loss = margin_loss(chosen, rejected, config.margin)

        set_learning_rate(optimizer, config.learning_rate, run.progress)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        yield {"loss": loss.item(), "accuracy": (chosen > rejected).float().mean().item()}
