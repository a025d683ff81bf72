"""The loop that DPO and its relatives share; they differ in the loss.

Each update raises the log-ratio to the reference of the chosen responses of a batch above that of the rejected ones.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from zoo_core.functional import masked_sum
from zoo_core.models.cached_logprobs import CachedLogprobs
from zoo_core.rollout import response_logprobs
from zoo_core.run import Run
from zoo_core.schedule import set_learning_rate
from zoo_dpo.config import DPOConfig
from zoo_dpo.relatives import IPOConfig


@dataclass(frozen=True)
class Pairs:
    """What a loss reads of a batch of pairs. Log-ratios and log-probabilities are sums over response tokens."""

    chosen: Float[Tensor, " B"]
    """Log-ratios to the reference of the chosen responses."""
    rejected: Float[Tensor, " B"]
    """The same of the rejected ones."""
    chosen_logprob: Float[Tensor, " B"]
    """log π of the chosen responses."""
    chosen_tokens: Int[Tensor, " B"]
    rejected_tokens: Int[Tensor, " B"]


LossOf = Callable[[Pairs], Float[Tensor, ""]]


def train_on_pairs(
    config: DPOConfig | IPOConfig, run: Run, loss_of: LossOf, reward_per_nat: float
) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place by a loss of log-ratios; yield metrics once per update.

    `reward_per_nat` is the coefficient by which the loss reads a log-ratio as a reward, for the metrics.
    """
    reference = CachedLogprobs(run.reference(), run.keep("reference", {}))
    optimizer = run.keep("optimizer", AdamW(run.policy.parameters(), weight_decay=0.0, fused=True))

    for update in run.updates():
        pairs = run.preferences.batch(update, config.batch_size)
        logprobs = masked_sum(response_logprobs(run.policy, pairs), pairs.mask)
        chosen, rejected = (logprobs - reference(pairs)).chunk(2)
        loss = loss_of(Pairs(chosen, rejected, logprobs.chunk(2)[0], *pairs.mask.sum(1).chunk(2)))

        set_learning_rate(optimizer, config.learning_rate, run.progress)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(run.policy.parameters(), config.max_grad_norm)
        optimizer.step()

        yield {
            "loss": loss.item(),
            "accuracy": (chosen > rejected).float().mean().item(),
            "chosen_reward": reward_per_nat * chosen.mean().item(),
            "rejected_reward": reward_per_nat * rejected.mean().item(),
        }
