"""The precision that models compute in: float32, or bfloat16 wherever torch's autocast holds it to be safe.

Weights, gradients, the optimizer's moments and all results of a forward pass are float32 with both. Between them is
TensorFloat-32: float32 whose products NVIDIA GPUs compute with 10 bits of each factor. A process has one precision; the
harness sets it from the spec of the bench.
"""

from contextlib import AbstractContextManager
from typing import Literal, TypeVar

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from zoo_core.errors import ModelError, SpecError

M = TypeVar("M", bound=nn.Module)
Precision = Literal["fp32", "tf32", "bf16"]
Weights = Literal["fp32", "bf16"]

_precision: Precision = "fp32"
_weights: Weights = "fp32"


def compute_in(precision: Precision) -> None:
    """Set the precision of all forward passes of this process from now on; `SpecError` where there is no tf32."""
    global _precision
    if precision == "tf32" and not torch.cuda.is_available():
        raise SpecError("precision: tf32 is of NVIDIA GPUs, and torch finds none here. Write fp32 or bf16.")
    _precision = precision
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"  # convolutions; torch allows it


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return the autocast context in which a forward pass on this device runs."""
    return torch.autocast(device.type, torch.bfloat16, enabled=_precision == "bf16")


def keep_frozen_in(weights: Weights) -> None:
    """Set how this process keeps weights that are not trained, from now on."""
    global _weights
    _weights = weights


def keep_frozen(model: M) -> M:
    """Put the frozen weights of linear layers into bfloat16, if the bench keeps them so; return the model.

    No number changes: autocast would round them at every pass. Embeddings, an output layer that shares its weights with
    them, and norms stay float32: autocast leaves those as they are. What is copied from these weights to be trained,
    such as a critic, starts as they were rounded. `ModelError` if FSDP2 has sharded the model: its weights are put into
    bfloat16 before.
    """
    if _weights == "fp32":
        return model
    embedded = {id(part.weight) for part in model.modules() if isinstance(part, nn.Embedding)}
    for part in model.modules():
        if isinstance(part, (nn.Linear, Conv1D)) and id(part.weight) not in embedded:
            for weight in part.parameters(recurse=False):
                if not weight.requires_grad and weight.dtype != torch.bfloat16:
                    if hasattr(weight, "full_tensor"):
                        raise ModelError(
                            "FSDP2: weights: bf16: a model was divided before it was frozen. Load it by "
                            "zoo_core.models.loading.load_frozen, or launch without --use_fsdp (DDP)."
                        )
                    weight.data = weight.data.to(torch.bfloat16)
    return model


def freeze(model: M) -> M:
    """Let nothing train a model: in evaluation mode, without gradients, its weights as the bench keeps frozen ones."""
    return keep_frozen(model.eval().requires_grad_(False))
