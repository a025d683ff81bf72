"""The local executor: one forked process per job, as many at once as there are cores to spare, or as GPUs hold.

A job sees one GPU, the one that the fewest others have: CUDA_VISIBLE_DEVICES of its process says so. A job for which
one GPU has too little memory is several processes, each with a GPU of its own, that accelerate starts.
"""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from zoo_core.errors import SpecError
from zoo_harness.executors import launcher, scheduler
from zoo_harness.executors.gpus import gpus_of, least_taken
from zoo_harness.executors.scheduler import Exit, Finished, Watch
from zoo_harness.job import Job
from zoo_harness.jobs.worker import PRELOAD, main

Handle = ForkServerProcess | subprocess.Popen[bytes]


def run(
    jobs: Sequence[Job],
    finished: Finished,
    workers: int,
    watch: Watch = lambda running: None,
    options: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> None:
    """Run jobs in processes of this machine; see `zoo_core.hookspecs.zoo_executors`.

    The option `gpus` names those that are used, with commas; all, if it is left out.
    """
    scheduler.run(Forks(gpus_of(options or {})), jobs, finished, workers, watch)


class Forks:
    """Processes forked from a server that has imported everything once."""

    def __init__(self, gpus: Sequence[str] = ()) -> None:
        self.gpus = gpus
        self.taken: dict[Handle, list[str]] = {}
        """The GPUs of each job."""
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(PRELOAD)

    def start(self, job: Job) -> Handle:
        """Fork a process, or have several launched for a job that one GPU is too small for."""
        self.taken = {handle: gpus for handle, gpus in self.taken.items() if not self.ended(handle)}
        gpus = least_taken(self.gpus, [gpu for some in self.taken.values() for gpu in some], job.processes)
        handle = self.forked(job, gpus[0] if gpus else None) if job.processes == 1 else launched(job, gpus)
        if gpus:
            self.taken[handle] = gpus
        return handle

    def forked(self, job: Job, gpu: str | None) -> ForkServerProcess:
        """Fork a process that sees this GPU, or, for None, all."""
        # Ctrl-C is for the bench: while its server imports, before it can ignore it, that would print a traceback.
        resource_tracker.ensure_running()  # it would let them through again
        with _without_interrupts():
            forkserver.ensure_running()
        process = self.context.Process(target=main, args=(str(job.file), gpu), daemon=True)
        process.start()
        return process

    def pause(self, running: Sequence[Handle]) -> None:
        """Return at once when a forked one has ended."""
        wait([one.sentinel for one in running if isinstance(one, ForkServerProcess)], timeout=0.25)

    def ended(self, running: Handle) -> bool:
        """Whether it ended."""
        return running.poll() is not None if isinstance(running, subprocess.Popen) else not running.is_alive()

    def exit(self, ended: Handle) -> Exit:
        """How it ended."""
        return how(ended.returncode if isinstance(ended, subprocess.Popen) else ended.exitcode)

    def stop(self, running: Sequence[Handle]) -> None:
        """End them, within five seconds; a launcher, which ends its processes, within some more."""
        forked = [one for one in running if isinstance(one, ForkServerProcess)]
        for process in forked:
            process.terminate()
        launcher.end([one for one in running if isinstance(one, subprocess.Popen)])
        deadline = time.monotonic() + 5
        for process in forked:
            process.join(max(0.1, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()


def launched(job: Job, gpus: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a job of several processes, on these GPUs; `SpecError` if there are too few."""
    if len(gpus) < job.processes:
        raise SpecError(
            f"{job.title} was measured to need {job.processes} GPUs, for one has too little memory for it, and there "
            f"are {len(gpus)} here. Give more, or set micro_batch, gradient_checkpointing or lora in the spec."
        )
    return launcher.launch_on(gpus, job)


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back: what is started inside never sees it, and this process sees it afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_server() -> None:
    """End the server that jobs are forked from; it would import to its end before it saw that nobody needs it."""
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]  # there is no public way to it
    if server is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server, signal.SIGKILL)


def how(code: int | None) -> Exit:
    """Put an exit code of Python's processes, negative for a signal, in words."""
    if code is None or code >= 0:
        return Exit(code)
    name = f"signal {-code}"
    with contextlib.suppress(ValueError):
        name = signal.Signals(-code).name
    return Exit(killed=f"was killed by {name} (out of memory, or killed from outside)")
