"""What the built-in sampler would have charged for responses that another program sampled.

The meter counts a forward pass by its shapes, and the shapes that `sample_cached` computes follow from the lengths of
prompts and responses alone. So a twin of the policy, on torch's device "meta", which has shapes and no numbers, is
asked what each of these passes costs; steps of equal shapes cost the same and are asked about once.

The twin gives the cost to the digit on a CPU. On a GPU there is one exception: prompts of such different lengths that
attention there skips their padding (row_attention.py) are counted with it.
"""

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from zoo_core.accounting.audit import uncounted
from zoo_core.accounting.meter import Meter
from zoo_core.compute import fixed_sampler, packing, sampler
from zoo_core.compute.packing import Packing, packs
from zoo_core.compute.readers import BLOCK, mask_of_one_token
from zoo_core.compute.sharding import is_sharded
from zoo_core.errors import ModelError
from zoo_core.rollout import Prompts

META = torch.device("meta")
Step = tuple[int, int]
"""Rows that read one more token each, and the columns of their cache."""


@torch.no_grad()
def sampling_cost(policy: PreTrainedModel, prompts: Prompts, counts: Sequence[int], response_tokens: int) -> int:
    """Return the FLOPs of `sample_cached` where it samples responses of `counts` tokens each, ends included.

    `response_tokens` is the limit that it was given. `ModelError` for a model that does not pack, or is in shards.
    """
    if not packs(policy) or is_sharded(policy):
        why = "is in shards (FSDP2)" if packs(policy) else "does not take packed rows"
        raise ModelError(
            f"{type(policy).__name__}: what it costs to sample from it cannot be told from lengths, because it {why}. "
            "Use `rollout_engine: cached`."
        )
    kind, lengths = prompts.tokens.device.type, [len(head) + len(own) for head, own in prompts.rows]
    fixed = kind in sampler.FIXED
    steps = (_fixed_steps if fixed else _steps)(lengths, counts, response_tokens)
    twin = _twin(policy)
    meter = Meter()
    meter.attach(twin, "policy")
    with uncounted():
        layout = (AtOnce if kind in packing.AT_ONCE else Packing).of(prompts.rows, META)
        twin(**layout.inputs, past_key_values=Columns(None), use_cache=True, logits_to_keep=layout.ends)
        total = meter.total
        for (rows, columns), times in steps.items():
            before = meter.total
            _read_one_token(twin, rows, columns)
            total += times * (meter.total - before)
    return total


def _steps(lengths: Sequence[int], counts: Sequence[int], response_tokens: int) -> Counter[Step]:
    """Return the steps of the plain sampler, and how often each is done: ended rows leave in crowds."""
    steps: Counter[Step] = Counter()
    rows, longest = list(range(len(counts))), max(lengths)
    columns = longest + BLOCK
    for step in range(response_tokens - 1):
        left = [row for row in rows if counts[row] > step + 1]
        if not left:
            break
        if len(left) <= sampler.CROWDED * len(rows):
            rows, longest = left, max(lengths[row] for row in left) + step
        longest += 1
        columns += BLOCK if longest > columns else 0
        steps[len(rows), columns] += 1
    return steps


def _fixed_steps(lengths: Sequence[int], counts: Sequence[int], response_tokens: int) -> Counter[Step]:
    """Return the same for the sampler of GPUs: rows and columns in multiples, and a look at what has ended at times."""
    steps: Counter[Step] = Counter()
    rows = fixed_sampler.up_to(len(counts), fixed_sampler.ROWS)
    columns = fixed_sampler.up_to(max(lengths) + response_tokens, fixed_sampler.COLUMNS)
    for taken in range(1, response_tokens):
        if taken % fixed_sampler.LOOKS == 0:
            left = sum(count > taken for count in counts)
            if not left:
                break
            fewer = fixed_sampler.up_to(left, fixed_sampler.ROWS)
            rows = fewer if 2 * fewer <= rows else rows
        steps[rows, columns] += 1
    return steps


def _read_one_token(twin: PreTrainedModel, rows: int, columns: int) -> None:
    lengths = torch.empty(rows, dtype=torch.long, device=META)
    twin(
        input_ids=lengths.unsqueeze(1),
        position_ids=lengths.unsqueeze(1),
        attention_mask=mask_of_one_token(lengths, columns, torch.float32),
        past_key_values=Columns(columns),
        use_cache=True,
    )


def _twin(policy: PreTrainedModel) -> PreTrainedModel:
    """Return a copy with the same layers and adapters, and shapes for weights, all of one type: none is converted."""
    shapes: dict[int, object] = {}
    for tensor in (*policy.parameters(), *policy.buffers()):
        kind = torch.float32 if tensor.is_floating_point() else tensor.dtype
        shape = torch.empty(tensor.shape, dtype=kind, device=META)
        shapes[id(tensor)] = nn.Parameter(shape, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else shape
    return copy.deepcopy(policy, shapes)  # deepcopy takes what is in its memo for copied already


class AtOnce(Packing):
    """A packed batch whose attention is computed as on GPUs, wherever it is."""

    def attend(
        self, attention: Any, module: Any, query: Tensor, key: Tensor, value: Tensor, **settings: Any
    ) -> tuple[Tensor, int]:
        """Compute attention of all rows in one call."""
        return self._at_once(query, key, value, settings.get("scaling"))


class Columns(Cache):
    """A cache of so many columns, or one that is being filled (None); it keeps nothing."""

    def __init__(self, columns: int | None) -> None:
        super().__init__(layers=[])
        self.columns = columns

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> Any:
        """Return what attention is to read."""
        if self.columns is None:
            return key_states, value_states
        return tuple(one.new_empty(*one.shape[:2], self.columns, one.shape[3]) for one in (key_states, value_states))

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of columns."""
        return self.columns or 0
