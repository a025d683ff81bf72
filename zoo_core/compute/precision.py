"""The precision that models compute in: float32, or bfloat16 wherever torch's autocast holds it to be safe.

Weights, gradients, the optimizer's moments and all results of a forward pass are float32 with both. A process has one
precision; the harness sets it from the spec of the bench.
"""

from contextlib import AbstractContextManager
from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]

_precision: Precision = "fp32"


def compute_in(precision: Precision) -> None:
    """Set the precision of all forward passes of this process from now on."""
    global _precision
    _precision = precision


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return the autocast context in which a forward pass on this device runs."""
    return torch.autocast(device.type, torch.bfloat16, enabled=_precision == "bf16")
