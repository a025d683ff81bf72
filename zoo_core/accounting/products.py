"""Products that no metered layer computes: a model's own attention, convolutions, experts, recurrences.

A torch function mode sees them during a model's forward pass, above autograd, so that the cost of the backward pass is
known, too. Models that consist of linear layers and transformers' attention are not watched: their layers count
themselves (meter.py), which is faster.
"""

from collections.abc import Callable, Collection
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from zoo_core.accounting.audit import ExactCounter

FACTORS = {
    **dict.fromkeys(
        ("matmul", "rmatmul", "mm", "bmm", "mv", "dot", "vdot", "inner", "grouped_mm", "cdist"), slice(0, 2)
    ),
    **dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d"), slice(0, 2)),
    **dict.fromkeys(("addmm", "addmv", "addbmm", "baddbmm"), slice(1, 3)),
    **dict.fromkeys(("einsum", "tensordot", "bilinear"), slice(None)),
    "scaled_dot_product_attention": slice(0, 3),
    **dict.fromkeys(("solve_triangular", "linalg_solve_triangular"), slice(0, 2)),
}
"""The tensors that each function multiplies, by its name. Tensors that it only adds cost nothing."""
WHOLE = (
    *("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"),
    *("multi_head_attention_forward", "native_multi_head_attention", "transformer_encoder_layer_fwd"),
)
"""Functions that compute a whole layer. Their backward pass is charged as twice the forward pass: it lacks at most the
gradient of a first state, and of inputs that need none."""


class Products(TorchFunctionMode):
    """Charges every product inside a watched module, except inside layers that count themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.inside: list[nn.Module] = []
        self.counted = Counted()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function; charge its FLOPs if it is a product."""
        name = getattr(func, "__name__", "").strip("_")
        if self.counted.depth or not (name in FACTORS or name in WHOLE):
            return func(*args, **(kwargs or {}))
        with ExactCounter() as forward:
            out = func(*args, **(kwargs or {}))
        meter, role = self.inside[-1]._zoo  # type: ignore[misc]
        meter.charge(role, forward.total)
        if name in WHOLE:
            charge = once(meter.charge_backward(role, 2 * forward.total))
            for node in (one.grad_fn for one in _tensors([out]) if one.grad_fn is not None):
                node.register_prehook(charge)
        elif out.grad_fn is not None:
            given = _tensors([*args, *(kwargs or {}).values()])[FACTORS[name]]
            out.grad_fn.register_prehook(meter.charge_backward(role, forward.total * _halves(name, given, out) // 2))
        return out


def once(charge: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return a hook for all outputs of a layer: whichever is reached first has the layer's backward pass computed."""
    left = [charge]

    def on_backward(gradients: Any) -> None:
        if left:
            left.pop()(gradients)

    return on_backward


def is_fused(node: Any) -> bool:
    """Return whether PyTorch's attention ran as one operator, whose backward pass computes the scores again."""
    while node is not None and "Bmm" not in node.name():
        if node.name().startswith("ScaledDotProduct") or "varlen_attn" in node.name():
            return True
        node = node.next_functions[0][0] if node.next_functions else None
    return False


def _halves(name: str, given: list[Tensor], out: Tensor) -> int:
    """Return the cost of a backward pass, in halves of the cost of the forward pass.

    The gradient by one factor of a product costs as much as the product. Fused attention computes five products in its
    backward pass, for two in its forward pass. Solving a triangular system costs half a product; its gradient solves
    another system, and by the matrix it costs a product. The gradient by a matrix that is multiplied by a vector is
    no product of matrices, nor is that of a product of two vectors: there is nothing to add.
    """
    if name == "scaled_dot_product_attention":
        return 5 if is_fused(out.grad_fn) else 4
    if name in ("matmul", "rmatmul", "mv", "addmv", "dot", "vdot"):
        vector = given[0 if name == "rmatmul" else 1]
        if vector.dim() == 1:
            return 2 * vector.requires_grad * (out.dim() > 0)
    if name.endswith("solve_triangular"):
        return 2 + 4 * given[0].requires_grad
    return 2 * sum(one.requires_grad for one in given)


def _tensors(given: list[Any]) -> list[Tensor]:
    flat = [one for some in given for one in (some if isinstance(some, (list, tuple)) else [some])]
    return [one for one in flat if isinstance(one, Tensor)]


class Counted:
    """A context in which a layer counts its own products, so that `Products` does not."""

    def __init__(self) -> None:
        self.depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1


PRODUCTS = Products()


def watch(module: nn.Module, layers: Collection[type[nn.Module]]) -> None:
    """Charge the products in the forward pass of a module to the meter and role that it is attached to.

    Layers of the types in `layers` count themselves. The parts of blocks are watched one by one, too, because gradient
    checkpointing calls them again outside the forward pass of the model.
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
    """Return whether the linear layers of a module and the registered attention count all of its products."""
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
