"""Products that no metered layer computes: attention of a model's own, convolutions, experts, recurrences.

They are seen where they are asked for, above autograd, while a model's forward pass runs, so that what a backward pass
will cost is known, too. Models that consist of linear layers and of transformers' attention are not watched: their
layers count themselves (meter.py), which is faster.
"""

from collections.abc import Collection
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from zoo_core.accounting.audit import ExactCounter

FACTORS = {
    **dict.fromkeys(("matmul", "rmatmul", "mm", "bmm", "mv", "inner", "grouped_mm"), slice(0, 2)),
    **dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d"), slice(0, 2)),
    **dict.fromkeys(("addmm", "addmv", "addbmm", "baddbmm"), slice(1, 3)),
    **dict.fromkeys(("einsum", "tensordot", "bilinear"), slice(None)),
    "scaled_dot_product_attention": slice(0, 3),
    **dict.fromkeys(("solve_triangular", "linalg_solve_triangular"), slice(0, 2)),
}
"""By the name of a function: which of its tensors it multiplies. What it only adds costs nothing."""


class Products(TorchFunctionMode):
    """Charges every product that is computed inside a watched module, and not inside a layer that counts itself."""

    def __init__(self) -> None:
        super().__init__()
        self.inside: list[nn.Module] = []
        self.counted = Counted()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute, and count if it is a product."""
        factors = FACTORS.get(getattr(func, "__name__", "").strip("_"))
        if factors is None or self.counted.depth:
            return func(*args, **(kwargs or {}))
        with ExactCounter() as forward:
            out = func(*args, **(kwargs or {}))
        given = _tensors([*args, *(kwargs or {}).values()])[factors]
        meter, role = self.inside[-1]._zoo  # type: ignore[misc]
        meter.charge(role, forward.total)
        if out.grad_fn is not None:
            backward = forward.total * _halves(func.__name__, given, out.grad_fn) // 2
            out.grad_fn.register_prehook(meter.charge_backward(role, backward))
        return out


def is_fused(node: Any) -> bool:
    """Whether PyTorch's attention ran as one operator: that computes the scores again on its way back."""
    while node is not None and "Bmm" not in node.name():
        if node.name().startswith("ScaledDotProduct"):
            return True
        node = node.next_functions[0][0] if node.next_functions else None
    return False


def _halves(name: str, given: list[Tensor], node: Any) -> int:
    """How much a backward pass costs, in halves of the forward pass.

    A product's gradient by one factor is a product as large. Fused attention computes five products for its two. The
    system of a triangular matrix is half a product; its gradient is another such system, and by the matrix a product.
    """
    if name == "scaled_dot_product_attention":
        return 5 if is_fused(node) else 4
    if name.endswith("solve_triangular"):
        return 2 + 4 * given[0].requires_grad
    return 2 * sum(one.requires_grad for one in given)


def _tensors(given: list[Any]) -> list[Tensor]:
    flat = [one for some in given for one in (some if isinstance(some, (list, tuple)) else [some])]
    return [one for one in flat if isinstance(one, Tensor)]


class Counted:
    """Where a layer counts its own products."""

    def __init__(self) -> None:
        self.depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1


PRODUCTS = Products()


def watch(module: nn.Module, layers: Collection[type[nn.Module]]) -> None:
    """Charge the products in a module's forward pass to the meter and role that it is attached to.

    `layers` count themselves. The parts of blocks are watched one by one as well: gradient checkpointing calls them
    again without the model around them.
    """
    if _counts_itself(module, layers):
        return
    blocks = [block for part in module.modules() if isinstance(part, nn.ModuleList) for block in part]
    for part in (module, *blocks, *(child for block in blocks for child in block.children())):
        if type(part) not in layers and not getattr(part, "_zoo_watched", False):
            part._zoo_watched = True  # type: ignore[assignment]
            part.register_forward_pre_hook(_enter)
            part.register_forward_hook(_leave, always_call=True)


def _counts_itself(module: nn.Module, layers: Collection[type[nn.Module]]) -> bool:
    """Whether all that a module multiplies is counted by its linear layers and by the registered attention."""
    for part in module.modules():
        if isinstance(part, PreTrainedModel):
            through_interface = part._supports_attention_backend and part.config._attn_implementation == "sdpa"
            if not through_interface:
                return False
            continue
        knows = type(part) in layers or isinstance(part, nn.Embedding)
        if not knows and any(weight.dim() > 1 for weight in part.parameters(recurse=False)):
            return False
    return True


def _enter(module: nn.Module, _: object) -> None:
    if not PRODUCTS.inside:
        PRODUCTS.__enter__()  # type: ignore[no-untyped-call]
    PRODUCTS.inside.append(module)


def _leave(*_: object) -> None:
    PRODUCTS.inside.pop()
    if not PRODUCTS.inside:
        PRODUCTS.__exit__(None, None, None)  # type: ignore[no-untyped-call]
