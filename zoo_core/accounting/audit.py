"""An exact count of the FLOPs of all operators that run, by which the meter is audited."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, ops
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


def attention_flops(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    """Return the FLOPs of attention scores and of sums over values, for every head of the queries."""
    return 2 * query.shape[:-1].numel() * key.shape[-2] * (key.shape[-1] + value.shape[-1])


def attention_backward_flops(_: Tensor, query: Tensor, key: Tensor, value: Tensor, *__: Any, **___: Any) -> int:
    """Return the FLOPs of attention's backward pass: the scores again, and two products each for keys and values."""
    return 2 * query.shape[:-1].numel() * key.shape[-2] * (3 * key.shape[-1] + 2 * value.shape[-1])


def rows_flops(query: Tensor, key: Tensor, value: Tensor, begins: Tensor, *_: Any, **__: Any) -> int:
    """Return the FLOPs of attention over rows that follow one another; row i begins at `begins[i]`."""
    pairs = int((begins.diff().long() ** 2).sum())
    return 2 * query.shape[1] * pairs * (key.shape[-1] + value.shape[-1])


def rows_backward_flops(_: Tensor, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **__: Any) -> int:
    """Return the FLOPs of its backward pass; before `begins` come its output and the sums of its scores."""
    pairs = int((rest[2].diff().long() ** 2).sum())
    return 2 * query.shape[1] * pairs * (3 * key.shape[-1] + 2 * value.shape[-1])


def convolution_backward_flops(
    out: Tensor,
    x: Tensor,
    weight: Tensor,
    _sizes: Any,
    _stride: Any,
    _padding: Any,
    _dilation: Any,
    transposed: bool,
    _output_padding: Any,
    _groups: int,
    wanted: Any,
    **_: Any,
) -> int:
    """Return the FLOPs of a convolution's backward pass; torch's formula for the weight forgets the groups."""
    return int(wanted[0] + wanted[1]) * 2 * (x if transposed else out).numel() * weight[0].numel()


def grouped_flops(a: Tensor, b: Tensor, *_: Any, **__: Any) -> int:
    """Return the FLOPs of rows times the matrix of their group; backward, of groups of rows times groups of rows."""
    return 2 * a.numel() * b.shape[-1] // (a.shape[0] if a.dim() > b.dim() else 1)


def triangular_flops(matrix: Tensor, right: Tensor, *_: Any, **__: Any) -> int:
    """Return the FLOPs of solving a triangular system: half of a matrix product."""
    return right.numel() * matrix.shape[-1]


FUSED = ("flash_attention", "efficient_attention", "cudnn_attention", "fused_attention_overrideable")
# torch counts 0 for attention on the CPU (pytorch issue 195460), and before 2.13 fails on grouped-query attention.
ATTENTION = {
    getattr(ops.aten, f"_scaled_dot_product_{name}{backward}"): formula
    for name in (*FUSED, "flash_attention_for_cpu")
    for backward, formula in (("", attention_flops), ("_backward", attention_backward_flops))
    if hasattr(ops.aten, f"_scaled_dot_product_{name}{backward}")
}
FORMULAS: dict[Any, Any] = {
    **flop_registry,
    **ATTENTION,
    ops.aten.convolution_backward: convolution_backward_flops,
    ops.aten._grouped_mm: grouped_flops,  # experts; torch 2.13 leaves them out, and solving
    ops.aten.linalg_solve_triangular: triangular_flops,
}


RUNNING: list["ExactCounter"] = []
"""The counters that count at this moment."""


def count_again(flops: int) -> None:
    """Count what a recorded step repeats: its operators run without being called."""
    for counter in RUNNING:
        counter.total += flops


@contextlib.contextmanager
def uncounted() -> Iterator[None]:
    """Count nothing inside this context: what runs here on the device "meta" computes nothing."""
    totals = [(counter, counter.total) for counter in RUNNING]
    try:
        yield
    finally:
        for counter, total in totals:
            counter.total = total


class ExactCounter(TorchDispatchMode):
    """Counts the FLOPs of every operator that runs inside this context.

    Unlike torch's `FlopCounterMode` it decomposes no operator, so that an audited update computes the same bits as any
    other. (FlopCounterMode decomposes `silu_backward`, and the weights come out different.)
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0
        self.failed: str | None = None
        """The first operator whose FLOPs could not be counted, and why. The total lacks it; the training goes on."""

    def __enter__(self) -> "ExactCounter":
        RUNNING.append(self)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        RUNNING.remove(self)
        super().__exit__(*error)  # type: ignore[no-untyped-call]

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
            try:
                self.total += formula(*args, **kwargs, out_val=out)
            except Exception as error:  # a formula of some version of torch
                self.failed = self.failed or f"{func}: {type(error).__name__}: {error}"
        return out
