"""The GPUs of this machine, how many jobs they hold at once, and which job has which."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from zoo_core.errors import SpecError

FILLED = 0.8
"""The share of a GPU's memory that jobs may fill together, by what was measured; kernels and fragments take more."""
QUERY = ["nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]


@dataclass(frozen=True)
class GPU:
    """One GPU."""

    name: str
    """As in CUDA_VISIBLE_DEVICES: a number or a UUID."""
    memory: int | None = None
    """Bytes; None if they are not known."""


@cache
def gpus_here() -> tuple[GPU, ...]:
    """Return the GPUs that this process may use: those of CUDA_VISIBLE_DEVICES, or all that the driver lists."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return listed(_asked(), None if named is None else named.split(","))


def gpus_of(options: Mapping[str, str]) -> list[str]:
    """Return the names of the GPUs that an executor of this machine uses, by its options.

    Raises `SpecError` for an option that it does not know.
    """
    given = dict(options)
    named = given.pop("gpus", None)
    if given:
        raise SpecError(f"the executor 'local' takes the option gpus alone, and {', '.join(given)} was given.")
    return [gpu.name for gpu in gpus_here()] if named is None else [name for name in named.split(",") if name]


def listed(answer: str, named: Sequence[str] | None) -> tuple[GPU, ...]:
    """Return the GPUs in nvidia-smi's answer to `QUERY`; only these, in their order, if some are `named`."""
    known = [[cell.strip() for cell in line.split(",")] for line in answer.splitlines() if line.count(",") == 2]
    memory = {name: 2**20 * int(size) for number, uuid, size in known for name in (number, uuid) if size.isdigit()}
    if named is None:
        return tuple(GPU(number, memory.get(number)) for number, *_ in known)
    wanted = [name.strip() for name in named]
    if "-1" in wanted:  # CUDA reads no further
        wanted = wanted[: wanted.index("-1")]
    return tuple(GPU(name, memory.get(name)) for name in wanted if name)


def jobs_at_once(gpus: Sequence[GPU], most_bytes: int, cores: int) -> int:
    """Return how many jobs these GPUs hold, each of which takes at most so many bytes; one a GPU at the least."""
    fitting = [int(FILLED * gpu.memory // most_bytes) if gpu.memory and most_bytes else 1 for gpu in gpus]
    return max(len(gpus), 1, min(cores, sum(max(1, count) for count in fitting)))


def least_taken(gpus: Sequence[str], taken: Sequence[str], count: int = 1) -> list[str]:
    """Return so many GPUs, those that the fewest jobs have; all, if there are fewer."""
    return sorted(gpus, key=list(taken).count)[:count]


def _asked() -> str:
    try:
        return subprocess.run(QUERY, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""  # no NVIDIA GPU, or no driver: jobs see whatever torch finds
