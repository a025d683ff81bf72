"""The formulas that REINFORCE++ adds to those of PPO, as pure functions.

Hu et al. 2025, "REINFORCE++: Stabilizing Critic-Free Policy Optimization with Global Advantage Normalization",
arXiv:2501.03262. Token rewards (a divergence at every token, the score at the end) and the clipped loss are PPO's:
`zoo_ppo.loss.token_rewards` and `zoo_ppo.loss.clipped_policy_loss`.

Shapes: B sequences, those of one prompt next to each other; T response tokens, S = T + 1 slots. In slot t token t + 1
is chosen, and in the slot after the last token the score is paid. Masks are true on the tokens of a response.
"""

from jaxtyping import Bool, Float
from torch import Tensor

from zoo_core.functional import masked_whiten


def less_group_mean(scores: Float[Tensor, " B"], samples_per_prompt: int) -> Float[Tensor, " B"]:
    """Return each score less the mean score of all responses to its prompt, its own included.

    R'ᵢ = Rᵢ − (1/k) Σⱼ Rⱼ

    It is not divided by the deviation of the group (GRPO): there all responses but one to an easy prompt being alike,
    a small difference would count as much as a large one elsewhere.
    """
    groups = scores.view(-1, samples_per_prompt)
    return (groups - groups.mean(dim=1, keepdim=True)).flatten()


def rewards_to_go(rewards: Float[Tensor, "B S"]) -> Float[Tensor, "B T"]:
    """Return for each token the sum of its own reward and all later ones of its response.

    Aₜ = Σ_{s≥t} r_s

    There is no discount. With a divergence that costs nothing all tokens of a response have its score.
    """
    return rewards.flip(1).cumsum(1).flip(1)[:, :-1]


def whitened_advantages(rewards: Float[Tensor, "B S"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """Return the rewards to go with mean 0 and variance 1 over all tokens of the batch; 0 off the mask.

    Âₜ = (Aₜ − mean A) / √(var A + 10⁻⁸)

    Mean and (population) variance are over tokens, so a long response has more weight in both.
    """
    return masked_whiten(rewards_to_go(rewards), mask)
