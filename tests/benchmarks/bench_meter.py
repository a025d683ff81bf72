"""What the meter costs: calls times cost per call, against the time of an update.

A/B timing cannot resolve 1 % on a machine that does other things too, so the cost of one metered call over a plain
one is measured by itself and multiplied by the calls of a training update of an 0.8 M-parameter model.
"""

import time
from collections.abc import Callable

import torch
from torch import nn

from zoo_core.accounting.meter import Meter, MeteredLinear
from zoo_core.testing.tiny import tiny_policy

CALLS = 3_000
ALLOWED = 0.01


def seconds(compute: Callable[[], object], calls: int) -> float:
    """Return the shortest time of one call: noise only ever adds, and a short call is now and then left in peace."""
    best = float("inf")
    for _ in range(calls):
        start = time.perf_counter()
        compute()
        best = min(best, time.perf_counter() - start)
    return best


def excess(plain: nn.Linear, metered: nn.Linear, x: torch.Tensor) -> float:
    """Return how much longer forward and backward of one metered layer take, in seconds."""

    def step(layer: nn.Linear) -> Callable[[], object]:
        return lambda: layer(x).sum().backward()

    return seconds(step(metered), CALLS) - seconds(step(plain), CALLS)


def test_metering_takes_at_most_one_percent_of_an_update(benchmark, record):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    model = tiny_policy(hidden_size=128, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4)
    Meter().attach(model, "policy")
    layers = sum(isinstance(part, MeteredLinear) for part in model.modules())
    tokens = torch.randint(6, 30, (16, 64))
    benchmark.pedantic(lambda: model(tokens).logits.square().mean().backward(), rounds=30)
    plain, metered = nn.Linear(8, 8), nn.Linear(8, 8)
    Meter().attach(metered, "policy")
    one_call = excess(plain, metered, torch.randn(2, 8, requires_grad=True))
    torch.set_num_threads(before)
    # Attention does the same bookkeeping as a layer: one charge, one hook.
    share = (layers + model.config.num_hidden_layers) * one_call / min(benchmark.stats.stats.data)
    record("meter", "of an update", share=float(f"{share:.2g}"))
    assert share <= ALLOWED
