"""AdamW (Loshchilov & Hutter 2019, Algorithm 2) with moments of 8 bits (Dettmers et al. 2022, arXiv:2110.02861).

    block     256 numbers of a moment: a scale s, the largest magnitude among them, and a byte c for each
    number    s · table[c], where table[c] is the entry nearest to number / s
    table     0, 1, and for each power of ten from 1e-6 to 1 the middles of equal parts of 0.1 to 1, ever more of them

A step brings moments to float32, changes them and the weight, and rounds the moments again. Weights of fewer than 4,096
numbers, and those that blocks do not divide, have moments in float32. Format and step are those of torchao's AdamW8bit,
which is not used itself: where torchao is installed, transformers imports it at every start.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.optim import Optimizer

BLOCK = 256
SMALLEST = 4096
"""Numbers of the smallest weight whose moments are rounded: below, they would save nothing worth their error."""
PIECE = 2**22
"""Numbers of a weight that are updated at once, a multiple of a block: they need about 40 bytes each meanwhile."""
MOMENTS = ("exp_avg", "exp_avg_sq")
"""The means of gradients, and of their squares, as torch's AdamW calls them; `_scale` behind it names their scales."""


class AdamW8bit(Optimizer):
    """AdamW. A weight's moments are in `state` as bytes and scales, which are ordinary tensors.

    Groups have torch's `lr`, `betas`, `eps` and `weight_decay`. Weights must be contiguous.
    """

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all weights that have gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    state = self.state[weight]
                    if not state:
                        state.update(step=0, **zeros_for(weight))
                    state["step"] += 1
                    update(weight.detach().view(-1), weight.grad.reshape(-1), state, group)
        return loss

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load the state of another one; torch's own method would bring the bytes to the type of the weights."""
        super().load_state_dict({**state_dict, "state": {}})
        weights = [weight for group in self.param_groups for weight in group["params"]]
        for number, state in state_dict["state"].items():
            device = weights[number].device
            self.state[weights[number]] = {
                name: value.to(device) if isinstance(value, Tensor) else value for name, value in state.items()
            }


def zeros_for(weight: Tensor) -> dict[str, Tensor]:
    """Return the moments of a weight before its first step, flat."""
    numbers = weight.numel()
    if numbers < SMALLEST or numbers % BLOCK:
        return {name: weight.new_zeros(numbers, dtype=torch.float32) for name in MOMENTS}
    found: dict[str, Tensor] = {}
    for name in MOMENTS:
        found[name] = encoded(weight.new_zeros(BLOCK), table(name == "exp_avg", weight.device))[0].repeat(
            numbers // BLOCK
        )
        found[f"{name}_scale"] = weight.new_zeros(numbers // BLOCK, dtype=torch.float32)
    return found


def bytes_of_moments(numbers: int) -> int:
    """Return the bytes of both moments of a weight of so many numbers, if they are rounded."""
    return 2 * (numbers + 4 * numbers // BLOCK)


def update(
    weight: Float[Tensor, " N"], gradient: Float[Tensor, " N"], state: Mapping[str, Any], group: Mapping[str, Any]
) -> None:
    """Make step `state["step"]` of Algorithm 2 (lines 6 to 12) in place, one piece of the weight after another."""
    rate, (beta1, beta2) = group["lr"], group["betas"]
    first_bias, second_bias = 1 - beta1 ** state["step"], 1 - beta2 ** state["step"]
    for start in range(0, len(weight), PIECE):
        here, blocks = slice(start, start + PIECE), slice(start // BLOCK, (start + PIECE) // BLOCK)
        moments = []
        for name, seen, beta in zip(MOMENTS, (gradient[here], gradient[here].square()), (beta1, beta2), strict=True):
            kept, scale = state[name][here], state.get(f"{name}_scale")
            values = table(name == "exp_avg", weight.device)
            before = kept if scale is None else decoded(kept, scale[blocks], values)
            now = before.lerp(seen.float(), 1 - beta)
            if scale is None:
                kept.copy_(now)
            else:
                codes, scales = encoded(now, values)
                kept.copy_(codes)
                scale[blocks] = scales
            moments.append(now)
        first, second = moments
        weight[here].mul_(1 - rate * group["weight_decay"])
        root = second.sqrt_().div_(math.sqrt(second_bias)).add_(group["eps"])
        weight[here].addcdiv_(first, root, value=-rate / first_bias)


def encoded(
    numbers: Float[Tensor, " N"], values: Float[Tensor, " 256"]
) -> tuple[UInt8[Tensor, " N"], Float[Tensor, " N//256"]]:
    """Return the codes of numbers, and the scale of each block."""
    blocks = numbers.view(-1, BLOCK)
    scale = blocks.abs().amax(1)
    middles = (values[:-1] + values[1:]) / 2
    places = torch.bucketize(blocks / scale.clamp(min=1e-12)[:, None], middles, out_int32=True, right=True)
    return places.to(torch.uint8).view(-1), scale


def decoded(
    codes: UInt8[Tensor, " N"], scale: Float[Tensor, " N//256"], values: Float[Tensor, " 256"]
) -> Float[Tensor, " N"]:
    """Return the numbers that codes stand for."""
    return (values[codes.int()].view(-1, BLOCK) * scale[:, None]).view(-1)


@cache
def table(signed: bool, device: torch.device) -> Float[Tensor, " 256"]:
    """Return the numbers that codes stand for, in rising order: of both signs, or twice as many from 0 to 1."""
    found = [0.0, 1.0]
    for power in range(7):
        parts = 2**power if signed else 2 ** (power + 1)
        middles = [10.0 ** (power - 6) * (0.1 + 0.9 * (part + 0.5) / parts) for part in range(parts)]
        found += middles + ([-middle for middle in middles] if signed else [])
    return torch.tensor(sorted(found), dtype=torch.float32, device=device)
