"""Dropout on the residual stream, stronger towards the top. No other algorithm of the zoo has dropout."""

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import dropout
from transformers import PreTrainedModel

from zoo_core.errors import ModelError


def dropout_rates(layers: int, top: float) -> list[float]:
    """Return the rate of each layer, from the bottom: p_l = top · l / (L − 1)  with  l = 0 … L − 1."""
    return [top * layer / max(1, layers - 1) for layer in range(layers)]


@contextlib.contextmanager
def residual_dropout(policy: PreTrainedModel, top: float) -> Iterator[None]:
    """Drop elements of the output that each decoder layer adds to its input, inside this context only."""
    layers = decoder_layers(policy)
    rates = dropout_rates(len(layers), top)
    hooks = [_hook(layer, rate) for layer, rate in zip(layers, rates, strict=True) if rate]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def decoder_layers(policy: PreTrainedModel) -> nn.ModuleList:
    """Return the stack of decoder layers, by any name that an architecture gives it."""
    count = policy.config.num_hidden_layers
    for module in policy.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise ModelError(f"{type(policy).__name__} has no list of its {count} layers to put dropout on; set dropout: 0.")


def _hook(layer: nn.Module, rate: float) -> Any:
    def drop(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        before: Tensor = args[0] if args else kwargs["hidden_states"]
        after: Tensor = output[0] if isinstance(output, tuple) else output
        dropped = before + dropout(after - before, rate)
        return (dropped, *output[1:]) if isinstance(output, tuple) else dropped

    return layer.register_forward_hook(drop, with_kwargs=True)
