"""The formulas of RAFT, as pure functions: how responses are ranked and selected, and the loss of RAFT++.

Dong et al. 2023, "RAFT: Reward rAnked FineTuning for Generative Foundation Model Alignment", arXiv:2304.06767; RAFT++
is that of Xiong et al. 2025, "A Minimalist Approach to LLM Reasoning: from Rejection Sampling to Reinforce",
arXiv:2504.11343. RAFT itself fine-tunes by `zoo_sft.loss.sft_loss`.

Shapes: B = prompts · K responses, those to one prompt next to each other; T response tokens; M ≤ B responses selected.
Masks are true on the tokens of a response, EOS included.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from zoo_core.functional import masked_mean, masked_sum


def ranking_scores(scores: Float[Tensor, " B"], ended: Bool[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Return the scores, −∞ for responses that were cut off: they are never selected.

    Not in the paper, whose implementation discards malformed responses in this way.
    """
    return scores.masked_fill(~ended, -torch.inf)


def regularised_scores(
    scores: Float[Tensor, " B"],
    log_ratio_to_reference: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    kl_coefficient: float,
) -> Float[Tensor, " B"]:
    """Return the scores less the divergence from the reference, summed over tokens (section 3, "KL regularization").

    r̃(x, y) = r(x, y) − β log(π(y|x)/π₀(y|x))

    It changes which responses are selected, never the loss.
    """
    return scores - kl_coefficient * masked_sum(log_ratio_to_reference, mask)


def best_of_each(scores: Float[Tensor, " B"], samples_per_prompt: int) -> Int[Tensor, " M"]:
    """Return the row of each prompt's best response (algorithm 1); of equals the first, of −∞ none.

    argmaxⱼ r(x, yⱼ) over j = 1..K

    If all scores differ, the selected response has the distribution F(y)ᴷ − F(y⁻)ᴷ, where F(y) is the probability
    of a response no better than y and F(y⁻) that of a worse one.
    """
    best = scores.view(-1, samples_per_prompt).max(dim=1)
    firsts = torch.arange(0, len(scores), samples_per_prompt, device=scores.device)
    return (firsts + best.indices)[best.values > -torch.inf]


def best_of_all(scores: Float[Tensor, " B"], samples_per_prompt: int) -> Int[Tensor, " M"]:
    """Return the rows of the best 1/K of the batch, whatever their prompts, best first; of −∞ none.

    The paper's other ranking, for rewards that can be compared across prompts.
    """
    order = scores.argsort(descending=True, stable=True)[: len(scores) // samples_per_prompt]
    return order[scores[order] > -torch.inf]


def all_positive(scores: Float[Tensor, " B"], samples_per_prompt: int) -> Int[Tensor, " M"]:
    """Return the rows of all responses with a score above 0 (RAFT++); `samples_per_prompt` does not matter."""
    return (scores > 0).nonzero().squeeze(1)


def raft_plus_plus_loss(
    logprobs: Float[Tensor, "M T"],
    old_logprobs: Float[Tensor, "M T"],
    weights: Float[Tensor, " M"],
    mask: Bool[Tensor, "M T"],
    clip_range: float,
) -> Float[Tensor, ""]:
    """Return the negative clipped surrogate of selected responses, averaged over all their true tokens.

    L = −mean wᵢ min(ρₜ, 1+ε)   with   ρₜ = π(yₜ)/π_old(yₜ) and wᵢ > 0 the score

    PPO's loss where every advantage is positive: of its two bounds only the upper one is ever felt. A token that
    has become likelier by more than ε = `clip_range` gets no gradient.
    """
    # Masked before `exp`: an infinite ratio under the mask would turn gradients into nan.
    ratio = (logprobs - old_logprobs).masked_fill(~mask, 0.0).exp()
    return -masked_mean(weights.unsqueeze(1) * ratio.clamp(max=1 + clip_range), mask)
