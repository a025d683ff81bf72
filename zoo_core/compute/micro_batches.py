"""Forward passes in parts that fit into memory. No loss changes, whatever it is averaged over.

    rows            1 2 3 4 5 6        a batch, as the training loop sees it
    micro-batches   1 2 | 3 4 5 | 6    so many tokens at most, or a single row
    forward         one after another; of each only the results are kept, and the loss is that of all rows
    backward        one after another: each is computed again, and its gradients are added

This is activation checkpointing (Chen et al. 2016, arXiv:1604.06174) with a micro-batch in place of a layer. Adding up
the gradients of partial losses would save the second forward pass, and needs a loss that is a sum over rows. The meter
books what is computed again under the phase "recompute". A process has one setting; the harness sets it from the spec
of the bench.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar, overload

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from zoo_core.accounting.meter import Meter
from zoo_core.compute.data_parallel import Batch, across_ranks, shares, shortest
from zoo_core.compute.packing import TokenRow
from zoo_core.compute.processes import world_size
from zoo_core.compute.sharding import fsdp_plugin
from zoo_core.errors import ModelError
from zoo_core.models.lora import active_adapter, adapted_layers, adapter

B = TypeVar("B", bound=Batch)

_tokens: int | None = None
_layers = False
_largest: Sequence[TokenRow] = ()
"""The rows of the largest batch since `save_memory`."""


def save_memory(micro_batch: int | None = None, gradient_checkpointing: bool = False) -> None:
    """Set how all forward passes of this process save memory from now on.

    `micro_batch` is the largest number of tokens in one pass, padding not counted; None: a batch is one pass. With
    `gradient_checkpointing` a pass keeps the inputs of its layers only, and the backward pass computes each again.
    """
    global _tokens, _layers, _largest
    if micro_batch is not None and micro_batch < 1:
        raise ValueError(f"micro_batch={micro_batch} must be 1 or more tokens.")
    _tokens, _layers, _largest = micro_batch, gradient_checkpointing, ()


def halve_micro_batch() -> int | None:
    """Halve the number of tokens of the largest pass; return it, or None if every pass has a single row already."""
    whole = _tokens_of(_largest, range(len(_largest)))
    now = min(_tokens or whole, whole)
    if all(len(part) == 1 for part in micro_batches(_largest, now or 1)):
        return None
    save_memory(now // 2, gradient_checkpointing=_layers)
    return _tokens


@overload
def forward_pass(compute: Callable[[B], Tensor], batch: B, *models: nn.Module) -> Tensor: ...


@overload
def forward_pass(compute: Callable[[B], tuple[Tensor, ...]], batch: B, *models: nn.Module) -> tuple[Tensor, ...]: ...


def forward_pass(compute: Callable[[Any], Any], batch: Batch, *models: nn.Module) -> Any:
    """Compute the rows of a batch: divided among the ranks, and those of a rank in micro-batches. Collective.

    `compute` calls `models`, and only computes: it may be called twice. It returns one tensor or several, with one
    entry per row.
    """
    passes = 1
    if _tokens and fsdp_plugin():  # every pass gathers the weights from all ranks: all make as many as the most need
        rows = batch.rows
        mine = [[rows[row] for row in part] for part in shares(rows, world_size())]
        passes = max(len(micro_batches(some, _tokens)) for some in mine)
    return across_ranks(lambda some: _in_micro_batches(compute, some, models, passes), batch, *models)


def micro_batches(rows: Sequence[TokenRow], tokens: int) -> list[list[int]]:
    """Divide rows into micro-batches of at most so many tokens each, or of one row.

    Rows that share tokens stay together as far as they fit, so that these are computed once.
    """
    firsts: dict[object, int] = {}
    for row, (shared, _) in enumerate(rows):
        firsts.setdefault(tuple(shared) or row, row)
    parts: list[list[int]] = []
    read: set[object] = set()
    room = 0
    for row in sorted(range(len(rows)), key=lambda row: firsts[tuple(rows[row][0]) or row]):
        shared, own = rows[row]
        cost = len(own) + (0 if tuple(shared) in read else len(shared))
        if not parts or cost > room:
            parts.append([])
            read, room, cost = set(), tokens, len(own) + len(shared)
        parts[-1].append(row)
        read.add(tuple(shared))
        room -= cost
    return parts


def _in_micro_batches(compute: Callable[[Any], Any], batch: Any, models: Sequence[nn.Module], passes: int) -> Any:
    """Compute a batch in as many passes as it needs, and in `passes` at least; what is left of these gives nothing."""
    trains = torch.is_grad_enabled() and any(weight.requires_grad for model in models for weight in model.parameters())
    if _layers and trains:
        compute = partial(_with_layers_again, compute, models)
    global _largest
    if len(batch.rows) > len(_largest):
        _largest = batch.rows
    parts = micro_batches(batch.rows, _tokens) if _tokens else []
    if max(len(parts), passes) < 2:
        return compute(batch)
    more = [[shortest(batch.rows)] for _ in range(passes - len(parts))]
    divided = [batch[torch.tensor(part)] for part in (*parts, *more)]
    found = [_again(compute, models, some) if trains else compute(some) for some in divided]
    order = torch.tensor([row for part in parts for row in part]).argsort()
    if isinstance(found[0], Tensor):
        return torch.cat(found)[order.to(found[0].device)]
    return tuple(torch.cat(results)[order.to(results[0].device)] for results in zip(*found, strict=True))


def _tokens_of(rows: Sequence[TokenRow], part: Iterable[int]) -> int:
    """The tokens that are computed of some rows; what rows share is computed once."""
    chosen = [rows[row] for row in part]
    return sum(map(len, {tuple(shared) for shared, _ in chosen})) + sum(len(own) for _, own in chosen)


def _with_layers_again(compute: Callable[[Any], Any], models: Sequence[nn.Module], batch: Any) -> Any:
    """Compute a batch with models whose layers are computed again in the backward pass."""
    parts = [part for model in models for part in model.modules()]
    layers: list[Any] = [part for part in parts if isinstance(part, GradientCheckpointingLayer)]
    if not layers:
        raise ModelError(
            f"gradient_checkpointing: {type(models[0]).__name__} has no layers that transformers can compute again. "
            "Leave it out, and set micro_batch."
        )
    for layer in layers:
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = lambda layer, *inputs: _again(layer, models, *inputs)
    try:
        return compute(batch)
    finally:
        for layer in layers:
            layer.gradient_checkpointing = False


def _again(compute: Callable[..., Any], models: Sequence[nn.Module], *inputs: Any) -> Any:
    """Return the results of `compute`, which the backward pass will call once more."""
    for meter in _meters(models):
        meter.look(partial(compute, *inputs))
    return checkpoint(
        compute, *inputs, use_reentrant=False, context_fn=lambda: (contextlib.nullcontext(), _as_now(models))
    )


def _as_now(models: Sequence[nn.Module]) -> contextlib.AbstractContextManager[None]:
    """Return a context in which models compute with the adapters that are active now, for the phase "recompute"."""
    active = [(model, active_adapter(model)) for model in models if any(adapted_layers(model))]
    meters = _meters(models)

    @contextlib.contextmanager
    def context() -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for model, name in active:
                stack.enter_context(adapter(model, name))
            for meter in meters:
                stack.enter_context(meter.during("recompute"))
            yield

    return context()


def _meters(models: Sequence[nn.Module]) -> set[Meter]:
    booked: list[tuple[Meter, str]] = [model._zoo for model in models if hasattr(model, "_zoo")]  # type: ignore[misc]
    return {meter for meter, _ in booked}
