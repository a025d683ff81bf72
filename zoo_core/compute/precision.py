"""The precision that models compute in: float32, or bfloat16 wherever torch's autocast holds it to be safe.

Weights, their gradients and the optimizer's moments are float32 in both, and so is all that leaves a forward pass. A
process has one precision, which the harness chooses by the bench's spec.
"""

from contextlib import AbstractContextManager
from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]

_precision: Precision = "fp32"


def compute_in(precision: Precision) -> None:
    """Have every forward pass from now on compute in this precision."""
    global _precision
    _precision = precision


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return what a forward pass on this device runs in."""
    return torch.autocast(device.type, torch.bfloat16, enabled=_precision == "bf16")
