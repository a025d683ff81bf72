"""What distillation needs beside a run: a teacher, and whole distributions over the next token."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from zoo_core.compute.micro_batches import forward_pass
from zoo_core.compute.packing import Packing, packs
from zoo_core.compute.placing import spread
from zoo_core.errors import ModelError
from zoo_core.models.loading import load_frozen
from zoo_core.models.tokenizers import load_tokenizer
from zoo_core.registry.references import resolve
from zoo_core.rollout import Responses, response_logits
from zoo_core.run import Run

Compare = Callable[[Tensor, Tensor], Tensor]
"""What becomes of the log-probabilities of policy and teacher, each of shape "N V": one number a token, " N"."""


def open_teacher(run: Run, ref: str) -> PreTrainedModel:
    """Return the model that `ref` names (a directory, a hub id or one of a plugin's), frozen and metered as "teacher".

    Raises `ModelError` where there is none, or where its tokenizer has other tokens than the policy's: a distribution
    over those says nothing about the policy's.
    """
    path = resolve(ref)
    theirs, ours = load_tokenizer(path).get_vocab(), run.tokenizer.get_vocab()
    if theirs != ours:
        raise ModelError(
            f"{ref}: the vocabulary of this teacher has {len(theirs)} tokens and is another than the policy's of "
            f"{len(ours)}. Distributions over the next token can be compared between models of one tokenizer only."
        )
    return run.frozen("teacher", load_frozen(path))


def compare_next_tokens(
    compare: Compare, policy: PreTrainedModel, teacher: PreTrainedModel, responses: Responses
) -> Float[Tensor, "B T"]:
    """Return what `compare` makes of both distributions before each response token; 0 where the mask is false.

    Gradients reach the policy alone. Only the distributions of a micro-batch are in memory at a time. Collective.
    """

    def compute(some: Responses) -> Tensor:
        mine = _next_token_logits(policy, some)
        with torch.no_grad():
            theirs = _next_token_logits(teacher, some)
        # Rows past the tokens of the tokenizer only round a matrix up, and models of one family round differently.
        shared = min(mine.shape[-1], theirs.shape[-1])
        compared = compare(mine[:, :shared].log_softmax(-1), theirs[:, :shared].log_softmax(-1))
        return spread(compared, [len(response) for _, response in some.rows], some.mask.shape[1])

    return forward_pass(compute, responses, policy, teacher)


def _next_token_logits(model: PreTrainedModel, responses: Responses) -> Float[Tensor, "N V"]:
    """Return the logits before each response token, in float32 or better, row after row."""
    # The last token of a response predicts nothing, and a response without tokens has nothing to be predicted.
    read = [(prompt, response[:-1]) for prompt, response in responses.rows if response]
    if read and packs(model):
        packing = Packing.of(read, model.device)
        logits = model(**packing.inputs, use_cache=False, logits_to_keep=packing.reads).logits[0]
    else:
        logits = response_logits(model, responses)[responses.mask]
    return logits.to(torch.promote_types(logits.dtype, torch.float32))  # type: ignore[no-any-return]
