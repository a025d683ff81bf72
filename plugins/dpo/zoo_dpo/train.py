"""The training loop of DPO.

Each update raises the log-ratio to the reference of the chosen responses of a batch above that of the rejected ones.
The formula is in loss.py.
"""

from collections.abc import Iterator

from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from zoo_core.functional import masked_sum
from zoo_core.models.cached_logprobs import CachedLogprobs
from zoo_core.rollout import response_logprobs
from zoo_core.run import Run
from zoo_core.schedule import set_learning_rate
from zoo_dpo.config import DPOConfig
from zoo_dpo.loss import dpo_loss


def train(config: DPOConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place; yield metrics once per update."""
    reference = CachedLogprobs(run.reference(), run.keep("reference", {}))
    optimizer = run.keep("optimizer", AdamW(run.policy.parameters(), weight_decay=0.0, fused=True))

    for update in run.updates():
        pairs = run.preferences.batch(update, config.batch_size)
        logprobs = masked_sum(response_logprobs(run.policy, pairs), pairs.mask)
        chosen, rejected = (logprobs - reference(pairs)).chunk(2)
        loss = dpo_loss(chosen, rejected, config.beta)

        set_learning_rate(optimizer, config.learning_rate, run.progress)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(run.policy.parameters(), config.max_grad_norm)
        optimizer.step()

        yield {
            "loss": loss.item(),
            "accuracy": (chosen > rejected).float().mean().item(),
            "chosen_reward": config.beta * chosen.mean().item(),
            "rejected_reward": config.beta * rejected.mean().item(),
        }
