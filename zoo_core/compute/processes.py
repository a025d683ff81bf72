"""The processes (ranks) of one training, and how they talk. accelerate and torch.distributed do the work.

A function marked "Collective." must be called by all ranks at the same place.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import distributed as dist

from zoo_core.errors import ModelError

T = TypeVar("T")
_is_alone = False
"""Whether rank 0 computes something by itself while the others wait."""


@cache
def accelerator() -> Accelerator:
    """Return the accelerator of this process, through which all code reaches its device and the other ranks."""
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"  # every rank reads the weights and keeps its shard
    # Without a GPU, accelerate must be told that several processes share the CPU.
    found = Accelerator(cpu=True) if is_launched() and not torch.accelerator.is_available() else Accelerator()
    if str(found.distributed_type.value) not in ("NO", "MULTI_GPU", "MULTI_CPU", "MULTI_XPU", "MULTI_NPU", "FSDP"):
        raise ModelError(f"several processes by {found.distributed_type.value} are not supported; use DDP or FSDP2.")
    if found.mixed_precision != "no":
        raise ModelError(
            f"the launcher asks for --mixed_precision {found.mixed_precision}; the spec decides that for all rows of a "
            "board. Launch with --mixed_precision no, and set `precision: bf16` in the spec if that is wanted."
        )
    return found


def is_launched() -> bool:
    """Return whether a launcher started this process as one of several ranks."""
    return "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def world_size() -> int:
    """Return the number of ranks; 1 without a launcher."""
    return dist.get_world_size() if dist.is_initialized() and not _is_alone else 1


def is_main_process() -> bool:
    """Return whether this is rank 0, which writes files."""
    return not dist.is_initialized() or dist.get_rank() == 0


def barrier() -> None:
    """Wait until all ranks have called this. Collective."""
    if world_size() > 1:
        accelerator().wait_for_everyone()


def broadcast(ask: Callable[[], T]) -> T:
    """Call `ask` on rank 0 and broadcast its answer, for anything that may differ between ranks. Collective."""
    if world_size() == 1:
        return ask()
    with _alone():
        answer: list[Any] = [ask() if dist.get_rank() == 0 else None]
    return broadcast_object_list(answer)[0]  # type: ignore[no-any-return]


def all_gather(mine: T) -> list[T]:
    """Return the objects of all ranks, in the order of ranks. Collective."""
    found: list[T] = gather_object([mine]) if world_size() > 1 else [mine]
    return found


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    global _is_alone
    before, _is_alone = _is_alone, True
    try:
        yield
    finally:
        _is_alone = before


def all_reduce_max(number: int) -> int:
    """Return the largest number of any rank. Collective."""
    return max(all_gather(number))
