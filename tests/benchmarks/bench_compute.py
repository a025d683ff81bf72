"""How near training comes to what the processor can do, with a Llama of 25 M parameters.

Utilisation is FLOPs by the meter (computed ones: no padding is left out) per second, of the fastest matrix product that
was measured beside it: large squares and the model's own shapes.
"""

import time
from collections import defaultdict

import pytest
import torch
from materials import PROMPT_TOKENS, REAL, SHAPES, llama, read_pairs, session, write_pairs
from measure import spread
from torch import Tensor
from zoo_sft.config import SFTConfig
from zoo_sft.train import train

from zoo_core.compute.precision import compute_in
from zoo_core.run import Run

SIZE = "25M"
ROWS = 2048
"""Tokens of the products in the model's shapes, about those of a batch."""

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the real data are not beside this checkout")


def products(dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Return pairs of matrices to multiply."""
    hidden, intermediate, _ = SHAPES[SIZE]
    shapes = [(side, side, side) for side in (512, 1024, 2048)]
    shapes += [(ROWS, hidden, hidden), (ROWS, hidden, intermediate), (ROWS, intermediate, hidden), (ROWS, hidden, 4096)]
    return [(torch.randn(m, k, dtype=dtype), torch.randn(k, n, dtype=dtype)) for m, k, n in shapes]


def peak(pairs: list[tuple[Tensor, Tensor]]) -> float:
    """Return the most FLOPs a second of any product."""
    best = 0.0
    for left, right in pairs:
        flops = 2 * left.shape[0] * left.shape[1] * right.shape[1]
        for _ in range(3):
            began = time.perf_counter()
            left @ right
            best = max(best, flops / (time.perf_counter() - began))
    return best


def training(folder):
    """Return the session of supervised fine-tuning at this size, and its loop."""
    write_pairs(folder / "pairs.jsonl", PROMPT_TOKENS)
    one = session(llama(SIZE), ["demonstrations"], read_pairs(folder / "pairs.jsonl"))
    return one, train(SFTConfig(batch_size=16), Run(one))


def test_utilisation_while_training(tmp_path, benchmark, record, repetitions, threads):
    one, loop = training(tmp_path)
    multiplied = products(torch.float32)
    for _ in range(2):
        next(loop)
    shares = []

    def turn():
        before, began = one.ledger.flops, time.perf_counter()
        next(loop)
        reached = (one.ledger.flops - before) / (time.perf_counter() - began)
        shares.append(reached / peak(multiplied))

    benchmark.pedantic(turn, rounds=2 * repetitions)
    record("compute", "utilisation of fp32", share=spread(shares))


def test_products_in_bf16(benchmark, record, repetitions, threads):
    full, half = products(torch.float32), products(torch.bfloat16)
    ratios = []
    benchmark.pedantic(lambda: ratios.append(peak(half) / peak(full)), rounds=repetitions)
    record("compute", "products in bf16 over fp32", speed=spread(ratios))


def test_training_in_bf16(tmp_path, benchmark, record, repetitions, threads):
    folders = {precision: tmp_path / precision for precision in ("fp32", "bf16")}
    for folder in folders.values():
        folder.mkdir()
    loops = {precision: training(folder)[1] for precision, folder in folders.items()}
    seconds, losses = defaultdict(list), defaultdict(list)

    def turn():
        for precision, loop in loops.items():
            compute_in(precision)
            began = time.perf_counter()
            losses[precision].append(next(loop)["loss"])
            seconds[precision].append(time.perf_counter() - began)

    for _ in range(2):
        turn()
    warm = len(losses["fp32"])
    benchmark.pedantic(turn, rounds=2 * repetitions)
    compute_in("fp32")
    ratios = [full / half for full, half in zip(seconds["fp32"][warm:], seconds["bf16"][warm:], strict=True)]
    apart = [half / full - 1 for full, half in zip(losses["fp32"], losses["bf16"], strict=True)]
    record("compute", "training in bf16 over fp32", speed=spread(ratios), loss_apart=max(apart, key=abs))
