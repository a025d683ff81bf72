"""Small tensors that tests of formulas are made from. Imports no model: these tests run once for every mutant."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

GARBAGE = [1e6, math.inf, -math.inf, math.nan]
"""Values that may appear where a mask is false."""


def row(*numbers: float) -> Float[Tensor, "1 N"]:
    """Return a batch of one row."""
    return torch.tensor([numbers])


def prefix(*lengths: int, of: int) -> Bool[Tensor, "B T"]:
    """Return the mask of rows whose first `length` of `of` entries count."""
    return torch.arange(of) < torch.tensor(lengths).unsqueeze(1)


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Return normal numbers, the same ones every time."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
