"""Readers compute the logits after a prompt, and then after each further token, with keys and values cached."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer

from zoo_core.compute.packing import Packing, packs
from zoo_core.rollout import Prompts

BLOCK = 16
"""Columns by which a cache grows: more would be computed in vain, fewer would copy the cache more often."""


def reader_of(policy: PreTrainedModel, prompts: Prompts) -> "PackedReader | PaddedReader | RereadingReader":
    """Return a reader of these prompts and of the tokens that follow them."""
    return reader_for(policy)(policy, prompts)


def reader_for(policy: PreTrainedModel) -> "type[PackedReader | PaddedReader | RereadingReader]":
    """Return the fastest reader class that is correct for a model."""
    if packs(policy):
        return PackedReader
    kinds = {type(layer) for layer in DynamicCache(config=policy.config).layers}
    keys_and_values = kinds <= {DynamicLayer, DynamicSlidingWindowLayer} and not policy._is_stateful
    takes_them = "past_key_values" in inspect.signature(type(policy).forward).parameters
    return PaddedReader if keys_and_values and takes_them else RereadingReader


class PackedReader:
    """Reads rows of different lengths without padding."""

    def __init__(self, policy: PreTrainedModel, prompts: Prompts) -> None:
        self.policy = policy
        lengths = prompts.attention.sum(1)
        self.packing = Packing.of(prompts.rows, prompts.tokens.device)
        # The mask hides the columns after the end of a prompt.
        self.cache = RaggedCache(lengths, self.packing.columns(lengths, int(lengths.max()) + BLOCK))

    def prompts(self) -> Float[Tensor, "B V"]:
        """Read each different prompt once; return the logits after each row."""
        out = self.policy(
            **self.packing.inputs, past_key_values=self.cache, use_cache=True, logits_to_keep=self.packing.ends
        )
        return out.logits[0]  # type: ignore[no-any-return]

    def next(self, tokens: Int[Tensor, " B"]) -> Float[Tensor, "B V"]:
        """Read one more token of each row; return the logits after it."""
        positions = self.cache.lengths.unsqueeze(1)
        out = self.policy(
            input_ids=tokens.unsqueeze(1),
            position_ids=positions,
            attention_mask=self.cache.lengthen(),
            past_key_values=self.cache,
            use_cache=True,
        )
        return out.logits[:, -1]  # type: ignore[no-any-return]

    def keep(self, rows: Bool[Tensor, " B"]) -> None:
        """Drop all other rows."""
        self.cache.keep(rows)


class RaggedCache(Cache):
    """Keys and values of rows of different lengths, each from column 0 on.

    Attention gets them as one tensor, which its matrix products need to be fast. So the cache has only a few more
    columns than the longest row has tokens, and grows with that row.
    """

    def __init__(self, lengths: Int[Tensor, " B"], places: Int[Tensor, "B C"]) -> None:
        super().__init__(layers=[])
        self.lengths = lengths
        """Number of tokens of each row, with the one that is being read."""
        self.longest = int(lengths.max())
        self.rows = torch.arange(len(lengths), device=lengths.device)
        self._places = places
        self._states: list[tuple[Tensor, Tensor]] = []

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any) -> Any:
        """Add the states of packed prompts, or of one token per row; return keys and values for attention."""
        if layer_idx == len(self._states):
            # Under autocast positions are turned into keys in float32; attention computes in the type of the values.
            self._states.append((self._spread(key_states.to(value_states.dtype)), self._spread(value_states)))
            return key_states, value_states
        for kept, new in zip(self._states[layer_idx], (key_states, value_states), strict=True):
            kept[self.rows, :, self.lengths - 1] = new[:, :, 0].to(kept.dtype)
        return self._states[layer_idx]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of tokens of the longest row."""
        return self.longest if self._states else 0

    def lengthen(self) -> Float[Tensor, "B 1 1 C"]:
        """Make room for one more token per row; return the mask that hides the columns after the end of each row."""
        self.lengths = self.lengths + 1
        self.longest += 1
        if self.longest > self._states[0][0].shape[2]:
            for layer, (keys, values) in enumerate(self._states):  # one by one, or there would be two caches
                self._states[layer] = self._grown(keys), self._grown(values)
        values = self._states[0][1]
        return mask_of_one_token(self.lengths, values.shape[2], values.dtype)

    def keep(self, rows: Bool[Tensor, " B"]) -> None:
        """Drop all other rows."""
        self.lengths = self.lengths[rows]
        self.longest = int(self.lengths.max())
        self.rows = self.rows[: len(self.lengths)]
        for layer, (keys, values) in enumerate(self._states):
            self._states[layer] = keys[rows], values[rows]

    def _grown(self, kept: Float[Tensor, "B H C D"]) -> Float[Tensor, "B H more D"]:
        return torch.cat([kept, kept.new_zeros(*kept.shape[:2], BLOCK, kept.shape[3])], 2)

    def _spread(self, states: Float[Tensor, "1 H N D"]) -> Float[Tensor, "B H C D"]:
        return states[0][:, self._places].transpose(0, 1).contiguous()


def mask_of_one_token(lengths: Int[Tensor, " B"], columns: int, dtype: torch.dtype) -> Float[Tensor, "B 1 1 C"]:
    """Return the mask for one query per row that hides the columns after the end of each row."""
    behind = torch.arange(columns, device=lengths.device) >= lengths.unsqueeze(1)
    hidden = torch.zeros(behind.shape, dtype=dtype, device=lengths.device).masked_fill_(behind, -torch.inf)
    mask = hidden[:, None, None]
    mask.rows = OneTokenEach(hidden)  # type: ignore[attr-defined]  # as of packed rows
    return mask


@dataclass(frozen=True)
class OneTokenEach:
    """The layout of one query per row of a `RaggedCache`."""

    hidden: Float[Tensor, "B C"]
    """-inf after the end of each row, 0 elsewhere."""

    def attend(
        self, _: Callable[..., Any], __: Any, query: Tensor, key: Tensor, value: Tensor, **settings: Any
    ) -> tuple[Tensor, int]:
        """Compute attention; shapes are (B, heads, 1, D), (B, heads of keys, C, D), and (B, 1, heads, D).

        For a single query two batched products take a third of the time of torch's attention, which for grouped heads
        and a mask would copy the cache. The second result is the number of pairs of a query and a key.
        """
        (rows, heads, _one, width), groups = query.shape, query.shape[1] // key.shape[1]
        scaled = query * (settings.get("scaling") or width**-0.5)
        scores = torch.bmm(scaled.reshape(-1, groups, width).to(key.dtype), key.flatten(0, 1).transpose(1, 2))
        shares = (scores.view(rows, heads, 1, -1).float() + self.hidden[:, None, None]).softmax(-1).to(value.dtype)
        found = torch.bmm(shares.view(-1, groups, shares.shape[-1]), value.flatten(0, 1))
        return found.view(rows, 1, heads, -1), self.hidden.numel()


class PaddedReader:
    """Reads rows padded on the left, for models that do not pack but keep keys and values; all of them to the end."""

    def __init__(self, policy: PreTrainedModel, prompts: Prompts) -> None:
        self.policy = policy
        self.tokens, self.attention = prompts.tokens, prompts.attention.long()
        self.cache = DynamicCache(config=policy.config)

    def prompts(self) -> Float[Tensor, "B V"]:
        """Read the prompts; return the logits after each row."""
        return self._read(self.tokens, (self.attention.cumsum(1) - 1).clamp(min=0))

    def next(self, tokens: Int[Tensor, " B"]) -> Float[Tensor, "B V"]:
        """Read one more token of each row; return the logits after it."""
        self.attention = torch.cat([self.attention, torch.ones_like(self.attention[:, :1])], 1)
        return self._read(tokens.unsqueeze(1), self.attention.sum(1, keepdim=True) - 1)

    def keep(self, rows: Bool[Tensor, " B"]) -> None:
        """Drop all other rows."""
        self.cache.batch_select_indices(rows.nonzero().squeeze(1))
        self.attention = self.attention[rows]

    def _read(self, tokens: Int[Tensor, "B T"], positions: Int[Tensor, "B T"]) -> Float[Tensor, "B V"]:
        out = self.policy(
            input_ids=tokens,
            position_ids=positions,
            attention_mask=self.attention,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1]  # type: ignore[no-any-return]


class RereadingReader:
    """Reads every row from its beginning for each token, padded on the left.

    It serves models with states of their own (state spaces, gated convolutions, mixed layers) and models without any
    cache: the names and shapes of their caches differ by architecture. It is correct for all, and slow: T tokens cost
    T readings.
    """

    def __init__(self, policy: PreTrainedModel, prompts: Prompts) -> None:
        self.policy = policy
        self.tokens, self.attention = prompts.tokens, prompts.attention.long()

    def prompts(self) -> Float[Tensor, "B V"]:
        """Read the prompts; return the logits after each row."""
        out = self.policy(
            input_ids=self.tokens,
            position_ids=(self.attention.cumsum(1) - 1).clamp(min=0),
            attention_mask=self.attention,
            use_cache=False,
            logits_to_keep=1,
        )
        return out.logits[:, -1]  # type: ignore[no-any-return]

    def next(self, tokens: Int[Tensor, " B"]) -> Float[Tensor, "B V"]:
        """Read each row again with one more token; return the logits after it."""
        self.tokens = torch.cat([self.tokens, tokens.unsqueeze(1)], 1)
        self.attention = torch.cat([self.attention, torch.ones_like(self.attention[:, :1])], 1)
        return self.prompts()

    def keep(self, rows: Bool[Tensor, " B"]) -> None:
        """Drop all other rows."""
        real = self.attention[rows].any(0)
        self.tokens, self.attention = self.tokens[rows][:, real], self.attention[rows][:, real]
