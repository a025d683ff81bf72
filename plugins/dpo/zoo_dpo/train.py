"""Training by DPO and its relatives: each gives its loss to the loop in pairs.py. The formulas are in loss.py."""

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor

from zoo_core.run import Run
from zoo_dpo.config import DPOConfig
from zoo_dpo.loss import (
    conservative_dpo_loss,
    dpo_loss,
    dpo_nll_loss,
    dpo_norm_loss,
    dpo_positive_loss,
    ipo_loss,
    robust_dpo_loss,
)
from zoo_dpo.pairs import Pairs, train_on_pairs
from zoo_dpo.relatives import (
    ConservativeDPOConfig,
    DPONLLConfig,
    DPONormConfig,
    DPOPositiveConfig,
    IPOConfig,
    RobustDPOConfig,
)

Scalar = Float[Tensor, ""]


def train(config: DPOConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place by DPO; yield metrics once per update."""

    def loss_of(pairs: Pairs) -> Scalar:
        return dpo_loss(pairs.chosen, pairs.rejected, config.beta)

    yield from train_on_pairs(config, run, loss_of, config.beta)


def train_conservative(config: ConservativeDPOConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place by conservative DPO; yield metrics once per update."""

    def loss_of(pairs: Pairs) -> Scalar:
        return conservative_dpo_loss(pairs.chosen, pairs.rejected, config.beta, config.label_noise)

    yield from train_on_pairs(config, run, loss_of, config.beta)


def train_robust(config: RobustDPOConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place by robust DPO; yield metrics once per update."""

    def loss_of(pairs: Pairs) -> Scalar:
        return robust_dpo_loss(pairs.chosen, pairs.rejected, config.beta, config.label_noise)

    yield from train_on_pairs(config, run, loss_of, config.beta)


def train_ipo(config: IPOConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place by IPO, on log-ratios per token; yield metrics once per update."""

    def loss_of(pairs: Pairs) -> Scalar:
        return ipo_loss(pairs.chosen / pairs.chosen_tokens, pairs.rejected / pairs.rejected_tokens, config.tau)

    yield from train_on_pairs(config, run, loss_of, config.tau)


def train_nll(config: DPONLLConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place by DPO and imitation of chosen answers; yield metrics once per update."""

    def loss_of(pairs: Pairs) -> Scalar:
        imitated = pairs.chosen_logprob, pairs.chosen_tokens
        return dpo_nll_loss(pairs.chosen, pairs.rejected, *imitated, config.beta, config.imitation_coefficient)

    yield from train_on_pairs(config, run, loss_of, config.beta)


def train_norm(config: DPONormConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place by DPO per token; yield metrics once per update."""

    def loss_of(pairs: Pairs) -> Scalar:
        tokens = pairs.chosen_tokens, pairs.rejected_tokens
        return dpo_norm_loss(pairs.chosen, pairs.rejected, *tokens, config.beta)

    yield from train_on_pairs(config, run, loss_of, config.beta)


def train_positive(config: DPOPositiveConfig, run: Run) -> Iterator[dict[str, float]]:
    """Train `run.policy` in place by DPO-Positive; yield metrics once per update."""

    def loss_of(pairs: Pairs) -> Scalar:
        return dpo_positive_loss(pairs.chosen, pairs.rejected, config.beta, config.penalty_coefficient)

    yield from train_on_pairs(config, run, loss_of, config.beta)
