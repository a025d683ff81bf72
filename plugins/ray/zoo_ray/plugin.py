"""Tells the zoo about Ray."""

from zoo_core.hookspecs import hookimpl
from zoo_core.records import Executor


@hookimpl
def zoo_executors() -> list[Executor]:
    """Return Ray."""
    return [
        Executor(
            name="ray",
            summary="Tasks of a Ray cluster, or of this machine's own Ray",
            run="zoo_ray.executor:run",
            options={"address": "", "cpus": 1, "gpus": "auto", "memory_gb": 0, "timeout_min": 240},
        )
    ]
