"""DDP: every backward pass averages the gradients of the ranks."""

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from zoo_core.compute.processes import accelerator, world_size
from zoo_core.compute.sharding import is_sharded

Wrappers = WeakKeyDictionary[nn.Module, DistributedDataParallel]

_wrappers: Wrappers = WeakKeyDictionary()
"""The DDP wrapper of each model, and of each part of it."""


class CallThroughDDP(nn.Module):
    """A module for DDP to wrap whose forward pass is any computation with a model: its body alone, or an adapter."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, compute: Callable[[], Any]) -> Any:
        """Return the result of `compute`."""
        return compute()


def average_gradients(model: nn.Module) -> None:
    """Have DDP average this model's gradients over the ranks in every backward pass. Collective.

    Call it once the set of trainable weights is final. FSDP2 averages by itself.
    """
    if world_size() == 1 or is_sharded(model) or not any(weight.requires_grad for weight in model.parameters()):
        return
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    wrapper = _wrappers.get(model)
    if wrapper is None or [id(weight) for weight in wrapper.parameters() if weight.requires_grad] != list(
        map(id, trained)
    ):
        # `prepare_model` has put the model on its device already.
        wrapper = accelerator().prepare_model(CallThroughDDP(model), device_placement=False)
    for part in model.modules():
        _wrappers[part] = wrapper


def through_ddp(compute: Callable[[], Any], models: Sequence[nn.Module]) -> Any:
    """Return the result of `compute` inside the DDP wrappers of these models: backward averages their gradients."""
    if not torch.is_grad_enabled():
        return compute()
    for wrapper in {id(found): found for model in models if (found := _wrappers.get(model))}.values():
        compute = _through(wrapper, compute)
    return compute()


def _through(wrapper: DistributedDataParallel, compute: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: wrapper(compute)
