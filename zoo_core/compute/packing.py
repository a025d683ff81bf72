"""Batches without padding: all rows behind each other as one, and what several rows begin with computed once.

Every layer but attention works token by token, so it does not matter to it whose neighbour a token is. Attention takes
the rows apart: rows of one length go through it together, so nothing is padded there either, and what a batch costs is
the sum of what its rows cost, however they are divided among batches.

    rows       prompt a + answer 1, prompt a + answer 2, prompt b + answer 3
    computed   a 1 2 b 3            one token after another, with each token's place in its own row
    attention  a1 a2 b3             each row whole again

The layout reaches attention on the mask, which models hand on untouched when it has four dimensions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

TokenRow = tuple[Sequence[int], Sequence[int]]
"""The tokens that a row shares with every row that begins with the same, and its own."""


@dataclass(frozen=True)
class Packing:
    """Where the tokens of a batch stand."""

    tokens: Int[Tensor, "1 N"]
    """Every token that is computed."""
    positions: Int[Tensor, "1 N"]
    """Its position in its row."""
    reads: Int[Tensor, " R"]
    """Where the last shared token of each row stands, and then the row's own tokens; row behind row."""
    ends: Int[Tensor, " B"]
    """Where the last token of each row stands."""
    lengths: tuple[int, ...]
    """Lengths of the rows as attention sees them, ascending."""
    copies: Int[Tensor, " M"] | None
    """Which token stands at each place of attention's rows; None if every token stands in one row only, in order."""
    firsts: Int[Tensor, " N"] | None
    """A place of attention's rows where each token stands."""

    @classmethod
    def of(cls, rows: Sequence[TokenRow], device: torch.device) -> "Packing":
        """Lay out rows of at least one token each."""
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
        alone = len(copies) == len(tokens)
        return cls(
            tokens=torch.tensor([tokens], device=device),
            positions=torch.tensor([positions], device=device),
            reads=torch.tensor([place for row in reads for place in row], device=device),
            ends=torch.tensor([row[-1] for row in reads], device=device),
            lengths=tuple(len(rows[row][0]) + len(rows[row][1]) for row in order),
            copies=None if alone else torch.tensor(copies, device=device),
            firsts=None if alone else torch.tensor(firsts, device=device),
        )

    @property
    def inputs(self) -> dict[str, Any]:
        """The arguments of a Hugging Face model that `packs`."""
        mask = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=self.tokens.device)
        mask.rows = self  # type: ignore[attr-defined]  # accounting/attention.py calls `attend`
        return {"input_ids": self.tokens, "position_ids": self.positions, "attention_mask": mask}

    @property
    def pairs(self) -> int:
        """Pairs of a query and a key that attention computes."""
        return sum(length * length for length in self.lengths)

    def attend(
        self, attention: Callable[..., Any], module: Any, query: Tensor, key: Tensor, value: Tensor, **settings: Any
    ) -> tuple[Tensor, None]:
        """Call causal attention for the rows of each length; shapes are (1, heads, N, width), and (1, N, heads, width).

        `attention` is one of transformers' functions of this signature.
        """
        if self.copies is not None:
            query, key, value = (tensor.index_select(2, self.copies) for tensor in (query, key, value))
        alike = [len(list(rows)) for _, rows in groupby(self.lengths)]
        lengths = list(dict.fromkeys(self.lengths))
        sizes = [rows * length for rows, length in zip(alike, lengths, strict=True)]
        found = []
        for rows, *parts in zip(alike, *(tensor.split(sizes, 2) for tensor in (query, key, value)), strict=True):
            separate = (part[0].unflatten(1, (rows, -1)).transpose(0, 1) for part in parts)
            found.append(attention(module, *separate, None, **settings)[0].flatten(0, 1))
        together = torch.cat(found)
        return (together if self.firsts is None else together.index_select(0, self.firsts)).unsqueeze(0), None


def packs(model: nn.Module) -> bool:
    """Whether a model computes packed rows as it computes padded ones.

    It must hand its mask to transformers' attention functions, look back over the whole row and at nothing else.
    Others compute padded rows: the same numbers, later.
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
