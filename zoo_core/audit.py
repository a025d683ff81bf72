"""An exact counter of what really runs, to audit the meter with."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

aten = torch.ops.aten
FORMULAS: dict[Any, Any] = dict(flop_registry)
# The stock registry of torch 2.13 counts 0 for attention on the CPU (pytorch issue 195460).
FORMULAS.setdefault(
    aten._scaled_dot_product_flash_attention_for_cpu,
    lambda q, k, v, *_, out_val=None, **__: sdpa_flop_count(q.shape, k.shape, v.shape),
)
FORMULAS.setdefault(
    aten._scaled_dot_product_flash_attention_for_cpu_backward,
    lambda g, q, k, v, *_, out_val=None, **__: sdpa_backward_flop_count(g.shape, q.shape, k.shape, v.shape),
)


class ExactCounter(TorchDispatchMode):
    """Counts the FLOPs of every operator that runs inside.

    Unlike torch's `FlopCounterMode` it takes no operator apart, so that an audited update computes the same bits as one
    that is not (under FlopCounterMode `silu_backward` is decomposed and the weights come out different).
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = FORMULAS.get(func._overloadpacket)
        if formula is None and torch.is_inference_mode_enabled() and func._can_decompose():
            with self:  # under inference_mode `linear` arrives whole, and its matrix product would not be seen
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        out = func(*args, **kwargs)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=out)
        return out
