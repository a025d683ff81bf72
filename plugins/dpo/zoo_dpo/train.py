"""Training by DPO and its relatives: each gives its loss to the loop in pairs.py. The formulas are in loss.py."""

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor

from zoo_core.rollout import Responses
from zoo_core.run import Run
from zoo_dpo.config import ConservativeDPOConfig, DPOConfig, IPOConfig, RobustDPOConfig
from zoo_dpo.loss import conservative_dpo_loss, dpo_loss, ipo_loss, robust_dpo_loss
from zoo_dpo.pairs import train_on_pairs


def train(config: DPOConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place by DPO; yield metrics once per update."""

    def loss_of(chosen: Float[Tensor, " B"], rejected: Float[Tensor, " B"], _: Responses) -> Float[Tensor, ""]:
        return dpo_loss(chosen, rejected, config.beta)

    yield from train_on_pairs(config, run, loss_of, config.beta)


def train_conservative(config: ConservativeDPOConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place by conservative DPO; yield metrics once per update."""

    def loss_of(chosen: Float[Tensor, " B"], rejected: Float[Tensor, " B"], _: Responses) -> Float[Tensor, ""]:
        return conservative_dpo_loss(chosen, rejected, config.beta, config.label_noise)

    yield from train_on_pairs(config, run, loss_of, config.beta)


def train_robust(config: RobustDPOConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place by robust DPO; yield metrics once per update."""

    def loss_of(chosen: Float[Tensor, " B"], rejected: Float[Tensor, " B"], _: Responses) -> Float[Tensor, ""]:
        return robust_dpo_loss(chosen, rejected, config.beta, config.label_noise)

    yield from train_on_pairs(config, run, loss_of, config.beta)


def train_ipo(config: IPOConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place by IPO, on log-ratios per token; yield metrics once per update."""

    def loss_of(chosen: Float[Tensor, " B"], rejected: Float[Tensor, " B"], pairs: Responses) -> Float[Tensor, ""]:
        chosen_tokens, rejected_tokens = pairs.mask.sum(1).chunk(2)
        return ipo_loss(chosen / chosen_tokens, rejected / rejected_tokens, config.tau)

    yield from train_on_pairs(config, run, loss_of, config.tau)
