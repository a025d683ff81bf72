"""The precision that models compute in: float32, or bfloat16 wherever torch's autocast holds it to be safe.

Weights, gradients, the optimizer's moments and all results of a forward pass are float32 with both. Between them is
TensorFloat-32: float32 whose products NVIDIA GPUs compute with 10 bits of each factor. A process has one precision; the
harness sets it from the spec of the bench.
"""

from contextlib import AbstractContextManager
from typing import Literal

import torch

from zoo_core.errors import SpecError

Precision = Literal["fp32", "tf32", "bf16"]

_precision: Precision = "fp32"


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
