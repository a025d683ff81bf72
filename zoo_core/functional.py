"""Pure tensor functions shared by the plugins. No models, no devices, no state.

Shapes: B sequences, T response tokens, V vocabulary entries. A mask is boolean and true on the tokens that count.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy


def token_logprobs(
    logits: Float[Tensor, "*rows V"], tokens: Int[Tensor, " *rows"], temperature: float = 1.0
) -> Float[Tensor, " *rows"]:
    """Log-probability of each token under the logits that predicted it: log softmax(z/τ)[y].

    In float32 whatever the dtype of the logits.
    """
    scaled = logits.float() if temperature == 1.0 else logits.float() / temperature
    losses = cross_entropy(scaled.flatten(0, -2), tokens.flatten(), reduction="none")
    return -losses.view_as(tokens)


def masked_mean(values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, ""]:
    """Mean over the true entries of the mask (token-level, not sequence-level); 0 if there is none."""
    return values.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)


def masked_sum(values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """Sum over the true entries of each row."""
    return values.masked_fill(~mask, 0.0).sum(dim=1)


def masked_whiten(values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """Shift and scale to mean 0 and (population) variance 1 over the mask; 0 elsewhere."""
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean) ** 2, mask)
    return ((values - mean) / (variance + 1e-8).sqrt()).masked_fill(~mask, 0.0)


def clip_fraction(
    logprobs: Float[Tensor, "B T"],
    old_logprobs: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    clip_range: float,
) -> Float[Tensor, ""]:
    """Return the fraction of true tokens with |ρₜ − 1| > ε, a metric: 0 to 1, and 0 in the first minibatch.

    Not in the paper. It counts tokens outside the range whatever the sign of their advantage.
    """
    ratio = (logprobs - old_logprobs).exp()
    return masked_mean(((ratio - 1).abs() > clip_range).float(), mask)


def approximate_kl(
    logprobs: Float[Tensor, "B T"], old_logprobs: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """Return how far the policy moved since sampling, a metric in nats per token, averaged over true tokens.

    ½ mean (log π(yₜ) − log π_old(yₜ))² ≈ KL(π_old‖π)

    Not in the paper; the estimate that N+ logs. Never negative, and biased unless the policies are close.
    """
    return 0.5 * masked_mean((logprobs - old_logprobs) ** 2, mask)


def penalised_scores(
    scores: Float[Tensor, " B"], ended: Bool[Tensor, " B"], missing_eos_penalty: float
) -> Float[Tensor, " B"]:
    """Return the scores, less a penalty where a response was cut off: it is never better off than had it ended.

    r − penalty · [not ended]

    Holds for any scores, since a response is compared with itself. TRL's `missing_eos_penalty`.
    """
    return torch.where(ended, scores, scores - missing_eos_penalty)


def replaced_scores(
    scores: Float[Tensor, " B"], ended: Bool[Tensor, " B"], missing_eos_score: float
) -> Float[Tensor, " B"]:
    """Return the scores, with a constant in place of those of responses that were cut off.

    The "EOS trick" of Huang et al. 2024 (arXiv:2403.17031) and Ziegler et al. 2019: a reward model has seen complete
    texts only, so what it says about others means nothing. Where responses that end score below the constant, not
    ending pays.
    """
    return scores.masked_fill(~ended, missing_eos_score)


def minibatches(size: int, minibatch_size: int, generator: torch.Generator) -> Iterator[Int[Tensor, " M"]]:
    """Yield the row indices of one shuffled pass over `size` rows."""
    order = torch.randperm(size, generator=generator, device=generator.device)
    yield from order.split(minibatch_size)
