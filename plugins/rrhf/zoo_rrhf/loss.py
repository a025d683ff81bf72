"""The formulas of RRHF, as pure functions.

Equation numbers refer to Yuan et al. 2023, "RRHF: Rank Responses to Align Language Models with Human Feedback
without tears", arXiv:2304.05302, section 3.

Shapes: P prompts with a group of up to K responses each. `present` is true on the responses that a group has,
`complete` on those of them that ended, which are one or more. Nothing outside matters. The loss of a batch is the mean
over its prompts of L = L_rank + L_ft.

p is the log-probability per token of each response under the policy (eq. 1): pᵢ = Σₜ log π(yᵢₜ | x, yᵢ₍<ₜ₎) / |yᵢ|, the
`masked_row_mean` of those of its tokens. It is no mean over the batch: else long responses would rank last.
"""

import math

from jaxtyping import Bool, Float
from torch import Tensor


def rank_loss(p: Float[Tensor, "P K"], scores: Float[Tensor, "P K"], present: Bool[Tensor, "P K"]) -> Float[Tensor, ""]:
    """Return the rank loss, which is 0 if p has the order of the scores (eq. 2): sum over pairs, mean over prompts.

    L_rank = Σ max(0, pᵢ − pⱼ)   over i, j with rᵢ < rⱼ

    Pairs are formed within a group only. There is no margin: a group in the right order has no gradient.
    Responses with the same score are no pair. Only the order of the scores matters.
    """
    pairs = (scores.unsqueeze(2) < scores.unsqueeze(1)) & present.unsqueeze(2) & present.unsqueeze(1)
    excess = (p.unsqueeze(2) - p.unsqueeze(1)).relu()
    return excess.masked_fill(~pairs, 0.0).sum(dim=(1, 2)).mean()


def fine_tune_loss(
    logprobs: Float[Tensor, "P K"], scores: Float[Tensor, "P K"], complete: Bool[Tensor, "P K"]
) -> Float[Tensor, ""]:
    """Return the negative log-likelihood of the best complete response of each group (eq. 3), averaged over prompts.

    L_ft = −Σₜ log π(yᵢₜ | x, yᵢ₍<ₜ₎)   with   i = argmax r

    `logprobs` is the *sum* over the tokens of each response. Of several best responses the first one is taken. One that
    was cut off is never imitated (not in the paper): it has no end to learn.
    """
    best = scores.masked_fill(~complete, -math.inf).argmax(dim=1, keepdim=True)
    return -logprobs.gather(1, best).mean()
