"""Several processes that train one model together: each computes a share of the rows, all know every result.

    rows       1 2 3 4 5 6       the same batch on every process
    computed   1 4 5 | 2 3 6     each by one process, rows with the same prompt by the same one
    known      1 2 3 4 5 6       results of all rows on every process

So a training loop is the same for any number of processes, and so are its losses, whatever they are averaged over.
What divides are the leaves that every forward pass goes through (in rollout.py, reward.py, decoding.py, judge.py). A
process knows the gradients of its own rows only; DDP or FSDP2 puts those of all together. Both average where a sum is
due, so gradients that come back to a row are multiplied by the number of processes. With one process nothing of this
happens.

The launcher decides: `accelerate launch --multi_gpu` is DDP, with `--use_fsdp --fsdp_version 2` every process holds a
part of the weights only. A function here that says "together" must be called by all processes at the same place.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, TypeVar, overload, runtime_checkable
from weakref import WeakKeyDictionary

import torch
from accelerate import Accelerator
from accelerate.utils import FullyShardedDataParallelPlugin, broadcast_object_list, gather_object
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from transformers import PreTrainedModel

from zoo_core.errors import ModelError
from zoo_core.packing import Row
from zoo_core.precision import autocast

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)
Wrappers = WeakKeyDictionary[nn.Module, DistributedDataParallel]

_wrappers: Wrappers = WeakKeyDictionary()
"""What holds the gradients of each model, and of each part of it, together: DDP."""
_is_alone = False
"""Whether the first process does something that the others wait for."""


@cache
def accelerator() -> Accelerator:
    """Return this process's accelerator: the only way to a device, and to the other processes."""
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"  # every process reads the weights and keeps its part
    # Where there is no GPU accelerate must be told that several processes are to share the CPU.
    found = Accelerator(cpu=True) if is_launched() and not torch.accelerator.is_available() else Accelerator()
    if str(found.distributed_type.value) not in ("NO", "MULTI_GPU", "MULTI_CPU", "MULTI_XPU", "MULTI_NPU", "FSDP"):
        raise ModelError(f"several processes by {found.distributed_type.value} are not supported; use DDP or FSDP2.")
    if found.mixed_precision != "no":
        raise ModelError(
            f"the launcher asks for --mixed_precision {found.mixed_precision}; the spec decides that for all rows of a "
            "board. Launch with --mixed_precision no, and set `precision: bf16` in the spec if that is wanted."
        )
    return found


def is_launched() -> bool:
    """Whether a launcher started this process as one of several."""
    return "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def processes() -> int:
    """How many processes share the work."""
    return dist.get_world_size() if dist.is_initialized() and not _is_alone else 1


def is_first() -> bool:
    """Whether this process writes files; one of several does."""
    return not dist.is_initialized() or dist.get_rank() == 0


def wait() -> None:
    """Go on when all processes are here. Together."""
    if processes() > 1:
        accelerator().wait_for_everyone()


def from_first(ask: Callable[[], T]) -> T:
    """Return what the first process is told: of files, clocks, and rewards that may not answer alike. Together."""
    if processes() == 1:
        return ask()
    with _alone():
        answer: list[Any] = [ask() if dist.get_rank() == 0 else None]
    return broadcast_object_list(answer)[0]  # type: ignore[no-any-return]


def from_all(mine: T) -> list[T]:
    """Return what each process brings. Together."""
    found: list[T] = gather_object([mine]) if processes() > 1 else [mine]
    return found


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    global _is_alone
    before, _is_alone = _is_alone, True
    try:
        yield
    finally:
        _is_alone = before


# Rows


@runtime_checkable
class Batch(Protocol):
    """What can be taken apart by row."""

    @property
    def rows(self) -> Sequence[Row]:
        """The tokens that decide how it is divided."""

    def __getitem__(self, rows: Tensor, /) -> Any:
        """Some of the rows."""


@dataclass(frozen=True)
class Rows:
    """A batch that is nothing but tokens."""

    rows: Sequence[Row]

    def __getitem__(self, rows: Tensor) -> "Rows":
        return Rows([self.rows[row] for row in rows.tolist()])


B = TypeVar("B", bound=Batch)


@overload
def divided(compute: Callable[[B], Tensor], batch: B, *models: nn.Module) -> Tensor: ...


@overload
def divided(compute: Callable[[B], tuple[Tensor, ...]], batch: B, *models: nn.Module) -> tuple[Tensor, ...]: ...


def divided(compute: Callable[[Any], Any], batch: Batch, *models: nn.Module) -> Any:
    """Return what is computed of a batch with these models: tensors with one entry per row, in float32. Together.

    Each process computes its share.
    """
    if processes() == 1:
        return _computed(compute, batch, models)
    for model in models if _sharding() else ():
        _check_whole(model)
    rows = batch.rows
    parts = shares(rows, processes())
    mine = parts[dist.get_rank()]
    # A process without rows takes part all the same, or the others would wait for it: with a row whose result is
    # dropped. What that costs is charged.
    shortest = min(range(len(rows)), key=lambda row: len(rows[row][0]) + len(rows[row][1]))
    some = batch[torch.tensor(mine or [shortest])]
    found = _through_wrappers(lambda: _computed(compute, some, models), models)
    order = torch.tensor([row for part in parts for row in part]).argsort()
    sizes = [len(part) for part in parts]

    def gathered(result: Tensor) -> Tensor:
        return Gather.apply(result[: len(mine)], sizes)[order.to(result.device)]  # type: ignore[no-untyped-call,no-any-return]

    return gathered(found) if isinstance(found, Tensor) else tuple(gathered(result) for result in found)


def _computed(compute: Callable[[Any], Any], batch: Batch, models: Sequence[nn.Module]) -> Any:
    with autocast(next(models[0].parameters()).device):
        found = compute(batch)
    results = [found] if isinstance(found, Tensor) else found
    exact = tuple(result.float() if result.is_floating_point() else result for result in results)
    return exact[0] if isinstance(found, Tensor) else exact


def shares(rows: Sequence[Row], count: int) -> list[list[int]]:
    """Divide rows among processes, about as many tokens to each; every process comes to the same.

    Rows that share tokens stay together, so that these are computed once; if there are fewer such groups than
    processes, rows are divided one by one.
    """
    groups: dict[object, list[int]] = {}
    for number, (shared, _) in enumerate(rows):
        groups.setdefault(tuple(shared) or number, []).append(number)
    if len(groups) < count:
        groups = {number: [number] for number in range(len(rows))}
    tokens = {key: len(rows[some[0]][0]) + sum(len(rows[one][1]) for one in some) for key, some in groups.items()}
    parts: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    for key in sorted(groups, key=lambda key: -tokens[key]):
        least = loads.index(min(loads))
        parts[least] += groups[key]
        loads[least] += tokens[key]
    return [sorted(part) for part in parts]


class Gather(torch.autograd.Function):
    """The results of every process, one behind the other, on every process; gradients go back to one's own.

    They are multiplied by the number of processes: DDP and FSDP2 average over processes what is a sum over rows.
    """

    @staticmethod
    def forward(ctx: Any, mine: Tensor, sizes: list[int]) -> Tensor:
        """(rows of this process, ...) to (rows of all, ...)."""
        rank = dist.get_rank()
        ctx.start, ctx.end, ctx.times = sum(sizes[:rank]), sum(sizes[: rank + 1]), len(sizes)
        padded = mine.new_zeros(max(sizes), *mine.shape[1:])
        padded[: len(mine)] = mine
        found = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(found, padded)
        return torch.cat([one[:size] for one, size in zip(found, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """The gradient is the same on every process, so nothing is sent."""
        return gradients[0][ctx.start : ctx.end] * ctx.times, None


def most(number: int) -> int:
    """Return the largest number that any process has. Together."""
    return max(from_all(number))


# Gradients: DDP


class Through(nn.Module):
    """Lets DDP see a computation that uses a model in whatever way: its body alone, or with an adapter."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, compute: Callable[[], Any]) -> Any:
        """Compute."""
        return compute()


def join_gradients(model: nn.Module) -> None:
    """Have every backward pass through the leaves average this model's gradients over the processes. Together.

    To be called when it is settled which weights are trained. FSDP2 does so itself.
    """
    if processes() == 1 or is_sharded(model) or not any(weight.requires_grad for weight in model.parameters()):
        return
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    wrapper = _wrappers.get(model)
    if wrapper is None or [id(weight) for weight in wrapper.parameters() if weight.requires_grad] != list(
        map(id, trained)
    ):
        wrapper = accelerator().prepare_model(Through(model), device_placement=False)  # it is `placed`
    for part in model.modules():
        _wrappers[part] = wrapper


def _through_wrappers(compute: Callable[[], Any], models: Sequence[nn.Module]) -> Any:
    if not torch.is_grad_enabled():
        return compute()
    for wrapper in {id(found): found for model in models if (found := _wrappers.get(model))}.values():
        compute = _through(wrapper, compute)
    return compute()


def _through(wrapper: DistributedDataParallel, compute: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: wrapper(compute)


# Weights: FSDP2


def placed(module: M) -> M:
    """Put a model on this process's device; under FSDP2 keep a part of it only. Together."""
    module.to(_device())
    plugin = _sharding()
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
def _sharding() -> FullyShardedDataParallelPlugin | None:
    """Return what the launcher said of FSDP2, in the environment; None without it."""
    if processes() == 1 or os.environ.get("ACCELERATE_USE_FSDP", "false").lower() != "true":
        return None
    plugin = FullyShardedDataParallelPlugin()
    if plugin.fsdp_version != 2:
        raise ModelError("FSDP in its first version is not supported: add --fsdp_version 2 to the launch.")
    return plugin


@cache
def _mesh() -> DeviceMesh:
    return init_device_mesh(accelerator().device.type, (processes(),))


def is_sharded(module: nn.Module) -> bool:
    """Whether this process holds a part of each weight only."""
    return any(isinstance(weight, DTensor) for weight in module.parameters())


def _check_whole(model: nn.Module) -> None:
    """Raise `ModelError` if a part of a model is called whose weights only a call of the whole brings together."""
    if any(isinstance(weight, DTensor) for weight in _left_to_callers(model)):
        raise ModelError(
            f"FSDP2: {type(model).__name__} cannot be called apart from the model it belongs to. Launch without "
            "--use_fsdp (DDP), or use an arrangement of separate models."
        )


def _left_to_callers(model: nn.Module) -> Iterator[Tensor]:
    """Go through the weights that neither the model nor a part of it brings together when it is called."""
    if not isinstance(model, FSDPModule):
        yield from model.parameters(recurse=False)
        for child in model.children():
            yield from _left_to_callers(child)


def own(tensor: Tensor) -> Tensor:
    """Return what this process holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor whose parts are on all processes. Together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a module, all of them, on every process. Together."""
    return {name: whole(weight) for name, weight in module.state_dict().items()}


def whole_state_for_first(module: nn.Module) -> dict[str, Tensor]:
    """Return them on the first process, in its main memory; what the others return has no entries. Together."""
    state = ((name, whole(weight)) for name, weight in module.state_dict().items())
    return {name: weight.cpu() for name, weight in state if is_first()}


def load_whole(thing: nn.Module | Optimizer, state: Mapping[str, Any]) -> None:
    """Load a state in which tensors are whole, or divided as they are here; every process brings it."""
    if isinstance(thing, nn.Module):
        here = thing.state_dict()
        thing.load_state_dict({name: divided_like(value, here.get(name)) for name, value in state.items()})
        return
    weights = [weight for group in thing.param_groups for weight in group["params"]]
    moments = {
        number: {name: divided_like(value, weights[number]) for name, value in of_weight.items()}
        for number, of_weight in state["state"].items()
    }
    thing.load_state_dict({**state, "state": moments})


def divided_like(value: Any, other: Any) -> Any:
    """Return a whole tensor divided as the other is; every process brings the whole."""
    alike = isinstance(value, Tensor) and isinstance(other, DTensor) and value.shape == other.shape
    if alike and not isinstance(value, DTensor):
        return distribute_tensor(value.to(other.device), other.device_mesh, other.placements, src_data_rank=None)
    return value
