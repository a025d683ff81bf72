"""Packed batches: all rows in one sequence without padding, and a prefix that rows share computed once.

Every layer except attention works token by token, so the neighbours of a token do not matter to it. Attention separates
the rows again. On a CPU rows of one length are computed as one batch, so it has no padding either, and the cost of a
batch is the sum of the costs of its rows, however rows are divided into batches. On a GPU all rows are computed at once
(row_attention.py).

    rows       prompt a + answer 1, prompt a + answer 2, prompt b + answer 3
    computed   a 1 2 b 3            one token after another, with each token's place in its own row
    attention  a1 a2 b3             each row whole again

The mask carries the layout to attention: models pass on a mask with four dimensions unchanged.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from zoo_core.compute.placing import Indices, sent
from zoo_core.compute.row_attention import RowAttention

TokenRow = tuple[Sequence[int], Sequence[int]]
"""The two parts of a row: the tokens that it shares with other rows, and its own tokens."""

AT_ONCE = {"cuda"}
"""The devices on which attention computes all rows in one call: there a call takes longer than its products."""


@dataclass(frozen=True)
class Packing:
    """The layout of a packed batch."""

    tokens: Int[Tensor, "1 N"]
    """All tokens that are computed."""
    positions: Int[Tensor, "1 N"]
    """The position of each token in its row."""
    reads: Int[Tensor, " R"]
    """Row by row, the indices of the last shared token and of the row's own tokens."""
    counts: tuple[int, ...]
    """How many of these each row has."""
    ends: Int[Tensor, " B"]
    """The index of the last token of each row."""
    lengths: tuple[int, ...]
    """The lengths of the rows in the order of attention, ascending."""
    order: Indices
    """The index of the token at each place of attention's rows, one row behind the other."""
    firsts: Indices
    """The first place in attention's rows of each token."""

    @classmethod
    def of(cls, rows: Sequence[TokenRow], device: torch.device) -> "Packing":
        """Return the layout of rows that have at least one token each."""
        tokens, positions, copies, firsts = list[int](), list[int](), list[int](), list[int]()
        shared: dict[tuple[int, ...], range] = {}
        reads: list[Sequence[int]] = [()] * len(rows)
        order = sorted(range(len(rows)), key=lambda row: len(rows[row][0]) + len(rows[row][1]))
        for row in order:
            head, own = tuple(rows[row][0]), rows[row][1]
            if head not in shared:
                shared[head] = range(len(tokens), len(tokens) + len(head))
                tokens += head
                positions += range(len(head))
                firsts += range(len(copies), len(copies) + len(head))
            copies += shared[head]
            firsts += range(len(copies), len(copies) + len(own))
            mine = range(len(tokens), len(tokens) + len(own))
            tokens += own
            positions += range(len(head), len(head) + len(own))
            copies += mine
            reads[row] = [*shared[head][-1:], *mine]
        every, ends = [place for row in reads for place in row], [row[-1] for row in reads]
        on_device = sent([tokens, positions, every, ends], device)
        return cls(
            tokens=on_device[0].unsqueeze(0),
            positions=on_device[1].unsqueeze(0),
            reads=on_device[2],
            counts=tuple(len(row) for row in reads),
            ends=on_device[3],
            lengths=tuple(len(rows[row][0]) + len(rows[row][1]) for row in order),
            order=np.asarray(copies),
            firsts=np.asarray(firsts),
        )

    @property
    def inputs(self) -> dict[str, Any]:
        """The arguments for calling a Hugging Face model for which `packs` is true."""
        mask = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=self.tokens.device)
        mask.rows = self  # type: ignore[attr-defined]  # accounting/attention.py calls `attend`
        return {"input_ids": self.tokens, "position_ids": self.positions, "attention_mask": mask}

    def columns(self, lengths: Int[Tensor, " B"], count: int) -> Int[Tensor, "B count"]:
        """Return the indices of the first `count` tokens of each row; any index behind the end of a row.

        For rows that share all of their tokens, as prompts do: only these lie together.
        """
        columns = torch.arange(count, device=lengths.device)
        places = self.ends.unsqueeze(1) - lengths.unsqueeze(1) + 1 + columns
        return places.clamp(max=self.tokens.shape[1] - 1)

    def attend(
        self, attention: Callable[..., Any], module: Any, query: Tensor, key: Tensor, value: Tensor, **settings: Any
    ) -> tuple[Tensor, int]:
        """Call causal attention; shapes (1, heads, N, width) become (1, N, heads, width).

        `attention` is one of transformers' attention functions. The second result is the number of pairs of a query and
        a key that were computed.
        """
        if query.device.type in AT_ONCE:
            return self._at_once(query, key, value, settings.get("scaling"))
        return self._by_length(attention, module, query, key, value, **settings)

    @cached_property
    def _at_once(self) -> RowAttention:
        return RowAttention(self.lengths, self.order, self.tokens.shape[1], self.tokens.device)

    @cached_property
    def _copied(self) -> tuple[Int[Tensor, " M"], Int[Tensor, " N"]] | None:
        """`order` and `firsts` on the device; None if rows share no tokens and are in order."""
        if len(self.order) == len(self.firsts):
            return None
        copies, firsts = sent([self.order, self.firsts], self.tokens.device)
        return copies, firsts

    def _by_length(
        self, attention: Callable[..., Any], module: Any, query: Tensor, key: Tensor, value: Tensor, **settings: Any
    ) -> tuple[Tensor, int]:
        """Call attention once for the rows of each length."""
        if self._copied is not None:
            query, key, value = (tensor.index_select(2, self._copied[0]) for tensor in (query, key, value))
        alike = [len(list(rows)) for _, rows in groupby(self.lengths)]
        lengths = list(dict.fromkeys(self.lengths))
        sizes = [rows * length for rows, length in zip(alike, lengths, strict=True)]
        found = []
        for rows, *parts in zip(alike, *(tensor.split(sizes, 2) for tensor in (query, key, value)), strict=True):
            separate = (part[0].unflatten(1, (rows, -1)).transpose(0, 1) for part in parts)
            found.append(attention(module, *separate, None, **settings)[0].flatten(0, 1))
        together = torch.cat(found)
        if self._copied is not None:
            together = together.index_select(0, self._copied[1])
        return together.unsqueeze(0), sum(length * length for length in self.lengths)


def packs(model: nn.Module) -> bool:
    """Return whether a model computes the same for packed rows as for padded ones.

    For this it must pass its mask to transformers' attention functions, and its attention must be causal over the whole
    row. Other models compute padded rows, with the same results, but slower.
    """
    if not isinstance(model, PreTrainedModel):
        return False
    config = model.config.get_text_config()
    attention = ALL_ATTENTION_FUNCTIONS.get(config._attn_implementation)
    through_interface = getattr(attention, "takes_packed_rows", False) and type(model)._supports_attention_backend
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    whole_row = kinds == {"full_attention"} and (
        hasattr(config, "layer_types") or not getattr(config, "sliding_window", None)
    )
    causal = {part.is_causal for part in model.modules() if isinstance(getattr(part, "is_causal", None), bool)}
    return through_interface and whole_row and causal == {True} and not config.is_encoder_decoder
