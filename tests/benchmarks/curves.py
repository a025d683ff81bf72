"""What training costs against tokens per batch, size of the model, and cells of a bench.

    python tests/benchmarks/curves.py [tokens] [sizes] [cells]

Each point is a process of its own with one thread; times are relative to the first point of a curve. They go into
results.json, from where table.py makes the README's tables.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from materials import PROMPT_TOKENS, SHAPES, llama, read_pairs, session, write_pairs
from measure import Clock, apart, keep, spread
from zoo_sft.config import SFTConfig
from zoo_sft.train import train

from zoo_core.run import Run

UPDATES, REPETITIONS = 6, 3
POINT = "--point"


def point(size: str, batch_size: int, pairs: Path) -> None:
    """Fine-tune a model of a size for a few updates in this process."""
    torch.set_num_threads(1)
    clock = Clock()
    one = session(llama(size), ["demonstrations"], read_pairs(pairs))
    run = Run(one)
    loop = train(SFTConfig(batch_size=batch_size), run)
    for _ in range(UPDATES):
        next(loop)
        clock.stamp()
    tokens = [run.demonstrations.batch(update, batch_size).attention.sum().item() for update in range(UPDATES)]
    clock.report(tokens=statistics.mean(tokens), flops=one.ledger.flops / UPDATES)


def curve(points: dict[str, tuple[str, int]], pairs: Path) -> dict[str, Any]:
    """Measure points in turns; return them relative to the first one."""
    rounds = [
        {name: apart(Path(__file__), POINT, *arguments, pairs) for name, arguments in points.items()}
        for _ in range(REPETITIONS)
    ]
    first = next(iter(points))
    return {
        name: {
            "seconds": spread([one[name]["cpu_seconds"] / one[first]["cpu_seconds"] for one in rounds]),
            "tokens": round(rounds[0][name]["tokens"]),
            "flops": rounds[0][name]["flops"] / rounds[0][first]["flops"],
            "mebibytes": round((rounds[0][name]["peak_bytes"] - rounds[0][name]["imported_bytes"]) / 2**20),
        }
        for name in points
    }


def cells(counts: tuple[int, ...] = (1, 2, 4)) -> dict[str, Any]:
    """Bench so many seeds of one row, stages cached nowhere; time relative to one seed."""
    taken: dict[int, float] = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            words = ["bench", "--preset", "smoke", "--algorithms", "sft", "--seeds", str(count), "--output", folder]
            began = time.perf_counter()
            subprocess.run(
                [Path(sys.executable).with_name("zoo"), *words],
                env=os.environ | {"ZOO_CACHE": f"{folder}/cache"},
                check=True,
                capture_output=True,
            )
            taken[count] = time.perf_counter() - began
    return {str(count): {"seconds": float(f"{taken[count] / taken[counts[0]]:.3g}")} for count in counts}


def main(wanted: list[str]) -> None:
    """Measure the curves that are named, or all, and keep them."""
    with tempfile.TemporaryDirectory() as folder:
        pairs = Path(folder) / "pairs.jsonl"
        write_pairs(pairs, PROMPT_TOKENS)
        measured = {
            "tokens": lambda: curve({str(size): ("3.4M", size) for size in (4, 8, 16, 32, 64)}, pairs),
            "sizes": lambda: curve({size: (size, 16) for size in SHAPES}, pairs),
            "cells": cells,
        }
        for name in wanted or measured:
            keep("curves", name, measured[name]())


if __name__ == "__main__":
    if sys.argv[1:2] == [POINT]:
        point(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
    else:
        main(sys.argv[1:])
