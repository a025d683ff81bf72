"""The formulas of PPO for language models, as pure functions.

Equation numbers refer to Schulman et al. 2017, "Proximal Policy Optimization Algorithms", arXiv:1707.06347,
unless another paper is named. "N+" is Huang et al. 2024, "The N+ Implementation Details of RLHF with PPO",
arXiv:2403.17031.

Shapes: B sequences, T response tokens, S = T + 1 slots. Slot t is the state after t tokens, in which token t
+ 1 is chosen. A response of L tokens passes through the slots 0 to L; in slot L it has ended, and there the
score is paid. So a critic that starts as the reward model is right about slot L from the outset (N+). Masks
are true on a prefix of each row: L tokens, L + 1 slots. Nothing outside them matters, be it infinite.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from zoo_core.functional import masked_mean


def token_rewards(
    scores: Float[Tensor, " B"],
    log_ratio_to_reference: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    kl_coefficient: float,
) -> Float[Tensor, "B T+1"]:
    """Return the reward of each slot: a KL penalty for every token, the score at the end, 0 elsewhere.

    rₜ = −β log(π(yₜ₊₁)/π_ref(yₜ₊₁)) for t < L,   r_L = score

    Summed over slots it is the reward of Ziegler et al. 2019 (arXiv:1909.08593), eq. 2, whose mean over
    responses is E[score] − β KL(π‖π_ref). The penalty of one token can be negative; clamping it would bias
    that mean.
    """
    penalties = (-kl_coefficient * log_ratio_to_reference).masked_fill(~mask, 0.0)
    return pad(penalties, (0, 1)).scatter(1, mask.sum(dim=1, keepdim=True), scores.unsqueeze(1))


def slot_mask(mask: Bool[Tensor, "B T"]) -> Bool[Tensor, "B T+1"]:
    """Return the mask of the L + 1 slots of each response, given the mask of its L tokens."""
    return pad(mask, (1, 0), value=True)


def gae(
    rewards: Float[Tensor, "B S"],
    values: Float[Tensor, "B S"],
    slots: Bool[Tensor, "B S"],
    discount: float,
    gae_lambda: float,
) -> Float[Tensor, "B S"]:
    """Return generalised advantage estimates (eqs. 11 and 12), 0 off the slots.

    Âₜ = δₜ + γλ Âₜ₊₁   with   δₜ = rₜ + γ V(sₜ₊₁) − V(sₜ)

    A response ends for good: the value after its last slot is 0. The advantage of token t + 1 is Âₜ; Âₜ +
    V(sₜ) is the return. (The last exponent printed in eq. 11, T−t+1, should read T−t−1; the recursion has no
    such slip.)
    """
    values = values.masked_fill(~slots, 0.0)
    deltas = (rewards + discount * pad(values[:, 1:], (0, 1)) - values).masked_fill(~slots, 0.0)
    advantage = deltas.new_zeros(len(deltas))
    advantages = []
    for delta in deltas.flip(1).unbind(1):
        advantage = delta + discount * gae_lambda * advantage
        advantages.append(advantage)
    return torch.stack(advantages, dim=1).flip(1)


def clipped_policy_loss(
    logprobs: Float[Tensor, "B T"],
    old_logprobs: Float[Tensor, "B T"],
    advantages: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    clip_range: float,
) -> Float[Tensor, ""]:
    """Return the negative clipped surrogate objective (eq. 7), averaged over all true tokens of the batch.

    L = −mean min(ρₜ Âₜ, clip(ρₜ, 1−ε, 1+ε) Âₜ)   with   ρₜ = π(yₜ)/π_old(yₜ)

    ε is `clip_range`. A token that has moved by more than ε in the direction of its advantage gets no
    gradient.
    """
    # Masked before `exp`: an infinite ratio under the mask would turn gradients into nan.
    ratio = (logprobs - old_logprobs).masked_fill(~mask, 0.0).exp()
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    return -masked_mean(torch.minimum(ratio * advantages, clipped * advantages), mask)


def clipped_value_loss(
    values: Float[Tensor, "B S"],
    old_values: Float[Tensor, "B S"],
    returns: Float[Tensor, "B S"],
    mask: Bool[Tensor, "B S"],
    clip_range: float,
) -> Float[Tensor, ""]:
    """Return half the larger of plain and clipped squared error, averaged over all true slots of the batch.

    L = ½ mean max((V − R)², (V_old + clip(V − V_old, −ε, ε) − R)²)

    Replaces the squared error of eq. 9. Not in the paper: detail 9 of Huang et al. 2022, "The 37
    Implementation Details of Proximal Policy Optimization". A value that has come nearer to its return than ε
    allows gets no gradient.
    """
    # Masked before squaring, for the same reason as above.
    values, old_values, returns = (x.masked_fill(~mask, 0.0) for x in (values, old_values, returns))
    clipped = old_values + (values - old_values).clamp(-clip_range, clip_range)
    return 0.5 * masked_mean(torch.maximum((values - returns) ** 2, (clipped - returns) ** 2), mask)


def adaptive_kl_coefficient(coefficient: float, kl: float, target: float, horizon: float, episodes: int) -> float:
    """Return the next KL coefficient: larger if the KL was above the target, smaller if below.

    β ← β (1 + e·n/H)   with   e = clip(KL/KL_target − 1, −0.2, 0.2)

    Section 2.2 of Ziegler et al. 2019 (arXiv:1909.08593), where n/H is the constant 0.1; their code uses n
    `episodes` since the last call and a `horizon` H in episodes. `kl` and `target` are in nats per response,
    summed over tokens.
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return coefficient * (1 + error * episodes / horizon)
