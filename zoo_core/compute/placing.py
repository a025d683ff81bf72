"""Moving values between a packed batch and a grid, by indices that are made on the host.

Indexing with a boolean mask makes the host wait for a GPU, and the gradient of indexing with integers sorts them where
torch computes deterministically. Both directions of a `Placing` are known in advance, so that a value and its gradient
are read and never searched, added or sorted; only what a batch shares is added, copy by copy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from numpy.typing import NDArray
from torch import Tensor

Indices = NDArray[np.int64]


def sent(parts: Sequence[Sequence[int] | Indices], device: torch.device) -> list[Int[Tensor, " n"]]:
    """Return integers of the host as tensors on a device, in one transfer that the host does not wait for."""
    arrays = [np.asarray(part, dtype=np.int64) for part in parts]
    together = torch.from_numpy(np.concatenate(arrays))
    if device.type == "cuda":
        together = together.pin_memory()
    return list(together.to(device, non_blocking=True).split([len(array) for array in arrays]))


@dataclass(frozen=True)
class Placing:
    """Where N values stand among M places: each at one place or several, some places with none."""

    firsts: Int[Tensor, " N"]
    """The first place of each value."""
    values: Int[Tensor, " M"]
    """The value at each place; any value at a place with none."""
    holds: Bool[Tensor, " M"]
    """True at the first place of each value."""
    shared: Int[Tensor, " S"] | None = None
    """The values that stand at several places; None if there are none."""
    others: Int[Tensor, "S C"] | None = None
    """The places of each shared value besides its first; -1 where it has fewer than the others."""

    @classmethod
    def of(cls, values: Indices, count: int, places: Indices, size: int, device: torch.device) -> "Placing":
        """Return the placing of value `values[i]` at place `places[i]`, in ascending order of places.

        There are `count` values, each of which has a place, and `size` places.
        """
        at = np.zeros(size, np.int64)
        at[places] = values
        order = np.argsort(values, kind="stable")
        begins = np.searchsorted(values[order], np.arange(count))
        turn = np.arange(len(order)) - begins[values[order]]  # 0 for the first place of a value, 1 for the next
        firsts = places[order[turn == 0]]
        holds = np.zeros(size, np.int64)
        holds[firsts] = 1
        parts: list[Indices] = [firsts, at, holds]
        later = turn > 0
        if later.any():
            shared, row = np.unique(values[order[later]], return_inverse=True)
            others = np.full((len(shared), turn.max()), -1)
            others[row, turn[later] - 1] = places[order[later]]
            parts += [shared, others.ravel()]
        tensors = sent(parts, device)
        if not later.any():
            return cls(tensors[0], tensors[1], tensors[2].bool())
        return cls(tensors[0], tensors[1], tensors[2].bool(), tensors[3], tensors[4].view(len(tensors[3]), -1))

    def lay_out(self, values: Float[Tensor, "N ..."]) -> Float[Tensor, "M ..."]:
        """Return the value at each place. At a place with none it is some other value, whose gradient is dropped."""
        return LayOut.apply(values, self)  # type: ignore[no-untyped-call,no-any-return]

    def cleared(self, places: Float[Tensor, "M ..."]) -> Float[Tensor, "M ..."]:
        """Return what stands at the first place of each value, and 0 at all other places."""
        return places.masked_fill(~self.holds.view(-1, *[1] * (places.dim() - 1)), 0.0)

    def collect(self, places: Float[Tensor, "M ..."]) -> Float[Tensor, "N ..."]:
        """Return what stands at the first place of each value."""
        return Collect.apply(places, self)  # type: ignore[no-untyped-call,no-any-return]


class LayOut(torch.autograd.Function):
    """`Placing.lay_out`; the gradient of a value is the sum over its places."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, placing: Placing) -> Tensor:
        """Read the value of each place."""
        ctx.placing = placing
        return values.index_select(0, placing.values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Read the gradient at the first place of each value, and add those at its others."""
        placing: Placing = ctx.placing
        found = gradient.index_select(0, placing.firsts)
        if placing.shared is not None and placing.others is not None:
            missing = (placing.others < 0).view(*placing.others.shape, *[1] * (gradient.dim() - 1))
            copies = gradient.index_select(0, placing.others.clamp(min=0).flatten()).view(
                *placing.others.shape, *gradient.shape[1:]
            )
            total = copies.masked_fill(missing, 0.0).sum(1) + found.index_select(0, placing.shared)
            found = put(found, placing.shared, total)
        return found, None


class Collect(torch.autograd.Function):
    """`Placing.collect`; the gradient of other places is 0."""

    @staticmethod
    def forward(ctx: Any, places: Tensor, placing: Placing) -> Tensor:
        """Read the first place of each value."""
        ctx.placing = placing
        return places.index_select(0, placing.firsts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Read the gradient of the value that each place holds."""
        placing: Placing = ctx.placing
        return placing.cleared(gradient.index_select(0, placing.values)), None


def put(into: Shaped[Tensor, "M ..."], places: Int[Tensor, " n"], values: Shaped[Tensor, "n ..."]) -> Tensor:
    """Write values at places that are all different, in place; return the tensor.

    Where torch computes deterministically it sorts the places first, in case some are equal; here none are.
    """
    deterministic, warns = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(False)
    try:
        return into.index_copy_(0, places, values)
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warns)


def spread(
    values: Float[Tensor, "N ..."], counts: Sequence[int], width: int, starts: Sequence[int] | None = None
) -> Float[Tensor, "B width ..."]:
    """Return values row by row in a grid, 0 elsewhere: `counts[row]` of them from column `starts[row]` on, or from 0.

    Raises `ValueError` if the counts do not sum to N.
    """
    if sum(counts) != len(values):
        raise ValueError(f"{len(values)} values cannot fill {sum(counts)} places.")
    size = len(counts) * width
    begins = np.arange(len(counts)) * width + (np.asarray(starts) if starts is not None else 0)
    places = np.concatenate([np.arange(begin, begin + count) for begin, count in zip(begins, counts, strict=True)])
    if not len(values):
        return values.new_zeros(len(counts), width, *values.shape[1:])
    placing = Placing.of(np.arange(len(places)), len(places), places, size, values.device)
    return placing.cleared(placing.lay_out(values)).view(len(counts), width, *values.shape[1:])
