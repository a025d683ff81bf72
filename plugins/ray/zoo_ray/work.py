"""What a task of Ray does: it runs a job's worker in a process of its own, and outlives it.

Ray keeps its processes for the next task. A job's process ends with the job, so that nothing of one cell, a global
seed or memory of a GPU, is there for the next.
"""

import functools
from pathlib import Path

import ray
from zoo_harness.executors.local import Forks, how
from zoo_harness.executors.scheduler import Exit
from zoo_harness.job import of_file


def work(job_file: str, timeout_seconds: float) -> Exit:
    """Do the job in a child of this process, on the GPUs that Ray gave to the task, and say how the child ended."""
    forks = _forks()
    gpus = ",".join(str(gpu) for gpu in ray.get_gpu_ids())  # "" hides them all from a job that asked for none
    child = forks.forked(of_file(Path(job_file)), gpus)
    try:
        child.join(timeout_seconds)
        if child.is_alive():
            limit = f"its time limit of {timeout_seconds / 60:g} minutes"
            return Exit(killed=f"reached {limit}; the same command goes on from its checkpoint", again=False)
        return how(child.exitcode)
    finally:
        forks.stop([child])


@functools.cache
def _forks() -> Forks:
    """Return this process's own server of forks, which imports torch once for all its tasks."""
    return Forks()
