"""Sampling in tensors that stay where they are, so that a GPU repeats a recorded step instead of being told it again.

A step of a small batch is some thousand launches that take longer than what they compute. A CUDA graph records them
once and repeats them in one. For this nothing may move or grow: keys and values have a fixed number of columns, rows
that have ended stay until half of all have, and the host looks only every few tokens whether any row still runs. The
random numbers are those of the plain sampler, and so are the tokens, to the rounding of the products.
"""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from zoo_core.compute.graphs import Graphs
from zoo_core.compute.packing import Packing
from zoo_core.compute.placing import put
from zoo_core.compute.readers import mask_of_one_token
from zoo_core.models.copies import copied
from zoo_core.models.lora import adapted_layers
from zoo_core.rollout import Prompts

Choose = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]

LOOKS = 16
"""Tokens after which the host looks whether rows have ended; to look, it waits for the GPU."""
ROWS, COLUMNS = 8, 64
"""Rows and columns come in multiples of these, so that one recorded step serves many batches."""


class FixedCache(Cache):
    """Keys and values of up to `rows` rows, each from column 0 on, in tensors that are never replaced."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__(layers=[])
        self.rows, self.columns = rows, columns
        self.states: list[tuple[Tensor, Tensor]] = []
        """Keys and values of each layer: (rows, heads, columns, width)."""
        self.running = 0
        """The rows that are computed: the first so many."""
        self.reach = columns
        """The columns that are computed: what a batch costs must not depend on the batches before it."""
        self.places: Int[Tensor, "B C"] | None = None
        """While prompts are read, the place of each of their tokens in the packed batch."""
        self.new: Int[Tensor, " B"] | None = None
        """While one token of each row is read, the columns of these tokens."""

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any) -> Any:
        """Add the states of packed prompts, or of one token per row; return keys and values for attention."""
        # Under autocast positions are turned into keys in float32; attention computes in the type of the values.
        new = key_states.to(value_states.dtype), value_states
        if self.places is not None:
            if layer_idx == len(self.states):
                self.states.append((self._empty(new[0]), self._empty(new[1])))
            count, columns = self.places.shape
            for kept, states in zip(self.states[layer_idx], new, strict=True):
                kept[:count, :, :columns] = states[0][:, self.places].transpose(0, 1)
            return key_states, value_states
        assert self.new is not None
        heads = value_states.shape[1]
        # All places differ, and `put` says so to torch, which would sort them.
        every = torch.arange(self.running * heads, device=self.new.device)
        places = every * self.columns + self.new.repeat_interleave(heads)
        for kept, states in zip(self.states[layer_idx], new, strict=True):
            put(kept.view(-1, kept.shape[-1]), places, states[:, :, 0].reshape(len(places), -1))
        keys, values = self.states[layer_idx]
        return keys[: self.running, :, : self.reach], values[: self.running, :, : self.reach]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of columns: models only ask whether there are any."""
        return 0 if self.places is not None else self.reach

    def keep(self, rows: Int[Tensor, " M"]) -> None:
        """Move these rows to the front; only they are computed from now on."""
        for layer in self.states:
            for kept in layer:
                kept[: len(rows)] = kept.index_select(0, rows)
        self.running = len(rows)

    def _empty(self, states: Float[Tensor, "1 H N D"]) -> Float[Tensor, "rows H columns D"]:
        # Zeros, because a column that is hidden counts 0 times what is there, which must be a number.
        return states.new_zeros(self.rows, states.shape[1], self.columns, states.shape[3])


class FixedSampler:
    """The state of the rows that are sampled from one policy, and the recorded steps."""

    def __init__(self, policy: PreTrainedModel, rows: int, columns: int, response_tokens: int, ends: int) -> None:
        device = policy.device
        self.cache = FixedCache(rows, columns)
        self.graphs = Graphs(device)
        self.state = recorded_state(policy)
        self.rough = in_half_precision(policy)

        def whole(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.long, device=device)

        self.ends = whole(ends)
        self.uniform = torch.zeros(rows, response_tokens, device=device)
        self.tokens = whole(rows, response_tokens)
        self.logprobs = torch.zeros(rows, response_tokens, device=device)
        self.last = whole(rows)
        """The token that each row is to read next."""
        self.lengths = whole(rows)
        """The tokens of each row that have been read."""
        self.counts = whole(rows)
        """The tokens of each response, its end included."""
        self.running = torch.zeros(rows, dtype=torch.bool, device=device)
        self.step = whole()
        self.of_rows = self.uniform, self.tokens, self.logprobs, self.last, self.lengths, self.counts, self.running

    def fits(self, policy: PreTrainedModel, rows: int, columns: int, response_tokens: int, ends: int) -> bool:
        """Return whether a batch of this size can be sampled in these tensors, from the same weights and adapters."""
        room = self.cache.rows >= rows and self.cache.columns >= columns
        same = self.uniform.shape[1] == response_tokens and len(self.ends) == ends
        halved = (self.rough is not None) == torch.is_autocast_enabled(policy.device.type)
        return room and same and halved and self.state == recorded_state(policy)

    def sample(
        self,
        policy: PreTrainedModel,
        prompts: Prompts,
        uniform: Float[Tensor, "B T"],
        choose: Choose,
        temperature: float,
        ends: Int[Tensor, " E"],
        pad: int,
    ) -> tuple[Int[Tensor, "B T"], Float[Tensor, "B T"], Int[Tensor, " B"]]:
        """Return what `sampler.sample_cached` does, and the number of tokens of each response."""
        count, response_tokens = uniform.shape
        model, longest = self._model(policy), longest_of(prompts)
        for state in (*self.of_rows, self.step):
            state.zero_()
        self.ends.copy_(ends)
        self.tokens.fill_(pad)
        self.uniform[:count] = uniform
        self.lengths[:count] = prompts.attention.sum(1)
        self.running[:count] = True
        whole = up_to(count, ROWS)  # rows from `count` on fill the last multiple; they have ended
        rows = torch.arange(whole, device=uniform.device)  # the row of the batch at each row of the tensors
        self.cache.running, self.cache.reach = whole, up_to(longest + response_tokens, COLUMNS)

        def step() -> None:
            self._add(self._read(model), choose, temperature, pad)

        with torch.autocast(policy.device.type, enabled=False):  # the weights have their precision
            first = self._begin(model, Packing.of(prompts.rows, uniform.device), self.lengths[:count], longest)
            self._add(first, choose, temperature, pad)
            for taken in range(1, response_tokens):
                if taken % LOOKS == 0:
                    running = self.running[:whole]
                    order = torch.cat([running.nonzero(), (~running).nonzero()]).squeeze(1)
                    left = int(running.sum())
                    if not left:
                        break
                    if 2 * up_to(left, ROWS) <= self.cache.running:
                        self._reorder(order, up_to(left, ROWS))
                        rows = rows[order]
                name = self.cache.running, self.cache.reach, temperature, pad, policy.training
                self.graphs.run(name, step, model)
        places = rows.argsort()[:count]
        return self.tokens[places], self.logprobs[places], self.counts[places]

    def _model(self, policy: PreTrainedModel) -> PreTrainedModel:
        """The policy; in bf16 a copy whose weights are in bf16, brought up to date: reading them is most of a step."""
        if self.rough is None:
            return policy
        for kept, weight in zip(self.rough.parameters(), policy.parameters(), strict=True):
            kept.copy_(weight)
        return self.rough

    def _begin(self, model: PreTrainedModel, packing: Packing, lengths: Int[Tensor, " B"], longest: int) -> Tensor:
        """Read the prompts; return the logits after each."""
        self.cache.places = packing.columns(lengths, longest)
        out = model(**packing.inputs, past_key_values=self.cache, use_cache=True, logits_to_keep=packing.ends)
        self.cache.places = None
        return out.logits[0]  # type: ignore[no-any-return]

    def _read(self, model: PreTrainedModel) -> Float[Tensor, "B V"]:
        """Read the last token of each row; return the logits after it."""
        count, values = self.cache.running, self.cache.states[0][1]
        lengths = self.lengths[:count]
        self.cache.new = lengths
        out = model(
            input_ids=self.last[:count].unsqueeze(1),
            position_ids=lengths.unsqueeze(1),
            attention_mask=mask_of_one_token(lengths + 1, self.cache.reach, values.dtype),
            past_key_values=self.cache,
            use_cache=True,
        )
        lengths += 1
        return out.logits[:, -1]  # type: ignore[no-any-return]

    def _add(self, logits: Float[Tensor, "B V"], choose: Choose, temperature: float, pad: int) -> None:
        """Choose the next token of each row, and write it down where the row has not ended."""
        count, running = len(logits), self.running[: len(logits)]
        places = torch.arange(count, device=logits.device) * self.uniform.shape[1] + self.step
        token, logprob = choose(logits.float(), self.uniform.view(-1)[places], temperature)
        put(self.tokens.view(-1), places, token.masked_fill(~running, pad))
        put(self.logprobs.view(-1), places, logprob.masked_fill(~running, 0.0))
        self.counts[:count] += running
        running &= (token.unsqueeze(1) != self.ends).all(1)
        self.last[:count] = token
        self.step += 1

    def _reorder(self, order: Int[Tensor, " M"], running: int) -> None:
        """Bring rows into another order, of which only the first so many are computed from now on."""
        for state in self.of_rows:
            state[: len(order)] = state.index_select(0, order)
        self.cache.keep(order[:running])


def longest_of(prompts: Prompts) -> int:
    """Return the number of tokens of the longest prompt."""
    return max(len(shared) + len(own) for shared, own in prompts.rows)


def up_to(count: int, step: int) -> int:
    """Return the least multiple of `step` that is no less than `count`."""
    return -(-count // step) * step


def recorded_state(policy: PreTrainedModel) -> tuple[object, ...]:
    """Where the weights are, and which adapters are active: a recorded step knows no others."""
    adapters = ((layer.disable_adapters, *layer.active_adapters) for layer in adapted_layers(policy))
    return (*(weight.data_ptr() for weight in policy.parameters()), *adapters)


def in_half_precision(policy: PreTrainedModel) -> PreTrainedModel | None:
    """Return a copy with weights in the precision of autocast, which need not be cast for every token; None without.

    What is not a parameter stays as it is: positions need more digits.
    """
    kind = policy.device.type
    if not torch.is_autocast_enabled(kind):
        return None
    rough = copied(policy).requires_grad_(False)
    for weight in rough.parameters():
        weight.data = weight.data.to(torch.get_autocast_dtype(kind))
    return rough


_samplers: WeakKeyDictionary[PreTrainedModel, FixedSampler] = WeakKeyDictionary()


def sampler_of(policy: PreTrainedModel, prompts: Prompts, response_tokens: int, ends: int) -> FixedSampler:
    """Return the sampler of a policy, with room for these prompts and their responses."""
    size = up_to(len(prompts), ROWS), up_to(longest_of(prompts) + response_tokens, COLUMNS)
    known = _samplers.get(policy)
    if known is not None and known.fits(policy, *size, response_tokens, ends):
        return known
    if known is not None:
        size = max(size[0], known.cache.rows), max(size[1], known.cache.columns)
        del _samplers[policy], known  # before there are two
    made = FixedSampler(policy, *size, response_tokens, ends)
    _samplers[policy] = made
    return made
