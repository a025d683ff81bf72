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
    """Return the log-probability of each token under the logits that predicted it: log softmax(z/τ)[y].

    The result is in float32, or in float64 if the logits are.
    """
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    scaled = exact if temperature == 1.0 else exact / temperature
    losses = cross_entropy(scaled.flatten(0, -2), tokens.flatten(), reduction="none")
    return -losses.view_as(tokens)


def masked_mean(values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, ""]:
    """Return the mean over all true entries of the mask (token-level, not sequence-level); 0 if no entry is true."""
    return values.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)


def masked_sum(values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """Return the sum of each row over the true entries of the mask."""
    return values.masked_fill(~mask, 0.0).sum(dim=1)


def masked_row_mean(values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """Return the mean of each row over the true entries of the mask; 0 for a row without any."""
    return masked_sum(values, mask) / mask.sum(dim=1).clamp(min=1)


def masked_whiten(values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """Return the values shifted and scaled to mean 0 and (population) variance 1 over the mask; 0 elsewhere."""
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

    The paper does not have it. Tokens outside the range count whatever the sign of their advantage.
    """
    ratio = (logprobs - old_logprobs).exp()
    return masked_mean(((ratio - 1).abs() > clip_range).float(), mask)


def approximate_kl(
    logprobs: Float[Tensor, "B T"], old_logprobs: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """Return how far the policy moved since sampling, a metric in nats per token, averaged over true tokens.

    ½ mean (log π(yₜ) − log π_old(yₜ))² ≈ KL(π_old‖π)

    The paper does not have it; N+ logs this estimate. It is never negative, and biased unless the policies are close.
    """
    return 0.5 * masked_mean((logprobs - old_logprobs) ** 2, mask)


def penalised_scores(
    scores: Float[Tensor, " B"], ended: Bool[Tensor, " B"], missing_eos_penalty: float
) -> Float[Tensor, " B"]:
    """Return the scores, less a penalty for each response that was cut off, so that being cut off never pays.

    r − penalty · [not ended]

    That holds for any scores, since a response is compared with itself. TRL calls the penalty `missing_eos_penalty`.
    """
    return torch.where(ended, scores, scores - missing_eos_penalty)


def replaced_scores(
    scores: Float[Tensor, " B"], ended: Bool[Tensor, " B"], missing_eos_score: float
) -> Float[Tensor, " B"]:
    """Return the scores, with a constant in place of the score of each response that was cut off.

    This is the "EOS trick" of Huang et al. 2024 (arXiv:2403.17031) and Ziegler et al. 2019: a reward model has seen
    complete texts only, so its score of a text that was cut off means nothing. If responses that end score below the
    constant, being cut off pays.
    """
    return scores.masked_fill(~ended, missing_eos_score)


def minibatches(size: int, minibatch_size: int, generator: torch.Generator) -> Iterator[Int[Tensor, " M"]]:
    """Yield the row indices of one shuffled pass over `size` rows."""
    order = torch.randperm(size, generator=generator, device=generator.device)
    yield from order.split(minibatch_size)
