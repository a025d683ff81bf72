"""Training by SimPO and CPO: each gives its loss to the loop in pairs.py. The formulas are in loss.py."""

from collections.abc import Iterator

from jaxtyping import Bool, Float
from torch import Tensor
from zoo_sft.loss import sft_loss

from zoo_core.functional import masked_row_mean, masked_sum
from zoo_core.run import Run
from zoo_simpo.config import CPOConfig, SimPOConfig
from zoo_simpo.loss import cpo_loss, simpo_loss
from zoo_simpo.pairs import train_on_pairs


def train(config: SimPOConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place by SimPO; yield metrics once per update."""

    def loss_of(logprobs: Float[Tensor, "rows T"], mask: Bool[Tensor, "rows T"]) -> Float[Tensor, ""]:
        chosen, rejected = masked_row_mean(logprobs, mask).chunk(2)
        return simpo_loss(chosen, rejected, config.beta, config.target_margin)

    yield from train_on_pairs(config, run, loss_of)


def train_cpo(config: CPOConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place by CPO; yield metrics once per update."""

    def loss_of(logprobs: Float[Tensor, "rows T"], mask: Bool[Tensor, "rows T"]) -> Float[Tensor, ""]:
        chosen, rejected = masked_sum(logprobs, mask).chunk(2)
        imitation = sft_loss(logprobs.chunk(2)[0], mask.chunk(2)[0])
        return cpo_loss(chosen, rejected, config.beta) + config.imitation_coefficient * imitation

    yield from train_on_pairs(config, run, loss_of)
