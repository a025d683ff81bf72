"""The loop that SimPO and CPO share: pairs without a reference. They differ in the loss."""

from collections.abc import Callable, Iterator

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from zoo_core.functional import masked_row_mean
from zoo_core.rollout import response_logprobs
from zoo_core.run import Run
from zoo_core.schedule import set_learning_rate
from zoo_simpo.config import CPOConfig, SimPOConfig

LossOf = Callable[[Float[Tensor, "rows T"], Bool[Tensor, "rows T"]], Float[Tensor, ""]]
"""The loss of the log-probabilities of response tokens and their mask: all chosen responses, then the rejected ones."""


def train_on_pairs(config: SimPOConfig | CPOConfig, run: Run, loss_of: LossOf) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place by a loss of log-probabilities; yield metrics once per update."""
    optimizer = run.keep("optimizer", AdamW(run.policy.parameters(), weight_decay=0.0, fused=True))

    for update in run.updates():
        pairs = run.preferences.batch(update, config.batch_size)
        logprobs = response_logprobs(run.policy, pairs)
        loss = loss_of(logprobs, pairs.mask)

        set_learning_rate(optimizer, config.learning_rate, run.progress)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(run.policy.parameters(), config.max_grad_norm)
        optimizer.step()

        chosen, rejected = masked_row_mean(logprobs.detach(), pairs.mask).chunk(2)
        yield {
            "loss": loss.item(),
            "accuracy": (chosen > rejected).float().mean().item(),
            "chosen_logprob": chosen.mean().item(),
            "rejected_logprob": rejected.mean().item(),
        }
