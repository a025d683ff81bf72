"""The formulas of SimPO and CPO, as pure functions.

Meng et al. 2024, "SimPO: Simple Preference Optimization with a Reference-Free Reward", arXiv:2405.14734, and
Xu et al. 2024, "Contrastive Preference Optimization", arXiv:2401.08417.

Shapes: B pairs of responses to one prompt each.
"""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid


def simpo_loss(
    chosen_logprob: Float[Tensor, " B"], rejected_logprob: Float[Tensor, " B"], beta: float, target_margin: float
) -> Float[Tensor, ""]:
    """Return the negative log-likelihood in nats of preferences with a target margin (eq. 6), averaged over pairs.

    L = −mean log σ(β (a_w − a_l) − γ)   with   a = (1/|y|) Σₜ log π(yₜ | x, y₍<ₜ₎)

    Both log-probabilities are *means* over response tokens, as `masked_row_mean` gives them. γ is in the units of β a.
    The authors' code asks for γ/β; TRL asks for γ.
    """
    return -logsigmoid(beta * (chosen_logprob - rejected_logprob) - target_margin).mean()


def cpo_loss(
    chosen_logprob: Float[Tensor, " B"], rejected_logprob: Float[Tensor, " B"], beta: float
) -> Float[Tensor, ""]:
    """Return CPO's preference loss, that of DPO under a uniform reference, in nats, averaged over pairs.

    L = −mean log σ(β (log π(y_w|x) − log π(y_l|x)))

    Both log-probabilities are *sums* over response tokens. CPO adds α times the loss of imitating the chosen
    responses, which is `sft_loss` of zoo-sft.
    """
    return -logsigmoid(beta * (chosen_logprob - rejected_logprob)).mean()
