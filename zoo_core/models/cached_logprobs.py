"""Log-probabilities of a frozen model, computed once for responses that come again in every pass."""

import hashlib

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from zoo_core.functional import masked_sum
from zoo_core.rollout import Responses, response_logprobs


class CachedLogprobs:
    """log π(y|x) in nats under a model that does not change, cached by the tokens of prompt and response.

        reference = CachedLogprobs(run.reference(), run.keep("reference", {}))

    Give `known` to `run.keep`: then a resumed run pays for no response twice and goes on with the same bits.
    """

    def __init__(self, model: PreTrainedModel, known: dict[str, float]) -> None:
        self.model = model
        self.known = known

    @torch.no_grad()
    def __call__(self, responses: Responses) -> Float[Tensor, " B"]:
        """Return log π(y|x) of each response, the sum over its tokens."""
        names = [hashlib.sha256(repr(row).encode()).hexdigest()[:24] for row in responses.rows]
        unknown = {name: row for row, name in enumerate(names) if name not in self.known}
        if unknown:
            rows = responses[torch.tensor(list(unknown.values()), device=responses.tokens.device)]
            sums = masked_sum(response_logprobs(self.model, rows), rows.mask).tolist()
            self.known.update(zip(unknown, sums, strict=True))
        return torch.tensor([self.known[name] for name in names], device=responses.tokens.device)
