"""Data parallelism inside the forward pass: each rank computes a share of the rows, and all ranks know every result.

    rows       1 2 3 4 5 6       every rank has the same batch
    computed   1 4 5 | 2 3 6     each row by one rank, rows with the same prompt by the same rank
    known      1 2 3 4 5 6       every rank has the results of all rows

So a training loop is the same for any number of ranks, and so are its losses, whatever they are averaged over. The
functions that run a forward pass divide the rows (rollout.py, models/scorer.py, models/causal_judge.py, sampler.py). A
rank has the gradients of its own rows only. DDP and FSDP2 average over ranks where the sum is needed, so gradients that
flow back to a row are multiplied by the number of ranks. With one rank nothing of this happens.

The launcher decides: `accelerate launch --multi_gpu` is DDP; `--use_fsdp --fsdp_version 2` shards the weights.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, overload, runtime_checkable

import torch
from torch import Tensor, nn
from torch import distributed as dist

from zoo_core.compute.gradients import through_ddp
from zoo_core.compute.packing import TokenRow
from zoo_core.compute.precision import autocast
from zoo_core.compute.processes import world_size
from zoo_core.compute.sharding import check_callable_alone, fsdp_plugin


@runtime_checkable
class Batch(Protocol):
    """A batch that can be indexed by row."""

    @property
    def rows(self) -> Sequence[TokenRow]:
        """The tokens of each row, by which the rows are divided among ranks."""

    def __getitem__(self, rows: Tensor, /) -> Any:
        """Return a batch of these rows."""


@dataclass(frozen=True)
class TokenRows:
    """A batch of token rows and nothing else."""

    rows: Sequence[TokenRow]

    def __getitem__(self, rows: Tensor) -> "TokenRows":
        return TokenRows([self.rows[row] for row in rows.tolist()])


B = TypeVar("B", bound=Batch)


@overload
def across_ranks(compute: Callable[[B], Tensor], batch: B, *models: nn.Module) -> Tensor: ...


@overload
def across_ranks(compute: Callable[[B], tuple[Tensor, ...]], batch: B, *models: nn.Module) -> tuple[Tensor, ...]: ...


def across_ranks(compute: Callable[[Any], Any], batch: Batch, *models: nn.Module) -> Any:
    """Divide the rows of a batch among the ranks, compute them, and all-gather the results. Collective.

    `compute` calls `models`; it returns one tensor or several, with one entry per row. Floating-point results come
    back in float32, and gradients flow back to the rank that computed the row.
    """
    if world_size() == 1:
        return _computed(compute, batch, models)
    for model in models if fsdp_plugin() else ():
        check_callable_alone(model)
    rows = batch.rows
    parts = shares(rows, world_size())
    mine = parts[dist.get_rank()]
    # A rank without rows computes one all the same, because the others wait for it in collectives. The result is
    # dropped, the cost is charged.
    some = batch[torch.tensor(mine or [shortest(rows)])]
    found = through_ddp(lambda: _computed(compute, some, models), models)
    order = torch.tensor([row for part in parts for row in part]).argsort()
    sizes = [len(part) for part in parts]

    def gathered(result: Tensor) -> Tensor:
        return Gather.apply(result[: len(mine)], sizes)[order.to(result.device)]  # type: ignore[no-untyped-call,no-any-return]

    return gathered(found) if isinstance(found, Tensor) else tuple(gathered(result) for result in found)


def _computed(compute: Callable[[Any], Any], batch: Batch, models: Sequence[nn.Module]) -> Any:
    with autocast(next(models[0].parameters()).device):
        found = compute(batch)
    results = [found] if isinstance(found, Tensor) else found
    exact = tuple(_at_least_float32(result) for result in results)
    return exact[0] if isinstance(found, Tensor) else exact


def _at_least_float32(result: Tensor) -> Tensor:
    """Return what autocast computed in float32; what a float64 model computed stays as it is."""
    return result.to(torch.promote_types(result.dtype, torch.float32)) if result.is_floating_point() else result


def shortest(rows: Sequence[TokenRow]) -> int:
    """Return the row that is cheapest to compute where one must be computed for the sake of the other ranks."""
    return min(range(len(rows)), key=lambda row: len(rows[row][0]) + len(rows[row][1]))


def shares(rows: Sequence[TokenRow], count: int) -> list[list[int]]:
    """Assign rows to ranks, about as many tokens to each; every rank computes the same assignment.

    Rows that share tokens stay together, so that these are computed once. If there are fewer such groups than ranks,
    rows are assigned one by one.
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
    """An all-gather of results whose gradients flow back to the rows of this rank.

    Gradients are multiplied by the number of ranks, because DDP and FSDP2 average over ranks where a sum over rows is
    needed.
    """

    @staticmethod
    def forward(ctx: Any, mine: Tensor, sizes: list[int]) -> Tensor:
        """Gather (rows of this rank, ...) into (rows of all ranks, ...)."""
        rank = dist.get_rank()
        ctx.start, ctx.end, ctx.times = sum(sizes[:rank]), sum(sizes[: rank + 1]), len(sizes)
        padded = mine.new_zeros(max(sizes), *mine.shape[1:])
        padded[: len(mine)] = mine
        found = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(found, padded)
        return torch.cat([one[:size] for one, size in zip(found, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradients of this rank's rows. Every rank has the gradients of all rows, so nothing is sent."""
        return gradients[0][ctx.start : ctx.end] * ctx.times, None
