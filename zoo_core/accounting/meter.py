"""The meter: model FLOPs, counted where they are computed, by role and phase.

The meter counts every multiplication and addition of Linear layers, attention and all other products (products.py:
experts, convolutions, a model's own attention), padding included: those of a forward pass when it runs, those of a
backward pass when that runs. So it needs to know nothing of shared trunks, response-only logits, value heads, frozen
layers, gradient checkpointing or LoRA. It leaves out cheap operations (norms, softmax, embeddings, optimizers), as
PyTorch's FLOP counter does.

    Linear     forward 2·tokens·in·out; backward the same once for the input and once for the weight, if they need it
    attention  forward 4·B·H·Tq·Tk·D; backward 2.5 times that (flash attention computes the scores again) or twice;
               of packed rows (packing.py) 4·H·D·Σ T² over the rows, and on GPUs, where attention computes all rows in
               one call, with each padded to the longest; of sampled tokens with the cache's columns for Tk
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from zoo_core.accounting.attention import use_metered_attention
from zoo_core.accounting.products import PRODUCTS, watch

METER_VERSION = 3
"""Version of the rules of counting. Boards of different versions are never merged."""

Cells = dict[tuple[str, str], int]


class Meter:
    """Sums FLOPs by role (the purpose of a model: policy, critic) and phase (sample, score, train, prepare)."""

    def __init__(self) -> None:
        self.cells: Cells = {}
        self.in_loop = False
        """Whether a training loop is inside an update. Outside, the phase is "prepare"."""
        self.notes: set[str] = set()
        """Remarks on how models were computed, for readers of the board."""
        self._phase: str | None = None
        self._modules: dict[str, nn.Module] = {}

    @property
    def total(self) -> int:
        """All FLOPs so far."""
        return sum(self.cells.values())

    @property
    def modules(self) -> list[nn.Module]:
        """The models of all roles."""
        return list(self._modules.values())

    def attach(self, module: nn.Module, role: str) -> None:
        """Count the FLOPs of a model under this role. Attaching it again changes its role."""
        use_metered_attention()
        self._modules[role] = module
        for part in module.modules():
            if type(part) in METERED:
                part.__class__ = METERED[type(part)]
            if not isinstance(part, (nn.ModuleList, nn.ModuleDict, nn.Sequential)):
                part._zoo = (self, role)  # type: ignore[assignment]  # read by the metered layers and by attention
        watch(module, METERED.values())

    def attach_again(self) -> None:
        """Attach layers that were added to attached models, such as those of LoRA."""
        for role, module in self._modules.items():
            self.attach(module, role)

    def charge(self, role: str, flops: int) -> None:
        """Add FLOPs to this role in the current phase."""
        cell = role, self._phase or self._usual_phase()
        self.cells[cell] = self.cells.get(cell, 0) + flops

    @contextlib.contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Count all FLOPs inside this context under a phase: "sample", "score"."""
        before, self._phase = self._phase, phase
        try:
            yield
        finally:
            self._phase = before

    def look(self, compute: Callable[[], Any]) -> None:
        """Look at a computation before it is done whose backward pass will do it again. There is nothing to see here.

        (The meter of `zoo plan` notes what it holds.)
        """

    def _usual_phase(self) -> str:
        if not self.in_loop:
            return "prepare"
        return "train" if torch.is_grad_enabled() else "score"

    def charge_backward(self, role: str, flops: int) -> Callable[[Any], None]:
        """Return a hook that charges FLOPs, in the phase of this call, when the backward pass runs it."""
        phase = self._phase or ("train" if self.in_loop else "prepare")

        def on_backward(_: Any) -> None:
            self.cells[role, phase] = self.cells.get((role, phase), 0) + flops

        return on_backward

    def __deepcopy__(self, memo: dict[int, Any]) -> "Meter":
        # A copied model goes on charging the meter of the original.
        return self


def _count_linear(layer: nn.Module, x: Tensor, weight: Tensor, out: Tensor, width: int) -> None:
    meter, role = layer._zoo  # type: ignore[misc]
    flops = 2 * x.numel() * width
    meter.charge(role, flops)
    if out.grad_fn is not None:
        times = int(x.requires_grad) + int(weight.requires_grad)
        out.grad_fn.register_prehook(meter.charge_backward(role, times * flops))


class MeteredLinear(nn.Linear):
    """A Linear layer that charges the meter that it is attached to."""

    def forward(self, input: Tensor) -> Tensor:
        """Compute the layer; charge its FLOPs, and those of its backward pass."""
        with PRODUCTS.counted:
            out = F.linear(input, self.weight, self.bias)
        _count_linear(self, input, self.weight, out, self.out_features)
        return out


class MeteredConv1D(Conv1D):
    """A Conv1D layer (GPT-2's name for a Linear layer with a transposed weight) that charges its meter."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer; charge its FLOPs, and those of its backward pass."""
        with PRODUCTS.counted:
            out: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        _count_linear(self, x, self.weight, out, self.nf)
        return out


METERED: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: MeteredLinear, Conv1D: MeteredConv1D}


def module_of(thing: object) -> nn.Module | None:
    """Return the model behind a reward or judge, its attribute `model`; None for a rule or a model on a server."""
    model = getattr(thing, "model", None)
    return model if isinstance(model, nn.Module) else None
