"""The memory that a run takes: on a GPU what its allocator holds, on a CPU what the process holds above its imports."""

import resource
import sys
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
_imports = 0
"""Bytes of this process's own memory when `begin` was called."""


def begin() -> None:
    """Remember what this process holds: imports alone, for no model and no data is open yet."""
    global _imports
    _imports = _kilobytes("RssAnon") * 1024 if STATUS.exists() else _highest()


def peak() -> int:
    """Return the most bytes that this process held since it began, above its imports.

    Pages of program files, which all processes share, are no part of it. They are counted as they are touched, so it
    is those of now that are taken off.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    most = (_kilobytes("VmHWM") - _kilobytes("RssFile")) * 1024 if STATUS.exists() else _highest()
    return max(0, most - _imports)


def forget_peak() -> None:
    """Let `peak` tell of what is held from now on; on a CPU, whose peak the system keeps, nothing is forgotten."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def ran_out(error: BaseException) -> bool:
    """Return whether an error says that there is no memory left: of a GPU, or, which has no class of its own, a CPU."""
    on_cpu = isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or on_cpu


def _highest() -> int:
    """Return the most bytes that this process was ever given."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _kilobytes(name: str) -> int:
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])
