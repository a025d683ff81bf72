"""An attention function that charges the meter and handles packed rows; it replaces transformers' "sdpa".

Models must be loaded, copied and metered with it, so `zoo_core.models.loading` and `Meter.attach` register it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from zoo_core.accounting.products import PRODUCTS, is_fused

FUSES = {"cuda"}
"""The devices whose attention is expected to keep no scores."""


def _metered(attention: Callable[..., Any]) -> Callable[..., Any]:
    def count(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **settings: Any
    ) -> Any:
        rows = getattr(attention_mask, "rows", None)
        with PRODUCTS.counted:
            if rows is None:
                result = attention(module, query, key, value, attention_mask, **settings)
                pairs = query.shape[0] * query.shape[2] * key.shape[2]
            else:
                found, pairs = rows.attend(attention, module, query, key, value, **settings)
                result = found, None
        attached = getattr(module, "_zoo", None)
        if attached is not None:
            meter, role = attached
            products, wide, deep = 2 * query.shape[1] * pairs, query.shape[3], value.shape[3]
            meter.charge(role, products * (wide + deep))
            if result[0].grad_fn is not None:
                fused = is_fused(result[0].grad_fn)
                backward = products * (3 * wide + 2 * deep if fused else 2 * (wide + deep))
                result[0].grad_fn.register_prehook(meter.charge_backward(role, backward))
                if not fused and query.device.type in FUSES:
                    meter.notes.add(
                        f"attention kept all its scores: torch has no fused attention for heads of width {wide} in "
                        f"{str(value.dtype).removeprefix('torch.')} here"
                    )
        return result

    count.takes_packed_rows = True  # type: ignore[attr-defined]  # `packs` asks for it
    return count


def use_metered_attention() -> None:
    """Register the metered attention for all models of this process that use "sdpa". A second call has no effect.

    cuDNN's attention is not used: it makes a new plan for every length of a row, which takes longer than the rest of an
    update, and computes other bits each time.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)
    attention = ALL_ATTENTION_FUNCTIONS["sdpa"]
    if not getattr(attention, "takes_packed_rows", False):
        AttentionInterface.register("sdpa", _metered(attention))
