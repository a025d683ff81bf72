"""Runs each job of a bench as a task of Ray. The harness decides what runs when, as on one machine."""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from zoo_harness.executors import scheduler
from zoo_harness.executors.scheduler import Exit, Finished, Watch
from zoo_harness.job import Job

from zoo_core.errors import SpecError, did_you_mean, first_line
from zoo_ray.work import work

Reference = ray.ObjectRef[Exit]
OPTIONS = ("address", "cpus", "gpus", "memory_gb", "timeout_min")


def run(
    jobs: Sequence[Job],
    finished: Finished,
    workers: int,
    watch: Watch,
    options: Mapping[str, object],
    folder: Path,
) -> None:
    """Start each job once the jobs that it needs are done; see `zoo_core.hookspecs.zoo_executors`."""
    for name in options:
        if name not in OPTIONS:
            raise SpecError(f"the executor 'ray' has no option {name!r}. {did_you_mean(name, OPTIONS)}")
    cpus, memory_gb, minutes = (_number(name, options[name]) for name in ("cpus", "memory_gb", "timeout_min"))
    gpus = None if options["gpus"] == "auto" else _number("gpus", options["gpus"])
    connected = ray.is_initialized()  # by a script that calls us, which then also disconnects
    if not connected:
        _connect(str(options["address"]))
    try:
        if gpus is None:
            gpus = 1.0 if any("GPU" in node for node in _nodes()) else 0.0
        needs = {"CPU": cpus, "GPU": gpus, "memory": memory_gb * 2**30}
        _check_that_a_node_has(needs)
        task = ray.remote(work).options(
            num_cpus=cpus,
            num_gpus=gpus,
            memory=needs["memory"],
            max_retries=0,  # the harness says what is started again
            runtime_env={"env_vars": {name: os.environ[name] for name in os.environ if name.startswith("ZOO_")}},
        )
        scheduler.run(Tasks(task, 60 * minutes), jobs, finished, workers, watch)
    finally:
        if not connected:
            ray.shutdown()


class Tasks:
    """A place for jobs: Ray, whose nodes can read the folders of results and stages."""

    def __init__(self, task: Any, timeout_seconds: float) -> None:
        self.task, self.timeout_seconds = task, timeout_seconds

    def start(self, job: Job) -> Reference:
        """Give Ray a task; it waits there until a node has room."""
        reference: Reference = self.task.remote(str(job.file), self.timeout_seconds)
        return reference

    def pause(self, running: Sequence[Reference]) -> None:
        """Return when a task has ended, after half a second at the latest."""
        if running:
            ray.wait(list(running), num_returns=1, timeout=0.5)
        else:  # all that is left is done by another bench
            time.sleep(0.5)

    def ended(self, running: Reference) -> bool:
        """Return whether a task ended."""
        return bool(ray.wait([running], timeout=0)[0])

    def exit(self, ended: Reference) -> Exit:
        """Return how the process of a job ended."""
        try:
            exit_: Exit = ray.get(ended)
        except RayError as error:  # the node, or Ray's process on it, is gone
            return Exit(killed=f"was lost with its node: {type(error).__name__}")
        return exit_

    def stop(self, running: Sequence[Reference]) -> None:
        """End Ray's processes, and with each the job that it started; wait for them, some seconds at most."""
        for reference in reversed(running):  # those that wait first: they would take the room that others leave
            ray.cancel(reference, force=True)
        if running:
            ray.wait(list(running), num_returns=len(running), timeout=10)


def _connect(address: str) -> None:
    """Connect to the Ray that is named, or that this machine has; without one, start a Ray of this machine alone."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a bench tells nobody about itself
    try:
        ray.init(address or None, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise SpecError(
            f"Ray at {address or 'this machine'} cannot be reached: {first_line(error)}. Start it with "
            "`ray start --head` and give its address with --option address=HOST:6379. Without an address, a Ray of "
            "this machine is used."
        ) from error


def _check_that_a_node_has(needs: Mapping[str, float]) -> None:
    """Raise `SpecError` if no node could ever run one job: Ray would let it wait for ever, and say nothing."""
    nodes = _nodes()
    if not any(all(node.get(name, 0) >= need for name, need in needs.items()) for node in nodes):
        have = "; ".join(", ".join(f"{node.get(name, 0):g} {name}" for name in needs) for node in nodes)
        asked = ", ".join(f"{need:g} {name}" for name, need in needs.items())
        raise SpecError(
            f"no node of this Ray has what one job asks for, {asked} (memory in bytes). The nodes have: {have}. Ask "
            "for less with --option cpus=, gpus= and memory_gb=, or start a larger node."
        )


def _nodes() -> list[dict[str, float]]:
    """Return what each node has in all, by name: CPU, GPU, memory in bytes."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _number(name: str, given: object) -> float:
    try:
        number = float(str(given))
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise SpecError(f"--option {name}={given}: it must be a number, 0 or more.")
    return number
