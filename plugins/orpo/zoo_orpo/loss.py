"""The formulas of ORPO, as pure functions.

Equation numbers refer to Hong et al. 2024, "ORPO: Monolithic Preference Optimization without Reference Model",
arXiv:2403.07691.

Shapes: B pairs of responses to one prompt each.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

NEAREST_TO_0 = -1e-7
"""The largest log-likelihood whose odds are told apart: in float32 the odds of 0 nats are infinite."""


def log_odds(logprob: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Return the logarithm of the odds of a response by its likelihood per token (eq. 4).

    log odds = a − log(1 − eᵃ)   with   a = (1/|y|) Σₜ log π(yₜ | x, y₍<ₜ₎)

    Above −10⁻⁷ nats per token the odds grow no further and have no gradient.
    """
    a = logprob.clamp(max=NEAREST_TO_0)
    # expm1 keeps the digits of 1 − eᵃ near 0. Far below 0 it loses those of log(1 − eᵃ), which a itself then dwarfs: so
    # there is no need to switch to log1p(−eᵃ) at −ln 2, as for log(1 − eᵃ) alone.
    return a - torch.log(-torch.expm1(a))


def odds_ratio_loss(chosen_logprob: Float[Tensor, " B"], rejected_logprob: Float[Tensor, " B"]) -> Float[Tensor, ""]:
    """Return the negative log-sigmoid of the log odds ratio, in nats (eq. 7), averaged over pairs.

    L_OR = −mean log σ(log odds(y_w) − log odds(y_l))

    Both log-probabilities are *means* over response tokens, the end-of-text token among them. ORPO's loss is that of
    imitating the chosen responses (`sft_loss` of zoo-sft) plus λ L_OR (eq. 6).
    """
    return -logsigmoid(log_odds(chosen_logprob) - log_odds(rejected_logprob)).mean()
