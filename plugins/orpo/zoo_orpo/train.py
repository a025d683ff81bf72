"""The training loop of ORPO.

Each update imitates the chosen responses of a batch and raises their odds over those of the rejected ones. The formulas
are in loss.py; that of imitation is SFT's.
"""

from collections.abc import Iterator

from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from zoo_sft.loss import sft_loss

from zoo_core.functional import masked_row_mean
from zoo_core.rollout import response_logprobs
from zoo_core.run import Run
from zoo_core.schedule import set_learning_rate
from zoo_orpo.config import ORPOConfig
from zoo_orpo.loss import odds_ratio_loss


def train(config: ORPOConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place; yield metrics once per update."""
    optimizer = run.keep("optimizer", AdamW(run.policy.parameters(), weight_decay=0.0, fused=True))

    for update in run.updates():
        pairs = run.preferences.batch(update, config.batch_size)
        logprobs = response_logprobs(run.policy, pairs)
        imitation = sft_loss(logprobs.chunk(2)[0], pairs.mask.chunk(2)[0])
        chosen, rejected = masked_row_mean(logprobs, pairs.mask).chunk(2)
        contrast = odds_ratio_loss(chosen, rejected)
        loss = imitation + config.odds_ratio_coefficient * contrast

        set_learning_rate(optimizer, config.learning_rate, run.progress)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(run.policy.parameters(), config.max_grad_norm)
        optimizer.step()

        yield {
            "loss": loss.item(),
            "imitation_loss": imitation.item(),
            "odds_ratio_loss": contrast.item(),
            "accuracy": (chosen > rejected).float().mean().item(),
            "chosen_logprob": chosen.mean().item(),
            "rejected_logprob": rejected.mean().item(),
        }
