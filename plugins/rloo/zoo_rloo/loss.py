"""The formulas of RLOO, as pure functions.

Ahmadian et al. 2024, "Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human Feedback in
LLMs", arXiv:2402.14740; the estimator is that of Kool et al. 2019, "Buy 4 REINFORCE Samples, Get a Baseline for
Free!". A whole response is one action: log-probabilities are sums over tokens.

Shapes: B = prompts · k sequences, those of one prompt next to each other; T response tokens. Masks are true on the
tokens of a response, EOS included.
"""

from jaxtyping import Bool, Float
from torch import Tensor

from zoo_core.functional import masked_sum


def regularised_rewards(
    scores: Float[Tensor, " B"],
    log_ratio_to_reference: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    kl_coefficient: float,
) -> Float[Tensor, " B"]:
    """Return the score of each response less its divergence from the reference, summed over tokens.

    R(x, y) = r(x, y) − β log(π(y|x)/π_ref(y|x))   with   log π(y|x) = Σₜ log π(yₜ | x, y₍<ₜ₎)

    Its mean over responses is E[r] − β KL(π‖π_ref). The ratio is a number here: no gradient is meant to flow
    through it, and none is missing, for E[∇ log π] = 0.
    """
    return scores - kl_coefficient * masked_sum(log_ratio_to_reference, mask)


def leave_one_out_advantages(rewards: Float[Tensor, " B"], samples_per_prompt: int) -> Float[Tensor, " B"]:
    """Return each reward less the mean reward of the other responses to its prompt.

    Aᵢ = Rᵢ − 1/(k−1) Σ_{j≠i} Rⱼ = k/(k−1) (Rᵢ − mean R)

    k is `samples_per_prompt`, at least 2. The baseline does not depend on yᵢ, so the gradient is unbiased; with
    yᵢ in it (GRPO) it would be (k−1)/k of the gradient on average. Advantages of one prompt sum to 0.
    """
    groups = rewards.view(-1, samples_per_prompt)
    others = (groups.sum(dim=1, keepdim=True) - groups) / (samples_per_prompt - 1)
    return (groups - others).flatten()


def rloo_loss(
    logprobs: Float[Tensor, "B T"], advantages: Float[Tensor, " B"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """Return the loss whose gradient is the REINFORCE estimate: sum over tokens, mean over the batch's responses.

    L = −(1/B) Σᵢ Aᵢ log π(yᵢ | x)

    Its value says nothing. A long response has the same say as a short one, but more tokens to say it with:
    dividing by the length would change the objective.
    """
    return -(advantages * masked_sum(logprobs, mask)).mean()
