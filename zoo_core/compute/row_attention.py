"""Causal attention of rows of different lengths in one call, for GPUs, where a call costs more than its products.

Rows are padded on the right, for attention alone: a causal row never looks at what is behind it, so no mask is needed
and torch's fastest kernels apply. Where padding would more than double the products, torch's attention over rows of
different lengths is called instead, if it has the case; measured on an H100 it is slower than padding for rows that
differ less.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import cache, cached_property, partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, ops
from torch.nn.functional import scaled_dot_product_attention

from zoo_core.accounting import formulas
from zoo_core.compute.placing import Indices, Placing, sent

MOST_PADDING = 2.0
"""Padded attention computes at most so many times the pairs that the rows have."""


class RowAttention:
    """Attention of the rows of one packed batch."""

    def __init__(self, lengths: Sequence[int], order: Indices, tokens: int, device: torch.device) -> None:
        self.lengths = np.asarray(lengths)
        self.order = order
        self.tokens = tokens
        self.device = device
        self.longest = int(self.lengths.max())

    def __call__(
        self, query: Tensor, key: Tensor, value: Tensor, scale: float | None
    ) -> tuple[Float[Tensor, "1 N heads width"], int]:
        """Compute attention of states of shape (1, heads, N, width); return it and the pairs that were computed.

        Keys and values may have fewer heads than queries. Queries are in the precision of the values (autocast turns
        positions into keys and queries in float32).
        """
        states = [tensor[0].transpose(0, 1).to(value.dtype) for tensor in (query, key, value)]
        exact, padded = int((self.lengths**2).sum()), len(self.lengths) * self.longest**2
        if padded > MOST_PADDING * exact:
            attend = attention_over_rows(states[0].shape[1] > states[1].shape[1], value.dtype)
            if attend is not None:
                return self._end_to_end(attend, *states, scale=scale).unsqueeze(0), exact
        return self._padded(*states, scale=scale).unsqueeze(0), padded

    def _padded(self, query: Tensor, key: Tensor, value: Tensor, *, scale: float | None) -> Tensor:
        groups = query.shape[1] // key.shape[1]
        shape = len(self.lengths), self.longest
        query, key, value = (
            self._grid.lay_out(states).unflatten(0, shape).transpose(1, 2) for states in (query, key, value)
        )
        grouped = groups > 1
        if grouped and query.dtype == torch.float32:
            # No fused kernel of float32 has grouped heads: torch would keep all scores.
            key, value = (states.repeat_interleave(groups, 1) for states in (key, value))
            grouped = False
        found = scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale, enable_gqa=grouped)
        return self._grid.collect(found.transpose(1, 2).flatten(0, 1))

    def _end_to_end(
        self, attend: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, *, scale: float | None
    ) -> Tensor:
        query, key, value = (self._rows.lay_out(states) for states in (query, key, value))
        begins, longest = self._begins, self.longest
        found = attend(query, key, value, begins, begins, longest, longest, scale=scale, window_size=(-1, 0))
        return self._rows.collect(found)

    @cached_property
    def _grid(self) -> Placing:
        """Where tokens stand when every row is as long as the longest."""
        begins = self.lengths.cumsum() - self.lengths
        shift = np.arange(len(self.lengths)) * self.longest - begins
        places = np.arange(len(self.order)) + np.repeat(shift, self.lengths)
        return Placing.of(self.order, self.tokens, places, len(self.lengths) * self.longest, self.device)

    @cached_property
    def _rows(self) -> Placing:
        """Where tokens stand when rows follow one another."""
        places = np.arange(len(self.order))
        return Placing.of(self.order, self.tokens, places, len(places), self.device)

    @cached_property
    def _begins(self) -> Tensor:
        return sent([np.concatenate([[0], self.lengths.cumsum()])], self.device)[0].int()


def attention_over_rows(grouped: bool, dtype: torch.dtype) -> Callable[..., Tensor] | None:
    """Return torch's attention over rows that follow one another; None if it has not the case.

    It computes in half precision only; before torch 2.12 it has no grouped heads, and before 2.10 there is none.
    """
    return _attention_over_rows(grouped) if dtype in (torch.float16, torch.bfloat16) else None


@cache
def _attention_over_rows(grouped: bool) -> Callable[..., Tensor] | None:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    known = inspect.signature(varlen_attn).parameters
    if "window_size" not in known or (grouped and "enable_gqa" not in known):
        return None
    # Torch's own formulas, where it has them, count what is below the diagonal only, or other things by version.
    formulas.FORMULAS[ops.torch_attn._varlen_attn] = formulas.rows
    formulas.FORMULAS[ops.torch_attn._varlen_attn_backward] = formulas.rows_backward
    found: Callable[..., Tensor] = partial(varlen_attn, enable_gqa=True) if grouped else varlen_attn  # type: ignore[assignment]
    return found
