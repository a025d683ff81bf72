"""The formula of supervised fine-tuning, as a pure function.

Ouyang et al. 2022, "Training language models to follow instructions with human feedback", arXiv:2203.02155,
section 3.5 ("SFT"). The paper prints no formula for this step; it is maximum likelihood of the
demonstrations.

Shapes: B sequences, T response tokens. The mask is true on the tokens to imitate, the end-of-text token among
them.
"""

from jaxtyping import Bool, Float
from torch import Tensor

from zoo_core.functional import masked_mean


def sft_loss(logprobs: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, ""]:
    """Return the negative log-likelihood in nats per token, averaged over all true tokens of the batch.

    L = −(1/N) Σ log π(yₜ | x, y₍<ₜ₎)   with   N = number of true tokens

    A long response therefore weighs more than a short one. To accumulate gradients over micro-batches, weigh
    each by its own N: the plain mean of their losses is not the loss of the batch. Whether prompts are
    imitated too is decided by the mask, not here.
    """
    return -masked_mean(logprobs, mask)
