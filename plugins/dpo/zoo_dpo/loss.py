"""The formula of DPO, as a pure function.

Equation numbers refer to Rafailov et al. 2023, "Direct Preference Optimization: Your Language Model is
Secretly a Reward Model", arXiv:2305.18290.

Shapes: B pairs of responses to one prompt each.
"""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid


def dpo_loss(
    chosen_log_ratio: Float[Tensor, " B"], rejected_log_ratio: Float[Tensor, " B"], beta: float
) -> Float[Tensor, ""]:
    """Return the negative log-likelihood of the preferences in nats (eq. 7), averaged over pairs.

    L = −mean log σ(β (h_w − h_l))   with   h = Σₜ log π(yₜ|x, y₍<ₜ₎) − log π_ref(yₜ|x, y₍<ₜ₎)

    `chosen_log_ratio` is h_w of the preferred response, `rejected_log_ratio` is h_l of the other. Each is the
    *sum* over response tokens, the end-of-text token among them; a mean per token would be another method. β
    h is the reward that the policy implies, up to a function of the prompt: the larger β, the stronger the
    pull to the reference.
    """
    return -logsigmoid(beta * (chosen_log_ratio - rejected_log_ratio)).mean()
