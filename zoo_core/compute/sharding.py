"""FSDP2: every rank holds a shard of each weight."""

import os
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, TypeVar

import torch
from accelerate.utils import FullyShardedDataParallelPlugin
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer
from transformers import PreTrainedModel

from zoo_core.compute.processes import accelerator, is_main_process, world_size
from zoo_core.errors import ModelError

M = TypeVar("M", bound=nn.Module)


def prepare_model(module: M) -> M:
    """Move a model to this rank's device; under FSDP2 keep a shard of each weight only. Collective."""
    module.to(_device())
    plugin = fsdp_plugin()
    if plugin is None or is_sharded(module):
        return module
    settings: dict[str, Any] = {
        "mesh": _mesh(),
        "mp_policy": plugin.mixed_precision_policy or MixedPrecisionPolicy(),
        "offload_policy": plugin.cpu_offload,
    }
    models = [part for part in module.modules() if isinstance(part, PreTrainedModel)]
    blocks = {name for model in models for name in model._no_split_modules or ()}
    for part in list(module.modules()):
        if type(part).__name__ in blocks:
            fully_shard(part, reshard_after_forward=plugin.reshard_after_forward, **settings)
    fully_shard(module, **settings)
    return module


def _device() -> torch.device:
    device = accelerator().device  # cpu:0 in one of several processes, and moving there would copy
    return torch.device("cpu") if device.type == "cpu" else device


@cache
def fsdp_plugin() -> FullyShardedDataParallelPlugin | None:
    """Return accelerate's FSDP2 settings, which the launcher put into the environment; None without FSDP."""
    if world_size() == 1 or os.environ.get("ACCELERATE_USE_FSDP", "false").lower() != "true":
        return None
    plugin = FullyShardedDataParallelPlugin()
    if plugin.fsdp_version != 2:
        raise ModelError("FSDP in its first version is not supported: add --fsdp_version 2 to the launch.")
    return plugin


@cache
def _mesh() -> DeviceMesh:
    return init_device_mesh(accelerator().device.type, (world_size(),))


def is_sharded(module: nn.Module) -> bool:
    """Return whether this rank holds only shards of the weights."""
    return any(isinstance(weight, DTensor) for weight in module.parameters())


def check_callable_alone(model: nn.Module) -> None:
    """Raise `ModelError` for a part of a model whose weights are gathered only when the whole model is called."""
    if any(isinstance(weight, DTensor) for weight in _left_to_callers(model)):
        raise ModelError(
            f"FSDP2: {type(model).__name__} cannot be called apart from the model it belongs to. Launch without "
            "--use_fsdp (DDP), or use an arrangement of separate models."
        )


def _left_to_callers(model: nn.Module) -> Iterator[Tensor]:
    """Yield the weights that neither the model nor a part of it gathers when it is called."""
    if not isinstance(model, FSDPModule):
        yield from model.parameters(recurse=False)
        for child in model.children():
            yield from _left_to_callers(child)


def local_shard(tensor: Tensor) -> Tensor:
    """Return this rank's shard of a tensor; the tensor itself if it is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def local_shards(module: nn.Module) -> list[Tensor]:
    """Return this rank's shard of each weight of a module, whether or not it was used last in whole."""
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()
    return [local_shard(weight) for weight in module.parameters()]


def full_tensor(tensor: Tensor) -> Tensor:
    """Return the full tensor, gathered from the shards of all ranks. Collective."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def full_state(module: nn.Module) -> dict[str, Tensor]:
    """Return the full weights of a module on every rank. Collective."""
    return {name: full_tensor(weight) for name, weight in module.state_dict().items()}


def full_state_on_main(module: nn.Module) -> dict[str, Tensor]:
    """Return the full weights on rank 0, in main memory; other ranks return an empty dict. Collective."""
    state = ((name, full_tensor(weight)) for name, weight in module.state_dict().items())
    return {name: weight.cpu() for name, weight in state if is_main_process()}


def load_full_state(thing: nn.Module | Optimizer, state: Mapping[str, Any]) -> None:
    """Load a state whose tensors are full, or sharded as here. All ranks pass the same state."""
    if isinstance(thing, nn.Module):
        here = thing.state_dict()
        thing.load_state_dict({name: sharded_like(value, here.get(name)) for name, value in state.items()})
        return
    weights = [weight for group in thing.param_groups for weight in group["params"]]
    moments = {
        number: {name: sharded_like(value, weights[number]) for name, value in of_weight.items()}
        for number, of_weight in state["state"].items()
    }
    thing.load_state_dict({**state, "state": moments})


def sharded_like(value: Any, other: Any) -> Any:
    """Return a full tensor sharded like another one. All ranks pass the same full tensor."""
    alike = isinstance(value, Tensor) and isinstance(other, DTensor) and value.shape == other.shape
    if alike and not isinstance(value, DTensor):
        return distribute_tensor(value.to(other.device), other.device_mesh, other.placements, src_data_rank=None)
    return value
