"""What each operator that multiplies costs: two FLOPs for each multiplication and addition of its products.

Torch's registry has the operators of most models. Here is what it leaves out or gets wrong. A formula takes what its
operator takes and `out_val`, what the operator returned.
"""

import re
from collections.abc import Sequence
from typing import Any

from torch import Tensor, ops
from torch.utils.flop_counter import flop_registry


def attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    """Return the FLOPs of attention scores and of sums over values, for every head of the queries."""
    return 2 * query.shape[:-1].numel() * key.shape[-2] * (key.shape[-1] + value.shape[-1])


def attention_backward(_: Tensor, query: Tensor, key: Tensor, value: Tensor, *__: Any, **___: Any) -> int:
    """Return the FLOPs of attention's backward pass: the scores again, and two products each for keys and values."""
    return 2 * query.shape[:-1].numel() * key.shape[-2] * (3 * key.shape[-1] + 2 * value.shape[-1])


def rows(query: Tensor, key: Tensor, value: Tensor, begins: Tensor, *_: Any, **__: Any) -> int:
    """Return the FLOPs of attention over rows that follow one another; row i begins at `begins[i]`."""
    pairs = int((begins.diff().long() ** 2).sum())
    return 2 * query.shape[1] * pairs * (key.shape[-1] + value.shape[-1])


def rows_backward(_: Tensor, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **__: Any) -> int:
    """Return the FLOPs of its backward pass; before `begins` come its output and the sums of its scores."""
    pairs = int((rest[2].diff().long() ** 2).sum())
    return 2 * query.shape[1] * pairs * (3 * key.shape[-1] + 2 * value.shape[-1])


def convolution_backward(
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


def grouped(a: Tensor, b: Tensor, *_: Any, **__: Any) -> int:
    """Return the FLOPs of rows times the matrix of their group; backward, of groups of rows times groups of rows."""
    return 2 * a.numel() * b.shape[-1] // (a.shape[0] if a.dim() > b.dim() else 1)


def triangular(matrix: Tensor, right: Tensor, *_: Any, **__: Any) -> int:
    """Return the FLOPs of solving a triangular system: half of a matrix product."""
    return right.numel() * matrix.shape[-1]


def vector(matrix: Tensor, *_: Any, **__: Any) -> int:
    """Return the FLOPs of a matrix, or a vector, times a vector."""
    return 2 * matrix.numel()


def added(_: Tensor, *factors: Any, **rest: Any) -> int:
    """Return the FLOPs of a product that is added to something: of (B, N, M) by (B, M, P), or a matrix by a vector."""
    left: Tensor = factors[0]
    right: Tensor = factors[1]
    return 2 * left.numel() * (right.shape[-1] if right.dim() > 1 else 1)


def trilinear(one: Tensor, two: Tensor, three: Tensor, *expanded: Any, **_: Any) -> int:
    """Return the FLOPs of the larger product of a bilinear layer: over the sizes of all three, broadcast.

    A size of 1 is missing in a tensor where `expanded` says so.
    """
    total = 2
    for sizes in zip(*map(_broadcast, (one, two, three), expanded), strict=True):
        total *= max(sizes)
    return total


def _broadcast(tensor: Tensor, missing: list[int]) -> list[int]:
    sizes = list(tensor.shape)
    for place in sorted(missing):
        sizes.insert(place, 1)
    return sizes


def distances(one: Tensor, two: Tensor, *_: Any, **__: Any) -> int:
    """Return the FLOPs of distances between all rows of (…, P, M) and (…, R, M): those of their product."""
    return 2 * one.numel() * two.shape[-2]


def distances_backward(_: Tensor, one: Tensor, two: Tensor, *__: Any, **___: Any) -> int:
    """Return the FLOPs of the gradient by the first of them."""
    return distances(one, two)


def recurrent(x: Tensor, *given: Any, **_: Any) -> int:
    """Return the FLOPs of a recurrent layer: all of its matrices, (gates, inputs), for all tokens of x, (…, inputs)."""
    weights: Sequence[Tensor] = given[0] if isinstance(given[0], (list, tuple)) else given[:2]
    return 2 * x.shape[:-1].numel() * sum(weight.numel() for weight in weights if weight.dim() > 1)


def recurrent_backward(x: Tensor, *given: Any, **_: Any) -> int:
    """Return the FLOPs of its backward pass, by inputs and weights."""
    return 2 * recurrent(x, *given)


def heads(query: Tensor, key: Tensor, value: Tensor, width: int, _heads: int, *weights: Any, **_: Any) -> int:
    """Return the FLOPs of a whole layer of attention: four matrices of (width, width), and attention between them."""
    tokens = 2 * query.shape[:-1].numel() + key.shape[:-1].numel() + value.shape[:-1].numel()
    return 2 * tokens * width**2 + 4 * query.shape[:-1].numel() * key.shape[-2] * width


def encoder(x: Tensor, width: int, _heads: int, *rest: Any, **_: Any) -> int:
    """Return the FLOPs of a layer of a transformer's encoder: attention, and two matrices behind it."""
    weights = [some for some in rest if isinstance(some, Tensor) and some.dim() == 2][2:4]
    return heads(x, x, x, width, _heads) + 2 * x.shape[:-1].numel() * sum(weight.numel() for weight in weights)


FUSED = ("flash_attention", "efficient_attention", "cudnn_attention", "fused_attention_overrideable")
# torch counts 0 for attention on the CPU (pytorch issue 195460), and before 2.13 fails on grouped-query attention.
ATTENTION = {
    getattr(ops.aten, f"_scaled_dot_product_{name}{backward}"): formula
    for name in (*FUSED, "flash_attention_for_cpu")
    for backward, formula in (("", attention), ("_backward", attention_backward))
    if hasattr(ops.aten, f"_scaled_dot_product_{name}{backward}")
}
FORMULAS: dict[Any, Any] = {
    **flop_registry,
    **ATTENTION,
    ops.aten.convolution_backward: convolution_backward,
    ops.aten._grouped_mm: grouped,
    ops.aten.linalg_solve_triangular: triangular,
    **dict.fromkeys((ops.aten.mv, ops.aten.dot, ops.aten.vdot), vector),
    **dict.fromkeys((ops.aten.addmv, ops.aten.addbmm), added),
    ops.aten._trilinear: trilinear,
    **dict.fromkeys((ops.aten._euclidean_dist, ops.aten._cdist_forward), distances),
    ops.aten._cdist_backward: distances_backward,
    **dict.fromkeys((ops.aten.mkldnn_rnn_layer, ops.aten._cudnn_rnn), recurrent),
    **dict.fromkeys((ops.aten.mkldnn_rnn_layer_backward, ops.aten._cudnn_rnn_backward), recurrent_backward),
    ops.aten._native_multi_head_attention: heads,
    ops.aten._transformer_encoder_layer_fwd: encoder,
}
for name in ("addmm", "baddbmm", "addmv", "addbmm"):
    FORMULAS[getattr(ops.aten, f"{name}_")] = FORMULAS[getattr(ops.aten, name)]

MULTIPLIES = re.compile(
    r"(?!linalg_(vector_norm|_powsum|cross|diagonal)|_linalg_check|_convert|\w*(reorder|flatten))"
    r"(_?linalg_|\w*(mm|mv|dot|matmul|conv(olution)?\w*|_attention\w*|linear)(_backward\w*|_)?$"
    r"|\w*(cholesky|_fft_|_rnn|lstm_mps|sparse\w*mm|pdist|geqrf|orgqr|ormqr|_lu_|lu_solve|triangular_solve|spsolve))"
)
"""Names of torch's operators that multiply matrices or compute as much."""
PLAIN = ("aten", "prim", "prims", "profiler", "inductor", "fsdp", "c10d", "symm_mem", "_c10d_functional")
"""Namespaces of operators that come with torch. What operators of others compute is not known."""


def is_unknown(operator: Any) -> bool:
    """Return whether an operator without a formula may compute what should be counted."""
    known = operator.namespace in PLAIN or operator.namespace.startswith("_c10d")
    return not known or MULTIPLIES.match(operator._opname) is not None
