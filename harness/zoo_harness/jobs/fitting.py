"""What a job does when memory runs out: it tries again in smaller micro-batches, which change no loss."""

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from zoo_core.accounting import memory
from zoo_core.compute.micro_batches import halve_micro_batch
from zoo_core.compute.processes import world_size

T = TypeVar("T")


def until_it_fits(work: Callable[[], T], halved: Callable[[int], None]) -> T:
    """Do `work` again while memory runs out, each time with half as many tokens in a pass; `halved` is told how many.

    Raises what `work` raised once a pass is a single row, and in one of several processes, which would have to agree.
    """
    while True:
        try:
            return work()
        except Exception as error:
            tokens = halve_micro_batch() if memory.ran_out(error) and world_size() == 1 else None
            if tokens is None:
                raise
        # Only here, where the error is forgotten, is what its frames hold freed.
        gc.collect()
        torch.cuda.empty_cache()
        memory.forget_peak()
        halved(tokens)
