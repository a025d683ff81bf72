"""The loss, a pure function. The equation is of Zhao et al. 2023, "SLiC-HF", arXiv:2305.10425."""

from jaxtyping import Float
from torch import Tensor


def margin_loss(chosen: Float[Tensor, " B"], rejected: Float[Tensor, " B"], margin: float) -> Float[Tensor, ""]:
    """Return the mean over pairs of max(0, δ − log π(y⁺|x) + log π(y⁻|x)), the first term of eq. 3.

    Shapes: B pairs; `chosen` and `rejected` are log-probabilities of whole answers, summed over their tokens, in nats.
    """
    return (margin - chosen + rejected).clamp(min=0.0).mean()
