"""The formulas of reward modelling, as pure functions.

Equation numbers refer to Ouyang et al. 2022, "Training language models to follow instructions with human
feedback", arXiv:2203.02155, unless another paper is named.

Shapes: B pairs of responses to one prompt each. Scores are unbounded real numbers; only their differences are
learnt.
"""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid


def bradley_terry_loss(chosen_scores: Float[Tensor, " B"], rejected_scores: Float[Tensor, " B"]) -> Float[Tensor, ""]:
    """Return the negative log-likelihood of the preferences in nats (eq. 1 with K = 2), averaged over pairs.

    L = −mean log σ(r_w − r_l)   with   r_w the score of the preferred response, r_l of the other

    A ranking of K responses is fitted by its K(K−1)/2 pairs; the paper keeps those of a prompt in one batch.
    """
    return -logsigmoid(chosen_scores - rejected_scores).mean()


def soft_label_loss(
    first_scores: Float[Tensor, " B"],
    second_scores: Float[Tensor, " B"],
    first_preferred: Float[Tensor, " B"],
) -> Float[Tensor, ""]:
    """Return the cross-entropy in nats to preferences that are probabilities, averaged over pairs.

    L = −mean [p log σ(d) + (1 − p) log σ(−d)]   with   d = r₁ − r₂

    `first_preferred` is p, between 0 and 1: how likely the annotator is to prefer the first response. Lee et
    al. 2023 (arXiv:2309.00267, no number) write it as the cross-entropy to softmax(r₁, r₂), which is the
    same. Least at d = logit p.
    """
    return binary_cross_entropy_with_logits(first_scores - second_scores, first_preferred)


def centering_penalty(chosen_scores: Float[Tensor, " B"], rejected_scores: Float[Tensor, " B"]) -> Float[Tensor, ""]:
    """Return the penalty that draws the scores of each pair towards mean 0, averaged over pairs.

    P = mean (r_w + r_l)²

    The preferences leave the level of the scores undetermined; a small multiple of P settles it. Not in the
    paper: Eisenstein et al. 2023, "Helping or Herding?", arXiv:2312.09244, eq. 2.
    """
    return ((chosen_scores + rejected_scores) ** 2).mean()
