"""The formulas of GRPO, as pure functions.

Equation numbers refer to Shao et al. 2024, "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open
Language Models", arXiv:2402.03300, unless another paper is named. "DAPO" is Yu et al. 2025, arXiv:2503.14476; "Dr.
GRPO" is Liu et al. 2025, "Understanding R1-Zero-Like Training: A Critical Perspective", arXiv:2503.20783; "GSPO" is
Zheng et al. 2025, "Group Sequence Policy Optimization", arXiv:2507.18071; "CISPO" is MiniMax 2025, "MiniMax-M1: Scaling
Test-Time Compute Efficiently with Lightning Attention", arXiv:2506.13585; "V3.2" is DeepSeek-AI 2025, "DeepSeek-V3.2:
Pushing the Frontier of Open Large Language Models", arXiv:2512.02556.

Shapes: B = prompts · G sequences, those of one prompt (a group) next to each other; T response tokens. Masks are true
on the tokens of a response, EOS included. Values outside them do not matter, even if infinite.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from zoo_core.functional import masked_mean, masked_row_mean, masked_sum

SMALLEST = 1e-4
"""Added to the deviation of a group, so that a group of equal scores gets advantages of 0 (as in TRL)."""


def centred_advantages(scores: Float[Tensor, " B"], group_size: int) -> Float[Tensor, " B"]:
    """Return each score less the mean of its group (Dr. GRPO).

    Âᵢ = rᵢ − mean(r)

    The mean holds rᵢ itself, so the expected gradient is (G−1)/G of that of E[r].
    """
    groups = scores.view(-1, group_size)
    return (groups - groups.mean(dim=1, keepdim=True)).flatten()


def scaled_advantages(scores: Float[Tensor, " B"], group_size: int) -> Float[Tensor, " B"]:
    """Return centred scores in standard deviations of their group (section 4.1.2).

    Âᵢ = (rᵢ − mean(r)) / (std(r) + 10⁻⁴)

    A prompt on which responses hardly differ thus counts as much as one on which they differ a lot. The paper does
    not say which deviation it is; this is the sample's, with G − 1, so G must be 2 or more.
    """
    deviations = scores.view(-1, group_size).std(dim=1, correction=1).repeat_interleave(group_size)
    return centred_advantages(scores, group_size) / (deviations + SMALLEST)


def clipped_surrogate(
    logprobs: Float[Tensor, "B T"],
    old_logprobs: Float[Tensor, "B T"],
    advantages: Float[Tensor, " B"],
    mask: Bool[Tensor, "B T"],
    clip_range: float,
) -> Float[Tensor, "B T"]:
    """Return the negative clipped surrogate objective of each token, the first term of eq. 3; no reduction.

    −min(ρₜ Âᵢ, clip(ρₜ, 1−ε, 1+ε) Âᵢ)   with   ρₜ = π(yₜ)/π_old(yₜ)

    ε is `clip_range`. Every token of a response has the response's advantage.
    """
    return clip_higher_surrogate(logprobs, old_logprobs, advantages, mask, clip_range, clip_range)


def clip_higher_surrogate(
    logprobs: Float[Tensor, "B T"],
    old_logprobs: Float[Tensor, "B T"],
    advantages: Float[Tensor, " B"],
    mask: Bool[Tensor, "B T"],
    clip_range_low: float,
    clip_range_high: float,
) -> Float[Tensor, "B T"]:
    """Return the negative surrogate objective of each token with two clip ranges (DAPO, eq. 10); no reduction.

    −min(ρₜ Âᵢ, clip(ρₜ, 1−ε₋, 1+ε₊) Âᵢ)   with   ρₜ = π(yₜ)/π_old(yₜ)

    A token of small probability needs a large ratio to become likely: with ε₊ > ε₋ more of it is left to it.
    """
    # Masked before `exp`: an infinite ratio under the mask would turn gradients into nan.
    ratio = (logprobs - old_logprobs).masked_fill(~mask, 0.0).exp()
    clipped = ratio.clamp(1 - clip_range_low, 1 + clip_range_high)
    return -torch.minimum(ratio * advantages.unsqueeze(1), clipped * advantages.unsqueeze(1))


def sequence_ratio(
    logprobs: Float[Tensor, "B T"], old_logprobs: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, " B"]:
    """Return the geometric mean of the ratios of a response's tokens (GSPO, eq. 7), with gradient.

    sᵢ = (π(yᵢ)/π_old(yᵢ))^(1/|yᵢ|) = exp((1/|yᵢ|) Σₜ log ρₜ)
    """
    return masked_row_mean(logprobs - old_logprobs, mask).exp()


def gspo_loss(
    ratio: Float[Tensor, " B"], advantages: Float[Tensor, " B"], clip_range_low: float, clip_range_high: float
) -> Float[Tensor, ""]:
    """Return the negative clipped objective of whole responses (GSPO, eq. 5), averaged over responses.

    −(1/B) Σᵢ min(sᵢ Âᵢ, clip(sᵢ, 1−ε₋, 1+ε₊) Âᵢ)

    `ratio` is s of `sequence_ratio`. A response is clipped as a whole. Where π = π_old the gradient is that of the
    surrogate of eq. 3 under `grpo`.
    """
    clipped = ratio.clamp(1 - clip_range_low, 1 + clip_range_high)
    return -torch.minimum(ratio * advantages, clipped * advantages).mean()


def capped_reinforce(
    logprobs: Float[Tensor, "B T"],
    old_logprobs: Float[Tensor, "B T"],
    advantages: Float[Tensor, " B"],
    mask: Bool[Tensor, "B T"],
    weight_cap: float,
) -> Float[Tensor, "B T"]:
    """Return the REINFORCE loss of each token, weighted by its capped ratio (CISPO, eq. 4); no reduction.

    −sg(min(ρₜ, c)) Âᵢ log π(yₜ)   with   ρₜ = π(yₜ)/π_old(yₜ)

    sg stops the gradient; c is `weight_cap`. No token loses its gradient, as one does that is clipped: its weight ends
    at c. The value says nothing. The paper clips ρ from below as well, but at a bound that takes no effect.
    """
    ratio = (logprobs - old_logprobs).masked_fill(~mask, 0.0).exp().detach()
    return -ratio.clamp(max=weight_cap) * advantages.unsqueeze(1) * logprobs.masked_fill(~mask, 0.0)


def kl_penalty(
    logprobs: Float[Tensor, "B T"],
    old_logprobs: Float[Tensor, "B T"],
    reference_logprobs: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
) -> Float[Tensor, "B T"]:
    """Return the estimate "k3" of the divergence from the reference at each token (eq. 4); no reduction.

    k₃ = π_ref(yₜ)/π(yₜ) − log(π_ref(yₜ)/π(yₜ)) − 1 ≥ 0

    Its mean over tokens drawn from π is KL(π‖π_ref). Its gradient is not: drawn from π, ∇k₃ has the mean of
    ∇KL(π_ref‖π), the divergence the other way round. PPO and RLOO put the penalty into the reward instead, where
    its gradient is that of KL(π‖π_ref). `old_logprobs` do not matter.
    """
    log_ratio = (reference_logprobs - logprobs).masked_fill(~mask, 0.0)
    return log_ratio.exp() - log_ratio - 1


def unbiased_kl_penalty(
    logprobs: Float[Tensor, "B T"],
    old_logprobs: Float[Tensor, "B T"],
    reference_logprobs: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
) -> Float[Tensor, "B T"]:
    """Return k3 times the importance ratio, with gradient through both (V3.2, eq. 7); no reduction.

    ρₜ k₃   with   ρₜ = π(yₜ)/π_old(yₜ)

    Over tokens drawn from π_old its mean is KL(π‖π_ref) at each place, and the mean of its gradient is that of
    KL(π‖π_ref), however far π has moved. TRL's `use_bias_correction_kl`. Nothing is clipped.
    """
    importance = (logprobs - old_logprobs).masked_fill(~mask, 0.0).exp()  # masked before `exp`, as above
    return importance * kl_penalty(logprobs, old_logprobs, reference_logprobs, mask)


def grpo(losses: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], response_tokens: int) -> Float[Tensor, ""]:
    """Return the mean over the tokens of each sequence, then over sequences (eq. 3).

    (1/B) Σᵢ (1/|yᵢ|) Σₜ lᵢₜ

    A token of a long response counts less; `response_tokens` does not matter.
    """
    return masked_row_mean(losses, mask).mean()


def dapo(losses: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], response_tokens: int) -> Float[Tensor, ""]:
    """Return the mean over all true tokens of the batch (DAPO, section 3.3).

    Σᵢₜ lᵢₜ / Σᵢ |yᵢ|

    A long response counts more; `response_tokens` does not matter.
    """
    return masked_mean(losses, mask)


def dr_grpo(losses: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], response_tokens: int) -> Float[Tensor, ""]:
    """Return the sum over all true tokens, divided by a constant: the largest number of tokens (Dr. GRPO).

    Σᵢₜ lᵢₜ / (B · `response_tokens`)

    It is the policy gradient up to a factor that does not depend on any length.
    """
    return masked_sum(losses, mask).mean() / response_tokens


def zero_spread_fraction(scores: Float[Tensor, " B"], group_size: int) -> Float[Tensor, ""]:
    """Return the fraction of groups whose scores are all equal, a metric: such a group teaches nothing."""
    groups = scores.view(-1, group_size)
    return (groups.amax(dim=1) == groups.amin(dim=1)).float().mean()
