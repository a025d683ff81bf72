"""The formulas of learning from AI feedback, as pure functions.

Lee et al. 2023, "RLAIF vs. RLHF", arXiv:2309.00267, whose formulas bear no numbers, unless "CAI" is named: Bai
et al. 2022, "Constitutional AI", arXiv:2212.08073. The loss of the reward model is zoo-reward-model's
`soft_label_loss`, PPO's are zoo-ppo's, the loss of fine-tuning on revisions is zoo-sft's.

Shapes: B pairs or responses, T response tokens, K levels of a rating, from worst to best. Log-probabilities of a
judge's answers need not sum to 1: they are normalised over the answers that were offered.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from zoo_core.functional import masked_mean, masked_sum


def debiased_preference(answers: Float[Tensor, "B 2"], swapped_answers: Float[Tensor, "B 2"]) -> Float[Tensor, " B"]:
    """Return the probability that the judge prefers the first response, averaged over both orders of showing them.

    p = ½ (P("first" | y₁, y₂) + P("second" | y₂, y₁))   with   P the softmax over the two answers

    Column 0 is log P("first"), column 1 log P("second"). A judge that goes by position alone gives ½.
    """
    return (answers.softmax(1)[:, 0] + swapped_answers.softmax(1)[:, 1]) / 2


def clamped_preference(preferences: Float[Tensor, " B"], lowest: float, highest: float) -> Float[Tensor, " B"]:
    """Return the preferences clamped to bounds (CAI, section 4.1: 0.4 and 0.6).

    For judges that think before they answer: then their answers are near 0 or 1, whatever they know.
    """
    return preferences.clamp(lowest, highest)


def expected_rating(answers: Float[Tensor, "B K"]) -> Float[Tensor, " B"]:
    """Return the mean rating under the judge's probabilities, brought from 1 … K to −1 … 1 (d-RLAIF).

    s = Σ i P(i),   r = (s − (K + 1)/2) / ((K − 1)/2)

    With K = 10 this is (s − 5.5)/4.5. The answers of a judge that takes all for equally likely are worth 0.
    """
    levels = torch.linspace(-1.0, 1.0, answers.shape[1], device=answers.device)
    return (answers.softmax(1) * levels).sum(1)


def regularised_return(
    scores: Float[Tensor, " B"],
    log_ratio_to_reference: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    kl_coefficient: float,
) -> Float[Tensor, " B"]:
    """Return the return that REINFORCE maximises: the score less the divergence from the reference, mixed by β.

    R = (1 − β) r(x, y) − β Σ log(π(yₜ)/π_ref(yₜ))

    The sum over tokens is an unbiased estimate of KL(π‖π_ref). Unlike in PPO the score is weighed down by 1 − β.
    """
    return (1 - kl_coefficient) * scores - kl_coefficient * masked_sum(log_ratio_to_reference, mask)


def reinforce_loss(
    logprobs: Float[Tensor, "B T"],
    values: Float[Tensor, "B T"],
    returns: Float[Tensor, " B"],
    mask: Bool[Tensor, "B T"],
) -> Float[Tensor, ""]:
    """Return the loss whose gradient is REINFORCE's with a learned baseline: summed over tokens, mean over responses.

    L = −mean Σ log π(yₜ) · sg(R − V(x, y₍<ₜ₎))

    Every token is credited with the whole return of its response. `sg` stops the gradient: a baseline that moved
    with the policy's loss would be no baseline.
    """
    # Masked before the product: an infinity under the mask would turn gradients into nan.
    advantages = (returns.unsqueeze(1) - values).detach().masked_fill(~mask, 0.0)
    return -masked_sum(logprobs * advantages, mask).mean()


def value_loss(
    values: Float[Tensor, "B T"], returns: Float[Tensor, " B"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """Return the squared error of the baseline, averaged over all true tokens of the batch.

    L = mean (R − V(x, y₍<ₜ₎))²
    """
    # Masked before squaring, for the same reason as above.
    errors = (returns.unsqueeze(1) - values).masked_fill(~mask, 0.0)
    return masked_mean(errors**2, mask)
