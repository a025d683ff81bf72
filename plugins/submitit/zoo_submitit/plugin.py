"""Tells the zoo about the cluster."""

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Executor


@hookimpl
def zoo_executors() -> list[Executor]:
    """Return submitit."""
    return [
        Executor(
            name="submitit",
            summary="Jobs of a SLURM cluster, or of this machine as if it were one",
            run="zoo_submitit.executor:run",
            options={"cluster": "auto", "timeout_min": 240, "cpus_per_task": 1},
        )
    ]
